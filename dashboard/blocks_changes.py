"""Pure: the pieces of "What changes for users?" as HTML; every text from data escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from dashboard.blocks import row, table
from dashboard.charts_changes import move
from dashboard.pairs import Pair
from dashboard.readings import ChangedList, Reading
from dashboard.words import Change, number, signed

if TYPE_CHECKING:
    from hyperdpo.rank.changes import Changes
    from hyperdpo.rank.reasons import Reasons


def lists_table(
    found: Changes, numbers: Sequence[int], queries: Sequence[str], here: int | None, pair: Pair, main: str
) -> str:
    """The lists that change most; each one's name is a button that picks it, and `here` is the one picked."""
    if not numbers:
        return ""
    head = ["list", "change", f"new in top {found.k}", f"{main}, {pair.then}", pair.now, "difference"]
    labels = [*head[:3], f"{main}, {pair.then}", f"{main}, {pair.now}", "difference"]
    rows = []
    for i in numbers:
        gain = float(found.gain[i])
        cells = [
            number(float(found.distance[i])),
            str(int(found.entered[i])),
            number(_known(found.before[i, 0])),
            number(_known(found.after[i, 0])),
            _gain(gain),
        ]
        pressed = "true" if i == here else "false"
        pick = f'<button type="button" class="hx-pick" data-list="{i}" aria-pressed="{pressed}">{escape(queries[i])}'
        mark = ' aria-current="true"' if i == here else ""
        rows.append(row(f'<th scope="row">{pick}</button></th>', cells, labels, data=mark, escaped=True))
    return f'<div class="hx-changed">{table(head, rows, "The lists that change most", left=(0,))}</div>'


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _gain(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    sign = "▲" if value > 5e-4 else "▼" if value < -5e-4 else ""
    arrow = f'<span class="hx-arrow" aria-hidden="true">{sign}</span>' if sign else ""
    return f"{arrow}{signed(value, 3)}"


def items_table(
    changed: ChangedList, names: Sequence[str], pair: Pair, why: Mapping[int, tuple[Reasons, Reasons | None]]
) -> str:
    """Every item shown, in the order after: its labels by objective, and what its change of score rests on.

    `why`: by item, of the change and of the base's score (None where it is not made of trees).
    """
    if not changed.right:
        return ""
    head = ["item", pair.now, f"from ({pair.then})", *names, "change of score"]
    head += ["the base's score"] if any(b for _, b in why.values()) else []
    inside = {item.index for item in changed.right}
    gone = [item for item in changed.left if item.index not in inside]
    rows = []
    for item in (*changed.right, *sorted(gone, key=lambda i: i.after)):
        change, base = why[item.index]
        cells = [str(item.after), move(item), *(_label(v) for v in item.labels), _reasons(change)]
        cells += [_reasons(base)] if base is not None else []
        rows.append(row(f'<th scope="row">{escape(item.title)}</th>', cells, head, escaped=True))
    return f'<div class="hx-items">{table(head, rows, "Its items, their labels, and what moved them", left=(0,))}</div>'


def _label(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _reasons(found: Reasons) -> str:
    """A figure that opens into the features it rests on."""
    parts = [f"<li><b>{escape(signed(v, 3))}</b> {escape(name)}</li>" for name, v in found.parts]
    if found.others and abs(found.rest) >= 5e-4:
        parts.append(f"<li><b>{escape(signed(found.rest, 3))}</b> {found.others:,} other features together</li>")
    if not parts:
        return escape(signed(found.total, 3))
    first = f' <span class="hx-quiet">{escape(found.parts[0][0])}</span>' if found.parts else ""
    return (
        f'<details class="hx-why"><summary>{escape(signed(found.total, 3))}{first}</summary>'
        f"<ul>{''.join(parts)}</ul></details>"
    )


def pins_table(
    readings: Sequence[Reading], names: Sequence[str], change: Sequence[Change] | None, run: str, note: str
) -> str:
    """NDCG at A and at B, and B against A in percent with its 95 % interval; A alone beside the base."""
    k = readings[0].k
    head = ["objective", f"A, NDCG@{k}", *([f"B, NDCG@{k}"] if len(readings) > 1 else ["base"])]
    head += ["B against A", "95 % interval", "verdict"] if change is not None else []
    rows = []
    for place in (*range(1, len(names)), 0):
        base = readings[0].base
        values = [float(r.ndcg[place]) for r in readings]
        values += [float("nan") if base is None else float(base[place])] if len(readings) < 2 else []
        cells = [number(_known(v)) for v in values]
        if change is not None:
            told = change[place]
            cells += [told.words, told.interval or "–", told.verdict]
        rows.append(row(f'<th scope="row">{escape(names[place])}</th>', cells, head))
    where = " and ".join(f"{letter} = {_choice(r, names[1:])}" for letter, r in zip("AB", readings, strict=False))
    said = f'<p class="hx-small">{escape(where)}. {escape(note)}</p>'
    return table(head, rows, f"Pinned on {run}", left=(0,)) + said


def _choice(reading: Reading, objectives: Sequence[str]) -> str:
    shares = [f"{n} {100 * w:.0f} %" for n, w in zip(objectives, reading.choice.weights, strict=True) if w >= 0.005]
    return f"{', '.join(shares)}, c = {reading.choice.scale:g}"


def list_head(changed: ChangedList) -> str:
    """The name of the list that is shown."""
    return f'<h3 class="hx-listname">{escape(changed.query)}</h3>'
