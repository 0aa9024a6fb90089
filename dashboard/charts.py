"""Pure: data in, plotly figure (a plain dict) out. Colours, markers and dashes are decided here and nowhere else.

Figures are dicts, not `go.Figure`s, because validating one costs more than computing what it shows. Text that comes
from data is escaped: plotly reads some HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dashboard.readings import Curve, Reading

Figure = dict[str, Any]

OBJECTIVE_COLOURS = (
    # From Tol's and Okabe and Ito's schemes, chosen so that any two differ by 14 or more in CIE Lab, for colour-blind
    # eyes too, and show on white and on dark. Also chartCategoricalColors of the theme.
    "#4477AA", "#E69F00", "#117733", "#EE3377", "#56B4E9", "#D55E00", "#AA3377", "#EE8866", "#BBBBBB", "#8C8C8C",
)  # fmt: skip
NEUTRAL = "#808890"  # reads on light and on dark
LIVE_RING = "#FFFFFF"
PIN_COLOUR = "#E69F00"
GRID = "rgba(128,136,144,0.22)"
EXPORT_TEXT, EXPORT_PAPER = "#1B1F24", "#FFFFFF"
EXPORT_QUIET, EXPORT_RULE = "#555B61", "#BBBFC4"
CLEAR = "rgba(0,0,0,0)"


@dataclass(frozen=True)
class Look:
    """How one method is drawn everywhere; markers and dashes differ too, for print without colour."""

    colour: str
    symbol: str
    dash: str
    width: float
    size: float


# Okabe and Ito's blue, vermillion, green and purple; the other baselines' colours are 14 or more away from these and
# from each other in CIE Lab, for colour-blind eyes too.
LOOKS = {
    "hyperdpo": Look("#0072B2", "circle", "solid", 2.5, 9),
    "dpo-ls": Look("#D55E00", "square", "dash", 1.5, 7),
    "dpo-soup": Look("#56B4E9", "triangle-down", "longdash", 1.5, 8),
    "mo-dpo": Look("#882255", "diamond-wide", "dashdot", 1.5, 9),
    "hypernetwork": Look("#762A83", "pentagon", "longdashdot", 1.5, 8),
    "lambdamart": Look("#117733", "star", "dash", 1.5, 9),
    "label-aggregation": Look("#17BECF", "hexagram", "dashdot", 1.5, 8),
    "oracle": Look("#009E73", "triangle-up-open", "dot", 1.5, 7),
    "oracle-unconstrained": Look("#CC79A7", "diamond-open", "dot", 1.5, 6),
    "base": Look(NEUTRAL, "x-thin", "solid", 1.5, 13),
}
OTHER = (
    Look("#7A5C00", "star-diamond", "dashdot", 1.5, 8),
    Look("#922428", "octagon", "longdash", 1.5, 7),
    Look("#8C564B", "star-square", "longdashdot", 1.5, 8),
)
VARIANTS = (("-open", "dashdot"), ("-open-dot", "longdash"), ("-dot", "longdashdot"), ("-open", "dot"))
THIN = ("x-thin", "cross-thin", "asterisk", "hash")  # they have no open kind
# The middle of plasma: even steps for colour-blind eyes, neither end lost on white or on dark.
SEQUENTIAL = ("#6A00A8", "#8F0DA4", "#B12A90", "#CC4778", "#E16462", "#F2844B", "#FCA636")
FADED = 0.3
# Streamlit refuses a figure without a trace.
NOTHING: dict[str, Any] = {"type": "scatter", "x": [], "y": [], "showlegend": False, "hoverinfo": "skip"}
LONGEST_NAME = 32
HEIGHT = 390  # of the front chart on the page, in pixels
MARGIN = 0.07  # of an axis' range, free on either side


def look(method: str, nth: int = 0) -> Look:
    """The same look for the same method, also for methods this file has never heard of.

    The `nth` front of a method in one picture (another seed, another run) keeps its colour and has another marker and
    dash.
    """
    own = LOOKS.get(method) or OTHER[sum(method.encode()) % len(OTHER)]
    if not nth:
        return own
    ending, dash = VARIANTS[(nth - 1) % len(VARIANTS)]
    symbol = own.symbol.removesuffix("-open")
    return replace(own, symbol=THIN[nth % len(THIN)] if symbol in THIN else symbol + ending, dash=dash)


def objective_colour(index: int) -> str:
    """Colour of objective `index`; -1 is the main objective."""
    return NEUTRAL if index < 0 else OBJECTIVE_COLOURS[index % len(OBJECTIVE_COLOURS)]


def channels(colour: str) -> list[int]:
    """Red, green and blue of a colour written with six digits, 0 to 255."""
    return [int(colour[s : s + 2], 16) for s in (1, 3, 5)]


def faint(colour: str, opacity: float) -> str:
    """The colour, see-through."""
    return f"rgba({','.join(map(str, channels(colour)))},{opacity:g})"


def safe(text: str, longest: int = LONGEST_NAME) -> str:
    """Text from data for a label: shortened, then escaped."""
    text = " ".join(text.split())
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…")


def front_figure(
    curves: Sequence[Curve],
    live: Reading | None,
    x: str,
    y: str,
    ranges: np.ndarray,
    *,
    k: int,
    pinned: Reading | None = None,
    pinned_b: Reading | None = None,
    edge: tuple[np.ndarray, np.ndarray] | None = None,
    names: Sequence[str] = (),
    view: str = "",
) -> Figure:
    """Fronts in the plane of two objectives, with the live point on top.

    Args:
        curves: what to draw, the run's own first.
        live: the point the sliders stand at.
        x, y: names of objectives, or of the main one.
        ranges: (1 + m, 2) lowest and highest NDCG, main first; fixed while sliders move.
        pinned, pinned_b: choices A and B.
        edge: weights (p, m) and NDCG (p, 1 + m) of one model between "only x" and "only y".
        names: main, then the objectives; taken from the first curve if empty.
        view: what the reader's zoom belongs to; it is kept while this stays the same.
    """
    names = tuple(names) or (curves[0].front.main, *curves[0].front.objectives)
    i, j = names.index(x), names.index(y)
    traces = [_curve_trace(c, names, i, j) for c in _quiet_first(curves)]
    if edge is not None:
        traces.insert(-1 if traces else 0, _edge_trace(edge, names, i, j, live))
    pins = zip("AB", (pinned, pinned_b), strict=True)
    traces += [_pin_trace(p, names, i, j, letter) for letter, p in pins if p is not None]
    if live is not None:
        traces.append(_live_trace(live, names, i, j))
    return {"data": traces or [NOTHING], "layout": plane_layout(names, i, j, ranges, k, view)}


def with_pins(figure: Figure, pins: Sequence[Reading], names: Sequence[str], x: str, y: str) -> Figure:
    """A figure of the plane of objectives x and y with choice A, and B if there are two, on top."""
    i, j = names.index(x), names.index(y)
    marks = [_pin_trace(p, names, i, j, letter) for letter, p in zip("AB", pins, strict=False)]
    return {**figure, "data": [*figure["data"], *({**mark, "showlegend": False} for mark in marks)]}


def without_live(figure: Figure) -> tuple[Figure, dict[str, Any] | None]:
    """The figure with its live point left empty, and the point: what stays and what moves as weights do."""
    data: list[dict[str, Any]] = figure["data"]
    live = next((t for t in data if t.get("meta") == "live"), None)
    moves: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    still = [{**{k: v for k, v in t.items() if not k.startswith("error_")}, **moves} if t is live else t for t in data]
    return {**figure, "data": still}, live


SIGNS = {"circle": "●", "square": "■", "triangle-up-open": "△", "diamond-open": "◇", "x-thin": "✕", "diamond": "◆",
    "circle-open": "○", "circle-open-dot": "⊙", "circle-dot": "◉", "square-open": "□", "square-open-dot": "⊡",
    "square-dot": "▣", "triangle-down": "▼", "diamond-wide": "⬥", "pentagon": "⬟", "star": "★", "hexagram": "✶",
    "cross-thin": "+"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One legend entry: escaped words, colour, the sign of the marker and the CSS style of the line, if any."""

    words: str
    colour: str
    sign: str
    line: str
    main: bool = False


