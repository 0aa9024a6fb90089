"""Figures of a study's rows: each variant of each case with intervals, what it cost, and whether ours is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hyperdpo.errors import RunError
from hyperdpo.front import hypervolume
from hyperdpo.methods import CONDITIONED, TREES, members, mixing_weights
from hyperdpo.paired import Sampled, Samples, front_distance, percentiles, same_weight_distance
from hyperdpo.rank.model import count_parameters
from hyperdpo.rank.run import build_model
from hyperdpo.rank.study.recipe import Case, Recipe, Variant
from hyperdpo.rank.study.units import SCALES, Measured, scale_name
from hyperdpo.rank.train import RankConfig, plan_of_model

OWN = "own"
FACTS = {"base": "base", "oracle": "best possible at this beta", "oracle-unconstrained": "best possible"}
SHOWN_FACTS = ("base", "oracle")
REACH = {"baseline": 1.05, "oracle": 0.95, "time": 1.5}
"""What ours should reach (issue 3): times the best baseline's hypervolume, or of the oracle's; within as many times the
training of one single-objective model."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One variant on one case: the folds' queries side by side, a front for each seed.

    Attributes:
        per_query: (S, p, q, 1 + m).
        facts: the same for the base and the oracles, by method.
    """

    case: Case
    variant: Variant
    seeds: tuple[int, ...]
    per_query: np.ndarray
    facts: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    about: Mapping[str, Any]


def make_cell(case: Case, variant: Variant, found: Mapping[int, Sequence[Measured]]) -> Cell:
    """A cell from {seed: what each fold measured}. Seconds are summed over folds and averaged over seeds."""
    seeds = tuple(sorted(found))
    first = found[seeds[0]][0]

    def joined(front: str) -> np.ndarray:
        return np.stack([np.concatenate([fold.ndcg[front] for fold in found[s]], axis=1) for s in seeds])

    def spent(key: str) -> float:
        return float(np.mean([sum(fold.about[key] for fold in found[s]) for s in seeds]))

    common = [set(fold.ndcg) for s in seeds for fold in found[s]]
    facts = {name: joined(name) for name in FACTS if all(name in known for known in common)}
    about = {
        **{key: first.about[key] for key in ("models", "parameters", "features", "device", "k", "beta")},
        **{key: spent(key) for key in ("seconds", "cpu_seconds", "base_seconds")},
        "queries": sum(fold.about["queries"] for fold in found[seeds[0]]),
    }
    return Cell(case, variant, seeds, joined(OWN), facts, first.names, about)


@dataclass(frozen=True, eq=False)
class CaseTable:
    """All cells of one case on the bootstrap samples they share."""

    recipe: Recipe
    case: Case
    cells: Sequence[Cell]
    dense: Sequence[Cell] = ()
    """For an across report: variants that answer any w, at every weight of its spacing."""
    curves: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    """{label: {seed: (len(SCALES), p, 1 + m)}}: mean NDCG as c moves."""

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that every cell has: comparisons are paired."""
        return tuple(sorted(set.intersection(*(set(c.seeds) for c in self.cells))))

    @cached_property
    def samples(self) -> Samples:
        return Samples.draw(self.cells[0].per_query.shape[2], len(self.seeds), draws=self.recipe.draws)

    @cached_property
    def sampled(self) -> list[Sampled]:
        """One for each cell, in order."""
        return [Sampled(self._common(c, c.per_query), self.samples) for c in self.cells]

    def dense_volumes(self, label: str) -> dict[str, float]:
        """{own, oracle ...: hypervolume, mean over seeds} of a variant at the spacing; empty where not measured."""
        found = [c for c in self.dense if c.variant.label == label and set(self.seeds) <= set(c.seeds)]
        return {
            name: Sampled(self._common(c, front), self.samples).value("hypervolume")
            for c in found
            for name, front in {OWN: c.per_query, **c.facts}.items()
        }

    @cached_property
    def facts(self) -> dict[str, Sampled]:
        """The base and, where all cells are asked for the same temperature, the oracle, as the first cell met them."""
        first = self.cells[0]
        terms = {(c.variant.config.beta, c.variant.scale, c.variant.at_beta) for c in self.cells}
        shown = [n for n in SHOWN_FACTS if n in first.facts and (n == "base" or len(terms) == 1)]
        return {n: Sampled(self._common(first, first.facts[n]), self.samples) for n in shown}

    def _common(self, cell: Cell, per_query: np.ndarray) -> np.ndarray:
        return per_query[[cell.seeds.index(s) for s in self.seeds]]

    @cached_property
    def ours(self) -> int | None:
        labels = [c.variant.label for c in self.cells]
        return labels.index(self.recipe.ours) if self.recipe.ours in labels else None

    def rows(self) -> list[dict[str, Any]]:
        """One dict a row: figures with intervals, costs, and `against`: ours against this row."""
        out = []
        for cell, sampled in zip(self.cells, self.sampled, strict=True):
            row = {**_figures(sampled), **_costs(cell)}
            head = self._head(cell.variant.label, cell.variant)
            equal = self.equal_main(cell.variant.label)
            out.append({**head, **row, "against": self._against(sampled), "equal_main": equal})
        for name, sampled in self.facts.items():
            out.append({**self._head(FACTS[name], None), **_figures(sampled), "against": self._against(sampled)})
        return out

    def _head(self, label: str, variant: Variant | None) -> dict[str, Any]:
        return {
            "case": self.case.name,
            "label": label,
            "series": variant.series if variant else label,
            "method": variant.config.method.method if variant else None,
            "x": variant.x if variant else None,
            "seeds": list(self.seeds),
        }

    def _against(self, theirs: Sampled) -> dict[str, Any] | None:
        if self.ours is None or theirs is self.sampled[self.ours]:
            return None
        ours = self.sampled[self.ours]
        return {figure: ours.against(theirs, figure).to_dict() for figure in ("hypervolume", "main")}

    def equal_main(self, label: str) -> dict[str, float] | None:
        """Ours against a row whose c makes its mean main score ours: c, hypervolume and ratio, means over seeds.

        A bolder method has more hypervolume and less of the main score, whatever its quality. None where this was not
        measured, and where no c of SCALES gives that score.
        """
        curve = self.curves.get(label, {})
        if self.ours is None or label == self.cells[self.ours].variant.label or not set(self.seeds) <= set(curve):
            return None
        mine = self.sampled[self.ours].figures
        found = np.array([at_main(curve[s], float(mine[i, 1])) for i, s in enumerate(self.seeds)])
        if not np.isfinite(found).all():
            return None
        c, volume = found.mean(0)
        return {"scale": float(c), "hypervolume": float(volume), "ratio": float(mine[:, 0].mean() / volume)}

    def reach(self) -> dict[str, Any] | None:
        """Ours against the best of the other methods, the oracle, and the time of one single-objective model."""
        if self.ours is None or self.recipe.report != "table":
            return None
        mine, own = self.sampled[self.ours], self.cells[self.ours]
        methods = {c.variant.config.method.method for c in self.cells} - {own.variant.config.method.method}
        others = [i for i, c in enumerate(self.cells) if c.variant.config.method.method in methods]
        out: dict[str, Any] = {"ours": own.variant.label}
        if others:
            best = max(others, key=lambda i: self.sampled[i].value("hypervolume"))
            out["best_baseline"] = self.cells[best].variant.label
            out["ratio"] = mine.against(self.sampled[best]).to_dict()
            equal = {self.cells[i].variant.label: self.equal_main(self.cells[i].variant.label) for i in others}
            known = {label: found for label, found in equal.items() if found}
            if known:
                label = max(known, key=lambda name: known[name]["hypervolume"])
                out["equal_main"] = {"best_baseline": label, **known[label]}
        if "oracle" in self.facts:
            out["oracle_share"] = mine.against(self.facts["oracle"]).to_dict()
        single = [c for c in self.cells if c.variant.config.method.method == "dpo-ls"]
        if single and own.variant.config.method.method in CONDITIONED:
            # Where each knows what its process computed, a busy machine does not enter.
            clock = "cpu_seconds" if all(c.about["cpu_seconds"] > 0 for c in [own, *single]) else "seconds"
            one = min(c.about[clock] / c.about["models"] for c in single)
            out["time_ratio"] = own.about[clock] / one if one > 0 else None
        return out

    def distances(self) -> list[dict[str, Any]]:
        """For a distance report: how far each front lies from the reference's at the same x.

        `floor` is how far two seeds of the reference lie from each other: no method can be told from it below that.
        """
        at = {(c.variant.series, c.variant.x): i for i, c in enumerate(self.cells)}
        out = []
        for i, cell in enumerate(self.cells):
            j = at.get((str(cell.variant.reference), cell.variant.x))
            if j is None:
                continue
            mine, theirs = self.sampled[i], self.sampled[j]
            out.append({
                "case": self.case.name, "label": cell.variant.label, "series": cell.variant.series, "x": cell.variant.x,
                "reference": cell.variant.reference, **_distances(mine, theirs), "floor": _floor(theirs.points),
                "hypervolume": mine.against(theirs).to_dict(),
                "seconds": cell.about["seconds"], "reference_seconds": self.cells[j].about["seconds"],
            })  # fmt: skip
        return out


