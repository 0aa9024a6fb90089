"""Runs, the home page: every run folder at hand with a small picture of its front, what it reached and what it cost;
filters and an order that the address keeps; damaged runs with what is wrong with them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboard import blocks, store, words, words_help
from dashboard.charts_small import small_front
from dashboard.listing import (
    KEYS,
    ORDER_WORDS,
    ORDERS,
    Line,
    Listing,
    narrowed,
    options_of,
    read_listing,
    write_listing,
)
from dashboard.state import Key
from dashboard.store import Saved
from dashboard.views.common import add_note, chosen, default_axes, foreign, friendly, show_notes, write_address

HEAD = (
    "run", "front", "kind", "method", "data", "date", "objectives", "test lists", "hypervolume",
    "main NDCG, mean ± spread", "models", "training",
)  # fmt: skip
KIND_WORDS = {"rank": "ranking", "text": "text"}
HELP = {
    "kind": "Rankings reorder lists of items; text runs write answers.",
    "data": "The data a run was trained on.",
    "method": "How the run was trained.",
}


def render() -> None:
    """The view."""
    with friendly():
        notes = st.container(key="homenotes")
        found = store.open_all()
        good = [f for f in found if isinstance(f, Saved)]
        bad = [f for f in found if not isinstance(f, Saved)]
        if good:
            _list(good)
        else:
            st.markdown("There is no run in `checkpoints/` or `runs/` yet.")
        show_notes(notes)
        _open_by_path()
        if bad:
            st.subheader("Not finished, or damaged")
            for entry, message in bad:
                st.html(f"<p><strong>{escape(entry.label)}</strong></p>{blocks.sentences(message.splitlines())}")


def _list(good: list[Saved]) -> None:
    lines = [_line(saved) for saved in good]
    url = st.query_params.to_dict()
    if url != st.session_state.get(Key.LISTED_URL):  # opened by an address, or gone back to one
        st.session_state[Key.LISTING], said = read_listing(url, lines)
        add_note(*said, *foreign(url, KEYS))
    listing: Listing = st.session_state.setdefault(Key.LISTING, Listing())
    _filters(lines, listing)
    write_address(write_listing(listing), Key.LISTED_URL)
    shown = narrowed(lines, listing)
    count = f"{len(good)} run{'s' if len(good) != 1 else ''}"
    told = f"{count}, {ORDER_WORDS[listing.order]}." if len(shown) == len(good) else f"{len(shown)} of {count}."
    st.html(f'<p class="hx-small">{told}</p>')  # a caption of Streamlit's is too pale on white
    if not shown:
        st.markdown("No run fits these filters. Empty the search or choose *any* to see all.")
        return
    st.html(f'<div class="hx-runs">{blocks.runs_table([_row(good[i], lines[i]) for i in shown], HEAD)}</div>')
    st.html(
        '<p class="hx-small">The small picture shows the two objectives a run trades most: right and up is better, '
        "+ is the base. "
        "Hypervolume says how much of the space of trade-offs a run covers; higher is better, but compare it only "
        "between runs on the same data and objectives. It is taken on the test lists, of NDCG from 0, or for text of "
        "cross-entropy from just above chance, at the c and k each run was measured with.</p>"
    )


def _filters(lines: list[Line], listing: Listing) -> None:
    def keep(key: str, value: Any) -> None:
        st.session_state[Key.LISTING] = replace(st.session_state[Key.LISTING], **{key: value or ""})
        st.session_state[Key.LISTED_URL] = st.query_params.to_dict()

    with st.container(key="hometools"):
        places = st.columns([2, 1, 1, 1, 1])
        with places[0]:
            chosen(
                st.text_input, "Search", "home.find", listing.find, partial(keep, "find"),
                placeholder="name, data, objective", help="Every word must stand in the run's name, data, method or "
                "objectives.",
            )  # fmt: skip
        for place, key in zip(places[1:4], ("kind", "data", "method"), strict=True):
            with place:
                chosen(
                    st.selectbox, words.capital(key), f"home.{key}", getattr(listing, key), partial(keep, key),
                    ["", *options_of(lines, key)], format_func=partial(_option, key), help=HELP[key],
                )  # fmt: skip
        with places[4]:
            chosen(
                st.selectbox, "Order", "home.order", listing.order, partial(keep, "order"), list(ORDERS),
                format_func=lambda o: ORDER_WORDS[o], help="Which run comes first.",
            )  # fmt: skip


def _option(key: str, value: str) -> str:
    return KIND_WORDS.get(value, value) if key == "kind" and value else value or "any"


def _line(saved: Saved) -> Line:
    own, config = saved.own, saved.config
    method = own.name if own else store.method_of(config)
    return Line(
        saved.entry.label, saved.kind, str(config["data"].get("name", "")), method,
        saved.names, saved.seconds, _hypervolume(saved), float(config.get("seconds", 0.0)),
    )  # fmt: skip


def _hypervolume(saved: Saved) -> float:
    if saved.own is None:
        return math.nan
    return saved.own.hypervolume if saved.kind == store.TEXT else store.saved_curves(saved)[0].hypervolume


def _row(saved: Saved, line: Line) -> list[str]:
    own, config, text = saved.own, saved.config, saved.kind == store.TEXT
    view = "./text" if text else "./"
    address = escape(f"{view}?{urlencode({'run': line.run})}")
    link = f'<a href="{address}" target="_self">{escape(line.run)}</a>'
    date = datetime.fromtimestamp(line.date).strftime("%Y-%m-%d %H:%M") if line.date else ""
    reached = "not measured" if own is None else words.volume(line.hypervolume)
    if text and own is not None and saved.base is not None:
        reached += f"<br><span class='hx-small'>chance {words.volume(saved.base.hypervolume)}</span>"
    main = f"{own.main_mean:.3f} ± {own.main_std:.3f}" if own is not None and not text else ""
    plain = (KIND_WORDS.get(line.kind, line.kind), line.method, line.data, date, words.listed(saved.objectives))
    tests = config["data"].get("lists", {}).get("test", "")
    cost = (str(config.get("models", "")), blocks.seconds(line.training))
    cells = [*(f"<span class='hx-cut'>{escape(p)}</span>" for p in plain), escape(str(tests)), reached, main, *cost]
    return [link, small_front(own, saved.base, default_axes(saved)), *cells]


def _open_by_path() -> None:
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    path = left.text_input("Open a run folder elsewhere on this machine", placeholder="/path/to/run", key="elsewhere",
                           help=words_help.RUN_FOLDER)  # fmt: skip
    if path.strip():
        right.link_button("Open", f"./?{urlencode({'run': path.strip()})}", help="Shows this folder's run in Explore.")
