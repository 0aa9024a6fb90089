"""What changes between two choices: by hand, against slow versions, and against a second source."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from hyperdpo.errors import ConfigError, DataError, WeightsError
from hyperdpo.rank.changes import (
    Position,
    compare_places,
    places,
    rank_distance,
    read_position,
    shown_items,
)
from hyperdpo.rank.model import NetConfig, Ranker
from hyperdpo.rank.reasons import STEPS, change_shares, in_list, integrated_gradients, reasons
from hyperdpo.weights import parse_weights


def both(before: list[int], after: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pair = torch.tensor([before]), torch.tensor([after])
    return *pair, pair[0] > 0


def slow_distance(before: list[int], after: list[int], p: float) -> float:
    """1 - RBO summed as it is defined, far beyond the lists' length."""
    n = len(before)
    orders = [sorted(range(n), key=place.__getitem__) for place in (before, after)]
    total = 0.0
    for d in range(1, 2000):
        tops = [set(order[:d]) for order in orders]
        total += p ** (d - 1) * len(tops[0] & tops[1]) / min(d, n)
    return 1 - (1 - p) * total


def test_the_distance_by_hand() -> None:
    # Two items changed places: only at depth 1 do the tops differ, by all. Three reversed: depth 1 all, depth 2 a half.
    assert rank_distance(*both([1, 2], [2, 1])).tolist() == pytest.approx([0.1])
    assert rank_distance(*both([1, 2, 3], [3, 2, 1]), persistence=0.5).tolist() == pytest.approx([0.5 + 0.25 * 0.5])
    assert rank_distance(*both([1, 2, 3], [1, 2, 3])).tolist() == [0.0]
    assert rank_distance(*both([1], [1])).tolist() == [0.0]


@given(st.permutations(range(1, 8)), st.permutations(range(1, 8)), st.sampled_from([0.5, 0.9, 0.98]))
def test_the_distance_is_the_infinite_sum(before: list[int], after: list[int], p: float) -> None:
    found = float(rank_distance(*both(before, after), persistence=p))
    assert found == pytest.approx(slow_distance(before, after, p), abs=1e-9)
    assert found == pytest.approx(float(rank_distance(*both(after, before), persistence=p)))
    assert (found == 0) == (before == after)


def test_the_first_ten_places_weigh_86_percent_as_webber_et_al_state() -> None:
    # Their equation 21: 1 - p^(d-1) + (1-p)/p d (ln 1/(1-p) - sum_{i<d} p^i / i). Ours: items below the tenth place
    # reversed, in a long list, can change the order by no more than the rest.
    p, d = 0.9, 10
    theirs = 1 - p ** (d - 1) + (1 - p) / p * d * (math.log(1 / (1 - p)) - sum(p**i / i for i in range(1, d)))
    assert theirs == pytest.approx(0.86, abs=0.005)
    n = 600
    inside = [*range(300, 310), *range(1, 291)]  # ten items from far below come first
    before = list(range(1, n + 1))
    after = inside[:10] + [v for v in before if v not in inside[:10]]
    order = np.argsort(after).tolist()
    far = float(rank_distance(*both(before, [int(v) + 1 for v in order])))
    assert far == pytest.approx(theirs, abs=0.01)


