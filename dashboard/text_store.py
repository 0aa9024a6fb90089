"""Text runs live: answers written by threads, cross-entropies over the test lists, adapters to take away. No layout.

The model is one, its users are many: every forward pass takes its lock, a token at a time, and whoever writes an answer
goes before whoever measures.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboard.readings import Curve, TextReading
from dashboard.state import Choice
from dashboard.store import (
    Kept,
    Prepared,
    Saved,
    cuda_sentence,
    devices,
    is_cuda_out_of_memory,
    method_of,
    release_cuda,
    shares,
)
from hyperdpo.errors import DataError, HyperDPOError

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.text.data import Preferences
    from hyperdpo.text.evaluate import TextTable
    from hyperdpo.text.generate import Sampling
    from hyperdpo.text.run import TextRun

OPENINGS = "openings.txt"
EXAMPLES = "examples.txt"  # chosen to be read first
OWN_OPENINGS = (
    "One morning a fox found a small red key in the snow.",
    "The old man opened the door and smiled.",
    "It was raining, and the two friends had nothing to do.",
)
STRIP_POINTS = 11
FIRST_LISTS, CHUNK = 16, 10  # lists measured before the first figure is shown, and between two others: an answer waits
SETTLE_SECONDS = 0.12  # a slider that still moves asks for nothing
MAX_TEXTS, MAX_LIVE, MAX_MEASURED = 2048, 2, 128
SAME_ENTROPY = 2e-3  # how near a stored front must come to its own figures before it may be moved with c
LARGEST_ZIP = 600_000_000  # parameters of a model that the page packs; a larger one is exported by the command
SHUFFLE_SEED = 7
Weights = tuple[float, ...]


def openings(folder: Saved) -> tuple[str, ...]:
    """Prompts to begin with: examples chosen for the run, those it was trained on, else a few of ours."""
    for name in (EXAMPLES, OPENINGS):
        try:
            lines = (folder.entry.path / name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        if found := tuple(line.strip() for line in lines if line.strip()):
            return found[:100]
    return OWN_OPENINGS


# ---------------------------------------------------------------------------------------------------------------------
# The model


@dataclass(frozen=True)
class Ask:
    """One answer that is wanted: at `weights` and c, or the base's where there are none."""

    prompt: str
    sampling: Sampling
    weights: Weights | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Text:
    """An answer so far. `ended` is empty while it grows; `scores` are the objectives measured on it, NaN if unknown."""

    text: str = ""
    ended: str = ""
    scores: tuple[float, ...] = ()


