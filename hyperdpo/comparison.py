"""Comparing fronts measured on the same terms: hypervolume with its interval, who is better, who owns which stretch.

Numpy alone, so that a page can compare stored runs without loading torch. Intervals are bootstraps over queries; the
same samples serve every front, so that comparisons are paired (issue 3, "Fair comparison as a tool").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperdpo.errors import DataError
from hyperdpo.front import ParetoFront, hypervolume, non_dominated
from hyperdpo.intervals import Interval, bootstrap_means

SURE = 0.95  # share of the bootstrap samples that must agree before a difference is called one


def resampled(front: ParetoFront, counts: np.ndarray) -> np.ndarray:
    """(draws, p, 1 + m) NDCG of every point in every bootstrap sample of `counts` (draws, q).

    Raises DataError where the front was stored without per-query figures, or for another number of queries.
    """
    if front.per_query is None:
        raise DataError(
            f"Front {front.name!r} of {front.run or 'this run'} has no per-query figures; measure the run again: "
            "hyperdpo evaluate RUN --save"
        )
    if front.per_query.shape[1] != counts.shape[1]:
        raise DataError(
            f"Front {front.name!r} was measured on {front.per_query.shape[1]} queries, the comparison is over "
            f"{counts.shape[1]}; fronts are compared on the same queries only."
        )
    return np.stack([bootstrap_means(point, counts) for point in front.per_query], 1)


def hypervolume_draws(draws: np.ndarray) -> np.ndarray:
    """Hypervolume in every bootstrap sample of `resampled` (draws, p, 1 + m), from 0 over the m objectives; (draws,).

    NaN in a sample where some objective has no positive label in any list that was drawn.
    """
    out = np.full(len(draws), np.nan)
    for i, values in enumerate(draws[:, :, 1:]):
        if np.isfinite(values).all():
            out[i] = hypervolume(values)
    return out


def interval(value: float, draws: np.ndarray, queries: int) -> Interval:
    """`value` with the 95 % percentile interval of its bootstrap `draws`; samples without a value are left out."""
    real = draws[np.isfinite(draws)]
    low, high = np.percentile(real, [2.5, 97.5]) if len(real) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), queries, len(draws) - len(real))


@dataclass(frozen=True)
class Contribution:
    """What one method adds to the joint front of all methods compared.

    Attributes:
        points: how many of its points no other point of any method dominates, and of how many.
        exclusive: share of the joint hypervolume that would be lost without the method, in [0, 1].
    """

    points: int
    of: int
    exclusive: float


def contributions(values: Sequence[np.ndarray]) -> list[Contribution]:
    """The contribution of each method to the joint non-dominated front; `values` are their points (p_i, m).

    Equal points of two methods count for both and are exclusive to neither. Raises DataError for NaN.
    """
    owner = np.concatenate([np.full(len(v), i) for i, v in enumerate(values)])
    everything = np.concatenate(list(values))
    on_front = non_dominated(everything)
    whole = hypervolume(everything)
    out = []
    for i, own in enumerate(values):
        rest = everything[owner != i]
        without = hypervolume(rest) if len(rest) else 0.0
        lost = 1 - without / whole if whole > 0 else 0.0
        out.append(Contribution(int(on_front[owner == i].sum()), len(own), max(0.0, lost)))
    return out


@dataclass(frozen=True, eq=False)
class Stretches:
    """Who gives most of y at each level of x, in the plane of two objectives.

    Attributes:
        edges: (s + 1,) levels of x between which one method owns the front; the ends are those of the joint front.
        owner: (s,) index of the method that gives most of y there.
        sure: (s,) share of the bootstrap samples that say the same, or NaN where there are none.
    """

    edges: np.ndarray
    owner: np.ndarray
    sure: np.ndarray

    def share(self, method: int, *, only_sure: bool = False) -> float:
        """The share of the joint front's length along x that a method owns; 0 for a front of one point."""
        length = np.diff(self.edges)
        mine = (self.owner == method) & ((self.sure >= SURE) if only_sure else True)
        return float(length[mine].sum() / length.sum()) if length.sum() > 0 else 0.0


def stretches(values: Sequence[np.ndarray], draws: Sequence[np.ndarray | None] = (), *, levels: int = 80) -> Stretches:
    """Which method owns which stretch of the joint front in a plane.

    At a level t of x each method gives the most y among its points with x >= t; the owner is who gives most. With
    `draws` (d, p_i, 2), the share of the samples in which it is the owner by the same rule tells how sure that is.

    Args:
        values: points (p_i, 2) of (x, y) of each method; rows with NaN are left out.
        draws: the same points in each bootstrap sample, or None for a method without per-query figures.
    """
    finite = [v[np.isfinite(v).all(1)] for v in values]
    everything = np.concatenate(finite)
    if not len(everything):
        raise DataError("No point has both objectives; choose other axes.")
    joint = everything[non_dominated(everything)]
    low, high = float(joint[:, 0].min()), float(joint[:, 0].max())
    # The staircase only steps at points, so that the ends of every stretch are exact; the rest is for the samples.
    steps = np.concatenate([np.linspace(low, high, levels + 1), everything[:, 0]])
    edges = np.unique(steps[(steps >= low) & (steps <= high)])
    middle = (edges[:-1] + edges[1:]) / 2 if len(edges) > 1 else edges
    owner = np.stack([_most(v, middle) for v in finite]).argmax(0)
    sure = _agreement(owner, draws, middle)
    if len(edges) == 1:
        edges = np.array([low, high])
    return Stretches(edges, owner, sure)


def _most(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The most y among points (..., p, 2) with x >= each level, (..., len(at)); -inf where there is none."""
    x, y = points[..., 0], points[..., 1]
    reached = x[..., None, :] >= at[:, None]
    best: np.ndarray = np.where(reached, y[..., None, :], -np.inf).max(-1, initial=-np.inf)
    return best


def _agreement(owner: np.ndarray, draws: Sequence[np.ndarray | None], at: np.ndarray) -> np.ndarray:
    known = [d for d in draws if d is not None]
    if not draws or len(known) < len(draws):
        return np.full(len(at), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reach = np.stack([_most(np.nan_to_num(d, nan=-np.inf), at) for d in known])  # (methods, draws, levels)
    best = reach.max(0)
    own = np.take_along_axis(reach, owner[None, None, :].repeat(reach.shape[1], 1), 0)[0]
    # A tie, as between a front and its twin, is nobody's: the owner must lead every other.
    ahead = (reach < own[None]).sum(0) == len(known) - 1
    agreed: np.ndarray = (ahead & (own == best) & np.isfinite(own)).mean(0)
    return agreed