def legend(figure: Figure) -> list[Entry]:
    """What the page's legend says, the most important first; A's mark says its own name."""
    out = []
    for trace in reversed(figure["data"]):
        if not trace.get("name") or str(trace.get("meta")).startswith("pin"):
            continue
        marker, line = trace.get("marker", {}), trace.get("line", {})
        style = {"dash": "dashed", "dot": "dotted", "solid": "solid"}.get(line.get("dash", "solid"), "dashed")
        out.append(
            Entry(
                trace["name"],
                marker.get("color") or line["color"],
                SIGNS.get(marker["symbol"], "★") if marker else "",
                style if "lines" in trace["mode"] else "",
                trace.get("meta") == "live",
            )
        )
    return out


def skeleton() -> Figure:
    """An empty chart of the same size, to hold the place while the first one is on its way."""
    empty = {**axis(" "), "range": [0, 1], "showticklabels": False}
    return {"data": [NOTHING], "layout": {**frame(), "xaxis": empty, "yaxis": empty}}


def for_export(figure: Figure, title: str, *, width: int = 1000, height: int = 640) -> Figure:
    """The same chart on white paper with a title and its own fonts, whatever theme the page has."""
    axes = {
        name: {
            **figure["layout"].get(name, {}),
            "linecolor": EXPORT_TEXT,
            "tickcolor": EXPORT_TEXT,
            "automargin": True,
        }
        for name in {"xaxis", "yaxis", *(n for n in figure["layout"] if n.startswith(("xaxis", "yaxis")))}
    }
    layout = {
        **figure["layout"],
        **axes,
        "width": width,
        "height": height,
        "autosize": False,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
                   "traceorder": "reversed"},
        "title": {"text": safe(title, 110), "x": 0.02, "xanchor": "left", "y": 0.98, "yanchor": "top",
                  "font": {"size": 16}},
        "margin": {"l": 80, "r": 30, "t": 110, "b": 70, "autoexpand": True},
        "font": {"family": "Helvetica, Arial, 'Noto Sans CJK SC', sans-serif", "size": 14, "color": EXPORT_TEXT},
        "paper_bgcolor": EXPORT_PAPER,
        "plot_bgcolor": EXPORT_PAPER,
    }  # fmt: skip
    return {"data": figure["data"], "layout": layout}


