"""Comparing fronts: paired bootstraps of the hypervolume, contributions, and who owns which stretch."""

from __future__ import annotations

import numpy as np
import pytest

from hyperdpo.comparison import (
    contributions,
    hypervolume_draws,
    interval,
    resampled,
    stretches,
)
from hyperdpo.errors import DataError
from hyperdpo.front import ParetoFront, differing_terms, hypervolume
from hyperdpo.intervals import bootstrap_counts


def front(per_query: np.ndarray | None, **more: object) -> ParetoFront:
    """A front of two objectives with these per-query figures (p, q, 3)."""
    ndcg = np.nanmean(per_query, 1) if per_query is not None else np.full((2, 3), 0.5)
    weights = np.tile([0.5, 0.5], (len(ndcg), 1))
    fields = {"scale": 1.0, "k": 10, "split": "test", "beta": (1.0, 1.0), "data": "d" * 64} | more
    name, method = str(fields.pop("name", "a")), str(fields.pop("method", "hyperdpo"))
    return ParetoFront(
        name, method, "main", ("x", "y"), weights, ndcg=ndcg, per_query=per_query, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def test_resampled_is_the_mean_over_the_drawn_queries() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((2, 5, 3))
    values[0, 1, 2] = np.nan
    counts = bootstrap_counts(5, draws=20)
    drawn = resampled(front(values), counts)
    assert drawn.shape == (20, 2, 3)
    for d in range(20):
        picked = np.repeat(np.arange(5), counts[d].astype(int))
        assert drawn[d] == pytest.approx(np.nanmean(values[:, picked], 1), abs=1e-6, nan_ok=True)


def test_hypervolume_draws_are_hypervolumes_without_the_main_objective() -> None:
    drawn = np.random.default_rng(1).random((4, 3, 3))
    drawn[2, 1, 1] = np.nan
    found = hypervolume_draws(drawn)
    assert np.isnan(found).tolist() == [False, False, True, False]
    assert found[0] == pytest.approx(hypervolume(drawn[0][:, 1:]))


def test_a_front_moved_by_a_constant_is_better_in_every_sample_however_noisy_the_queries() -> None:
    rng = np.random.default_rng(2)
    values = rng.random((3, 30, 3))
    counts = bootstrap_counts(30, draws=200)
    a, b = (hypervolume_draws(resampled(front(v), counts)) for v in (values + 0.01, values))
    paired = interval(0.0, a - b, 30)
    assert paired.low > 0
    alone = np.percentile(a, 2.5), np.percentile(b, 97.5)
    assert alone[0] < alone[1], "unpaired, their intervals overlap"


def test_interval_leaves_samples_without_a_value_out_and_counts_them() -> None:
    found = interval(0.5, np.array([0.4, np.nan, 0.6]), 7)
    assert (found.queries, found.skipped) == (7, 1)
    assert (found.low, found.high) == pytest.approx((0.405, 0.595)), "2.5 % of the way from either end"
    assert np.isnan(interval(0.5, np.array([np.nan]), 7).low)


def test_no_per_query_figures_and_other_queries_are_refused() -> None:
    with pytest.raises(DataError, match="no per-query figures"):
        resampled(front(None), bootstrap_counts(5, draws=2))
    with pytest.raises(DataError, match="measured on 5 queries, the comparison is over 6"):
        resampled(front(np.ones((1, 5, 3))), bootstrap_counts(6, draws=2))


def test_contributions_by_hand() -> None:
    first = np.array([[0.2, 1.0], [0.6, 0.6], [0.1, 0.1]])
    second = np.array([[1.0, 0.2]])
    a, b = contributions([first, second])
    # Boxes: .2 x 1, .6 x .6 and 1 x .2; the union is .2*1 + .4*.6 + .4*.2 = .52
    assert (a.points, a.of, b.points, b.of) == (2, 3, 1, 1)
    assert a.exclusive == pytest.approx((0.52 - 0.2) / 0.52)
    assert b.exclusive == pytest.approx(0.4 * 0.2 / 0.52)


def test_twins_hold_their_points_together_and_are_exclusive_in_nothing() -> None:
    values = np.array([[0.2, 0.9], [0.9, 0.2]])
    assert [(c.points, c.exclusive) for c in contributions([values, values])] == [(2, 0.0), (2, 0.0)]


def test_stretches_by_hand() -> None:
    first, second = np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([[0.3, 0.6], [1.0, 0.1]])
    found = stretches([first, second], levels=10)
    assert found.edges[[0, -1]] == pytest.approx([0.0, 1.0])
    middle = (found.edges[:-1] + found.edges[1:]) / 2
    # Up to .3 the second gives .6, to .5 the first .5, then the second .1; at x just above 0 the first's best is .5.
    assert found.owner.tolist() == [1 if t < 0.3 or t > 0.5 else 0 for t in middle]
    assert found.share(0) == pytest.approx(0.2)
    assert found.share(1) == pytest.approx(0.8)
    assert np.isnan(found.sure).all()
    assert found.share(1, only_sure=True) == 0


def test_stretches_agree_with_a_slow_obvious_version() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = [rng.random((int(rng.integers(1, 6)), 2)).round(1) for _ in range(3)]
        found = stretches(values, levels=7)
        for left, right, owner in zip(found.edges[:-1], found.edges[1:], found.owner, strict=True):
            t = (left + right) / 2
            most = [max((y for x, y in v if x >= t), default=-1.0) for v in values]
            assert most[owner] == max(most)


def test_a_lead_is_sure_only_where_nearly_every_sample_has_it() -> None:
    first, second = np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([[0.0, 0.9], [0.9, 0.5]])
    steady = [np.repeat(v[None], 50, 0) for v in (first, second)]
    assert stretches([first, second], steady).share(0, only_sure=True) == pytest.approx(0.1), "a tie at .5 up to .9"
    shaken = [steady[0], steady[1].copy()]
    shaken[1][:10, 1, 0] = 1.1  # in a fifth of the samples the second reaches further
    found = stretches([first, second], shaken)
    assert found.share(0, only_sure=True) == 0
    assert found.sure[-1] == pytest.approx(0.8)


def test_one_point_and_no_point() -> None:
    found = stretches([np.array([[0.5, 0.5]]), np.array([[0.4, 0.4]])])
    assert found.owner.tolist() == [0]
    assert found.share(0) == 0
    with pytest.raises(DataError, match="No point has both"):
        stretches([np.array([[np.nan, 0.5]])])


def test_every_term_that_differs_is_named_but_none_that_cannot_matter() -> None:
    a = front(None)
    assert differing_terms(a, front(None, name="b")) == ()
    other = front(None, k=5, split="train", scale=2.0, beta=(2.0, 2.0), data="e" * 64)
    assert differing_terms(a, other) == ("data", "split", "k", "scale", "beta")
    assert differing_terms(a, front(None, method="base", scale=2.0, beta=(2.0, 2.0))) == ()
    assert differing_terms(a, front(None, method="oracle", beta=(2.0, 2.0))) == ("beta",)
    assert differing_terms(a, front(None, beta=())) == ()
