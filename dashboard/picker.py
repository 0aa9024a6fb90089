"""HTML of ours as a component, with drawings in it, which Streamlit's own HTML leaves out, and buttons that answer.

What is pressed comes back as a number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from dashboard.component import component


def show(html: str, key: str, picked: Callable[[int], None] = lambda number: None) -> None:
    """Draw HTML with its texts escaped; `picked` hears the number of the button `data-list` that is pressed."""
    component("picker", '<div class="picker"></div>', "changes.js", isolated=False)(
        key=key, data={"html": html}, height="content", on_picked_change=partial(_heard, key, picked)
    )


def _heard(key: str, picked: Callable[[int], None]) -> None:
    held: Any = st.session_state.get(key)
    number = held.get("picked") if hasattr(held, "get") else getattr(held, "picked", None)
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        picked(number)
