"""What was found, in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboard.words import SAME, Change, capital, listed, signed

if TYPE_CHECKING:
    from hyperdpo.finding import Limit
    from hyperdpo.rank.find import Found, Verdict

EVERY = "all objectives together"
LOW = 0.5  # a probability below which the page advises


def attention(names: Sequence[str], percent: Sequence[int]) -> str:
    """`40 % clicks and 60 % quality`, the most first."""
    ordered = sorted(zip(percent, names, strict=True), key=lambda pair: -pair[0])
    return listed([f"{p} % {name}" for p, name in ordered if p]) or "no attention"


def goal_words(goal: str) -> str:
    """A goal as a sentence names it."""
    from hyperdpo.finding import ALL

    return EVERY if goal == ALL else goal


def answer(found: Found, names: Sequence[str], base: Sequence[float], percent: Sequence[int]) -> str:
    """The choice and what it gives of the goal, in one sentence; `base` (1 + m,) are the base's test values."""
    at = f"attention of {attention(names[1:], percent)}, at c = {found.answer.spot.scale:g}"
    if found.fits:
        gives = _goal(found, names, base)
        return f"{capital(at)}, gives {gives}."
    return (
        f"No position of the sliders keeps every limit on the validation lists. Nearest comes {at}, which misses "
        f"{listed([_miss(v) for v in found.verdicts if not v.held])}."
    )


def _goal(found: Found, names: Sequence[str], base: Sequence[float]) -> str:
    goal = found.question.goal
    if goal not in names:
        values = [100 * c.mean / b for c, b in zip(found.answer.change[1:], base[1:], strict=True) if b > 0]
        return f"{signed(sum(values) / len(values))} % on average over {EVERY}" if values else f"most of {EVERY}"
    i = list(names).index(goal)
    change, origin = found.answer.change[i], float(base[i])
    if not (origin > 0 and math.isfinite(change.low)):
        return f"{goal} {found.answer.told.ndcg[i]:.3f}"
    low, high = signed(100 * change.low / origin), signed(100 * change.high / origin)
    return f"{signed(100 * change.mean / origin)} % {goal} (95 %: {low} to {high} %)"


def _miss(verdict: Verdict) -> str:
    return f"{verdict.limit.name} ({_value(verdict.chosen, verdict.limit)} where {_asked(verdict.limit)} is asked)"


def _value(value: float, limit: Limit) -> str:
    return f"{100 * value:.1f} %" if limit.relative else f"{value:.3f}"


def _asked(limit: Limit) -> str:
    return f"{100 * limit.value:g} %" if limit.relative else f"{limit.value:g}"


def limit_sentence(verdict: Verdict) -> str:
    """What becomes of one limit on the test lists, and how probable it is to hold."""
    limit = verdict.limit
    unit = " of the base" if limit.relative else ""
    if not math.isfinite(verdict.probability):
        return f"{capital(limit.name)}: no test list has a label for it."
    between = f"{_value(verdict.low, limit)} to {_value(verdict.high, limit)}"
    return (
        f"{capital(limit.name)} keeps {_value(verdict.told, limit)}{unit} (95 %: {between}); at least "
        f"{_asked(limit)} holds with probability {probability(verdict.probability)}."
    )


def probability(value: float) -> str:
    """`0.97`; the ends as what a thousand samples can say."""
    if value > 0.995:
        return "above 0.99"
    return "below 0.01" if value < 0.005 else f"{value:.2f}"


def price(verdict: Verdict, goal: str) -> str:
    """What the limit costs: what one percent less would give of the goal. Empty where nothing fits."""
    gain, relaxed = verdict.gain_told, verdict.relaxed
    if gain is None or relaxed is None:
        return ""
    asked = f"One percent less of {verdict.limit.name} ({_asked(relaxed)})"
    if not math.isfinite(gain.low) or gain.low <= 0 <= gain.high:
        return f"{asked} would give no measurable difference in {goal_words(goal)}."
    low, high = signed(100 * gain.low), signed(100 * gain.high)
    return f"{asked} would give {signed(100 * gain.mean)} % {goal_words(goal)} (95 %: {low} to {high} %)."


def advice(found: Found) -> str:
    """Where a limit held on validation and does not on test: what that means, and what to do. Else empty."""
    lost = [v.limit.name for v in found.verdicts if v.held and v.probability < LOW]
    if not lost:
        return ""
    them = "it" if len(lost) == 1 else "them"
    margin = "Leave a margin, or ask" if found.question.sure <= LOW else "Ask"
    return (
        f"{capital(listed(lost))} held on the validation lists, but the test lists speak against {them}: the two "
        f"differ by more than the search could know. {margin} for more of {them}."
    )


def provenance(found: Found) -> str:
    """Which lists chose and which tell."""
    chosen, told = (len(p.per_query) for p in (found.answer.chosen, found.answer.told))
    return (
        f"Chosen on the {chosen:,} validation lists; figures, intervals and probabilities are of the {told:,} test "
        "lists, which the search has not seen."
    )


def apart(changes: Sequence[Change], names: Sequence[str], lists: int) -> str:
    """Whether the live point can be told from A, by the changes from A of every objective, main first."""
    order = [*range(1, len(names)), 0]
    differ = [names[p] for p in order if changes[p].measurable]
    same = [names[p] for p in order if not changes[p].measurable]
    if not differ:
        return f"A and this choice cannot be told apart on these {lists:,} lists: {SAME} in any objective."
    if not same:
        return f"A and this choice differ measurably in every objective on these {lists:,} lists."
    return f"A and this choice differ measurably in {listed(differ)}; in {listed(same)} they cannot be told apart."


def nearest_words(target: dict[str, float], told: dict[str, float]) -> str:
    """What was asked for and what came of it, both as NDCG on test."""
    asked = listed([f"{name} {value:.3f}" for name, value in target.items()])
    got = listed([f"{name} {value:.3f}" for name, value in told.items()])
    return f"Nearest to {asked}, by the validation lists; on the test lists: {got}."
