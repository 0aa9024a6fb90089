"""Fast re-scoring as sliders move: a split padded once, what a model needs of it encoded once, and every figure from
there.

The command line and the dashboard both measure through this module, so their figures are the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.control import scaled_scores
from hyperdpo.front import ParetoFront
from hyperdpo.implicit import ImplicitReport, ImplicitTable
from hyperdpo.metrics import NDCG, Interval, bootstrap_counts, cross_entropy, intervals
from hyperdpo.rank.batches import RankBatches, list_targets
from hyperdpo.rank.data import ListSet, Task
from hyperdpo.rank.model import Answerer, multiple
from hyperdpo.weights import check_beta, check_scale, check_weights, grid

KEPT_RESIDUALS = 16
KEPT_GRIDS = 2  # the training beta's, and the one looked at


class ListTable:
    """One split, padded: gains, targets, mask and base scores, on one device.

    Attributes:
        mask: (q, n) bool.
        gains: (q, n, 1 + m), main first, higher is better.
        targets: (q, n, m).
        base: (q, n) s_base on the run's scale.
    """

    def __init__(
        self, lists: ListSet, task: Task, base: Tensor, beta: Sequence[float], *, device: torch.device | str = "cpu"
    ) -> None:
        self.lists = lists
        self.task = task
        self.device = torch.device(device)
        self.beta = torch.tensor(beta, dtype=torch.float32, device=device)
        mask = lists.mask()
        everything = (task.main, *task.objectives)
        gains = [o.gains(lists.pad(lists.labels[:, j]), mask) for j, o in enumerate(everything)]
        targets, _ = list_targets(lists, task.objectives, 1)
        self.mask = mask.to(device)
        self.gains = torch.stack(gains, -1).to(device)
        self.targets = lists.pad(targets).to(device)
        self.base = lists.pad(base.cpu()).to(device)
        self._ndcg: dict[int, NDCG] = {}

    def __len__(self) -> int:
        return len(self.lists)

    def ndcg(self, k: int) -> NDCG:
        """NDCG@k over this table, its ideals computed once."""
        if k not in self._ndcg:
            self._ndcg[k] = NDCG(self.gains, self.mask, k)
        return self._ndcg[k]

    @cached_property
    def bootstrap(self) -> np.ndarray:
        """Bootstrap counts over this split's queries, shared by all that is measured on it."""
        return bootstrap_counts(len(self))


@dataclass(frozen=True)
class Point:
    """What one choice of (w, beta, c) gives.

    `beta` is what was asked for, the training temperatures by default. `per_query` is (q, 1 + m) NDCG@k with NaN where
    a list has no positive label; `cross_entropy` (m,) is measured at the training beta on the scaled residual.
    """

    weights: tuple[float, ...]
    scale: float
    k: int
    ndcg: np.ndarray
    cross_entropy: np.ndarray
    per_query: np.ndarray
    beta: tuple[float, ...] = ()

    def intervals(self, counts: np.ndarray | None = None) -> list[Interval]:
        """NDCG with its 95 % bootstrap interval over queries: main first, then the objectives."""
        return intervals(self.per_query, counts)


def measure(
    table: ListTable,
    residual: Tensor,
    *,
    weights: Sequence[float] = (),
    beta: Sequence[float] = (),
    scale: float = 1.0,
    k: int = 10,
) -> Point:
    """All figures of one residual (q, n) at scale c; `weights` and `beta` are only noted. WeightsError for c <= 0."""
    check_scale(scale)
    scores = scaled_scores(table.base, residual, scale)
    per_query = table.ndcg(k).per_query(scores)
    entropy = cross_entropy(residual / scale, table.targets, table.mask, table.beta).nanmean(0)
    return Point(
        tuple(float(w) for w in weights),
        float(scale),
        k,
        per_query.nanmean(0).cpu().numpy(),
        entropy.cpu().numpy(),
        per_query.cpu().numpy(),
        tuple(float(b) for b in beta) or tuple(table.beta.tolist()),
    )


def front_ndcg(table: ListTable, residuals: Tensor, *, scale: float = 1.0, k: int = 10) -> Tensor:
    """Per-query NDCG@k (p, q, 1 + m) of p residuals (p, q, n) at scale c."""
    return table.ndcg(k).per_query(scaled_scores(table.base, residuals, check_scale(scale)))


