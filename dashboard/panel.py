"""The slider panel: one component with one interface, so that a better one can take its place.

`show` draws the panel; `heard` is all that a move or a press does to the state, as a pure function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import EllipsisType
from typing import Any

import streamlit as st

from dashboard.charts import objective_colour
from dashboard.component import component
from dashboard.state import MIN_SCALE, Choice, Key, clean_scale, whole_percent

PINNED, PINNED_B, SWAPPED, CLEARED, PAINTED = "pin", "pin-b", "swap", "clear", "painted"


@dataclass(frozen=True)
class PanelState:
    """What the panel shows: the choice, which objectives are locked, and the pinned A and B; no B without A.

    `epoch` grows when the state changes for another reason than a move of the panel, which then takes it over; `ack` is
    the number of the last move that was handled; `low` is the smallest c.
    """

    choice: Choice
    locked: tuple[int, ...] = ()
    pin: Choice | None = None
    epoch: int = 0
    ack: int = 0
    low: float = MIN_SCALE
    pin_b: Choice | None = None


def heard(state: PanelState, moved: Any) -> PanelState:
    """The state after the panel's message `moved`; one that is foreign or from an earlier epoch changes nothing."""
    if not isinstance(moved, Mapping) or moved.get("epoch") != state.epoch:
        return state
    percent, locked, scale = moved.get("percent"), moved.get("locked"), moved.get("scale")
    m = len(state.choice.percent)
    if not (_numbers(percent, m) and isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        return state
    assert isinstance(percent, list)
    choice = Choice(whole_percent(percent), max(state.low, clean_scale(float(scale))))
    flags = locked if isinstance(locked, list) and len(locked) == m else [False] * m
    return replace(
        state, choice=choice, locked=tuple(i for i, on in enumerate(flags) if on), ack=int(moved.get("seq") or 0)
    )


def pressed(state: PanelState, what: Any) -> PanelState:
    """The state after a button that is not a slider's.

    `pin` sets A, and takes it away again (B, if there is one, becomes A); `pin-b` sets B beside A; `swap` exchanges
    them; `clear` takes both away.
    """
    if what == PINNED:
        return replace(state, pin=state.pin_b if state.pin else state.choice, pin_b=None)
    if what == PINNED_B and state.pin is not None:
        return replace(state, pin_b=state.choice)
    if what == SWAPPED and state.pin_b is not None:
        return replace(state, pin=state.pin_b, pin_b=state.pin)
    return replace(state, pin=None, pin_b=None) if what == CLEARED else state


@dataclass(frozen=True)
class Seat:
    """Which panel it is: views with sliders of their own have one each.

    Attributes:
        name: stands after the session's keys; empty for the ranking views.
        low: smallest c. caution: what the panel says where c is below 1; empty where that needs no word.
        pins: whether choices can be pinned as A and B.
    """

    name: str = ""
    low: float = MIN_SCALE
    caution: str = ""
    pins: bool = True

    def key(self, key: Key) -> str:
        """The session's key of this panel."""
        return f"{key}{self.name}"


RANKING = Seat()


def current(seat: Seat = RANKING) -> PanelState:
    """The panel's state as the session keeps it."""
    s, key = st.session_state, seat.key
    locked, pin, pin_b = s.get(key(Key.LOCKED), ()), s.get(key(Key.PIN)), s.get(key(Key.PIN_B))
    epoch, ack = s.get(key(Key.EPOCH), 0), s.get(key(Key.ACK), 0)
    return PanelState(s[key(Key.CHOICE)], locked, pin, epoch, ack, seat.low, pin_b)


def keep(state: PanelState, seat: Seat = RANKING) -> None:
    """Write the panel's state to the session."""
    s, key = st.session_state, seat.key
    s[key(Key.CHOICE)], s[key(Key.LOCKED)], s[key(Key.PIN)] = state.choice, state.locked, state.pin
    s[key(Key.EPOCH)], s[key(Key.ACK)], s[key(Key.PIN_B)] = state.epoch, state.ack, state.pin_b


def set_choice(
    choice: Choice, pin: Choice | None = None, seat: Seat = RANKING, pin_b: Choice | EllipsisType | None = ...
) -> None:
    """Put the sliders somewhere from outside: nothing stays locked.

    `pin` is A. B stays as it is where nothing is said of it, but never without A.
    """
    s = st.session_state
    if pin_b is ...:
        pin_b = s.get(seat.key(Key.PIN_B))
    b = pin_b if pin is not None and not isinstance(pin_b, EllipsisType) else None
    keep(PanelState(choice, (), pin, s.get(seat.key(Key.EPOCH), 0) + 1, 0, pin_b=b), seat)


def show(
    objectives: Sequence[str],
    url: Callable[[], str],
    painted: Callable[[], object] | None = None,
    seat: Seat = RANKING,
    called: Mapping[str, str] | None = None,
) -> None:
    """Draw the panel where the caller stands; moves land in the session before the script goes on.

    `url` gives the query string that says the present state; `painted` is called once a chart is on the screen;
    `called` has more words for an objective's name, for who rests the pointer on it.
    """
    state = current(seat)
    result = component("sliders", '<div class="panel"></div>', "panel.js", style="panel.css")(
        key=seat.key(Key.PANEL),
        data={
            "names": list(objectives),
            "called": [(called or {}).get(name, name) for name in objectives],
            "colours": [objective_colour(i) for i in range(len(objectives))],
            "percent": list(state.choice.percent),
            "locked": [i in state.locked for i in range(len(objectives))],
            "scale": state.choice.scale,
            "pinned": (state.pin is not None) + (state.pin_b is not None),
            "epoch": state.epoch,
            "ack": state.ack,
            "url": url(),
            "watch": painted is not None,
            "low": seat.low,
            "caution": seat.caution,
            "pins": seat.pins,
        },
        on_moved_change=partial(_on_moved, seat),
        on_pressed_change=partial(_on_pressed, seat),
    )
    if painted is not None and result.pressed == PAINTED:
        painted()


def _on_moved(seat: Seat) -> None:
    keep(heard(current(seat), _value("moved", seat)), seat)


def _on_pressed(seat: Seat) -> None:
    keep(pressed(current(seat), _value("pressed", seat)), seat)


def _value(name: str, seat: Seat) -> Any:
    held = st.session_state.get(seat.key(Key.PANEL))
    return held.get(name) if isinstance(held, Mapping) else getattr(held, name, None)


def _numbers(values: Any, m: int) -> bool:
    if not isinstance(values, list) or len(values) != m:
        return False
    fine = all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values)
    return fine and sum(values) > 0
