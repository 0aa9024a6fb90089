"""Finding a trade-off: a goal and limits over (w, c), where a front turns, and what bootstrap samples say of a choice.

Pure: a measuring function or arrays in, choices out, no model, no data, nothing random. Source: issue 5.

Shapes: m objectives; values (p, 1 + m), main first, higher is better; weights (p, m) on the simplex; scales (p,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.intervals import Interval, bootstrap_means, intervals

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""weights (p, m) and scales (p,) to the mean values (p, 1 + m), after which the standard errors of their changes from
the base may stand."""

ALL = "all"  # a goal: the mean of all objectives, each in units of the base's value
LOWEST_SCALE, HIGHEST_SCALE = 0.1, 10.0  # of c, as far as the dashboard's slider goes
RESOLUTION = 100  # steps of a weight from 0 to 1: whole percent, as the sliders have them
COARSE_SCALES = (0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0)
COARSE_WEIGHTS = 40  # of the coarse grid, about
STARTS = 2  # points of the coarse grid that the refinement begins at
REACH, SCALE_REACH = 0.2, 0.5  # of the first step: in a weight, and in log c
STEPS = 14  # of one refinement at most
PENALTY = 1e3  # of a violated limit in the linear programme, in units of the goal
STRAIGHT = 0.05  # how far a front must bend from its chord, as a share of the axes, for its turn to be a knee


# ---------------------------------------------------------------------------------------------------------------------
# What is asked


@dataclass(frozen=True)
class Limit:
    """A value that an objective, or the main one, is to reach: `value` times the base's, or `value` itself."""

    name: str
    value: float
    relative: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ConfigError(f"A limit is a number of 0 or more; got {self.value!r} for {self.name!r}.")
        if not self.relative and self.value > 1:
            raise ConfigError(
                f"NDCG is at most 1; got {self.name}={self.value:g}. For percent of the base write "
                f"{self.name}={self.value:g}%."
            )

    def floor(self, base: float) -> float:
        """The value to reach where the base has `base`."""
        return self.value * base if self.relative else self.value

    def relaxed(self) -> Limit:
        """One percent of the base less, or 0.01 of an absolute value."""
        return Limit(self.name, max(0.0, round(self.value - 0.01, 9)), self.relative)

    def __str__(self) -> str:
        wanted = f"{100 * self.value:.4g} % of the base" if self.relative else f"{self.value:g}"
        return f"{self.name} >= {wanted}"


@dataclass(frozen=True)
class Question:
    """As much as possible of `goal` (an objective, the main one, or ALL) under `limits`.

    `sure` is the probability with which each limit is to hold on other lists, as far as the lists of choosing can tell:
    0.5 asks their mean to keep it, more asks for a margin of so many standard errors.
    """

    goal: str
    limits: tuple[Limit, ...] = ()
    sure: float = 0.5

    def __post_init__(self) -> None:
        if not 0.5 <= self.sure < 1:
            raise ConfigError(f"A limit is to hold with a probability from 0.5 to below 1; got {self.sure!r}.")

    def checked(self, names: Sequence[str]) -> Question:
        """Itself. Raises ConfigError with every name that is not among `names`, and every one with two limits."""
        problems = [
            f"There is no objective {name!r}{nearest(name, names)}; there are {', '.join(names)}."
            for name in dict.fromkeys((self.goal, *(limit.name for limit in self.limits)))
            if name not in names and not (name == self.goal == ALL)
        ]
        limited = [limit.name for limit in self.limits]
        twice = sorted({name for name in limited if limited.count(name) > 1})
        problems += [f"{name!r} has two limits; give the stricter one alone." for name in twice]
        if problems:
            raise ConfigError(problems)
        return self


