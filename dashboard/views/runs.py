"""Runs: every run folder at hand with a small picture of its front, what it reached and what it cost; to search, narrow
and open. Damaged ones are listed with what is wrong with them.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime
from html import escape
from urllib.parse import urlencode

import streamlit as st

from dashboard import blocks, charts, choosing, store, words
from dashboard.choosing import ANY, Wish
from dashboard.state import Key
from dashboard.store import Saved
from dashboard.views.common import add_note, chosen, default_axes, friendly, show_notes, write_address

HEAD = (
    "run", "front", "method", "data and objectives", "date", "hypervolume", "main NDCG, mean ± spread", "models",
    "parameters", "training",
)  # fmt: skip
KIND_WORDS = {ANY: "ranking and text", store.RANK: "ranking", store.TEXT: "text"}


def render() -> None:
    """The view."""
    with friendly():
        found = store.open_all()
        good = [f for f in found if isinstance(f, Saved)]
        bad = [f for f in found if not isinstance(f, Saved)]
        if good:
            _listed(good)
        else:
            st.markdown(
                "There is no run in `checkpoints/` or `runs/` yet. "
                "`hyperdpo train rank --data YOUR_FILE --out runs/first` "
                "makes one."
            )
        _open_by_path()
        if bad:
            st.subheader("Not finished, or damaged")
            for entry, message in bad:
                st.html(f"<p><strong>{escape(entry.label)}</strong></p>{blocks.sentences(message.splitlines())}")


def _listed(good: list[Saved]) -> None:
    data = sorted({choosing.data_of(run) for run in good})
    methods = sorted({choosing.method_name(run) for run in good})
    wish = _take_url(data, methods)
    show_notes(st.container(key="notes"))
    _filters(wish, data, methods)
    wish = st.session_state[Key.RUNS]
    kept = choosing.chosen(good, wish)
    st.caption(f"{len(kept):,} of {len(good):,} runs" if len(kept) < len(good) else f"{len(good):,} runs")
    if kept:
        st.html(f'<div class="hx-runs">{blocks.runs_table([_row(run) for run in kept], HEAD)}</div>')
        st.caption(
            "Hypervolume of test NDCG from 0, or for text of test cross-entropy from just above chance, at the c and k "
            "each run was measured with: comparable between runs on the same data and objectives only. The small "
            "picture is the front in the two objectives it trades against each other most, the base a cross."
        )
    else:
        st.markdown("No run is like that. Clear the search, or take another filter back.")
    write_address(wish.write(), Key.RUNS_URL)


def _take_url(data: list[str], methods: list[str]) -> Wish:
    """The session's wish, or the address's where that was not written here."""
    s, url = st.session_state, st.query_params.to_dict()
    if Key.RUNS not in s or (url and url != s.get(Key.RUNS_URL)):
        wish, notes = choosing.read_wish(url, data, methods)
        s[Key.RUNS] = wish
        add_note(*notes)
    wish = s[Key.RUNS]
    gone = {
        name: ANY for name, known in (("data", data), ("method", methods)) if getattr(wish, name) not in (ANY, *known)
    }
    s[Key.RUNS] = replace(wish, **gone)
    return s[Key.RUNS]  # type: ignore[no-any-return]


def _filters(wish: Wish, data: list[str], methods: list[str]) -> None:
    def keep(**changed: str) -> None:
        st.session_state[Key.RUNS_URL] = st.query_params.to_dict()  # the last address is no wish to go back to it
        st.session_state[Key.RUNS] = replace(st.session_state[Key.RUNS], **changed)

    with st.container(key="runfilters"):
        word, kind, which, how, order = st.columns([2, 1.2, 1.4, 1.4, 1.2], vertical_alignment="bottom")
    with word:
        chosen(
            st.text_input, "Search", "runs.search", wish.search, lambda v: keep(search=v),
            placeholder="run, data, objective", help="Any part of a run's name, data, method or objectives.",
        )  # fmt: skip
    with kind:
        chosen(
            st.selectbox, "Kind", "runs.kind", wish.kind, lambda v: keep(kind=v), choosing.KINDS,
            format_func=lambda k: KIND_WORDS[k], help="Rankers, language models, or both.",
        )  # fmt: skip
    with which:
        chosen(
            st.selectbox, "Data", "runs.data", wish.data, lambda v: keep(data=v), [ANY, *data],
            help="Runs on the same data and objectives can be compared.",
        )  # fmt: skip
    with how:
        chosen(
            st.selectbox, "Method", "runs.method", wish.method, lambda v: keep(method=v), [ANY, *methods],
            help="How the run was trained.",
        )  # fmt: skip
    with order:
        chosen(
            st.selectbox, "Order", "runs.order", wish.order, lambda v: keep(order=v), choosing.ORDERS,
            help="As found: the shipped runs first, then the newest.",
        )  # fmt: skip


def _row(saved: Saved) -> list[str]:
    own, config = saved.own, saved.config
    view = "./text" if saved.kind == store.TEXT else "./"
    address = escape(f"{view}?{urlencode({'run': saved.entry.label})}")
    link = f'<a href="{address}" target="_self">{escape(saved.entry.label)}</a>'
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
    about = f'{escape(choosing.data_of(saved))}<br><span class="hx-quiet">{escape(", ".join(saved.objectives))}</span>'
    return [link, _picture(saved), escape(choosing.method_name(saved)), about, date, *figures, *cost]


def _picture(saved: Saved) -> str:
    """The run's own front and the base, beside another method's where there is one."""
    own = saved.own
    if own is None or len(saved.objectives) < 2:
        return ""
    others = [f for f in saved.fronts if f is not own and not f.method.startswith("oracle")]
    names = (own.main, *own.objectives)
    x, y = default_axes(saved)
    drawn = charts.thumbnail([own, *others[: charts.THUMBED - 1]], names.index(x), names.index(y))
    if not drawn:
        return ""
    # As a picture of its own: Streamlit takes drawings out of HTML.
    held = base64.b64encode(drawn.encode()).decode()
    wide, tall = charts.THUMB
    words_for = escape(f"front of {y} against {x}")
    return f'<img src="data:image/svg+xml;base64,{held}" width="{wide}" height="{tall}" alt="{words_for}">'


def _open_by_path() -> None:
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    path = left.text_input("Open a run folder elsewhere on this machine", placeholder="/path/to/run", key="elsewhere")
    if path.strip():
        right.link_button("Open", f"./?{urlencode({'run': path.strip()})}")
