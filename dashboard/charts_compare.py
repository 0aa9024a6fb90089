"""Pure: the figures of a comparison, in the looks that charts.py decides. Plain dicts, as there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from dashboard import words
from dashboard.charts import (
    CLEAR,
    GRID,
    LOOKS,
    NEUTRAL,
    NOTHING,
    SEQUENTIAL,
    Figure,
    Look,
    axis,
    faint,
    frame,
    front_trace,
    look,
    number,
    padded,
    plane_layout,
    point_words,
    safe,
)
from dashboard.readings import Curve, Entrant, Judged
from hyperdpo.comparison import SURE, Stretches

STRIP = 0.055  # height of the strip of owners, as a share of the chart
INTERVAL_OPACITY = 0.4
TALL = 440  # pixels
SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 3 * 3600, 10 * 3600, 24 * 3600, 100 * 3600)
LATTICE_SIZE = 25  # pixels of one measured point in the triangle


def entrant_look(entrant: Entrant) -> Look:
    """How an entrant is drawn everywhere."""
    return look(entrant.front.method, entrant.nth)


def legend_name(entrant: Entrant) -> str:
    """What the legend says: the name and how many models the front costs."""
    models = entrant.front.models
    return safe(entrant.front.name, 48) + (f" · {models} model{'s' if models != 1 else ''}" if models else "")


# ---------------------------------------------------------------------------------------------------------------------
# Fronts in the plane of two objectives


def overlay_figure(
    entrants: Sequence[Entrant],
    names: Sequence[str],
    x: str,
    y: str,
    ranges: np.ndarray,
    *,
    judged: Mapping[str, Judged] | None = None,
    owned: tuple[Stretches, Sequence[Entrant]] | None = None,
    view: str = "",
) -> Figure:
    """Fronts overlaid in the plane of two objectives, and under them who gives most of y at each level of x.

    Args:
        entrants: what is drawn, the most important first.
        names: main, then the objectives. ranges: (1 + m, 2) the axes hold these.
        judged: by key; a point's 95 % interval is drawn as a thin cross where it is known.
        owned: the strip and the entrants its owners count among.
        view: what the reader's zoom belongs to.
    """
    i, j = names.index(x), names.index(y)
    traces = []
    for entrant in reversed(entrants):
        traces.append(_front_trace(entrant, names, i, j, (judged or {}).get(entrant.key)))
    k = entrants[0].front.k if entrants else 10
    layout: dict[str, Any] = {**plane_layout(names, i, j, ranges, k, view), "height": TALL}
    if owned is not None:
        traces += _strip(*owned, x, y)
        layout["barmode"] = "overlay"
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis"]["domain"] = [STRIP + 0.035, 1]
        layout["yaxis2"] = {
            "domain": [0, STRIP], "range": [-0.5, 0.5], "tickvals": [0], "ticktext": ["leads"], "fixedrange": True,
            "showgrid": False, "zeroline": False, "ticks": "",
        }  # fmt: skip
    return {"data": traces or [NOTHING], "layout": layout}


def _front_trace(entrant: Entrant, names: Sequence[str], i: int, j: int, judged: Judged | None) -> dict[str, Any]:
    front, style = entrant.front, entrant_look(entrant)
    curve = Curve(front)

    def told(point: int, dominated: bool) -> str:
        return _with_interval(point_words(curve, point, names, dominated=dominated), judged, point, i, j)

    values, meta = front.ndcg[:, [i, j]], f"front|{entrant.key}"
    trace, order, steps = front_trace(values, style, meta, legend_name(entrant), told, base=front.method == "base")
    if judged is not None:
        for name, column in (("error_x", i), ("error_y", j)):
            trace[name] = _errors(front.ndcg[:, column], judged.low[:, column], judged.high[:, column], order, steps)
            trace[name]["color"] = faint(style.colour, INTERVAL_OPACITY)
    return trace


def _errors(
    value: np.ndarray, low: np.ndarray, high: np.ndarray, shown: Sequence[int], steps: Sequence[int | None]
) -> dict[str, Any]:
    """Bars for the points in `shown`; the faded ones have none, or the chart would be nothing but bars."""

    def length(s: int | None, end: np.ndarray, sign: int) -> float:
        if s is None or s not in shown or not math.isfinite(end[s]):
            return 0.0
        return max(0.0, round(float(sign * (end[s] - value[s])), 6))

    return {
        "type": "data",
        "symmetric": False,
        "array": [length(s, high, 1) for s in steps],
        "arrayminus": [length(s, low, -1) for s in steps],
        "thickness": 1,
        "width": 0,
    }


def _with_interval(text: str, judged: Judged | None, point: int, i: int, j: int) -> str:
    if judged is None:
        return text
    spans = [f"{judged.low[point, c]:.3f} to {judged.high[point, c]:.3f}" for c in (i, j)]
    return f"{text}<br>95 %: {spans[0]} across, {spans[1]} up"


def _strip(owned: Stretches, entrants: Sequence[Entrant], x: str, y: str) -> list[dict[str, Any]]:
    """One bar a stretch, in its owner's colour; hatched and pale where the samples do not agree."""
    sure = (owned.sure >= SURE) | np.isnan(owned.sure)
    pieces = [(int(o), bool(s)) for o, s in zip(owned.owner, sure, strict=True)]
    traces, start = [], 0
    for (owner, certain), run in groupby(pieces):
        end = start + len(list(run))
        left, right = float(owned.edges[start]), float(owned.edges[end])
        style, name = entrant_look(entrants[owner]), entrants[owner].front.name
        said = f"<b>{safe(name, 48)}</b><br>gives the most {safe(y)} where {safe(x)} is {left:.3f} to {right:.3f}"
        if not certain:
            said += "<br><i>but too close to call on these lists</i>"
        traces.append({
            "type": "bar",
            "orientation": "h",
            "meta": f"owner|{entrants[owner].key}|{'sure' if certain else 'close'}",
            "name": "",
            "showlegend": False,
            "x": [round(right - left, 6)],
            "base": [round(left, 6)],
            "y": [0],
            "width": 1,
            "yaxis": "y2",
            "text": [said],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "color": style.colour if certain else faint(style.colour, 0.28),
                "line": {"width": 0},
                "pattern": {"shape": "" if certain else "/", "fgcolor": style.colour, "size": 5, "solidity": 0.25},
            },
        })  # fmt: skip
        start = end
    return traces


