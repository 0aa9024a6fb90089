"""The live point over the chart: what follows the sliders without the chart being made anew."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


def show(trace: dict[str, Any] | None, margin: dict[str, Any]) -> None:
    """Put the point where `trace` (one plotly marker) says; `margin` is the chart's. None takes it off the chart."""
    _component()(key="hx.point", data={"trace": trace, "margin": margin}, height="content")


@cache
def _component() -> Any:
    return st.components.v2.component(
        "hyperdpo_point", html='<div class="point"></div>', js=(HERE / "point.js").read_text("utf-8")
    )