class TextLive:
    """A text run's model on one device. Raises what opening the run and its base raise."""

    def __init__(self, folder: Saved, device: str, say: Callable[[str], None]) -> None:
        self.saved, self.note = folder, ""
        self.lock = threading.RLock()
        self.texts, self.residuals = Kept(MAX_TEXTS), Kept(MAX_MEASURED)
        self._writers, self._quiet = 0, threading.Condition()
        say("reading the model")
        try:
            self._open(device)
        except Exception as error:
            if not is_cuda_out_of_memory(error):
                raise
            self.to_cpu()
        self.scorers = _scorers(folder.objectives)

    def _open(self, device: str) -> None:
        from hyperdpo.text.run import TextRun

        self.run: TextRun = TextRun(self.saved.entry.path, device=device)
        self.device = str(self.run.model.device)

    def to_cpu(self) -> None:
        """Give the GPU up: everything is computed on the CPU from here on."""
        with self.lock:
            asked = getattr(self, "device", "the GPU")
            self.__dict__.pop("run", None)
            release_cuda()
            self._open("cpu")
            self.note = cuda_sentence(asked)

    @property
    def context(self) -> int | None:
        return self.run.model.context

    def nearest(self, weights: Weights) -> tuple[Weights, str]:
        """The weights that an answer really belongs to, and a sentence where they are not the ones asked for."""
        trained = self.run.trained
        if trained is None:
            return weights, ""
        import torch

        i, same = self.run.nearest(torch.tensor(weights))
        near = tuple(float(v) for v in trained[i])
        if same:
            return near, ""
        return near, (
            f"This run has {len(trained)} models, one per weight, and none for these sliders: shown is the nearest, "
            f"trained for {shares(self.saved.objectives, near)}."
        )

    def strip(self, x: str, y: str) -> list[Weights]:
        """Weights from "only x" to "only y"; those that were trained, where only some were."""
        if self.run.trained is not None:
            return [tuple(float(v) for v in row) for row in self.run.trained]
        names = self.saved.objectives
        if x == y or len(names) < 2:
            return [tuple(float(n == x) for n in names)]
        steps = [round(i / (STRIP_POINTS - 1), 6) for i in range(STRIP_POINTS)]
        return [tuple(1 - s if n == x else s if n == y else 0.0 for n in names) for s in steps]

    def known(self, ask: Ask) -> Text | None:
        """A finished answer, if it was written before."""
        found: Text | None = self.texts.peek(ask)
        return found

    def write(self, asks: Sequence[Ask]) -> Iterator[list[Text]]:
        """Answers to asks that share prompt, c and sampling, after every token; measured when they have ended."""
        import torch

        from hyperdpo.text.generate import stream

        first = asks[0]
        weights = [None if a.weights is None else torch.tensor(a.weights, dtype=torch.float32) for a in asks]
        scale = next((a.scale for a in asks if a.weights is not None), 1.0)
        steps = stream(self.run, first.prompt, weights, scale=scale, sampling=first.sampling)
        if not self.run.conditioned:  # its weights are exchanged between answers: nobody may come between
            with self.lock:
                yield from self._texts(asks, steps)
        else:
            yield from self._texts(asks, _locked(steps, self.lock))

    def _texts(self, asks: Sequence[Ask], steps: Iterator[Any]) -> Iterator[list[Text]]:
        done: dict[int, Text] = {}
        for answers in steps:
            out = []
            for i, answer in enumerate(answers):
                if answer.ended and i not in done:
                    done[i] = Text(answer.text, answer.ended, self.score(answer.text))
                    self.texts.get(asks[i], partial(done.__getitem__, i))
                out.append(done.get(i) or Text(answer.text))
            yield out

    def score(self, text: str) -> tuple[float, ...]:
        """The objectives, measured on one text; NaN where no scorer has that name."""
        return tuple(float(s([text])[0]) if s is not None else float("nan") for s in self.scorers)

    @property
    def measures(self) -> list[tuple[str, str]]:
        """What each objective's scorer measures, and its unit; empty where there is none."""
        return [(str(getattr(s, "description", "")), str(getattr(s, "unit", ""))) for s in self.scorers]

    def writing(self, by: int) -> None:
        """Count who writes now: measuring waits for them."""
        with self._quiet:
            self._writers += by
            self._quiet.notify_all()

    def quiet(self, seconds: float) -> bool:
        """Whether no answer is being written, now or within so many seconds."""
        with self._quiet:
            return self._quiet.wait_for(lambda: not self._writers, seconds)


def _locked(steps: Iterator[Any], lock: threading.RLock) -> Iterator[Any]:
    while True:
        with lock:
            found = next(steps, None)
        if found is None:
            return
        yield found


def _scorers(objectives: Sequence[str]) -> list[Any]:
    """The scorer of each objective that has one by its name."""
    from hyperdpo.text.scorers import SCORERS

    return [SCORERS.get(name) for name in objectives]


def live(folder: Saved, device: str) -> Prepared[TextLive]:
    """The live run of a folder: not yet begun the first time, the same one afterwards."""

    def work(say: Callable[[str], None]) -> TextLive:
        say("loading PyTorch")
        return TextLive(folder, next(iter(devices())) if device == "auto" else device, say)

    return _jobs().get(_key(folder, device), lambda: Prepared(work))


def forget(folder: Saved, device: str) -> None:
    """Drop a failed job, so that the next look tries again."""
    _jobs().drop(_key(folder, device))


def _key(folder: Saved, *rest: Hashable) -> Hashable:
    return str(folder.entry.path), folder.stamp, *rest


