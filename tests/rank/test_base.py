"""Base rankers: one scale, three kinds, round trips, and messages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import MAIN, lists

from hyperdpo.errors import ConfigError, RunError
from hyperdpo.rank.base import Base, check_kind, fit_base, mean_within_list_std
from hyperdpo.rank.batches import RankBatches
from hyperdpo.training import FitConfig, make_accelerator

QUICK = FitConfig(epochs=2, patience=2, batch_size=8)
SIZES = (8, 5, 12, 9, 1, 10) * 10


def splits(main=MAIN, seed: int = 0) -> list[RankBatches]:
    out = []
    for part in range(2):
        rolled = lists(SIZES, seed=seed + part)
        zeros = torch.zeros(len(rolled.labels))
        out.append(RankBatches(rolled, rolled.features, zeros, (main,), batch_size=8, first_label=0))
    return out


def fitted(kind: str, main=MAIN, **kw) -> tuple[Base, RankBatches]:
    train, validation = splits(main)
    return fit_base(kind, train, validation, seed=0, accelerator=make_accelerator("cpu"), config=QUICK, **kw), train


# --- scale -----------------------------------------------------------------------------------------------------------


def test_mean_within_list_std_by_hand() -> None:
    rolled = lists((2, 3, 1))
    scores = torch.tensor([0.0, 2.0, 1.0, 1.0, 4.0, 50.0])
    assert mean_within_list_std(scores, rolled) == pytest.approx((1.0 + math.sqrt(2.0)) / 2)
    assert mean_within_list_std(scores + 1e4, rolled) == pytest.approx((1.0 + math.sqrt(2.0)) / 2)
    assert mean_within_list_std(torch.zeros(1), lists((1,))) == 0.0


@pytest.mark.parametrize("kind", ["transformer", "lightgbm", "column:score"])
def test_scores_have_a_mean_within_list_deviation_of_one(kind: str) -> None:
    base, train = fitted(kind)
    scores = base.scores(train.lists, train.features)
    assert scores.shape == (len(train.lists.labels),)
    assert scores.dtype == torch.float32
    rolled = train.lists
    deviations = [
        np.std(scores[int(a) : int(b)].double().numpy())
        for a, b in zip(rolled.offsets[:-1], rolled.offsets[1:], strict=True)
        if b - a > 1
    ]
    assert np.mean(deviations) == pytest.approx(1.0, abs=1e-5)


def test_multiplying_a_column_by_ten_changes_nothing() -> None:
    train, validation = splits()
    kw = {"seed": 0, "accelerator": make_accelerator("cpu")}
    once = fit_base("column:s", train, validation, **kw)
    first = once.scores(train.lists, train.features)
    train.lists = replace(train.lists, base=train.lists.base * 10)
    ten = fit_base("column:s", train, validation, **kw)
    assert ten.factor == pytest.approx(10 * once.factor)
    assert torch.allclose(ten.scores(train.lists, train.features), first, atol=1e-5)


# --- kinds -----------------------------------------------------------------------------------------------------------


def main_ndcg(base: Base, train: RankBatches) -> float:
    from hyperdpo.metrics import ndcg

    rolled = train.lists
    scores, labels = base.scores(rolled, train.features), rolled.labels[:, 0]
    return float(ndcg(rolled.pad(scores), rolled.pad(labels), rolled.mask()).nanmean())


@pytest.mark.parametrize("kind", ["transformer", "lightgbm"])
def test_a_base_learns_the_main_label(kind: str) -> None:
    base, train = fitted(kind)
    shuffled = Base("column:x", column="x")
    train.lists = replace(train.lists, base=torch.rand(len(train.lists.labels)))
    assert main_ndcg(base, train) > main_ndcg(shuffled, train) + 0.1


@pytest.mark.parametrize("kind", ["transformer", "lightgbm"])
def test_a_base_follows_the_main_labels_direction(kind: str) -> None:
    """A main label where lower is better must not be learned upside down by one kind of base."""
    base, train = fitted(kind, replace(MAIN, direction="min"))
    scores, labels = base.scores(train.lists, train.features), train.lists.labels[:, 0]
    assert float(torch.corrcoef(torch.stack([scores, labels]))[0, 1]) < -0.2


@pytest.mark.parametrize("kind", ["transformer", "lightgbm", "column:score"])
def test_state_round_trip_gives_the_same_scores(kind: str) -> None:
    base, train = fitted(kind)
    config, tensors, text = base.state()
    again = Base.from_state(config, {k: v.clone() for k, v in tensors.items()}, text, 4)
    assert torch.equal(again.scores(train.lists, train.features), base.scores(train.lists, train.features))
    assert again.parameters == base.parameters
    assert (base.parameters > 0) == (kind == "transformer")
    assert (text is not None) == (kind == "lightgbm")


@pytest.mark.parametrize("kind", ["transformer", "lightgbm"])
def test_the_same_seed_gives_the_same_base(kind: str) -> None:
    (one, train), (two, _) = fitted(kind), fitted(kind)
    assert torch.equal(one.scores(train.lists, train.features), two.scores(train.lists, train.features))


def test_trees_see_raw_features_and_the_network_scaled_ones() -> None:
    base, train = fitted("lightgbm")
    assert torch.equal(base.scores(train.lists, train.features * 0), base.scores(train.lists, train.features))
    base, train = fitted("transformer")
    assert not torch.equal(base.scores(train.lists, train.features * 0), base.scores(train.lists, train.features))


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transformers", "lightgbn", "column:", "tree", ""])
def test_unknown_kinds(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"--base is one of transformer, lightgbm, column:NAME.*; got '{kind}'"):
        check_kind(kind)


def test_a_base_that_is_constant_within_every_list() -> None:
    train, validation = splits()
    train.lists = replace(train.lists, base=torch.ones(len(train.lists.labels)))
    with pytest.raises(ConfigError, match=r"gives every item of a list the same score .* choose another base"):
        fit_base("column:score", train, validation, seed=0, accelerator=make_accelerator("cpu"))


def test_a_column_that_the_lists_do_not_carry() -> None:
    rolled = replace(lists(), base=None)
    with pytest.raises(ConfigError, match="base score is column 'bm25', which the lists do not carry"):
        Base("column:bm25", column="bm25").scores(rolled, rolled.features)


def test_lightgbm_needs_whole_grades() -> None:
    train, validation = splits()
    train.lists.labels[3, 0] = 1.5
    with pytest.raises(
        ConfigError, match=r"whole-number grades from 0 to 10,000 as main label; got values such as 1.5"
    ):
        fit_base("lightgbm", train, validation, seed=0, accelerator=make_accelerator("cpu"))


def test_a_run_whose_trees_are_missing() -> None:
    with pytest.raises(RunError, match=r"base.txt with its trees is missing"):
        Base.from_state({"kind": "lightgbm", "factor": 1.0}, {}, None, 4)
