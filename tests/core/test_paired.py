"""Paired statistics of fronts against slow, obvious versions."""

from __future__ import annotations

import numpy as np
import pytest

from hyperdpo.errors import DataError
from hyperdpo.front import hypervolume, sparsity
from hyperdpo.paired import FIGURES, Sampled, Samples, figures, front_distance, paired_test, same_weight_distance


def fronts(seeds: int = 3, p: int = 4, queries: int = 12, m: int = 2, seed: int = 0, better: float = 0.0) -> np.ndarray:
    """(S, p, q, 1 + m) random NDCG; a query without a positive label in objective 1 is NaN for every point."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.2, 0.8, (seeds, p, queries, 1 + m)) + better
    values[:, :, 2, 1] = np.nan
    return values


def test_a_sample_is_queries_drawn_once_and_seeds_drawn_once() -> None:
    values = fronts()
    samples = Samples.draw(12, 3, draws=40, seed=5)
    sampled = Sampled(values, samples)
    expected = []
    for counts, seeds in zip(samples.queries.astype(int), samples.seeds.astype(int), strict=True):
        pick = np.repeat(np.arange(12), counts)
        per_seed = []
        for front in values:
            points = np.array([[np.nanmean(point[pick, j]) for j in range(3)] for point in front])
            per_seed.append([hypervolume(points[:, 1:]), points[:, 0].mean(), sparsity(points[:, 1:])])
        expected.append(np.repeat(per_seed, seeds, axis=0).mean(0))
    for i, name in enumerate(FIGURES):
        np.testing.assert_allclose(sampled.drawn(name), np.array(expected)[:, i], rtol=2e-5, atol=1e-7)
    low, high = np.percentile(np.array(expected)[:, 0], [2.5, 97.5])
    assert sampled.estimate("hypervolume").interval == pytest.approx((low, high), rel=1e-4)


def test_every_sample_draws_as_many_queries_and_seeds_as_there_are() -> None:
    samples = Samples.draw(12, 3, draws=25)
    assert (samples.queries.sum(1) == 12).all()
    assert (samples.seeds.sum(1) == 3).all()
    assert len({tuple(row) for row in samples.seeds.astype(int).tolist()}) > 3
    again = Samples.draw(12, 3, draws=25)
    assert (samples.queries == again.queries).all()
    assert (samples.seeds == again.seeds).all()


def test_values_are_means_over_seeds_of_each_seeds_front() -> None:
    values = fronts()
    sampled = Sampled(values, Samples.draw(12, 3, draws=5))
    each = [hypervolume(np.nanmean(front, axis=1)[:, 1:]) for front in values]
    estimate = sampled.estimate("hypervolume")
    assert estimate.value == pytest.approx(np.mean(each))
    assert estimate.each == pytest.approx(each)
    assert sampled.main_std == pytest.approx(np.mean([front[..., 0].mean(1).std() for front in values]))


def test_intervals_over_queries_and_seeds_are_wider_than_over_either() -> None:
    rng = np.random.default_rng(1)
    values = fronts(seeds=6, queries=40) + rng.normal(0, 0.08, (6, 1, 1, 1))
    estimate = Sampled(values, Samples.draw(40, 6, draws=400)).estimate("main")
    assert estimate.interval is not None
    assert estimate.over_queries is not None
    assert estimate.over_seeds is not None
    width = {n: np.ptp(i) for n, i in vars(estimate).items() if n.startswith(("interval", "over"))}
    assert width["interval"] > max(width["over_queries"], width["over_seeds"])


def test_one_seed_has_no_interval_over_seeds() -> None:
    estimate = Sampled(fronts(seeds=1), Samples.draw(12, 1, draws=50)).estimate("main")
    assert estimate.over_seeds is None
    assert estimate.interval == estimate.over_queries


def test_the_paired_test_knows_a_front_from_its_better_twin() -> None:
    samples = Samples.draw(12, 3, draws=200)
    worse, better = Sampled(fronts(), samples), Sampled(fronts(better=0.01), samples)
    test = better.against(worse)
    assert test.difference > 0
    assert test.difference_interval[0] > 0  # pairing: the gain is far smaller than the spread over queries
    assert test.better == 1.0
    assert test.p == pytest.approx(1 / 201)
    assert test.ratio > 1
    back = worse.against(better)
    assert (back.better, back.p) == (0.0, 1.0)
    assert back.difference == pytest.approx(-test.difference)
    assert back.difference_interval == pytest.approx((-test.difference_interval[1], -test.difference_interval[0]))


def test_a_front_is_not_better_than_itself() -> None:
    samples = Samples.draw(12, 3, draws=50)
    twin = Sampled(fronts(), samples)
    test = twin.against(Sampled(fronts(), samples))
    assert (test.difference, test.better, test.p, test.ratio) == (0.0, 0.5, 1.0, 1.0)


def test_p_is_uniform_enough_where_nothing_differs() -> None:
    """Fronts of one distribution: about a tenth of the tests call one better at 0.1, not a half and not none."""
    called = []
    for trial in range(60):
        samples = Samples.draw(25, 1, draws=99, seed=trial)
        a, b = (Sampled(fronts(1, 3, 25, seed=2 * trial + i), samples) for i in range(2))
        called.append(a.against(b, "main").p <= 0.1)
    assert 1 <= sum(called) <= 15


def test_lower_sparsity_is_better() -> None:
    ours, theirs = np.array([0.1, 0.2, 0.1]), np.array([0.3, 0.1, 0.4])
    assert paired_test(ours, theirs, 0.1, 0.3, minimised=True).better == pytest.approx(2 / 3)
    assert paired_test(ours, theirs, 0.1, 0.3).better == pytest.approx(1 / 3)


def test_samples_without_a_value_are_left_out_and_a_ratio_to_nothing_is_nan() -> None:
    test = paired_test(np.array([1.0, np.nan, 3.0]), np.array([0.5, 1.0, np.nan]), 1.0, 0.0)
    assert test.difference_interval == (0.5, 0.5)
    assert np.isnan(test.ratio)
    empty = fronts(1)
    empty[..., 1] = np.nan
    assert np.isnan(figures(np.array([[0.5, np.nan, 0.5]]))).all()
    assert Sampled(empty, Samples.draw(12, 1, draws=5)).estimate("hypervolume").interval is None


def test_what_is_not_paired_is_refused() -> None:
    samples = Samples.draw(12, 3, draws=5)
    with pytest.raises(DataError, match="over 3 seeds and 12 queries; got fronts of 2 and 12"):
        Sampled(fronts(seeds=2), samples)
    with pytest.raises(DataError, match="same bootstrap samples"):
        Sampled(fronts(), samples).against(Sampled(fronts(), Samples.draw(12, 3, draws=5, seed=1)))


def test_hypervolume_is_measured_from_the_reference() -> None:
    points = np.array([[0.5, 0.6, 0.8]])
    assert figures(points)[0] == pytest.approx(0.48)
    assert figures(points, (0.1, 0.3))[0] == pytest.approx(0.25)


def test_distances_between_fronts_by_hand() -> None:
    a = np.array([[0.0, 1.0], [1.0, 0.0]])
    b = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert same_weight_distance(a, b) == pytest.approx(0.5)
    assert same_weight_distance(a, a[::-1]) == pytest.approx(np.sqrt(2))
    assert front_distance(a, a[::-1]) == 0.0
    assert front_distance(a, b) == pytest.approx(0.5)
    more = np.vstack([a, [[0.5, 0.5]]])
    assert front_distance(a, more) == pytest.approx(np.sqrt(0.5) / 3)
    stacked = front_distance(np.stack([a, a]), np.stack([b, a]))
    assert stacked == pytest.approx([0.5, 0.0])
