"""Reports across cases: cost and hypervolume against m or against the training lists, and what the numbers say.

Hypervolumes over different numbers of objectives are not comparable, so that each stands beside its share of the best
possible one where that is known. At a fixed spacing of the weights only methods that answer any w are measured; what
the others would cost there is computed: seconds and parameters of one model times the models needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperdpo.figures import Figure, Series, sweep_figure
from hyperdpo.methods import EVERY_WEIGHT, members, mixing_weights
from hyperdpo.rank.study.recipe import Recipe
from hyperdpo.rank.study.rows import OWN, CaseTable, Cell
from hyperdpo.tables import table
from hyperdpo.weights import lattice_size

OBJECTIVES = "objectives"
TITLES = {OBJECTIVES: "m, objectives", "train_queries": "training lists"}
SHORT = {OBJECTIVES: "m", "train_queries": "lists"}
NOISE = 0.1  # a cost that fits x ** (1 + NOISE) or less is no faster than in proportion: timings are that noisy
ORACLE = "oracle"

Row = dict[str, Any]


@dataclass(frozen=True)
class Growth:
    """How a cost grows with x.

    Attributes:
        factor: the last cost over the first.
        per_step: the factor for each 1 more of x, of the exponential that fits best.
        kind: `proportion` (no faster than x), `line` or `exponential`, whichever fits better.
    """

    factor: float
    per_step: float
    kind: str

    @property
    def words(self) -> str:
        if self.kind == "exponential":
            return f"exponentially, {self.per_step:.1f} times for each objective"
        return "no faster than in proportion to m" if self.kind == "proportion" else "as a line"


def growth(x: Sequence[float], cost: Sequence[float]) -> Growth | None:
    """How positive costs grow with positive x, in ascending order; None for fewer than three.

    A power of at most about 1 is no faster than in proportion: one slow timing does not change that. Else a line and an
    exponential have two numbers each, so that the smaller relative error decides between them.
    """
    at, found = np.asarray(x, float), np.asarray(cost, float)
    if len(at) < 3 or not (found > 0).all():
        return None
    log = np.log(found)
    rate, level = np.polyfit(at, log, 1)
    exponential = rate * at + level
    slope, start = np.polyfit(at, found, 1, w=1 / found)
    line = slope * at + start
    errors = [float(np.square(exponential - log).sum())]
    errors.append(float(np.square(np.log(line) - log).sum()) if (line > 0).all() else math.inf)
    kind = "exponential" if errors[0] < errors[1] else "line"
    if np.polyfit(np.log(at), log, 1)[0] <= 1 + NOISE:
        kind = "proportion"
    return Growth(float(found[-1] / found[0]), float(np.exp(rate)), kind)


def rows(recipe: Recipe, tables: Sequence[CaseTable]) -> list[Row]:
    """One dict for each variant of each case, in the order of x."""
    return sorted(
        (_row(recipe, t, i) for t in tables for i in range(len(t.cells))), key=lambda row: row["x"]
    )  # sorted is stable


def _row(recipe: Recipe, t: CaseTable, index: int) -> Row:
    cell, sampled = t.cells[index], t.sampled[index]
    m = len(cell.names) - 1
    oracle = t.facts.get(ORACLE)
    row: Row = {
        "case": t.case.name,
        "label": cell.variant.label,
        "x": m if recipe.x == OBJECTIVES else t.case.train_queries,
        "hypervolume": sampled.estimate("hypervolume").to_dict(),
        "main": sampled.estimate("main").to_dict(),
        "share": sampled.against(oracle).to_dict() if oracle else None,
        "cpu_seconds": cell.about["cpu_seconds"] or cell.about["seconds"],
        "models": cell.about["models"],
        "parameters": cell.about["parameters"],
        "spacing": _at_spacing(recipe, t, cell, m) if recipe.steps else None,
    }
    return row


def _at_spacing(recipe: Recipe, t: CaseTable, cell: Cell, m: int) -> Row:
    """What every weight at the recipe's spacing costs, and the hypervolume there where it was measured."""
    points = lattice_size(m, recipe.steps)
    about, method = cell.about, cell.variant.config.resolve(m).method
    any_weight = method.method in EVERY_WEIGHT
    trained = len(members(method, m))
    needed = trained if any_weight else trained - method.points + points
    mixing = mixing_weights(method, m)
    volumes = t.dense_volumes(cell.variant.label)
    return {
        "points": points,
        "models": needed,
        "cpu_seconds": (about["cpu_seconds"] or about["seconds"]) * needed / trained,
        "parameters": (about["parameters"] - mixing) * needed // trained
        + mixing_weights(replace(method, points=points), m),
        "computed": not any_weight,
        "hypervolume": volumes.get(OWN),
        "share": volumes[OWN] / volumes[ORACLE] if volumes.get(ORACLE) else None,
    }


# --- what the numbers say


def claims(recipe: Recipe, found: Sequence[Row]) -> list[str]:
    """Sentences derived from the rows."""
    if len({row["x"] for row in found}) < 2:
        return []
    return _cost_claims(recipe, found) if recipe.x == OBJECTIVES else _sample_claims(recipe, found)


def _cost_claims(recipe: Recipe, found: Sequence[Row]) -> list[str]:
    points = recipe.variants[0].config.method.points
    grids = [(f"At {points} points for every m", {label: _growth(of, None) for label, of in _series(found).items()})]
    if recipe.steps:
        counts = ", ".join(f"{n:,}" for n in dict.fromkeys(row["spacing"]["points"] for row in found))
        title = f"At a spacing of 1/{recipe.steps} ({counts} points)"
        grids.append((title, {label: _growth(of, "spacing") for label, of in _series(found).items()}))
    said = []
    for title, each in grids:
        known = {label: g for label, g in each.items() if g}
        if not known:
            continue
        parts = [f"{label} {g.factor:,.1f} times ({g.words})" for label, g in known.items()]
        said.append(f"{title} the training time grows from the least to the most objectives: {'; '.join(parts)}.")
        said.append(_verdict(recipe, known))
    return said


