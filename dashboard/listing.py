"""Which runs the home page lists, in which order, and how its address says it. No layout here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.state import MAX_TEXT, quoted

ORDERS = ("newest", "name", "hypervolume", "training")
ORDER_WORDS = {
    "newest": "newest first",
    "name": "by name",
    "hypervolume": "highest hypervolume first",
    "training": "shortest training first",
}
KEYS = ("find", "kind", "data", "method", "order")


@dataclass(frozen=True)
class Line:
    """What one run is chosen by. `hypervolume` is NaN where nothing was measured; `training` and `date` in seconds."""

    run: str
    kind: str
    data: str
    method: str
    objectives: tuple[str, ...]
    date: float
    hypervolume: float
    training: float


@dataclass(frozen=True)
class Listing:
    """What the list is narrowed to; empty text is no filter."""

    find: str = ""
    kind: str = ""
    data: str = ""
    method: str = ""
    order: str = "newest"


def read_listing(parameters: Mapping[str, str], lines: Sequence[Line]) -> tuple[Listing, tuple[str, ...]]:
    """What the home page's address asks for, and a sentence for each value that names nothing here (issue 5)."""
    notes: list[str] = []

    def known(key: str, options: Sequence[str], other: str) -> str:
        asked = parameters.get(key, "")
        if not asked or asked in options:
            return asked
        notes.append(f"The link's {key}={quoted(asked)} is none of {', '.join(options) or 'what is here'}; {other}.")
        return ""

    every = "no run is left out for it"
    found = Listing(
        find=parameters.get("find", "")[:MAX_TEXT],
        kind=known("kind", options_of(lines, "kind"), every),
        data=known("data", options_of(lines, "data"), every),
        method=known("method", options_of(lines, "method"), every),
        order=known("order", ORDERS, "the newest come first") or "newest",
    )
    return found, tuple(notes)


def write_listing(listing: Listing) -> dict[str, str]:
    """The address' parameters; the inverse of `read_listing`."""
    said = {key: getattr(listing, key) for key in KEYS}
    return {k: v for k, v in said.items() if v and (k, v) != ("order", "newest")}


def options_of(lines: Sequence[Line], key: str) -> tuple[str, ...]:
    """The values of `kind`, `data` or `method` that the runs have."""
    return tuple(sorted({getattr(line, key) for line in lines} - {""}))


def narrowed(lines: Sequence[Line], listing: Listing) -> list[int]:
    """Positions of the lines that pass, in the order asked for; every word sought must stand somewhere in a line."""
    words = listing.find.casefold().split()
    kept = [i for i, line in enumerate(lines) if _passes(line, listing, words)]
    orders: dict[str, Callable[[int], Any]] = {
        "newest": lambda i: -lines[i].date,
        "name": lambda i: lines[i].run.casefold(),
        "hypervolume": lambda i: -lines[i].hypervolume if math.isfinite(lines[i].hypervolume) else math.inf,
        "training": lambda i: lines[i].training,
    }
    return sorted(kept, key=orders[listing.order])


def _passes(line: Line, listing: Listing, words: Sequence[str]) -> bool:
    if any(getattr(listing, key) not in ("", getattr(line, key)) for key in ("kind", "data", "method")):
        return False
    text = " ".join((line.run, line.kind, line.data, line.method, *line.objectives)).casefold()
    return all(word in text for word in words)
