"""The simplex: checking, parsing, drawing, grids, projection, moving one weight."""

from __future__ import annotations

import itertools
import json
import math
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from hyperdpo.errors import WeightsError
from hyperdpo.weights import (
    balanced_weights,
    check_beta,
    check_scale,
    check_weights,
    draw_weights,
    energy_directions,
    grid,
    lattice,
    lattice_size,
    parse_weights,
    project,
    rebalance,
)

NAMES = ["clicks", "purchases", "quality"]


# --- checking and parsing --------------------------------------------------------------------------------------------


def test_good_weights_are_normalised_exactly() -> None:
    w = check_weights([0.3333, 0.3333, 0.3333], 3)
    assert w.dtype == torch.float32
    assert w.tolist() == pytest.approx([1 / 3] * 3, abs=1e-7)
    assert check_weights(torch.tensor([0.25, 0.75]), 2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.5], "One weight per objective is needed, 3 in all; got 2"),
        ([0.5, 0.6, -0.1], r"finite and not negative; got \[0.5, 0.6, -0.1\]"),
        ([0.5, math.nan, 0.5], "finite and not negative; got .*nan"),
        ([math.inf, 0.0, 0.0], "finite and not negative; got .*inf"),
        ([2.0, 1.0, 1.0], r"sum to 1; got \[2.0, 1.0, 1.0\], which sum to 4; divided by their sum they are \[0.5,"),
        ([0.5, 0.5, 0.01], "which sum to 1.01; divided"),
        ([0.0, 0.0, 0.0], r"which sum to 0\.$"),
    ],
)
def test_bad_weights(weights: list[float], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        check_weights(weights, 3)


def test_parse() -> None:
    assert parse_weights(".2,.3,.5", NAMES).tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert parse_weights("quality=.7, clicks=.3", NAMES).tolist() == pytest.approx([0.3, 0.0, 0.7])
    assert parse_weights(" clicks = 1 ", NAMES).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("click=.3,quality=.7", r"No objective is called 'click' \(did you mean 'clicks'\?\); there are clicks"),
        ("zzz=1", "No objective is called 'zzz'; there are"),
        ("clicks=.3,.7", "Either every weight is named or none is; got '.7'"),
        ("clicks=.3,clicks=.7", "Each objective has one weight; got 'clicks' twice"),
        ("clicks=lots", "A weight is a number; got 'lots' in 'clicks=lots'"),
        (".3;.7", "A weight is a number"),
        (".3,.7", "3 in all; got 2"),
        ("", "3 in all; got 0"),
        ("clicks=.3,quality=.6", r"sum to 1; got \[0.3, 0.0, 0.6\], which sum to 0.9"),
        ("nan,0,1", "finite and not negative"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse_weights(text, NAMES)


def test_parse_collects_its_problems() -> None:
    with pytest.raises(WeightsError) as caught:
        parse_weights("click=.3,qualty=.3,.4", NAMES)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_scale_is_above_zero(c: float) -> None:
    with pytest.raises(WeightsError, match=r"The scale c is a finite number above 0 .*got"):
        check_scale(c)


def test_scale_and_beta() -> None:
    assert check_scale(2) == 2.0
    assert check_beta(0.5, 3) == (0.5, 0.5, 0.5)
    assert check_beta([1, 2, 3], 3) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf, [1.0, 2.0], [1.0, 0.0, 1.0], []])
def test_beta_refuses(beta: object) -> None:
    with pytest.raises(WeightsError, match="beta is one number above 0, or 3 of them"):
        check_beta(beta, 3)  # type: ignore[arg-type]


# --- draws -----------------------------------------------------------------------------------------------------------


@given(st.floats(1e-4, 50), st.integers(1, 6), st.integers(0, 2**31))
def test_draws_lie_on_the_simplex(alpha: float, m: int, seed: int) -> None:
    w = draw_weights(alpha, 20, m, np.random.default_rng(seed))
    assert w.shape == (20, m)
    assert w.dtype == torch.float32
    assert (w >= 0).all()
    assert torch.allclose(w.sum(1), torch.ones(20), atol=1e-5)