# ---------------------------------------------------------------------------------------------------------------------
# Cost against hypervolume


def cost_figure(entrants: Sequence[Entrant], judged: Mapping[str, Judged] | None = None) -> Figure:
    """Training seconds (logarithmic) against hypervolume; what was not trained is a dotted line across."""
    traces, costs, values, notes = [], [], [], []
    for entrant in reversed(entrants):
        volume = entrant.hypervolume
        if not math.isfinite(volume):
            continue
        values.append(volume)
        found = (judged or {}).get(entrant.key)
        span = found.hypervolume if found else None
        if entrant.trained and entrant.front.seconds > 0:
            costs.append(entrant.front.seconds)
            traces.append(_cost_point(entrant, volume, span))
            values += [span.low, span.high] if span else []
        elif not entrant.trained:
            traces.append(_cost_line(entrant, volume))
            notes.append(_level_name(entrant, volume))
    low, high = (min(costs) / 2.2, max(costs) * 2.2) if costs else (1.0, 100.0)
    for trace in traces:
        if trace["mode"] == "lines":
            trace["x"] = [low, math.sqrt(low * high), high]
    ticks: list[float] = [s for s in SECONDS if low <= s <= high] or [round(math.sqrt(low * high), 2)]
    real = [v for v in values if math.isfinite(v)]
    layout = {
        **frame(),
        "height": TALL,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "dragmode": "pan",
        "annotations": notes,
        "xaxis": {
            **axis("← training time"), "type": "log", "range": [math.log10(low), math.log10(high)],
            "tickvals": ticks, "ticktext": [_duration(s) for s in ticks],
        },
        "yaxis": {**axis("hypervolume →", 12), "range": padded([min(real), max(real)] if real else [0, 1])},
        "modebar": {"bgcolor": CLEAR, "color": NEUTRAL, "activecolor": LOOKS["hyperdpo"].colour},
    }  # fmt: skip
    return {"data": traces or [NOTHING], "layout": layout}


