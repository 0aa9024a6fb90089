"""Pure: a list before and after with its rank moves drawn, as HTML with an SVG between. Colours: charts.py's.

A move is told by its slope, its dash and its width as well as by colour; the arrow with the old place stands beside
the item, so that nothing rests on the drawing alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dashboard.charts import LOOKS, NEUTRAL
from dashboard.readings import MovedItem

UP, DOWN = LOOKS["hyperdpo"].colour, LOOKS["dpo-ls"].colour
FAR = 3  # places from which a move is drawn heavier


def slopes(left: Sequence[MovedItem], right: Sequence[MovedItem], then: str, now: str) -> str:
    """The first items of a list before (`left`) and after (`right`), best first, joined by their moves."""
    if not right:
        return ""
    rows = max(len(left), len(right))
    inside = {item.index for item in left}
    lines = [_line(item, rows) for item in left] + [_line(item, rows) for item in right if item.index not in inside]
    drawing = (
        f'<svg viewBox="0 0 100 {rows}" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(lines)}</svg>"
    )
    return (
        f'<div class="hx-slopes" style="--rows:{rows}">'
        f'<p class="hx-small hx-slopehead">{escape(then)}</p><i></i><p class="hx-small hx-slopehead">{escape(now)}</p>'
        f'<ol class="hx-side hx-then">{"".join(_before(item) for item in left)}</ol>{drawing}'
        f'<ol class="hx-side">{"".join(_after(item) for item in right)}</ol></div>'
    )


def _line(item: MovedItem, rows: int) -> str:
    """One move, from the middle of one row to the middle of another; what comes from below comes from the edge."""
    start, end = (min(place - 0.5, rows) for place in (item.before, item.after))
    by = item.before - item.after
    colour, dash = (NEUTRAL, "") if not by else (UP, "") if by > 0 else (DOWN, ' stroke-dasharray="5 3"')
    width = 1 if not by else 2.2 if abs(by) >= FAR else 1.4
    return (
        f'<line x1="0" y1="{start:g}" x2="100" y2="{end:g}" stroke="{colour}" stroke-width="{width:g}"{dash} '
        f'vector-effect="non-scaling-stroke" data-item="{item.index}"/>'
    )


def _before(item: MovedItem) -> str:
    return f'<li><span class="hx-rank">{item.before}</span>{_title(item)}</li>'


def _after(item: MovedItem) -> str:
    return f'<li><span class="hx-rank">{item.after}</span>{_title(item)}{move(item)}</li>'


def _title(item: MovedItem) -> str:
    price = f'<span class="hx-quiet"> {escape(item.price)}</span>' if item.price else ""
    return (
        f'<span class="hx-title" title="{escape(item.title)} {escape(item.price)}">{escape(item.title)}{price}</span>'
    )


def move(item: MovedItem) -> str:
    """Where an item comes from, as an arrow with its old place."""
    by = item.before - item.after
    if not by:
        return '<span class="hx-move hx-quiet"><span aria-hidden="true">=</span><span class="hx-sr">same</span></span>'
    word, sign, colour = ("up", "▲", UP) if by > 0 else ("down", "▼", DOWN)
    return (
        f'<span class="hx-move"><i aria-hidden="true" style="color:{colour}">{sign}</i>'
        f'<span class="hx-sr">{word} from </span>{item.before}</span>'
    )
