"""A click on the chart, and the sliders' position whose figures lie nearest to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard import preview
from dashboard.state import Choice

if TYPE_CHECKING:
    from dashboard.store import LiveRun


@dataclass(frozen=True)
class Target:
    """Where someone clicked, in the units of the axes, and the choice that was found nearest to it."""

    x: str
    y: str
    k: int
    at: tuple[float, float]
    choice: Choice

    def holds(self, x: str, y: str, k: int, choice: Choice) -> bool:
        """Whether the page still shows what was found: another axis, cut-off or choice ends it."""
        return (x, y, k, choice) == (self.x, self.y, self.k, self.choice)


def read_aim(message: Any, x: str, y: str) -> tuple[float, float] | None:
    """The values that the chart's click says; None for a foreign message or one about other axes."""
    if not isinstance(message, Mapping) or message.get("axes") != [x, y]:
        return None
    values = (message.get("x"), message.get("y"))
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return None
    return float(values[0]), float(values[1])  # type: ignore[arg-type]


def nearest_mix(live: LiveRun, sketch: preview.Sketch, wanted: Mapping[str, float], now: Choice, k: int) -> Choice:
    """The choice at the sliders' own c whose figures lie nearest to `wanted`, two objectives' NDCG@k by name.

    It is the nearest in the picture, by the test lists that the picture shows: a click points at it, and c must not
    move the curves away from under the mouse. `finding.nearest_to` chooses by the validation lists, over every c.

    Candidates come from the sketch over all mixes; the best of them are measured, and the measured one that lies
    nearest is taken, the sliders' own among them. Distances are shares of each axis' range.
    """
    names = live.saved.names
    columns = tuple(names.index(name) for name in wanted)
    assert len(columns) == 2
    target, ranges = (float(v) for v in wanted.values()), live.ranges(k)
    aim = next(target), next(target)
    mixes = preview.candidates(sketch, columns, aim, ranges, now.weights, now.scale)
    choices = [now, *(Choice(percent, now.scale) for percent in mixes)]
    found = np.stack([live.reading(choice, k).ndcg[list(columns)] for choice in choices])
    cost = preview.off_by(found, aim, columns, ranges)
    cost += preview.moved(np.array([c.weights for c in choices]), now.weights)
    return choices[int(np.nanargmin(cost))]


def aimed_words(target: Target, found: tuple[float, float]) -> str:
    """What was asked for, how near the sliders come, and which lists chose."""
    parts = [
        f"{name} {there:.3f} for the {asked:.3f} asked"
        for name, there, asked in zip((target.x, target.y), found, target.at, strict=True)
    ]
    return (
        f"The ring is where you clicked. The sliders stand at the nearest mix at c = {target.choice.scale:g}: "
        f"{' and '.join(parts)}. Chosen by these test lists themselves, as the chart shows them; “Go to the nearest” "
        "in Find it for me chooses by the validation lists, over every c."
    )
