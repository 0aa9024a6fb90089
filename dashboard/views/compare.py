"""Compare: fronts of several runs and methods on the same terms, what each reaches, costs and owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any
from zlib import crc32

import numpy as np
import streamlit as st

from dashboard import (
    blocks,
    charts,
    charts_compare,
    comparing,
    export,
    panel,
    picking,
    store,
    ticker,
    words,
    words_help,
)
from dashboard.blocks_compare import comparison_table
from dashboard.readings import Curve, Entrant, Judged
from dashboard.state import COMPARE_KEYS, Comparing, Key, quoted, read_comparing, read_pins, write_comparing, write_pins
from dashboard.store import Job, Saved
from dashboard.views import opened
from dashboard.views import picked as picked_view
from dashboard.views.common import (
    PLOT_CONFIG,
    Ready,
    Take,
    absent,
    chosen,
    chosen_device,
    default_axes,
    downloads,
    foreign,
    fresh_address,
    friendly,
    many,
    plain_markdown,
    write_lists,
)
from dashboard.views.pinned import Pinned, pinned
from hyperdpo.comparison import Contribution, Stretches
from hyperdpo.errors import HyperDPOError

VIEW_NAMES = {"plane": "Two objectives", "lines": "All at once", "pairs": "Every pair", "triangle": "Triangle"}
POLL_SECONDS = 0.5
PLAIN_CONFIG = {**PLOT_CONFIG, "displayModeBar": False}


def render() -> None:
    """The view."""
    with friendly():
        labels = [e.label for e in store.list_runs()]
        shown, notes = _wanted(labels)
        fresh = fresh_address(Key.COMPARED_URL)
        runs, broken = _open(shown.runs)
        runs, broken = (runs, broken) if runs else _any_run(labels, broken)
        if not runs:
            opened.nothing_here([*notes, *broken])
            return
        entrants, refused = comparing.admit(runs)
        if not entrants:
            for line in refused:
                st.warning(plain_markdown(line))
            return
        shown, strange = settle(replace(shown, runs=shown.runs or (runs[0].entry.label,)), runs, entrants)
        _keep(shown)
        notes += _take_pins(fresh, runs)
        if fresh:  # what the session kept is no link: a front that went with its run is no news
            notes += [*strange, *foreign(fresh, COMPARE_KEYS)]
        _page(Comparison(shown, tuple(runs), entrants), labels, [*notes, *broken], refused)
        _write_url(shown, runs)


# ---------------------------------------------------------------------------------------------------------------------
# What is compared


def _wanted(labels: Sequence[str]) -> tuple[Comparing, list[str]]:
    """What the URL asks for where it has just been opened or gone back to; else what the session kept."""
    s = st.session_state
    url, explored = fresh_address(Key.COMPARED_URL), s.get(Key.RUN)
    usual = (explored,) if explored else tuple(labels[:1])
    if url:
        shown, notes = read_comparing(url)
        return replace(shown, runs=shown.runs or tuple(url.get("run", usual))), list(notes)
    kept = s.get(Key.COMPARING)
    if isinstance(kept, Comparing):
        return kept, []
    return Comparing(runs=usual), []


def _open(labels: Sequence[str]) -> tuple[list[Saved], list[str]]:
    """The runs that open, and a sentence for those that do not."""
    found, notes = [], []
    entries = {e.label: e for e in store.list_runs()}
    for label in labels:
        if label not in entries and "/" not in label and "\\" not in label:
            notes.append(absent(label))
            continue
        try:
            found.append(store.saved(entries[label] if label in entries else store.entry_at(label)))
        except (HyperDPOError, OSError) as error:
            notes += str(error).splitlines()
    return found, notes


def _any_run(labels: Sequence[str], notes: list[str]) -> tuple[list[Saved], list[str]]:
    """The first run that opens, where none of those asked for does."""
    for label in labels:
        found, _ = _open([label])
        if found:
            return found, [*notes, f"Shown instead: {label}."] if notes else notes
    return [], notes


def settle(shown: Comparing, runs: Sequence[Saved], entrants: Sequence[Entrant]) -> tuple[Comparing, list[str]]:
    """The choice with everything filled in that it left open, and a sentence for what does not exist here."""
    notes = []
    names, keys = (entrants[0].front.main, *entrants[0].front.objectives), [e.key for e in entrants]
    for what, value, options in (
        ("axis x", shown.x, names), ("axis y", shown.y, names), ("metric", shown.metric, names),
        ("front vs", shown.against, keys), ("front of", shown.of, keys),
    ):  # fmt: skip
        if value and value not in options:
            notes.append(
                f"The link's {what}={quoted(value)} is not in this comparison; it has {words.listed(options)}."
            )
    x, y = default_axes(next((r for r in runs if r.objectives == names[1:]), runs[0]))
    m = len(names) - 1
    view = shown.view if m > 2 and (m == 3 or shown.view != "triangle") else "plane"
    surfaces = [e.key for e in entrants if e.front.weights.shape[1]]
    picked, strange = picked_view.known(shown.picked, names)
    notes += strange
    return replace(
        shown,
        runs=tuple(dict.fromkeys(shown.runs)),
        off=tuple(many(shown.off, keys)) if set(keys) - set(shown.off) else (),
        x=shown.x if shown.x in names else x,
        y=shown.y if shown.y in names else y,
        metric=shown.metric if shown.metric in names else names[0],
        against=shown.against if shown.against in keys else _yardstick(entrants),
        of=shown.of if shown.of in surfaces else (surfaces or [""])[0],
        view=view,
        picked=picked,
    ), notes


def _yardstick(entrants: Sequence[Entrant]) -> str:
    """What the others are compared with to begin with: the first baseline, else the base."""
    trained = [e for e in entrants if e.trained]
    for pool in ([e for e in trained if e.front.method != "hyperdpo"], trained[1:], entrants[1:], entrants):
        if pool:
            return pool[0].key
    return ""


def _keep(shown: Comparing) -> None:
    st.session_state[Key.COMPARING] = shown


def _change(**changes: Any) -> None:
    _keep(replace(st.session_state[Key.COMPARING], **changes))


def _take_pins(fresh: Mapping[str, Sequence[str]], runs: Sequence[Saved]) -> list[str]:
    """Pin what a fresh URL pins, of the run it names, else of the first; and a sentence for whatever is foreign."""
    s, url = st.session_state, {k: v[-1] for k, v in fresh.items()}
    if not {"a", "b"} & set(url):
        return []
    label, notes = url.get("run", runs[0].entry.label), list[str]()
    run = next((r for r in runs if r.entry.label == label), None)
    if run is None:
        return [f"The link pins choices of run={quoted(label)}, which is not compared here; nothing is pinned."]
    a, b = read_pins(url, len(run.objectives), notes)
    if a is not None:
        if s.get(Key.RUN) != label:
            opened.switch(run)
        panel.set_choice(s[Key.CHOICE], a, pin_b=b)
    return notes


def _pins(runs: Sequence[Saved]) -> dict[str, list[str]]:
    """The URL's parameters of A and B, where they belong to a run that is compared."""
    s = st.session_state
    if s.get(Key.RUN) not in [r.entry.label for r in runs] or s.get(Key.PIN) is None:
        return {}
    return {k: [v] for k, v in ({"run": s[Key.RUN]} | write_pins(s[Key.PIN], s.get(Key.PIN_B))).items()}


