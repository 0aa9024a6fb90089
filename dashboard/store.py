"""The only file that caches: runs, data and live models, keyed by path and modification time, all bounded.

A run opens on its fronts alone (`saved`); weights and data are loaded by a thread of their own (`live`), so that the
first chart waits for nothing and no slider ever freezes.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import streamlit as st

from dashboard.readings import ChangedList, Curve, Entrant, Judged, MovedItem, Reading
from dashboard.state import Choice, next_scales
from dashboard.words import called
from dashboard.words_changes import told_apart
from hyperdpo.errors import HyperDPOError, RunError

if TYPE_CHECKING:
    import torch

    from dashboard.preview import Sketch
    from hyperdpo.comparison import Contribution, Stretches
    from hyperdpo.finding import Question, Spot
    from hyperdpo.front import ParetoFront
    from hyperdpo.intervals import Interval
    from hyperdpo.rank.changes import Changes, Position
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.find import Finder, Found
    from hyperdpo.rank.reasons import Reasons
    from hyperdpo.rank.run import RankRun

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "marketplace"
SHIPPED_TEXT = "stories"
RANK, TEXT = "rank", "text"  # kinds of runs
SPLIT = "test"
RANGE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 10.0)  # the axes are made to hold the fronts at all of these
AHEAD_SECONDS = 0.15
MAX_RUNS, MAX_LIVE, MAX_MEASURED = 64, 4, 256
MAX_COMPARED = 64  # bootstrap samples and what comes of them, of so many fronts
TRADE_STEP = 5  # points of attention moved to either side to see what one objective costs another
SKETCHED_AT_ONCE = 4  # mixes of the preview that are measured before anyone else may measure
SAME_NDCG = 5e-4  # how near a stored front must come to its own figures before it may be moved with c
RUN_FILES = ("manifest.json", "config.json", "front.json", "model.safetensors")
T = TypeVar("T")


class Kept:
    """A small dictionary that forgets what was used longest ago; safe to share between sessions."""

    def __init__(self, size: int) -> None:
        self._size, self._values, self._lock = size, OrderedDict[Hashable, Any](), threading.RLock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under `key`, made first if need be. One thread makes at a time."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._size:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            value: T = self._values[key]
            return value

    def peek(self, key: Hashable) -> Any:
        """What is kept under `key`, or None."""
        with self._lock:
            return self._values.get(key)

    def drop(self, key: Hashable) -> None:
        """Forget what is kept under `key`."""
        with self._lock:
            self._values.pop(key, None)


# ---------------------------------------------------------------------------------------------------------------------
# Runs as their folders show them


@dataclass(frozen=True)
class RunEntry:
    """A folder that is, or was meant to be, a run. `label` is what the URL and the lists call it."""

    label: str
    path: Path


@dataclass(frozen=True, eq=False)
class Saved:
    """A run as its folder alone shows it: config and fronts, no weights, no data."""

    entry: RunEntry
    config: dict[str, Any]
    fronts: tuple[ParetoFront, ...]
    stamp: tuple[int, ...]
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        return str(self.config["kind"])

    @property
    def main(self) -> str:
        return str(self.config["main"])

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(self.config["objectives"])

    @property
    def names(self) -> tuple[str, ...]:
        """Main first, as in every NDCG array."""
        return (self.main, *self.objectives)

    @property
    def called(self) -> dict[str, str]:
        """What people read for each of `names`, in that order: with the better direction where it is not more."""
        task = self.config.get("task", {})
        told = [task.get("main"), *(task.get("objectives") or ())]
        less = {o.get("name") for o in told if isinstance(o, dict) and o.get("direction") == "min"}
        return {name: called(name, less=name in less) for name in self.names}

    @property
    def own(self) -> ParetoFront | None:
        """The run's own front."""
        return next((f for f in self.fronts if f.method == method_of(self.config)), None)

    @property
    def base(self) -> ParetoFront | None:
        return next((f for f in self.fronts if f.method == "base"), None)

    @property
    def k(self) -> int:
        """The cut-off that the saved fronts were measured at."""
        own = self.own or self.base
        return own.k if own else 10


def method_of(config: dict[str, Any]) -> str:
    """`hyperdpo` or `dpo-ls`."""
    method = config["method"]
    return str(method["method"] if isinstance(method, dict) else method)


def list_runs(kind: str | None = RANK) -> list[RunEntry]:
    """Run folders in checkpoints/ beside the package and in checkpoints/ and runs/ where the app was started.

    A folder that does not say its `kind` counts as a ranking run; None is every kind.
    """
    shipped = (SHIPPED, SHIPPED_TEXT)
    roots = [ROOT / "checkpoints", ROOT / "runs", Path.cwd() / "checkpoints", Path.cwd() / "runs"]
    found: dict[Path, RunEntry] = {}
    for root in dict.fromkeys(r.resolve() for r in roots):
        folders = _run_folders(root)
        folders.sort(
            key=lambda p: (p.name not in shipped, p.name) if root.name == "checkpoints" else (-_time(p), p.name)
        )
        for path in folders:
            taken = {e.label for e in found.values()}
            found[path] = RunEntry(path.name if path.name not in taken else str(path), path)
    return [e for e in found.values() if kind is None or _kind(e.path) == kind]


