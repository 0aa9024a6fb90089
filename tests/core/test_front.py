"""Fronts: dominance, hypervolume against inclusion-exclusion, sparsity, and the traps pymoo leaves open."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.front import (
    ParetoFront,
    beyond_reference,
    comparable,
    front_weights,
    hypervolume,
    non_dominated,
    sparsity,
)

# Few distinct values, so that ties and duplicates happen.
COARSE = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])


def points(m: st.SearchStrategy[int] | int, most: int = 6):
    return st.integers(1, most).flatmap(
        lambda p: (m if isinstance(m, st.SearchStrategy) else st.just(m)).flatmap(
            lambda width: arrays(float, (p, width), elements=COARSE)
        )
    )


def inclusion_exclusion(values: np.ndarray, reference: np.ndarray) -> float:
    """The volume of the union of the boxes [reference, point], summed over all subsets of points."""
    total = 0.0
    for size in range(1, len(values) + 1):
        for subset in itertools.combinations(values, size):
            sides = np.maximum(np.min(subset, axis=0) - reference, 0.0)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


def slow_non_dominated(values: np.ndarray) -> list[bool]:
    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))

    return [not any(dominates(other, row) for other in values) for row in values]


# --- hypervolume -----------------------------------------------------------------------------------------------------


def test_hypervolume_by_hand() -> None:
    assert hypervolume(np.array([[0.5, 0.4]])) == pytest.approx(0.2)
    stairs = np.array([[1.0, 0.2], [0.6, 0.5], [0.1, 1.0]])
    assert hypervolume(stairs) == pytest.approx(1.0 * 0.2 + 0.6 * 0.3 + 0.1 * 0.5)
    assert hypervolume(stairs, 0.1) == pytest.approx(0.9 * 0.1 + 0.5 * 0.3 + 0.0)
    assert hypervolume(stairs, np.array([0.5, 0.0])) == pytest.approx(0.5 * 0.2 + 0.1 * 0.3)
    cubes = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert hypervolume(cubes) == pytest.approx(4 * 0.125)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_is_inclusion_exclusion_on_random_fronts(m: int) -> None:
    rng = np.random.default_rng(m)
    for _ in range(10):
        values, reference = rng.random((8, m)), rng.random(m) * 0.3
        assert hypervolume(values, reference) == pytest.approx(inclusion_exclusion(values, reference), abs=1e-9)


@given(points(st.integers(2, 4)), COARSE)
def test_hypervolume_is_inclusion_exclusion_with_ties(values, reference) -> None:
    expected = inclusion_exclusion(values, np.full(values.shape[1], reference))
    assert hypervolume(values, reference) == pytest.approx(expected, abs=1e-9)


@given(points(st.integers(2, 4)), st.randoms(use_true_random=False), st.floats(0.1, 5))
def test_hypervolume_properties(values, rnd, factor) -> None:
    volume = hypervolume(values)
    order = list(range(len(values)))
    rnd.shuffle(order)
    assert hypervolume(values[order]) == pytest.approx(volume, abs=1e-12)
    assert hypervolume(values[:, ::-1]) == pytest.approx(volume, abs=1e-12)
    assert hypervolume(values[non_dominated(values)]) == pytest.approx(volume, abs=1e-12)
    assert hypervolume(np.concatenate([values, values])) == pytest.approx(volume, abs=1e-12)
    assert hypervolume(values[:1]) <= volume + 1e-12
    scaled = values * np.array([factor] + [1.0] * (values.shape[1] - 1))
    assert hypervolume(scaled) == pytest.approx(factor * volume, abs=1e-9)


def test_higher_is_better() -> None:
    """pymoo minimises by default; a better point must give more volume here."""
    assert hypervolume(np.array([[0.9, 0.9]])) > hypervolume(np.array([[0.1, 0.1]]))


@given(points(3), st.data())
def test_nan_anywhere_is_refused(values, data) -> None:
    """The position is chosen by the test: a NaN in row 0 must not slip through."""
    row = data.draw(st.integers(0, len(values) - 1))
    column = data.draw(st.integers(0, 2))
    values = values.copy()
    values[row, column] = np.nan
    for function in (hypervolume, non_dominated, sparsity):
        with pytest.raises(DataError, match=f"needs numbers; got NaN at point {row}, objective {column} "):
            function(values)


def test_an_empty_front_is_refused() -> None:
    with pytest.raises(DataError, match="at least one point; got none"):
        hypervolume(np.zeros((0, 2)))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_does_not_give_a_false_figure(value: float) -> None:
    values = np.array([[0.5, 0.5], [value, 0.7]])
    if value < 0:
        assert hypervolume(values) == pytest.approx(0.25)
        assert beyond_reference(values) == 1
    else:
        assert not math.isfinite(hypervolume(values))


def test_points_beyond_the_reference_add_nothing_and_are_counted() -> None:
    values = np.array([[0.5, 0.5], [0.9, -0.1], [-0.1, -0.1], [0.0, 0.7]])
    assert hypervolume(values) == pytest.approx(0.25)
    assert beyond_reference(values) == 2
    assert beyond_reference(values, 0.4) == 3
    assert beyond_reference(values, np.array([-1.0, -1.0])) == 0
    assert hypervolume(values[1:3]) == 0.0


# --- dominance and sparsity ------------------------------------------------------------------------------------------


def test_dominance_by_hand() -> None:
    values = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.4], [0.0, 1.0], [0.5, 0.5]])
    assert non_dominated(values).tolist() == [True, True, False, True, True]


def test_duplicates_do_not_dominate_each_other() -> None:
    assert non_dominated(np.full((3, 2), 0.3)).all()
    assert non_dominated(np.zeros((0, 2))).tolist() == []


@given(points(st.integers(1, 4), 8))
def test_dominance_against_loops(values) -> None:
    assert non_dominated(values).tolist() == slow_non_dominated(values)


def test_sparsity_by_hand() -> None:
    front = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.7]])
    expected = ((0.4**2 + 0.6**2) + (0.7**2 + 0.3**2)) / 2
    assert sparsity(front) == pytest.approx(expected)
    assert sparsity(np.concatenate([front, [[0.3, 0.3]]])) == pytest.approx(expected), "dominated points play no part"
    assert sparsity(front[:1]) == 0.0
    assert sparsity(np.array([[0.2, 0.2], [0.2, 0.2]])) == 0.0


def test_more_points_between_make_a_front_denser() -> None:
    def line(p: int) -> np.ndarray:
        x = np.linspace(0, 1, p)
        return np.stack([x, 1 - x], 1)

    assert sparsity(line(5)) > sparsity(line(11)) > sparsity(line(41))


# --- ParetoFront -----------------------------------------------------------------------------------------------------


def front(**changes: object) -> ParetoFront:
    fields: dict[str, object] = {
        "name": "HyperDPO (mixture)",
        "method": "hyperdpo",
        "main": "relevance",
        "objectives": ("clicks", "quality"),
        "weights": np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]),
        "scale": 1.0,
        "k": 10,
        "split": "test",
        "ndcg": np.array([[0.5, 0.9, 0.2], [0.6, 0.6, 0.6], [0.4, 0.1, 0.8]]),
        "cross_entropy": np.array([[1.0, 2.0], [1.2, 1.8], [1.5, 1.1]]),
        "models": 1,
        "parameters": 50368,
        "seconds": 12.5,
        "run": "run-a",
        "data": "f" * 64,
        "beta": (1.0, 1.0),
        "device": "cpu",
    }
    return ParetoFront(**{**fields, **changes})  # type: ignore[arg-type]


def test_figures_of_a_front() -> None:
    f = front()
    assert f.m == 2
    assert np.array_equal(f.auxiliary, f.ndcg[:, 1:])
    assert f.hypervolume == pytest.approx(inclusion_exclusion(f.auxiliary, np.zeros(2)))
    assert f.main_mean == pytest.approx(0.5)
    assert f.main_std == pytest.approx(math.sqrt(0.02 / 3))
    assert f.non_dominated.tolist() == [True, True, True]
    assert np.array_equal(f.restrict(("quality", "relevance")), f.ndcg[:, [2, 0]])


def test_dict_round_trip_through_json() -> None:
    f = front()
    document = json.loads(json.dumps(f.to_dict(), allow_nan=False))
    back = ParetoFront.from_dict(document)
    for field in dataclasses.fields(ParetoFront):
        ours, theirs = getattr(f, field.name), getattr(back, field.name)
        assert np.allclose(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs, field.name
    assert document["reference"] == [0.0, 0.0]
    assert document["points"][0]["weights"] == {"clicks": 1.0, "quality": 0.0}
    assert document["hypervolume"] == pytest.approx(f.hypervolume)


def test_a_point_without_weights_and_without_cross_entropy_round_trips() -> None:
    f = front(weights=np.zeros((1, 0)), ndcg=np.array([[0.5, 0.4, 0.3]]), cross_entropy=None, method="base")
    back = ParetoFront.from_dict(f.to_dict())
    assert back.weights.shape == (1, 0)
    assert back.cross_entropy is None


def test_shapes_are_checked_all_at_once() -> None:
    with pytest.raises(DataError) as caught:
        front(
            ndcg=np.zeros((3, 2)), weights=np.zeros((3, 5)), cross_entropy=np.zeros((2, 2)), per_query=np.zeros((3, 3))
        )
    assert len(caught.value.problems) == 4
    assert "ndcg has shape (3, 2), expected (3, 3)" in str(caught.value)


@pytest.mark.parametrize("key", ["name", "objectives", "points", "scale", "main", "split", "k"])
def test_a_front_that_lacks_a_field_is_not_ours(key: str) -> None:
    document = front().to_dict()
    del document[key]
    with pytest.raises(DataError, match=f"missing or misstates '{key}'"):
        ParetoFront.from_dict(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [("points", 5), ("scale", "much"), ("k", "ten"), ("points", [{"weights": 3, "ndcg": {}}]), ("objectives", None)],
)
def test_a_front_that_misstates_a_field_is_not_ours(key: str, value: object) -> None:
    with pytest.raises(DataError, match="missing or misstates"):
        ParetoFront.from_dict({**front().to_dict(), key: value})


def test_comparable_names_every_difference() -> None:
    comparable([front(), front(name="other")])
    comparable([front(), front(beta=())])  # a base has no temperature
    with pytest.raises(ConfigError) as caught:
        comparable([front(), front(name="b", k=5, scale=2.0, split="train", data="0" * 64, beta=(2.0, 2.0))])
    told = str(caught.value)
    for what in ("k: 10 and 5", "scale: 1.0 and 2.0", "split: test and train", "data: ffffffffffff and", "beta:"):
        assert what in told
    assert len(caught.value.problems) == 5


def test_the_reference_point_is_kept_and_fronts_with_another_are_not_compared() -> None:
    low, high = front(), front(reference=(0.1, 0.2))
    assert high.hypervolume == pytest.approx(inclusion_exclusion(high.auxiliary, np.array([0.1, 0.2])))
    again = ParetoFront.from_dict(json.loads(json.dumps(high.to_dict())))
    assert again.reference_point == (0.1, 0.2)
    assert low.reference_point == (0.0, 0.0)
    comparable([low, front(reference=(0.0, 0.0))])
    with pytest.raises(ConfigError, match=r"differ in reference point: \(0.0, 0.0\) and \(0.1, 0.2\)"):
        comparable([low, high])
    with pytest.raises(DataError, match="the reference point has 3 numbers, not 2"):
        front(reference=(0.0, 0.0, 0.0))


def test_comparable_finds_the_one_that_differs_among_many() -> None:
    with pytest.raises(ConfigError, match="'third'"):
        comparable([front(), front(name="second"), front(name="third", k=3)])


def test_front_weights_are_the_grid() -> None:
    assert front_weights(2, 11).shape == (11, 2)
    assert front_weights(2, 11).dtype == np.float64