@st.cache_resource(show_spinner=False)
def _jobs() -> Kept:
    return Kept(2 * MAX_LIVE)


@st.cache_resource(show_spinner=False)
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(6, thread_name_prefix="text")


# ---------------------------------------------------------------------------------------------------------------------
# Answers being written


@dataclass(frozen=True)
class Wish:
    """What the page shows now: each stage is one batch, the first one wanted first."""

    stages: tuple[tuple[Ask, ...], ...]


def by_scale(asks: Sequence[Ask]) -> list[list[Ask]]:
    """The asks in groups that one batch can answer: those of one c, the first group with the base's."""
    scales = list(dict.fromkeys(a.scale for a in asks if a.weights is not None)) or [1.0]
    return [[a for a in asks if (a.scale if a.weights is not None else scales[0]) == scale] for scale in scales]


class Writing:
    """The answers of one wish, written by a thread that can be stopped at any token."""

    def __init__(self, live: TextLive, wish: Wish, *, settle: bool) -> None:
        self.live, self.wish = live, wish
        self.failure: list[str] = []
        self.since = time.monotonic()
        self._now: dict[Ask, Text] = {}
        self._stop, self._ended = threading.Event(), threading.Event()
        self._settle = settle
        _workers().submit(self._run)

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before everything was written."""
        return self._stop.is_set() and any(self.live.known(a) is None for stage in self.wish.stages for a in stage)

    def stop(self) -> None:
        """Ask the thread to end; it does so at the next token."""
        self._stop.set()

    def text(self, ask: Ask) -> Text:
        """An answer as far as it is written."""
        return self.live.known(ask) or self._now.get(ask, Text())

    def _run(self) -> None:
        try:
            if self._settle and self._stop.wait(SETTLE_SECONDS):
                return
            self.live.writing(+1)
            try:
                for stage in self.wish.stages:
                    for asks in by_scale(stage):
                        self._write([a for a in dict.fromkeys(asks) if self.live.known(a) is None])
            finally:
                self.live.writing(-1)
        except Exception as error:
            if isinstance(error, HyperDPOError):
                self.failure = error.problems
            else:
                logging.getLogger(__name__).exception("an answer could not be written")
                self.failure = [f"The answer could not be written ({type(error).__name__}: {str(error)[:300]})."]
        finally:
            self._ended.set()

    def _write(self, asks: list[Ask]) -> None:
        if not asks or self._stop.is_set():
            return
        try:
            for texts in self.live.write(asks):
                self._now = {**self._now, **dict(zip(asks, texts, strict=True))}
                if self._stop.is_set():
                    return
        except Exception as error:
            if self.live.device == "cpu" or not is_cuda_out_of_memory(error):
                raise
            self.live.to_cpu()
            self._write(asks)


# ---------------------------------------------------------------------------------------------------------------------
# Cross-entropy over the test lists


class Lists:
    """The test lists of a run: every figure about cross-entropy on the page comes from here."""

    def __init__(self, folder: Saved, live: TextLive, given: str | None, say: Callable[[str], None]) -> None:
        from hyperdpo.text.data import part_of_run
        from hyperdpo.text.labels import Labels

        self.saved, self.live = folder, live
        preferences = find_lists(folder, given, say)
        config = folder.config
        theirs = tuple(o.name for o in preferences.objectives)
        if theirs != folder.objectives:
            raise DataError(
                f"The lists have the objectives {', '.join(theirs)}, the run {', '.join(folder.objectives)}: they do "
                "not belong together."
            )
        self.part = part_of_run(config, preferences, "test")
        self.labels = Labels(self.part, config["beta"])
        self.note = ""
        if preferences.fingerprint != config["data"].get("fingerprint"):
            self.note = "These are not the lists the run was made with: its figures are measured on them now."
        ends = np.concatenate([[0], np.cumsum(self.labels.sizes)])
        self._items = [np.arange(a, b) for a, b in pairwise(ends)]
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(self.labels))
        cuts = [0, *range(FIRST_LISTS, len(order), CHUNK), len(order)]
        self._chunks = [order[a:b] for a, b in pairwise(cuts) if b > a]
        self._tables: dict[int, TextTable] = {}
        self._curves = Kept(64)
        self._own = object()  # marks what was measured on these lists: a number would be given again to later ones
        self._guard = threading.Lock()
        self._wanted: dict[Hashable, Weights] = {}  # by user: only what was asked last goes on
        self._busy: set[Weights] = set()
        self._failed: set[Weights] = set()
        self.base = self.labels.losses(np.zeros((1, int(ends[-1]))), 1.0)[0]
        self.moving = {i: f for i, f in enumerate(folder.fronts) if self._moves(f)}

    def _moves(self, front: ParetoFront) -> bool:
        """Whether its stored residuals give, on these lists, the figures that were stored with it."""
        if front.residuals is None or front.cross_entropy is None or front.method == "base":
            return False
        if front.residuals.shape[1] != sum(map(len, self._items)):
            return False
        raw = front.residuals * front.scale  # they are stored as they stood at the front's own c
        again = np.nanmean(self.labels.losses(raw, front.scale), 1)
        return bool(np.abs(again - front.cross_entropy).max() <= SAME_ENTROPY)

    def curves(self, scale: float) -> tuple[Curve, ...]:
        """Every front at c, the run's own first; one that cannot be moved says so."""
        return self._curves.get(scale, lambda: self._at(scale))

    def _at(self, scale: float) -> tuple[Curve, ...]:
        own = method_of(self.saved.config)
        out = []
        for i, front in enumerate(self.saved.fronts):
            if i in self.moving:
                assert front.residuals is not None
                entropies = np.nanmean(self.labels.losses(front.residuals * front.scale, scale), 1)
                spread = front.ndcg[:, :1] * (front.scale / scale)
                out.append(
                    Curve(
                        replace(
                            front, scale=scale, cross_entropy=entropies, ndcg=np.concatenate([spread, -entropies], 1),
                            per_query=None, residuals=None,
                        )
                    )
                )  # fmt: skip
            else:
                out.append(Curve(front, "" if front.method == "base" else f"c = {front.scale:g}"))
        return tuple(sorted(out, key=lambda c: c.front.method != own))

    # The live point

    def reading(self, choice: Choice, user: Hashable = None) -> TextReading | None:
        """The figures at one choice on as many lists as are measured; asks for the rest. None before the first.

        The rest is measured until this user asks for another choice.
        """
        weights, _ = self.live.nearest(choice.weights)
        self._measure(weights, user)
        found = list(self._kept(weights))
        if not found:
            return None
        lists = np.concatenate(self._chunks[: len(found)])
        order = np.argsort(lists)
        flat = np.concatenate(found)
        starts = np.concatenate([[0], np.cumsum(self.labels.sizes[lists])])
        pieces = [flat[starts[i] : starts[i + 1]] for i in order]
        lists = lists[order]
        losses = self.labels.losses(np.concatenate(pieces)[None], choice.scale, lists)[0]
        return text_reading(choice, weights, losses, self.base[lists], len(self.labels), self.labels.chance)

    def _kept(self, weights: Weights) -> list[np.ndarray]:
        """The residuals of each chunk measured so far; a thread adds to it."""
        kept: list[np.ndarray] = self.live.residuals.get((self._own, weights), list)
        return kept

    def _measure(self, weights: Weights, user: Hashable) -> None:
        """Have a thread measure the chunks that are missing, if any, unless one does so or failed to."""
        with self._guard:
            if self._wanted.get(user) != weights:
                self._wanted[user] = weights
                self._failed.discard(weights)  # whoever comes back to a choice has it tried again
            if weights in self._busy or weights in self._failed or len(self._kept(weights)) == len(self._chunks):
                return
            self._busy.add(weights)

        def work() -> None:
            try:
                time.sleep(SETTLE_SECONDS)
                while self._goes_on(weights):
                    if self.live.quiet(0.5):
                        kept = self._kept(weights)
                        kept.append(self._chunk(len(kept), weights))
            except Exception:
                logging.getLogger(__name__).exception("cross-entropy could not be measured")
                with self._guard:
                    self._busy.discard(weights)
                    self._failed.add(weights)

        _workers().submit(work)

    def _goes_on(self, weights: Weights) -> bool:
        """Whether something is left to measure that a user waits for; if not, its thread no longer counts as busy."""
        with self._guard:
            if weights in self._wanted.values() and len(self._kept(weights)) < len(self._chunks):
                return True
            self._busy.discard(weights)
            return False

    def _chunk(self, number: int, weights: Weights) -> np.ndarray:
        import torch

        from hyperdpo.text.evaluate import TextTable

        with self.live.lock:
            run = self.live.run
            if number not in self._tables:
                self._tables[number] = TextTable(run, self.part.subset(self._chunks[number]))
            return self._tables[number].measure(run, torch.tensor(weights)).residuals

    def failed(self, choice: Choice) -> bool:
        """Whether measuring a choice failed: what is missing of it will never be there."""
        return self.live.nearest(choice.weights)[0] in self._failed


