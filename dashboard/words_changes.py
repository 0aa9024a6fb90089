"""What changes for users, in words. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from dashboard.pairs import Pair
from dashboard.words import capital, signed

if TYPE_CHECKING:
    from hyperdpo.rank.changes import Changes

MEASURE = (
    "Change is 0 where the order is the same and nears 1 the less the tops of the two lists share (1 − rank-biased "
    "overlap); the first ten places carry 86 % of it."
)
SENSITIVITY = (
    "A sensitivity (integrated gradients): how the change of an item's score builds up, feature by feature, on the way "
    "from the average item of this list to it. Plus pushes the item up. It tells what the model's change rests on "
    "here; it does not tell what would happen if that feature were changed in the world, nor why the labels are as "
    "they are."
)
BASE = (
    "The base's score is told by its own trees (LightGBM's contributions), beside the average item of the list in the "
    "same way: why the base had the item where it was."
)


def summary(found: Changes, pair: Pair, main: str) -> str:
    """How many lists change between two choices, and which way the main score goes."""
    counts = found.counts()
    between = f"Between {pair.then} and {pair.now}"
    if not counts["changed"]:
        return f"{between} nothing changes: both rank all {counts['lists']:,} test lists alike."
    level = counts["lists"] - counts["gained"] - counts["lost"] - counts["unknown"]
    told = f"for {counts['gained']:,} {main} rises, for {counts['lost']:,} it falls, for {level:,} it stays"
    rest = f", {counts['unknown']:,} have no positive label for it" if counts["unknown"] else ""
    return f"{between}, {counts['changed']:,} of {counts['lists']:,} test lists change: {told}{rest}."


def told_apart(queries: list[str]) -> list[str]:
    """The lists' names; those that several lists have carry the list's number too."""
    often = Counter(queries)
    return [f"{q} (list {i})" if often[q] > 1 else q for i, q in enumerate(queries)]


def none_here(only: str, main: str) -> str:
    """Why the table is empty though lists change."""
    return f"{capital(main)} {'rises' if only == 'gained' else 'falls'} for none of the lists that change."


def shown(size: int, drawn: int) -> str:
    """How much of a list is shown."""
    if size == 1:
        return "This list has one item; there is nothing to order."
    return f"Shown are the first {drawn:,} of {size:,} items." if size > drawn else f"All {size:,} items are shown."


def by_objective(names: tuple[str, ...], before: np.ndarray, after: np.ndarray, k: int) -> str:
    """What the change does to this list's NDCG, main first."""
    parts = []
    for name, a, b in zip(names, before, after, strict=True):
        parts.append(f"{name} {a:.3f} → {b:.3f} ({signed(b - a, 3)})" if np.isfinite(a + b) else f"{name} no label")
    return f"NDCG@{k} of this list: {', '.join(parts)}."
