"""The first visit's short tour of Explore, in words. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One step of the tour.

    Attributes:
        head: what it is about. text: one or two short sentences.
        at: the part of the page that is marked meanwhile; `style.css` knows it by this name.
    """

    head: str
    text: str
    at: str


STEPS = (
    Step(
        "What you see",
        "Each line is what one method can reach, each marker on it one trade-off; further up and to the right is "
        "better. The large point is where the sliders stand. The figures above compare it with the base model.",
        "chart",
    ),
    Step(
        "Move the sliders",
        "“What matters” shares 100 % of attention among the objectives: more for one is less for the others. c moves "
        "the whole model, left bolder, right closer to the base. On a phone they are behind “Sliders”, top left.",
        "sliders",
    ),
    Step(
        "Find it for me",
        "Say what you want most of and what must be kept, such as 99 % of the base's relevance: the sliders go there, "
        "and the page says how sure that is. A click on the chart goes to the nearest mix.",
        "find",
    ),
    Step(
        "Pin and compare",
        "“pin as A” under the sliders remembers this choice; move on, and every figure says how it differs from A. "
        "Pin B too and the two are compared, down to the lists that change most for users.",
        "sliders",
    ),
    Step(
        "Take it away",
        "Download has the points, the chart, a one-page report and the model itself. The address in the browser says "
        "everything you see: whoever opens it sees the same.",
        "away",
    ),
)
