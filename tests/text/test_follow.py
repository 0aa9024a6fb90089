"""Do the texts follow: correlations against scipy, the same prompts and draws at every w, fluency under the base."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hyperdpo.errors import ConfigError
from hyperdpo.text.follow import Followed, base_nats, distinct_2, follow, scorers_of, spearman
from hyperdpo.text.generate import Sampling
from hyperdpo.text.run import TextRun

PROMPTS = ["Story 1:", "Story 2:", "Story 3:"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_rank_correlation_is_scipy_s(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert math.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_distinct_pairs_by_hand() -> None:
    assert distinct_2(["a b a b", "a b"]) == 2 / 4
    assert math.isnan(distinct_2(["one", ""]))


def test_every_w_answers_the_same_prompts(run: TextRun) -> None:
    found = follow(run, PROMPTS, points=3, sampling=Sampling(max_new_tokens=6, temperature=1.0))
    assert found.scores.shape == (4, 3, 2)
    assert [len(row) for row in found.texts] == [3, 3, 3, 3]
    again = follow(run, PROMPTS, points=3, sampling=Sampling(max_new_tokens=6, temperature=1.0))
    assert again.texts == found.texts
    document = found.to_dict()
    assert document["rows"][-1]["weights"] is None
    assert document["rows"][0]["weights"] == {"upbeat": 0.0, "concise": 1.0} or document["rows"][0]["weights"] == {
        "upbeat": 1.0,
        "concise": 0.0,
    }
    assert "rank correlation" in found.text()


def test_known_scores_give_known_correlations() -> None:
    weights = np.stack([np.linspace(0, 1, 5), 1 - np.linspace(0, 1, 5)], 1)
    scores = np.zeros((6, 4, 2))
    scores[:5, :, 0] = np.arange(5)[:, None] + 0.01 * np.arange(4)
    scores[:5, :, 1] = np.arange(5)[:, None]  # grows as its weight falls
    found = Followed(weights, ("a", "b"), ((),) * 6, scores, np.ones(6), np.ones((6, 4, 2)))
    r = found.rank_correlation()
    assert r[:, 0].tolist() == [1.0, -1.0]
    assert (r[:, 1] <= r[:, 0]).all()
    assert (r[:, 0] <= r[:, 2]).all()
    assert found.perplexity.tolist() == [math.e] * 6


def test_fluency_is_the_base_s_own_likelihood(run: TextRun) -> None:
    nats = base_nats(run, PROMPTS, [" happy dog", " sun", ""])
    assert nats[2].tolist() == [0.0, 0.0]
    ids = run.tokenizer("Story 1:")["input_ids"]
    after = [*run.tokenizer(" happy dog", add_special_tokens=False)["input_ids"], run.tokenizer.eos_token_id]
    with torch.no_grad(), run.model.as_base():
        log_p = run.model.backbone(torch.tensor([ids + after])).logits[0].log_softmax(-1)
    slow = -sum(float(log_p[len(ids) - 1 + i, token]) for i, token in enumerate(after))
    assert nats[0, 1] == len(after)
    assert nats[0, 0] == pytest.approx(slow, rel=1e-4)


def test_an_objective_without_a_scorer_is_named(run: TextRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [s.name for s in scorers_of(run)] == ["upbeat", "concise"]
    from dataclasses import replace

    monkeypatch.setattr(run, "objectives", (replace(run.objectives[0], column="helpful"), run.objectives[1]))
    with pytest.raises(ConfigError, match="helpful"):
        scorers_of(run)