def test_draws_follow_their_generator_alone() -> None:
    one, two, other = (draw_weights(0.5, 9, 3, np.random.default_rng(s)) for s in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_draws_that_underflow_become_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    class Underflowing:
        def dirichlet(self, alpha: list[float], size: int) -> np.ndarray:
            draws = np.full((size, len(alpha)), 1 / len(alpha))
            draws[1] = np.nan
            return draws

        def integers(self, high: int, size: int) -> np.ndarray:
            return np.full(size, high - 1)

    w = draw_weights(1e-9, 3, 4, Underflowing())  # type: ignore[arg-type]
    assert w[1].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert w[0].tolist() == w[2].tolist() == [0.25] * 4


def test_alpha_moves_draws_to_the_corners() -> None:
    largest = [float(draw_weights(a, 2000, 3, np.random.default_rng(0)).amax(1).mean()) for a in (0.1, 1.0, 10.0)]
    assert largest[0] > 0.85 > largest[1] > 0.5 > largest[2]


def test_balanced_draws_share_the_objectives_alike_and_keep_the_distribution() -> None:
    drawn = balanced_weights(0.5, 7, 3, np.random.default_rng(0))
    assert drawn.shape == (7, 3)
    torch.testing.assert_close(drawn[:3].mean(0), torch.full((3,), 1 / 3))
    torch.testing.assert_close(drawn[3:6].mean(0), torch.full((3,), 1 / 3))
    assert sorted(drawn[0].tolist()) == sorted(drawn[2].tolist())
    assert sorted(drawn[0].tolist()) != sorted(drawn[3].tolist())
    many = balanced_weights(0.5, 30_000, 3, np.random.default_rng(1))
    plain = draw_weights(0.5, 30_000, 3, np.random.default_rng(2))
    torch.testing.assert_close(many.var(0), plain.var(0), atol=3e-3, rtol=0)


def test_draws_have_the_dirichlet_mean_and_variance() -> None:
    w = draw_weights(0.7, 40_000, 4, np.random.default_rng(3)).double()
    assert w.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    assert w.var(0).tolist() == pytest.approx([0.25 * 0.75 / (4 * 0.7 + 1)] * 4, rel=0.05)


# --- grids -----------------------------------------------------------------------------------------------------------


def test_two_objectives_are_evenly_spaced() -> None:
    expected = [[1 - i / 10, i / 10] for i in range(11)]
    assert np.allclose(grid(2).numpy(), expected, atol=1e-6)
    assert grid(2, 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("m", range(2, 9))
def test_grid_has_every_corner_once_and_lies_on_the_simplex(m: int) -> None:
    w = grid(m)
    assert w.shape == (11, m)
    assert (w >= 0).all()
    assert torch.allclose(w.sum(1), torch.ones(11), atol=1e-6)
    for j in range(m):
        assert int((w == torch.eye(m)[j]).all(1).sum()) == 1
    assert len({tuple(r) for r in w.tolist()}) == 11


def test_stored_sets() -> None:
    text = resources.files("hyperdpo").joinpath("reference_directions.json").read_text("utf-8")
    stored = json.loads(text)["directions"]
    assert set(stored) >= {f"{m}x11" for m in range(3, 9)}
    for m in range(3, 9):
        points = np.array(stored[f"{m}x11"])
        assert points.shape == (11, m)
        assert np.abs(points.sum(1) - 1).max() < 2e-6  # six digits are stored
        assert np.allclose(grid(m).numpy(), points, atol=1e-7)


def test_other_sizes_are_made_on_the_spot() -> None:
    w = energy_directions(3, 6)
    assert w.shape == (6, 3)
    assert np.allclose(w.sum(1), 1)
    assert {tuple(r) for r in np.eye(3).tolist()} <= {tuple(r) for r in w.tolist()}
    assert np.array_equal(w, energy_directions(3, 6))
    assert np.array_equal(grid(4, 4).numpy(), np.eye(4))


def test_a_grid_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def directions(m: int, points: int) -> np.ndarray:
        made.append(points)
        return np.full((points, m), 1 / m)

    monkeypatch.setattr("hyperdpo.weights.energy_directions", directions)
    first = grid(3, 97)
    first[0] = 7.0  # a copy: nobody else's grid changes
    assert torch.allclose(grid(3, 97), torch.full((97, 3), 1 / 3))
    assert made == [97]


def test_grid_of_one_objective_and_too_few_points() -> None:
    assert grid(1).tolist() == [[1.0]]
    with pytest.raises(WeightsError, match="over 5 objectives needs at least 5 points, one per corner; got 3"):
        grid(5, 3)
    with pytest.raises(WeightsError, match="at least"):
        grid(0)


# --- projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "steps"), [(1, 3), (2, 10), (3, 4), (4, 3), (5, 2), (3, 1)])
def test_a_lattice_is_every_multiple_of_its_step(m: int, steps: int) -> None:
    every = {c for c in itertools.product(range(steps + 1), repeat=m) if sum(c) == steps}
    found = lattice(m, steps)
    assert len(found) == lattice_size(m, steps) == len(every)
    assert {tuple(round(v * steps) for v in row) for row in found.tolist()} == every
    assert torch.allclose(found.sum(1), torch.ones(len(found)))


def test_a_lattice_grows_as_the_issue_counts_it() -> None:
    assert [lattice_size(m, 10) for m in range(2, 7)] == [11, 66, 286, 1001, 3003]
    with pytest.raises(WeightsError, match="at least 1 objective and 1 step; got 2 and 0"):
        lattice(2, 0)


def test_projection_by_hand() -> None:
    v = torch.tensor([[0.2, 0.8], [1.0, 1.0], [3.0, 0.0], [-1.0, -1.0], [0.5, -0.5]])
    expected = torch.tensor([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert torch.allclose(project(v), expected, atol=1e-6)


def nearest_by_faces(v: np.ndarray) -> np.ndarray:
    """Slow oracle: on each face of the simplex the nearest point of its affine hull; the best feasible one."""
    m, best, found = len(v), math.inf, v
    for size in range(1, m + 1):
        for face in itertools.combinations(range(m), size):
            w = np.zeros(m)
            index = list(face)
            w[index] = v[index] + (1 - v[index].sum()) / size
            if (w >= 0).all() and ((w - v) ** 2).sum() < best:
                best, found = ((w - v) ** 2).sum(), w
    return found


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_projection_is_the_nearest_point(values: list[float]) -> None:
    v = np.array(values)
    w = project(torch.tensor(values, dtype=torch.float64)).numpy()
    assert w.sum() == pytest.approx(1, abs=1e-9)
    assert (w >= 0).all()
    assert np.allclose(w, nearest_by_faces(v), atol=1e-8)
    candidates = np.random.default_rng(0).dirichlet([0.5] * len(v), 200)
    assert ((w - v) ** 2).sum() <= ((candidates - v) ** 2).sum(1).min() + 1e-9


# --- moving one slider -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "index", "value", "locked", "expected"),
    [
        ([50, 50], 0, 80, (), [80, 20]),
        ([20, 20, 60], 0, 60, (), [60, 10, 30]),  # the others keep their ratio 1 : 3
        ([100, 0, 0], 0, 40, (), [40, 30, 30]),  # nothing to be in proportion to: equal shares
        ([34, 33, 33], 0, 0, (), [0, 50, 50]),
        ([20, 30, 50], 0, 40, (2,), [40, 10, 50]),
        ([20, 30, 50], 0, 90, (2,), [50, 0, 50]),  # cut to what the lock leaves
        ([20, 30, 50], 0, 90, (1, 2), [20, 30, 50]),  # nothing is free
        ([20, 30, 50], 0, 40, (0,), [40, 23, 37]),  # its own lock does not stop the hand
        ([20, 30, 50], 1, -5, (), [29, 0, 71]),
        ([100], 0, 40, (), [100]),
    ],
)
def test_rebalance_by_hand(percent, index, value, locked, expected) -> None:
    assert rebalance(percent, index, value, locked) == expected


@st.composite
def sliders(draw: st.DrawFn) -> tuple[list[int], int, int, set[int]]:
    m = draw(st.integers(1, 8))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=m - 1, max_size=m - 1)))
    percent = [b - a for a, b in itertools.pairwise([0, *cuts, 100])]
    index = draw(st.integers(0, m - 1))
    return percent, index, draw(st.integers(-20, 120)), draw(st.sets(st.integers(0, m - 1)))


@given(sliders())
def test_rebalance_always_sums_to_100_and_respects_locks(case) -> None:
    percent, index, value, locked = case
    before = list(percent)
    after = rebalance(percent, index, value, locked)
    assert percent == before, "the input is left alone"
    assert sum(after) == 100
    assert all(0 <= p <= 100 for p in after)
    for i in locked - {index}:
        assert after[i] == percent[i]
    free = [i for i in range(len(percent)) if i != index and i not in locked]
    room = 100 - sum(percent[i] for i in locked - {index})
    assert after[index] == (max(0, min(value, room)) if free else room)
    for a, b in itertools.combinations(free, 2):  # order among the others is kept, up to the rounding of one
        if percent[a] >= percent[b]:
            assert after[a] >= after[b] - 1


@given(sliders())
def test_rebalance_to_the_same_value_changes_nothing(case) -> None:
    percent, index, _, locked = case
    assume(any(p for i, p in enumerate(percent) if i != index and i not in locked))
    assert rebalance(percent, index, percent[index], locked) == percent
