"""Numbers as words: changes, verdicts, and what one objective costs another. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.readings import Reading
from hyperdpo.errors import HyperDPOError

SAME = "no measurable difference"
STEEP, FLAT = 20.0, 0.05  # slopes beyond which a price is not worth a number
MOVES = 2e-4  # NDCG below which nothing is said to move


@dataclass(frozen=True)
class Change:
    """One objective's change, in percent of where it came from.

    `words` is the change, `interval` its 95 % interval, `verdict` what may be concluded.
    """

    words: str
    interval: str
    verdict: str
    measurable: bool
    up: bool


def signed(value: float, digits: int = 1) -> str:
    """`+3.1`, `−0.4`, with a real minus sign."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def change(mean: float, low: float, high: float, origin: float) -> Change:
    """A change of NDCG and its interval as percentages of `origin`."""
    if not all(map(math.isfinite, (mean, low, high, origin))):
        return Change("–", "", "no list of the test split has a label for it", False, False)
    measurable = low > 0 or high < 0
    unit, per = ("%", 100 / origin) if origin > 0 else ("points", 100.0)
    interval = f"{signed(low * per)} to {signed(high * per)} {unit}"
    verdict = ("better" if mean > 0 else "worse") if measurable else SAME
    return Change(f"{signed(mean * per)} {unit}", interval, verdict, measurable, mean > 0)


def changes(reading: Reading) -> list[Change] | None:
    """The changes from the base, main first; None where there is nothing to compare with."""
    if reading.change is None or reading.base is None:
        return None
    return [change(c.mean, c.low, c.high, float(b)) for c, b in zip(reading.change, reading.base, strict=True)]


def price_sentence(x: str, y: str, live: tuple[float, float], curve: np.ndarray) -> str:
    """What one more point of `y` costs in `x` where the live point stands, from the front's points (p, 2) of (x, y).

    The slope is that of the front's stretch nearest to the live point, both axes measured by their spread.
    """
    points = curve[np.isfinite(curve).all(1)]
    points = points[np.argsort(points[:, 0], kind="stable")]
    if len(points) < 2 or not all(map(math.isfinite, live)):
        return f"There are not enough points here for a price of {y} in {x}."
    size = np.ptp(points, axis=0)
    if (size < 1e-4).any():
        return f"{capital(x)} and {y} hardly move against each other here."
    i = _nearest_stretch(points / size, np.array(live) / size)
    return slope_sentence(x, y, points[i : i + 2])


def slope_sentence(x: str, y: str, stretch: np.ndarray) -> str:
    """What one more point of `y` costs in `x` between two points (2, 2) of (x, y)."""
    dx, dy = stretch[1] - stretch[0]
    if abs(dy) < MOVES and abs(dx) < MOVES:
        return f"{capital(x)} and {y} hardly move against each other here."
    if abs(dy) < MOVES or abs(dx / dy) > STEEP:
        return f"{capital(y)} is at its limit here: more of it can hardly be had, whatever {x} gives up."
    cost = -dx / dy
    if cost < -FLAT:
        return f"{capital(x)} and {y} do not pull apart here: what helps one helps the other."
    if cost <= FLAT:
        return f"More {y} costs next to nothing in {x} here."
    return f"{capital(x)} and {y} pull apart here: one more point of {y} costs {cost:.1f} {_points(cost)} of {x}."


def capital(text: str) -> str:
    """With a capital first letter, as a sentence begins."""
    return text[:1].upper() + text[1:]


def _points(value: float) -> str:
    return "point" if f"{value:.1f}" == "1.0" else "points"


def _nearest_stretch(points: np.ndarray, at: np.ndarray) -> int:
    """Index of the segment of a polyline (p, 2) that lies nearest to `at`."""
    start, step = points[:-1], np.diff(points, axis=0)
    length = (step**2).sum(1)
    share = np.clip(((at - start) * step).sum(1) / np.where(length > 0, length, 1.0), 0, 1)
    distance = ((start + share[:, None] * step - at) ** 2).sum(1)
    return int(np.where(length > 0, distance, np.inf).argmin())


def number(value: float | None, digits: int = 3) -> str:
    """A figure without a leading zero's noise: `0.741`, or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def friendly(error: Exception) -> list[str]:
    """An error as sentences: ours as they are, any other named without a trace."""
    if isinstance(error, HyperDPOError):
        return error.problems
    return [
        f"Something unforeseen went wrong here ({type(error).__name__}: {str(error)[:300]}). The details are in the "
        "terminal that runs the dashboard. Reload the page, or choose another run."
    ]


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
