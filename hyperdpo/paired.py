"""Paired statistics of fronts: intervals over queries and over seeds, and a test for "better".

Queries and seeds are crossed: every seed's models are scored on the same test queries. So a bootstrap sample draws
queries once for all seeds and seeds once for all queries (the pigeonhole bootstrap of Owen 2007), and the same draws
serve every method, which pairs them. Drawing queries anew within each seed would average the noise of the test set away
over seeds that share it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyperdpo.errors import DataError
from hyperdpo.front import hypervolume, sparsity
from hyperdpo.intervals import BOOTSTRAP_DRAWS, bootstrap_counts, bootstrap_means

FIGURES = ("hypervolume", "main", "sparsity")
LEVEL = 95.0
MINIMISED = ("sparsity",)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with 95 % percentile intervals: over queries and seeds together, and over each alone.

    Intervals over one seed alone are None.
    """

    value: float
    interval: tuple[float, float] | None
    over_queries: tuple[float, float] | None
    over_seeds: tuple[float, float] | None
    each: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Verdict:
    """Whether ours is better than theirs, from paired bootstrap samples.

    Attributes:
        difference: ours - theirs, with its 95 % interval.
        ratio: ours / theirs, with its 95 % interval; NaN where theirs is 0.
        better: share of the samples in which ours is better, ties counted half.
        p: one-sided p-value of "ours is not better": (1 + samples in which it is not) / (1 + samples).
    """

    difference: float
    difference_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    better: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Samples:
    """The bootstrap samples that all methods of one comparison share.

    Attributes:
        queries: (draws, q) how often each query stands in each sample.
        seeds: (draws, S) how often each seed does.
    """

    queries: np.ndarray
    seeds: np.ndarray

    @classmethod
    def draw(cls, queries: int, seeds: int, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Samples:
        """Seeded: the same numbers give the same samples."""
        rng = np.random.default_rng([seed, 1])
        return cls(
            bootstrap_counts(queries, draws=draws, seed=seed),
            rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class Sampled:
    """The fronts of one method, one per seed, and what they become in each bootstrap sample.

    Attributes:
        per_query: (S, p, q, 1 + m) NDCG per query, NaN where a list has no positive label; main first.
        samples: shared with what it is compared with.
        reference: (m,) what hypervolume is measured from; empty is 0.
    """

    per_query: np.ndarray
    samples: Samples
    reference: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        seeds, _, queries, _ = self.per_query.shape
        wanted = (self.samples.seeds.shape[1], self.samples.queries.shape[1])
        if (seeds, queries) != wanted:
            raise DataError(
                f"A comparison is over {wanted[0]} seeds and {wanted[1]} queries; got fronts of {seeds} and {queries}: "
                "only fronts of the same seeds on the same queries are paired."
            )

    @cached_property
    def points(self) -> np.ndarray:
        """(S, p, 1 + m) mean NDCG of each seed's points."""
        real = np.isfinite(self.per_query)
        count = real.sum(2)
        total = np.where(real, self.per_query, 0.0).sum(2, dtype=np.float64)
        return np.asarray(total / np.where(count > 0, count, np.nan))

    @cached_property
    def sampled_points(self) -> np.ndarray:
        """(draws, S, p, 1 + m) the same over the queries of each sample."""
        seeds, p, _, columns = self.per_query.shape
        each = [bootstrap_means(point, self.samples.queries) for front in self.per_query for point in front]
        return np.stack(each, 1).reshape(-1, seeds, p, columns)

    @cached_property
    def figures(self) -> np.ndarray:
        """(S, 3) FIGURES of each seed's front."""
        return np.array([figures(front, self.reference) for front in self.points])

    @cached_property
    def sampled_figures(self) -> np.ndarray:
        """(draws, S, 3) FIGURES over the queries of each sample."""
        return np.array([[figures(f, self.reference) for f in fronts] for fronts in self.sampled_points])

    def drawn(self, figure: str) -> np.ndarray:
        """(draws,) a figure in each sample of queries and seeds."""
        return over_seeds(self.sampled_figures[..., FIGURES.index(figure)], self.samples.seeds)

    def value(self, figure: str) -> float:
        """A figure's mean over seeds."""
        return float(self.figures[:, FIGURES.index(figure)].mean())

    def estimate(self, figure: str) -> Estimate:
        """A figure's mean over seeds with its intervals."""
        i = FIGURES.index(figure)
        each, drawn = self.figures[:, i], self.sampled_figures[..., i]
        several = len(each) > 1
        return Estimate(
            float(each.mean()),
            percentiles(self.drawn(figure)),
            percentiles(drawn.mean(1)),
            percentiles(over_seeds(np.broadcast_to(each, drawn.shape), self.samples.seeds)) if several else None,
            tuple(map(float, each)),
        )

    @property
    def main_std(self) -> float:
        """Standard deviation of the main NDCG over the points, as in the paper's Table 1; mean over seeds."""
        return float(self.points[..., 0].std(1).mean())

    def against(self, theirs: Sampled, figure: str = "hypervolume") -> Verdict:
        """The paired test of "ours is better than theirs". Raises DataError where they do not share their samples."""
        if self.samples is not theirs.samples:
            raise DataError("A paired test needs the same bootstrap samples for both; build both from one Samples.")
        return paired_test(
            self.drawn(figure), theirs.drawn(figure), self.value(figure), theirs.value(figure),
            minimised=figure in MINIMISED,
        )  # fmt: skip


def figures(points: np.ndarray, reference: tuple[float, ...] = ()) -> np.ndarray:
    """FIGURES of one front (p, 1 + m) above `reference` (0 if empty); NaN in all where an objective has no value."""
    if not np.isfinite(points).all():
        return np.full(len(FIGURES), np.nan)
    auxiliary = points[:, 1:]
    return np.array([hypervolume(auxiliary, np.array(reference or 0.0)), points[:, 0].mean(), sparsity(auxiliary)])


def over_seeds(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(draws,) mean of `values` (draws, S) over the seeds of each sample `counts` (draws, S)."""
    return np.asarray((values * counts).sum(1) / counts.sum(1))


def percentiles(values: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile interval; samples without a value are left out, None if no sample has one."""
    real = values[np.isfinite(values)]
    if not len(real):
        return None
    low, high = np.percentile(real, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)


def paired_test(
    ours: np.ndarray, theirs: np.ndarray, our_value: float, their_value: float, *, minimised: bool = False
) -> Verdict:
    """The test of two figures in the same bootstrap samples (draws,); `minimised` where lower is better."""
    real = np.isfinite(ours) & np.isfinite(theirs)
    difference = ours[real] - theirs[real]
    ahead = -difference if minimised else difference
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(theirs[real] != 0, ours[real] / theirs[real], np.nan)
    nothing = (math.nan, math.nan)
    return Verdict(
        our_value - their_value,
        percentiles(difference) or nothing,
        our_value / their_value if their_value else math.nan,
        percentiles(ratios) or nothing,
        float((ahead > 0).mean() + (ahead == 0).mean() / 2) if len(ahead) else math.nan,
        float((1 + (ahead <= 0).sum()) / (1 + len(ahead))),
    )


def same_weight_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over the points of the Euclidean distance between the points of the same w; (..., p, m) -> (...)."""
    return np.asarray(np.linalg.norm(a - b, axis=-1).mean(-1))


def front_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Averaged Hausdorff distance (Schuetze et al. 2012, p = 1) between fronts (..., p, m), whatever their w.

    The larger of the two mean distances from a point to the nearest point of the other front.
    """
    apart = np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], axis=-1)
    return np.asarray(np.maximum(apart.min(-1).mean(-1), apart.min(-2).mean(-1)))
