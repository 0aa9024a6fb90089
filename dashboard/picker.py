"""HTML of ours as a component, with drawings in it, which Streamlit's own HTML leaves out, and buttons that answer.

What is pressed comes back as a number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


def show(html: str, key: str, picked: Callable[[int], None] = lambda number: None) -> None:
    """Draw HTML with its texts escaped; `picked` hears the number of the button `data-list` that is pressed."""
    _component()(key=key, data={"html": html}, height="content", on_picked_change=partial(_heard, key, picked))


def _heard(key: str, picked: Callable[[int], None]) -> None:
    held: Any = st.session_state.get(key)
    number = held.get("picked") if hasattr(held, "get") else getattr(held, "picked", None)
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        picked(number)


@cache
def _component() -> Any:
    return st.components.v2.component(
        "hyperdpo_picker",
        html='<div class="picker"></div>',
        js=(HERE / "changes.js").read_text("utf-8"),
        isolate_styles=False,
    )
