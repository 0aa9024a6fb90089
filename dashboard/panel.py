"""The slider panel: one component with one interface, so that a better one can take its place.

`show` draws the panel; `heard` is all that a move or a press does to the state, as a pure function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.charts import objective_colour
from dashboard.state import Choice, Key, clean_scale, whole_percent

HERE = Path(__file__).parent
PINNED, PAINTED = "pin", "painted"


@dataclass(frozen=True)
class PanelState:
    """What the panel shows: the choice, which objectives are locked, and A.

    `epoch` grows when the state changes for another reason than a move of the panel, which then takes it over; `ack` is
    the number of the last move that was handled.
    """

    choice: Choice
    locked: tuple[int, ...] = ()
    pin: Choice | None = None
    epoch: int = 0
    ack: int = 0


def heard(state: PanelState, moved: Any) -> PanelState:
    """The state after the panel's message `moved`; one that is foreign or from an earlier epoch changes nothing."""
    if not isinstance(moved, Mapping) or moved.get("epoch") != state.epoch:
        return state
    percent, locked, scale = moved.get("percent"), moved.get("locked"), moved.get("scale")
    m = len(state.choice.percent)
    if not (_numbers(percent, m) and isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        return state
    assert isinstance(percent, list)
    choice = Choice(whole_percent(percent), clean_scale(float(scale)))
    flags = locked if isinstance(locked, list) and len(locked) == m else [False] * m
    return replace(
        state, choice=choice, locked=tuple(i for i, on in enumerate(flags) if on), ack=int(moved.get("seq") or 0)
    )


def pressed(state: PanelState, what: Any) -> PanelState:
    """The state after a button that is not a slider's: `pin` sets A, and takes it away again."""
    return replace(state, pin=None if state.pin else state.choice) if what == PINNED else state


def current() -> PanelState:
    """The panel's state as the session keeps it."""
    s = st.session_state
    return PanelState(s[Key.CHOICE], s.get(Key.LOCKED, ()), s.get(Key.PIN), s.get(Key.EPOCH, 0), s.get(Key.ACK, 0))


def keep(state: PanelState) -> None:
    """Write the panel's state to the session."""
    s = st.session_state
    s[Key.CHOICE], s[Key.LOCKED], s[Key.PIN] = state.choice, state.locked, state.pin
    s[Key.EPOCH], s[Key.ACK] = state.epoch, state.ack


def set_choice(choice: Choice, pin: Choice | None = None) -> None:
    """Put the sliders somewhere from outside: nothing stays locked."""
    keep(PanelState(choice, (), pin, st.session_state.get(Key.EPOCH, 0) + 1, 0))


def show(objectives: Sequence[str], url: Callable[[], str], painted: Callable[[], object] | None = None) -> None:
    """Draw the panel where the caller stands; moves land in the session before the script goes on.

    `url` gives the query string that says the present state; `painted` is called once a chart is on the screen.
    """
    state = current()
    result = _component()(
        key=Key.PANEL,
        data={
            "names": list(objectives),
            "colours": [objective_colour(i) for i in range(len(objectives))],
            "percent": list(state.choice.percent),
            "locked": [i in state.locked for i in range(len(objectives))],
            "scale": state.choice.scale,
            "pinned": state.pin is not None,
            "epoch": state.epoch,
            "ack": state.ack,
            "url": url(),
            "watch": painted is not None,
        },
        on_moved_change=_on_moved,
        on_pressed_change=_on_pressed,
    )
    if painted is not None and result.pressed == PAINTED:
        painted()


def _on_moved() -> None:
    keep(heard(current(), _value("moved")))


def _on_pressed() -> None:
    keep(pressed(current(), _value("pressed")))


def _value(name: str) -> Any:
    held = st.session_state.get(Key.PANEL)
    return held.get(name) if isinstance(held, Mapping) else getattr(held, name, None)


@cache
def _component() -> Any:
    return st.components.v2.component(
        "hyperdpo_sliders",
        html='<div class="panel"></div>',
        css=(HERE / "panel.css").read_text("utf-8"),
        js=(HERE / "panel.js").read_text("utf-8"),
    )


def _numbers(values: Any, m: int) -> bool:
    if not isinstance(values, list) or len(values) != m:
        return False
    fine = all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values)
    return fine and sum(values) > 0
