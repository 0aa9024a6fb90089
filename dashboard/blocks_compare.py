"""Pure: the comparison's table as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dashboard import words
from dashboard.blocks import row, seconds, swatch, table
from dashboard.charts_temperature import OWN
from dashboard.readings import Curve, Entrant, Judged
from hyperdpo.front import ParetoFront


def comparison_table(entrants: Sequence[Entrant], judged: Mapping[str, Judged], against: Entrant | None) -> str:
    """What every front reaches and costs, and whether it is better than the one compared with."""
    if not entrants:
        return ""
    first = entrants[0].front
    versus = f"better than {against.front.name}?" if against else "better?"
    head = ["front", "hypervolume (95 %)", versus, "", f"{first.main}, NDCG@{first.k}: mean ± spread",
            "sparsity", "training", "parameters", "models"]  # fmt: skip
    rows = []
    for entrant in entrants:
        name = f'<th scope="row">{swatch(entrant.front.method, entrant.nth)}{escape(entrant.front.name)}</th>'
        cells = [escape(c) for c in _cells(entrant, judged.get(entrant.key), against)]
        cells[1:3] = _verdict(entrant, judged.get(entrant.key), against)
        cells[0], cells[2] = (_breakable(cells[place]) for place in (0, 2))
        rows.append(row(name, cells, head, data=f' data-front="{escape(entrant.key)}"', escaped=True))
    return f'<div class="hx-compared">{table(head, rows, "What each front reaches and costs", left=(0, 2))}</div>'


def _cells(entrant: Entrant, judged: Judged | None, against: Entrant | None) -> list[str]:
    front = entrant.front
    span = judged.hypervolume if judged else None
    spread = "" if len(front.ndcg) == 1 else f" ± {words.number(front.main_std)}"
    no_sparsity = len(front.ndcg) == 1 or bool(np.isnan(front.auxiliary).any())
    return [
        words.volume(entrant.hypervolume)
        + (f" ({words.volume(span.low, 3)} to {words.volume(span.high, 3)})" if span and np.isfinite(span.low) else ""),
        "",
        "",
        words.number(front.main_mean) + spread,
        "–" if no_sparsity else f"{front.sparsity:.2g}",
        seconds(front.seconds) if front.seconds else "",
        f"{front.parameters:,}" if front.parameters else "",
        f"{front.models:,}" if front.models else "",
    ]


def _breakable(cell: str) -> str:
    """A figure whose interval goes to a second line where the table would be wider than the page."""
    figure, bracket, interval = cell.partition(" (")
    return f'{figure} <span class="hx-nowrap">({interval}</span>' if bracket else cell


def _verdict(entrant: Entrant, judged: Judged | None, against: Entrant | None) -> list[str]:
    """Two cells: what may be concluded, and the difference with its interval."""
    if against is None or entrant is against:
        return ['<span class="hx-quiet">the yardstick</span>' if against else "", ""]
    if judged is None or judged.against is None:
        return ["cannot be told", ""]
    found = words.verdict(judged.against)
    mark = {"better": "up", "worse": "down"}.get(found, "quiet")
    sign = {"better": "▲ ", "worse": "▼ "}.get(found, "")
    said = f'<span class="hx-{mark}"><span aria-hidden="true">{sign}</span>{escape(found)}</span>'
    return [said, escape(words.relative(judged.against, against.hypervolume))]


def temperature_table(fronts: Sequence[ParetoFront], base: ParetoFront, scale: float) -> str:
    """What the model reaches at every c shown: hypervolume, the main objective, and the best of every objective."""
    first = fronts[0]
    head = ["c", "hypervolume", f"{first.main}, NDCG@{first.k}: mean ± spread", "of the base", *first.objectives]
    rows = []
    for front in fronts:
        spread = "" if len(front.ndcg) == 1 else f" ± {words.number(front.main_std)}"
        share = front.main_mean / base.main_mean if base.main_mean > 0 else np.nan
        cells = [
            words.volume(Curve(front).hypervolume),
            words.number(front.main_mean) + spread,
            f"{100 * share:.0f} %" if np.isfinite(share) else "–",
            *(words.number(float(v)) for v in _best(front)),
        ]
        rows.append(row(_c_name(front, base, scale), cells, head, data=f' data-c="{_c_key(front, base)}"'))
    note = '<p class="hx-small">Under each objective: the most that any point of the front gives of it.</p>'
    return f'<div class="hx-tempered">{table(head, rows, "The same model at every temperature", left=(0,))}</div>{note}'


def _best(front: ParetoFront) -> np.ndarray:
    filled = np.where(np.isfinite(front.auxiliary), front.auxiliary, -np.inf).max(0)
    return np.where(np.isfinite(filled), filled, np.nan)


def _c_key(front: ParetoFront, base: ParetoFront) -> str:
    if front is base:
        return "base"
    return "own" if front.name == OWN else f"{front.scale:g}"


def _c_name(front: ParetoFront, base: ParetoFront, scale: float) -> str:
    key = _c_key(front, base)
    said = {"base": "base model", "own": f"own temperatures, c = {front.scale:g}"}.get(key, key)
    if key not in ("base", "own"):
        said += ", as trained" if front.scale == 1 else ""
        said += ", the slider" if front.scale == scale else ""
    return f'<th scope="row">{f"<b>{said}</b>" if "slider" in said else said}</th>'
