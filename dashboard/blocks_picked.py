"""Pure: the table of the points that a selection holds, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dashboard import words
from dashboard.blocks import row, swatch, table
from dashboard.picking import WEIGHT, chosen
from dashboard.readings import Entrant
from dashboard.state import Range

MOST_ROWS = 40


def range_words(item: Range) -> str:
    """A range as people read it: attention in percent, a figure as it is."""
    if item.name.startswith(WEIGHT):
        name = item.name.removeprefix(WEIGHT)
        return f"attention on {name} {100 * item.low:.0f} to {100 * item.high:.0f} %"
    return f"{item.name} {item.low:.3f} to {item.high:.3f}"


def picked_table(entrants: Sequence[Entrant], names: Sequence[str], ranges: Sequence[Range]) -> str:
    """Every selected point with its mix and figures; the sentence above says how many of how many."""
    rows: list[str] = []
    total, count = 0, 0
    head = ["front", "mix", *names]
    for entrant in entrants:
        front, keep = entrant.front, chosen(entrant.front, names, ranges)
        total, count = total + len(keep), count + int(keep.sum())
        for point in keep.nonzero()[0][: max(0, MOST_ROWS - len(rows))]:
            mix = ""
            if front.weights.shape[1]:
                pairs = zip(front.objectives, front.weights[point], strict=True)
                mix = ", ".join(f"{n} {100 * w:.0f} %" for n, w in pairs if w >= 0.005)
            first = f'<th scope="row">{swatch(front.method, entrant.nth)}{escape(front.name)}</th>'
            figures = [words.number(float(v)) for v in front.ndcg[point]]
            rows.append(row(first, [mix or "–", *figures], head, data=f' data-picked="{escape(entrant.key)}"'))
    said = f"Selected: {count} of {total} points, with {words.listed([range_words(item) for item in ranges])}."
    if count > len(rows):
        said += f" The first {len(rows)} are listed; the download holds all."
    out = f'<p class="hx-small" role="status">{escape(said)}</p>'
    listed = table(head, rows, "The selected points", left=(0, 1)) if rows else ""
    return f'{out}<div class="hx-picked">{listed}</div>'
