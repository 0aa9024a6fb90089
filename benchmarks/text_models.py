"""Random models, a tokenizer of words, and random pairs and lists, for benchmarks of the text wing."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences
from hyperdpo.text.tokens import TokenLists

END, PAD, FIRST = 0, 1, 2  # ids; words come after
VOCABULARY, CONTEXT = 4096, 256


def gpt2(
    width: int = 224, layers: int = 6, heads: int = 7, vocabulary: int = VOCABULARY, seed: int = 0
) -> GPT2LMHeadModel:
    """A random GPT-2; the defaults are the shape of the model that ships, 4.6 million parameters."""
    torch.manual_seed(seed)
    special = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD}
    shape = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": CONTEXT, "vocab_size": vocabulary}
    return GPT2LMHeadModel(GPT2Config(**shape, **special)).eval()  # type: ignore[arg-type]


def words(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer of `w2`, `w3`, .. between spaces, a token each."""
    known = {"<end>": END, "<pad>": PAD, **{f"w{i}": i for i in range(FIRST, vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def random_lists(count: int, n: int, m: int, *, prompt: int = 16, response: int = 64, seed: int = 0) -> TokenLists:
    """Lists of n responses, all of the same length in tokens; pairs have labels (1, 0), longer lists random ones."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(FIRST, VOCABULARY, (count, prompt))
    responses = rng.integers(FIRST, VOCABULARY, (count, n, response))
    targets = torch.from_numpy(rng.dirichlet(np.ones(n), (count, m))).float().transpose(1, 2)
    if n == 2:
        targets = torch.tensor([1.0, 0.0])[:, None].expand(count, 2, m)
    objectives = tuple(Objective(f"o{j}", f"o{j}") for j in range(m))
    return TokenLists(
        tuple(prompts), tuple(tuple(r) for r in responses), tuple(targets),
        tuple(torch.ones(count, n, m, dtype=torch.bool)), torch.ones(count, m, dtype=torch.bool), objectives, PAD,
    )  # fmt: skip


def random_preferences(
    count: int, n: int, m: int, *, prompt: int = 16, response: int = 64, seed: int = 0
) -> Preferences:
    """The same as texts, with random scores."""
    lists = random_lists(count, n, m, prompt=prompt, response=response - 1, seed=seed)  # its end token comes after
    rng = np.random.default_rng(seed)

    def text(ids: np.ndarray) -> str:
        return " ".join(f"w{i}" for i in ids)

    return Preferences(
        tuple(text(p) for p in lists.prompts),
        tuple(tuple(text(r) for r in rs) for rs in lists.responses),
        tuple(rng.random((n, m)) for _ in range(count)),
        lists.objectives,
        name="random words",
    )
