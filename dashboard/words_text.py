"""Texts and cross-entropies as people read them. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from dashboard.readings import TextReading
from dashboard.words import SAME, listed, number, signed

EXTRAPOLATION = "Below c = 1 is extrapolation: the model was not trained for it."
ENDED = {"stop": "", "length": "cut at the length set", "context": "the model's context is full"}
UNMEASURED = "The cross-entropy of this choice could not be measured; the terminal says more."
C_ONLY = (
    "Only c = 1 can be exported: at any other c two models speak at every token. Set c back to 1, or train at c times "
    "beta."
)


def visible(text: str) -> str:
    """Text to be shown as it is: control and direction characters are replaced by signs that can be seen."""
    return "".join(map(_seen, text.replace("\r\n", "\n")))


def _seen(sign: str) -> str:
    if sign in "\n\t":
        return sign
    code = ord(sign)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if sign == "\u200d" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return sign  # a joiner holds composed signs together
    return f"\u27e8U+{code:04X}\u27e9"


def measure(value: float, unit: str = "") -> str:
    """A score of one text; a unit that begins with a minus counts what there is less of."""
    if not math.isfinite(value):
        return "–"
    if unit.startswith("-") and not unit[1:2].isdigit():
        return f"{abs(value):.1f} {unit[1:]}"
    return signed(value, 2).lstrip("+") if abs(value) < 10 else signed(value, 1).lstrip("+")


def change_words(reading: TextReading, j: int) -> tuple[str, str, str]:
    """Objective j beside chance: in words, the change with its interval, and `up`, `down` or `same`."""
    change = reading.change[j]
    if not math.isfinite(change.mean):
        return "–", "no list says anything about it yet", "same"
    spread = f"change {signed(change.mean, 3)} nats, 95 %: {signed(change.low, 3)} to {signed(change.high, 3)}"
    if change.high < 0:
        return f"{-change.mean:.3f} better", spread, "up"
    if change.low > 0:
        return f"{change.mean:.3f} worse", spread, "down"
    return SAME, spread, "same"


def progress(reading: TextReading | None, total: int) -> str:
    """How many lists stand behind the figures."""
    if reading is None:
        return f"Measuring the first of {total:,} test lists ..."
    if reading.lists < reading.total:
        return (
            f"On {reading.lists:,} of {reading.total:,} test lists so far; the interval narrows as more are measured."
        )
    return f"On all {reading.total:,} test lists. Interval: bootstrap over lists, paired with the base."


def entropy_sentence(reading: TextReading, names: Sequence[str]) -> str:
    """What the figures mean: which preferences the model now follows."""
    better = [n for n, c in zip(names, reading.change, strict=True) if c.high < 0]
    worse = [n for n, c in zip(names, reading.change, strict=True) if c.low > 0]
    if not better and not worse:
        return "With these sliders the model follows no objective measurably better or worse than chance."
    said = []
    if better:
        said.append(f"follows {listed(better)} better than chance")
    if worse:
        said.append(f"goes against {listed(worse)}")
    return f"With these sliders the model {' and '.join(said)}."


def chance_words(chance: float) -> str:
    """What the chance point is."""
    return f"Chance, and so the untouched base, is {number(chance, 3)} nats."