def test_pads_and_the_length_of_other_lists_change_nothing() -> None:
    before, after = torch.tensor([[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]), torch.tensor([[2, 1, 3, 0, 0], [5, 4, 3, 2, 1]])
    found = rank_distance(before, after, before > 0)
    assert found[0] == pytest.approx(0.1)
    assert found[1] == rank_distance(*both([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]))[0]
    assert rank_distance(*(torch.zeros(1, 4, dtype=torch.long),) * 2, torch.zeros(1, 4, dtype=torch.bool)).item() == 0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_places_are_scipys_ordinal_ranks(scores: list[int]) -> None:
    values = torch.tensor([scores], dtype=torch.float32)
    wide = torch.cat([values, torch.full((1, 2), 9.0)], 1)  # pads that would come first
    mask = torch.arange(len(scores) + 2) < len(scores)
    found = places(wide, mask[None])
    assert found[0, : len(scores)].tolist() == rankdata([-s for s in scores], method="ordinal").tolist()
    assert found[0, len(scores) :].tolist() == [0, 0]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_scores_that_are_no_numbers_are_refused(at: int) -> None:
    scores = torch.zeros(1, 3)
    scores[0, at] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        places(scores, torch.ones(1, 3, dtype=torch.bool))


def test_which_lists_change_most_and_who_gains() -> None:
    before = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    after = torch.tensor([[1, 3, 2], [3, 2, 1], [1, 2, 3], [2, 1, 3]])
    then, now = np.array([[0.5], [0.9], [0.3], [np.nan]]), np.array([[0.6], [0.4], [0.3], [np.nan]])
    found = compare_places(before, after, before > 0, then, now, k=1)
    assert found.most().tolist() == [1, 3, 0]
    assert found.most(count=1).tolist() == [1]
    assert found.most("gained").tolist() == [0]
    assert found.most("lost").tolist() == [1]
    assert found.entered.tolist() == [0, 1, 0, 1]
    assert found.counts() == {"lists": 4, "changed": 3, "gained": 1, "lost": 1, "unknown": 1}
    with pytest.raises(ConfigError, match="got 'lots'"):
        found.most("lots")


def test_the_items_shown_are_the_first_of_either_order() -> None:
    assert shown_items(np.array([1, 2, 3]), np.array([3, 1, 2]), 2) == ([0, 1], [1, 2])
    assert shown_items(np.array([1]), np.array([1])) == ([0], [0])


# What a change rests on


def test_shares_of_a_linear_score_are_known_and_sum_to_the_difference() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    slope = torch.tensor([1.0, -2.0, 0.5])
    found = integrated_gradients(in_list(lambda lists: lists @ slope, x), x, [0, 3])
    torch.testing.assert_close(found, ((x - x.mean(0)) * slope)[[0, 3]])


def test_shares_sum_to_the_change_and_agree_with_a_slow_version() -> None:
    g = torch.Generator().manual_seed(2)
    x, a = torch.randn(4, 3, generator=g), torch.randn(3, generator=g)

    def score(lists: torch.Tensor) -> torch.Tensor:  # items of a list depend on each other
        return (lists @ a).tanh() - (lists**2).sum(-1).mean(-1, keepdim=True)

    found = integrated_gradients(in_list(score, x), x, [2], steps=400)[0]
    start = x.clone()
    start[2] = x.mean(0)
    assert float(found.sum()) == pytest.approx(float(score(x[None])[0, 2] - score(start[None])[0, 2]), abs=1e-4)
    slow, steps = torch.zeros(3, dtype=torch.float64), 400
    for s in range(steps):
        at = x.double().clone()
        at[2] = x.mean(0) + (s + 0.5) / steps * (x[2] - x.mean(0))
        for j in range(3):
            up, down = at.clone(), at.clone()
            up[2, j], down[2, j] = at[2, j] + 1e-5, at[2, j] - 1e-5
            rise = [float(((p @ a.double()).tanh() - (p**2).sum(-1).mean())[2]) for p in (up, down)]
            slow[j] += (rise[0] - rise[1]) / 2e-5 / steps
    torch.testing.assert_close(found.double(), slow * (x[2] - x.mean(0)).double(), atol=1e-4, rtol=1e-3)


def test_a_list_of_one_item_has_no_reasons() -> None:
    x = torch.ones(1, 2)
    assert integrated_gradients(in_list(lambda lists: lists.sum(-1), x), x, [0]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("use_base", [False, True])
@pytest.mark.parametrize("kind", ["mixture", "geometric", "film", "augmentation", "scratch"])
def test_without_attention_the_short_way_gives_what_the_whole_list_gives(kind: str, use_base: bool) -> None:
    torch.manual_seed(3)
    model = Ranker(4, 2, kind, NetConfig(width=8, layers=1, heads=0, use_base=use_base), (1.5, 1.5)).eval()
    x, base = torch.randn(6, 4), torch.randn(6)
    at = Position((0.3, 0.7), 2.0)
    quick = change_shares(None, (model, at), x, base, [0, 5])
    mask, w = torch.ones(1, 6, dtype=torch.bool), torch.tensor(at.weights)
    whole = in_list(lambda lists: model(lists, base.expand(len(lists), -1), mask.expand(len(lists), -1), w), x)
    slow = integrated_gradients(whole, x, [0, 5], steps=STEPS) / at.scale
    np.testing.assert_allclose(quick, slow.numpy(), atol=2e-3)  # rounding may put one step beyond a kink
    assert np.abs(quick).max() > 1e-3


def test_from_a_choice_to_itself_nothing_changes_and_there_and_back_cancel() -> None:
    torch.manual_seed(4)
    model = Ranker(4, 2, "mixture", NetConfig(width=8, layers=1, heads=2), (1.0, 1.0)).eval()
    x, base = torch.randn(5, 4), torch.randn(5)
    one, two = (model, Position((0.2, 0.8))), (model, Position((0.9, 0.1), 0.5))
    assert np.abs(change_shares(one, one, x, base, [0, 1, 2])).max() == 0
    there, back = change_shares(one, two, x, base, [1]), change_shares(two, one, x, base, [1])
    np.testing.assert_allclose(there, -back, atol=1e-6)
    assert np.abs(there).max() > 1e-3


def test_the_largest_shares_are_told_and_the_rest_is_not_dropped() -> None:
    told = reasons(np.array([0.1, -0.5, 0.0, 0.2]), ["a", "b", "c", "d"], top=2)
    assert told.parts == (("b", -0.5), ("d", 0.2))
    assert (told.total, told.rest, told.others) == pytest.approx((-0.2, 0.1, 2))
    assert reasons(np.zeros(2), ["a", "b"]).parts == ()


# A choice as text


def test_choices_are_read_as_people_write_them() -> None:
    def parse(text: str) -> torch.Tensor:
        return parse_weights(text, ["clicks", "quality"])

    assert read_position("base", parse) is None
    assert read_position(".25,.75", parse) == Position((0.25, 0.75), 1.0)
    assert read_position("clicks=.5,quality=.5@2", parse) == Position((0.5, 0.5), 2.0)
    for text in (".5,.5@", ".5,.5@0", ".5,.5@x", ".5,.5@-1", ".5,.5@inf", ".5,.5@nan"):
        with pytest.raises(WeightsError, match="c a number above 0"):
            read_position(text, parse)
    with pytest.raises(WeightsError):
        read_position(".5,.6", parse)