def _write_url(shown: Comparing, runs: Sequence[Saved]) -> None:
    write_lists(write_comparing(shown) | _pins(runs), Key.COMPARED_URL)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that is drawn, worked out when first asked for."""

    shown: Comparing
    runs: tuple[Saved, ...]
    everyone: tuple[Entrant, ...]

    @property
    def names(self) -> tuple[str, ...]:
        front = self.everyone[0].front
        return (front.main, *front.objectives)

    @property
    def called(self) -> dict[str, str]:
        """What people read for each of `names`."""
        return next((r.called for r in self.runs if r.names == self.names), {name: name for name in self.names})

    @cached_property
    def entrants(self) -> tuple[Entrant, ...]:
        """Those that are drawn."""
        return tuple(e for e in self.everyone if e.key not in self.shown.off)

    @cached_property
    def methods(self) -> tuple[Entrant, ...]:
        """Those among which the front is shared out: neither the base nor what is merely possible."""
        return tuple(e for e in self.entrants if e.trained) or self.entrants

    @cached_property
    def ranges(self) -> np.ndarray:
        """Of everyone, so that the axes stand still as fronts are shown and hidden."""
        return comparing.spans(self.everyone)

    @cached_property
    def judged(self) -> dict[str, Judged]:
        return store.judge(self.runs, self.everyone, self.shown.against)

    @cached_property
    def owned(self) -> tuple[Stretches, list[Contribution]] | None:
        """None in a plane of one objective, or of one that no list has a label for."""
        i, j = self.names.index(self.shown.x), self.names.index(self.shown.y)
        plane = np.concatenate([e.front.ndcg[:, [i, j]] for e in self.methods])
        if i == j or not np.isfinite(plane).all(1).any():
            return None
        return store.owners(self.runs, self.methods, i, j)

    @property
    def against(self) -> Entrant | None:
        return next((e for e in self.everyone if e.key == self.shown.against), None)

    def plane(self) -> charts.Figure:
        """The fronts in the plane of two objectives."""
        shown = self.shown
        figure = charts_compare.overlay_figure(
            self.entrants, self.names, shown.x, shown.y, self.ranges,
            judged=self.judged if shown.crosses else None,
            owned=(self.owned[0], self.methods) if self.owned and len(self.methods) > 1 else None,
            view=f"{shown.runs}|{shown.x}|{shown.y}",
        )  # fmt: skip
        figure = charts.worded(figure, self.called)
        return self.pinned.on(figure, shown.x, shown.y) if self.pinned else figure

    @cached_property
    def pinned(self) -> Pinned | None:
        """Choices A and B of the run that is explored, if it is among those compared."""
        return pinned(self.runs, self.everyone[0].front.k)

    def cost(self) -> charts.Figure:
        return charts_compare.cost_figure(self.entrants, self.judged)

    def rows(self) -> list[dict[str, Any]]:
        """The table for CSV and JSON."""
        added = {} if self.owned is None else dict(zip((e.key for e in self.methods), self.owned[1], strict=False))
        return comparing.rows(self.entrants, self.judged, added, self.shown.against)

    def answer(self) -> str:
        """The first method against the yardstick, in a sentence."""
        against = self.against
        first = next((e for e in self.entrants if e.trained and e is not against), None)
        if first is None or against is None:
            return "Add a run, or show another front, to compare."
        found = self.judged.get(first.key)
        return words.versus_sentence(first, against, found.against if found else None)

    def meaning(self) -> list[str]:
        """What the front chart shows, in words."""
        if self.owned is None:
            return [f"Both axes show {self.shown.x}; choose two different ones to see who leads where."]
        out = [words.owner_sentence(self.owned[0], self.methods, self.shown.x, self.shown.y)]
        if self.owned[1]:
            out.append(words.contribution_sentence(self.methods, self.owned[1], len(self.names) - 1))
        return [line for line in out if line]


# ---------------------------------------------------------------------------------------------------------------------
# The page


def _page(what: Comparison, labels: Sequence[str], notes: Sequence[str], refused: Sequence[str]) -> None:
    with st.sidebar:
        st.html('<p class="hx-brand">HyperDPO Explorer</p>')
        _controls(what, labels)
    for line in notes:
        st.info(plain_markdown(line))
    for line in refused:
        st.warning(plain_markdown(line))
    answer = st.container(key="answer")
    with st.container(key="comparetools"):
        surface = _tools(what)
    left, right = st.columns([1.45, 1], gap="medium")
    with left:
        legend, chart, meaning = st.container(), st.empty(), st.container()
    figure, alt, said = _main_chart(what, surface)
    listening = picked_view.listening(
        figure, what.shown.view, what.names, what.ranges, surface.weights if surface else None, _change
    )
    chart.plotly_chart(Ready(figure), config=PLAIN_CONFIG, alt=alt, key="compare.main", **listening)
    if what.shown.view != "triangle":
        with legend:
            st.html(blocks.legend(charts.legend(what.plane())))
    with meaning:
        st.html("".join(f'<p class="hx-small">{escape(line)}</p>' for line in said))
    with right:
        _cost(what)
    with answer:
        st.html(f'<p class="hx-price">{escape(what.answer())}</p>')
    if len(what.names) > 3:
        picked_view.show(what.entrants, what.names, what.ranges, what.shown.picked, _change)
    st.html(comparison_table(what.entrants, what.judged, what.against))
    if what.pinned is not None:
        st.html(what.pinned.table())
    st.html(f'<p class="hx-small">{escape(_small_print(what))}</p>')


def _cost(what: Comparison) -> None:
    figure = what.cost()
    st.html('<p class="hx-caption">Training time against what it buys</p>')
    st.plotly_chart(
        Ready(figure), config=PLAIN_CONFIG, key="compare.cost",
        alt=charts_compare.describe(figure, "Chart of hypervolume against training time"),
    )  # fmt: skip
    st.html(f'<p class="hx-small">{escape(words.cost_sentence(what.entrants))}</p>')


def _controls(what: Comparison, labels: Sequence[str]) -> None:
    shown = what.shown
    options = list(dict.fromkeys([*shown.runs, *labels]))
    chosen(
        st.multiselect, "Runs", "compare.runs", many(shown.runs, options), lambda v: _change(runs=tuple(v)), options,
        placeholder="Choose runs",
        help="Their own fronts and those stored beside them. The first one sets the terms: runs on other data, "
        "objectives, split, k or temperature are left out, with the reason.",
    )  # fmt: skip
    names = {e.key: e.front.name for e in what.everyone}
    # A widget of its own for every set of fronts: pills lose the first click after their options have changed.
    key = f"compare.fronts.{crc32(repr(list(names)).encode())}"
    chosen(
        st.pills, "Fronts", key, [e.key for e in what.entrants],
        lambda v: _change(off=tuple(k for k in names if k not in v)), list(names),
        format_func=lambda key: names.get(key, key), selection_mode="multi",
        help="Take one out of the picture, or put it back. The axes stand still.",
    )  # fmt: skip
    chosen(
        st.selectbox, "Better than", "compare.vs", shown.against, lambda v: _change(against=v), list(names),
        format_func=lambda key: names.get(key, key),
        help="Every front is compared with this one on the same lists (paired bootstrap over lists of the "
        "hypervolume).",
    )  # fmt: skip
    chosen(
        st.toggle, "95 % intervals", "compare.ci", shown.crosses, lambda v: _change(crosses=v),
        help="Thin crosses: where each point would lie on other lists of the same kind.",
    )  # fmt: skip


def _tools(what: Comparison) -> _Surface | None:
    """The row above the chart. Gives the triangle's surface, where it is shown."""
    shown, m = what.shown, len(what.names) - 1
    views = [v for v in VIEW_NAMES if m == 3 or (m > 2 and v != "triangle")] if m > 2 else ["plane"]
    kind, first, second, away = st.columns([3.2, 1.5, 1.5, 1.1], vertical_alignment="bottom")
    with kind:
        if len(views) > 1:
            chosen(
                st.segmented_control, "View", "compare.view", shown.view, lambda v: _change(view=v or "plane"), views,
                format_func=VIEW_NAMES.__getitem__,
                help="Two objectives at a time; every objective as an axis of its own; a small chart for every pair"
                + ("; one figure over all mixes of three objectives." if m == 3 else "."),
            )  # fmt: skip
    surface = _surface(what) if shown.view == "triangle" else None
    if shown.view == "plane":
        for place, label, name in ((first, "Vertical axis", "y"), (second, "Horizontal axis", "x")):
            with place:
                _axis_box(label, name, getattr(shown, name), what.called)
    elif shown.view == "triangle":
        with first:
            names = {e.key: e.front.name for e in what.everyone if e.front.weights.shape[1]}
            chosen(
                st.selectbox, "Front", "compare.of", shown.of, lambda v: _change(of=v), list(names),
                format_func=lambda key: names.get(key, key), help="Whose trade-offs fill the triangle.",
            )  # fmt: skip
        with second:
            chosen(
                st.selectbox, "Figure", "compare.metric", shown.metric, lambda v: _change(metric=v), list(what.names),
                help="Which objective's NDCG (0 to 1, higher is better) colours the triangle.",
                format_func=what.called.__getitem__,
            )  # fmt: skip
    with away:
        downloads(_take(what, surface), "compare.away")
    return surface


