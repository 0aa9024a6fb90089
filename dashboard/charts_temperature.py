"""Pure: a family of fronts as the temperature scale c moves, and what c does to the main score and to hypervolume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard.charts import (
    LIVE_RING,
    LOOKS,
    NEUTRAL,
    PIN_COLOUR,
    SEQUENTIAL,
    Figure,
    axis,
    channels,
    faint,
    frame,
    number,
    padded,
    plane_layout,
    plane_order,
    point_words,
    safe,
)
from dashboard.readings import Curve
from hyperdpo.front import ParetoFront

TALL = 440  # pixels
TICKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
OWN = "own temperatures"


def scale_colour(scale: float, low: float, high: float) -> str:
    """The colour of c on the sequential scale, by its logarithm between `low` (bold) and `high` (close to the base)."""
    at = (math.log(scale) - math.log(low)) / (math.log(high) - math.log(low)) if high > low else 0.0
    place = min(max(1 - at, 0.0), 1.0) * (len(SEQUENTIAL) - 1)
    i = min(int(place), len(SEQUENTIAL) - 2)
    mixed = [
        round(a + (place - i) * (b - a))
        for a, b in zip(channels(SEQUENTIAL[i]), channels(SEQUENTIAL[i + 1]), strict=True)
    ]
    return "#" + "".join(f"{v:02X}" for v in mixed)


def family_figure(
    family: Sequence[ParetoFront],
    live: ParetoFront,
    base: ParetoFront | None,
    names: Sequence[str],
    x: str,
    y: str,
    ranges: np.ndarray,
    *,
    own: ParetoFront | None = None,
    view: str = "",
) -> Figure:
    """Fronts of one model at several c in the plane of two objectives, each with its c at one end; the live c on top.

    Args:
        family: one front per c. live: the front at the c of the slider. base: as a cross.
        ranges: (1 + m, 2) that the axes hold at every c.
        own: the front where every objective has a temperature of its own.
    """
    i, j = names.index(x), names.index(y)
    low, high = min(f.scale for f in family), max(f.scale for f in family)
    traces = [] if base is None else [_base_trace(base, names, i, j)]
    for front in sorted(family, key=lambda f: -f.scale):
        traces.append(_member(front, names, i, j, scale_colour(front.scale, low, high)))
    if own is not None:
        style = {"color": PIN_COLOUR, "dash": "dash", "width": 2.5}
        traces.append(_emphatic(own, names, i, j, OWN, style, {"symbol": "diamond", "size": 10}))
    style = {"color": LOOKS["hyperdpo"].colour, "dash": "solid", "width": 4}
    traces.append(
        _emphatic(live, names, i, j, f"c = {live.scale:g}, the slider", style, {"symbol": "circle", "size": 11})
    )
    k = live.k
    layout = {**plane_layout(names, i, j, ranges, k, view), "height": TALL}
    return {"data": traces, "layout": layout}


def _line(front: ParetoFront, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    """The front's points that no other beats in this plane, from left to right."""
    order, _ = plane_order(front.ndcg[:, [i, j]])
    return {
        "type": "scatter",
        "x": [number(front.ndcg[p, i]) for p in order],
        "y": [number(front.ndcg[p, j]) for p in order],
        "hovertext": [point_words(Curve(front), p, names) for p in order],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _member(front: ParetoFront, names: Sequence[str], i: int, j: int, colour: str) -> dict[str, Any]:
    line = _line(front, names, i, j)
    # Bold fronts crowd together at one end and those close to the base at the other; so do their labels.
    label = ["" for _ in line["x"]]
    bold = front.scale <= 1
    if label:
        label[-1 if bold else 0] = f"{front.scale:g}"
    return line | {
        "mode": "lines+markers+text",
        "meta": f"c|{front.scale:g}",
        "name": f"c = {front.scale:g}",
        "text": label,
        "textposition": "top right" if bold else "top left",
        "textfont": {"size": 12},
        "line": {"color": colour, "width": 1.8, "dash": "solid"},
        "marker": {"symbol": "circle", "size": 5, "color": colour},
        "cliponaxis": False,
    }


def _emphatic(
    front: ParetoFront, names: Sequence[str], i: int, j: int, name: str, line: dict[str, Any], marker: dict[str, Any]
) -> dict[str, Any]:
    return _line(front, names, i, j) | {
        "mode": "lines+markers",
        "meta": "own" if name == OWN else "live",
        "name": name,
        "line": line,
        "marker": {**marker, "color": line["color"], "line": {"color": LIVE_RING, "width": 1.5}},
        "cliponaxis": False,
    }


def _base_trace(base: ParetoFront, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    style = LOOKS["base"]
    return {
        "type": "scatter",
        "mode": "markers",
        "meta": "base",
        "name": "Base model",
        "x": [number(base.ndcg[0, i])],
        "y": [number(base.ndcg[0, j])],
        "hovertext": [point_words(Curve(base), 0, names)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": style.symbol, "size": style.size, "color": style.colour,
            "line": {"color": style.colour, "width": 3},
        },
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sweep:
    """What c does to a whole front, at increasing c.

    Attributes:
        scales: (s,). mean, low, high: (s,) the main objective's NDCG: mean, lowest and highest over the points.
        volume: (s,) hypervolume, NaN where an objective has no figure.
    """

    scales: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    volume: np.ndarray


def sweep_of(fronts: Sequence[ParetoFront]) -> Sweep:
    """The sweep of one front measured at several c."""
    main = [f.ndcg[:, 0] for f in fronts]
    return Sweep(
        np.array([f.scale for f in fronts]),
        np.array([v.mean() for v in main]),
        np.array([v.min() for v in main]),
        np.array([v.max() for v in main]),
        np.array([Curve(f).hypervolume for f in fronts]),
    )


def sweep_figure(
    sweep: Sweep, live: ParetoFront, base: ParetoFront | None, *, own: ParetoFront | None = None
) -> Figure:
    """Above, the main objective against c with its range over the front; below, the hypervolume; the live c marked."""
    colour = LOOKS["hyperdpo"].colour
    scales = [round(float(s), 4) for s in sweep.scales]
    main = f"{safe(live.main, 24)}, NDCG@{live.k}"
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "meta": "band", "name": "lowest to highest over the front",
            "x": scales + scales[::-1], "y": [*map(number, sweep.high), *map(number, sweep.low[::-1])],
            "fill": "toself", "fillcolor": faint(colour, 0.16), "line": {"width": 0, "color": colour},
            "hoverinfo": "skip",
        },
        _swept(scales, sweep.mean, "main", f"mean {main}", "y", colour),
        _swept(scales, sweep.volume, "volume", "hypervolume", "y2", colour),
    ]  # fmt: skip
    if base is not None and math.isfinite(base.main_mean):
        traces.append(_level(scales, base.main_mean, "the base", "y"))
    for front, meta, tone, symbol in ((own, "own", PIN_COLOUR, "diamond"), (live, "live", colour, "circle")):
        if front is not None:
            name = OWN if meta == "own" else f"c = {front.scale:g}"
            for row, value in (("y", front.main_mean), ("y2", Curve(front).hypervolume)):
                traces.append(_mark(front.scale, value, f"{meta}|{row}", name, row, tone, symbol))
    values = [sweep.low, sweep.high] + ([] if base is None else [base.ndcg[:, 0]])
    ticks = [t for t in TICKS if scales[0] * 0.99 <= t <= scales[-1] * 1.01]
    layout = {
        **frame(),
        "height": TALL,
        "margin": {"l": 66, "r": 14, "t": 10, "b": 50, "autoexpand": False},
        "hovermode": "closest",
        "showlegend": False,
        "dragmode": False,
        "xaxis": {
            **axis("← bolder &nbsp; c &nbsp; closer to the base →"), "type": "log", "anchor": "y2",
            "range": [math.log10(scales[0]) - 0.04, math.log10(scales[-1]) + 0.04],
            "tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks], "fixedrange": True,
        },
        "yaxis": {
            **axis(f"{main} →", 12), "domain": [0.54, 1], "fixedrange": True,
            "range": padded([float(np.nanmin(np.concatenate(values))), float(np.nanmax(np.concatenate(values)))]),
            "nticks": 5,
        },
        "yaxis2": {
            **axis("hypervolume →", 12), "domain": [0, 0.46], "fixedrange": True, "nticks": 5,
            "range": padded(_ends([*sweep.volume, Curve(own).hypervolume if own else math.nan])),
        },
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _ends(values: Sequence[float]) -> list[float]:
    real = [v for v in values if math.isfinite(v)]
    return [min(real), max(real)] if real else [0.0, 1.0]


def _swept(scales: list[float], values: np.ndarray, meta: str, name: str, row: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": meta,
        "name": name,
        "x": scales,
        "y": [number(v) for v in values],
        "yaxis": row,
        "hovertemplate": f"c = %{{x:.3g}}<br>{name} %{{y:.3g}}<extra></extra>",
        "line": {"color": colour, "width": 2.2},
    }


def _level(scales: list[float], value: float, name: str, row: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+text",
        "meta": "base",
        "name": name,
        "x": [scales[0], scales[-1]],
        "y": [number(value)] * 2,
        "yaxis": row,
        "text": [name, ""],
        "textposition": "bottom right",
        "textfont": {"size": 12},
        "hovertemplate": f"{name} %{{y:.3f}}<extra></extra>",
        "line": {"color": NEUTRAL, "dash": "dot", "width": 1.5},
    }


def _mark(scale: float, value: float, meta: str, name: str, row: str, colour: str, symbol: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "meta": meta,
        "name": name,
        "showlegend": row == "y",
        "x": [round(scale, 4)],
        "y": [number(value)],
        "yaxis": row,
        "hovertemplate": f"{name}<br>%{{y:.3g}}<extra></extra>",
        "marker": {"symbol": symbol, "size": 13, "color": colour, "line": {"color": LIVE_RING, "width": 2.5}},
        "cliponaxis": False,
    }
