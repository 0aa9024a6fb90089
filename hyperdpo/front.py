"""ParetoFront: the points one method reaches over a grid of weights, with what is needed to judge and compare them.

Every metric here is "higher is better" unless it stands under `cross_entropy`: NDCG for ranking, and minus the
cross-entropy for text, whose reference point is then below 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hyperdpo.errors import ConfigError, DataError

NDCG, CROSS_ENTROPY = "ndcg", "cross-entropy"  # a front's metric


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Which rows of `values` (p, m) no other row dominates (higher is better), bool (p,).

    Equal rows do not dominate each other: all of them stay. Raises DataError where a value is NaN, in any row.
    """
    _refuse_nan(values, "dominance")
    at_least = (values[:, None, :] >= values[None, :, :]).all(-1)
    better = (values[:, None, :] > values[None, :, :]).any(-1)
    return ~np.asarray((at_least & better).any(0))


def hypervolume(values: np.ndarray, reference: float | np.ndarray = 0.0) -> float:
    """The volume dominated by `values` (p, m) above `reference`, by pymoo (higher is better).

    Raises DataError for NaN, which pymoo would silently turn into 0, and for an empty front. Points beyond the
    reference add nothing; count them with `beyond_reference`.
    """
    from pymoo.indicators.hv import HV

    _refuse_nan(values, "a hypervolume")
    if not len(values):
        raise DataError("A hypervolume needs at least one point; got none.")
    ref = np.broadcast_to(np.asarray(reference, dtype=float), values.shape[1:])
    return float(HV(ref_point=-ref)(-np.asarray(values, dtype=float)))


def beyond_reference(values: np.ndarray, reference: float | np.ndarray = 0.0) -> int:
    """How many rows of `values` (p, m) are worse than `reference` in some objective, so that pymoo ignores them."""
    return int((values < reference).any(-1).sum())


def sparsity(values: np.ndarray) -> float:
    """Mean squared gap between neighbours on the non-dominated front, summed over objectives; lower is denser.

    1/(p - 1) sum_j sum_i (f_j[i] - f_j[i + 1])^2 with each objective sorted by itself. A front of one point has
    sparsity 0.
    """
    front = values[non_dominated(values)]
    if len(front) < 2:
        return 0.0
    gaps = np.diff(np.sort(front, axis=0), axis=0)
    return float((gaps**2).sum() / (len(front) - 1))


def _refuse_nan(values: np.ndarray, what: str) -> None:
    bad = np.argwhere(np.isnan(values))
    if len(bad):
        row, column = map(int, bad[0])
        raise DataError(
            f"{what.capitalize()} needs numbers; got NaN at point {row}, objective {column} "
            f"({len(bad)} NaN in all); an objective without a positive label in any list has no NDCG."
        )


