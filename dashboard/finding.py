"""What finding and trusting add to a view: choices to go to, the knee, the fronts' intervals. No layout, no cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.readings import Curve
from dashboard.state import Choice, clean_scale, whole_percent
from hyperdpo.finding import knee, plane_front

if TYPE_CHECKING:
    from dashboard.store import LiveRun
    from hyperdpo.finding import Spot

BARS = ("live point", "own front", "all fronts")  # whose 95 % intervals are drawn


@dataclass(frozen=True, eq=False)
class Turn:
    """The knee of the front in the plane shown: where it is gone to, and its values (1 + m,), main first."""

    choice: Choice
    ndcg: np.ndarray


@dataclass(frozen=True, eq=False)
class Bars:
    """Ends (p, 1 + m) of the 95 % interval about each point of a curve, of its change from the base."""

    curve: Curve
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Extra:
    """What the front chart shows besides its curves."""

    turn: Turn | None = None
    bars: tuple[Bars, ...] = ()


def nearest_to(live: LiveRun, target: Mapping[str, float], k: int | None = None) -> Choice:
    """The choice that comes nearest to NDCG@k values of some objectives (main allowed), as the chart shows them.

    It is sought over the continuous (w, c) on the validation split, to which the target is moved in proportion to the
    base's values; what a click finds is `aiming.nearest_mix`. `k` is the run's by default. Raises ConfigError for
    unknown names, an empty target and values that are not numbers, DataError where the data has no validation lists.
    """
    return choice_of(live.nearest(target, live.saved.k if k is None else k))


def choice_of(spot: Spot) -> Choice:
    """A found (w, c) as the sliders have it."""
    return Choice(whole_percent(spot.weights.tolist()), clean_scale(spot.scale))


def turn_at(live: LiveRun, x: str, y: str, scale: float, k: int) -> Turn | None:
    """The knee of what the model reaches in the plane of x and y at this c; None where nothing turns.

    Between two auxiliary objectives that is the line of the model with these two only, else the run's own front.
    """
    if x == y:
        return None
    names = live.saved.names
    i, j = names.index(x), names.index(y)
    edge = live.edge(x, y, scale, k)
    front = live.curves(scale, k)[0].front
    weights, values = edge if edge is not None else (front.weights, front.ndcg)
    at = knee(values[:, [i, j]])
    if at is None:
        return None
    return Turn(Choice(whole_percent(weights[at].tolist()), scale), values[at])


def extra(live: LiveRun, x: str, y: str, scale: float, k: int, wanted: str) -> Extra:
    """The knee, and the intervals that are `wanted` (one of BARS)."""
    curves = live.curves(scale, k)
    shown = {"live point": curves[:0], "own front": curves[:1], "all fronts": curves}.get(wanted, curves[:1])
    found = [Bars(c, *ends) for c in shown if (ends := live.ends(c, scale, k)) is not None]
    return Extra(turn_at(live, x, y, scale, k), tuple(found))


def on_the_line(bars: Bars, i: int, j: int) -> list[int]:
    """The points of a curve that nothing beats in the plane of i and j: only these have their intervals drawn."""
    return plane_front(bars.curve.front.ndcg[:, [i, j]])