class LiveModel:
    """One conditioned model over one table: any (w, c) at slider speed, and any beta the model can answer.

    A separable model (mixture, geometric) is encoded once and answers a new w without a forward pass; the others run
    one. Moving c never needs the model. A mixture answers temperatures that differ by its implicit solution, begun at
    the last one; `report` says how that was found.
    """

    def __init__(self, model: Answerer, table: ListTable, features: Tensor) -> None:
        self.model = model.to(table.device).eval()
        self.table = table
        self._batches = RankBatches(
            table.lists, features, table.lists.unpad(table.base.cpu()), (), batch_size=1, device=table.device
        )
        self._residuals: dict[tuple[float, ...], Tensor] = {}
        self._grids: dict[tuple[float, ...], Tensor] = {}
        self._last: Tensor | None = None
        self.report = ImplicitReport()

    @cached_property
    def _implicit(self) -> ImplicitTable:
        with torch.inference_mode():
            return ImplicitTable(self.encoded, self.table.mask)

    @cached_property
    def encoded(self) -> Tensor:
        """log p of a separable model over the whole table, (q, m, n)."""
        q, n = self.table.mask.shape
        out = torch.zeros(q, self.model.m, n, device=self.table.device)
        with torch.inference_mode():
            for batch in self._batches.once():
                value = self.model.encode(*batch.inputs)
                out[batch.queries, :, : value.shape[-1]] = value
        return out

    def residual(self, weights: Sequence[float] | Tensor, beta: Sequence[float] | None = None) -> Tensor:
        """delta (q, n) at `weights` and the temperatures `beta` (the training ones by default); the last few are kept.

        Raises WeightsError off the simplex or for temperatures that are not above 0, ConfigError for temperatures this
        model cannot answer.
        """
        w = check_weights(weights, self.model.m).to(self.table.device)
        wanted = self._beta(beta)
        key = (*w.tolist(), *(wanted or ()))
        if key not in self._residuals:
            _forget_first(self._residuals, KEPT_RESIDUALS)
            self._residuals[key] = self._compute(w, wanted)
        return self._residuals[key]

    def _beta(self, beta: Sequence[float] | None) -> tuple[float, ...] | None:
        """Checked temperatures; None for the training ones, so that they are one thing to compute and to keep."""
        if beta is None:
            return None
        checked = check_beta(list(beta), self.model.m)
        return None if torch.equal(torch.tensor(checked), self.table.beta.cpu()) else checked

    @torch.inference_mode()
    def _compute(self, w: Tensor, beta: tuple[float, ...] | None) -> Tensor:
        table, model = self.table, self.model
        at = None if beta is None else torch.tensor(beta, device=table.device)
        if at is not None and not model.any_beta:
            return self._compute(w, None) / multiple(model, at, table.beta)
        if at is not None and model.separable:
            return self._solve(w, at)
        if model.separable:
            return model.decode(self.encoded, w, table.base, table.mask)
        out = torch.zeros_like(table.base)
        for batch in self._batches.once():
            features, base, mask = batch.inputs
            value = model(features, base, mask, w, *(() if at is None else (at,)))
            out[batch.queries, : value.shape[1]] = value
        return out

    def _solve(self, w: Tensor, beta: Tensor) -> Tensor:
        """The implicit solution, begun at the last one at this scale: w . beta times delta moves least."""
        unit = float(w @ beta)
        start = None if self._last is None else self._last / unit
        found, self.report = self._implicit.solve(w, beta, start=start)
        if self.report.iterations:  # closed forms have no floor: too far down for items without any probability
            self._last = found * unit
        return found

    def point(
        self,
        weights: Sequence[float] | Tensor,
        *,
        beta: Sequence[float] | None = None,
        scale: float = 1.0,
        k: int = 10,
    ) -> Point:
        """The live point at (w, beta, c); cross-entropy is measured at the training beta whatever `beta` is."""
        w = check_weights(weights, self.model.m)
        return measure(
            self.table,
            self.residual(w, beta),
            weights=w.tolist(),
            beta=beta if beta is not None else (),
            scale=scale,
            k=k,
        )

    def grid_residuals(self, points: int = 11, beta: Sequence[float] | None = None) -> Tensor:
        """delta at every weight of the grid, (p, q, n), at `beta` as for `residual`; the last two grids are kept."""
        wanted = self._beta(beta)
        key = (float(points), *(wanted or ()))
        if key not in self._grids:
            _forget_first(self._grids, KEPT_GRIDS)
            weights = grid(self.model.m, points)
            self._grids[key] = torch.stack([self._compute(w.to(self.table.device), wanted) for w in weights])
        return self._grids[key]


def _forget_first(kept: dict[tuple[float, ...], Tensor], most: int) -> None:
    """Make room for one more."""
    while len(kept) >= most:
        del kept[next(iter(kept))]


def base_front(table: ListTable, *, k: int = 10, name: str = "Base model", **fields: Any) -> ParetoFront:
    """The base alone, as a front of one point without weights."""
    return measured_front(
        table, torch.zeros_like(table.base)[None], np.zeros((1, 0)), name=name, method="base", k=k, **fields
    )


def measured_front(
    table: ListTable,
    residuals: Tensor,
    weights: np.ndarray,
    *,
    name: str,
    method: str,
    scale: float = 1.0,
    k: int = 10,
    keep_residuals: bool = False,
    beta: Sequence[float] | None = None,
    **fields: Any,
) -> ParetoFront:
    """A ParetoFront of p residuals (p, q, n); `fields` are its other attributes (split, run, seconds ...).

    `beta` notes the temperatures the residuals answer, the training ones by default.
    """
    points = [measure(table, r, scale=scale, k=k) for r in residuals]
    flat = np.stack([table.lists.unpad(r.cpu()).numpy() for r in residuals]) if keep_residuals else None
    return ParetoFront(
        name=name,
        method=method,
        main=table.task.main.name,
        objectives=tuple(o.name for o in table.task.objectives),
        weights=np.asarray(weights, dtype=float),
        scale=scale,
        k=k,
        ndcg=np.stack([p.ndcg for p in points]).astype(float),
        cross_entropy=np.stack([p.cross_entropy for p in points]).astype(float),
        per_query=np.stack([p.per_query for p in points]),
        residuals=flat,
        beta=tuple(float(b) for b in (table.beta.tolist() if beta is None else beta)),
        **fields,
    )