def _axis_box(label: str, name: str, value: str, called: dict[str, str]) -> None:
    chosen(
        st.selectbox, label, f"compare.{name}", value, lambda v: _change(**{name: v}), list(called),
        format_func=called.__getitem__, help=words_help.AXIS,
    )  # fmt: skip


def _take(what: Comparison, surface: _Surface | None) -> Take:
    shown = what.shown
    return Take(
        "hyperdpo-comparison",
        words.listed(what.shown.runs),
        {"Table": what.rows, "Points": lambda: _points(what)}
        | (
            {"Selected points": lambda: picked_view.rows(what.entrants, what.names, shown.picked)}
            if shown.picked
            else {}
        ),
        {VIEW_NAMES[what.shown.view]: lambda: _main_chart(what, surface)[0], "Training time": what.cost},
    )


def _points(what: Comparison) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for entrant in what.entrants:
        out += export.points([Curve(entrant.front)], None, what.names, entrant.run)
    return out


def _main_chart(what: Comparison, surface: _Surface | None) -> tuple[charts.Figure, str, list[str]]:
    """The figure of the view chosen, what it shows for a screen reader, and what it says in words."""
    figure, alt, said = _whole_chart(what, surface)
    how = picked_view.HOW[what.shown.view]
    return picking.fade(figure, what.entrants, what.names, what.shown.picked), alt, [how, *said] if how else said


