"""The page's own components: HTML to stand in and a script of this folder, read and registered once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


@cache
def component(name: str, html: str, script: str, *, style: str = "", isolated: bool = True) -> Any:
    """Streamlit's renderer of the component `name`; `script` and `style` are files beside this one.

    One that is not `isolated` has the page's style sheet.
    """
    return st.components.v2.component(
        f"hyperdpo_{name}",
        html=html,
        css=(HERE / style).read_text("utf-8") if style else None,
        js=(HERE / script).read_text("utf-8"),
        isolate_styles=isolated,
    )
