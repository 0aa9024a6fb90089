"""Figures of studies in the style of the paper's: fronts with an inset of the main score, curves over x, bars.

Pure: numbers in, plotly figures (plain dicts) out. `save` writes HTML always, PNG and PDF where a browser is found.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperdpo import pictures
from hyperdpo.files import write_atomic
from hyperdpo.front import non_dominated
from hyperdpo.pictures import PictureError

Figure = dict[str, Any]

# Okabe and Ito's, for colour-blind eyes; symbols and dashes differ too, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#117733", "#999933", "#AA4499")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagram", "pentagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
ORACLE, NEUTRAL, GRID, TEXT = "#009E73", "#808890", "#E4E7EB", "#1B1F24"
IMAGES = ("png", "pdf")
SIZE = {"width": 900, "height": 600}
LOG_SPAN = 10.0  # positive values of x that span more are drawn on a logarithmic axis
LOG_SPAN_Y = 100.0
NO_BROWSER = (
    "PNG and PDF are drawn by a browser (Chrome or Chromium), and none was found or it did not start; the HTML file "
    "holds the same figure, and the camera in its toolbar saves a PNG."
)


@dataclass(frozen=True, eq=False)
class Curve:
    """A front in a plane: points (p, 2), and the main score's mean and standard deviation over the points.

    `kind` is method, oracle or base; a base is one point. Curves of one `group` share their colour.
    """

    name: str
    points: np.ndarray
    main_mean: float
    main_std: float
    kind: str = "method"
    group: int | None = None
    dash: str | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """Values over x with their 95 % intervals; x of one value is a level, drawn across."""

    name: str
    x: Sequence[float | None]
    value: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    colour: str | None = None


def front_figure(curves: Sequence[Curve], axes: tuple[str, str], main: str, title: str = "") -> Figure:
    """Fronts over two objectives, as the paper's Figures 2 and 11, the main score's mean and spread beside them."""
    traces: list[dict[str, Any]] = []
    colours = _colours(curves)
    for i, curve in enumerate(curves):
        shown = curve.points[np.argsort(curve.points[:, 0])]
        colour = colours[i]
        dash = "dot" if curve.kind == "oracle" else curve.dash or "solid"
        on_front = non_dominated(shown) if len(shown) else np.array([], dtype=bool)
        size = [8 if on else 5 for on in on_front]
        traces.append({
            "type": "scatter", "mode": "markers" if curve.kind == "base" else "lines+markers",
            "name": _safe(curve.name), "x": _numbers(shown[:, 0]), "y": _numbers(shown[:, 1]), "legendgroup": str(i),
            "line": {"color": colour, "dash": dash, "width": 1.5 if curve.kind == "oracle" else 2},
            "marker": {"color": colour, "symbol": _symbol(curve, i), "size": 12 if curve.kind == "base" else size},
        })  # fmt: skip
        traces.append({
            "type": "bar", "x": [_safe(curve.name)], "y": [curve.main_mean], "xaxis": "x2", "yaxis": "y2",
            "error_y": {"type": "data", "array": [curve.main_std], "thickness": 1, "width": 3},
            "marker": {"color": colour, "opacity": 0.75}, "showlegend": False, "legendgroup": str(i),
        })  # fmt: skip
    layout = _layout(title)
    layout |= {
        "xaxis": _axis(axes[0], domain=[0, 0.66]),
        "yaxis": _axis(axes[1]),
        "xaxis2": {**_axis(""), "domain": [0.78, 1], "anchor": "y2", "showticklabels": False},
        "yaxis2": {**_axis(""), "anchor": "x2", "domain": [0, 0.38]},
        "legend": {"x": 0.74, "y": 1, "font": {"size": 11}},
        "annotations": [_heading(f"{html.escape(main)}, mean and spread<br>over the points", 0.89, 0.39)],
    }
    return {"data": traces, "layout": layout}


def sweep_figure(panels: Sequence[tuple[str, Sequence[Series]]], x_title: str, title: str = "") -> Figure:
    """Figures over x, one panel above another; `panels` are (what is measured, its series)."""
    every = [x for _, series in panels for s in series for x in s.x if x is not None]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    logarithmic = low > 0 and high / low > LOG_SPAN
    names = list(dict.fromkeys(s.name for _, series in panels for s in series))
    traces: list[dict[str, Any]] = []
    layout = _layout(title)
    height = 1 / len(panels)
    for k, (what, series) in enumerate(panels):
        axis = "" if k == 0 else str(k + 1)
        bottom = 1 - (k + 1) * height
        values = [v for s in series for v in s.value]
        layout[f"yaxis{axis}"] = {
            **_axis(what),
            "domain": [bottom + (0.08 if k + 1 < len(panels) else 0), bottom + height],
            "type": "log" if values and min(values) > 0 and max(values) / min(values) > LOG_SPAN_Y else "linear",
        }
        layout[f"xaxis{axis}"] = {
            **_axis(x_title if k + 1 == len(panels) else ""),
            "anchor": f"y{axis}",
            "type": "log" if logarithmic else "linear",
        }
        for s in series:
            i = names.index(s.name)
            level = all(x is None for x in s.x)
            x, pick = ([low, high], [0, 0]) if level else (list(s.x), list(range(len(s.x))))
            value = [s.value[j] for j in pick]
            above = [max(0.0, (s.high[j] if s.high[j] is not None else s.value[j]) - s.value[j]) for j in pick]  # type: ignore[operator]
            below = [max(0.0, s.value[j] - (s.low[j] if s.low[j] is not None else s.value[j])) for j in pick]  # type: ignore[operator]
            bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}
            traces.append({
                "type": "scatter", "mode": "lines" if level else "lines+markers", "name": _safe(s.name),
                "x": x, "y": value, "xaxis": f"x{axis}", "yaxis": f"y{axis}", "legendgroup": s.name,
                "showlegend": k == 0, "line": {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i % len(DASHES)]},
                "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8},
                **({} if level else {"error_y": bars}),
            })  # fmt: skip
    return {"data": traces, "layout": layout}


def bar_figure(panels: Sequence[tuple[str, Sequence[Series]]], title: str = "") -> Figure:
    """One bar a series with its interval, one panel beside another: a table's figures where there is no plane.

    The first of a series' values is drawn; panels hold the same series.
    """
    traces: list[dict[str, Any]] = []
    layout = {**_layout(title), "annotations": []}
    left, width = 0.24, 0.76 / len(panels)
    for k, (what, series) in enumerate(panels):
        axis = "" if k == 0 else str(k + 1)
        start, end = left + k * width, left + (k + 1) * width - 0.04
        layout[f"xaxis{axis}"] = {**_axis(""), "domain": [start, end], "anchor": f"y{axis}"}
        layout[f"yaxis{axis}"] = {
            **_axis(""), "anchor": f"x{axis}", "autorange": "reversed", "showticklabels": k == 0, "type": "category",
        }  # fmt: skip
        layout["annotations"].append(_heading(html.escape(what), (start + end) / 2, 1.0))
        for i, s in enumerate(series):
            low, value, high = s.low[0], s.value[0], s.high[0]
            error = {
                "type": "data", "symmetric": False, "thickness": 1, "width": 4,
                "array": [max(0.0, high - value) if high is not None else 0.0],
                "arrayminus": [max(0.0, value - low) if low is not None else 0.0],
            }  # fmt: skip
            traces.append({
                "type": "bar", "orientation": "h", "name": _safe(s.name), "y": [_safe(s.name, 32)], "x": [value],
                "error_x": error, "marker": {"color": s.colour or COLOURS[i % len(COLOURS)]}, "xaxis": f"x{axis}",
                "yaxis": f"y{axis}", "showlegend": False, "width": 0.6,
            })  # fmt: skip
    return {"data": traces, "layout": layout}


def save(figure: Figure, stem: Path, *, images: bool = True) -> tuple[list[Path], str | None]:
    """Write STEM.html and, where a browser is found, STEM.png and STEM.pdf.

    Returns what was written, and the sentence to say where pictures could not be drawn.
    """
    import plotly.io

    page = stem.with_name(f"{stem.name}.html")  # not with_suffix: a name may have a dot
    write_atomic(page, plotly.io.to_html(figure, include_plotlyjs="directory", full_html=True, validate=False))
    _write_plotly(page.parent)
    written = [page]
    for kind in IMAGES if images else ():
        image = stem.with_name(f"{stem.name}.{kind}")
        try:
            write_atomic(image, pictures.draw(figure, kind, **SIZE, scale=2 if kind == "png" else 1))
        except PictureError as error:
            return written, f"{NO_BROWSER} ({error})"
        written.append(image)
    return written, None


def _write_plotly(folder: Path) -> None:
    """The script beside the page, so that a folder of figures opens without a network and is not 4 MB a figure."""
    from plotly.offline import get_plotlyjs

    script = folder / "plotly.min.js"
    if not script.exists():
        write_atomic(script, get_plotlyjs())


def _colours(curves: Sequence[Curve]) -> list[str]:
    found = []
    used = 0
    for curve in curves:
        if curve.kind in ("oracle", "base"):
            found.append(ORACLE if curve.kind == "oracle" else NEUTRAL)
        elif curve.group is not None:
            found.append(COLOURS[curve.group % len(COLOURS)])
        else:
            found.append(COLOURS[used % len(COLOURS)])
            used += 1
    return found


def _symbol(curve: Curve, index: int) -> str:
    return {"base": "x", "oracle": "triangle-up-open"}.get(curve.kind, SYMBOLS[index % len(SYMBOLS)])


def _layout(title: str) -> dict[str, Any]:
    return {
        "title": {"text": _safe(title, 120), "font": {"size": 15}}, "font": {"color": TEXT, "size": 13},
        "paper_bgcolor": "#FFFFFF", "plot_bgcolor": "#FFFFFF", "margin": {"l": 70, "r": 30, "t": 60, "b": 60},
        "barmode": "group", **SIZE,
    }  # fmt: skip


def _axis(title: str, domain: list[float] | None = None) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": _safe(title, 60)},
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
    }
    return axis if domain is None else {**axis, "domain": domain}


def _heading(text: str, x: float, y: float) -> dict[str, Any]:
    """Text above a panel; `text` is HTML."""
    return {
        "text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom",
        "showarrow": False, "font": {"size": 12},
    }  # fmt: skip


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(v), 6) for v in values]


def _safe(text: str, longest: int = 48) -> str:
    """Text from data for a label: plotly reads some HTML."""
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…")
