"""Text: a prompt and sliders on one side, the answer beside the base's on the other, and what the test lists say."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

import numpy as np
import streamlit as st

from dashboard import blocks, blocks_text, charts, charts_text, panel, point, store, text_store, ticker, words_help
from dashboard import marks as differences
from dashboard import words_text as said
from dashboard.pairs import Pair, pair
from dashboard.readings import Curve, TextReading
from dashboard.state import (
    LENGTHS,
    LONGEST_PROMPT,
    LOWEST_TEXT_SCALE,
    TEXT_KEYS,
    Choice,
    Key,
    Telling,
    equal_choice,
    read_pins,
    read_telling,
    write_pins,
    write_telling,
)
from dashboard.store import Prepared, RunEntry, Saved
from dashboard.text_store import Ask, Lists, TextLive, Wish, Writing
from dashboard.views.common import (
    PLOT_CONFIG,
    Ready,
    Take,
    add_note,
    asked_first,
    asked_run,
    chosen_device,
    default_axes,
    device_box,
    downloads,
    foreign,
    friendly,
    packed,
    plain_markdown,
    show_notes,
    write_address,
)
from hyperdpo.errors import HyperDPOError

if TYPE_CHECKING:
    from hyperdpo.text.generate import Sampling

SEAT = panel.Seat(".text", LOWEST_TEXT_SCALE, said.EXTRAPOLATION)
AXIS_HELP = "Which objective's test cross-entropy, in nats, is drawn along this axis: less is better."
STREAM_MS, LOAD_MS, MEASURE_MS = 100, 1000, 400
QUICK_SECONDS = 0.1
RANGE_SCALES = (0.7, 1.0, 1.4, 2.0, 3.0, 5.0)  # the axes are made to hold the fronts at these


@dataclass(frozen=True, eq=False)
class Scene:
    """What the live part of the page draws, and where: fixed between two full runs of the script."""

    saved: Saved
    job: Prepared[TextLive]
    ready: bool
    sidebar: Any


def render() -> None:
    """The view."""
    with friendly():
        with st.sidebar:
            st.html('<p class="hx-brand">HyperDPO Explorer</p>')
            sidebar, machine = st.container(), st.container()
        saved = _open_run()
        if saved is None:
            return
        _take_url(saved)
        show_notes(st.container(key="notes"))
        job = text_store.live(saved, chosen_device())
        job.wait(QUICK_SECONDS if job.live is None else 0)
        _toolbar(saved, job)
        _prompt(saved)
        with machine:
            device_box(job)
        with st.container(key="live"):
            _live(Scene(saved, job, job.live is not None, sidebar))
        if len(saved.objectives) > 2:
            _axes(saved.objectives)
        write_address(_url(), Key.TEXT_URL)


# ---------------------------------------------------------------------------------------------------------------------
# Which run, and what the URL wants


def _open_run() -> Saved | None:
    """The text run of the URL or the session; a sentence and the first one that opens, where it cannot be had."""
    entries = store.list_runs(store.TEXT)
    order, notes = asked_first(entries, asked_run(Key.TEXT_RUN, Key.TEXT_URL), "text run")
    for entry in order:
        try:
            saved = store.saved(entry, store.TEXT)
        except (HyperDPOError, OSError) as error:
            notes += str(error).splitlines()
            continue
        if notes:
            add_note(*notes, f"Shown instead: {entry.label}.")
        if st.session_state.get(Key.TEXT_RUN) != entry.label:
            _switch(saved)
        return saved
    for line in notes:
        st.warning(plain_markdown(line))
    st.subheader("No text run to show yet")
    st.markdown(
        "Train one with `hyperdpo train text --model YOUR_MODEL --data YOUR_FILE --out runs/first` and start the "
        "dashboard in the folder that holds `runs/`."
    )
    return None


def _switch(saved: Saved) -> None:
    """Start afresh with another run; what the URL says about it comes after."""
    s = st.session_state
    s[Key.TEXT_RUN] = saved.entry.label
    panel.set_choice(equal_choice(len(saved.objectives)), seat=SEAT)
    x, y = default_axes(saved) if len(saved.objectives) > 1 else saved.objectives * 2
    strip = saved.config["base"].get("parameters", 0) < 100_000_000  # a larger model is asked for eleven answers
    s[Key.TELLING] = Telling(text_store.openings(saved)[0], x, y, strip=strip)


def _take_url(saved: Saved) -> None:
    """Adopt what the URL says if it is not what this page wrote itself."""
    url = st.query_params.to_dict()
    if url == st.session_state.get(Key.TEXT_URL) or not url:
        return
    choice, telling, notes = read_telling(url, saved.objectives, st.session_state[Key.TELLING])
    found: list[str] = []
    a, b = (_floored(pin) for pin in read_pins(url, len(saved.objectives), found))
    if choice is not None or a is not None:
        panel.set_choice(choice or panel.current(SEAT).choice, a, SEAT, b)
    st.session_state[Key.TELLING] = telling
    add_note(*notes, *found, *foreign(url, TEXT_KEYS))


def _floored(pin: Choice | None) -> Choice | None:
    """A pinned choice with c in this view's range."""
    return None if pin is None else replace(pin, scale=max(pin.scale, SEAT.low))