def _verdict(recipe: Recipe, known: Mapping[str, Growth]) -> str:
    """Whether the paper's claim holds: linear for HyperDPO, exponential for the others."""
    labels = {v.label: v.config.method.method for v in recipe.variants}
    ours = {label: g for label, g in known.items() if labels[label] == "hyperdpo"}
    parts = []
    if ours:
        holds = all(g.kind != "exponential" for g in ours.values())
        parts.append(f"`linear in m` {'holds' if holds else 'does not hold'} for {', '.join(ours)}")
    for holds, words in ((True, "holds"), (False, "does not hold")):
        those = [n for n, g in known.items() if n not in ours and (g.kind == "exponential") is holds]
        if those:
            parts.append(f"`exponential in m` {words} for {', '.join(those)}")
    return f"The paper's claim there: {'; '.join(parts)}."


def _growth(of: Sequence[Row], part: str | None) -> Growth | None:
    return growth([row["x"] for row in of], [(row[part] if part else row)["cpu_seconds"] for row in of])


def _sample_claims(recipe: Recipe, found: Sequence[Row]) -> list[str]:
    series = _series(found)
    xs = list(dict.fromkeys(row["x"] for row in found))
    volume = {label: [row["hypervolume"]["value"] for row in of] for label, of in series.items()}
    gains = [f"{label} {100 * (v[-1] / v[0] - 1):+.1f} %" for label, v in volume.items() if len(v) == len(xs)]
    said = [f"From {xs[0]:,} to {xs[-1]:,} training lists hypervolume changes: {'; '.join(gains)}."]
    leads = [max(volume, key=lambda label: volume[label][i] if i < len(volume[label]) else 0.0) for i in range(len(xs))]
    said.append(
        "Most hypervolume: " + "; ".join(f"{n:,} lists, {label}" for n, label in zip(xs, leads, strict=True)) + "."
    )
    if recipe.ours in volume:
        mine = volume[recipe.ours][0]
        parts = [f"{mine / v[-1]:.3f} of {label}" for label, v in volume.items() if label != recipe.ours]
        said.append(f"With {xs[0]:,} lists {recipe.ours} has, relative to {xs[-1]:,} lists, {'; '.join(parts)}.")
    return said


def _series(found: Sequence[Row]) -> dict[str, list[Row]]:
    return {label: [r for r in found if r["label"] == label] for label in dict.fromkeys(r["label"] for r in found)}


# --- text and figure


def text(recipe: Recipe, found: Sequence[Row]) -> str:
    """The table against x, and the sentences."""
    x = SHORT[recipe.x]
    headers = ["", x, "hypervolume", "of the best possible", "main", "CPU s", "models", "parameters"]
    dense = ["points", "models there", "CPU s there", "parameters there", "hypervolume there", "of the best there"]
    lines = []
    for row in found:
        volume, share = row["hypervolume"]["value"], row["share"]
        cells: list[object] = [
            row["label"], f"{row['x']:,}", f"{volume:.5f}", _share(share and share["ratio"]), row["main"]["value"],
            f"{row['cpu_seconds']:,.1f}", row["models"], row["parameters"],
        ]  # fmt: skip
        if recipe.steps:
            at = row["spacing"]
            mark = " (computed)" if at["computed"] else ""
            there = None if at["hypervolume"] is None else f"{at['hypervolume']:.5f}"
            cells += [at["points"], at["models"], f"{at['cpu_seconds']:,.1f}{mark}", at["parameters"], there,
                      _share(at["share"])]  # fmt: skip
        lines.append(cells)
    title = f"Against {TITLES[recipe.x]}"
    if recipe.steps:
        title += (
            f"; `there` is at every weight that is a multiple of 1/{recipe.steps}, where a cost is computed from one "
            "model's for methods that need a model for each weight"
        )
    shown = table(headers + (dense if recipe.steps else []), lines)
    return "\n".join([title, shown, *claims(recipe, found)])


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def figure(recipe: Recipe, found: Sequence[Row], title: str) -> Figure:
    """Hypervolume (or its share of the best possible) and CPU seconds against x."""
    shares = all(row["share"] for row in found)
    panels = [
        (
            "hypervolume of the best possible" if shares else "hypervolume",
            _panel(found, _share_of if shares else _volume_of),
        )
    ]
    panels.append((f"CPU s, {recipe.variants[0].config.method.points} points", _panel(found, _cost_of)))
    if recipe.steps:
        panels.append((f"CPU s, spacing 1/{recipe.steps}", _panel(found, lambda row: _cost_of(row["spacing"]))))
    return sweep_figure(panels, TITLES[recipe.x], title)


def _panel(found: Sequence[Row], value: Any) -> list[Series]:
    out = []
    for label, of in _series(found).items():
        middle, low, high = zip(*(value(row) for row in of), strict=True)
        out.append(Series(label, [float(row["x"]) for row in of], middle, low, high))
    return out


def _share_of(row: Row) -> tuple[float, float, float]:
    return (row["share"]["ratio"], *row["share"]["ratio_interval"])


def _volume_of(row: Row) -> tuple[float, float | None, float | None]:
    return (row["hypervolume"]["value"], *(row["hypervolume"]["interval"] or (None, None)))


def _cost_of(row: Row) -> tuple[float, None, None]:
    return row["cpu_seconds"], None, None
