"""A tiny model on disk, toy preferences, and a run trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TokenConfig
from hyperdpo.text.train import TextConfig, train
from hyperdpo.training import FitConfig
from tests.text_helpers import tiny_model, tiny_tokenizer

QUICK = FitConfig(epochs=2, patience=2, batch_size=4, learning_rate=1e-2, weight_decay=0.0, average=0.0)
TOKENS = TokenConfig(max_prompt=32, max_response=32)


def toy_preferences(lists: int = 20, n: int = 3, m: int = 2, seed: int = 0) -> Preferences:
    """Lists whose scores are visible in the text: the share of one word, and (minus) the length."""
    rng = np.random.default_rng(seed)
    words = ["happy", "dog", "sun", "cat", "park"]
    prompts, responses, scores = [], [], []
    for i in range(lists):
        texts = []
        while len(texts) < n:
            text = " ".join(rng.choice(words, size=rng.integers(2, 7)))
            if text not in texts:
                texts.append(text)
        prompts.append(f"Story {i}:")
        responses.append(tuple(texts))
        columns = [[t.count("happy") for t in texts], [-len(t.split()) for t in texts], [t.count("sun") for t in texts]]
        scores.append(np.array(columns[:m], dtype=float).T)
    names = ("upbeat", "concise", "vivid")[:m]
    return Preferences(
        tuple(prompts), tuple(responses), tuple(scores), tuple(Objective(name, name) for name in names), name="toy"
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer(front=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def preferences() -> Preferences:
    return toy_preferences()


@pytest.fixture(scope="session")
def run(model_folder: Path, preferences: Preferences, tmp_path_factory: pytest.TempPathFactory) -> TextRun:
    out = tmp_path_factory.mktemp("runs") / "toy"
    return train(preferences, str(model_folder), TextConfig(fit=QUICK, tokens=TOKENS), out, device="cpu")