def _whole_chart(what: Comparison, surface: _Surface | None) -> tuple[charts.Figure, str, list[str]]:
    """The main chart before a selection fades a part of it."""
    shown = what.shown
    if shown.view == "lines":
        figure = charts_compare.parallel_figure(what.entrants, what.names, what.ranges)
        said = "One line is one trade-off, read from left to right: a line that is high on one axis and low on another "
        said += "gives up the second for the first. Each axis runs from the worst to the best front shown."
        return figure, charts_compare.describe(figure, "Every trade-off over all objectives"), [said, *_whole(what)]
    if shown.view == "pairs":
        figure = charts_compare.pairs_figure(what.entrants, what.names, what.ranges)
        said = "Every pair of objectives: further up and to the right is better. A front that falls steeply has two "
        said += "objectives that pull apart; one that is a small knot has two that go together."
        return figure, charts_compare.describe(figure, "A chart for every pair of objectives"), [said, *_whole(what)]
    if shown.view == "triangle" and surface is not None:
        return surface.figure(), surface.alt, surface.said
    figure = what.plane()
    alt = charts_compare.describe(figure, f"Chart of {shown.y} against {shown.x}")
    return figure, alt, what.meaning()


def _whole(what: Comparison) -> list[str]:
    """What can be said without a plane."""
    if what.owned is None or not what.owned[1]:
        return []
    line = words.contribution_sentence(what.methods, what.owned[1], len(what.names) - 1)
    return [line] if line else []


