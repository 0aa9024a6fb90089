"""Pure: a selection among the points of a comparison, as ranges of their figures, and how the charts show it.

A brush, a box or a lasso becomes a range of every figure it bounds; a point is selected when it lies in all of them.
So one selection means the same on every view, for fronts of every run, and an address or a pair of sliders can say it.
Source: issue 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dashboard.charts import Figure, faint, plane_order
from dashboard.readings import Entrant
from dashboard.state import Range
from hyperdpo.front import ParetoFront

WEIGHT = "w."  # stands before an objective whose attention, not figure, is meant
DIM, DIM_LINE = 0.14, 0.22
ROUNDING = 5e-5  # half a unit of the last digit that an address says


def labels(names: Sequence[str]) -> tuple[str, ...]:
    """Everything that may have a range: the figures, main first, then the objectives' attention."""
    return (*names, *(f"{WEIGHT}{name}" for name in names[1:]))


def chosen(front: ParetoFront, names: Sequence[str], ranges: Sequence[Range]) -> np.ndarray:
    """(p,) whether each point of a front lies in every range; a point without the figure or weights does not."""
    keep = np.ones(len(front.ndcg), bool)
    for item in ranges:
        keep &= inside(_column(front, names, item.name), item)
    return keep


def inside(values: np.ndarray, item: Range) -> np.ndarray:
    """(p,) whether values lie in a range, its ends included; NaN does not."""
    out: np.ndarray = (values >= item.low - ROUNDING) & (values <= item.high + ROUNDING)
    return out


def _column(front: ParetoFront, names: Sequence[str], name: str) -> np.ndarray:
    if name in names:
        return front.ndcg[:, list(names).index(name)]
    if not front.weights.shape[1]:
        return np.full(len(front.ndcg), np.nan)
    return front.weights[:, list(names[1:]).index(name.removeprefix(WEIGHT))]


def merged(old: Sequence[Range], new: Sequence[Range]) -> tuple[Range, ...]:
    """The ranges of both, the new one where both bound the same figure."""
    found = {item.name: item for item in (*old, *new)}
    return tuple(found.values())


def brushed(view: str, selection: Any, names: Sequence[str], spans: np.ndarray, lattice: np.ndarray) -> list[Range]:
    """The ranges that a selection made with the mouse on one of the views means; none for an empty one.

    Args:
        selection: what the chart reports: `box` and `point_indices`.
        names: main first. spans: (1 + m, 2) of the axes. lattice: (p, 3) weights of the triangle's dots.
    """
    if not isinstance(selection, Mapping):
        return []
    if view == "triangle":
        return _of_dots(selection.get("points") or [], names, lattice)
    out: list[Range] = []
    for box in selection.get("box") or []:
        x, y = sorted(map(float, box["x"])), sorted(map(float, box["y"]))
        out += _of_axes(x, y, names, spans) if view == "lines" else _of_pair(box, x, y, names)
    return out


def _of_axes(x: Sequence[float], y: Sequence[float], names: Sequence[str], spans: np.ndarray) -> list[Range]:
    """A brush over parallel coordinates bounds each axis it crosses; the axes stand at 0, 1 ..., the main one last."""
    order = [*range(1, len(names)), 0]
    crossed = [column for place, column in enumerate(order) if x[0] <= place <= x[1]]
    low, size = spans[:, 0], np.maximum(np.ptp(spans, axis=1), 1e-9)
    return [_range(names[c], low[c] + y[0] * size[c], low[c] + y[1] * size[c]) for c in crossed]


