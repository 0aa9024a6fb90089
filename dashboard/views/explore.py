"""Explore: a control on the left, its consequence in the middle, its meaning in words underneath."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from dashboard import (
    blocks,
    charts,
    charts_find,
    export,
    finding,
    panel,
    report,
    store,
    ticker,
    tour,
    words,
    words_help,
)
from dashboard.charts_paper import SCREEN, Paper
from dashboard.pairs import Pair, pair
from dashboard.readings import Curve, Reading
from dashboard.state import K_CHOICES, Choice, Key
from dashboard.store import Job, LiveRun, Saved
from dashboard.views import aim, changes, find, opened
from dashboard.views.common import (
    PLOT_CONFIG,
    Ready,
    Take,
    chosen_device,
    device_box,
    downloads,
    friendly,
    packed,
    show_notes,
    write_address,
)
from hyperdpo.errors import HyperDPOError
from hyperdpo.intervals import Interval

POLL_SECONDS, HEAD_START_SECONDS = 0.4, 5.0


@dataclass(frozen=True, eq=False)
class Frame:
    """The places on the page, in their order; made first, so that the browser fetches its chart library at once."""

    sidebar: Any
    machine: Any
    notes: Any
    toolbar: Any
    find: Any
    tour: Any
    live: Any
    data: Any


@dataclass(frozen=True, eq=False)
class Scene:
    """What the live part of the page draws, and where: fixed between two full runs of the script."""

    saved: Saved
    job: Job
    sidebar: Any


def render() -> None:
    """The view."""
    with friendly():
        frame = _frame()
        saved = opened.open_run()
        if saved is None:
            frame.live.empty()
            return
        with frame.tour:
            tour.show()
        opened.take_address(saved)
        show_notes(frame.notes)
        job = store.live(saved, st.session_state.get(Key.DATA, {}).get(saved.entry.label), chosen_device())
        if "torch" in sys.modules:  # else the first chart comes before the second that loading PyTorch takes
            job.begin()
            job.wait(opened.QUICK_SECONDS)
        _page(saved, job, frame)
        write_address(opened.address_of(), Key.URL)


def _frame() -> Frame:
    with st.sidebar:
        st.html('<p class="hx-brand">HyperDPO Explorer</p>')
        sidebar, machine = st.container(), st.container()
    notes, toolbar = (st.container(key=key) for key in ("notes", "toolbar"))
    with st.container(key="findrow"):
        asking, guide = st.container(key="find"), st.container(key="guide")
    live = st.empty()
    if not store.warm():  # the browser fetches its chart library while this process loads what it needs
        live.plotly_chart(charts.skeleton(), config=PLOT_CONFIG)
    data = st.container(key="data")
    return Frame(sidebar, machine, notes, toolbar, asking, guide, live, data)


# ---------------------------------------------------------------------------------------------------------------------
# The page


def _page(saved: Saved, job: Job, frame: Frame) -> None:
    ready = job.live is not None  # asked once: a run that becomes live while the page is drawn is drawn again
    with frame.machine:
        device_box(job)
    with frame.toolbar:
        _toolbar(saved, job)
    with frame.find:
        find.show(saved, job, opened.address_of)
    with frame.live.container(key="live"):
        _live(Scene(saved, job, frame.sidebar))
    with frame.data:
        if job.failure:
            opened.point_at_data(saved, job)
        elif not ready:
            _waiting(job, time.monotonic())


@st.fragment
def _live(scene: Scene) -> None:
    """Everything that follows the sliders; alone in running again when one moves.

    Few elements, and nothing sent before the figures are ready: the browser redraws its page for every batch of
    messages, and the chart has to wait for that. A chart whose curves stand still is not made again (see `point`).
    """
    with friendly():
        saved, live = scene.saved, scene.job.live
        drawing = look_up(saved, live)
        figure = drawing.figure()
        still, moving = charts.without_live(figure)
        above = ""
        if drawing.reading is not None:
            above = blocks.opening(words.opening(drawing.reading, saved.config["data"]["name"], drawing.x, drawing.y))
            above += blocks.figures_strip(
                drawing.reading, list(saved.called.values()), drawing.against_a, drawing.pair.short
            )
        aim.show(moving, figure["layout"]["margin"], saved.names, live)
        st.html(above + blocks.legend(charts.legend(figure)))
        with st.container(key="chart"):
            st.plotly_chart(Ready(still), config=PLOT_CONFIG, alt=charts.describe(figure))
        with scene.sidebar:
            begin = scene.job.begin if live is None else None
            panel.show(saved.objectives, lambda: urlencode(opened.address_of()), begin, called=saved.called)
        st.html("".join(_below(drawing)))
        if live is not None:
            changes.section(live, opened.address_of)
            live.look_ahead(drawing.scale, drawing.k, drawing.x, drawing.y)


def _below(drawing: Drawing) -> Iterator[str]:
    """What stands below the chart: the price in words, and the tables."""
    names = drawing.saved.names
    yield blocks.price_line(drawing.price(), drawing.k, drawing.remarks())
    yield find.apart(drawing.reading, drawing.against_a, names)
    yield blocks.fronts_table(drawing.curves, drawing.reading, drawing.scale, drawing.k)
    if drawing.reading is not None:
        said = blocks.skipped_words(drawing.reading, names, store.SPLIT)
        yield blocks.figures_table(
            drawing.reading, names, drawing.against_a, said, drawing.pair.title, drawing.saved.called
        )


@dataclass(frozen=True, eq=False)
class Drawing:
    """Everything to be drawn for the present state."""

    saved: Saved
    curves: tuple[Curve, ...]
    reading: Reading | None
    pinned: Reading | None
    against_a: list[words.Change] | None  # of the second choice compared with A, which may be B
    edge: tuple[np.ndarray, np.ndarray] | None
    trade: Callable[[], np.ndarray | None]
    ranges: np.ndarray
    x: str
    y: str
    k: int
    scale: float
    left_out: tuple[str, ...] = ()
    pinned_b: Reading | None = None
    extra: finding.Extra = field(default_factory=finding.Extra)

    @property
    def pair(self) -> Pair:
        """What is compared with what."""
        b = None if self.pinned_b is None else self.pinned_b.choice
        here = st.session_state[Key.CHOICE] if self.reading is None else self.reading.choice
        return pair(here, None if self.pinned is None else self.pinned.choice, b)

    def figure(self) -> charts.Figure:
        """The front chart."""
        figure = charts.front_figure(
            self.curves, self.reading, self.x, self.y, self.ranges, k=self.k, pinned=self.pinned, edge=self.edge,
            pinned_b=self.pinned_b, names=self.saved.names, view=f"{self.saved.entry.label}|{self.x}|{self.y}|{self.k}",
        )  # fmt: skip
        figure = charts_find.decorated(figure, self.extra, self.saved.names, self.x, self.y)
        return charts.worded(figure, self.saved.called)

    def price(self) -> str:
        """The trade-off in words, from the front in the plane shown."""
        names = self.saved.names
        i, j = names.index(self.x), names.index(self.y)
        if self.reading is None or not self.curves:
            return "This run has no front of its own to read a trade-off from."
        if i == j:
            return f"Both axes show {self.x}; choose two different ones to see what they cost each other."
        traded = self.trade()
        if traded is not None:
            return words.slope_sentence(self.x, self.y, traded)
        plane = self.edge[1][:, [i, j]] if self.edge is not None else self.curves[0].front.ndcg[:, [i, j]]
        if self.edge is None:
            plane = plane[charts.plane_order(plane)[0]]
        at = (float(self.reading.ndcg[i]), float(self.reading.ndcg[j]))
        return words.price_sentence(self.x, self.y, at, plane)

    def remarks(self) -> list[str]:
        """What has to be said about the figures: where they are not just the sliders', and what is not drawn."""
        out = [self.reading.note] if self.reading is not None and self.reading.note else []
        out += aim.said(self.reading.ndcg if self.reading is not None else None, self.saved.names)
        if self.left_out:
            out.append(
                f"Not drawn at NDCG@{self.k}, because measured on other terms only: {words.listed(self.left_out)}."
            )
        return out

    def rows(self) -> list[dict[str, Any]]:
        """The points for CSV and JSON."""
        return export.points(self.curves, self.reading, self.saved.names, self.saved.entry.label)