def _small_print(what: Comparison) -> str:
    front = what.everyone[0].front
    judged = next((e.front.per_query for e in what.everyone if e.front.per_query is not None), None)
    lists = f"{judged.shape[1]:,} lists of the {front.split} split" if judged is not None else f"{front.split} split"
    notes = comparing_notes(what.entrants)
    return (
        f"Measured on the {lists}, NDCG@{front.k}, c = {front.scale:g}, beta {words.temperatures(front.beta) or '–'}. "
        f"{words.HYPERVOLUME} Sparsity: how far apart neighbouring points lie; lower is denser. Spread: over the "
        f"points of a front. Intervals and verdicts: bootstrap over lists, paired. {' '.join(notes)}"
    )


def comparing_notes(entrants: Sequence[Entrant]) -> list[str]:
    """What does not forbid a comparison but should be known to who reads it."""
    trained = [e.front for e in entrants if e.trained]
    out = []
    if len({len(f.ndcg) for f in trained}) > 1:
        out.append("The fronts have different numbers of points, and a front of more points covers more.")
    if len({f.device for f in trained if f.device}) > 1:
        out.append("Training times come from different devices.")
    if sum(e.front.method == "base" for e in entrants) > 1:
        out.append("The fronts start from different bases.")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The triangle: a figure over all mixes of three objectives


