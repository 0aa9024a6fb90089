"""Pure: the figures of the Text view, in the looks that charts.py decides. Plain dicts, as there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dashboard.charts import (
    CLEAR,
    LOOKS,
    NEUTRAL,
    NOTHING,
    Figure,
    axis,
    curve_opacity,
    frame,
    front_trace,
    legend_words,
    live_trace,
    look,
    number,
    objective_colour,
    padded,
    safe,
    weights_words,
)
from dashboard.readings import Curve, TextReading

ROW_HEIGHT = 110  # pixels of one objective in the strip's chart


def entropy_figure(
    curves: Sequence[Curve], live: TextReading | None, x: str, y: str, ranges: np.ndarray, *, view: str = ""
) -> Figure:
    """Fronts of test cross-entropy in the plane of two objectives; axes run downwards, so that up and right is better.

    Args:
        curves: what to draw, the run's own first; their cross-entropies in nats.
        live: the point the sliders stand at.
        x, y: names of objectives.
        ranges: (m, 2) lowest and highest cross-entropy; fixed while sliders move.
        view: what the reader's zoom belongs to.
    """
    names = curves[0].front.objectives
    i, j = names.index(x), names.index(y)
    own = curves[0]
    drawn = sorted(curves, key=lambda c: 9 if c is own else 0 if c.front.method == "base" else 5)
    traces = [_curve_trace(c, i, j) for c in drawn if c.front.cross_entropy is not None]
    if live is not None:
        traces.append(_live_trace(live, names, i, j))
    layout = {
        **frame(),
        "hovermode": "closest",
        "hoverdistance": 24,
        "hoverlabel": {"align": "left"},
        "uirevision": view,
        "xaxis": {**axis(f"{safe(x)}: cross-entropy in nats, less is better →"), "range": padded(ranges[i])[::-1]},
        "yaxis": {**axis(f"{safe(y)}: cross-entropy, less is better →", 16), "range": padded(ranges[j])[::-1]},
        "dragmode": "pan",
        "modebar": {"bgcolor": CLEAR, "color": NEUTRAL, "activecolor": LOOKS["hyperdpo"].colour},
        "showlegend": False,
    }
    return {"data": traces or [NOTHING], "layout": layout}


def entropy_ranges(curves: Sequence[Curve]) -> np.ndarray:
    """(m, 2) lowest and highest cross-entropy of several curves."""
    values = np.concatenate([c.front.cross_entropy for c in curves if c.front.cross_entropy is not None])
    return np.stack([values.min(0), values.max(0)], 1)


def _curve_trace(curve: Curve, i: int, j: int) -> dict[str, Any]:
    front = curve.front
    assert front.cross_entropy is not None
    values, chance = front.cross_entropy[:, [i, j]], front.method == "base"

    def words(point: int, dominated: bool) -> str:
        return _point_words(curve, point, dominated=dominated)

    meta, name = f"{front.method}|{front.name}", "base model: chance" if chance else legend_words(curve)
    trace, _, _ = front_trace(values, look(front.method), meta, name, words, base=chance, better=-values)
    return {**trace, "opacity": curve_opacity(front.method)}


def _point_words(curve: Curve, point: int, *, dominated: bool) -> str:
    front = curve.front
    lines = [f"<b>{safe(front.name)}</b>"]
    if front.method == "base":
        lines.append("the untouched model: it knows nothing of the preferences")
    else:
        lines += [weights_words(front.objectives, front.weights[point]), f"c = {front.scale:g}"]
    assert front.cross_entropy is not None
    lines += _entropy_lines(front.objectives, front.cross_entropy[point])
    if dominated:
        lines.append("<i>another point of this curve is better on both axes</i>")
    return "<br>".join(lines)


def _entropy_lines(names: Sequence[str], values: Sequence[float] | np.ndarray) -> list[str]:
    return ["cross-entropy, nats:", ", ".join(f"{safe(n, 24)} {v:.4f}" for n, v in zip(names, values, strict=True))]


def _live_trace(live: TextReading, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    lines = ["<b>You are here</b>", weights_words(names, live.weights), f"c = {live.choice.scale:g}"]
    lines += _entropy_lines(names, live.values)
    lines.append(f"on {live.lists:,} of {live.total:,} test lists")
    return live_trace(live.values[i], live.values[j], "<br>".join(lines), (live.change[i], live.change[j]))


def strip_figure(
    names: Sequence[str],
    weights: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]],
    base: Sequence[float] | None,
    x: str,
    y: str,
) -> Figure:
    """What was measured on each text of the strip, one row an objective, from "only x" to "only y".

    Args:
        names: the m objectives; those without a measure are left out.
        weights: (p, m). scores: (p, m), NaN where nothing was measured. base: (m,) measured on the base's text.
    """
    values = np.array([list(s) for s in scores], dtype=float).reshape(len(scores), len(names))
    shown = [j for j in range(len(names)) if np.isfinite(values[:, j]).any()]
    if not shown:
        return {"data": [NOTHING], "layout": {**frame(), "xaxis": axis(" "), "yaxis": axis(" ")}}
    at = [f"{i + 1}" for i in range(len(values))]
    hover = [weights_words(names, w) for w in weights]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {**frame(), "height": 60 + ROW_HEIGHT * len(shown), "hovermode": "closest"}
    layout |= {"showlegend": False, "dragmode": False}
    layout["margin"] = {**layout["margin"], "l": 74}
    gap = 0.07
    tall = (1 - gap * (len(shown) - 1)) / len(shown)
    for row, j in enumerate(shown):
        axis_name = "y" if row == 0 else f"y{row + 1}"
        top = 1 - row * (tall + gap)
        colour = objective_colour(j)
        if base is not None and math.isfinite(base[j]):
            data.append(
                {
                    "type": "scatter", "mode": "lines", "x": [at[0], at[-1]], "y": [base[j]] * 2, "yaxis": axis_name,
                    "name": "base model", "showlegend": row == 0, "hoverinfo": "skip",
                    "line": {"color": NEUTRAL, "dash": "dot", "width": 1.5},
                }
            )  # fmt: skip
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": at, "y": [number(v) for v in values[:, j]],
                "yaxis": axis_name, "name": safe(names[j]), "text": hover,
                "hovertemplate": "%{text}<br>" + safe(names[j]) + " %{y:.2f}<extra></extra>",
                "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 7},
            }
        )  # fmt: skip
        title = {"text": safe(names[j], 18), "standoff": 4}
        layout[f"yaxis{axis_name[1:]}"] = {
            **axis(" "), "title": title, "domain": [max(0.0, top - tall), top], "nticks": 3, "anchor": "x",
        }  # fmt: skip
    ends = f"only {safe(x, 18)}  →  only {safe(y, 18)}" if x != y else "weights, as in the strip"
    bottom = "y" if len(shown) == 1 else f"y{len(shown)}"
    layout["xaxis"] = {**axis(ends), "type": "category", "anchor": bottom}
    return {"data": data, "layout": layout}