def make_curve(found: Mapping[int, Sequence[Measured]]) -> dict[int, np.ndarray]:
    """{seed: (len(SCALES), p, 1 + m)} mean NDCG as c moves, over the queries of all folds."""
    return {
        seed: np.stack([
            np.nanmean(np.concatenate([fold.ndcg[scale_name(c)] for fold in folds], axis=1), axis=1, dtype=np.float64)
            for c in SCALES
        ])
        for seed, folds in found.items()
    }  # fmt: skip


def at_main(curve: np.ndarray, main: float) -> tuple[float, float]:
    """(c, hypervolume) at which the mean main score of a curve (len(SCALES), p, 1 + m) is `main`, interpolated.

    NaN outside the range of SCALES.
    """
    mains = curve[:, :, 0].mean(1)
    volumes = [hypervolume(points[:, 1:]) for points in curve]
    order = np.argsort(mains)
    log_c, volume = (
        np.interp(main, mains[order], np.asarray(values)[order], left=np.nan, right=np.nan)
        for values in (np.log(SCALES), volumes)
    )
    return float(np.exp(log_c)), float(volume)


def _figures(sampled: Sampled) -> dict[str, Any]:
    main = sampled.estimate("main").to_dict()
    return {
        "hypervolume": sampled.estimate("hypervolume").to_dict(),
        "main": main,
        "main_std": sampled.main_std,
        "sparsity": sampled.estimate("sparsity").to_dict(),
    }


