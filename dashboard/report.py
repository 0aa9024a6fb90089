"""The decision on one page, to be printed or passed on: what was chosen, what it gives, what else there was. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dashboard import words
from dashboard.charts import EXPORT_QUIET, EXPORT_RULE, EXPORT_TEXT
from dashboard.readings import Curve, Reading

CSS = f"""
@page {{ size: A4; margin: 11mm 13mm; }}
body {{ font: 9.5pt/1.3 Helvetica, Arial, 'Noto Sans CJK SC', sans-serif; max-width: 182mm; margin: 8mm auto; }}
h1 {{ font-size: 15pt; margin: 0 0 1mm; overflow-wrap: anywhere; }}
h2 {{ font-size: 11pt; margin: 3mm 0 .5mm; }}
p {{ margin: 1mm 0; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; width: 100%; font-size: 8.5pt; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .35mm 1.5mm; border-bottom: .2mm solid {EXPORT_RULE}; }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere; }}
thead th {{ border-bottom: .4mm solid {EXPORT_TEXT}; font-weight: 600; }}
tbody th {{ font-weight: 400; }}
svg, img {{ display: block; width: 100%; height: auto; max-height: 84mm; margin: 1mm 0; }}
code {{ font-size: 8pt; overflow-wrap: anywhere; }}
.quiet {{ color: {EXPORT_QUIET}; font-size: 8.5pt; }}
@media print {{ body {{ margin: 0; }} }}
"""


@dataclass(frozen=True, eq=False)
class Decision:
    """Everything the page says.

    Attributes:
        run: label of the run. names: main objective first.
        reading: the figures of the choice. curves: the fronts at the same c and k, the run's own first.
        price: what one objective costs another, in words. skipped: how many lists stand behind the figures.
        pinned: the figures of A, where one is pinned.
        provenance: (what, value) pairs. commands: what prints the same figures and writes the same model.
        chart: SVG of the chart, or empty where no browser draws one.
        inches: its width on the page; 0 is as wide as there is room for, and not too high for one page.
    """

    run: str
    names: tuple[str, ...]
    reading: Reading
    curves: Sequence[Curve]
    price: str
    skipped: str
    pinned: Reading | None
    provenance: Sequence[tuple[str, str]]
    commands: Sequence[str]
    chart: str = ""
    inches: float = 0.0


def html(decision: Decision) -> str:
    """One self-contained HTML page, made for A4; every name is escaped."""
    reading = decision.reading
    attention = attention_words(reading.weights, decision.names[1:])
    title = f"{decision.run}: {attention}, c = {reading.choice.scale:g}"
    chart = decision.chart[decision.chart.find("<svg") :] if "<svg" in decision.chart else ""
    if decision.inches:
        style = f'style="width: {decision.inches:g}in; max-width: 100%; max-height: none"'
        chart = chart.replace("<svg ", f"<svg {style} ", 1)
    told = "".join(f"<tr><th scope=row>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in decision.provenance)
    note = f"<p>{escape(reading.note)}</p>" if reading.note else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{CSS}</style></head><body>
<h1>{escape(title)}</h1>
<p>{escape(verdict_words(reading, decision.names))}</p>{note}
{chart}
<p>{escape(decision.price)}</p>
<h2>What it gives</h2>
{_figures(decision)}
<p class="quiet">{escape(decision.skipped)}</p>
<h2>What else there was</h2>
{_alternatives(decision)}
<h2>Where this comes from</h2>
<table><tbody>{told}</tbody></table>
{"".join(f"<p><code>{escape(line)}</code></p>" for line in decision.commands)}
</body></html>
"""


def attention_words(weights: Sequence[float], names: Sequence[str]) -> str:
    """`40 % clicks, 60 % freshness`: the objectives that get any attention, most first."""
    order = sorted(range(len(names)), key=lambda i: -weights[i])
    return ", ".join(f"{100 * weights[i]:.0f} % {names[i]}" for i in order if weights[i] >= 0.005)


def verdict_words(reading: Reading, names: Sequence[str]) -> str:
    """What the choice changes against the base, in a sentence a reader can repeat."""
    found = words.changes(reading)
    if found is None:
        return "The run's folder holds no figures per list, so nothing can be said about changes from the base."
    better = [f"{n} {c.words}" for n, c in zip(names, found, strict=True) if c.verdict == "better"]
    worse = [f"{n} {c.words}" for n, c in zip(names, found, strict=True) if c.verdict == "worse"]
    same = [n for n, c in zip(names, found, strict=True) if c.verdict == words.SAME]
    parts = [f"better {words.listed(better)}" if better else "", f"worse {words.listed(worse)}" if worse else ""]
    parts.append(f"{words.SAME} in {words.listed(same)}" if same else "")
    return f"Against the base: {'; '.join(p for p in parts if p)}."


def _figures(decision: Decision) -> str:
    reading, found = decision.reading, words.changes(decision.reading)
    head = ["objective", f"NDCG@{reading.k}", "base", "change", "95 % interval", "verdict"]
    head += ["A"] if decision.pinned is not None else []
    rows = []
    for i, name in enumerate(decision.names):
        change = found[i] if found else None
        cells = [
            f"{name} (main)" if i == 0 else name,
            words.number(float(reading.ndcg[i])),
            words.number(None if reading.base is None else float(reading.base[i])),
            *((change.words, change.interval, change.verdict) if change else ("–", "–", "–")),
        ]
        cells += [words.number(float(decision.pinned.ndcg[i]))] if decision.pinned is not None else []
        rows.append(cells)
    return _table(head, rows)


def _alternatives(decision: Decision) -> str:
    """Of every front the point nearest in attention, and of the run's own the neighbours on either side."""
    rows = []
    for place, curve in enumerate(decision.curves):
        front = curve.front
        for i in _nearest(front.weights, decision.reading.weights, 3 if place == 0 else 1):
            at = attention_words(front.weights[i], decision.names[1:]) if front.weights.shape[1] else "–"
            fixed = f" ({curve.fixed})" if curve.fixed else ""
            rows.append([f"{front.name}{fixed}", at, *(words.number(float(v)) for v in front.ndcg[i])])
    return _table(["front", "attention", *decision.names], rows)


def _nearest(weights: np.ndarray, wanted: Sequence[float], count: int) -> list[int]:
    if not weights.shape[1]:
        return [0]
    return list(map(int, np.argsort(np.abs(weights - np.array(wanted)).sum(1), kind="stable")[:count]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th scope=col>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