def _cost_point(entrant: Entrant, volume: float, span: Any) -> dict[str, Any]:
    front, style = entrant.front, entrant_look(entrant)
    cost = f"{front.seconds:,.0f} s of training, {front.models:,} model{'s' if front.models != 1 else ''}"
    said = [f"<b>{safe(front.name, 48)}</b>", f"hypervolume {words.volume(volume)}", cost]
    if span is not None:
        said.insert(2, f"95 %: {words.volume(span.low, 3)} to {words.volume(span.high, 3)}")
    if front.parameters:
        said.append(f"{front.parameters:,} parameters")
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "meta": f"cost|{entrant.key}",
        "name": safe(front.name, 48),
        "x": [round(front.seconds, 3)],
        "y": [round(volume, 9)],
        "text": ["<br>".join(said)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": style.symbol, "size": style.size + 5, "color": style.colour,
            "line": {"color": style.colour, "width": 1.5},
        },
    }  # fmt: skip
    if span is not None and math.isfinite(span.low):
        trace["error_y"] = {
            "type": "data", "symmetric": False, "array": [max(0.0, span.high - volume)],
            "arrayminus": [max(0.0, volume - span.low)], "color": style.colour, "thickness": 1.5, "width": 4,
        }  # fmt: skip
    return trace


def _cost_line(entrant: Entrant, volume: float) -> dict[str, Any]:
    style = entrant_look(entrant)
    said = f"<b>{safe(entrant.front.name, 48)}</b><br>hypervolume {words.volume(volume)}<br>not trained"
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": f"level|{entrant.key}",
        "name": safe(entrant.front.name, 48),
        "x": [],
        "y": [round(volume, 9)] * 3,
        "text": [said] * 3,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.colour, "dash": "dot", "width": 1.5},
        "marker": {"symbol": style.symbol, "color": style.colour},
    }


def _level_name(entrant: Entrant, volume: float) -> dict[str, Any]:
    return {
        "xref": "paper", "x": 0.5, "y": round(volume, 9), "xanchor": "center", "yanchor": "bottom", "showarrow": False,
        "text": safe(entrant.front.name, 40), "font": {"size": 12}, "borderpad": 1,
    }  # fmt: skip


def _duration(value: float) -> str:
    if value < 60:
        return f"{value:g} s"
    return f"{value / 60:g} min" if value < 3600 else f"{value / 3600:g} h"


# ---------------------------------------------------------------------------------------------------------------------
# More than two objectives


def parallel_figure(entrants: Sequence[Entrant], names: Sequence[str], ranges: np.ndarray) -> Figure:
    """Every point of every front as a line over all objectives, the main one last; each axis from worst to best."""
    order = [*range(1, len(names)), 0]
    low, size = ranges[order, 0], np.maximum(np.ptp(ranges[order], axis=1), 1e-9)
    traces = [_parallel_trace(e, names, order, low, size) for e in reversed(entrants)]
    notes = []
    for place, column in enumerate(order):
        for at, value, anchor in ((1.02, ranges[column, 1], "bottom"), (-0.02, ranges[column, 0], "top")):
            notes.append({
                "x": place, "y": at, "text": f"{value:.2f}", "showarrow": False, "yanchor": anchor,
                "font": {"size": 12},
            })  # fmt: skip
    k = entrants[0].front.k if entrants else 10
    layout = {
        **frame(),
        "height": TALL,
        "margin": {"l": 30, "r": 30, "t": 10, "b": 44, "autoexpand": False},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "dragmode": False,
        "annotations": notes,
        "xaxis": {
            **axis(f"NDCG@{k}; every axis: higher is better ↑"), "range": [-0.3, len(order) - 0.7],
            "tickvals": list(range(len(order))), "ticktext": [safe(names[c], 14) for c in order],
            "gridcolor": NEUTRAL, "fixedrange": True,
        },
        "yaxis": {**axis(""), "range": [-0.1, 1.1], "showgrid": False, "showticklabels": False, "fixedrange": True},
    }  # fmt: skip
    layout["xaxis"]["title"]["standoff"] = 4
    return {"data": traces or [NOTHING], "layout": layout}