def _costs(cell: Cell) -> dict[str, Any]:
    keys = ("seconds", "cpu_seconds", "base_seconds", "models", "parameters", "features", "queries", "device")
    return {**{key: cell.about[key] for key in keys}, "tuning_seconds": cell.variant.tuning_seconds}


def _distances(a: Sampled, b: Sampled) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, measure in (("same_w", same_weight_distance), ("front", front_distance)):
        each = measure(a.points[..., 1:], b.points[..., 1:])
        drawn = measure(a.sampled_points[..., 1:], b.sampled_points[..., 1:])
        mean = (drawn * a.samples.seeds).sum(1) / a.samples.seeds.sum(1)
        interval = percentiles(mean)
        out[name] = {"value": float(each.mean()), "interval": list(interval) if interval else None}
    return out


def _floor(points: np.ndarray) -> dict[str, float] | None:
    """Mean distance between the fronts of two seeds; None for one seed."""
    seeds = len(points)
    pairs = [(i, j) for i in range(seeds) for j in range(i)]
    if not pairs:
        return None
    one, other = (points[[p[k] for p in pairs]][..., 1:] for k in (0, 1))
    return {
        "same_w": float(same_weight_distance(one, other).mean()),
        "front": float(front_distance(one, other).mean()),
    }


def parameters_at(config: RankConfig, features: int, objectives: int) -> int | None:
    """Trained numbers of a method's models at another size of data, counted from models built for it.

    None for trees, whose number depends on the data.
    """
    if config.method.method in TREES:
        return None
    resolved = config.resolve(objectives)
    model = build_model(plan_of_model(resolved), features, objectives)
    count = len(members(resolved.method, objectives))
    return count * count_parameters(model) + mixing_weights(resolved.method, objectives)


def check_same_queries(cells: Sequence[Cell]) -> None:
    """Raises RunError where cells of one case were measured on different queries."""
    shapes = {c.per_query.shape[2] for c in cells}
    if len(shapes) > 1:
        raise RunError(f"{cells[0].case.name} was measured on different numbers of queries ({sorted(shapes)}).")
