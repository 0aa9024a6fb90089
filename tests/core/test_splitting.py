"""A list's responses shared out among the corners."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperdpo.splitting import Parts, split_lists
from hyperdpo.training import rng_for

WHOLE = slice(None)


def split(targets: Tensor, judged: Tensor | None = None, *, step: int = 0, whole: bool = False) -> Parts:
    judged = torch.ones_like(targets, dtype=torch.bool) if judged is None else judged
    return split_lists(targets, judged, len(targets), WHOLE, rng_for(0, step), whole=whole)


def described(parts: Parts) -> set[tuple[int, int, tuple[int, ...], float]]:
    """(list, objective, its responses, weight) of each part."""
    rows = zip(parts.lists, parts.objectives, parts.items, parts.mask, parts.weights, strict=True)
    return {(int(i), int(j), tuple(items[mask].tolist()), round(float(w), 6)) for i, j, items, mask, w in rows}


def test_four_responses_give_each_of_two_objectives_its_best_and_its_worst() -> None:
    targets = torch.tensor([[[0.1, 0.4], [0.2, 0.3], [0.3, 0.1], [0.4, 0.2]]])
    assert described(split(targets)) == {(0, 0, (3, 0), 0.5), (0, 1, (0, 2), 0.5)}


def test_a_pair_goes_whole_to_one_objective_and_counts_for_both() -> None:
    targets = torch.tensor([[[0.9, 0.2], [0.1, 0.8]]])
    found = {part for step in range(20) for part in described(split(targets, step=step))}
    assert found == {(0, 0, (0, 1), 1.0), (0, 1, (1, 0), 1.0)}


def test_a_list_is_never_given_to_what_it_says_nothing_of() -> None:
    targets = torch.tensor([[[0.5, 0.0], [0.2, 0.0], [0.2, 0.0], [0.1, 0.0]], [[0.0, 0.0]] * 4])
    assert described(split(targets)) == {(0, 0, (0, 1, 2, 3), 0.5)}


def test_a_response_that_an_objective_has_not_scored_is_never_its_worst() -> None:
    targets = torch.tensor([[[0.6, 0.1], [0.4, 0.2], [0.0, 0.3], [0.0, 0.4]]])
    judged = torch.ones_like(targets, dtype=torch.bool)
    judged[0, 2:, 0] = False
    assert described(split(targets, judged)) == {(0, 0, (0, 1), 0.5), (0, 1, (3, 0), 0.5)}


def test_many_responses_are_shared_out_from_both_ends() -> None:
    scores = torch.arange(1.0, 11.0)
    targets = torch.stack([scores, scores.flip(0), scores], 1)[None] / scores.sum()
    assert described(split(targets)) == {
        (0, 0, (9, 8, 0), round(1 / 3, 6)),
        (0, 1, (0, 1, 9), round(1 / 3, 6)),
        (0, 2, (9, 8, 0), round(1 / 3, 6)),
    }


def test_nothing_to_learn_leaves_one_empty_part() -> None:
    parts = split(torch.zeros(2, 3, 2))
    assert (parts.mask.any(), parts.weights.tolist(), parts.items.shape) == (torch.tensor(False), [0.0], (1, 1))


def test_where_a_list_is_too_short_for_all_they_take_turns_with_all_of_it() -> None:
    targets = torch.softmax(torch.randn(300, 5, 3, generator=torch.Generator().manual_seed(0)), 1)
    parts = split(targets)
    assert parts.mask.all()
    assert parts.items.shape == (300, 5)
    assert torch.bincount(parts.objectives).tolist() == [100] * 3
    assert parts.weights.tolist() == [1.0] * 300


def test_every_objective_may_be_given_all_it_has_scored() -> None:
    targets = torch.tensor([[[0.1, 0.4, 0.0], [0.2, 0.6, 0.0], [0.7, 0.0, 0.0]], [[0.0] * 3] * 3])
    judged = torch.ones_like(targets, dtype=torch.bool)
    judged[0, 2, 1] = False
    third = round(1 / 3, 6)
    assert described(split(targets, judged, whole=True)) == {(0, 0, (2, 1, 0), third), (0, 1, (1, 0), third)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_a_visit_costs_no_more_rows_and_each_objective_counts_its_share(b: int, n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    judged = torch.from_numpy(rng.random((b, n, m)) < 0.7)
    judged &= judged.sum(1, keepdim=True) >= 2
    targets = torch.from_numpy(rng.random((b, n, m)) + 0.01) * judged
    counted = torch.zeros(b, m)
    steps = 24
    for step in range(steps):
        parts = split(targets, judged, step=step)
        rows = torch.zeros(b)
        for i, j, items, mask, w in zip(
            parts.lists, parts.objectives, parts.items, parts.mask, parts.weights, strict=True
        ):
            chosen = items[mask]
            rows[i] += len(chosen)
            counted[i, j] += w / steps
            if w:
                assert len(chosen) >= 2
                assert len(set(chosen.tolist())) == len(chosen)
                assert judged[i, chosen, j].all()
        assert (rows <= judged.any(2).sum(1).clamp(min=2)).all()
    informative = targets.sum(1) > 0
    assert (counted[~informative] == 0).all()
    # Every list's parts add up to its informative objectives' shares, whoever had the turn.
    torch.testing.assert_close(counted.sum(1), informative.sum(1) / m, atol=1e-5, rtol=0)


def test_lists_are_split_alike_in_whichever_process_they_are() -> None:
    targets = torch.softmax(torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1)), 1)
    judged = torch.ones_like(targets, dtype=torch.bool)
    whole = described(split(targets))
    shared = set()
    for rank in range(2):
        share = slice(rank, None, 2)
        parts = split_lists(targets[share], judged[share], 6, share, rng_for(0, 0))
        shared |= {(2 * i + rank, *rest) for i, *rest in described(parts)}
    assert shared == whole
