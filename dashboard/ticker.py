"""Looking again while something is being made: the browser runs the fragment that the ticker stands in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


def show(key: str, *, on: bool, milliseconds: int) -> None:
    """While `on`, the browser runs this fragment again so many milliseconds after it has drawn it."""
    count = st.session_state[f"{key}.count"] = st.session_state.get(f"{key}.count", 0) + 1
    _component()(
        key=key,
        data={"on": on, "count": count, "milliseconds": milliseconds},
        on_tick_change=lambda: None,
        height="content",
    )


@cache
def _component() -> Any:
    return st.components.v2.component("hyperdpo_ticker", html="<div></div>", js=(HERE / "ticker.js").read_text("utf-8"))