def _url() -> dict[str, str]:
    s = st.session_state
    now = panel.current(SEAT)
    return write_telling(s[Key.TEXT_RUN], now.choice, s[Key.TELLING]) | write_pins(now.pin, now.pin_b)


def _pair() -> Pair:
    """The two choices whose answers are compared."""
    now = panel.current(SEAT)
    return pair(now.choice, now.pin, now.pin_b)


def _telling() -> Telling:
    told: Telling = st.session_state[Key.TELLING]
    return told


def _tell(**fields: Any) -> None:
    st.session_state[Key.TELLING] = replace(_telling(), **fields)


def _kept(widget: Any, label: str, field: str, value: Any, *args: Any, **rest: Any) -> None:
    """A widget whose value is a field of Telling."""
    key = f"text.{field}"
    st.session_state[key] = value

    def changed() -> None:
        # the browser may not have heard of the last address yet: that older one is no wish to go back
        st.session_state[Key.TEXT_URL] = st.query_params.to_dict()
        _tell(**{field: st.session_state[key]})

    widget(label, *args, key=key, on_change=changed, **rest)


# ---------------------------------------------------------------------------------------------------------------------
# Above the answers


def _toolbar(saved: Saved, job: Prepared[TextLive]) -> None:
    with st.container(key="texttools"):
        run, draws, model, away = st.columns([2.6, 1.2, 1.2, 1.2], vertical_alignment="bottom")
        with run:
            labels = list(dict.fromkeys([saved.entry.label, *(e.label for e in store.list_runs(store.TEXT))]))
            st.session_state["text.run"] = saved.entry.label
            st.selectbox("Run", labels, key="text.run", on_change=_go_to_run, help=words_help.RUN)
        with draws, st.popover("Sampling", width="stretch", help="How words are drawn, and how many."):
            _sampling_box()
        with model:
            about = "This trade-off as a model of its own that other programs can load."
            with st.popover("Export", width="stretch", on_change="rerun", key="text.model", help=about) as box:
                if box.open:
                    _adapter(saved, job)
        with away:
            downloads(_take(saved, job), "text.away")


def _go_to_run() -> None:
    label = st.session_state["text.run"]
    st.session_state[Key.TEXT_URL] = st.query_params.to_dict()
    entry = next((e for e in store.list_runs(store.TEXT) if e.label == label), RunEntry(label, Path(label)))
    try:
        _switch(store.saved(entry, store.TEXT))
    except (HyperDPOError, OSError) as error:
        add_note(*str(error).splitlines())


def _sampling_box() -> None:
    told = _telling()
    _kept(st.slider, "Temperature", "temperature", told.temperature, 0.0, 2.0, step=0.05,
          help="0 always takes the likeliest word; higher is more varied.")  # fmt: skip
    _kept(st.slider, "Top-p", "top_p", told.top_p, 0.05, 1.0, step=0.05,
          help="Words are drawn from the likeliest ones that have this much probability together.")  # fmt: skip
    lengths = sorted({*LENGTHS, told.length})
    _kept(st.select_slider, "Longest answer, tokens", "length", told.length, lengths,
          help="Where an answer is cut at the latest; a token is about three quarters of a word.")  # fmt: skip
    _kept(st.number_input, "Seed", "seed", told.seed, 0, 10**9, step=1,
          help="The same seed draws the same answer again.")  # fmt: skip


