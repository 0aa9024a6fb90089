"""A small text run made in seconds, for tests and pictures: a tiny model that has read a few sentences of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hyperdpo.text.data import load_preferences, write_lists
from hyperdpo.text.scorers import SCORERS
from hyperdpo.text.tokens import TokenConfig
from hyperdpo.text.train import TextConfig, train
from hyperdpo.training import FitConfig
from tests.text_helpers import tiny_model, tiny_tokenizer

CONFIG = TextConfig(
    fit=FitConfig(epochs=2, batch_size=8, learning_rate=5e-3), tokens=TokenConfig(max_prompt=40, max_response=56)
)
OBJECTIVES = ("upbeat", "concise", "vivid")
WHO = ("The cat", "The dog", "A little girl", "The old man", "My friend")
DID = ("was happy and played in the warm sun", "was sad and cried", "ran to the park", "sat on the mat", "said hello")
ENDS = (".", " and then it was a very long day.", ". It was good.", ". It was a bad day.", "!")


def sentence(rng: np.random.Generator) -> str:
    return f"{rng.choice(WHO)} {rng.choice(DID)}{rng.choice(ENDS)}"


def make_stories(
    folder: Path, *, steps: int = 60, prompts: int = 60, objectives: int = 3, name: str = "small-text"
) -> Path:
    """Train a base on made-up sentences and a run on lists of them, with `lists.jsonl` and `openings.txt` in it."""
    rng = np.random.default_rng(0)
    tokenizer, model = tiny_tokenizer(), tiny_model()
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        texts = [" ".join(sentence(rng) for _ in range(4)) for _ in range(16)]
        batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=64)
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    base, run = folder / f"{name}-base", folder / "runs" / name
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    openings = [f"{who} {'once ' * (i % 3)}{i}:" for i in range(prompts // 5) for who in WHO]
    responses = [[f" {sentence(rng)} {sentence(rng)}" for _ in range(4)] for _ in openings]
    names = OBJECTIVES[:objectives]
    scores = [{n: SCORERS[n](texts).tolist() for n in names} for texts in responses]
    lists = folder / f"{name}.jsonl"
    write_lists(lists, openings, responses, scores)
    preferences = load_preferences(lists)
    train(preferences, str(base), CONFIG, run, device="cpu")
    (run / "lists.jsonl").write_bytes(lists.read_bytes())
    (run / "openings.txt").write_text("The cat ran to the park.\nMy friend was sad\n", "utf-8")
    return run
