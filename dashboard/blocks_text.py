"""Pure: the Text view's pieces as HTML. Every text is shown as text: escaped, control characters made visible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dashboard import charts, words_text
from dashboard.blocks import row, seconds, swatch, table
from dashboard.readings import Curve, TextReading
from dashboard.words import HYPERVOLUME, number, signed, volume


def plain(text: str) -> str:
    """Text from anyone as HTML that shows it and does nothing else."""
    return escape(words_text.visible(text))


def answers(
    prompt: str,
    told: Sequence[tuple[str, str, str, Sequence[float], bool]],
    names: Sequence[str],
    measures: Sequence[tuple[str, str]],
    marks: Sequence[str] = (),
) -> str:
    """Answers side by side, the base last.

    Args:
        marks: HTML that takes the place of the first texts, their differences marked.
        told: for each its heading, its text, why it ended, its scores (m,) or none yet, and whether it still grows.
    """
    base = told[-1][3] if len(told) > 1 else ()
    cards = []
    for i, (head, text, ended, scores, growing) in enumerate(told):
        beside = base if i < len(told) - 1 else ()
        told_text = marks[i] if i < len(marks) else plain(text)
        cards.append(
            f'<article class="hx-answer" aria-busy="{str(growing).lower()}"><h3>{escape(head)}</h3>'
            f'<p class="hx-told"><span class="hx-quiet">{plain(prompt)}</span>{told_text}{_caret(growing)}</p>'
            f"{_ended(ended)}{scores_line(scores, names, measures, beside)}</article>"
        )
    return f'<div class="hx-answers">{"".join(cards)}</div>'


def _caret(growing: bool) -> str:
    return '<span class="hx-caret" aria-hidden="true">▍</span>' if growing else ""


def _ended(ended: str) -> str:
    said = words_text.ENDED.get(ended, "")
    return f'<p class="hx-small">… {said}</p>' if said else ""


def scores_line(
    scores: Sequence[float], names: Sequence[str], measures: Sequence[tuple[str, str]], base: Sequence[float] = ()
) -> str:
    """What was measured on one text, a mark and a figure an objective; an arrow where it beats the base's text."""
    if not scores:
        return '<p class="hx-scores">&nbsp;</p>'
    out = []
    for j, (name, value) in enumerate(zip(names, scores, strict=True)):
        if not math.isfinite(value):
            continue
        about, unit = measures[j]
        arrow = ""
        if base and math.isfinite(base[j]) and abs(value - base[j]) > 5e-3:
            word, sign = ("more", "▲") if value > base[j] else ("less", "▼")
            arrow = (
                f'<span class="hx-{"up" if value > base[j] else "down"}"><span aria-hidden="true">{sign}</span>'
                f'<span class="hx-sr"> {word} than the base</span></span>'
            )
        out.append(
            f'<span class="hx-score" title="{escape(about)}">{_dot(j)}{escape(name)} '
            f"<b>{escape(words_text.measure(value, unit))}</b>{arrow}</span>"
        )
    return f'<p class="hx-scores">{"".join(out) or "No scorer knows these objectives."}</p>'


def _dot(j: int) -> str:
    return f'<i class="hx-dot" style="background:{charts.objective_colour(j)}" aria-hidden="true"></i>'


def strip(
    weights: Sequence[Sequence[float]],
    told: Sequence[tuple[str, Sequence[float], bool]],
    names: Sequence[str],
    measures: Sequence[tuple[str, str]],
    here: int | None,
) -> str:
    """The same prompt at every weight of the strip, one row each; `here` is the row of the sliders' own weights."""
    rows = []
    for i, (w, (text, scores, growing)) in enumerate(zip(weights, told, strict=True)):
        shares = "".join(
            f'<i style="width:{100 * v:.1f}%;background:{charts.objective_colour(j)}"></i>' for j, v in enumerate(w)
        )
        said = ", ".join(f"{n} {100 * v:.0f} %" for n, v in zip(names, w, strict=True) if v >= 0.005)
        mark = ' aria-current="true"' if i == here else ""
        rows.append(
            f'<div class="hx-row" role="listitem"{mark}><div><div class="hx-shares" aria-hidden="true">{shares}</div>'
            f'<div class="hx-small">{escape(said)}</div></div>'
            f'<div><p class="hx-told">{plain(text.strip())}{_caret(growing)}</p>'
            f"{scores_line(scores, names, measures)}</div></div>"
        )
    label = f"The same prompt at {len(rows)} weights"
    return f'<div class="hx-strip11" role="list" aria-label="{label}">{"".join(rows)}</div>'


def entropy_strip(reading: TextReading, names: Sequence[str]) -> str:
    """One card an objective: cross-entropy, its change from chance, and the interval or that there is none."""
    cards = []
    for j, name in enumerate(names):
        change, said, kind = words_text.change_words(reading, j)
        sign = {"up": "▲", "down": "▼"}.get(kind, "")
        arrow = f'<span class="hx-arrow" aria-hidden="true">{sign}</span>' if sign else ""
        cards.append(
            f'<div class="hx-card" role="listitem"><div class="hx-name" title="{escape(name)}">{_dot(j)}'
            f'<span>{escape(name)}</span></div><div class="hx-big hx-{kind}">{arrow}{escape(change)}</div>'
            f'<div class="hx-small">cross-entropy {number(reading.entropy[j].mean)}, chance {number(reading.chance)}'
            f'</div><div class="hx-small">{escape(said)}</div></div>'
        )
    label = "Cross-entropy against chance, by objective; below chance is better"
    return f'<div class="hx-strip hx-entropy" role="list" aria-label="{label}">{"".join(cards)}</div>'


def fronts(curves: Sequence[Curve], names: Sequence[str], scale: float) -> str:
    """What each front reaches, beside the chance value, and what it cost."""
    head = ["front", "hypervolume", "above chance", *(f"{n}, best" for n in names), "models", "training"]
    chance = next((c.front.hypervolume for c in curves if c.front.method == "base"), math.nan)
    rows = []
    for curve in curves:
        front = curve.front
        base = front.method == "base"
        where = f' <span class="hx-quiet">at {escape(curve.fixed)} only</span>' if curve.fixed else ""
        best = [""] * len(names) if front.cross_entropy is None else [number(v) for v in front.cross_entropy.min(0)]
        cells = [
            volume(front.hypervolume),
            "" if base else signed(front.hypervolume - chance, 4),
            *best,
            f"{front.models:,}" if front.models else "",
            seconds(front.seconds) if front.seconds else "",
        ]
        name = "Base model: chance" if base else front.name
        first = f'<th scope="row">{swatch(front.method)}{escape(name)}{where}</th>'
        rows.append(row(first, cells, head, data=f' data-front="{escape(front.name)}"', escaped=True))
    shown = table(head, rows, f"Fronts of test cross-entropy at c = {scale:g}", left=(0,))
    return f'{shown}<p class="hx-small">{escape(HYPERVOLUME)}</p>'