@dataclass(frozen=True, eq=False)
class _Surface:
    figure: Callable[[], charts.Figure]
    alt: str
    said: list[str]
    weights: np.ndarray


def _surface(what: Comparison) -> _Surface | None:
    shown = what.shown
    entrant = next((e for e in what.everyone if e.key == shown.of), None)
    if entrant is None:
        return None
    front, column = entrant.front, what.names.index(shown.metric)
    weights, values, note = front.weights, front.ndcg, ""
    run = next(r for r in what.runs if r.entry.label == entrant.run)
    if run.own is not None and run.fronts[entrant.index] is run.own and front.scale == 1.0:
        found, note = _lattice(run, front.k)
        weights, values = found or (weights, values)
    best = int(np.nanargmax(values[:, column])) if np.isfinite(values[:, column]).any() else 0
    at = store.shares(front.objectives, tuple(float(v) for v in weights[best]))
    said = [
        f"Every dot is one mix of the three objectives for {front.name}: the nearer to a corner, the more attention on "
        f"it. {words.capital(shown.metric)} is highest, {words.number(float(values[best, column]))}, at {at}."
    ]

    def figure() -> charts.Figure:
        drawn = charts_compare.triangle_figure(
            weights, values[:, column], front.objectives, shown.metric, front.name, front.k
        )
        return picking.fade_dots(drawn, weights, values, what.names, shown.picked)

    alt = f"Triangle of {shown.metric} over all mixes of {words.listed(front.objectives)}, {front.name}."
    return _Surface(figure, alt, [*said, note] if note else said, weights)


def _lattice(run: Saved, k: int) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """The model measured all over the simplex, or why only the saved points can be shown."""
    path = st.session_state.get(Key.DATA, {}).get(run.entry.label)
    job = store.live(run, path, chosen_device())
    job.begin()
    job.wait(opened.QUICK_SECONDS)
    if job.live is not None:
        return store.simplex(job.live, k), ""
    if job.failure:
        return None, f"Only the saved points are shown: {job.failure}"
    _waiting(job)
    return None, "Shown are the saved points; the model is being made ready to fill the triangle."


@st.fragment
def _waiting(job: Job) -> None:
    if job.live is not None or job.failure:
        st.rerun()
    ticker.show("compare.waiting", on=True, milliseconds=round(1000 * POLL_SECONDS))