def _parallel_trace(
    entrant: Entrant, names: Sequence[str], order: Sequence[int], low: np.ndarray, size: np.ndarray
) -> dict[str, Any]:
    front, style = entrant.front, entrant_look(entrant)
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for point, values in enumerate((front.ndcg[:, list(order)] - low) / size):
        said = point_words(Curve(front), point, names)
        x += [*range(len(order)), None]
        y += [*(number(v) for v in values), None]
        text += [said] * len(order) + [""]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "meta": f"parallel|{entrant.key}",
        "name": safe(front.name, 48),
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.colour, "dash": style.dash, "width": 1.3},
        "marker": {
            "symbol": style.symbol, "size": 6, "color": style.colour, "line": {"color": style.colour, "width": 1},
        },
        "opacity": 0.75 if entrant.trained else 0.4,
        "connectgaps": False,
    }  # fmt: skip


def pairs_figure(entrants: Sequence[Entrant], names: Sequence[str], ranges: np.ndarray) -> Figure:
    """Fronts in the plane of every pair of auxiliary objectives: one small chart a pair."""
    m = len(names) - 1
    cells = m - 1
    layout: dict[str, Any] = {
        **frame(),
        "height": 170 * cells + 40,
        "margin": {"l": 58, "r": 10, "t": 10, "b": 46, "autoexpand": False},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "dragmode": False,
    }
    gap = 0.1 / max(1, cells)
    side = (1 - gap * (cells - 1)) / max(1, cells)
    for place in range(cells):
        start = place * (side + gap)
        last = "" if place == 0 else str(place + 1)
        across, up = place + 1, cells + 1 - place
        layout[f"xaxis{last}"] = {
            **axis(safe(names[across], 14), 4), "domain": [start, start + side], "range": padded(ranges[across]),
            "nticks": 4, "tickformat": ".1f", "anchor": "y", "fixedrange": True,
            "showline": True, "linecolor": GRID,
        }  # fmt: skip
        layout[f"yaxis{last}"] = {
            **axis(safe(names[up], 14), 6), "domain": [start, start + side], "range": padded(ranges[up]),
            "nticks": 4, "tickformat": ".1f", "anchor": "x", "fixedrange": True,
            "showline": True, "linecolor": GRID,
        }  # fmt: skip
    traces = []
    for entrant in reversed(entrants):
        first = True
        for column in range(cells):
            for row in range(cells - column):
                traces.append(_pair_trace(entrant, names, column + 1, cells + 1 - row, (column, row), first))
                first = False
    return {"data": traces or [NOTHING], "layout": layout}


def _pair_trace(
    entrant: Entrant, names: Sequence[str], i: int, j: int, cell: tuple[int, int], first: bool
) -> dict[str, Any]:
    trace = _front_trace(entrant, names, i, j, None)
    column, row = ("" if place == 0 else str(place + 1) for place in cell)
    trace["marker"] = {**trace["marker"], "size": max(4, entrant_look(entrant).size - 3)}
    trace["line"] = {**trace["line"], "width": 1.3}
    return trace | {
        "meta": f"pair|{entrant.key}|{names[i]}|{names[j]}",
        "xaxis": f"x{column}",
        "yaxis": f"y{row}",
        "showlegend": first,
    }