def describe(figure: Figure) -> str:
    """The chart in one sentence, for screen readers."""
    layout = figure["layout"]
    shown = ", ".join(html.unescape(t["name"]) for t in figure["data"] if t.get("showlegend", True))
    return f"Chart of {_plain_title(layout['yaxis'])} against {_plain_title(layout['xaxis'])}. Shown: {shown}."


def _plain_title(axis: dict[str, Any]) -> str:
    return html.unescape(axis["title"]["text"]).strip("→↑ ")


def _quiet_first(curves: Sequence[Curve]) -> list[Curve]:
    """Drawing order: oracles, base, baselines, and the run's own front last, so on top."""
    rank = {"oracle-unconstrained": 0, "oracle": 1, "base": 2}
    own = curves[0] if curves else None
    return sorted(curves, key=lambda c: 9 if c is own else rank.get(c.front.method, 5))


def _curve_trace(curve: Curve, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    front = curve.front

    def words(point: int, dominated: bool) -> str:
        return point_words(curve, point, names, dominated=dominated)

    meta, values = f"{front.method}|{front.name}", front.ndcg[:, [i, j]]
    trace, _, _ = front_trace(values, look(front.method), meta, legend_words(curve), words, base=front.method == "base")
    return {**trace, "opacity": curve_opacity(front.method)}


def curve_opacity(method: str) -> float:
    """Baselines are quieter than ours."""
    return 1.0 if method in ("hyperdpo", "base") else 0.85


def front_trace(
    values: np.ndarray,
    style: Look,
    meta: str,
    name: str,
    words: Callable[[int, bool], str],
    *,
    base: bool,
    better: np.ndarray | None = None,
) -> tuple[dict[str, Any], list[int], list[int | None]]:
    """A front in a plane: a line through the points nothing beats, the others faded beside it.

    Args:
        values: (p, 2) where the points are drawn.
        words: the hover text of a point, and whether another beats it.
        base: drawn with a heavier rim.
        better: (p, 2) values of which more is better, where those drawn are not.

    Returns the trace, the points on the line in order, and the points as drawn, None where the line has a gap.
    """
    order, faded = plane_order(values if better is None else better)
    steps: list[int | None] = list(order)
    for point in faded:  # a gap before each keeps the line from touching it
        steps += [None, point]
    trace = {
        "type": "scatter",
        "mode": "lines+markers" if len(order) > 1 else "markers",
        "meta": meta,
        "name": name,
        "x": [None if s is None else number(values[s, 0]) for s in steps],
        "y": [None if s is None else number(values[s, 1]) for s in steps],
        "text": ["" if s is None else words(s, s not in order) for s in steps],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.colour, "dash": style.dash, "width": style.width},
        "marker": {
            "symbol": style.symbol,
            "size": style.size,
            "color": style.colour,
            "opacity": [1.0 if s in order else FADED for s in steps],
            "line": {"color": style.colour, "width": 3 if base else 1.5},
        },
        "connectgaps": False,
    }
    return trace, order, steps