def parse_limit(text: str) -> Limit:
    """`relevance=99%` of the base, `quality=+2%` over it, `quality=-1%` under it, or `quality=0.45` as it is.

    Raises ConfigError for anything else.
    """
    name, equals, value = text.rpartition("=")
    value = value.strip()
    percent, signed = value.endswith("%"), value[:1] in ("+", "-")
    try:
        number = float(value.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not (equals and name.strip()) or not math.isfinite(number) or (signed and not percent):
        raise ConfigError(
            "A limit is NAME=99% (of the base), NAME=+2% (more than the base) or NAME=0.45 (NDCG itself); got "
            f"{text!r}."
        )
    if not percent:
        return Limit(name.strip(), number, relative=False)
    return Limit(name.strip(), round((number + 100 * signed) / 100, 9))


# ---------------------------------------------------------------------------------------------------------------------
# The search


@dataclass(frozen=True, eq=False)
class Aim:
    """What makes one point better than another.

    Attributes:
        merit: values (p, 1 + m) to (p,), more is better.
        slack: values (p, 1 + m) to (p, limits), below 0 where a limit is violated.
    """

    merit: Callable[[np.ndarray], np.ndarray]
    slack: Callable[[np.ndarray], np.ndarray] = lambda values: np.zeros((len(values), 0))

    def judged(self, values: np.ndarray) -> np.ndarray:
        """(p, 1 + limits): merit, then the slacks."""
        return np.concatenate([self.merit(values)[:, None], self.slack(values)], 1)

    def order(self, values: np.ndarray) -> np.ndarray:
        """(p,) indices, best first: the least violated, then the most merit, then the earlier."""
        judged = self.judged(values)
        return np.lexsort((-judged[:, 0], violation(judged)))


def violation(judged: np.ndarray) -> np.ndarray:
    """(p,) how far all limits together are missed; 0 where every one is kept."""
    return np.asarray(np.maximum(-judged[:, 1:], 0.0).sum(1))


def aim_at(question: Question, names: Sequence[str], base: np.ndarray) -> Aim:
    """The aim of a question; `base` (1 + m,) is the base's values, main first.

    Merit and slack are shares of the base's value, so that limits of different objectives weigh alike. Raises
    ConfigError for names there are not, DataError where a value that is asked for is unknown.
    """
    question.checked(names)
    of = {name: i for i, name in enumerate(names)}
    wanted = list(range(1, len(names))) if question.goal == ALL and ALL not in of else [of[question.goal]]
    limited = [of[limit.name] for limit in question.limits]
    unknown = [names[i] for i in dict.fromkeys((*wanted, *limited)) if not math.isfinite(base[i])]
    if unknown:
        raise DataError(
            f"Nothing is known of {', '.join(unknown)} here: no list has a positive label; choose other objectives."
        )
    unit = np.where(base > 0, base, 1.0)
    floors = np.array([limit.floor(base[i]) for limit, i in zip(question.limits, limited, strict=True)])
    margin = NormalDist().inv_cdf(question.sure)

    def slack(values: np.ndarray) -> np.ndarray:
        room = values[:, limited] - floors
        if margin > 0:
            room = room - margin * values[:, [len(names) + i for i in limited]]
        return np.asarray(room / unit[limited])

    return Aim(lambda values: (values[:, wanted] / unit[wanted]).mean(1), slack)


def aim_near(target: np.ndarray, spread: np.ndarray) -> Aim:
    """The aim of coming near to `target` (1 + m,), NaN where anything will do; `spread` (1 + m,) measures the axes."""
    given = np.flatnonzero(np.isfinite(target))
    if not len(given):
        raise ConfigError("A target names at least one objective and the value it is to have; got none.")
    unit = np.where(spread[given] > 0, spread[given], 1.0)
    return Aim(lambda values: -(((values[:, given] - target[given]) / unit) ** 2).sum(1))


@dataclass(frozen=True, order=True)
class Spot:
    """One (w, c) on the search's lattice: `parts` of RESOLUTION that sum to it, and c with three significant digits."""

    parts: tuple[int, ...]
    scale: float

    @property
    def weights(self) -> np.ndarray:
        """(m,) on the simplex."""
        return np.array(self.parts) / sum(self.parts)


def spot(weights: np.ndarray, scale: float, resolution: int = RESOLUTION) -> Spot:
    """The nearest of the lattice, by largest remainders; c is cut to its range."""
    exact = np.maximum(weights, 0.0)
    exact = resolution * exact / exact.sum()
    whole = np.floor(exact + 1e-9).astype(int)
    by_remainder = np.lexsort((np.arange(len(exact)), np.round(whole - exact, 9)))
    whole[by_remainder[: resolution - int(whole.sum())]] += 1
    return Spot(tuple(map(int, whole)), float(f"{min(max(scale, LOWEST_SCALE), HIGHEST_SCALE):.3g}"))


@dataclass(eq=False)
class Search:
    """Everything measured so far, and how to find a better point than any of it.

    An answer is the best of all that the search has measured, so of two questions to one search the later never does
    worse than the earlier for asking less.

    Attributes:
        measure: the measuring function.
        m: objectives.
        only: (p, m) the weights there are models for, or None where one model takes every w.
        resolution: steps of a weight from 0 to 1.
        known: (w, c) to values (1 + m,).
    """

    measure: Measure
    m: int
    only: np.ndarray | None = None
    resolution: int = RESOLUTION
    known: dict[Spot, np.ndarray] = field(default_factory=dict)

    def fork(self) -> Search:
        """A search of its own that begins with what this one knows."""
        return Search(self.measure, self.m, self.only, self.resolution, dict(self.known))

    def look(self, spots: Sequence[Spot]) -> np.ndarray:
        """(p, 1 + m) values at `spots`, measured where they are not known."""
        new = [s for s in dict.fromkeys(spots) if s not in self.known]
        if new:
            values = self.measure(np.stack([s.weights for s in new]), np.array([s.scale for s in new]))
            self.known.update(zip(new, values, strict=True))
        return np.stack([self.known[s] for s in spots])

    def coarse(self, weights: np.ndarray, scales: Sequence[float] = COARSE_SCALES) -> Search:
        """Itself, after every pair of `weights` (p, m) and `scales` is measured."""
        self.look([self._spot(w, c) for w in (weights if self.only is None else self.only) for c in scales])
        return self

    def solve(self, aim: Aim) -> Spot:
        """The best point for `aim`; where no point keeps its limits, the one that violates them least."""
        if not self.known:
            self.coarse(np.eye(self.m))
        for start in self._starts(aim):
            self._refine(aim, start)
        self._polish(aim)
        return self._best(aim)

    def _spot(self, weights: np.ndarray, scale: float) -> Spot:
        if self.only is not None:
            weights = self.only[int(np.abs(self.only - weights).max(1).argmin())]
        return spot(weights, scale, self.resolution)

    def _ranked(self, aim: Aim) -> list[Spot]:
        spots = sorted(self.known)  # not in the order of measuring, which may depend on what was asked before
        return [spots[i] for i in aim.order(np.stack([self.known[s] for s in spots]))]

    def _best(self, aim: Aim) -> Spot:
        return self._ranked(aim)[0]

    def _starts(self, aim: Aim) -> list[Spot]:
        """The best points of different weights."""
        found: dict[tuple[int, ...], Spot] = {}
        for s in self._ranked(aim):
            found.setdefault(s.parts, s)
            if len(found) == STARTS:
                break
        return list(found.values())

    def _refine(self, aim: Aim, start: Spot) -> None:
        """Steps by linear programmes in a shrinking box: they walk along a limit as well as towards it."""
        at, reach = start, 1.0
        for _ in range(STEPS):
            if REACH * reach < 1 / self.resolution:
                return
            tries = self._tries(aim, at, reach)
            ranked = [at, *tries]
            best = ranked[int(aim.order(self.look(ranked))[0])]
            reach, at = (reach / 2 if best == at else reach), best

    def _tries(self, aim: Aim, at: Spot, reach: float) -> list[Spot]:
        """Where the linear programme says to go, half as far, and a little nearer to the base and further from it."""
        slopes = self._slopes(aim, at, reach)
        judged = aim.judged(self.look([at]))[0]
        step = _linear_step(judged[1:], slopes, at.weights, reach)
        moves, scale = step[: self.m], step[self.m]
        out = []
        for share, off in ((1.0, 0.0), (0.5, 0.0), (1.0, 0.25), (1.0, -0.25), (0.0, 0.25), (0.0, -0.25)):
            weights = at.weights * (1 - share * moves.sum()) + share * moves
            out.append(self._spot(weights, at.scale * math.exp(share * scale + off * reach * SCALE_REACH)))
        return out

    def _slopes(self, aim: Aim, at: Spot, reach: float) -> np.ndarray:
        """(m + 1, 1 + limits) change of merit and slacks for each unit of a move towards a corner, and of log c."""
        toward = max(REACH * reach, 2 / self.resolution)
        by = max(SCALE_REACH * reach / 2, 0.02)
        spots = [self._spot(at.weights * (1 - toward) + toward * corner, at.scale) for corner in np.eye(self.m)]
        spots += [self._spot(at.weights, at.scale * math.exp(sign * by)) for sign in (1, -1)]
        judged = aim.judged(self.look([at, *spots]))
        here, corners, up, down = judged[0], judged[1:-2], judged[-2], judged[-1]
        width = math.log(spots[-2].scale / spots[-1].scale)
        rows = (corners - here) / toward
        if self.only is not None:
            rows = np.zeros_like(rows)
        return np.concatenate([rows, ((up - down) / width)[None] if width else np.zeros((1, judged.shape[1]))])

    def _polish(self, aim: Aim) -> None:
        """The lattice's nearest neighbours of the best point, once more for as long as that helps."""
        for _ in range(3):
            best = self._best(aim)
            self.look(self._neighbours(best))
            if self._best(aim) == best:
                return

    def _neighbours(self, at: Spot) -> list[Spot]:
        scales = [Spot(at.parts, spot(at.weights, at.scale * f, self.resolution).scale) for f in (0.98, 1.02)]
        if self.only is not None:
            return [self._spot(w, at.scale) for w in self.only] + scales
        out = []
        for i in range(self.m):
            for j in range(self.m):
                if i != j and at.parts[i]:
                    parts = list(at.parts)
                    parts[i], parts[j] = parts[i] - 1, parts[j] + 1
                    out.append(Spot(tuple(parts), at.scale))
        return out + scales


def _linear_step(slack: np.ndarray, slopes: np.ndarray, weights: np.ndarray, reach: float) -> np.ndarray:
    """(m + 1,) the best step within `reach` by the slopes (m + 1, 1 + limits): moves towards the corners, and of log c.

    A limit that cannot be kept within the step is missed as little as can be.
    """
    from scipy.optimize import linprog  # type: ignore[import-untyped]  # here: loading it takes a while

    m, limits = len(weights), len(slack)
    cost = np.concatenate([-slopes[:, 0], np.full(limits, PENALTY * max(1.0, np.abs(slopes[:, 0]).max()))])
    keep = np.concatenate([-slopes[:, 1:].T, -np.eye(limits)], 1)  # -(slack + slopes . d) - missed <= 0
    inside = np.concatenate([np.outer(weights, np.ones(m)) - np.eye(m), np.zeros((m, 1 + limits))], 1)
    bounds = [(-REACH * reach, REACH * reach)] * m + [(-SCALE_REACH * reach, SCALE_REACH * reach)]
    found = linprog(
        cost, np.concatenate([keep, inside]), np.concatenate([slack, weights]), bounds=bounds + [(0, None)] * limits,
        method="highs",
    )  # fmt: skip
    return np.asarray(found.x[: m + 1]) if found.success else np.zeros(m + 1)


def coarse_weights(m: int, about: int = COARSE_WEIGHTS) -> np.ndarray:
    """(p, m) the finest lattice of about so many weights; for very many objectives the corners and the middle."""
    from hyperdpo.weights import lattice, lattice_size

    steps = max((s for s in range(1, about) if lattice_size(m, s) <= about), default=0)
    found = lattice(m, steps).numpy().astype(float) if steps else np.eye(m)
    return np.concatenate([found, np.full((1, m), 1 / m)])


# ---------------------------------------------------------------------------------------------------------------------
# Fronts


def knee(values: np.ndarray) -> int | None:
    """Index of the point of `values` (p, 2) where the front turns most; None where there is no turn.

    That is the non-dominated point furthest above the chord between the front's two ends, both axes measured by the
    ends' distance (Das 1999). A front of fewer than three points, one whose ends coincide on an axis, and one that is
    nearly straight (less than STRAIGHT) have none; NaN is passed over; of equal points the first counts.
    """
    order = plane_front(values)
    if len(order) < 3:
        return None
    front = values[order]
    width, height = front[-1, 0] - front[0, 0], front[0, 1] - front[-1, 1]
    if width <= 0 or height <= 0:
        return None
    above = (front[:, 0] - front[0, 0]) / width + (front[:, 1] - front[-1, 1]) / height - 1
    best = int(above.argmax())
    return order[best] if above[best] > STRAIGHT else None


def plane_front(values: np.ndarray) -> list[int]:
    """Indices of the non-dominated points of (p, 2), from left to right; of equal points the first; NaN passed over."""
    real = [i for i in range(len(values)) if np.isfinite(values[i]).all()]
    ordered = sorted(real, key=lambda i: (-values[i, 0], -values[i, 1], i))
    out: list[int] = []
    for i in ordered:
        if not out or values[i, 1] > values[out[-1], 1]:
            out.append(i)
    return out[::-1]


# ---------------------------------------------------------------------------------------------------------------------
# What bootstrap samples say of a choice


def paired_change(per_query: np.ndarray, other: np.ndarray, counts: np.ndarray) -> list[Interval]:
    """Per column the mean of `per_query` - `other`, both (q, L), with its 95 % interval, paired over queries."""
    return intervals(per_query - other, counts)


def kept_share(per_query: np.ndarray, base: np.ndarray, limit: Limit, counts: np.ndarray) -> float:
    """Share of the bootstrap samples `counts` (draws, q) in which `limit` is kept, by per-query values (q,).

    The same samples are drawn of the base, (q,), so that a limit relative to it is judged pair by pair. NaN where no
    query has a value.
    """
    both = per_query - limit.value * base if limit.relative else per_query - limit.value
    means = bootstrap_means(both[:, None].astype(np.float64), counts)[:, 0]
    real = means[np.isfinite(means)]
    return float((real >= -1e-9).mean()) if len(real) else math.nan