def _prompt(saved: Saved) -> None:
    """The prompt box, its examples, and another draw."""
    told = _telling()
    examples = text_store.openings(saved)
    _kept(
        st.text_area, "Beginning of the text", "prompt", told.prompt, height=68, max_chars=LONGEST_PROMPT,
        placeholder="Write how it begins ...",
        help="The model and its base go on from here, word by word.",
    )  # fmt: skip
    with st.container(key="textasks", horizontal=True, vertical_alignment="bottom"):
        st.button("Write", type="primary", on_click=_write_again, help="Ctrl + Enter in the box does the same.")
        st.button(
            "Another draw",
            on_click=lambda: _tell(seed=_telling().seed + 1),
            help="The same prompt and sliders with the next seed.",
        )
        st.session_state["text.example"] = None
        st.selectbox(
            "Examples", range(len(examples)), key="text.example", format_func=lambda i: examples[i][:120],
            placeholder="Try an example ...", width=360, help="Beginnings from the data of this run.",
            on_change=lambda: _tell(prompt=examples[st.session_state["text.example"] or 0]),
        )  # fmt: skip
        if len(saved.objectives) > 1:
            about = "The same prompt answered at 11 weights in one batch, from only one objective to only another."
            _kept(st.toggle, "Strip of weights", "strip", told.strip, help=about)


def _write_again() -> None:
    """Go on where an answer was stopped or failed."""
    st.session_state.pop(Key.WRITING, None)


# ---------------------------------------------------------------------------------------------------------------------
# What follows the sliders


@st.fragment
def _live(scene: Scene) -> None:
    """Alone in running again when a slider moves; the parts that grow run by themselves."""
    with friendly():
        with scene.sidebar:
            panel.show(scene.saved.objectives, lambda: urlencode(_url()), seat=SEAT)
        _texts(scene)
        _entropies(scene)


def _wish(saved: Saved, model: TextLive) -> Writing:
    """The answers for the present state, begun if they are not; those of an older state are stopped."""
    s = st.session_state
    wish = wanted(model, saved)
    writing: Writing | None = s.get(Key.WRITING)
    if writing is None or writing.wish != wish or writing.live is not model:
        if writing is not None:
            writing.stop()
        writing = s[Key.WRITING] = Writing(model, wish, settle=writing is not None)
    return writing


def wanted(model: TextLive, saved: Saved) -> Wish:
    """What the page shows in its present state: the two answers compared, the base's last, then the strip."""
    told, choice, compared = _telling(), panel.current(SEAT).choice, _pair()
    drawn = _drawn(told)
    sides = [c for c in (compared.after, compared.before) if c is not None]
    asked = [Ask(told.prompt, drawn, model.nearest(c.weights)[0], c.scale) for c in sides]
    first = (*asked, Ask(told.prompt, drawn))
    if not _strips(saved):
        return Wish((first,))
    return Wish((first, tuple(Ask(told.prompt, drawn, w, choice.scale) for w in model.strip(told.x, told.y))))


def _strips(saved: Saved) -> bool:
    """Whether the prompt is answered at 11 weights too: of one objective there are no weights to choose from."""
    return _telling().strip and len(saved.objectives) > 1


def _drawn(told: Telling) -> Sampling:
    from hyperdpo.text.generate import Sampling

    return Sampling(told.length, told.temperature, told.top_p, told.seed)


@st.fragment
def _texts(scene: Scene) -> None:
    """The answers and the strip, as far as they are written."""
    with friendly():
        saved, model, names = scene.saved, scene.job.live, scene.saved.objectives
        if model is None or not scene.ready:
            _loading(scene)
            return
        writing = _wish(saved, model)
        running = writing.running  # read once, and before the texts: what ends meanwhile is drawn at the next look
        asks, measures = writing.wish.stages[0], model.measures
        compared = _pair()
        heads = _heads(compared)
        found = [writing.text(a) for a in asks]
        rows = [(h, t.text, t.ended, t.scores, running and not t.ended) for h, t in zip(heads, found, strict=True)]
        after, before = found[0], found[1]
        marks: tuple[str, ...] = ()
        if _marks(compared) and after.ended and before.ended:
            marks = differences.marked(before.text, after.text)[::-1]
        if compared.now == "B":  # A is read first
            rows[:2], marks = rows[1::-1], marks[::-1]
        below = differences.difference(compared.title, before.scores, after.scores, names, measures)
        st.html(
            blocks_text.answers(asks[0].prompt, rows, names, measures, marks)
            + f'<p class="hx-small hx-differ">{escape(below)}&nbsp;</p>'
        )
        for line in writing.failure:
            st.error(plain_markdown(line))
        remark = model.nearest(panel.current(SEAT).choice.weights)[1] or model.note
        if remark:
            st.caption(plain_markdown(remark))
        with st.container(key="textstate", horizontal=True, vertical_alignment="center"):
            if running:
                st.button("Stop", on_click=writing.stop, key="text.stop", help="Keeps what has been written so far.")
            elif writing.stopped:
                st.caption("Stopped. Write begins again.")
            about = f"Words that only {compared.now} has are underlined, those that only {compared.then} has struck."
            st.session_state["text.marks"] = _marks(compared)
            st.toggle("Mark differences", key="text.marks", help=about, on_change=_keep_marks)
        if len(writing.wish.stages) > 1:
            _strip(writing, running, names, model)
        ticker.show("text.tick", on=running, milliseconds=STREAM_MS)