def plane_order(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Points of (p, 2) that no other beats on both axes, from left to right, and the others; NaN counts as beaten."""
    real = np.isfinite(values).all(1)
    filled = np.where(real[:, None], values, -np.inf)
    at_least = (filled[:, None] >= filled[None]).all(-1) & (filled[:, None] > filled[None]).any(-1)
    best = real & ~at_least.any(0)
    order = sorted(np.flatnonzero(best).tolist(), key=lambda p: (values[p, 0], -values[p, 1]))
    return order, np.flatnonzero(real & ~best).tolist()


def legend_words(curve: Curve) -> str:
    """Name and cost of a curve, and where it stands still."""
    words = safe(curve.front.name)
    if curve.front.models:
        words += f" · {_count(curve.front.models, 'model')}"
    if curve.fixed:
        words += f" · at {curve.fixed} only"
    return words


def point_words(curve: Curve, point: int, names: Sequence[str], *, dominated: bool = False) -> str:
    """The hover text of one point of a front: w, c and every metric. Never empty."""
    front = curve.front
    lines = [f"<b>{safe(front.name)}</b>"]
    if front.weights.shape[1]:
        lines.append(weights_words(front.objectives, front.weights[point]))
    if front.method not in ("base", "oracle-unconstrained"):
        lines.append(f"c = {front.scale:g}")
    lines += _metric_lines(names, front.ndcg[point], front.k)
    if front.cross_entropy is not None:
        lines.append("cross-entropy " + ", ".join(f"{v:.3f}" for v in front.cross_entropy[point]))
    if dominated:
        lines.append("<i>another point of this curve is better on both axes</i>")
    return "<br>".join(lines)


def _metric_lines(names: Sequence[str], values: np.ndarray, k: int) -> list[str]:
    shown = [
        f"{safe(n, 24)} {v:.3f}" if math.isfinite(v) else f"{safe(n, 24)} none"
        for n, v in zip(names, values, strict=True)
    ]
    return [f"NDCG@{k}:", *("  ".join(shown[s : s + 2]) for s in range(0, len(shown), 2))]


def weights_words(objectives: Sequence[str], weights: Sequence[float] | np.ndarray) -> str:
    """The weights in percent, those above a half only."""
    parts = [f"{safe(n, 24)} {100 * w:.0f} %" for n, w in zip(objectives, weights, strict=True) if w >= 0.005]
    return "w: " + (", ".join(parts) or "none")


def _reading_words(title: str, reading: Reading, names: Sequence[str]) -> str:
    lines = [f"<b>{title}</b>", weights_words(names[1:], reading.weights), f"c = {reading.choice.scale:g}"]
    lines += _metric_lines(names, reading.ndcg, reading.k)
    if reading.cross_entropy is not None:
        lines.append("cross-entropy " + ", ".join(f"{v:.3f}" for v in reading.cross_entropy))
    return "<br>".join(lines)


def _live_trace(live: Reading, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    change = None if live.change is None else (live.change[i], live.change[j])
    return live_trace(live.ndcg[i], live.ndcg[j], _reading_words("You are here", live, names), change)


def live_trace(x: float, y: float, text: str, change: tuple[Any, Any] | None) -> dict[str, Any]:
    """The point the sliders stand at, with the 95 % interval of its `change` from the base on each axis as a cross."""
    colour = LOOKS["hyperdpo"].colour
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "meta": "live",
        "name": "you are here",
        "x": [number(x)],
        "y": [number(y)],
        "text": [text],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle", "size": 17, "color": colour, "line": {"color": LIVE_RING, "width": 3}},
        "cliponaxis": False,
    }
    if change is not None:
        trace["error_x"], trace["error_y"] = (_cross(c, colour) for c in change)
    return trace


def _cross(change: Any, colour: str) -> dict[str, Any]:
    """The 95 % interval of the change from the base, about the live point."""
    if not math.isfinite(change.mean):
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [change.high - change.mean],
        "arrayminus": [change.mean - change.low],
        "color": colour,
        "thickness": 1.2,
        "width": 0,
    }


def _pin_trace(pinned: Reading, names: Sequence[str], i: int, j: int, letter: str = "A") -> dict[str, Any]:
    """A pinned choice; its letter stands above A and below B, so that both can be read where they lie close."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "meta": "pin" if letter == "A" else f"pin-{letter.lower()}",
        "name": f"{letter}, pinned",
        "x": [number(pinned.ndcg[i])],
        "y": [number(pinned.ndcg[j])],
        "text": [f"<b>{letter}</b>"],
        "hovertext": [_reading_words(f"{letter}, pinned", pinned, names)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "textposition": "top center" if letter == "A" else "bottom center",
        "textfont": {"size": 14, "color": PIN_COLOUR},
        "marker": {"symbol": "diamond", "size": 13, "color": PIN_COLOUR, "line": {"color": LIVE_RING, "width": 1.5}},
    }


def _edge_trace(
    edge: tuple[np.ndarray, np.ndarray], names: Sequence[str], i: int, j: int, live: Reading | None
) -> dict[str, Any]:
    weights, values = edge
    title = f"<b>{safe(names[i])} and {safe(names[j])} only</b>"
    k = live.k if live else 10
    texts = [
        "<br>".join([title, weights_words(names[1:], w), *_metric_lines(names, v, k)])
        for w, v in zip(weights, values, strict=True)
    ]  # fmt: skip
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": "edge",
        "name": "the same model, these two only",
        "x": [number(v) for v in values[:, i]],
        "y": [number(v) for v in values[:, j]],
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": LOOKS["hyperdpo"].colour, "width": 1.2, "shape": "spline"},
        "opacity": 0.8,
    }