def look_up(saved: Saved, live: LiveRun | None) -> Drawing:
    """The drawing of the session's state: live where there is a model, else from the saved fronts."""
    s = st.session_state
    choice, pins, x, y, k = s[Key.CHOICE], (s.get(Key.PIN), s.get(Key.PIN_B)), s[Key.X], s[Key.Y], s[Key.K]
    if live is None:
        reading = store.saved_reading(saved, choice)
        pinned, pinned_b = (store.saved_reading(saved, pin) if pin else None for pin in pins)
        curves = store.saved_curves(saved)
        against = _against(pinned_b or reading, pinned, store.saved_change)
        return Drawing(
            saved, curves, reading, pinned, against, None, lambda: None, store.saved_ranges(saved), x, y, saved.k, 1.0,
            pinned_b=pinned_b,
        )  # fmt: skip
    reading = live.reading(choice, k)
    pinned, pinned_b = (live.reading(pin, k) if pin else None for pin in pins)
    against = _against(pinned_b or reading, pinned, live.change)
    return Drawing(
        saved, live.curves(choice.scale, k), reading, pinned, against, live.edge(x, y, choice.scale, k),
        lambda: live.trade(x, y, choice, k), live.ranges(k), x, y, k, choice.scale, tuple(live.left_out(k)),
        pinned_b, finding.extra(live, x, y, choice.scale, k, find.bars()),
    )  # fmt: skip