def _marks(compared: Pair) -> bool:
    """Whether differences are marked: as chosen, else where a choice is pinned to be compared with."""
    chosen: bool | None = st.session_state.get(Key.MARKS)
    return compared.before is not None if chosen is None else chosen


def _keep_marks() -> None:
    st.session_state[Key.MARKS] = st.session_state["text.marks"]


def _heads(compared: Pair) -> list[str]:
    """What stands above each answer: what is compared, then with what, then the base's."""
    now, a = "With these sliders" if compared.now == "now" else "B", compared.before
    heads = [f"{now}{_scale_words(compared.after.scale)}", *([f"A{_scale_words(a.scale)}"] if a is not None else [])]
    return [*heads, "Base model"]


def _scale_words(scale: float) -> str:
    if scale == 1:
        return ""
    return f", c = {scale:g}{' (extrapolated)' if scale < 1 else ''}"


def _loading(scene: Scene) -> None:
    job = scene.job
    if job.failure:
        st.error(plain_markdown(job.failure))
        if st.button("Try again", help="Load the model once more."):
            text_store.forget(scene.saved, chosen_device())
            st.rerun()
        return
    if job.live is not None:
        st.rerun()
    if "torch" in sys.modules or st.session_state.get("text.loading.count"):
        job.begin()  # not before the browser has drawn the page: loading PyTorch keeps the server busy
    empty = [(head, "", "", (), True) for head in ("With these sliders", "Base model")]
    st.html(blocks_text.answers(_telling().prompt, empty, (), ()))
    st.caption(f"Making the model ready: {job.doing}, {job.seconds:.0f} s ...")
    ticker.show("text.loading", on=True, milliseconds=LOAD_MS)


def _strip(writing: Writing, running: bool, names: tuple[str, ...], model: TextLive) -> None:
    asks = writing.wish.stages[1]
    weights = [a.weights or () for a in asks]
    found = [writing.text(a) for a in asks]
    now = np.array(panel.current(SEAT).choice.weights)
    far = [float(np.abs(np.array(w) - now).max()) for w in weights]
    here = int(np.argmin(far)) if min(far) < 0.051 else None
    begun = any(t.text or t.ended for t in found)
    rows = [(t.text, t.scores, running and begun and not t.ended) for t in found]
    st.html(blocks_text.strip(weights, rows, names, model.measures, here))


# ---------------------------------------------------------------------------------------------------------------------
# Cross-entropy


@dataclass(frozen=True, eq=False)
class Front:
    """What the cross-entropy part draws."""

    curves: tuple[Curve, ...]
    reading: TextReading | None
    ranges: np.ndarray
    x: str
    y: str
    scale: float
    view: str

    def figure(self) -> charts.Figure:
        """The front chart."""
        return charts_text.entropy_figure(self.curves, self.reading, self.x, self.y, self.ranges, view=self.view)


def look_up(saved: Saved, lists: Lists | None) -> Front:
    """The fronts of the present state: moved with c where the lists are at hand, else as saved."""
    told, choice = _telling(), panel.current(SEAT).choice
    curves = lists.curves(choice.scale) if lists else store.saved_curves(saved)
    user = st.session_state.setdefault(Key.USER, uuid4().hex)
    reading = lists.reading(choice, user) if lists else None
    wide = [c for s in RANGE_SCALES for c in lists.curves(s)] if lists else list(curves)
    ranges = charts_text.entropy_ranges(wide)
    view = f"{saved.entry.label}|{told.x}|{told.y}|{lists is not None}"  # the axes change once, as c comes alive
    return Front(curves, reading, ranges, told.x, told.y, choice.scale if lists else 1.0, view)


