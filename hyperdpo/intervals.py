"""Bootstrap intervals over queries, in numpy alone: the names are also imported from `metrics`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its 95 % bootstrap interval and what it rests on."""

    mean: float
    low: float
    high: float
    queries: int
    skipped: int


BOOTSTRAP_DRAWS = 1000


def bootstrap_counts(queries: int, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> np.ndarray:
    """How often each query stands in each bootstrap sample, (draws, queries) float32

    Shared so comparisons are paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(queries, np.full(queries, 1 / queries), size=draws).astype(np.float32)


def bootstrap_means(per_query: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Bootstrap means (draws, L) of per-query values (queries, L); NaN entries are left out of their column's mean."""
    real = np.isfinite(per_query)
    total = counts @ np.where(real, per_query, 0.0).astype(np.float32)
    number = counts @ real.astype(np.float32)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = total / np.where(number > 0, number, np.nan)
    return means


def intervals(per_query: np.ndarray, counts: np.ndarray | None = None) -> list[Interval]:
    """One Interval per column of per-query values (queries, L); NaN entries are skipped and counted."""
    if counts is None:
        counts = bootstrap_counts(len(per_query))
    means = bootstrap_means(per_query, counts)
    empty = ~np.isfinite(means).any(0)  # a column without any value has no interval; nanpercentile would warn
    low, high = np.where(empty, np.nan, np.nanpercentile(np.where(empty, 0.0, means), [2.5, 97.5], axis=0))
    real = np.isfinite(per_query)
    number = real.sum(0)
    mean = np.where(real, per_query, 0.0).sum(0, dtype=np.float64) / np.where(number > 0, number, np.nan)
    return [
        Interval(float(mean[j]), float(low[j]), float(high[j]), int(number[j]), int((~real[:, j]).sum()))
        for j in range(per_query.shape[1])
    ]
