"""Pure: what finding and trusting draw on the front chart, the knee and the fronts' intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboard import charts
from dashboard.finding import Bars, Extra, Turn, on_the_line

FAINT = 0.4  # of the intervals' lines
TURN = "knee"


def decorated(figure: charts.Figure, extra: Extra, names: Sequence[str], x: str, y: str) -> charts.Figure:
    """The front chart with intervals under its curves and the knee above them, below A and the live point."""
    i, j = names.index(x), names.index(y)
    data: list[dict[str, Any]] = list(figure["data"])
    if extra.turn is not None:
        above = next((n for n, t in enumerate(data) if t.get("meta") in ("pin", "live")), len(data))
        data.insert(above, _turn_trace(extra.turn, names, i, j))
    return {**figure, "data": [*(_bars_trace(b, i, j) for b in extra.bars), *data]}


def _turn_trace(turn: Turn, names: Sequence[str], i: int, j: int) -> dict[str, Any]:
    said = [
        "<b>Knee: here the front turns most</b>",
        charts.weights_words(names[1:], turn.choice.weights),
        f"c = {turn.choice.scale:g}",
    ]
    said += [f"{charts.safe(names[n])} {turn.ndcg[n]:.3f}" for n in (i, j)]
    return {
        "type": "scatter",
        "mode": "markers",
        "meta": "knee",
        "name": TURN,
        "x": [charts.number(turn.ndcg[i])],
        "y": [charts.number(turn.ndcg[j])],
        "text": ["<br>".join(said)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": "diamond-open",
            "size": 13,
            "color": charts.LOOKS["hyperdpo"].colour,
            "line": {"width": 1.8},
        },
    }


def _bars_trace(bars: Bars, i: int, j: int) -> dict[str, Any]:
    """Thin crosses about the points that nothing beats; no marker of their own, nothing to hover."""
    front = bars.curve.front
    points = on_the_line(bars, i, j)
    colour = charts.faint(charts.look(front.method).colour, FAINT)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "meta": f"bars|{front.name}",
        "x": [charts.number(front.ndcg[p, i]) for p in points],
        "y": [charts.number(front.ndcg[p, j]) for p in points],
        "marker": {"size": 0.1, "color": charts.CLEAR},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    for axis, n in (("error_x", i), ("error_y", j)):
        trace[axis] = {
            "type": "data", "symmetric": False, "color": colour, "thickness": 1, "width": 0,
            "array": [charts.number(bars.high[p, n] - front.ndcg[p, n]) for p in points],
            "arrayminus": [charts.number(front.ndcg[p, n] - bars.low[p, n]) for p in points],
        }  # fmt: skip
    return trace