@dataclass(frozen=True)
class ParetoFront:
    """A named front: p points over m auxiliary objectives, and the main objective beside them.

    Attributes:
        name: what people read, such as `HyperDPO (mixture)`.
        method: one of `methods.METHODS`, or `base`, `oracle`, `oracle-unconstrained`.
        main: name of the main objective.
        objectives: names of the m auxiliary objectives.
        weights: (p, m), or (p, 0) for a point that has no weights (the base).
        scale: c of eq. (15).
        k: NDCG cut-off.
        split: which split was measured.
        ndcg: (p, 1 + m) values of `metric`, main first: mean NDCG@k; or minus the cross-entropies, after minus the mean
            absolute change of the responses' log-likelihood from the base.
        cross_entropy: (p, m) at the training beta, or None where a method has no residual.
        models, parameters, seconds: what the whole curve cost; 0 where nothing was trained.
        run: name of the run folder it came from.
        data: fingerprint of the data it was measured on.
        beta: the temperatures its residuals answer: the training ones, unless others were asked for.
        per_query: (p, q, 1 + m) NDCG@k per query, NaN where a list has no positive label; kept beside front.json.
        residuals: (p, items) delta = s - s_base of each item of the split in order, so that the front can move with c.
        reference: the point that hypervolume is measured from, (m,); empty is 0 in every objective.
        metric: what `ndcg` holds: `ndcg`, or `cross-entropy` for text.
    """

    name: str
    method: str
    main: str
    objectives: tuple[str, ...]
    weights: np.ndarray
    scale: float
    k: int
    split: str
    ndcg: np.ndarray
    cross_entropy: np.ndarray | None = None
    models: int = 0
    parameters: int = 0
    seconds: float = 0.0
    run: str = ""
    data: str = ""
    beta: tuple[float, ...] = ()
    device: str = ""
    per_query: np.ndarray | None = field(default=None, repr=False)
    residuals: np.ndarray | None = field(default=None, repr=False)
    reference: tuple[float, ...] = ()
    metric: str = NDCG

    def __post_init__(self) -> None:
        p, m = len(self.ndcg), len(self.objectives)
        problems = []
        if self.ndcg.shape != (p, 1 + m):
            problems.append(f"Front {self.name!r}: ndcg has shape {self.ndcg.shape}, expected ({p}, {1 + m}).")
        if self.weights.shape not in ((p, m), (p, 0)):
            problems.append(f"Front {self.name!r}: weights have shape {self.weights.shape}, expected ({p}, {m}).")
        if self.cross_entropy is not None and self.cross_entropy.shape != (p, m):
            problems.append(f"Front {self.name!r}: cross-entropy has shape {self.cross_entropy.shape}, not ({p}, {m}).")
        if self.per_query is not None and (self.per_query.ndim != 3 or self.per_query.shape[::2] != (p, 1 + m)):
            problems.append(f"Front {self.name!r}: per-query NDCG has shape {self.per_query.shape}.")
        if len(self.reference) not in (0, m):
            problems.append(f"Front {self.name!r}: the reference point has {len(self.reference)} numbers, not {m}.")
        if problems:
            raise DataError(problems)

    @property
    def m(self) -> int:
        return len(self.objectives)

    @property
    def auxiliary(self) -> np.ndarray:
        """(p, m) NDCG of the auxiliary objectives: the space in which hypervolume is measured."""
        return self.ndcg[:, 1:]

    @property
    def hypervolume(self) -> float:
        return hypervolume(self.auxiliary, np.array(self.reference_point))

    @property
    def reference_point(self) -> tuple[float, ...]:
        """(m,) what hypervolume is measured from."""
        return self.reference or (0.0,) * self.m

    @property
    def sparsity(self) -> float:
        return sparsity(self.auxiliary)

    @property
    def main_mean(self) -> float:
        """Mean over the points of the main objective's NDCG."""
        return float(self.ndcg[:, 0].mean())

    @property
    def main_std(self) -> float:
        """Standard deviation over the points (not over seeds), as in the paper's Table 1."""
        return float(self.ndcg[:, 0].std())

    @property
    def non_dominated(self) -> np.ndarray:
        return non_dominated(self.auxiliary)

    def restrict(self, objectives: tuple[str, ...]) -> np.ndarray:
        """(p, len(objectives)) NDCG of some objectives (main allowed), in the order asked for."""
        names = [self.main, *self.objectives]
        return self.ndcg[:, [names.index(o) for o in objectives]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the points with their weights and metrics, and the summary figures."""
        names = [self.main, *self.objectives]
        points = []
        for i in range(len(self.ndcg)):
            point: dict[str, Any] = {
                "weights": dict(zip(self.objectives, _plain(self.weights[i]), strict=False)),
                "scale": self.scale,
                "ndcg": dict(zip(names, _plain(self.ndcg[i]), strict=True)),
            }
            if self.cross_entropy is not None:
                point["cross_entropy"] = dict(zip(self.objectives, _plain(self.cross_entropy[i]), strict=True))
            points.append(point)
        return {
            "name": self.name,
            "metric": self.metric,
            "method": self.method,
            "main": self.main,
            "objectives": list(self.objectives),
            "scale": self.scale,
            "k": self.k,
            "split": self.split,
            "beta": list(self.beta),
            "models": self.models,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "run": self.run,
            "data": self.data,
            "reference": list(self.reference_point),
            "hypervolume": self.hypervolume,
            "sparsity": self.sparsity,
            "main_mean": self.main_mean,
            "main_std": self.main_std,
            "points": points,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ParetoFront:
        """The inverse of `to_dict` (without arrays kept beside it). Raises DataError naming what is missing."""
        try:
            objectives = tuple(fields["objectives"])
            names = [fields["main"], *objectives]
            points = fields["points"]
            entropies = [p.get("cross_entropy") for p in points]
            return cls(
                name=fields["name"],
                method=fields["method"],
                main=fields["main"],
                objectives=objectives,
                weights=np.array([[p["weights"][o] for o in objectives if p["weights"]] for p in points], dtype=float),
                scale=float(fields["scale"]),
                k=int(fields["k"]),
                split=fields["split"],
                ndcg=np.array([[p["ndcg"][o] for o in names] for p in points], dtype=float),
                cross_entropy=None
                if None in entropies
                else np.array([[e[o] for o in objectives] for e in entropies], dtype=float),
                models=fields.get("models", 0),
                parameters=fields.get("parameters", 0),
                seconds=fields.get("seconds", 0.0),
                run=fields.get("run", ""),
                data=fields.get("data", ""),
                beta=tuple(fields.get("beta", ())),
                device=fields.get("device", ""),
                reference=tuple(map(float, fields["reference"])) if any(fields.get("reference", ())) else (),
                metric=fields.get("metric", NDCG),
            )
        except DataError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"A front is missing or misstates {error}; it was not written by this program.") from None

    def with_arrays(self, per_query: np.ndarray | None, residuals: np.ndarray | None) -> ParetoFront:
        """The same front with the arrays kept beside front.json."""
        return replace(self, per_query=per_query, residuals=residuals)


def _plain(row: np.ndarray) -> list[float]:
    return [round(float(v), 7) for v in row]


# What fronts must share to be compared.
TERMS = ("metric", "main", "objectives", "data", "split", "k", "scale", "beta", "reference_point")
UNTEMPERED = ("base", "oracle-unconstrained")  # the same at every c and beta


def differing_terms(first: ParetoFront, other: ParetoFront) -> tuple[str, ...]:
    """Which of TERMS forbid comparing two fronts; empty where nothing does.

    A front without a temperature (the base, an unconstrained oracle) is of every c and beta.
    """
    free = {"scale", "beta"} if first.method in UNTEMPERED or other.method in UNTEMPERED else set()
    if not (first.beta and other.beta):
        free.add("beta")
    if first.m != other.m:  # the objectives say it all
        free.add("reference_point")
    return tuple(t for t in TERMS if t not in free and getattr(first, t) != getattr(other, t))


def comparable(fronts: list[ParetoFront]) -> None:
    """Raises ConfigError naming every difference that makes these fronts incomparable (see `differing_terms`)."""
    problems = []
    first = fronts[0]
    for other in fronts[1:]:
        for what in differing_terms(first, other):
            a, b = getattr(first, what), getattr(other, what)
            if what == "data":
                a, b = a[:12], b[:12]
            problems.append(
                f"{first.name!r} ({first.run}) and {other.name!r} ({other.run}) differ in {what.replace('_', ' ')}: "
                f"{a} and {b}; fronts are compared on the same terms only: evaluate both runs alike."
            )
    if problems:
        raise ConfigError(problems)


def front_weights(m: int, points: int) -> np.ndarray:
    """`weights.grid` as a float64 array (points, m)."""
    from hyperdpo.weights import grid  # here, so that fronts can be read and drawn without loading torch

    return grid(m, points).numpy().astype(float)
