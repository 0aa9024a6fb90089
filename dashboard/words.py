"""Numbers as words: changes, verdicts, and what one objective costs another. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.readings import Entrant, Reading
from hyperdpo.errors import HyperDPOError

if TYPE_CHECKING:
    from hyperdpo.comparison import Contribution, Stretches
    from hyperdpo.front import ParetoFront
    from hyperdpo.intervals import Interval

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


def called(name: str, *, less: bool = False) -> str:
    """An objective's name as people say it: `review_score` is review score; and where `less` is better, that it is."""
    return name.replace("_", " ").strip() + (" (less is better)" if less else "")


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


def opening(reading: Reading | None, data: str, x: str, y: str) -> str:
    """What a person who comes for the first time sees: how many lists, what the sliders do, where better is."""
    told = reading.change[0] if reading is not None and reading.change is not None else None
    lists = f"{told.queries + told.skipped:,} test lists of {data}" if told else f"The test lists of {data}"
    better = f"Up is better {y}, right is better {x}" if x != y else f"Up and right are better {x}"
    return f"{lists}. Move a slider and all are ranked again. {better}; the figures compare with the base."


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


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons

TERM_WORDS = {
    "main": ("another main objective", "{0}, not {1}"),
    "objectives": ("other objectives", "{0}, not {1}"),
    "data": ("other data", "{0}, not {1}"),
    "split": ("another split of the data", "{0}, not {1}"),
    "k": ("another cut-off", "NDCG@{0}, not NDCG@{1}"),
    "scale": ("another temperature scale", "c = {0}, not {1}"),
    "beta": ("another training temperature", "beta {0}, not {1}"),
    "reference_point": ("another reference point", "{0}, not {1}"),
}
MEASURABLE_ALIKE = {"split", "k", "scale"}  # `hyperdpo evaluate` can put these right


HYPERVOLUME = "Hypervolume: how much of the space of trade-offs a front covers; higher is better."


def volume(value: float | None, digits: int = 4) -> str:
    """A hypervolume, which may be very small in many objectives: `0.03086`, `0.0009583`."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:#.{digits}g}"


def temperatures(beta: Sequence[float]) -> str:
    """`1`, or `1, 0.5 and 2` where they differ."""
    values = [f"{b:g}" for b in beta]
    return values[0] if len(set(values)) == 1 else listed(values)


def refusal(what: str, reference: str, differences: Mapping[str, tuple[str, str]]) -> str:
    """Why a run or front is not drawn beside the reference: every difference, by term, as (theirs, ours)."""
    said = [f"{TERM_WORDS[t][0]} ({TERM_WORDS[t][1].format(*pair)})" for t, pair in differences.items()]
    sentence = f"{what} is left out, because it has {listed(said)} than {reference}. "
    if set(differences) <= MEASURABLE_ALIKE:
        return sentence + "Measure both runs alike with hyperdpo evaluate RUN --save, then compare."
    return sentence + "Only fronts on the same terms can be compared."


def unmeasured(run: str) -> str:
    """A run without any front."""
    return f"{run} is left out, because it has not been measured: hyperdpo evaluate RUN --save."


def verdict(difference: Interval) -> str:
    """What a paired difference in hypervolume allows to be said."""
    if not math.isfinite(difference.low):
        return "cannot be told"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else SAME


def relative(difference: Interval, origin: float) -> str:
    """`+2.1 % (0.8 to 3.4)` of `origin`."""
    if not (math.isfinite(difference.low) and origin > 0):
        return "–"
    mean, low, high = (signed(100 * v / origin) for v in (difference.mean, difference.low, difference.high))
    return f"{mean} % ({low} to {high})"


def versus_sentence(first: Entrant, other: Entrant, difference: Interval | None) -> str:
    """The comparison's answer in one sentence: whose front covers more, by how much, at what cost."""
    a, b = first.front, other.front
    if difference is None or not math.isfinite(difference.low):
        return f"{a.name} and {b.name} cannot be told apart: no per-query figures are stored for both."
    by = 100 * abs(difference.mean) / other.hypervolume if other.hypervolume > 0 else math.nan
    found = verdict(difference)
    if found == SAME:
        said = f"There is no measurable difference between the trade-offs of {a.name} and of {b.name}"
    else:
        more = "more" if found == "better" else "less"
        size = f"{by:.1f} % " if by < 300 else f"{by / 100 + 1:.0f} times " if found == "better" else ""
        said = f"{a.name} covers {size}{more} of the trade-off space than {b.name}"
    interval = f" (95 %: {_percents(difference, other.hypervolume)})" if math.isfinite(by) and by < 300 else ""
    return f"{said}{interval}{_cost_words(a, b)}."


def _percents(difference: Interval, origin: float) -> str:
    return f"{signed(100 * difference.low / origin)} to {signed(100 * difference.high / origin)} %"


def _cost_words(a: ParetoFront, b: ParetoFront) -> str:
    if not (a.models and b.models and a.seconds > 0 and b.seconds > 0):
        return ""
    models = f"{a.models} model{'s' if a.models != 1 else ''} against {b.models}"
    times = a.seconds / b.seconds
    share = f"{100 * times:.0f} % of the training time" if times < 1 else f"{times:.1f} times the training time"
    return f", with {models} and {share}"


