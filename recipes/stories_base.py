"""Train the story-telling model that `checkpoints/stories` is built on, from scratch, on simple English stories.

    python recipes/stories_base.py --stories FILE.jsonl[.xz|.gz] .. --out DIR [--epochs 5] [--seed 0]

A GPT-2 of 4.6 million parameters and a byte-level BPE of 4,096 tokens, both made here; one story in forty is held out
and its perplexity printed and written into the card. Hidden matrices are trained by Muon, the rest by AdamW, in
bfloat16 autocast; on one core of a server CPU an epoch over 1.6 million words takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
HELD_OUT = 40  # one story in so many
CONTEXT, BATCH = 256, 8


def read_stories(files: list[Path]) -> list[str]:
    """The `text` of every line, or the joined `sections` where a line has those."""
    stories = []
    for file in files:
        opener = {".xz": lzma.open, ".gz": gzip.open}.get(file.suffix, open)
        with opener(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                stories.append(record["text"] if "text" in record else "\n".join(record["sections"]))
    return stories


def make_tokenizer(stories: list[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a token before a text: a model looks at nothing before one, not even at a prefix."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        stories, trainers.BpeTrainer(vocab_size=size, special_tokens=[END, PAD], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=PAD, model_max_length=CONTEXT
    )


def stream(tokenizer: PreTrainedTokenizerFast, stories: list[str]) -> np.ndarray:
    """All stories in one row of tokens, each behind an end token."""
    end = tokenizer.eos_token_id
    return np.concatenate([np.array([end, *ids], dtype=np.int64) for ids in tokenizer(stories)["input_ids"]])


def windows(tokens: np.ndarray, rng: np.random.Generator) -> Iterator[Tensor]:
    """One epoch of (BATCH, CONTEXT) windows that tile the stream from a random start."""
    start = int(rng.integers(CONTEXT))
    starts = rng.permutation(np.arange(start, len(tokens) - CONTEXT, CONTEXT))
    for i in range(0, len(starts) - BATCH + 1, BATCH):
        yield torch.from_numpy(np.stack([tokens[s : s + CONTEXT] for s in starts[i : i + BATCH]]))


@torch.no_grad()
def nats_per_token(model: GPT2LMHeadModel, tokens: np.ndarray) -> float:
    """Mean cross-entropy over non-overlapping windows."""
    model.eval()
    total, count = 0.0, 0
    for start in range(0, len(tokens) - 1, CONTEXT):
        ids = torch.from_numpy(tokens[start : start + CONTEXT])[None]
        if ids.shape[1] > 1:
            logits = model(input_ids=ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
    model.train()
    return total / count


def optimizers(model: GPT2LMHeadModel, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings and vectors."""
    hidden = [p for n, p in model.named_parameters() if p.dim() == 2 and ".h." in n]
    rest = [p for n, p in model.named_parameters() if not (p.dim() == 2 and ".h." in n)]
    return [
        torch.optim.Muon(hidden, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(model: GPT2LMHeadModel, tokens: np.ndarray, held: np.ndarray, *, epochs: int, rate: float, seed: int) -> None:
    steps = epochs * ((len(tokens) // CONTEXT - 1) // BATCH)
    made, done, started, seen = optimizers(model, rate), 0, time.monotonic(), 0.0
    for epoch in range(epochs):
        for ids in windows(tokens, np.random.default_rng([seed, epoch])):
            now = min((done + 1) / 200, max(0.02, 1 - done / steps))
            for optimizer in made:
                for group in optimizer.param_groups:
                    group["lr"] = rate * now
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids).logits[:, :-1]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in made:
                optimizer.step()
                optimizer.zero_grad()
            done, seen = done + 1, 0.98 * seen + 0.02 * loss.item() if done else loss.item()
            if done % 100 == 0:
                print(f"step {done} of {steps}  train {seen:.3f}  {time.monotonic() - started:.0f} s", flush=True)
        print(f"epoch {epoch + 1}  held out {nats_per_token(model, held):.4f} nats a token", flush=True)


CARD = """# A small model that tells stories

GPT-2 architecture, {parameters:,} parameters, byte-level BPE of {vocabulary:,} tokens, context {context}. Trained from
scratch on {train:,} short simple stories ({tokens:,} tokens) for {epochs} epochs, seed {seed}, by
`python recipes/stories_base.py`, {minutes:.0f} minutes on {machine}.

Held out ({held:,} stories, {held_tokens:,} tokens, never trained on): **{nats:.3f} nats a token, perplexity
{perplexity:.2f}** a token, {word:.1f} a word.

It tells children's stories and nothing else; it repeats itself, forgets who is who, and knows no facts.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    stories = read_stories(args.stories)
    order = np.random.default_rng(args.seed).permutation(len(stories))
    held_stories = [stories[i] for i in order[: len(stories) // HELD_OUT]]
    train_stories = [stories[i] for i in order[len(stories) // HELD_OUT :]]
    tokenizer = make_tokenizer(train_stories, args.vocabulary)
    tokens, held = stream(tokenizer, train_stories), stream(tokenizer, held_stories)
    end, pad = tokenizer.convert_tokens_to_ids([END, PAD])
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=224,
            n_layer=6,
            n_head=7,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )
    print(f"{len(train_stories):,} stories, {len(tokens):,} tokens, {model.num_parameters():,} parameters", flush=True)
    started = time.monotonic()
    train(model, tokens, held, epochs=args.epochs, rate=args.rate, seed=args.seed)
    nats = nats_per_token(model, held)
    words = sum(len(story.split()) for story in held_stories)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    card = CARD.format(
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        context=CONTEXT,
        train=len(train_stories),
        tokens=len(tokens),
        epochs=args.epochs,
        seed=args.seed,
        minutes=(time.monotonic() - started) / 60,
        machine=f"a CPU, {torch.get_num_threads()} threads",
        held=len(held_stories),
        held_tokens=len(held),
        nats=nats,
        perplexity=math.exp(nats),
        word=math.exp(nats * len(held) / words),
    )
    (args.out / "README.md").write_text(card, "utf-8")
    print(card)


if __name__ == "__main__":
    main()