def _against(
    now: Reading | None, then: Reading | None, change: Callable[[Reading, Reading], Sequence[Interval] | None]
) -> list[words.Change] | None:
    """The change between two choices in percent, main first; None where one is missing or nothing is known by list."""
    moved = None if now is None or then is None else change(now, then)
    if moved is None or then is None:
        return None
    return [words.change(c.mean, c.low, c.high, float(o)) for c, o in zip(moved, then.ndcg, strict=True)]


# ---------------------------------------------------------------------------------------------------------------------
# Around the chart


def _toolbar(saved: Saved, job: Job) -> None:
    s, called = st.session_state, saved.called.__getitem__
    run, down, across, cut, sure, away = st.columns([2.2, 1.6, 1.6, 0.9, 1.2, 1.1], vertical_alignment="bottom")
    with run:
        labels = list(dict.fromkeys([saved.entry.label, *(e.label for e in store.list_runs())]))
        _choose("Run", sorted(labels, key=lambda v: (v != store.SHIPPED, v)), Key.RUN, opened.go_to_run,
                help=words_help.RUN)  # fmt: skip
    with down:
        _choose("Vertical axis", list(saved.names), Key.Y, help=words_help.AXIS, format_func=called)
    with across:
        _choose("Horizontal axis", list(saved.names), Key.X, help=words_help.AXIS, format_func=called)
    with cut:
        live = job.live is not None
        ks = sorted({*K_CHOICES, s[Key.K]}) if live else [saved.k]
        _choose("NDCG@", ks, Key.K, help=words_help.CUT, disabled=not live)
    with sure:
        s.setdefault(Key.BARS, find.DRAWN)
        _choose("95 % intervals", list(finding.BARS), Key.BARS, help=find.BARS_HELP, disabled=not live)
    with away:
        downloads(_take(saved, job), "away")


def _choose(label: str, options: list[Any], key: Key, then: Callable[[Any], None] | None = None, **rest: Any) -> None:
    """A select box whose value is kept under `key`, whether or not the box is on the page."""
    widget = f"{key}.box"
    value = st.session_state[key]
    st.session_state[widget] = value if value in options else options[0]

    def changed() -> None:
        if then is not None:
            then(st.session_state[widget])
        else:
            st.session_state[key] = st.session_state[widget]

    st.selectbox(label, options, key=widget, on_change=changed, **rest)


