"""Finding (w, c): against brute force, and what must hold whatever is asked."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.finding import (
    ALL,
    COARSE_SCALES,
    Aim,
    Limit,
    Question,
    Search,
    aim_at,
    aim_near,
    coarse_weights,
    kept_share,
    knee,
    paired_change,
    parse_limit,
    plane_front,
    spot,
    violation,
)
from hyperdpo.intervals import bootstrap_counts

NAMES = ("main", "a", "b", "d")
BASE = np.array([0.8, 0.3, 0.4, 0.5])


def world(weights: np.ndarray, scales: np.ndarray, curve: float = 0.5) -> np.ndarray:
    """Objectives that gain by attention with falling returns; the main one loses the bolder c is. (p, 4)."""
    bold = 1 / scales[:, None]
    gain = 0.3 * weights**curve * bold / (0.5 + bold)
    main = 0.8 - 0.1 * bold / (1 + bold) * (0.4 + (weights * np.array([1.0, 0.6, 0.2])).sum(1, keepdims=True))
    return np.concatenate([main, BASE[1:] + gain - 0.1 * bold / (1 + bold)], 1)


def fresh(m: int = 3) -> Search:
    def measure(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        padded = np.concatenate([weights, np.zeros((len(weights), 3 - m))], 1)
        return world(padded, scales)[:, : 1 + m]

    return Search(measure, m).coarse(coarse_weights(m), COARSE_SCALES)


def everywhere(m: int = 3, steps: int = 25) -> np.ndarray:
    """Values on a lattice far finer than the search's first one."""
    rows = [w for w in itertools.product(range(steps + 1), repeat=m) if sum(w) == steps]
    scales = np.exp(np.linspace(math.log(0.1), math.log(10), 80))
    weights = np.repeat(np.array(rows) / steps, len(scales), 0)
    padded = np.concatenate([weights, np.zeros((len(weights), 3 - m))], 1)
    return world(padded, np.tile(scales, len(rows)))[:, : 1 + m]


ALL_VALUES = everywhere()


@pytest.mark.parametrize(
    ("goal", "limits"),
    [
        ("a", []),
        ("a", [Limit("main", 0.97)]),
        ("b", [Limit("main", 0.96), Limit("a", 1.1)]),
        ("d", [Limit("main", 0.75, relative=False), Limit("a", 1.2), Limit("b", 1.1)]),
        ("main", [Limit("a", 1.3)]),
        (ALL, [Limit("main", 0.95)]),
    ],
)
def test_nothing_on_a_far_finer_lattice_is_better(goal: str, limits: list[Limit]) -> None:
    aim = aim_at(Question(goal, tuple(limits)), NAMES, BASE)
    search = fresh()
    before = len(search.known)
    found = aim.judged(search.look([search.solve(aim)]))[0]
    best = aim.judged(ALL_VALUES[aim.order(ALL_VALUES)[:1]])[0]
    assert violation(best[None])[0] == 0
    assert violation(found[None])[0] == 0
    assert found[0] > best[0] - 2e-3
    assert len(search.known) - before < 400, "a search that tries everything would find it too"
    assert fresh().solve(aim) == Search(search.measure, 3, known=dict(list(search.known.items())[:before])).solve(aim)


@settings(max_examples=20)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.8, 1.6)), max_size=3, unique_by=lambda t: t[0]),
    st.floats(0.001, 0.2),
)
def test_limits_are_kept_wherever_they_can_be_and_less_to_ask_never_gives_less(
    goal: str, limits: list[tuple[str, float]], by: float
) -> None:
    search = START.fork()
    question = Question(goal, tuple(Limit(n, v) for n, v in limits))
    aim = aim_at(question, NAMES, BASE)
    found = aim.judged(search.look([search.solve(aim)]))
    best = aim.judged(ALL_VALUES[aim.order(ALL_VALUES)[:1]])
    if violation(best)[0] == 0:
        assert violation(found)[0] == 0
    else:
        assert violation(found)[0] <= violation(best)[0] + 2e-3, "the point that violates least"
    looser = Question(goal, tuple(Limit(n, max(0.0, v - by)) for n, v in limits))
    eased = aim_at(looser, NAMES, BASE)
    then = eased.judged(search.look([search.solve(eased)]))
    if violation(found)[0] == 0:
        assert violation(then)[0] == 0
        assert then[0, 0] >= found[0, 0]


START = fresh()


def test_one_objective_and_a_model_for_each_of_a_few_weights() -> None:
    aim = aim_at(Question("a", (Limit("main", 0.97),)), NAMES[:2], BASE[:2])
    search = fresh(1)
    at = search.solve(aim)
    assert at.parts == (100,)
    line = everywhere(1, 1)
    found, best = (aim.judged(values)[0] for values in (search.look([at]), line[aim.order(line)[:1]]))
    assert found[1] >= 0
    assert found[0] > best[0] - 1e-3
    only = np.array([[1.0, 0, 0], [0.2, 0.3, 0.5], [0, 0, 1]])
    few = Search(lambda w, c: world(w, c), 3, only).coarse(only)
    at = few.solve(aim_at(Question("b", (Limit("main", 0.96),)), NAMES, BASE))
    assert {s.parts for s in few.known} == {(100, 0, 0), (20, 30, 50), (0, 0, 100)}
    assert at.parts == (20, 30, 50)
    assert at.scale not in COARSE_SCALES