@st.fragment
def _entropies(scene: Scene) -> None:
    """The front of test cross-entropy with the live point, refined while more lists are measured."""
    with friendly():
        saved, model = scene.saved, scene.job.live
        if not saved.fronts:
            st.caption("This run has no measured front yet: run `hyperdpo evaluate` on it.")
            return
        job = text_store.lists(saved, model, _given(saved)) if model is not None else None
        if job is not None:
            job.begin()
        lists = job.live if job is not None else None
        names, choice = saved.objectives, panel.current(SEAT).choice
        failure = job.failure if job is not None else ""
        failed = lists is not None and lists.failed(choice)
        shown = look_up(saved, lists)
        read = shown.reading
        waiting = job is not None and not failure and not failed and (read is None or read.lists < read.total)
        st.html(
            '<h2 class="hx-section">Does it follow the preferences?</h2><p class="hx-small">Cross-entropy says how '
            "well the model ranks answers it has never seen as the preferences do. Less is better; chance is the "
            "untouched base.</p>"
        )
        figure = shown.figure()
        still, moving = charts.without_live(figure)
        point.show(point.Moving(moving, figure["layout"]["margin"], choice, (shown.x, shown.y)))
        above = blocks_text.entropy_strip(read, names) if read else ""
        st.html(above + blocks.legend(charts.legend(figure)))
        with st.container(key="chart"):
            st.plotly_chart(Ready(still), config=PLOT_CONFIG, alt=charts.describe(figure))
        lines = []
        if lists is not None:
            lines = [said.entropy_sentence(read, names)] if read else []
            lines += [said.UNMEASURED if failed else said.progress(read, len(lists.labels))]
            lines += [said.chance_words(lists.labels.chance), lists.note]
        st.html(_lines(lines) + blocks_text.fronts(shown.curves, names, shown.scale))
        if job is not None and failure:
            _point_at_lists(saved, job)
        ticker.show("text.measure", on=waiting, milliseconds=MEASURE_MS)


def _lines(lines: list[str]) -> str:
    from html import escape

    out = [f'<p class="{"hx-price" if i == 0 else "hx-small"}">{escape(t)}</p>' for i, t in enumerate(lines) if t]
    return "".join(out)


def _axes(names: tuple[str, ...]) -> None:
    told = _telling()
    with st.container(key="textaxes"):
        down, across, _ = st.columns([1.4, 1.4, 2])
        with down:
            _kept(st.selectbox, "Vertical axis, end of the strip", "y", told.y, list(names), help=AXIS_HELP)
        with across:
            _kept(st.selectbox, "Horizontal axis, beginning of the strip", "x", told.x, list(names), help=AXIS_HELP)


def _given(saved: Saved) -> str | None:
    data: Mapping[str, str] = st.session_state.get(Key.DATA, {})
    return data.get(saved.entry.label)


def _point_at_lists(saved: Saved, job: Prepared[Lists]) -> None:
    st.warning(plain_markdown(f"{job.failure} The saved fronts are shown, without a live point."))
    path = st.text_input(
        "Path of the preference lists on this machine", placeholder="/path/to/lists.jsonl",
        help="JSON lines of prompts, responses and scores, as the run was trained on; they stay here.",
    )  # fmt: skip
    if path.strip() and path.strip() != _given(saved):
        st.session_state[Key.DATA] = {**st.session_state.get(Key.DATA, {}), saved.entry.label: path.strip()}
        st.rerun()


# ---------------------------------------------------------------------------------------------------------------------
# Taking things away


def _take(saved: Saved, job: Prepared[TextLive]) -> Take:
    model = job.live
    lists_job = text_store.lists(saved, model, _given(saved)) if model is not None else None
    lists = lists_job.live if lists_job is not None else None

    def texts() -> list[dict[str, Any]]:
        writing: Writing | None = st.session_state.get(Key.WRITING)
        if model is None or writing is None:
            return []
        return text_rows(writing, saved.objectives, saved.entry.label)

    def points() -> list[dict[str, Any]]:
        return point_rows(look_up(saved, lists), saved.objectives, saved.entry.label)

    def strip() -> charts.Figure:
        return strip_figure(saved, model)

    name = f"hyperdpo-{''.join(c if c.isalnum() else '-' for c in saved.entry.label)[-60:]}"
    figures = {"Cross-entropy front": lambda: look_up(saved, lists).figure()}
    if model is not None and _strips(saved):
        figures["Measured along the strip"] = strip
    return Take(name, saved.entry.label, {"The texts": texts, "The fronts": points}, figures)


