"""The ranking run that is open: which one the session or the address asks for, what the address says of it, and what
to do where there is none or its data is not here. Explore and Temperature share it, and Compare where it pins.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import streamlit as st

from dashboard import panel, store, words_help
from dashboard.state import RANK_KEYS, Key, Wanted, equal_choice, read_url, write_url
from dashboard.store import Job, RunEntry, Saved
from dashboard.views import find
from dashboard.views.common import (
    add_note,
    asked_first,
    asked_run,
    chosen_device,
    default_axes,
    foreign,
    plain_markdown,
)
from hyperdpo.errors import HyperDPOError

QUICK_SECONDS = 0.15  # what a run may take to get ready before what is saved is shown first


def open_run() -> Saved | None:
    """The run of the session or the URL; a sentence and the first run that opens, where it cannot be had."""
    entries = store.list_runs()
    asked = asked_run(Key.RUN, Key.URL)
    order, notes = asked_first(entries, asked, "run")
    for entry in order:
        try:
            saved = store.saved(entry)
        except (HyperDPOError, OSError) as error:
            if asked and entry is order[0]:
                notes += str(error).splitlines()
            continue
        if notes:
            add_note(*notes, f"Shown instead: {entry.label}.")
        if st.session_state.get(Key.RUN) != entry.label:
            switch(saved)
        return saved
    nothing_here(notes)
    return None


def switch(saved: Saved) -> None:
    """Start afresh with another run; what the URL says about it comes after."""
    s = st.session_state
    s[Key.RUN] = saved.entry.label
    panel.set_choice(equal_choice(len(saved.objectives)))  # and nothing is pinned
    s[Key.X], s[Key.Y] = default_axes(saved)
    s[Key.K] = saved.k
    s[Key.QUERY], s[Key.ONLY] = None, "all"


def take_address(saved: Saved, known: Collection[str] = RANK_KEYS) -> None:
    """Adopt what the address says if it is not what this page wrote itself; `known` are the view's parameters."""
    said = st.query_params.to_dict()
    if said == st.session_state.get(Key.URL) or not said:
        return
    adopt(read_url(said, saved.main, saved.objectives), saved)
    find.take_bars(said)
    find.take_asked(said, saved)
    add_note(*foreign(said, known))


def adopt(wanted: Wanted, saved: Saved) -> None:
    """Put the session where a URL wants it."""
    s = st.session_state
    pin = wanted.pin
    if wanted.choice or pin:
        panel.set_choice(wanted.choice or s[Key.CHOICE], pin, pin_b=wanted.pin_b)
    s[Key.X], s[Key.Y] = wanted.x or s[Key.X], wanted.y or s[Key.Y]
    s[Key.K] = wanted.k or s[Key.K]
    s[Key.QUERY], s[Key.ONLY] = wanted.query, wanted.only
    add_note(*wanted.notes)


def address_of() -> dict[str, str]:
    """The address' parameters of what the session shows of the run."""
    s = st.session_state
    said = write_url(
        s[Key.RUN], s[Key.CHOICE], pin=s.get(Key.PIN), x=s[Key.X], y=s[Key.Y], k=s[Key.K], query=s.get(Key.QUERY),
        pin_b=s.get(Key.PIN_B), only=s.get(Key.ONLY, "all"),
    )  # fmt: skip
    return said | find.write_bars() | find.write_asked(s[Key.RUN])


def nothing_here(notes: list[str]) -> None:
    """Why there is nothing to show, and what to do."""
    for line in notes:
        st.warning(plain_markdown(line))
    st.subheader("No run to show yet")
    st.markdown(
        "Train one with `hyperdpo train rank --data YOUR_FILE --out runs/first`, start the dashboard in the folder "
        "that holds `runs/`, or give the path of a run folder:"
    )
    _folder_box()


def go_to_run(label: str) -> None:
    """Open another run: as a URL that says nothing else about it would."""
    entry = next((e for e in store.list_runs() if e.label == label), RunEntry(label, Path(label)))
    try:
        switch(store.saved(entry))
    except (HyperDPOError, OSError) as error:
        add_note(*str(error).splitlines())


def point_at_data(saved: Saved, job: Job) -> None:
    """What to do where the run's data is not here."""
    label = saved.entry.label
    st.warning(
        plain_markdown(f"{job.failure} The saved fronts are shown; the sliders step from saved point to saved point.")
    )
    path = st.text_input(
        "Path of the data folder or file on this machine",
        value=st.session_state.get(Key.DATA, {}).get(label, ""),
        placeholder=str(saved.config["data"].get("path", "")),
        help=words_help.DATA_PATH,
    )
    left, right, _ = st.columns([1, 1, 3])
    if left.button("Open the data", type="primary", help=words_help.OPEN_DATA) and path.strip():
        st.session_state[Key.DATA] = {**st.session_state.get(Key.DATA, {}), label: path.strip()}
        store.forget_live(saved, path.strip(), chosen_device())
        st.rerun()
    if right.button("Try again", help=words_help.TRY_AGAIN):
        store.forget_live(saved, st.session_state.get(Key.DATA, {}).get(label), chosen_device())
        st.rerun()


def _folder_box() -> None:
    path = st.text_input("Run folder", placeholder="/path/to/run", help=words_help.RUN_FOLDER)
    if path.strip():
        st.session_state.pop(Key.URL, None)
        st.query_params.from_dict({"run": path.strip()})
        st.rerun()
