"""Plain text tables for people: names to the left, figures to the right, ASCII only."""

from __future__ import annotations

import math
from collections.abc import Sequence

GAP = "  "


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """Aligned columns under their headers; the first `left` columns to the left, the others to the right."""
    texts = [[show(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *texts]) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return GAP.join(padded).rstrip()

    return "\n".join([line(headers), GAP.join("-" * w for w in widths), *map(line, texts)])


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """One `name  value` a line, values aligned; further lines of a value are indented below its first."""
    width = max(len(name) for name, _ in pairs)
    indent = "\n" + " " * (width + len(GAP))
    return "\n".join(f"{name.ljust(width)}{GAP}{show(value).replace(chr(10), indent)}" for name, value in pairs)


def show(value: object) -> str:
    """A figure with four digits after the point, a count with its thousands set off, anything else as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else "-"
    return str(value)
