"""Choices A and B of the Explore view, as the other ranking views draw and compare them where they show its run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from dashboard import blocks_changes, charts, store, words
from dashboard.readings import Reading
from dashboard.state import Key
from dashboard.store import LiveRun, Saved
from dashboard.views.common import chosen_device


@dataclass(frozen=True, eq=False)
class Pinned:
    """What is pinned, measured.

    Attributes:
        run: label of the run whose choices they are. names: main, then its objectives.
        readings: A, and B where it is pinned too. change: of B against A by objective, main first; None without B.
        note: a sentence where the figures are not those of the exact choices.
    """

    run: str
    names: tuple[str, ...]
    readings: tuple[Reading, ...]
    change: list[words.Change] | None
    note: str = ""

    def on(self, figure: charts.Figure, x: str, y: str) -> charts.Figure:
        """The figure of a plane with A and B marked in it."""
        return charts.with_pins(figure, self.readings, self.names, x, y)

    def table(self) -> str:
        """A, B, and B against A in percent, as HTML."""
        return blocks_changes.pins_table(self.readings, self.names, self.change, self.run, self.note)


def pinned(runs: Iterable[Saved], k: int) -> Pinned | None:
    """What is pinned, if it belongs to one of `runs`: exact where that run's model is ready, else the nearest saved."""
    s = st.session_state
    choices = [c for c in (s.get(Key.PIN), s.get(Key.PIN_B)) if c is not None]
    run = next((r for r in runs if r.entry.label == s.get(Key.RUN)), None)
    if run is None or not choices:
        return None
    live = store.live(run, s.get(Key.DATA, {}).get(run.entry.label), chosen_device()).live
    found = [live.reading(c, k) if live is not None else store.saved_reading(run, c) for c in choices]
    known = tuple(r for r in found if r is not None and r.k == k)
    if not known or len(known) < len(choices):
        return None
    return Pinned(run.entry.label, run.names, known, _change(known, live), known[-1].note)


def _change(known: Sequence[Reading], live: LiveRun | None) -> list[words.Change] | None:
    if len(known) < 2:
        return None
    then, now = known
    moved = live.change(now, then) if live is not None else store.saved_change(now, then)
    if moved is None:
        return None
    return [words.change(c.mean, c.low, c.high, float(o)) for c, o in zip(moved, then.ndcg, strict=True)]
