"""Pure: the comparison's table as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dashboard import words
from dashboard.blocks import row, seconds, swatch, table
from dashboard.readings import Entrant, Judged


def comparison_table(entrants: Sequence[Entrant], judged: Mapping[str, Judged], against: Entrant | None) -> str:
    """What every front reaches and costs, and whether it is better than the one compared with."""
    if not entrants:
        return ""
    first = entrants[0].front
    versus = f"better than {against.front.name}?" if against else "better?"
    head = ["front", "hypervolume", "95 % interval", versus, "", f"{first.main}, NDCG@{first.k}: mean ± spread",
            "sparsity", "training", "parameters", "models"]  # fmt: skip
    rows = []
    for entrant in entrants:
        name = f'<th scope="row">{swatch(entrant.front.method, entrant.nth)}{escape(entrant.front.name)}</th>'
        cells = [escape(c) for c in _cells(entrant, judged.get(entrant.key), against)]
        cells[2:4] = _verdict(entrant, judged.get(entrant.key), against)
        rows.append(row(name, cells, data=f' data-front="{escape(entrant.key)}"', escaped=True))
    return f'<div class="hx-compared">{table(head, rows, "What each front reaches and costs", left=(0, 3))}</div>'


def _cells(entrant: Entrant, judged: Judged | None, against: Entrant | None) -> list[str]:
    front = entrant.front
    span = judged.hypervolume if judged else None
    spread = "" if len(front.ndcg) == 1 else f" ± {words.number(front.main_std)}"
    no_sparsity = len(front.ndcg) == 1 or bool(np.isnan(front.auxiliary).any())
    return [
        words.volume(entrant.hypervolume),
        f"{words.volume(span.low)} to {words.volume(span.high)}" if span else "–",
        "",
        "",
        words.number(front.main_mean) + spread,
        "–" if no_sparsity else f"{front.sparsity:.2g}",
        seconds(front.seconds) if front.seconds else "",
        f"{front.parameters:,}" if front.parameters else "",
        f"{front.models:,}" if front.models else "",
    ]


def _verdict(entrant: Entrant, judged: Judged | None, against: Entrant | None) -> list[str]:
    """Two cells: the difference with its interval, and what may be concluded."""
    if against is None or entrant is against:
        return ["", '<span class="hx-quiet">the yardstick</span>' if against else ""]
    if judged is None or judged.against is None:
        return ["–", "cannot be told"]
    found = words.verdict(judged.against)
    mark = {"better": "up", "worse": "down"}.get(found, "quiet")
    sign = {"better": "▲ ", "worse": "▼ "}.get(found, "")
    said = f'<span class="hx-{mark}"><span aria-hidden="true">{sign}</span>{escape(found)}</span>'
    return [escape(words.relative(judged.against, against.hypervolume)), said]
