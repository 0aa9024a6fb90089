"""Finding (w, c) for a ranking run: chosen on one split, told of on another. Source: issue 5.

The choice is made on the validation split; figures, intervals and the probability that a limit holds are the test
split's, so that what is promised was not what was searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.finding import (
    ALL,
    COARSE_SCALES,
    Aim,
    Limit,
    Question,
    Search,
    Spot,
    aim_at,
    aim_near,
    coarse_weights,
    kept_share,
    paired_change,
    violation,
)
from hyperdpo.metrics import Interval
from hyperdpo.rank.data import ListSet
from hyperdpo.rank.live import ListTable, LiveModel, Point, measure
from hyperdpo.rank.run import RankRun

CHOSEN_ON, TOLD_ON = "validation", "test"
LEAST_P = 1e-38  # float32's smallest; its logarithm is finite


class Side:
    """A run over one split: what is asked of it here. `name` is the split's.

    Raises DataError where the split has no list.
    """

    def __init__(self, run: RankRun, lists: ListSet, name: str, *, device: torch.device | str = "cpu") -> None:
        if not len(lists):
            raise DataError(
                f"The data has no list in its {name} split, which finding a point needs; give data that has some."
            )
        table, features = run.table(lists, device=device)
        self._set(run, [LiveModel(r, table, features) for r in run.rankers], name)

    @classmethod
    def of(cls, run: RankRun, models: Sequence[LiveModel], name: str) -> Side:
        """The same from models that are there already."""
        made = cls.__new__(cls)
        made._set(run, list(models), name)
        return made

    def _set(self, run: RankRun, models: list[LiveModel], name: str) -> None:
        self.run, self.models, self.name = run, models, name
        self.table: ListTable = models[0].table
        self._p: np.ndarray | None = None
        self._base: dict[int, Point] = {}

    def base(self, k: int) -> Point:
        """The base's figures."""
        if k not in self._base:
            self._base[k] = measure(self.table, torch.zeros_like(self.table.base), k=k)
        return self._base[k]

    def point(self, at: Spot, k: int) -> Point:
        """Every figure at (w, c), the same numbers as everywhere else."""
        return measure(self.table, self._residual(at.weights), weights=at.weights.tolist(), scale=at.scale, k=k)

    def _residual(self, weights: np.ndarray) -> Tensor:
        if self.run.trained is None:
            return self.models[0].residual(weights.tolist())
        i = int((self.run.trained - torch.from_numpy(weights)).abs().amax(1).argmin())
        return self.models[i].residual(self.run.trained[i])

    def means(self, k: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """What `Search` measures with: weights (p, m) and scales (p,) to (p, 2 (1 + m)), fast and up to rounding.

        The mean NDCG@k, main first, then the standard errors of their change from the base.
        """
        ranked = _Ranked(self.table, k)
        base = ranked.per_query(np.zeros(self.table.base.shape, np.float32), 1.0)

        def measured(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
            kept: dict[bytes, np.ndarray] = {}
            out = []
            for w, c in zip(weights, scales, strict=True):
                key = w.tobytes()
                if key not in kept:
                    kept = {key: self._quick(w)}  # those of one w come together
                per_query = ranked.per_query(kept[key], float(c))
                out.append(np.concatenate([_mean(per_query), _error(per_query - base)]))
            return np.stack(out).astype(float)

        return measured

    def _quick(self, weights: np.ndarray) -> np.ndarray:
        """delta (q, n); a mixture's without logarithms of every objective, so up to rounding."""
        model = self.models[0].model
        if self.run.trained is not None or not (model.separable and model.any_beta):
            return np.asarray(self._residual(weights).cpu().numpy())
        if self._p is None:  # (q * n, m), so that one product mixes
            with torch.inference_mode():
                self._p = self.models[0].encoded.transpose(1, 2).exp().reshape(-1, model.m).cpu().numpy()
        mixed = np.maximum(self._p @ weights.astype(np.float32), LEAST_P)
        found: np.ndarray = np.log(mixed) / float(self.table.beta[0])
        return found.reshape(self.table.base.shape)


class _Ranked:
    """NDCG@k of many scores over one table in numpy, several times as fast as `metrics.NDCG`; ties fall anyhow."""

    def __init__(self, table: ListTable, k: int) -> None:
        self.base = table.base.masked_fill(~table.mask, -torch.inf).cpu().numpy()
        q, n = self.base.shape
        self.k = min(k, n)
        self.rows = table.gains.reshape(q * n, -1).cpu().numpy()
        self.starts = (np.arange(q) * n)[:, None]
        self.discounts = (1 / np.log2(np.arange(2, self.k + 2))).astype(np.float32)
        ideal = table.ndcg(k).ideal.cpu().numpy()
        self.ideal = np.where(ideal > 0, ideal, np.nan)

    def per_query(self, residual: np.ndarray, scale: float) -> np.ndarray:
        """(q, 1 + m), NaN where a list has no positive label."""
        top = np.argsort(-(self.base + residual / scale), axis=1)[:, : self.k]
        picked = self.rows[(top + self.starts).ravel()].reshape(*top.shape, -1)
        return np.asarray(np.einsum("qkl,k->ql", picked, self.discounts) / self.ideal)


def _mean(per_query: np.ndarray) -> np.ndarray:
    """(L,) over queries (q, L), NaN left out; NaN where nothing is left."""
    real = np.isfinite(per_query)
    count = real.sum(0)
    total = np.where(real, per_query, 0.0).sum(0, dtype=np.float64)
    return np.asarray(total / np.where(count > 0, count, np.nan))


def _error(change: np.ndarray) -> np.ndarray:
    """(L,) standard error of the mean over queries of `change` (q, L); 0 for fewer than two."""
    real = np.isfinite(change)
    count = real.sum(0)
    deviation = np.where(real, change - np.nan_to_num(_mean(change)), 0.0)
    return np.asarray(np.sqrt((deviation**2).sum(0, dtype=np.float64)) / np.maximum(count, 1))


@dataclass(frozen=True, eq=False)
class Told:
    """A choice with its figures on both splits.

    Attributes:
        spot: (w, c).
        chosen, told: figures on the split of choosing and of telling.
        change: per objective, main first, the change from the base on the split of telling, with its interval.
    """

    spot: Spot
    chosen: Point
    told: Point
    change: tuple[Interval, ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """(m,) on the simplex."""
        return tuple(map(float, self.spot.weights))


@dataclass(frozen=True, eq=False)
class Verdict:
    """What came of a limit.

    Attributes:
        chosen, told: the value in units of the limit (shares of the base, or NDCG) on both splits.
        low, high: ends of the 95 % interval of `told`.
        probability: share of the bootstrap samples in which it holds on the split of telling.
        held: whether it holds on the split of choosing.
        gain: what one more percent would give of the goal, as a share of the base's on the split of choosing; None
            where nothing fits anyway. gain_told: the same on the split of telling, with its interval.
        relaxed: the limit with one percent less. there: the point that it would give.
    """

    limit: Limit
    chosen: float
    told: float
    low: float
    high: float
    probability: float
    held: bool
    gain: float | None = None
    gain_told: Interval | None = None
    relaxed: Limit | None = None
    there: Spot | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """The answer to a question.

    Attributes:
        fits: whether every limit is kept on the split of choosing; else `answer` is the point that violates least.
        verdicts: one for each limit.
        measured: how many points were measured for it.
    """

    question: Question
    k: int
    answer: Told
    fits: bool
    verdicts: tuple[Verdict, ...]
    measured: int


class Finder:
    """A run on two splits, ready for questions; the coarse grid is measured once for each k.

    Raises DataError where a split is empty.
    """

    def __init__(self, run: RankRun, chosen: Side, told: Side) -> None:
        self.run, self.chosen, self.told = run, chosen, told
        self._coarse: dict[int, Search] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Main first."""
        return (self.run.task.main.name, *(o.name for o in self.run.objectives))

    def ready(self, k: int) -> Search:
        """The coarse grid at this k, which every question begins with."""
        if k not in self._coarse:
            trained = self.run.trained
            only = None if trained is None else trained.numpy().astype(float)
            search = Search(self.chosen.means(k), self.run.task.m, only, 100 if only is None else 100_000)
            self._coarse[k] = search.coarse(coarse_weights(self.run.task.m), COARSE_SCALES)
        return self._coarse[k]

    def find(self, question: Question, k: int) -> Found:
        """The answer, what became of every limit, and what each costs.

        Raises ConfigError for names the run does not have, DataError where an objective has no value.
        """
        question.checked(self.names)
        base = self.chosen.base(k).ndcg.astype(float)
        aim = aim_at(question, self.names, base)
        search = self.ready(k).fork()
        before = len(search.known)
        spot = search.solve(aim)
        judged = aim.judged(search.look([spot]))
        fits = bool(violation(judged)[0] <= 0)
        answer = self.told_of(spot, k)
        verdicts = []
        for i, limit in enumerate(question.limits):
            verdict = self._verdict(limit, answer, k, held=bool(judged[0, 1 + i] >= 0))
            verdicts.append(self._priced(verdict, question, search, answer, k) if fits else verdict)
        return Found(question, k, answer, fits, tuple(verdicts), len(search.known) - before)

    def nearest(self, target: Mapping[str, float], k: int) -> Spot:
        """The (w, c) that comes nearest to NDCG@k values of some objectives, as the telling split shows them.

        The target is moved to the split of choosing in proportion to the base's values, and the nearest point is
        sought there; the axes are measured by what the coarse grid spans. Raises ConfigError for unknown names, an
        empty target and values that are not numbers.
        """
        known = ", ".join(self.names)
        problems = [f"There is no objective {n!r}; there are {known}." for n in target if n not in self.names]
        problems += [f"A target is a number; got {v!r} for {n!r}." for n, v in target.items() if not math.isfinite(v)]
        if problems:
            raise ConfigError(problems)
        ours, theirs = self.chosen.base(k).ndcg.astype(float), self.told.base(k).ndcg.astype(float)
        ratio = np.where((ours > 0) & (theirs > 0), ours / np.where(theirs > 0, theirs, 1.0), 1.0)
        wanted = np.array([target.get(name, math.nan) for name in self.names]) * ratio
        search = self.ready(k).fork()
        values = np.stack(list(search.known.values()))[:, : len(self.names)]
        return search.solve(aim_near(wanted, np.ptp(values, axis=0)))

    def told_of(self, spot: Spot, k: int) -> Told:
        """The figures of one (w, c) on both splits."""
        chosen, told = self.chosen.point(spot, k), self.told.point(spot, k)
        counts = self.told.table.bootstrap
        return Told(spot, chosen, told, tuple(paired_change(told.per_query, self.told.base(k).per_query, counts)))

    def _verdict(self, limit: Limit, answer: Told, k: int, *, held: bool) -> Verdict:
        i = self.names.index(limit.name)
        unit = [float(side.base(k).ndcg[i]) if limit.relative else 1.0 for side in (self.chosen, self.told)]
        base, change = float(self.told.base(k).ndcg[i]), answer.change[i]
        low, high = ((base + end) / unit[1] if unit[1] else math.nan for end in (change.low, change.high))
        return Verdict(
            limit,
            float(answer.chosen.ndcg[i]) / unit[0] if unit[0] else math.nan,
            float(answer.told.ndcg[i]) / unit[1] if unit[1] else math.nan,
            low,
            high,
            kept_share(
                answer.told.per_query[:, i], self.told.base(k).per_query[:, i], limit, self.told.table.bootstrap
            ),
            held,
        )

    def _priced(self, verdict: Verdict, question: Question, search: Search, answer: Told, k: int) -> Verdict:
        """The verdict with what the limit costs: the question solved again with one percent less."""
        limit = verdict.limit
        relaxed = limit.relaxed()
        looser = replace(question, limits=tuple(relaxed if x is limit else x for x in question.limits))
        aim = aim_at(looser, self.names, self.chosen.base(k).ndcg.astype(float))
        there = search.solve(aim)
        here = aim.merit(search.look([answer.spot, there]))
        told = self.told.point(there, k)
        gain = self._goal_change(question, told, answer.told, k)
        return replace(verdict, gain=float(here[1] - here[0]), gain_told=gain, relaxed=relaxed, there=there)

    def _goal_change(self, question: Question, now: Point, then: Point, k: int) -> Interval:
        """How much more of the goal `now` gives than `then`, in shares of the base, paired over queries."""
        base = self.told.base(k).ndcg.astype(float)
        everything = question.goal == ALL and ALL not in self.names
        columns = list(range(1, len(self.names))) if everything else [self.names.index(question.goal)]
        unit = np.where(base[columns] > 0, base[columns], 1.0)
        means = paired_change(now.per_query, then.per_query, self.told.table.bootstrap)
        if len(columns) == 1:
            found = means[columns[0]]
            return Interval(
                found.mean / unit[0], found.low / unit[0], found.high / unit[0], found.queries, found.skipped
            )
        difference = ((now.per_query - then.per_query)[:, columns] / unit).mean(1, keepdims=True)
        return paired_change(difference, np.zeros_like(difference), self.told.table.bootstrap)[0]


def open_finder(run: RankRun, data: Any, *, device: torch.device | str = "cpu") -> Finder:
    """The finder of a run on its data (RankData with the run's roles): chosen on validation, told of on test."""
    sides = [Side(run, data.lists(split), split, device=device) for split in (CHOSEN_ON, TOLD_ON)]
    return Finder(run, *sides)


__all__ = ["CHOSEN_ON", "TOLD_ON", "Aim", "Finder", "Found", "Side", "Told", "Verdict", "open_finder"]
