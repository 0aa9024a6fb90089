"""The tour as a component: one step at a time, in the browser alone, which also remembers that it was dismissed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.state import Key
from dashboard.words_tour import STEPS

HERE = Path(__file__).parent


def show() -> None:
    """Draw the tour where the caller stands: open on a first visit to a bare address, else a button that opens it."""
    first = st.session_state.setdefault(Key.TOUR, not st.query_params.to_dict())
    _component()(key="tour", data={"steps": [s._asdict() for s in STEPS], "first": first}, height="content")


@cache
def _component() -> Any:
    return st.components.v2.component(
        "hyperdpo_tour",
        html='<div class="hx-tourplace"></div>',
        js=(HERE / "tour.js").read_text("utf-8"),
        isolate_styles=False,
    )
