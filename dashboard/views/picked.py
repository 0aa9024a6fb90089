"""The selection that all pictures of a comparison share: made with the mouse in any of them, or with sliders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from dashboard import blocks_picked, export, picking, words
from dashboard.charts import Figure
from dashboard.readings import Curve, Entrant
from dashboard.state import Range, quoted
from dashboard.views.common import chosen

CHART = "compare.main"
MODES = {"lines": ("box",), "pairs": ("box",), "triangle": ("box", "lasso")}
HOW = {
    "plane": "",
    "lines": "Draw a box over a part of an axis to select the lines that pass there.",
    "pairs": "Draw a box in any of the small charts to select the points in it.",
    "triangle": "Draw a box over dots to select these mixes, and the points of every front that have such weights.",
}


def known(ranges: Sequence[Range], names: Sequence[str]) -> tuple[tuple[Range, ...], list[str]]:
    """The ranges that this comparison can have, and a sentence for the others."""
    options = picking.labels(names)
    notes = [
        f"The link's selection names {quoted(item.name)}, which is not in this comparison; it has "
        f"{words.listed(options)}."
        for item in ranges
        if item.name not in options
    ]
    return tuple(item for item in ranges if item.name in options), notes


def listening(
    figure: Figure,
    view: str,
    names: Sequence[str],
    spans: np.ndarray,
    lattice: np.ndarray | None,
    change: Callable[..., None],
) -> dict[str, Any]:
    """What makes the chart hear a selection: arguments for Streamlit's, and the figure's own way to drag.

    `lattice` are the weights of the triangle's dots, where it is shown.
    """
    if view not in MODES:
        return {}
    figure["layout"] = {**figure["layout"], "dragmode": "select", "selections": []}
    dots = np.zeros((0, 3)) if lattice is None else lattice
    return {"on_select": partial(_heard, view, names, spans, dots, change), "selection_mode": MODES[view]}


def _heard(
    view: str, names: Sequence[str], spans: np.ndarray, lattice: np.ndarray, change: Callable[..., None]
) -> None:
    held = st.session_state.get(CHART)
    new = picking.brushed(view, held.get("selection") if held else None, names, spans, lattice)
    if new:
        _keep(new, change)


def _keep(new: Sequence[Range], change: Callable[..., None], drop: str = "") -> None:
    from dashboard.state import Key

    old = [item for item in st.session_state[Key.COMPARING].picked if item.name != drop]
    change(picked=picking.merged(old, new))


def show(
    entrants: Sequence[Entrant],
    names: Sequence[str],
    spans: np.ndarray,
    picked: Sequence[Range],
    change: Callable[..., None],
) -> None:
    """The selected points, the way back to all of them, and a slider for every range."""
    with st.container(key="picked"):
        left, right = st.columns([3, 1], vertical_alignment="center")
        with left, st.expander("Select by ranges", expanded=False):
            st.caption("A point is selected when it lies in every range. A range over the whole axis selects nothing.")
            columns = st.columns(3)
            for place, name in enumerate(picking.labels(names)):
                with columns[place % 3]:
                    _slider(name, picking.span(entrants, names, name, spans), picked, change)
        if picked:
            right.button("Clear selection", on_click=lambda: change(picked=()), width="stretch",
                         help="Show every point at full strength again.")  # fmt: skip
            st.html(blocks_picked.picked_table(entrants, names, picked))


def _slider(name: str, ends: tuple[float, float], picked: Sequence[Range], change: Callable[..., None]) -> None:
    low, high = ends
    if not low < high:
        return
    now = next((item for item in picked if item.name == name), Range(name, low, high))
    inside = (min(max(now.low, low), high), max(min(now.high, high), low))

    def keep(value: tuple[float, float]) -> None:
        whole = tuple(value) == ends
        _keep([] if whole else [Range(name, *(round(v, 4) for v in value))], change, drop=name)

    label = f"attention on {name.removeprefix(picking.WEIGHT)}" if name.startswith(picking.WEIGHT) else f"{name}, NDCG"
    step = (high - low) / 100 if name.startswith(picking.WEIGHT) else 0.001
    about = "attention as a share, 0 to 1" if name.startswith(picking.WEIGHT) else "NDCG, higher is better"
    chosen(
        st.slider, label, f"picked.{name}", inside, keep, low, high, step=step,
        help=f"Only points between the two ends stay ({about}). Both ends at the edge: all of them.",
    )  # fmt: skip


def rows(entrants: Sequence[Entrant], names: Sequence[str], picked: Sequence[Range]) -> list[dict[str, Any]]:
    """The selected points for CSV and JSON."""
    out: list[dict[str, Any]] = []
    for entrant in entrants:
        keep = picking.chosen(entrant.front, names, picked)
        front = replace(
            entrant.front, weights=entrant.front.weights[keep], ndcg=entrant.front.ndcg[keep], per_query=None,
            residuals=None, cross_entropy=None,
        )  # fmt: skip
        if len(front.ndcg):
            out += export.points([Curve(front)], None, names, entrant.run)
    return out
