"""Tiny tokenizers, models and preferences that several tests of the text wing share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY, WIDTH, CONTEXT = 320, 32, 128
TEXTS = (
    "Once upon a time there was a little dog who liked to play in the park.",
    "The cat was happy and sat on the mat. The sun was warm and the day was long.",
    '"Hello," said the girl. "Do you want to play with me?"',
    "\n\nHuman: What is the time?\n\nAssistant: It is late.",
)
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def load_exported(folder: Path) -> PeftModel:
    """What `export_text` wrote for PEFT, by PEFT's own means, which ask transformers for a property by its old name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        base = AutoModelForCausalLM.from_pretrained(folder / "base")
        return PeftModel.from_pretrained(base, folder / "adapter").eval()


def tiny_tokenizer(*, chat: bool = False, pad: bool = True, end: bool = True, front: bool = False) -> Any:
    """A byte-level BPE of 320 tokens. `front` puts the end token before each text, as a beginning."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    if front:
        bpe.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    names = {"eos_token": END if end else None, "pad_token": PAD if pad else None}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, model_max_length=CONTEXT, **{k: v for k, v in names.items() if v}
    )
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(kind: Literal["gpt2", "llama", "qwen2"] = "gpt2", seed: int = 0) -> PreTrainedModel:
    """A random model of two layers of width 32 over the tiny tokenizer's ids, in evaluation mode."""
    shared = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    rotary = {
        **shared,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    torch.manual_seed(seed)
    model: PreTrainedModel
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(**shared, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=CONTEXT)  # type: ignore[arg-type]
        )
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**rotary))  # type: ignore[arg-type]
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**rotary))  # type: ignore[arg-type]
    return model.eval()