def owner_sentence(found: Stretches, entrants: Sequence[Entrant], x: str, y: str) -> str:
    """Which method owns how much of the joint front in the plane of two objectives, and how sure that is."""
    shares = [(found.share(i), found.share(i, only_sure=True), e.front.name) for i, e in enumerate(entrants)]
    real = sorted((s for s in shares if s[0] > 0), key=lambda s: (-s[0], s[2]))
    if not real:
        best = entrants[int(found.owner[0])].front.name
        return f"One point of {best} is the best in both {x} and {y}."
    if len(real) == 1 and len(entrants) > 1:
        said = f"{real[0][2]} gives the most {y} at every level of {x}"
    else:
        parts = [f"{name} leads on {100 * share:.0f} %" for share, _, name in real]
        said = f"Along the joint front from most {y} to most {x}, {listed(parts)} of the way"
    known = not bool(np.isnan(found.sure).any())
    if len(entrants) < 2 or not known:
        return said + "."
    certain = sum(s[1] for s in real)
    if certain < 0.005:
        return f"{said}; but nowhere is the lead measurable on these lists."
    if certain > 0.995:
        return f"{said}, measurably so all along."
    return f"{said}; the lead is measurable on {100 * certain:.0f} % of it (hatched: too close to call)."


def contribution_sentence(entrants: Sequence[Entrant], found: Sequence[Contribution], m: int) -> str:
    """What each method adds to the joint front over all m objectives."""
    if len(entrants) < 2:
        return ""
    held = [f"{c.points} of {e.front.name}'s {c.of}" for e, c in zip(entrants, found, strict=True)]
    lost = [f"{100 * c.exclusive:.1f} % without {e.front.name}" for e, c in zip(entrants, found, strict=True)]
    every = "both objectives" if m == 2 else f"all {m} objectives"
    return (
        f"Over {every} together, {listed(held)} points are beaten by no other. "
        f"The joint hypervolume would shrink by {listed(lost)}."
    )


def cost_sentence(entrants: Sequence[Entrant]) -> str:
    """Who reaches what for how long a training: the cheapest and the best."""
    trained = [e for e in entrants if e.trained and e.front.seconds > 0 and math.isfinite(e.hypervolume)]
    if len(trained) < 2:
        return "Higher and further left is better: more of the trade-off space for less training."
    cheap, best = min(trained, key=lambda e: e.front.seconds), max(trained, key=lambda e: e.hypervolume)
    if cheap is best:
        return f"{capital(best.front.name)} is both the cheapest to train and the one that reaches most."
    reached = 100 * cheap.hypervolume / best.hypervolume if best.hypervolume > 0 else math.nan
    times = best.front.seconds / cheap.front.seconds
    return (
        f"{capital(cheap.front.name)} reaches {reached:.0f} % of {best.front.name}'s hypervolume; "
        f"{best.front.name} trains {times:.1f} times as long."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Temperature

C_MEANS = (
    "c says how far the finished model may go from the ranking it started from. Bolder (small c): it follows the "
    "objectives and gives up more of the base. Closer to the base (large c): it changes little. Nothing is trained "
    "again: the difference from the base is divided by c."
)
OWN_MEANS = (
    "As multiples of the temperature each objective was trained at. A small one lets its objective pull the ranking "
    "far from the base, a large one holds it back. The dashed front is what the model then gives, without training."
)


def temperature_sentence(now: ParetoFront, trained: ParetoFront, base: ParetoFront, change: Interval | None) -> str:
    """What this c means beside c = 1: how much of the trade-off space, and what of the main objective is kept."""
    kept = f"keeps {100 * now.main_mean / base.main_mean:.0f} % of the base's {now.main}" if base.main_mean > 0 else ""
    if now.scale == trained.scale:
        return f"At c = {now.scale:g}, as trained, the model {kept} on average over the front."
    where = "bolder than trained" if now.scale < trained.scale else "closer to the base than trained"
    said = f"At c = {now.scale:g}, {where}, the model {kept} on average over the front"
    return f"{said} ({_main_change(change, trained.main_mean)} from c = 1){_volume_change(now, trained, 'as trained')}."


def own_sentence(
    own: ParetoFront, now: ParetoFront, objectives: Sequence[str], factors: Sequence[float], change: Interval | None
) -> str:
    """What each objective's own temperature does, beside one temperature at the same c."""
    held = [f"{n} {v:g}" for n, v in zip(objectives, factors, strict=True) if v != 1]
    main = _main_change(change, now.main_mean)
    return (
        f"With own temperatures ({listed(held)}), {now.main} against one temperature at the same c: {main}"
        f"{_volume_change(own, now, 'there')}."
    )


def _main_change(change: Interval | None, origin: float) -> str:
    if change is None or not (math.isfinite(change.low) and origin > 0):
        return "change unknown"
    mean, low, high = (signed(100 * v / origin) for v in (change.mean, change.low, change.high))
    if change.low <= 0 <= change.high:
        return f"{SAME}; 95 %: {low} to {high} %"
    return f"{mean} %, within {low} to {high} %"


def _volume_change(now: ParetoFront, then: ParetoFront, where: str) -> str:
    if np.isnan(now.auxiliary).any() or np.isnan(then.auxiliary).any() or then.hypervolume <= 0:
        return ""
    by = 100 * (now.hypervolume / then.hypervolume - 1)
    if abs(by) < 0.05:
        return f", and its front covers as much of the trade-off space as {where}"
    return f", and its front covers {abs(by):.1f} % {'more' if by > 0 else 'less'} of the trade-off space than {where}"