def text_rows(writing: Writing, names: tuple[str, ...], run: str) -> list[dict[str, Any]]:
    """Every answer on the page as a flat row: prompt, w, c, seed, text, and what was measured on it."""
    rows = []
    for ask in dict.fromkeys(a for stage in writing.wish.stages for a in stage):
        text = writing.text(ask)
        drawn = ask.sampling
        row: dict[str, Any] = {"run": run, "model": "base" if ask.weights is None else "tuned", "prompt": ask.prompt}
        row |= {f"w.{n}": None if ask.weights is None else round(ask.weights[j], 6) for j, n in enumerate(names)}
        row |= {"c": ask.scale, "seed": drawn.seed, "temperature": drawn.temperature, "top_p": drawn.top_p}
        row |= {"text": text.text, "ended": text.ended}
        scores = text.scores or (float("nan"),) * len(names)
        row |= {f"measured.{n}": v if np.isfinite(v) else None for n, v in zip(names, scores, strict=True)}
        rows.append(row)
    return rows


def point_rows(shown: Front, names: tuple[str, ...], run: str) -> list[dict[str, Any]]:
    """Every point of the chart as a flat row: front, w, c, cross-entropy by objective; the live one with intervals."""
    rows: list[dict[str, Any]] = []
    for curve in shown.curves:
        front = curve.front
        for i, values in enumerate(front.cross_entropy if front.cross_entropy is not None else ()):
            weights = front.weights[i] if front.weights.shape[1] else [None] * len(names)
            row: dict[str, Any] = {"run": run, "front": front.name, "c": front.scale, "lists": None}
            row |= {f"w.{n}": None if w is None else round(float(w), 6) for n, w in zip(names, weights, strict=True)}
            row |= {f"cross_entropy.{n}": round(float(v), 7) for n, v in zip(names, values, strict=True)}
            rows.append(row | {f"{end}.{n}": None for n in names for end in ("low", "high")})
    live = shown.reading
    if live is not None:
        row = {"run": run, "front": "live point", "c": live.choice.scale, "lists": live.lists}
        row |= {f"w.{n}": round(w, 6) for n, w in zip(names, live.weights, strict=True)}
        row |= {f"cross_entropy.{n}": round(e.mean, 7) for n, e in zip(names, live.entropy, strict=True)}
        for n, e in zip(names, live.entropy, strict=True):
            row |= {f"low.{n}": round(e.low, 7), f"high.{n}": round(e.high, 7)}
        rows.append(row)
    return rows


def strip_figure(saved: Saved, model: TextLive | None) -> charts.Figure:
    """What was measured on the texts of the strip."""
    writing: Writing | None = st.session_state.get(Key.WRITING)
    told, names = _telling(), saved.objectives
    if model is None or writing is None or len(writing.wish.stages) < 2:
        return charts.skeleton()
    asks = writing.wish.stages[1]
    missing = (float("nan"),) * len(names)
    scores = [writing.text(a).scores or missing for a in asks]
    base = writing.text(writing.wish.stages[0][-1]).scores or None
    ends = (told.x, told.y) if model.run.trained is None else (told.x, told.x)
    return charts_text.strip_figure(names, [a.weights or () for a in asks], scores, base, *ends)


def _adapter(saved: Saved, job: Prepared[TextLive]) -> None:
    """The model at the present weights as a zip."""
    choice = panel.current(SEAT).choice
    st.caption("This trade-off as a model of its own, for programs that know nothing of weights.")
    if job.live is None:
        st.caption("The model is not ready yet.")
        return
    if choice.scale != 1.0:
        st.info(plain_markdown(said.C_ONLY))
        return
    if saved.config["base"].get("parameters", 0) > text_store.LARGEST_ZIP:
        listed = ",".join(f"{w:g}" for w in choice.weights)
        st.info("This model is too large to pack here; on this machine, run")
        st.code(f"hyperdpo export {saved.entry.path} --weights {listed} --format peft --out DIR", language=None)
        return
    form = st.segmented_control(
        "Form", ["peft", "merged"], default="peft", key="text.form",
        format_func=lambda f: {"peft": "PEFT adapter"}.get(f, f),
        help="An adapter is small and needs its base model beside it; merged is one whole model.",
    ) or "peft"  # fmt: skip
    weights, note = job.live.nearest(choice.weights)
    if note:
        st.caption(plain_markdown(note))
    name = "-".join(f"{n}{100 * w:.0f}" for n, w in zip(saved.objectives, weights, strict=True) if w >= 0.005)
    file = f"{saved.entry.label[-40:].strip('/')}-{name}.zip"
    packed(text_store.adapter(job.live, weights, form), "text.pack", "Save the zip", file, "ZIP")