def triangle_figure(
    weights: np.ndarray, values: np.ndarray, objectives: Sequence[str], metric: str, title: str, k: int
) -> Figure:
    """One metric over the simplex of three weights; each dot is a measured trade-off, the best one ringed.

    Args:
        weights: (p, 3). values: (p,) NDCG@k of `metric`.
        title: whose front it is.
    """
    said = [
        "<br>".join([
            f"<b>{safe(metric)}: NDCG@{k} {v:.3f}</b>" if math.isfinite(v) else f"<b>{safe(metric)}: none</b>",
            "w: " + ", ".join(f"{safe(n, 24)} {100 * a:.0f} %" for n, a in zip(objectives, w, strict=True)),
        ])
        for w, v in zip(weights, values, strict=True)
    ]  # fmt: skip
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    traces = [_dots(weights, values, said, low, high, metric, k)]
    traces[0]["name"] = safe(title, 48)
    if len(finite):
        traces.append(_ring(weights[int(np.nanargmax(values))], said[int(np.nanargmax(values))]))
    traces.append(_corners(objectives))
    sides = {
        f"{letter}axis": {
            "title": {"text": " "},
            "gridcolor": GRID, "linecolor": NEUTRAL, "tickvals": [0.2, 0.4, 0.6, 0.8],
            "tickformat": ".0%", "ticks": "", "showticklabels": False,
        }
        for letter in "abc"
    }  # fmt: skip
    layout = {
        **frame(),
        "height": TALL + 50,
        "margin": {"l": 44, "r": 44, "t": 44, "b": 106, "autoexpand": False},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "ternary": {"sum": 1, "bgcolor": CLEAR, **sides},
    }
    return {"data": traces, "layout": layout}


def _dots(
    weights: np.ndarray, values: np.ndarray, said: Sequence[str], low: float, high: float, metric: str, k: int
) -> dict[str, Any]:
    steps = len(SEQUENTIAL) - 1
    return {
        "type": "scatterternary",
        "mode": "markers",
        "meta": "triangle",
        "a": [round(float(v), 4) for v in weights[:, 0]],
        "b": [round(float(v), 4) for v in weights[:, 1]],
        "c": [round(float(v), 4) for v in weights[:, 2]],
        "text": list(said),
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
        "marker": {
            "symbol": "hexagon",
            "size": LATTICE_SIZE,
            "color": [number(v) for v in values],
            "cmin": low,
            "cmax": high if high > low else low + 1e-3,
            "colorscale": [[i / steps, c] for i, c in enumerate(SEQUENTIAL)],
            "line": {"width": 0},
            "colorbar": {
                "orientation": "h",
                "x": 0.5,
                "y": -0.13,
                "yanchor": "top",
                "thickness": 10,
                "len": 0.8,
                "outlinewidth": 0,
                "nticks": 5,
                "title": {"text": f"{safe(metric)}, NDCG@{k} →", "side": "bottom"},
            },
        },
    }


def _corners(objectives: Sequence[str]) -> dict[str, Any]:
    """The corners' names, clear of their dots; an axis title would lie on them."""
    return {
        "type": "scatterternary",
        "mode": "markers+text",
        "meta": "corners",
        "name": "",
        "showlegend": False,
        "a": [1, 0, 0],
        "b": [0, 1, 0],
        "c": [0, 0, 1],
        "text": [f"only {safe(n, 16)}" for n in objectives],
        "textposition": ["top center", "bottom center", "bottom center"],
        "hoverinfo": "skip",
        "cliponaxis": False,
        "marker": {"size": LATTICE_SIZE, "opacity": 0},
    }


def _ring(weights: np.ndarray, said: str) -> dict[str, Any]:
    a, b, c = (round(float(v), 4) for v in weights)
    return {
        "type": "scatterternary",
        "mode": "markers",
        "meta": "best",
        "name": "best",
        "a": [a],
        "b": [b],
        "c": [c],
        "text": [f"{said}<br><i>the highest</i>"],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
        "marker": {"symbol": "circle-open", "size": LATTICE_SIZE + 8, "color": NEUTRAL, "line": {"width": 3}},
    }


def describe(figure: Figure, what: str) -> str:
    """A comparison's figure in one sentence, for screen readers."""
    shown = [t["name"] for t in figure["data"] if t.get("name") and t.get("showlegend", True)]
    return f"{what}. Shown: {words.listed(list(dict.fromkeys(reversed(shown)))) or 'nothing'}."
