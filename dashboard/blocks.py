"""Pure: pieces of the page as HTML, every text from data escaped. Colours: charts.py's, or the page's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from dashboard import charts, words
from dashboard.readings import Curve, Reading


def _mark(verdict: words.Change | None) -> str:
    if verdict is None or not verdict.measurable:
        return "same"
    return "up" if verdict.up else "down"


def opening(text: str) -> str:
    """The sentence that stands before everything else."""
    return f'<p class="hx-small hx-opening">{escape(text)}</p>'


def figures_strip(
    reading: Reading, names: Sequence[str], against_a: Sequence[words.Change] | None = None, pair: str = "vs A"
) -> str:
    """One card an objective, main last: the change from the base, its interval, and in words where it is none.

    `against_a` is the change between the two choices compared, which `pair` names.
    """
    found = words.changes(reading)
    cards = []
    for place in (*range(1, len(names)), 0):
        change = found[place] if found else None
        cards.append(_card(reading, names[place], place, change, against_a[place] if against_a else None, pair))
    return f'<div class="hx-strip" role="list" aria-label="Change from the base, by objective">{"".join(cards)}</div>'


def _card(
    reading: Reading, name: str, place: int, change: words.Change | None, against_a: words.Change | None, pair: str
) -> str:
    value = reading.ndcg[place]
    base = None if reading.base is None else float(reading.base[place])
    big, small, verdict = words.number(float(value)), "", ""
    if change is not None:
        big = change.words
        if place == 0 and base and change.words != "–":
            big = f"{100 * float(value) / base:.1f} % of base"
        small = f"95 %: {change.interval}" if change.interval else change.verdict
        verdict = words.SAME if change.verdict == words.SAME else ""
    lines = [
        f'<div class="hx-name" title="{escape(name)}">{_dot(place)}<span>{escape(name)}</span></div>',
        f'<div class="hx-big hx-{_mark(change)}">{_arrow(change)}{escape(big)}</div>',
        _measured(f"NDCG@{reading.k} {words.number(float(value))}, base {words.number(base)}", against_a, pair),
        f'<div class="hx-small" title="{escape(small)}">{verdict or escape(small)}</div>',
    ]
    return f'<div class="hx-card{" hx-main" if place == 0 else ""}" role="listitem">{"".join(lines)}</div>'


def _measured(figures: str, against_a: words.Change | None, pair: str) -> str:
    """A card's third line: NDCG, or in its place the change from A, so that pinning moves nothing on the page."""
    if against_a is None:
        return f'<div class="hx-small">{escape(figures)}</div>'
    said = words.SAME if against_a.verdict == words.SAME else against_a.words
    known = f"{pair}: {against_a.words}, 95 %: {against_a.interval}; {figures}"
    return f'<div class="hx-small hx-a" title="{escape(known)}">{escape(pair)}: {escape(said)}</div>'


def _arrow(change: words.Change | None) -> str:
    kind = _mark(change)
    sign = {"up": "▲", "down": "▼"}.get(kind, "")
    return f'<span class="hx-arrow" aria-hidden="true">{sign}</span>' if sign else ""


def _dot(place: int) -> str:
    return f'<i class="hx-dot" style="background:{charts.objective_colour(place - 1)}" aria-hidden="true"></i>'


