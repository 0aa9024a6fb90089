"""The live point over the chart: what follows the sliders without the chart being made anew.

While a slider is dragged, a hollow preview of it moves in the browser alone (see `preview`); and a click on the chart
comes back from it as the values there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.component import component
from dashboard.state import Choice, Key


@dataclass(frozen=True)
class Moving:
    """What moves over a chart.

    Attributes:
        trace: the live point, one plotly marker, or None. margin: the chart's.
        choice: what the live point stands for. axes: names of the objectives on x and y.
        sketch: what the preview is drawn from, or None where there is none.
        target: where the chart was clicked, in the units of the axes; ringed.
    """

    trace: dict[str, Any] | None
    margin: dict[str, Any]
    choice: Choice
    axes: tuple[str, str]
    sketch: dict[str, Any] | None = None
    target: tuple[float, float] | None = None


def show(moving: Moving, aimed: Callable[[Any], None] | None = None) -> None:
    """Draw what moves; `aimed` hears a click on the chart's plane as {x, y, axes}, and without it clicks do nothing."""
    component("point", '<div class="point"></div>', "point.js")(
        key=Key.POINT,
        data={
            "trace": moving.trace,
            "margin": moving.margin,
            "percent": list(moving.choice.percent),
            "scale": moving.choice.scale,
            "axes": list(moving.axes),
            "sketch": moving.sketch,
            "target": moving.target,
            "aims": aimed is not None,
        },
        on_aimed_change=lambda: aimed(_value()) if aimed else None,
        height="content",
    )


def _value() -> Any:
    held = st.session_state.get(Key.POINT)
    return held.get("aimed") if isinstance(held, Mapping) else getattr(held, "aimed", None)
