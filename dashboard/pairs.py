"""The two choices that the page compares: A, or else the base, with B, or else where the sliders stand. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.state import Choice


@dataclass(frozen=True)
class Pair:
    """What is compared with what.

    Attributes:
        before: None is the base. after: what is compared with it.
        then, now: what people call them.
    """

    before: Choice | None
    after: Choice
    then: str
    now: str

    @property
    def title(self) -> str:
        """`B against A`, as a column is headed."""
        return f"{self.now} against {self.then}"

    @property
    def short(self) -> str:
        """`vs A` or `B vs A`, where there is little room."""
        return f"vs {self.then}" if self.now == "now" else f"{self.now} vs {self.then}"


def pair(choice: Choice, a: Choice | None, b: Choice | None) -> Pair:
    """What is compared when the sliders stand at `choice` and A and B are pinned, or not; B counts only beside A."""
    if a is None:
        return Pair(None, choice, "the base", "now")
    return Pair(a, choice, "A", "now") if b is None else Pair(a, b, "A", "B")