def figures_table(
    reading: Reading,
    names: Sequence[str],
    against_a: Sequence[words.Change] | None,
    skipped: str,
    pair: str = "now against A",
    called: Mapping[str, str] | None = None,
) -> str:
    """Every figure of the live point, one row an objective; `pair` names the two choices of `against_a`, and `called`
    says what people read for a name."""
    found = words.changes(reading)
    head = [
        "objective",
        f"NDCG@{reading.k}",
        "base",
        "change",
        "95 % interval",
        "verdict",
        "cross-entropy",
        "base",
        "lists",
    ]
    if against_a is not None:
        head.append(pair)
    labels = [*head[:7], "of the base", *head[8:]]
    rows = []
    for place, name in [(p, names[p]) for p in (*range(1, len(names)), 0)]:
        change = found[place] if found else None
        entropy = [None, None]
        if place and reading.cross_entropy is not None:
            entropy[0] = float(reading.cross_entropy[place - 1])  # type: ignore[call-overload]
        if place and reading.base_entropy is not None:
            entropy[1] = float(reading.base_entropy[place - 1])  # type: ignore[call-overload]
        base = None if reading.base is None else float(reading.base[place])
        cells = [
            words.number(float(reading.ndcg[place])),
            words.number(base),
            change.words if change else "–",
            change.interval if change else "–",
            change.verdict if change else "–",
            words.number(entropy[0]) if place else "",
            words.number(entropy[1]) if place else "",
            f"{reading.change[place].queries:,}" if reading.change else "–",
        ]
        if against_a is not None:
            cells.append(_with_interval(against_a[place]))
        label = f"{_dot(place)}{escape((called or {}).get(name, name))}{' (main)' if place == 0 else ''}"
        rows.append(row(f'<th scope="row">{label}</th>', cells, labels, data=f' data-objective="{escape(name)}"'))
    note = f'<p class="hx-small">Cross-entropy: lower is better. {escape(skipped)}</p>'
    return table(head, rows, "Every figure of the live point", left=(0,)) + note


def _with_interval(change: words.Change) -> str:
    """A change and its 95 % interval, or that there is no measurable one."""
    said = words.SAME if change.verdict == words.SAME else change.words
    return f"{said} ({change.interval})" if change.interval else said


def fronts_table(curves: Sequence[Curve], reading: Reading | None, scale: float, k: int) -> str:
    """What each curve reaches and what it cost; in the middle, as in Figure 2, the main objective's mean and spread."""
    main = curves[0].front.main if curves else ""
    head = [
        "front",
        "hypervolume",
        f"{main}, NDCG@{k}: mean ± spread over the points",
        "",
        "models",
        "parameters",
        "training",
    ]
    scale_of = _fidelity_scale(curves, reading)
    rows = []
    for curve in curves:
        front = curve.front
        where = f' <span class="hx-quiet">at {escape(curve.fixed)} only</span>' if curve.fixed else ""
        cells = [
            words.volume(curve.hypervolume),
            _fidelity_bar(curve, scale_of),
            words.number(front.main_mean) + ("" if len(front.ndcg) == 1 else f" ± {words.number(front.main_std)}"),
            f"{front.models:,}" if front.models else "",
            f"{front.parameters:,}" if front.parameters else "",
            seconds(front.seconds) if front.seconds else "",
        ]
        name = f'<th scope="row">{swatch(front.method)}{escape(front.name)}{where}</th>'
        labels = ["", "hypervolume", "", main, *head[4:]]
        rows.append(row(name, cells, labels, data=f' data-front="{escape(front.name)}"', escaped=True))
    note = f"{words.HYPERVOLUME} The dot is the mean of {main} over a front's points, the line its spread; the dotted "
    note += "line is the base, the thin one the live point."
    return f'{table(head, rows, f"Fronts at c = {scale:g}", left=(0, 2))}<p class="hx-small">{escape(note)}</p>'


def _fidelity_scale(curves: Sequence[Curve], reading: Reading | None) -> tuple[float, float, float, float | None]:
    """Left and right end of the bars' common axis, the base's value, and the live point's."""
    ends = [v for c in curves for v in (c.front.main_mean - c.front.main_std, c.front.main_mean + c.front.main_std)]
    base = next((c.front.main_mean for c in curves if c.front.method == "base"), math.nan)
    live = None if reading is None else float(reading.ndcg[0])
    real = [v for v in (*ends, base, live) if v is not None and math.isfinite(v)]
    low, high = (min(real), max(real)) if real else (0.0, 1.0)
    room = 0.04 * (high - low) or 0.05
    return low - room, high + room, base, live