def plane_layout(names: Sequence[str], i: int, j: int, ranges: np.ndarray, k: int, view: str) -> dict[str, Any]:
    """The layout of a chart over objectives i and j, on every view; the reader's zoom belongs to `view`."""
    return {
        **frame(),
        "hovermode": "closest",
        "hoverdistance": 24,
        "hoverlabel": {"align": "left"},
        "uirevision": view,
        "xaxis": {**axis(f"{safe(names[i])}, NDCG@{k} →"), "range": padded(ranges[i]), "tickformat": ".2f"},
        "yaxis": {**axis(f"{safe(names[j])}, NDCG@{k} →", 16), "range": padded(ranges[j]), "tickformat": ".2f"},
        "dragmode": "pan",
        "modebar": {"bgcolor": CLEAR, "color": NEUTRAL, "activecolor": LOOKS["hyperdpo"].colour},
        "showlegend": False,
    }  # fmt: skip


def worded(figure: Figure, called: Mapping[str, str]) -> Figure:
    """The chart with its axes' objectives as people say them; the names in its traces stay as they are."""
    layout = dict(figure["layout"])
    for which in ("xaxis", "yaxis"):
        title = layout.get(which, {}).get("title", {})
        for name, words in called.items():
            text, raw = title.get("text", ""), f"{safe(name)}, NDCG"
            if words != name and text.startswith(raw):
                layout[which] = {
                    **layout[which],
                    "title": {**title, "text": f"{safe(words, 48)}, NDCG{text[len(raw) :]}"},
                }
    return {**figure, "layout": layout}


def frame() -> dict[str, Any]:
    # Measured: automatic margins and a legend make a redraw take five times as long. The page draws the legend itself.
    margin = {"l": 62, "r": 14, "t": 10, "b": 50, "autoexpand": False}
    return {"height": HEIGHT, "margin": margin, "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR}


def padded(span: Sequence[float] | np.ndarray) -> list[float]:
    """An axis range that holds `span` with some room; also for a single value."""
    low, high = float(span[0]), float(span[1])
    room = MARGIN * (high - low) or 0.05
    return [round(low - room, 6), round(high + room, 6)]


def axis(title: str, standoff: int = 8) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": standoff},
        "automargin": False,
        "zeroline": False,
        "gridcolor": GRID,
        "nticks": 7,
    }


def number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