@st.cache_resource(max_entries=4 * MAX_RUNS, show_spinner=False)
def _said_kind(path: str, changed: int) -> str | None:
    """What config.json says; None where it says none, as a language model's own does."""
    try:
        return str(json.loads((Path(path) / "config.json").read_text("utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kind(path: Path) -> str:
    return TEXT if _said_kind(str(path), _mtime_ns(path / "config.json")) == TEXT else RANK


def warm() -> bool:
    """Whether this process has opened a run before."""
    return "hyperdpo.runs" in sys.modules


def entry_at(path: str) -> RunEntry:
    """The entry of a folder that a person or a URL names by its path."""
    folder = Path(path).expanduser()
    folder = folder if folder.is_absolute() else Path.cwd() / folder
    return next((e for e in list_runs(None) if e.path == folder.resolve()), RunEntry(str(folder), folder))


def saved(entry: RunEntry, kind: str | None = RANK) -> Saved:
    """The run at `entry`, read again when its files have changed.

    Raises RunError with all that is wrong with it, also where it is of another kind than `kind`.
    """
    found = _saved(entry.label, str(entry.path), _stamp(entry.path))
    if kind is not None and found.kind != kind:
        raise RunError(wrong_kind(entry))
    return found


def wrong_kind(entry: RunEntry) -> str:
    """Which view shows a run that the present one does not."""
    text = _kind(entry.path) == TEXT
    return f"{entry.label} is a {'text' if text else 'ranking'} run; the {'Text' if text else 'Explore'} view shows it."


def open_all() -> list[Saved | tuple[RunEntry, str]]:
    """Every run of every kind, or its entry with the one message that says what is wrong with it."""
    out: list[Saved | tuple[RunEntry, str]] = []
    for entry in list_runs(None):
        try:
            out.append(saved(entry, None))
        except (HyperDPOError, OSError) as error:
            out.append((entry, str(error)))
    return out


@st.cache_resource(max_entries=MAX_RUNS, show_spinner=False)
def _saved(label: str, path: str, stamp: tuple[int, ...]) -> Saved:
    from hyperdpo.runs import RunFolder

    folder = RunFolder(path)
    fronts = tuple(folder.fronts())
    return Saved(RunEntry(label, Path(path)), folder.config, fronts, stamp, _time(Path(path)))


def _run_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    try:
        below = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        below += [q for p in below if not _looks_like_run(p) for q in p.iterdir() if q.is_dir()]
    except OSError:
        return []
    return [p.resolve() for p in below if _looks_like_run(p)]


def _looks_like_run(path: Path) -> bool:
    if any((path / name).exists() for name in ("manifest.json", "front.json", "training/plan.json")):
        return True
    config = path / "config.json"
    return config.exists() and _said_kind(str(path), _mtime_ns(config)) is not None


def _stamp(path: Path) -> tuple[int, ...]:
    return tuple(_mtime_ns(path / name) for name in (*RUN_FILES, "per_query.safetensors"))


def _mtime_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _time(path: Path) -> float:
    """When the run was finished: its model's time, which a later evaluation leaves alone."""
    return max(_mtime_ns(path / "manifest.json"), _mtime_ns(path / "model.safetensors")) / 1e9


# ---------------------------------------------------------------------------------------------------------------------
# Live: a model over its test split


class LiveRun:
    """A run's model over the test split on one device; every figure on the page comes from here.

    Raises what opening the run and reading the data raise.
    """

    def __init__(self, folder: Saved, data: RankData, device: str, say: Callable[[str], None]) -> None:
        from hyperdpo.rank.run import RankRun

        say("reading the model")
        self.run: RankRun = RankRun(folder.entry.path)
        self.saved = folder
        self.data = self.run.read(data)
        self.note = ""
        self._kept, self._lists_kept, self._finding = Kept(MAX_MEASURED), Kept(24), Kept(32)
        self._lock = threading.RLock()
        self._ahead: tuple[float, int, str, str] | None = None
        lists = self.data.lists(SPLIT)
        if not len(lists):
            from hyperdpo.errors import DataError

            raise DataError(f"{data.path} has no lists in its {SPLIT} split, on which everything here is measured.")
        say(f"preparing {len(lists):,} {SPLIT} lists")
        self.same_data = data.fingerprint == folder.config["data"].get("fingerprint")
        if not self.same_data:
            self.note = (
                "This is not the data the run was made with: its figures are measured on it now, and the saved fronts "
                "of other methods are left out."
            )
        self._place(lists, device)
        self.ranges(folder.k)

    def _place(self, lists: Any, device: str) -> None:
        """Everything on `device`; on the CPU with a sentence where CUDA memory runs out."""
        try:
            self._build(lists, device)
        except Exception as error:
            if not is_cuda_out_of_memory(error):
                raise
            release_cuda()
            self._build(lists, "cpu")
            self.note = cuda_sentence(device)

    def _build(self, lists: Any, device: str) -> None:
        from hyperdpo.rank.live import LiveModel

        self.table, features = self.run.table(lists, device=device)
        self.models = [LiveModel(r, self.table, features) for r in self.run.rankers]
        self.device = device
        with self._lock:
            self._own = self._own_residuals()
            zero = self._measure(self._zero(), 1.0, self.saved.k)
        self.base_entropy = zero.cross_entropy
        self._moving = {i: r for i, f in enumerate(self.saved.fronts) if (r := self._movable(f)) is not None}

    def _zero(self) -> torch.Tensor:
        import torch

        return torch.zeros_like(self.table.base)

    def _own_residuals(self) -> tuple[np.ndarray, torch.Tensor]:
        import torch

        from hyperdpo.weights import grid

        if self.run.trained is not None:
            pairs = zip(self.models, self.run.trained, strict=True)
            return self.run.trained.numpy().astype(float), torch.stack([model.residual(w) for model, w in pairs])
        points = max(11, self.run.task.m)
        return grid(self.run.task.m, points).numpy().astype(float), self.models[0].grid_residuals(points)

    def _movable(self, front: ParetoFront) -> torch.Tensor | None:
        """Residuals (p, q, n) of a stored front if, on this table, they give the figures that were stored with it."""
        import torch

        from hyperdpo.rank.live import front_ndcg

        if front.method == method_of(self.saved.config) or front.residuals is None or not self._same_terms(front):
            return None
        lists = self.table.lists
        if front.residuals.shape[1] != int(lists.offsets[-1]):
            return None
        residuals = torch.stack([lists.pad(torch.from_numpy(np.array(r))) for r in front.residuals]).to(
            self.table.device
        )
        again = _means(front_ndcg(self.table, residuals, scale=front.scale, k=front.k).cpu().numpy())
        far = np.abs(again - front.ndcg)
        return residuals if np.nanmax(far, initial=0.0) <= SAME_NDCG else None

    def _same_terms(self, front: ParetoFront) -> bool:
        return self.same_data and front.split == SPLIT and front.data == self.data.fingerprint

    def _measure(self, residual: torch.Tensor, scale: float, k: int) -> Any:
        from hyperdpo.rank.live import measure

        return measure(self.table, residual, scale=scale, k=k)

    def _guarded(self, make: Callable[[], T]) -> T:
        """`make()` by one thread at a time; moved to the CPU and repeated where CUDA memory runs out."""
        with self._lock:
            try:
                return make()
            except Exception as error:
                if self.device == "cpu" or not is_cuda_out_of_memory(error):
                    raise
                lists, device = self.table.lists, self.device
                del self.table, self.models
                release_cuda()
                self._build(lists, "cpu")
                self.note = cuda_sentence(device)
                return make()

    # What the page asks

    def residual(self, weights: tuple[float, ...]) -> tuple[torch.Tensor, tuple[float, ...], str]:
        """delta (q, n) at `weights`, the weights it really belongs to, and a sentence where they differ."""
        if self.run.trained is None:
            return self.models[0].residual(weights), weights, ""
        i, distance = self.nearest_model(weights)
        nearest = tuple(float(v) for v in self.run.trained[i])
        note = ""
        if distance > 1e-3:
            note = (
                f"This run has {len(self.models)} models, one per weight, and none for these sliders: shown is the "
                f"nearest, trained for {shares(self.saved.objectives, nearest)}."
            )
        return self.models[i].residual(self.run.trained[i]), nearest, note

    def reading(self, choice: Choice, k: int) -> Reading:
        """All figures of one choice."""
        return self._kept.get(("reading", choice, k), lambda: self._guarded(lambda: self._reading(choice, k)))

    def _reading(self, choice: Choice, k: int) -> Reading:
        residual, weights, note = self.residual(choice.weights)
        point = self._measure(residual, choice.scale, k)
        base = self._base(k)
        return Reading(
            choice,
            weights,
            k,
            point.ndcg.astype(float),
            _means(base),
            paired(point.per_query, base, self.table.bootstrap),
            point.cross_entropy.astype(float),
            self.base_entropy.astype(float),
            point.per_query,
            note,
        )

    def change(self, now: Reading, then: Reading) -> list[Interval]:
        """The interval of the change between two choices, paired over queries."""
        assert now.per_query is not None
        assert then.per_query is not None
        return paired(now.per_query, then.per_query, self.table.bootstrap)

    def _base(self, k: int) -> np.ndarray:
        def make() -> np.ndarray:
            values: np.ndarray = self._measure(self._zero(), 1.0, k).per_query
            return values

        return self._kept.get(("base", k), make)

    def curves(self, scale: float, k: int) -> tuple[Curve, ...]:
        """Every front at c and k, the run's own first."""
        return self._kept.get(("curves", scale, k), lambda: self._guarded(lambda: self._curves(scale, k)))

    def _curves(self, scale: float, k: int) -> tuple[Curve, ...]:
        own = self.saved.own
        weights, residuals = self._own
        out = [Curve(self._front(own, weights, residuals, scale, k))]
        for i, front in enumerate(self.saved.fronts):
            if front.method in (method_of(self.saved.config), "base") or not self._same_terms(front):
                continue
            if i in self._moving:
                out.append(Curve(self._front(front, front.weights, self._moving[i], scale, k)))
            elif front.k == k:
                out.append(Curve(front, fixed_words(front, scale)))
        per_query = self._base(k)
        base = self.saved.base
        if base is not None and not self.same_data:
            base = replace(base, data=self.data.fingerprint)
        fields = {
            "per_query": per_query[None],
            "ndcg": _means(per_query)[None],
            "k": k,
            "scale": scale,
            "residuals": None,
        }
        if base is None:
            from hyperdpo.front import ParetoFront

            base = ParetoFront(
                "Base model", "base", self.saved.main, self.saved.objectives, np.zeros((1, 0)), 1.0, k, SPLIT,
                fields["ndcg"],  # type: ignore[arg-type]
            )  # fmt: skip
        return (*out, Curve(replace(base, **fields)))  # type: ignore[arg-type]

    def left_out(self, k: int) -> list[str]:
        """Names of saved fronts that cannot be drawn at this k, or not on this data."""
        return [
            f.name
            for i, f in enumerate(self.saved.fronts)
            if f.method not in (method_of(self.saved.config), "base")
            and i not in self._moving
            and not (self._same_terms(f) and f.k == k)
        ]

    def _front(
        self, like: ParetoFront | None, weights: np.ndarray, residuals: torch.Tensor, scale: float, k: int
    ) -> ParetoFront:
        from hyperdpo.front import ParetoFront
        from hyperdpo.rank.live import front_ndcg

        per_query = front_ndcg(self.table, residuals, scale=scale, k=k).cpu().numpy()
        if like is None:
            config = self.saved.config
            like = ParetoFront(
                method_of(config), method_of(config), self.saved.main, self.saved.objectives, weights, 1.0, k, SPLIT,
                _means(per_query), models=self.run.models, parameters=self.run.parameters,
            )  # fmt: skip
        return replace(
            like, weights=weights, ndcg=_means(per_query), scale=scale, k=k, cross_entropy=None, residuals=None,
            per_query=per_query,
        )  # fmt: skip

    def edge(self, x: str, y: str, scale: float, k: int, points: int = 13) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights (p, m) and NDCG (p, 1 + m) of the model between "only x" and "only y"; None for the main."""
        names = self.saved.objectives
        if x == y or x not in names or y not in names or self.run.trained is not None:
            return None
        return self._kept.get(
            ("edge", x, y, scale, k),
            lambda: self._guarded(lambda: self._edge(names.index(x), names.index(y), scale, k, points)),
        )

    def _edge(self, i: int, j: int, scale: float, k: int, points: int) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from hyperdpo.rank.live import front_ndcg

        weights = np.zeros((points, len(self.saved.objectives)))
        weights[:, i] = np.linspace(1, 0, points)
        weights[:, j] = 1 - weights[:, i]
        residuals = self._lists_kept.get(
            ("edge", i, j, self.device), lambda: torch.stack([self.models[0].residual(w.tolist()) for w in weights])
        )
        return weights, _means(front_ndcg(self.table, residuals, scale=scale, k=k).cpu().numpy())

    def trade(self, x: str, y: str, choice: Choice, k: int) -> np.ndarray | None:
        """NDCG of (x, y) a few points of attention to either side of `choice`, (2, 2), all other weights as they are.

        The first row has more attention on x. None where the model, the axes or the weights leave nothing to move.
        """
        names = self.saved.objectives
        if x == y or x not in names or y not in names or self.run.trained is not None:
            return None
        return self._kept.get(
            ("trade", x, y, choice, k),
            lambda: self._guarded(lambda: self._trade(names.index(x), names.index(y), choice, k)),
        )

    def _trade(self, i: int, j: int, choice: Choice, k: int) -> np.ndarray | None:
        both = choice.percent[i] + choice.percent[j]
        shares = [min(both, choice.percent[i] + TRADE_STEP), max(0, choice.percent[i] - TRADE_STEP)]
        if shares[0] == shares[1]:
            return None
        rows = []
        for share in shares:
            percent = list(choice.percent)
            percent[i], percent[j] = share, both - share
            residual = self.models[0].residual([p / 100 for p in percent])
            rows.append(self._measure(residual, choice.scale, k).ndcg[[1 + i, 1 + j]])
        return np.stack(rows).astype(float)

    def finder(self) -> Finder:
        """The run on its validation and test lists, for questions. Raises DataError without validation lists."""

        def make() -> Finder:
            from hyperdpo.rank.find import CHOSEN_ON, Finder, Side

            chosen = Side(self.run, self.data.lists(CHOSEN_ON), CHOSEN_ON, device=self.device)
            return Finder(self.run, chosen, Side.of(self.run, self.models, SPLIT))

        return self._finding.get(("finder", self.device), make)

    def prepare_finding(self, k: int) -> None:
        """Measure what every question begins with while the person writes theirs."""

        def work() -> None:
            try:
                self.finder().ready(k)
            except HyperDPOError:
                return  # asked again by the question, which says it

        if self._finding.peek(("prepared", k)) is None:
            self._finding.get(("prepared", k), lambda: True)
            _workers().submit(work)

    def find(self, question: Question, k: int) -> Found:
        """The answer to a question. Raises ConfigError and DataError as `Finder.find` does."""
        self.finder().ready(k)
        return self._finding.get(("found", question, k), lambda: self._guarded(lambda: self.finder().find(question, k)))

    def nearest(self, target: Mapping[str, float], k: int) -> Spot:
        """The (w, c) that comes nearest to NDCG@k values. Raises ConfigError and DataError as `Finder.nearest` does."""
        self.finder().ready(k)
        return self._guarded(lambda: self.finder().nearest(target, k))

    def ends(self, curve: Curve, scale: float, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Ends (p, 1 + m) of the 95 % interval of each point's change from the base, about the point; None if unknown.

        A curve that is measured at another c only, or without its figures per query, has none.
        """
        front, base = curve.front, self._base(k)
        if front.method == "base" or front.per_query is None or front.per_query.shape[1:] != base.shape:
            return None
        values = front.per_query

        def make() -> tuple[np.ndarray, np.ndarray]:
            change = (values - base).swapaxes(0, 1)  # (q, p, 1 + m)
            found = paired(change.reshape(len(base), -1), np.zeros(1, np.float32), self.table.bootstrap)
            low, high = (np.array([getattr(i, end) - i.mean for i in found]) for end in ("low", "high"))
            return front.ndcg + low.reshape(front.ndcg.shape), front.ndcg + high.reshape(front.ndcg.shape)

        return self._kept.get(("ends", front.method, front.name, front.run, scale, k), make)

    def ranges(self, k: int) -> np.ndarray:
        """(1 + m, 2) lowest and highest NDCG of anything drawn at any c, so that axes need not move."""

        def make() -> np.ndarray:
            values = [c.front.ndcg for s in RANGE_SCALES for c in self.curves(s, k)]
            return spread(values)

        return self._kept.get(("ranges", k), make)

    def look_ahead(self, scale: float, k: int, x: str, y: str) -> None:
        """Measure the fronts one step of c away while nobody waits, so that stepping c by key finds them ready."""
        self._ahead = wanted = (scale, k, x, y)

        def work() -> None:
            time.sleep(AHEAD_SECONDS)  # the answer to the last move has the machine to itself first
            for near in next_scales(scale):
                if self._ahead == wanted:
                    self.curves(near, k)
                    self.edge(x, y, near, k)

        _workers().submit(work)

    def queries(self) -> list[str]:
        """What to show for each test list; where several have the same text, its number among them."""

        def make() -> list[str]:
            texts = self.data.query_texts
            return told_apart([texts[i] for i in self.table.lists.query_index.tolist()])

        return self._lists_kept.get("queries", make)

    # What changes between two choices; None is the base

    def changes(self, before: Choice | None, after: Choice, k: int) -> Changes:
        """How every list changes."""
        key = ("changes", before, after, k)
        return self._kept.get(key, lambda: self._guarded(lambda: self._changes(before, after, k)))

    def _changes(self, before: Choice | None, after: Choice, k: int) -> Changes:
        from hyperdpo.rank.changes import compare_places

        mask = self.table.mask
        then, now = (self._per_query(choice, k).astype(float) for choice in (before, after))
        return compare_places(self._places(before), self._places(after), mask, then, now, k=k)

    def _per_query(self, choice: Choice | None, k: int) -> np.ndarray:
        if choice is None:
            return self._base(k)
        found = self.reading(choice, k).per_query
        assert found is not None
        return found

    def _places(self, choice: Choice | None) -> torch.Tensor:
        """Place of every item (q, n), from 1."""
        from hyperdpo.control import scaled_scores
        from hyperdpo.rank.changes import places

        def make() -> torch.Tensor:
            scores = self.table.base
            if choice is not None:
                scores = scaled_scores(scores, self.residual(choice.weights)[0], choice.scale)
            return places(scores, self.table.mask)

        return self._lists_kept.get(("places", choice, self.device), make)

    def changed_list(self, number: int, before: Choice | None, after: Choice, k: int) -> ChangedList:
        """One test list under two choices."""
        return self._guarded(lambda: self._changed_list(number, before, after, k))

    def _changed_list(self, number: int, before: Choice | None, after: Choice, k: int) -> ChangedList:
        from hyperdpo.rank.changes import shown_items

        lists = self.table.lists
        n = int(lists.sizes[number])
        then, now = (self._places(choice)[number, :n].cpu().numpy() for choice in (before, after))
        first = int(self.data.offsets[int(lists.query_index[number])])
        labels = lists.labels[int(lists.offsets[number]) : int(lists.offsets[number + 1])].tolist()
        titles, prices = self.data.text("title"), self.data.text("price")

        def item(i: int) -> MovedItem:
            title = titles[first + i].as_py() if titles is not None else None
            price = prices[first + i].as_py() if prices is not None else None
            return MovedItem(i, int(then[i]), int(now[i]), title or f"item {i + 1}", price or "", tuple(labels[i]))

        left, right = (tuple(item(i) for i in side) for side in shown_items(then, now))
        ndcg = [self._per_query(choice, k)[number].astype(float) for choice in (before, after)]
        return ChangedList(number, self.queries()[number], n, left, right, ndcg[0], ndcg[1])

    def reasons(
        self, number: int, before: Choice | None, after: Choice, items: tuple[int, ...]
    ) -> dict[int, tuple[Reasons, Reasons | None]]:
        """By item of one list, what its change of score rests on, and its base score (None but for trees)."""
        key = ("reasons", number, before, after, items)
        return self._kept.get(key, lambda: self._guarded(lambda: self._reasons(number, before, after, items)))

    def _reasons(
        self, number: int, before: Choice | None, after: Choice, items: tuple[int, ...]
    ) -> dict[int, tuple[Reasons, Reasons | None]]:
        from hyperdpo.rank.reasons import base_shares, change_shares, reasons

        lists, names = self.table.lists, self.run.task.features
        raw = lists.features[int(lists.offsets[number]) : int(lists.offsets[number + 1])]
        scaled = self.run.scaler(raw).to(self.table.device)
        base = self.table.base[number, : len(raw)]
        change = change_shares(self._asked(before), self._asked(after), scaled, base, items)
        below = base_shares(self.run.base, raw, items)
        return {
            i: (reasons(change[j], names), None if below is None else reasons(below[j], names))
            for j, i in enumerate(items)
        }

    def _asked(self, choice: Choice | None) -> tuple[Any, Position] | None:
        """The model that answers a choice and what it is asked for."""
        from hyperdpo.rank.changes import Position

        if choice is None:
            return None
        if self.run.trained is None:
            return self.models[0].model, Position(choice.weights, choice.scale)
        i = int(self.nearest_model(choice.weights)[0])
        return self.models[i].model, Position(tuple(self.run.trained[i].tolist()), choice.scale)

    def nearest_model(self, weights: tuple[float, ...]) -> tuple[int, float]:
        """Which of the weights that a model was trained for is nearest, and how far; for runs with one model per w."""
        import torch

        assert self.run.trained is not None
        distance = (self.run.trained - torch.tensor(weights)).abs().amax(1)
        return int(distance.argmin()), float(distance.min())


class Prepared(Generic[T]):
    """Something being prepared by a thread, or ready, or failed with a message."""

    def __init__(self, work: Callable[[Callable[[str], None]], T]) -> None:
        self._work, self._lock, self._begun = work, threading.Lock(), False
        self.since = time.monotonic()
        self.doing = "starting"
        self.future: Future[T] = Future()

    def begin(self) -> None:
        """Start the thread, the first time this is called."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self.since = time.monotonic()
                _workers().submit(self._run)

    def _run(self) -> None:
        try:
            made = self._work(self.say)
            settle_memory()
            self.future.set_result(made)
        except BaseException as error:
            if not isinstance(error, HyperDPOError):
                logging.getLogger(__name__).exception("a run could not be made live")
            self.future.set_exception(error)

    def say(self, what: str) -> None:
        self.doing = what

    def wait(self, seconds: float) -> None:
        """Until it is ready or has failed, but no longer than `seconds`."""
        wait([self.future], timeout=seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    @property
    def live(self) -> T | None:
        """What was prepared, if it is ready."""
        done = self.future.done() and not self.future.cancelled() and self.future.exception() is None
        return self.future.result() if done else None

    @property
    def failure(self) -> str:
        """Why there is no live run, or nothing."""
        if not self.future.done():
            return ""
        error = self.future.exception()
        if error is None:
            return ""
        return str(error) if isinstance(error, HyperDPOError) else f"{type(error).__name__}: {error}"


Job = Prepared[LiveRun]


def live(folder: Saved, data_path: str | None, device: str) -> Job:
    """The live run of a folder, not yet begun the first time, the same one afterwards."""

    def work(say: Callable[[str], None]) -> LiveRun:
        say("loading PyTorch")
        data = find_data(folder.config, data_path, say)
        return LiveRun(folder, data, next(iter(devices())) if device == "auto" else device, say)

    return _jobs().get(_job_key(folder, data_path, device), lambda: Job(work))


def forget_live(folder: Saved, data_path: str | None, device: str) -> None:
    """Drop a failed job, so that the next look tries again."""
    _jobs().drop(_job_key(folder, data_path, device))


def _job_key(folder: Saved, data_path: str | None, device: str) -> Hashable:
    return str(folder.entry.path), folder.stamp, data_path or "", device


@st.cache_resource(show_spinner=False)
def _jobs() -> Kept:
    return Kept(MAX_LIVE)


@st.cache_resource(show_spinner=False)
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(3, thread_name_prefix="live")


def find_data(config: dict[str, Any], given: str | None, say: Callable[[str], None]) -> RankData:
    """The run's data: the path given by hand, the recorded path, or simulated data made again.

    Raises DataError saying how to point the run at its data.
    """
    from hyperdpo.errors import DataError
    from hyperdpo.rank.data import load_any, open_data
    from hyperdpo.rank.sources import source_of

    recorded, origin = Path(config["data"].get("path", "")), config["data"].get("origin", {})
    source = source_of(origin)
    if given:
        say(f"opening {given}")
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError(f"There is nothing at {given}; give the path of a data folder or file on this machine.")
        return load_any([path])
    if (recorded / "data.json").exists():
        say(f"opening {recorded}")
        found = open_data(recorded)
        if found.fingerprint == config["data"].get("fingerprint") or source is None:
            return found
    if source is not None:
        say(f"making the simulated data again ({origin.get('queries', 0):,} queries)")
        return open_data(source.ensure(origin))
    raise DataError(
        f"The data this run was measured on ({config['data'].get('name', 'unnamed')}) is not at {recorded} on this "
        "machine."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Devices


@st.cache_resource(show_spinner=False)
def devices() -> dict[str, str]:
    """Devices to compute on, best first, each with a line that says which and how much memory."""
    import os

    import torch

    found = {}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = f"{about.name}, {about.total_memory / 2**30:.0f} GB of GPU memory"
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        size = f", {memory:.0f} GB of memory"
    except (ValueError, OSError, AttributeError):
        size = ""
    found["cpu"] = f"CPU, {torch.get_num_threads()} threads{size}"
    return found


def cuda_line(device: str) -> str:
    """How much of a GPU's memory is free now; empty for the CPU."""
    if not device.startswith("cuda"):
        return ""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return f"{free / 2**30:.1f} of {total / 2**30:.0f} GB free"


def is_cuda_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that CUDA memory ran out."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)


def settle_memory() -> None:
    """Take what stays for long out of the garbage collector's rounds.

    Streamlit collects after every run of the script, and going through what PyTorch loads takes a fifth of a second.
    """
    import gc

    gc.unfreeze()
    gc.collect()
    gc.freeze()


def release_cuda() -> None:
    """Give unused CUDA memory back."""
    import gc

    import torch

    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cuda_sentence(device: str) -> str:
    return f"The memory of {device} ran out, so everything is computed on the CPU: the same figures, a little slower."


# ---------------------------------------------------------------------------------------------------------------------
# Without a model: what the saved fronts alone can say


def saved_curves(folder: Saved) -> tuple[Curve, ...]:
    """The fronts as saved, the run's own first."""
    own, rest = folder.own, [f for f in folder.fronts if f is not folder.own]
    ordered = ([own] if own is not None else []) + rest
    return tuple(Curve(f, "" if f.method in ("base", "oracle-unconstrained") else f"c = {f.scale:g}") for f in ordered)


def saved_reading(folder: Saved, choice: Choice) -> Reading | None:
    """The saved point nearest to `choice`; None where the run has no front of its own."""
    own, base = folder.own, folder.base
    if own is None or not len(own.ndcg):
        return None
    i = int(np.abs(own.weights - np.array(choice.weights)).max(1).argmin()) if own.weights.shape[1] else 0
    weights = tuple(float(v) for v in own.weights[i])
    change = None
    if own.per_query is not None and base is not None and base.per_query is not None:
        change = paired(own.per_query[i], base.per_query[0], _saved_counts(len(own.per_query[i])))
    return Reading(
        choice,
        weights,
        own.k,
        own.ndcg[i],
        None if base is None else base.ndcg[0],
        change,
        None if own.cross_entropy is None else own.cross_entropy[i],
        None if base is None or base.cross_entropy is None else base.cross_entropy[0],
        None if own.per_query is None else own.per_query[i],
        f"Shown is the nearest saved point: {shares(folder.objectives, weights)}, c = {own.scale:g}.",
    )


def saved_change(now: Reading, then: Reading) -> list[Interval] | None:
    """The interval of the change between two saved points, paired over queries; None without per-query figures."""
    if now.per_query is None or then.per_query is None:
        return None
    return paired(now.per_query, then.per_query, _saved_counts(len(now.per_query)))


def saved_ranges(folder: Saved) -> np.ndarray:
    """(1 + m, 2) lowest and highest NDCG of the saved fronts."""
    return spread([f.ndcg for f in folder.fronts])


@st.cache_resource(max_entries=8, show_spinner=False)
def _saved_counts(queries: int) -> np.ndarray:
    from hyperdpo.intervals import bootstrap_counts

    return bootstrap_counts(queries)


def spread(values: list[np.ndarray]) -> np.ndarray:
    """(L, 2) lowest and highest finite value of each column over arrays (p, L); (0, 1) where a column has none."""
    rows = np.concatenate(values) if values else np.zeros((0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any finite value
        low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    return np.stack([np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)], 1)


def paired(now: np.ndarray, then: np.ndarray, counts: np.ndarray) -> list[Interval]:
    """Intervals of the mean difference of per-query values (q, L), paired over queries."""
    from hyperdpo.intervals import intervals

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an objective without a positive label in any list
        return intervals(now - then, counts)


def shares(names: tuple[str, ...], weights: tuple[float, ...]) -> str:
    """`clicks 40 %, quality 60 %`: what has any weight."""
    return ", ".join(f"{n} {100 * w:.0f} %" for n, w in zip(names, weights, strict=False) if w >= 0.005) or "no weights"


def fixed_words(front: ParetoFront, scale: float) -> str:
    """Why a front does not move with c; an unconstrained oracle does not know of c at all."""
    if front.method in ("base", "oracle-unconstrained"):
        return ""
    return f"c = {front.scale:g}"


def _means(per_query: np.ndarray) -> np.ndarray:
    """Mean over queries (axis -2) of (..., q, L), NaN left out; NaN where nothing is left."""
    real = np.isfinite(per_query)
    count = real.sum(-2)
    total = np.where(real, per_query, 0.0).sum(-2, dtype=np.float64)
    means: np.ndarray = total / np.where(count > 0, count, np.nan)
    return means


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons, from the stored per-query figures alone


def judge(folders: Sequence[Saved], entrants: Sequence[Entrant], against: str = "") -> dict[str, Judged]:
    """By key, the intervals of every entrant with per-query figures; `against` is the key of the one compared with."""
    of = {f.entry.label: f for f in folders}
    found = {e.key: _judged(of[e.run], e.index) for e in entrants if e.front.per_query is not None}
    reference = next((e for e in entrants if e.key == against), None)
    out = {}
    for entrant in entrants:
        if entrant.key not in found:
            continue
        judged, volumes = found[entrant.key]
        if reference is not None and reference is not entrant and against in found:
            judged = replace(judged, against=_difference(entrant, reference, volumes, found[against][1]))
        out[entrant.key] = judged
    return out


def _difference(entrant: Entrant, reference: Entrant, draws: np.ndarray, others: np.ndarray) -> Interval | None:
    from hyperdpo.comparison import interval

    if len(draws) != len(others) or not np.isfinite(draws).any():
        return None
    assert entrant.front.per_query is not None
    return interval(entrant.hypervolume - reference.hypervolume, draws - others, entrant.front.per_query.shape[1])


def _judged(folder: Saved, index: int) -> tuple[Judged, np.ndarray]:
    """A front's intervals, and its hypervolume in every bootstrap sample."""
    front = folder.fronts[index]

    def make() -> tuple[Judged, np.ndarray]:
        from hyperdpo.comparison import hypervolume_draws, interval

        draws = resampled(folder, index)
        assert front.per_query is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # an objective without a positive label in any list
            low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0)
        volumes = hypervolume_draws(draws)
        value = Curve(front).hypervolume
        span = interval(value, volumes, front.per_query.shape[1]) if np.isfinite(value) else None
        return Judged(low, high, span), volumes

    return _comparisons().get(("judged", str(folder.entry.path), folder.stamp, index), make)


def resampled(folder: Saved, index: int) -> np.ndarray:
    """(draws, p, 1 + m) NDCG of a stored front's points in every bootstrap sample, the same samples for all."""
    from hyperdpo.comparison import resampled as draw

    front = folder.fronts[index]
    assert front.per_query is not None
    counts = _saved_counts(front.per_query.shape[1])
    return _comparisons().get(
        ("draws", str(folder.entry.path), folder.stamp, index), lambda: draw(front, counts).astype(np.float32)
    )


def owners(
    folders: Sequence[Saved], entrants: Sequence[Entrant], i: int, j: int
) -> tuple[Stretches, list[Contribution]]:
    """Who owns which stretch in the plane of NDCG columns i and j, and what each adds over all objectives.

    Raises DataError where no point has both objectives.
    """
    of = {f.entry.label: f for f in folders}

    def make() -> tuple[Stretches, list[Contribution]]:
        from hyperdpo.comparison import contributions, stretches

        values = [e.front.ndcg[:, [i, j]] for e in entrants]
        draws = [
            resampled(of[e.run], e.index)[:, :, [i, j]] if e.front.per_query is not None else None for e in entrants
        ]
        whole = [e.front.auxiliary for e in entrants]
        added = [] if any(np.isnan(w).any() for w in whole) else contributions(whole)
        return stretches(values, draws), added

    marks = tuple((str(of[e.run].entry.path), of[e.run].stamp, e.index) for e in entrants)
    return _comparisons().get(("owners", marks, i, j), make)


@st.cache_resource(show_spinner=False)
def _comparisons() -> Kept:
    return Kept(MAX_COMPARED)


def simplex(live: LiveRun, k: int, step: int = 10) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights (p, 3) at every multiple of 1/step of the simplex, and NDCG@k (p, 1 + m) there at c = 1.

    None where only some weights were trained.
    """
    if live.run.trained is not None:
        return None

    def make() -> tuple[np.ndarray, np.ndarray]:
        import torch

        from hyperdpo.rank.live import front_ndcg

        weights = np.array([(a, b, step - a - b) for a in range(step + 1) for b in range(step + 1 - a)]) / step
        residuals = torch.stack([live.models[0].residual(w.tolist()) for w in weights])
        return weights, _means(front_ndcg(live.table, residuals, k=k).cpu().numpy())

    return live._lists_kept.get(("simplex", k, step), lambda: live._guarded(make))


# ---------------------------------------------------------------------------------------------------------------------
# The preview


def sketch(live: LiveRun, k: int, *, wait: bool = False) -> Sketch | None:
    """The run's figures over all (w, c) for the preview; measured while nobody waits, unless `wait`.

    None until it is measured, where that failed, and where only some weights were trained.
    """
    if live.run.trained is not None:
        return None
    found = live._lists_kept.get(("sketch", k), lambda: _workers().submit(_sketch, live, k))
    if not (wait or found.done()):
        return None
    if found.exception() is not None:
        live._lists_kept.drop(("sketch", k))
        return None
    return found.result()


def _sketch(live: LiveRun, k: int) -> Sketch:
    import torch

    from dashboard import preview
    from hyperdpo.rank.live import front_ndcg

    time.sleep(AHEAD_SECONDS)
    m = len(live.saved.objectives)

    def part(weights: np.ndarray) -> np.ndarray:
        residuals = torch.stack([live.models[0].residual(w.tolist()) for w in weights])
        return np.stack([_means(front_ndcg(live.table, residuals, scale=c, k=k).cpu().numpy()) for c in preview.SCALES])

    found, points = [], preview.nodes(m)
    for start in range(0, len(points), SKETCHED_AT_ONCE):  # between two parts, a slider that moves is answered
        found.append(live._guarded(partial(part, points[start : start + SKETCHED_AT_ONCE])))
    return preview.fit(np.concatenate(found, axis=1), m)


# ---------------------------------------------------------------------------------------------------------------------
# Temperature


def family(live: LiveRun, scales: Sequence[float], k: int) -> list[ParetoFront]:
    """The run's own front at each c."""
    return [own_front(live, scale, k) for scale in scales]


def own_front(live: LiveRun, scale: float, k: int) -> ParetoFront:
    """The run's own front at one c."""

    def make() -> ParetoFront:
        weights, residuals = live._own
        return live._front(live.saved.own, weights, residuals, scale, k)

    return live._kept.get(("own", scale, k), lambda: live._guarded(make))


def tempered_front(live: LiveRun, beta: tuple[float, ...], scale: float, k: int) -> ParetoFront:
    """The run's own front where each objective has a temperature of its own, moved by c as well.

    Raises ConfigError saying why, where the run's parametrisation knows no other temperatures than its own.
    """

    def residuals() -> tuple[np.ndarray, torch.Tensor]:
        from hyperdpo.errors import ConfigError

        if live.run.trained is not None:
            raise ConfigError(
                "This run has one model per weight, each trained at its own temperatures; only a mixture can be moved "
                "to others without training."
            )
        weights = live._own[0]
        return weights, live.models[0].grid_residuals(len(weights), beta=beta)

    def make() -> ParetoFront:
        weights, found = live._lists_kept.get(("tempered", beta, live.device), residuals)
        return replace(live._front(live.saved.own, weights, found, scale, k), name="own temperatures", beta=beta)

    return live._kept.get(("tempered", beta, scale, k), lambda: live._guarded(make))


def mean_change(now: ParetoFront, then: ParetoFront, live: LiveRun) -> Interval | None:
    """The interval of the change in the main objective, averaged over the points of each front, paired over lists."""
    if now.per_query is None or then.per_query is None:
        return None
    main = [f.per_query[:, :, :1].swapaxes(0, 1) for f in (now, then) if f.per_query is not None]  # (q, p, 1)
    return paired(_means(main[0]), _means(main[1]), live.table.bootstrap)[0]


# ---------------------------------------------------------------------------------------------------------------------
# A model to take away


def onnx_model(saved: Saved, live: LiveRun, choice: Choice, name: str) -> Prepared[bytes]:
    """A zip of one trade-off as `name`.onnx and its card, `name`.md, made by a thread that is begun once."""
    key = ("onnx", str(saved.entry.path), saved.stamp, choice.to_text(), name)
    return _exports().get(key, lambda: Prepared(lambda say: _to_onnx(live, choice, name, say)))


def _to_onnx(live: LiveRun, choice: Choice, name: str, say: Callable[[str], None]) -> bytes:
    from hyperdpo.rank.export import export_rank

    say("recording the model as a graph")
    out = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="hyperdpo-") as room, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for file in export_rank(live.run, choice.weights, Path(room) / f"{name}.onnx", scale=choice.scale):
            z.write(file, file.name)
    return out.getvalue()


@st.cache_resource(show_spinner=False)
def _exports() -> Kept:
    return Kept(4)