def test_a_target_on_the_front_is_found_and_one_beyond_it_is_come_near_to() -> None:
    true = world(np.array([[0.31, 0.47, 0.22]]), np.array([1.37]))[0]
    aim = aim_near(np.array([math.nan, true[1], true[2], true[3]]), np.ones(4))
    at = START.fork().solve(aim)
    assert world(at.weights[None], np.array([at.scale]))[0, 1:] == pytest.approx(true[1:], abs=4e-3)
    beyond = np.array([math.nan, 0.9, 0.9, math.nan])
    search = START.fork()
    got = search.look([search.solve(aim_near(beyond, np.ones(4)))])[0]
    nearest = np.sqrt(((ALL_VALUES[:, 1:3] - 0.9) ** 2).sum(1)).min()
    assert np.sqrt(((got[1:3] - 0.9) ** 2).sum()) <= nearest + 2e-3
    with pytest.raises(ConfigError, match="at least one objective"):
        aim_near(np.full(4, math.nan), np.ones(4))


def test_a_margin_keeps_so_many_standard_errors_away() -> None:
    def measure(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        values = world(weights, scales)
        return np.concatenate([values, np.full_like(values, 0.004)], 1)

    for sure, margin in ((0.5, 0.0), (0.95, 1.6448536)):
        search = Search(measure, 3).coarse(coarse_weights(3))
        got = search.look([search.solve(aim_at(Question("a", (Limit("main", 0.97),), sure), NAMES, BASE))])[0]
        assert 0 <= got[0] - 0.97 * 0.8 - margin * 0.004 < 1e-3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7).filter(lambda w: sum(w) > 1e-3), st.floats(0.01, 50))
def test_a_spot_is_the_nearest_of_the_lattice(weights: list[float], scale: float) -> None:
    w = np.array(weights) / sum(weights)
    at = spot(w, scale)
    assert sum(at.parts) == 100
    assert min(at.parts) >= 0
    assert np.abs(at.weights - w).max() <= 0.01 + 1e-9
    assert at.scale == pytest.approx(min(max(scale, 0.1), 10), rel=5e-3)
    assert spot(at.weights, at.scale) == at


def test_limits_are_read_and_refused_with_a_sentence() -> None:
    assert parse_limit("relevance=99%") == Limit("relevance", 0.99)
    assert parse_limit("quality=+2%") == Limit("quality", 1.02)
    assert parse_limit("x = y=-1.5%") == Limit("x = y", 0.985)
    assert parse_limit("clicks=.45") == Limit("clicks", 0.45, relative=False)
    for wrong in ("relevance", "=99%", "a=b%", "a=+2", "a=nan", "a=inf%", ""):
        with pytest.raises(ConfigError, match="A limit is NAME=99%"):
            parse_limit(wrong)
    with pytest.raises(ConfigError, match="relevance=99%"):
        parse_limit("relevance=99")
    with pytest.raises(ConfigError, match=r"0 or more; got -0\.1"):
        parse_limit("a=-110%")
    with pytest.raises(ConfigError, match=r"no objective 'aa'.*\n.*'b' has two limits"):
        Question("aa", (Limit("b", 1), Limit("b", 0.9))).checked(NAMES)
    with pytest.raises(ConfigError, match=r"from 0\.5 to below 1; got 1"):
        Question("a", sure=1)
    with pytest.raises(DataError, match="Nothing is known of b"):
        aim_at(Question("a", (Limit("b", 1),)), NAMES, np.array([1, 1, np.nan, 1.0]))


def test_the_knee_is_where_a_front_turns() -> None:
    bent = np.array([[0.0, 1.0], [0.5, 0.95], [0.9, 0.9], [0.95, 0.4], [1.0, 0.0], [0.2, 0.2], [np.nan, 2.0]])
    assert plane_front(bent) == [0, 1, 2, 3, 4]
    for order in itertools.permutations(range(7), 7):
        if order[0] in (0, 6):
            assert order[knee(bent[list(order)]) or 0] == 2
    assert knee(bent * [10, 0.1] + 3) == 2, "whatever the axes' units"
    straight = np.linspace([0, 1], [1, 0], 7)
    for none in (straight, bent[:2], bent[:1], bent[:0], np.full((4, 2), 0.5), np.array([[1, 1], [1, 2], [1, 3.0]])):
        assert knee(none) is None
    assert plane_front(np.array([[1, 1], [1, 1], [0, 1.0]])) == [0]


def test_how_often_a_limit_is_kept_is_counted_over_the_samples() -> None:
    rng = np.random.default_rng(0)
    base, now = rng.uniform(0.3, 1, 50), rng.uniform(0.3, 1, 50)
    base[3] = now[3] = np.nan
    counts = bootstrap_counts(50, draws=300)
    real = np.isfinite(base)
    ratio = (counts[:, real] @ now[real]) / (counts[:, real] @ base[real])
    for limit in (0.9, 0.98, 1.0, 1.1):
        expected = float((ratio >= limit).mean())
        assert kept_share(now, base, Limit("x", limit), counts) == pytest.approx(expected, abs=0.004)
    assert kept_share(base, base, Limit("x", 1.0), counts) == 1
    absolute = (counts[:, real] @ now[real]) / counts[:, real].sum(1)
    assert kept_share(now, base, Limit("x", 0.64, relative=False), counts) == float((absolute >= 0.64).mean())
    assert math.isnan(kept_share(np.full(50, np.nan), base, Limit("x", 1.0), counts))
    change = paired_change(now[:, None], base[:, None], counts)[0]
    assert (change.queries, change.skipped) == (49, 1)
    assert change.mean == pytest.approx(float((now - base)[real].mean()))


def test_of_equally_good_points_the_same_is_chosen_whatever_was_asked_before() -> None:
    indifferent = Aim(lambda values: np.zeros(len(values)))
    first, second = START.fork(), START.fork()
    second.known = dict(reversed(second.known.items()))
    assert first.solve(indifferent) == second.solve(indifferent)
