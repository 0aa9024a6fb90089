"""What moves over the Explore chart: the live point, its preview, and the ring where the chart was clicked."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from dashboard import aiming, panel, point, store
from dashboard.state import Key
from dashboard.store import LiveRun
from dashboard.views.common import friendly


def show(trace: dict[str, Any] | None, margin: dict[str, Any], names: tuple[str, ...], live: LiveRun | None) -> None:
    """Draw what moves over the chart of the session's axes; a click puts the sliders at the mix nearest to it."""
    s = st.session_state
    x, y, k, choice = s[Key.X], s[Key.Y], s[Key.K], s[Key.CHOICE]
    sketch = store.sketch(live, k) if live is not None else None
    plain = sketch.plain(names.index(x), names.index(y)) if sketch is not None else None
    target = current()
    point.show(
        point.Moving(trace, margin, choice, (x, y), plain, target.at if target else None),
        partial(_aimed, live) if live is not None and live.run.trained is None and x != y else None,
    )


def current() -> aiming.Target | None:
    """The target that the page still shows the answer to."""
    s = st.session_state
    kept = s.get(Key.TARGET)
    held = isinstance(kept, aiming.Target) and kept.holds(s[Key.X], s[Key.Y], s[Key.K], s[Key.CHOICE])
    return kept if held else None


def said(ndcg: Any, names: tuple[str, ...]) -> list[str]:
    """How near the sliders come to the target, if there is one; `ndcg` are the figures shown, main first."""
    target = current()
    if target is None or ndcg is None:
        return []
    return [aiming.aimed_words(target, (float(ndcg[names.index(target.x)]), float(ndcg[names.index(target.y)])))]


def _aimed(live: LiveRun, message: Any) -> None:
    with friendly():
        s = st.session_state
        x, y, k, now = s[Key.X], s[Key.Y], s[Key.K], s[Key.CHOICE]
        at = aiming.read_aim(message, x, y)
        sketch = store.sketch(live, k, wait=True) if at is not None else None
        if at is None or sketch is None or sketch.plain(live.saved.names.index(x), live.saved.names.index(y)) is None:
            return
        choice = aiming.nearest_mix(live, sketch, {x: at[0], y: at[1]}, now, k)
        panel.set_choice(choice, s.get(Key.PIN), pin_b=s.get(Key.PIN_B))
        s[Key.TARGET] = aiming.Target(x, y, k, at, choice)
