"""Runs: every run folder at hand, what it reached and what it cost; damaged ones with what is wrong with them."""

from __future__ import annotations

from datetime import datetime
from html import escape
from urllib.parse import urlencode

import streamlit as st

from dashboard import blocks, store, words
from dashboard.store import Saved
from dashboard.views.common import friendly

HEAD = ("run", "method", "data", "date", "hypervolume", "main NDCG, mean ± spread", "models", "parameters", "training")


def render() -> None:
    """The view."""
    with friendly():
        found = store.open_all()
        good = [f for f in found if isinstance(f, Saved)]
        bad = [f for f in found if not isinstance(f, Saved)]
        if good:
            st.html(f'<div class="hx-runs">{blocks.runs_table([_row(s) for s in good], HEAD)}</div>')
            st.caption(
                "Hypervolume of test NDCG from 0, or for text of test cross-entropy from just above chance, at the c "
                "and k each run was measured with: comparable between runs on the same data and objectives only."
            )
        else:
            st.markdown("There is no run in `checkpoints/` or `runs/` yet.")
        _open_by_path()
        if bad:
            st.subheader("Not finished, or damaged")
            for entry, message in bad:
                st.html(f"<p><strong>{escape(entry.label)}</strong></p>{blocks.sentences(message.splitlines())}")


def _row(saved: Saved) -> list[str]:
    own, config = saved.own, saved.config
    view = "./text" if saved.kind == store.TEXT else "./"
    address = escape(f"{view}?{urlencode({'run': saved.entry.label})}")
    link = f'<a href="{address}" target="_self">{escape(saved.entry.label)}</a>'
    method = own.name if own else store.method_of(config)
    date = datetime.fromtimestamp(saved.seconds).strftime("%Y-%m-%d %H:%M") if saved.seconds else ""
    if own is None:
        figures = ["not measured", ""]
    elif saved.kind == store.TEXT:
        figures = [words.number(own.hypervolume, 4), "text: none"]
    else:
        curve = store.saved_curves(saved)[0]
        figures = [words.number(curve.hypervolume, 4), f"{own.main_mean:.3f} ± {own.main_std:.3f}"]
    cost = [
        str(config.get("models", "")),
        f"{config.get('parameters', 0):,}",
        blocks.seconds(config.get("seconds", 0.0)),
    ]
    return [link, escape(method), escape(str(config["data"].get("name", ""))), date, *figures, *cost]


def _open_by_path() -> None:
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    path = left.text_input("Open a run folder elsewhere on this machine", placeholder="/path/to/run", key="elsewhere")
    if path.strip():
        right.link_button("Open", f"./?{urlencode({'run': path.strip()})}")
