"""The tour as a component: one step at a time, in the browser alone, which also remembers that it was dismissed."""

from __future__ import annotations

import streamlit as st

from dashboard.component import component
from dashboard.state import Key
from dashboard.words_tour import STEPS


def show() -> None:
    """Draw the tour where the caller stands: open on a first visit to a bare address, else a button that opens it."""
    first = st.session_state.setdefault(Key.TOUR, not st.query_params.to_dict())
    component("tour", '<div class="hx-tourplace"></div>', "tour.js", isolated=False)(
        key="tour", data={"steps": [s._asdict() for s in STEPS], "first": first}, height="content"
    )