def text_reading(
    choice: Choice, weights: Weights, losses: np.ndarray, base: np.ndarray, total: int, chance: float
) -> TextReading:
    """The figures of per-list cross-entropies (q, m) beside the base's on the same lists."""
    from hyperdpo.intervals import bootstrap_counts, intervals

    counts = bootstrap_counts(len(losses))
    return TextReading(
        choice, weights, intervals(losses, counts), intervals(losses - base, counts), len(losses), total, chance
    )


def lists(folder: Saved, model: TextLive, given: str | None) -> Prepared[Lists]:
    """The test lists of a live run: not yet begun the first time, the same ones afterwards."""
    key = ("lists", str(folder.entry.path), folder.stamp, id(model), given or "")
    return _jobs().get(key, lambda: Prepared(lambda say: Lists(folder, model, given, say)))


def find_lists(folder: Saved, given: str | None, say: Callable[[str], None]) -> Preferences:
    """The run's preferences: the path given by hand, those in its folder, or the recorded files.

    Raises DataError saying how to point the run at its data.
    """
    from hyperdpo.text.data import files_of_run, load_preferences

    files, limit = ([given], None) if given else files_of_run(folder.entry.path, folder.config)
    say("reading the preference lists")
    here = [f for f in files if Path(f.split("=", 1)[-1]).expanduser().is_file()]
    if not files or len(here) != len(files):
        where = f"at {', '.join(files)}" if files else "recorded"
        raise DataError(
            f"The preference lists this run was measured on ({folder.config['data'].get('name', 'unnamed')}) are not "
            f"{where} on this machine."
        )
    return load_preferences(here, objectives=_grammar(folder), limit=limit)


def _grammar(folder: Saved) -> list[Any]:
    from hyperdpo.objectives import Objective

    return [Objective.from_dict(o) for o in folder.config["task"]["objectives"]]


# ---------------------------------------------------------------------------------------------------------------------
# An adapter to take away


def adapter(model: TextLive, weights: Weights, kind: str) -> Prepared[bytes]:
    """A zip of the model at one w, c = 1, made by a thread: not yet begun the first time, the same one afterwards."""
    key = ("adapter", id(model), weights, kind)
    return _zips().get(key, lambda: Prepared(lambda say: _zip(model, weights, kind, say)))


def _zip(model: TextLive, weights: Weights, kind: str, say: Callable[[str], None]) -> bytes:
    import torch

    from hyperdpo.text.export import export_text

    room = Path(tempfile.mkdtemp(prefix="hyperdpo-"))
    try:
        say("merging the adapter into the base")
        with model.lock:
            export_text(model.run, torch.tensor(weights), room / "model", kind=kind)
        say("packing")
        return Path(shutil.make_archive(str(room / "packed"), "zip", room / "model")).read_bytes()
    finally:
        shutil.rmtree(room, ignore_errors=True)


@st.cache_resource(show_spinner=False)
def _zips() -> Kept:
    return Kept(2)
