"""Looking again while something is being made: the browser runs the fragment that the ticker stands in."""

from __future__ import annotations

import streamlit as st

from dashboard.component import component


def show(key: str, *, on: bool, milliseconds: int) -> None:
    """While `on`, the browser runs this fragment again so many milliseconds after it has drawn it."""
    count = st.session_state[f"{key}.count"] = st.session_state.get(f"{key}.count", 0) + 1
    component("ticker", "<div></div>", "ticker.js")(
        key=key,
        data={"on": on, "count": count, "milliseconds": milliseconds},
        on_tick_change=lambda: None,
        height="content",
    )