def _fidelity_bar(curve: Curve, axis: tuple[float, float, float, float | None]) -> str:
    """Mean and spread as a dot on a line; dotted the base, thin solid the live point."""
    low, high, base, live = axis
    front, colour = curve.front, charts.look(curve.front.method).colour

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    if not math.isfinite(front.main_mean):
        return ""
    mean, std = front.main_mean, front.main_std
    width = f"{200 * std / (high - low):.2f}%"
    marks = [
        f'<i class="hx-spread" style="left:{at(mean - std)};width:{width};background:{colour}"></i>',
        f'<i class="hx-mean" style="left:{at(mean)};background:{colour}"></i>',
    ]
    if math.isfinite(base):
        marks.append(f'<i class="hx-base" style="left:{at(base)}"></i>')
    if live is not None and math.isfinite(live):
        marks.append(f'<i class="hx-live" style="left:{at(live)}"></i>')
    return f'<div class="hx-bar" aria-hidden="true">{"".join(marks)}</div>'


def swatch(method: str, nth: int = 0) -> str:
    """A short piece of the method's line with its marker, as the chart draws it."""
    look = charts.look(method, nth)
    style = {"dash": "dashed", "dot": "dotted", "solid": "solid"}.get(look.dash, "dashed")
    return _key(look.colour, charts.SIGNS.get(look.symbol, "★"), "" if method == "base" else style)


def _key(colour: str, sign: str, line: str) -> str:
    border = f";border-top:2px {line} {colour}" if line else ""
    return (
        f'<i class="hx-key" style="color:{colour}" aria-hidden="true"><i style="top:50%{border}"></i><b>{sign}</b></i>'
    )


def legend(entries: Sequence[charts.Entry]) -> str:
    """The chart's legend; names are escaped already."""
    rows = [f'<li class="{"hx-you" if e.main else ""}">{_key(e.colour, e.sign, e.line)}{e.words}</li>' for e in entries]
    return f'<ul class="hx-legend" aria-label="Legend">{"".join(rows)}</ul>'


def runs_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """The list of runs; cells are HTML already."""
    body = [row(f'<th scope="row">{r[0]}</th>', r[1:], head, escaped=True) for r in rows]
    return table(head, body, "Runs", left=tuple(range(7)))


def sentences(lines: Sequence[str]) -> str:
    """Several sentences as paragraphs."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def price_line(text: str, k: int, remarks: Sequence[str] = ()) -> str:
    """The trade-off in words, and what has to be remarked on."""
    point = (
        f'<span class="hx-small"> A point is 0.01 of NDCG@{k}.</span>'
        if " costs " in text and "next to" not in text
        else ""
    )
    return f'<p class="hx-price">{escape(text)}{point}</p>' + "".join(
        f'<p class="hx-small">{escape(r)}</p>' for r in remarks
    )


def seconds(value: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    if value < 60:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def skipped_words(reading: Reading, names: Sequence[str], split: str) -> str:
    """How many lists stand behind the figures, and which objectives had to leave some out."""
    if reading.change is None:
        return ""
    total = reading.change[0].queries + reading.change[0].skipped
    out = [f"{c.skipped:,} for {n}" for n, c in zip(names, reading.change, strict=True) if c.skipped]
    rest = f"; without a positive label, so left out: {words.listed(out)}" if out else ""
    how = "Intervals: bootstrap over lists, paired with the base."
    return f"Measured on the {total:,} lists of the {split} split{rest}. {how}"


def row(first: str, cells: Sequence[str], labels: Sequence[str], *, data: str = "", escaped: bool = False) -> str:
    """A row; each cell carries its column's name of `labels`, for a phone, where rows become cards."""
    told = zip(cells, labels[1:], strict=True)
    inner = "".join(f'<td data-label="{escape(name)}">{c if escaped else escape(c)}</td>' for c, name in told)
    return f"<tr{data}>{first}{inner}</tr>"


def table(head: Sequence[str], rows: Sequence[str], caption: str, left: Sequence[int] = ()) -> str:
    heads = "".join(
        f'<th scope="col"{" class=hx-left" if i in left else ""}>{escape(h)}</th>' for i, h in enumerate(head)
    )
    return (
        f'<div class="hx-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        '<table class="hx-table hx-cards">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