def _of_pair(box: Mapping[str, Any], x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> list[Range]:
    """A box in one cell of the pair matrix bounds its two objectives."""
    column, row = (int(str(box[ref])[1:] or 1) - 1 for ref in ("xref", "yref"))
    return [_range(names[column + 1], *x), _range(names[len(names) - 1 - row], *y)]


def _of_dots(points: Sequence[Any], names: Sequence[str], lattice: np.ndarray) -> list[Range]:
    """The dots picked in the triangle bound the attention on each objective."""
    picked = [p["point_index"] for p in points if p.get("curve_number") == 0 and p["point_index"] < len(lattice)]
    if not picked:
        return []
    low, high = lattice[picked].min(0), lattice[picked].max(0)
    return [_range(f"{WEIGHT}{n}", a, b) for n, a, b in zip(names[1:], low, high, strict=True)]


def _range(name: str, low: float, high: float) -> Range:
    return Range(name, round(float(low), 4), round(float(high), 4))


# ---------------------------------------------------------------------------------------------------------------------
# How charts show it


def fade(figure: Figure, entrants: Sequence[Entrant], names: Sequence[str], ranges: Sequence[Range]) -> Figure:
    """The figure of any view with the points out of the selection faded; each front keeps its colour."""
    if not ranges:
        return figure
    by_key = {e.key: e.front for e in entrants}
    data: list[dict[str, Any]] = []
    for trace in figure["data"]:
        kind, _, rest = str(trace.get("meta", "")).partition("|")
        key = next((k for k in by_key if rest == k or rest.startswith(f"{k}|")), None)
        if kind == "parallel" and key is not None:
            data = [*_split(trace, chosen(by_key[key], names, ranges), len(names)), *data]
        elif kind in ("front", "pair") and key is not None:
            columns = _axes(trace, by_key[key], rest.removeprefix(key), names)
            data.append(_dimmed(trace, by_key[key], columns, chosen(by_key[key], names, ranges)))
        else:
            data.append(trace)
    return {**figure, "data": data}


def _axes(trace: dict[str, Any], front: ParetoFront, pair: str, names: Sequence[str]) -> tuple[int, int]:
    """Columns of a pair's trace, which its meta names."""
    found = [(i, j) for i, a in enumerate(names) for j, b in enumerate(names) if pair == f"|{a}|{b}"]
    return found[0] if found else (-1, -1)


def _dimmed(trace: dict[str, Any], front: ParetoFront, columns: tuple[int, int], keep: np.ndarray) -> dict[str, Any]:
    order, faded = plane_order(front.ndcg[:, list(columns)])
    steps: list[int | None] = [*order, *(s for point in faded for s in (None, point))]
    opacity = [1.0 if s is None or keep[s] else DIM for s in steps]  # also those that another beats in this plane
    line = {**trace["line"], "color": faint(trace["line"]["color"], DIM_LINE)}
    return {**trace, "line": line, "marker": {**trace["marker"], "opacity": opacity}}


def _split(trace: dict[str, Any], keep: np.ndarray, axes: int) -> list[dict[str, Any]]:
    """The lines out of the selection, faded, then those in it."""
    parts = []
    for wanted, looks in ((False, {"opacity": DIM, "name": "", "showlegend": False}), (True, {})):
        places = [p * (axes + 1) + s for p in np.flatnonzero(keep == wanted) for s in range(axes + 1)]
        lines = {key: [trace[key][place] for place in places] for key in ("x", "y", "text")}
        parts.append({**trace, **lines, **looks, "meta": trace["meta"] if wanted else f"out{trace['meta']}"})
    return parts


def fade_dots(
    figure: Figure, weights: np.ndarray, values: np.ndarray, names: Sequence[str], ranges: Sequence[Range]
) -> Figure:
    """The triangle with the dots out of the selection faded.

    Args:
        weights: (p, 3) of the dots. values: (p, 1 + m) their figures, main first.
    """
    if not ranges:
        return figure
    keep = np.ones(len(weights), bool)
    for item in ranges:
        figures = values[:, names.index(item.name)] if item.name in names else None
        column = weights[:, names[1:].index(item.name.removeprefix(WEIGHT))] if figures is None else figures
        keep &= inside(column, item)
    dots = figure["data"][0]
    marker = {**dots["marker"], "opacity": [1.0 if on else DIM for on in keep]}
    return {**figure, "data": [{**dots, "marker": marker}, *figure["data"][1:]]}


def span(entrants: Sequence[Entrant], names: Sequence[str], name: str, spans: np.ndarray) -> tuple[float, float]:
    """Ends of the slider for one range: attention from 0 to 1, figures as far as any front goes, rounded outwards."""
    if name not in names:
        return 0.0, 1.0
    low, high = spans[list(names).index(name)]
    return math.floor(1000 * low) / 1000, math.ceil(1000 * high) / 1000