def _take(saved: Saved, job: Job) -> Take:
    """What can be taken away, as it stands when the box is opened."""
    s = st.session_state
    name = f"hyperdpo-{''.join(c if c.isalnum() else '-' for c in saved.entry.label)[-60:]}"
    shown = f"{s[Key.Y]} against {s[Key.X]}"
    return Take(
        name,
        saved.entry.label,
        {"The points": lambda: look_up(saved, job.live).rows()},
        {shown: lambda: look_up(saved, job.live).figure()},
        lambda paper: _report(saved, job, paper),
        lambda: _model(saved, job, name),
    )


def _report(saved: Saved, job: Job, paper: Paper) -> str:
    """The decision on one page: the choice as it stands, its figures, what else there was, and where it comes from.

    The chart stands on it as `paper` says; at the screen's size it takes the room there is.
    """
    drawing = look_up(saved, job.live)
    if drawing.reading is None:
        raise HyperDPOError("This run has no figures of its own to report.")
    config, reading = saved.config, drawing.reading
    listed = ",".join(f"{w:g}" for w in reading.weights)
    scale = f"--scale {drawing.scale:g}"
    title = f"{saved.entry.label}: {drawing.y} against {drawing.x}"
    data = config["data"]
    return report.html(
        report.Decision(
            run=saved.entry.label,
            names=tuple(saved.called.values()),
            reading=reading,
            curves=drawing.curves,
            price=drawing.price(),
            skipped=blocks.skipped_words(reading, saved.names, store.SPLIT),
            pinned=drawing.pinned,
            provenance=[
                ("run", f"{saved.entry.path} (method {config['method']['method']}, seed {config['seed']})"),
                ("data", f"{data['name']}, fingerprint {data['fingerprint'][:12]}, {store.SPLIT} split"),
                ("versions", ", ".join(f"{k} {v}" for k, v in config.get("versions", {}).items())),
                ("written", time.strftime("%Y-%m-%d %H:%M")),
            ],
            commands=[
                f"hyperdpo evaluate {saved.entry.path} {scale} --k {drawing.k}",
                f"hyperdpo export {saved.entry.path} --weights {listed} {scale} --format onnx --out model.onnx",
            ],
            chart=export.picture(drawing.figure(), title, "SVG", paper).decode() if export.has_browser() else "",
            inches=0.0 if paper.size == SCREEN.size else paper.target.inches[0],
        )
    )


def _model(saved: Saved, job: Job, name: str) -> None:
    """This trade-off as an ONNX model, made when it is asked for, and the command that makes the same one."""
    st.caption("This trade-off as a model (ONNX), for programs that know nothing of weights")
    if job.live is None:
        st.caption("The model is not ready yet.")
        return
    choice: Choice = st.session_state[Key.CHOICE]
    listed = ",".join(f"{w:g}" for w in choice.weights)
    st.code(
        f"hyperdpo export {saved.entry.path} --weights {listed} --scale {choice.scale:g} --out {name}.onnx",
        language=None, wrap_lines=True,
    )  # fmt: skip
    at = f"{saved.entry.label} {choice.to_text()}"
    about = (
        "Takes some seconds; the command above makes the same two files: the model, and a card that says how to use it."
    )
    if st.button("Make it here", width="stretch", help=about):
        st.session_state["away.model"] = at
    if st.session_state.get("away.model") == at:
        made = store.onnx_model(saved, job.live, choice, name)
        packed(made, "away.pack", "Save the ONNX model and its card", f"{name}.zip", "ZIP")


@st.fragment
def _waiting(job: Job, shown: float) -> None:
    """Progress while the model and its data are made ready; the saved fronts are on the page meanwhile.

    The work begins when the panel says that a chart is on the screen, since loading PyTorch keeps the server from
    answering; or, should that message not come, a while after the page was `shown`.
    """
    if job.live is not None or job.failure:
        st.rerun()
    if time.monotonic() - shown > HEAD_START_SECONDS:
        job.begin()
    st.caption(f"Shown are the saved fronts. Making the sliders live: {job.doing}, {job.seconds:.0f} s ...")
    ticker.show("explore.waiting", on=True, milliseconds=round(1000 * POLL_SECONDS))
