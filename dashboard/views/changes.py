"""What changes for users: the lists that change most between the two choices compared, and one of them drawn."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import streamlit as st

from dashboard import blocks_changes, charts_changes, picker
from dashboard import words_changes as said
from dashboard.pairs import Pair, pair
from dashboard.readings import ChangedList
from dashboard.state import ONLY, Key
from dashboard.store import LiveRun
from dashboard.views.common import chosen, friendly, write_address

MOST = 8  # lists in the table
LONGEST = 90  # letters of a list's name in the box


@st.fragment
def section(live: LiveRun, url: Callable[[], dict[str, str]]) -> None:
    """The section; alone in running again when another list is picked. `url` gives the address of the page's state."""
    with friendly():
        s = st.session_state
        now = pair(s[Key.CHOICE], s.get(Key.PIN), s.get(Key.PIN_B))
        k, names = s[Key.K], live.saved.names
        found = live.changes(now.before, now.after, k)
        only = s.setdefault(Key.ONLY, "all")
        st.html(
            f'<h2 class="hx-section">What changes for users?</h2>'
            f'<p class="hx-small">{escape(said.summary(found, now, names[0]))}</p>'
        )
        numbers = [int(i) for i in found.most(only, MOST)]
        here = _here(live, found.most(only, 1).tolist(), found.most(count=1).tolist())
        _choices(live, here, names[0])
        _table(live, now, numbers, here, only)
        _one(live, now, here, k)
        if s.get(Key.URL) is not None and url() != s[Key.URL]:
            write_address(url(), Key.URL)


def _here(live: LiveRun, wanted: list[int], changed: list[int]) -> int:
    """The list that is drawn: the one picked, else the one that changes most, else the first."""
    s, total = st.session_state, len(live.queries())
    picked = s.get(Key.QUERY)
    if picked is not None and picked < total:
        return int(picked)
    if picked is not None:
        st.caption(f"There is no test list number {picked:,}; this data has {total:,}, numbered from 0.")
    return (wanted or changed or [0])[0]


def _pick(number: int | None) -> None:
    st.session_state[Key.QUERY] = number


def _choices(live: LiveRun, here: int, main: str) -> None:
    with st.container(key="changetools"):
        left, right = st.columns([1.3, 2], vertical_alignment="bottom")
        names = {"all": "all", "gained": f"{main} rises", "lost": f"{main} falls"}
        with left:
            chosen(
                st.segmented_control, "Lists that change", "changes.only", st.session_state[Key.ONLY], _only,
                ONLY, format_func=lambda o: names[o],
                help="All lists whose order changes, or only those for which the main objective gets better or worse.",
            )  # fmt: skip
        with right:
            queries = live.queries()
            chosen(
                st.selectbox, "Shown list", "changes.list", here, _pick, list(range(len(queries))),
                format_func=lambda i: queries[i][:LONGEST], help="Any list of the test split; type to find one.",
            )  # fmt: skip


def _only(value: str | None) -> None:
    st.session_state[Key.ONLY] = value or "all"
    st.session_state[Key.QUERY] = None


def _table(live: LiveRun, now: Pair, numbers: list[int], here: int, only: str) -> None:
    found, main = live.changes(now.before, now.after, st.session_state[Key.K]), live.saved.main
    html = blocks_changes.lists_table(found, numbers, live.queries(), here, now, main)
    if numbers:
        picker.show(html, "changes.table", _pick)
        st.html(f'<p class="hx-small">{escape(said.MEASURE)}</p>')
    elif found.counts()["changed"]:
        st.html(f'<p class="hx-small">{escape(said.none_here(only, main))}</p>')


def _one(live: LiveRun, now: Pair, here: int, k: int) -> None:
    """One list before and after, with its items' labels and what moved them."""
    changed, names = live.changed_list(here, now.before, now.after, k), live.saved.names
    effect = said.by_objective(names, changed.before, changed.after, k)
    st.html(
        blocks_changes.list_head(changed)
        + f'<p class="hx-small">{escape(said.shown(changed.size, len(changed.right)))} {escape(effect)}</p>'
    )
    picker.show(charts_changes.slopes(changed.left, changed.right, now.then, now.now), "changes.slopes")
    chosen(
        st.toggle, "Labels, and what moved each item", "changes.why", bool(st.session_state.get(Key.WHY)), _why,
        help="Each item's labels by objective, and the features that the change of its score rests on.",
    )  # fmt: skip
    if st.session_state.get(Key.WHY):
        with st.spinner("Looking for what moved them ...", show_time=False):
            why = live.reasons(here, now.before, now.after, _items(changed))
        trees = f" {said.BASE}" if any(base is not None for _, base in why.values()) else ""
        note = f'<p class="hx-small">{escape(said.SENSITIVITY + trees)}</p>'
        st.html(blocks_changes.items_table(changed, names, now, why) + note)


def _why(value: bool) -> None:
    st.session_state[Key.WHY] = value


def _items(changed: ChangedList) -> tuple[int, ...]:
    """Every item shown, each once."""
    return tuple(dict.fromkeys(item.index for item in (*changed.right, *changed.left)))
