"""Your data: bring files, measure a run on them or train a new one, and follow what is running."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import blocks, bringing, store, ticker, words
from dashboard.bringing import Brought, Goal, Look
from dashboard.charts_small import small_front
from dashboard.jobs import DONE, FAILED, MEASURE, RUNNING, STOPPED, TRAIN, Job, Jobs
from dashboard.state import Key
from dashboard.store import RANK, TEXT, Prepared, Saved
from dashboard.views.common import (
    absent,
    add_note,
    address,
    chosen,
    foreign,
    fresh_address,
    friendly,
    plain_markdown,
    show_notes,
    write_lists,
)
from dashboard.words_bringing import BASES, BETTER, LABELS, METHODS, PRESETS
from hyperdpo.errors import HyperDPOError

TICK_MS, LOOK_MS = 1000, 400
COLUMNS = (
    ("Main label", "main", "The column the base ranker is trained on: relevance, rating ..."),
    ("Query id", "qid", "The column that says which rows are one list."),
)
STATE_WORDS = {RUNNING: "running", DONE: "done", STOPPED: "stopped", FAILED: "failed"}


def render() -> None:
    """The view."""
    with friendly():
        notes = st.container()
        jobs = Jobs(Path.cwd() / "runs")
        st.html(blocks.opening(
            "Bring your own data: measure a run on it, or train a new one. It stays on the machine this app runs on."
        ))  # fmt: skip
        _adopt_address()
        brought: Brought = st.session_state.setdefault(Key.BROUGHT, Brought())
        brought = _source(jobs, brought)
        _write_address(brought)
        if brought.files:
            _columns(brought)
            job = bringing.look(brought)
            job.begin()
            _looked(jobs, job)
        _jobs(jobs)
        show_notes(notes)


def _adopt_address() -> None:
    url = fresh_address(Key.BROUGHT_URL)
    if url:
        st.session_state[Key.BROUGHT], said = bringing.read_brought(url)
        add_note(*said, *foreign(url, bringing.KEYS))


def _write_address(brought: Brought) -> None:
    write_lists(bringing.write_brought(brought), Key.BROUGHT_URL)


def _keep(**changes: Any) -> None:
    st.session_state[Key.BROUGHT] = replace(st.session_state[Key.BROUGHT], **changes)
    st.session_state[Key.BROUGHT_URL] = address()  # a change is no wish to go back to the address as it was


def _one(field: str) -> Callable[[Any], None]:
    return lambda value: _keep(**{field: value if value is not None else ""})


# ---------------------------------------------------------------------------------------------------------------------
# The files


def _source(jobs: Jobs, brought: Brought) -> Brought:
    """Upload, or paths on this machine; what is there already is named."""
    if brought.files:
        names = [Path(f).name for f in brought.files]
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.html(f'<p class="hx-file"><strong>{escape(words.listed(names))}</strong></p>')
        right.button("Other files", key="yours.other", width="stretch", on_click=_forget, help="Put these files aside.")
        return brought
    upload, path = st.columns(2, gap="large")
    with upload:
        files = st.file_uploader(
            "Upload files", accept_multiple_files=True, key="yours.upload",
            help="Rankings as LETOR text (also .gz or .xz), CSV or Parquet; preferences as JSON lines. Up to 200 MB a "
            "file; larger ones by their path.",
        )  # fmt: skip
        st.caption("200 MB a file at the most: of a larger one give the path instead.")
    with path:
        typed = st.text_area(
            "Or files on this machine, one path a line", key="yours.paths", height=100,
            placeholder="/data/train.txt\n/data/test.txt",
            help="Files of one kind, or one data folder. Files named train, vali and test keep that split.",
        )  # fmt: skip
        pressed = st.button("Read them", key="yours.read", help="Read the files at these paths.")
    found: tuple[str, ...] = ()
    if files:
        found = bringing.keep_uploads(jobs.runs, [(f.name, f.getvalue()) for f in files])
    elif pressed:
        found = tuple(str(Path(line.strip()).expanduser()) for line in typed.splitlines() if line.strip())
        if not found:
            add_note("No path was given: write at least one.")
    if found:
        st.session_state[Key.BROUGHT] = replace(Brought(), files=found)
        st.rerun()
    return brought


def _forget() -> None:
    st.session_state[Key.BROUGHT] = Brought()
    st.session_state[Key.BROUGHT_URL] = address()


def _columns(brought: Brought) -> None:
    """What a reader may have to be told before it can read: which columns are what."""
    if bringing.kind_of(brought.files) == TEXT or Path(brought.files[0]).is_dir():
        return
    names = bringing.header(brought.files)
    places = st.columns(3)
    if names:
        for place, (label, field, told) in zip(places, COLUMNS, strict=False):
            value = getattr(brought, field)
            with place:
                chosen(
                    st.selectbox, label, f"yours.{field}", value if value in names else "", _one(field), ["", *names],
                    format_func=lambda n: n or "found by its name", help=told,
                )  # fmt: skip
    else:
        with places[0]:
            chosen(
                st.selectbox, "Known columns", "yours.preset", brought.preset, _one("preset"), list(PRESETS),
                format_func=PRESETS.__getitem__, help="Which columns of a well-known data set are objectives.",
            )  # fmt: skip


@st.fragment
def _looked(jobs: Jobs, job: Prepared[Look]) -> None:
    """What was read, and what can be done with it."""
    brought: Brought = st.session_state[Key.BROUGHT]  # as it is now: a fragment is run again by itself
    _write_address(brought)
    with friendly():
        job.wait(0.3)
        if job.failure:
            st.error(plain_markdown("  \n".join(job.failure.splitlines())))
            return
        look = job.live
        if look is None:
            st.caption(f"{words.capital(job.doing)}, {job.seconds:.0f} s ...")
            ticker.show("yours.look", on=True, milliseconds=LOOK_MS)
            return
        st.html(_facts(look))
        for note in look.notes:
            st.caption(plain_markdown(note))
        measure, train = st.columns(2, gap="large")
        with measure:
            _measure(jobs, brought, look)
        with train:
            _train(jobs, bringing.fitted(brought, look), look)


def _facts(look: Look) -> str:
    rows = "".join(
        f'<li><span class="hx-small">{escape(name)}</span><br>{escape(value)}</li>' for name, value in look.facts
    )
    return f'<ul class="hx-facts" aria-label="What was read">{rows}</ul>'


# ---------------------------------------------------------------------------------------------------------------------
# Measure


def _measure(jobs: Jobs, brought: Brought, look: Look) -> None:
    st.subheader("Measure a run on it")
    runs = {s.entry.label: s for s in store.open_all() if isinstance(s, Saved) and s.kind == look.kind}
    if not runs:
        st.markdown("There is no run of this kind yet: train one.")
        return
    fit = [label for label, run in runs.items() if bringing.fits(run.config, look)]
    if not fit:
        st.caption("No run here was trained on columns of these names: measuring one will say which it lacks.")
    names = [*fit, *(label for label in runs if label not in fit)]
    label = brought.run if brought.run in runs else names[0]
    seen = st.session_state.get("yours.run")  # what stood in the box as a button was pressed
    gone = next((r for r in (brought.run, seen) if r and r not in runs), "")
    if gone:
        st.info(plain_markdown(f"{absent(gone, 'run of this kind')} Chosen instead: {label}; nothing was started."))
        _keep(run=label)
    chosen(
        st.selectbox, "Run", "yours.run", label, _one("run"), names,
        help="It is measured on every list you brought, beside its own base.",
    )  # fmt: skip
    run = runs[label]
    if st.button("Measure", key="yours.measure", help="At 11 trade-offs, c = 1.") and not gone:
        command = bringing.measure_command(brought, run.entry.path)
        jobs.start(MEASURE, run.entry.path, command, f"Measuring {label} on {_named(brought)}")
        st.rerun()
    if st.button(
        "Explore it with the sliders", key="yours.explore",
        help="Opens the run on this data, measured on its test split: 20 % of the lists, unless the files say "
        "otherwise.",
    ) and not gone:  # fmt: skip
        st.session_state[Key.DATA] = {**st.session_state.get(Key.DATA, {}), label: look.path or brought.files[0]}
        _open(label, "text" if look.kind == TEXT else "explore")


def _open(run: str, view: str) -> None:
    st.switch_page(st.session_state[Key.PAGES][view], query_params={"run": run})


def _named(brought: Brought) -> str:
    return words.listed([Path(f).name for f in brought.files])


# ---------------------------------------------------------------------------------------------------------------------
# Train


def _train(jobs: Jobs, brought: Brought, look: Look) -> None:
    st.subheader("Train a model on it")
    chosen(
        st.multiselect, "Objectives", "yours.goals", [g.column for g in brought.goals],
        lambda v: _keep(goals=tuple(_goal(brought, look, c) for c in v)), [c.name for c in look.columns],
        placeholder="choose columns", help=f"What the sliders will weigh, up to {bringing.MOST_OBJECTIVES}. Each is a "
        "column that is then no longer a feature." if look.kind == RANK else "What the sliders will weigh.",
    )  # fmt: skip
    for i, goal in enumerate(brought.goals):
        _goal_row(brought, i, goal)
    usual = bringing.run_name(brought, jobs.runs)
    chosen(
        st.text_input, "Name of the run", "yours.name", brought.name or usual, _one("name"),
        help="It becomes a folder below runs/ and a line of the Runs page.",
    )  # fmt: skip
    with st.expander("More settings"):
        _settings(brought, look)
    if st.button("Start the training", type="primary", key="yours.train", help="It goes on when this page is closed."):
        out = jobs.runs / (brought.name or usual)
        jobs.start(TRAIN, out, bringing.train_command(brought, look, out), f"Training {out.name}")
        st.rerun()
    if brought.goals:
        with st.expander("The same from a terminal"):
            try:
                command = bringing.train_command(brought, look, Path("runs") / (brought.name or usual))
                st.code(bringing.shell(command), language="bash", wrap_lines=True)
            except HyperDPOError as error:
                st.caption(plain_markdown(str(error)))


def _goal(brought: Brought, look: Look, column: str) -> Goal:
    return next((g for g in brought.goals if g.column == column), None) or bringing.goal_for(look, column)


def _goal_row(brought: Brought, i: int, goal: Goal) -> None:
    def keep(field: str, value: Any) -> None:
        if value is not None:
            goals = list(brought.goals)
            goals[i] = replace(goal, **{field: value})
            _keep(goals=tuple(goals))

    left, right = st.columns(2)
    with left:
        chosen(
            st.selectbox, f"{goal.column}: its values are", f"yours.labels.{i}", goal.labels, partial(keep, "labels"),
            list(LABELS), format_func=LABELS.__getitem__, help="Counts of events are rare and mostly 0 (clicks, "
            "purchases); scores are there for every item (quality, price).",
        )  # fmt: skip
    with right:
        chosen(
            st.selectbox, f"{goal.column}: direction", f"yours.better.{i}", goal.better, partial(keep, "better"),
            list(BETTER), format_func=BETTER.__getitem__, help="Which way the business wants it.",
        )  # fmt: skip


def _settings(brought: Brought, look: Look) -> None:
    chosen(
        st.selectbox, "Method", "yours.method", brought.method, _one("method"), list(METHODS),
        format_func=METHODS.__getitem__, help="The others are there to be compared with.",
    )  # fmt: skip
    if look.kind == RANK:
        chosen(
            st.selectbox, "Base ranker", "yours.base", brought.base, _one("base"),
            list(BASES), format_func=BASES.__getitem__,
            help="What the sliders start from; it is trained first.",
        )  # fmt: skip
    else:
        chosen(
            st.text_input, "Base model", "yours.model", brought.model, _one("model"),
            help="A folder with a causal language model and its tokenizer, or the name of one on a hub.",
        )  # fmt: skip
        chosen(
            st.number_input, "Lists, at most", "yours.lists", brought.lists, lambda v: _keep(lists=int(v or 1)), 10,
            1_000_000, step=100, help="The first ones. Without a GPU a few hundred take minutes, thousands hours.",
        )  # fmt: skip
        chosen(
            st.number_input, "Tokens of a response, at most", "yours.response", bringing.response_tokens(brought),
            lambda v: _keep(response=int(v or 0)), 8, 8192, help="Longer responses are cut, and counted.",
        )  # fmt: skip
    left, right = st.columns(2)
    with left:
        chosen(
            st.number_input, "Epochs, at most", "yours.epochs", brought.epochs or (3 if look.kind == TEXT else 15),
            lambda v: _keep(epochs=int(v or 0)), 1, 1000, help="Passes over the training lists. Training ends earlier "
            "where validation no longer gets better.",
        )  # fmt: skip
    with right:
        chosen(
            st.number_input, "Seed", "yours.seed", brought.seed, lambda v: _keep(seed=int(v or 0)), 0, 10**6,
            help="Of everything random: the same seed gives the same run.",
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# What is running, and what came of it


def _jobs(jobs: Jobs) -> None:
    found = jobs.all()
    if not found:
        return
    st.subheader("Trainings and measurements")
    for job in found[:20]:
        with st.container(border=True, key=f"job.{job.name}"):
            _job(jobs, job)
    if len(found) > 20:
        st.caption(f"{len(found) - 20} older ones are not shown; take some off the list to see them.")


@st.fragment
def _job(jobs: Jobs, job: Job) -> None:
    with friendly():
        state, watched = jobs.state(job), f"watched.{job.name}"
        if st.session_state.get(watched) == RUNNING and state != RUNNING:
            st.session_state[watched] = state
            st.rerun()  # the whole page: lists of runs have changed
        st.session_state[watched] = state
        left, right = st.columns([4, 1.2], vertical_alignment="top")
        with left:
            _told(jobs, job, state)
        with right:
            _buttons(jobs, job, state)
        if state == RUNNING:
            ticker.show(f"tick.{job.name}", on=True, milliseconds=TICK_MS)


def _told(jobs: Jobs, job: Job, state: str) -> None:
    took = blocks.seconds(jobs.seconds(job))
    st.html(
        f'<p class="hx-job" role="status"><strong>{escape(job.title)}</strong> '
        f'<span class="hx-small">{STATE_WORDS[state]}, {took}</span></p>'
    )
    said = jobs.said(job)
    if state == RUNNING:
        progress = jobs.progress(job)
        if progress is not None and progress.total > 0:
            share = min(1.0, progress.done / progress.total)
            note = f", {progress.note}" if progress.note and "nan" not in progress.note else ""
            st.progress(share, text=plain_markdown(f"{progress.what}: {progress.done:,} of {progress.total:,}{note}"))
        else:
            st.progress(0.0, text="starting")
    if state == FAILED:
        st.error(plain_markdown("  \n".join(said[-6:]) or "It ended without a word; start it again."))
    elif state == STOPPED:
        st.caption("What was finished is kept: it goes on where it stopped.")
    if state == DONE and job.kind == MEASURE:
        _measured(jobs, job)
    if said and state != FAILED:
        with st.expander("What it says"):
            st.code("\n".join(said), language=None, wrap_lines=True)


def _buttons(jobs: Jobs, job: Job, state: str) -> None:
    key = f"yours.job.{job.name}"
    if state == RUNNING:
        if st.button("Stop", key=f"{key}.stop", width="stretch", help="What is finished is kept."):
            jobs.stop(job)
        return
    if state == STOPPED and st.button("Go on", key=f"{key}.resume", width="stretch", type="primary",
                                      help="Resumes the training where it stopped."):  # fmt: skip
        jobs.resume(job)
        st.rerun()
    if state == DONE and job.kind == TRAIN and st.button("Open the run", key=f"{key}.open", width="stretch",
                                                         help="Its sliders and figures."):  # fmt: skip
        _open(Path(job.run).name, "text" if job.command[1] == "text" else "explore")
    if st.button(
        "Take off the list",
        key=f"{key}.forget",
        width="stretch",
        help="A run that was trained stays, and so does one that can go on; what a failed one left is removed.",
    ):
        jobs.forget(job)
        st.rerun()


def _measured(jobs: Jobs, job: Job) -> None:
    """The fronts that `evaluate` found, as a table and to take away."""
    from hyperdpo.front import ParetoFront

    found = jobs.result(job)
    fronts = [ParetoFront.from_dict(f) for f in found["fronts"]] if found else []
    if not found or not fronts:
        st.caption("Its result cannot be read any more.")
        return
    own = fronts[0]
    head = ["front", "", "hypervolume", f"{own.main}, mean ± spread", *(f"{n}, best" for n in own.objectives)]
    base = next((f for f in fronts if f.method == "base"), None)
    rows = []
    for front in fronts:
        best = [f"{v:.3f}" for v in front.auxiliary.max(0)]
        cells = [
            small_front(front, base), escape(words.volume(front.hypervolume)),
            f"{front.main_mean:.3f} ± {front.main_std:.3f}", *best,
        ]  # fmt: skip
        rows.append(blocks.row(f'<th scope="row">{escape(front.name)}</th>', cells, head, escaped=True))
    st.html(blocks.table(head, rows, f"On all {found['lists']:,} lists, at c = 1", left=(0, 1)))
    metric = "NDCG" if own.metric != "cross-entropy" else "minus the cross-entropy"
    st.caption(f"Objectives are {metric}; more is better.")
    st.download_button(
        "Download the figures, JSON", json.dumps(found, indent=1), f"{job.name}.json", "application/json",
        key=f"yours.job.{job.name}.json", on_click="ignore", help="Every point with its 95 % interval.",
    )  # fmt: skip
