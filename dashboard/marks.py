"""Two texts side by side with their differences marked, word by word, as HTML. Pure.

What only the first has is struck through, what only the second has is underlined, by `del` and `ins`: not by colour,
and said by screen readers. Every text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from dashboard.blocks_text import plain
from dashboard.words import signed
from dashboard.words_text import measure

PIECE = re.compile(r"\s+|\w+|[^\w\s]")


def marked(before: str, after: str) -> tuple[str, str]:
    """Both texts as HTML; words, spaces and signs are compared as they stand."""
    first, second = PIECE.findall(before), PIECE.findall(after)
    left, right = [], []
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        old, new = plain("".join(first[a:b])), plain("".join(second[c:d]))
        left.append(old if kind == "equal" or not old else f'<del class="hx-gone">{old}</del>')
        right.append(new if kind == "equal" or not new else f'<ins class="hx-new">{new}</ins>')
    return "".join(left), "".join(right)


def difference(
    title: str,
    before: Sequence[float],
    after: Sequence[float],
    names: Sequence[str],
    measures: Sequence[tuple[str, str]],
) -> str:
    """What was measured on the second text against the first, by objective; empty until both are measured."""
    if not before or not after:
        return ""
    parts = []
    for j, name in enumerate(names):
        a, b, unit = before[j], after[j], measures[j][1]
        if a == a and b == b:  # no scorer gives NaN
            parts.append(f"{name} {signed(b - a, 2)} ({measure(a, unit)} → {measure(b, unit)})")
    if not parts:
        return ""
    return f"Measured on these two texts, {title}: {', '.join(parts)}. One text each proves little."
