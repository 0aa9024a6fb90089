"""Data that a person brings: files kept, read and described, and the commands for them. No layout."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboard.state import MAX_TEXT, quoted
from dashboard.store import RANK, ROOT, TEXT, Kept, Prepared
from dashboard.words_bringing import BASES, BETTER, LABELS, METHODS, PRESETS
from hyperdpo.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from hyperdpo.rank.data import RankData
    from hyperdpo.text.data import Preferences

UPLOADS = ".uploads"
UPLOADS_KEPT = 86_400.0  # seconds that an upload stays which no run and no job names
JSON_LINES = (".jsonl", ".json", ".ndjson")
L1, SOFTMAX = "l1", "softmax"
SPARSE = 0.5  # labels of which more than this share are 0 are taken for events
MOST_OBJECTIVES = 6
OWN_BASE = ROOT / "checkpoints" / "stories" / "base"
SHORT, LONG = 96, 256  # tokens of a response, at most, on the base that ships and on others
LISTS = 300  # of preferences, to begin with: what two cores train on in minutes


@dataclass(frozen=True)
class Goal:
    """One objective of a training: a column, how its labels become shares, and which way is better.

    `shift` is added to labels of which some are below 0: gains cannot be. Where lower is better they are reflected.
    """

    column: str
    labels: str = SOFTMAX
    better: str = "max"
    shift: float = 0.0

    def to_text(self) -> str:
        """As the address says it: the shift is the data's."""
        return f"{self.column}:{self.labels}:{self.better}"

    def flag(self) -> str:
        """As `--objective` takes it."""
        return self.to_text() + (f":shift={self.shift:.9g}" if self.shift and self.better == "max" else "")


@dataclass(frozen=True)
class Brought:
    """What was brought, and what shall be done with it. Empty text is the usual.

    Attributes:
        files: paths on this machine. main, qid: columns of the main label and of the query id.
        preset: `mslr` where the columns are MSLR's.
        goals: the objectives of a training; none is as the data declares.
        run: the run to be measured. name: of the run to be trained.
        base: of rankers. model: of language models, a folder or a hub name. lists: of preferences, at most.
        response: tokens of a response, at most; 0 is what suits the model.
    """

    files: tuple[str, ...] = ()
    main: str = ""
    qid: str = ""
    preset: str = ""
    goals: tuple[Goal, ...] = ()
    run: str = ""
    name: str = ""
    method: str = "hyperdpo"
    base: str = "transformer"
    epochs: int = 0
    seed: int = 0
    model: str = str(OWN_BASE)
    lists: int = LISTS
    response: int = 0


@dataclass(frozen=True, eq=False)
class Column:
    """A numeric column: whether most of it is 0, and its range."""

    name: str
    sparse: bool
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Look:
    """What was read.

    Attributes:
        kind: RANK or TEXT. facts: what people read of it, in order.
        columns: those an objective can be made of. main: the column of the main label, of a ranking.
        declared: objectives that the data or a preset declares.
        path: where the data lies, for a run to be pointed at.
    """

    kind: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    main: str = ""
    declared: tuple[Goal, ...] = ()
    path: str = ""
    notes: tuple[str, ...] = ()


def keep_uploads(runs: Path, uploads: Sequence[tuple[str, bytes]]) -> tuple[str, ...]:
    """Uploaded files, by name and content, as paths below `runs`; the same content is kept once.

    Uploads of more than UPLOADS_KEPT ago that no run and no job names are removed. Raises RunError where they cannot be
    written.
    """
    _drop_uploads(runs)
    digest = hashlib.sha256()
    for name, content in uploads:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = runs / UPLOADS / digest.hexdigest()[:12]
    paths = [folder / (Path(name).name or "upload") for name, _ in uploads]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for path, (_, content) in zip(paths, uploads, strict=True):
            if not path.exists() or path.stat().st_size != len(content):
                path.write_bytes(content)
    except OSError as error:
        raise RunError(
            f"{folder} could not be written ({error.strerror or error}): start the app in a folder you may write to, "
            "or give the path of the files instead."
        ) from None
    return tuple(map(str, paths))


def _drop_uploads(runs: Path) -> None:
    """Remove what is old and named nowhere; nothing where that cannot be found out."""
    with suppress(OSError):
        old = [f for f in (runs / UPLOADS).glob("*/") if time.time() - f.stat().st_mtime > UPLOADS_KEPT]
        if not old:
            return
        files = [*runs.glob("*/config.json"), *runs.glob("*/training/plan.json"), *runs.glob(".jobs/*/job.json")]
        named = "".join(f.read_text("utf-8", "replace") for f in files)
        for folder in old:
            if f"{UPLOADS}/{folder.name}" not in named:
                shutil.rmtree(folder, ignore_errors=True)


def kind_of(files: Sequence[str]) -> str:
    """RANK or TEXT, by the files' endings. Raises ConfigError for both at once."""
    from hyperdpo.rank.reading import plain_suffix

    texts = [plain_suffix(Path(f)) in JSON_LINES for f in files]
    if any(texts) and not all(texts):
        raise ConfigError("JSON lines hold preferences, the other files rankings: bring one kind at a time.")
    return TEXT if texts and all(texts) else RANK


def header(files: Sequence[str]) -> tuple[str, ...]:
    """The column names of a table; empty for files that have none, or that cannot be read: the reader says why."""
    from hyperdpo.rank.reading import CSV_SUFFIXES, PARQUET_SUFFIXES, plain_suffix
    from hyperdpo.rank.tables import TableReader
    from hyperdpo.streams import Problems

    first = Path(files[0]) if files else Path()
    if plain_suffix(first) not in (*CSV_SUFFIXES, *PARQUET_SUFFIXES) or not first.is_file():
        return ()
    try:
        return tuple(TableReader(first, Problems()).header())
    except (DataError, OSError):
        return ()


def look(brought: Brought) -> Prepared[Look]:
    """What the files hold, being read by a thread; the same object for the same files."""
    stamps = tuple((f, Path(f).stat().st_mtime_ns) for f in brought.files if Path(f).exists())
    key = (brought.files, stamps, brought.main, brought.qid, brought.preset)
    return _looks().get(key, lambda: Prepared(lambda say: _look(brought, say)))


@st.cache_resource(show_spinner=False)
def _looks() -> Kept:
    return Kept(8)


def _look(brought: Brought, say: Any) -> Look:
    missing = [f for f in brought.files if not Path(f).exists()]
    if missing:
        raise DataError([f"There is nothing at {quoted(f)} on this machine; check the path." for f in missing])
    say("reading the files")
    if kind_of(brought.files) == TEXT:
        from hyperdpo.text.data import load_preferences

        return _text_look(load_preferences(list(brought.files)))
    from hyperdpo.rank.data import load_any

    data = load_any(
        [Path(f) for f in brought.files], preset=brought.preset or None, main=brought.main or None,
        **({"qid_column": brought.qid} if brought.qid else {}),
    )  # fmt: skip
    return _rank_look(data)


def _rank_look(data: RankData) -> Look:
    about = data.describe()
    sizes = ", ".join(f"{s['queries']:,} {name}" for name, s in about["splits"].items())
    ones = sum(s["one_item_lists"] for s in about["splits"].values())
    facts = [
        ("lists", f"{about['queries']:,} ({sizes})"),
        ("items", f"{about['items']:,}"),
        ("features", f"{about['features']:,}"),
        ("main label", data.task.main.column),
    ]
    if ones:
        facts.append(("lists of one item", f"{ones:,}, which no order can change"))
    if data.skipped:
        facts.append(("skipped", ", ".join(data.skipped)))
    columns = tuple(
        _column(name, np.asarray(data.column(name))) for name in data.columns if name != data.task.main.column
    )
    declared = tuple(Goal(o.column, o.normalisation, o.direction) for o in data.task.objectives)
    notes = tuple(map(str, data.manifest.get("notes", [])))
    return Look(RANK, tuple(facts), columns, data.task.main.column, declared, str(data.path), notes)


def _text_look(preferences: Preferences) -> Look:
    sizes = [len(r) for r in preferences.responses]
    few, most = min(sizes, default=0), max(sizes, default=0)
    facts = [
        ("prompts with lists", f"{len(preferences):,}"),
        ("responses", f"{sum(sizes):,}, {few} to {most} a list" if few != most else f"{sum(sizes):,}, {few} a list"),
    ]
    skipped = [f"{count:,} {reason}" for reason, count in preferences.skipped.items() if count]
    if skipped:
        facts.append(("skipped", "; ".join(skipped)))
    columns = []
    for j, objective in enumerate(preferences.objectives):
        values = np.concatenate([s[:, j] for s in preferences.scores]) if preferences.scores else np.zeros(0)
        columns.append(_column(objective.column, values[~np.isnan(values)], sparse=objective.normalisation == L1))
    declared = tuple(Goal(o.column, o.normalisation, o.direction) for o in preferences.objectives)
    return Look(TEXT, tuple(facts), tuple(columns), declared=declared)


def _column(name: str, values: np.ndarray, *, sparse: bool | None = None) -> Column:
    if not len(values):
        return Column(name, False, 0.0, 0.0)
    low, high = float(values.min()), float(values.max())
    zeros = bool((values == 0).mean() > SPARSE and low >= 0)
    return Column(name, zeros if sparse is None else sparse, low, high)


def goal_for(look: Look, column: str) -> Goal:
    """The objective of a column as it is declared, or as its values suggest."""
    for goal in look.declared:
        if goal.column == column:
            return goal
    found = next(c for c in look.columns if c.name == column)
    return Goal(column, L1 if found.sparse else SOFTMAX, shift=_shift(look, found))


def _shift(look: Look, column: Column) -> float:
    if look.kind != RANK or column.low >= 0:
        return 0.0
    return float(np.nextafter(np.float32(-column.low), np.float32(np.inf)))


def fitted(brought: Brought, look: Look) -> Brought:
    """`brought` with objectives that this data has: those declared to begin with."""
    known = {c.name: c for c in look.columns}
    kept = tuple(replace(g, shift=_shift(look, known[g.column])) for g in brought.goals if g.column in known)
    return replace(brought, goals=kept or look.declared)


def run_name(brought: Brought, runs: Path) -> str:
    """A name for the run that is not taken: the files' own, and a number where it is."""
    stem = Path(brought.files[0]).name.split(".")[0] if brought.files else "run"
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)[:40].strip("-") or "run"
    taken = [name, *(f"{name}-{i}" for i in range(2, 1000))]
    return next(n for n in taken if not (runs / n).exists())


def train_command(brought: Brought, look: Look, out: Path) -> list[str]:
    """`train ...` as a terminal takes it.

    Raises ConfigError, all problems at once: no objective, too many, a column with two roles, a name that is a path.
    """
    problems = []
    if not brought.goals:
        problems.append("Choose at least one objective to train for.")
    if len(brought.goals) > MOST_OBJECTIVES:
        problems.append(f"At most {MOST_OBJECTIVES} objectives can be trained from here; got {len(brought.goals)}.")
    if out.name in ("", ".", "..") or out.name.startswith(".") or out.parent.name in ("", ".."):
        problems.append(f"A run's name is a folder's name; got {quoted(out.name)}.")
    if out.exists():
        problems.append(f"A run called {out.name} is there already; choose another name.")
    if problems:
        raise ConfigError(problems)
    text = look.kind == TEXT
    command = ["train", "text" if text else "rank", "--data", *brought.files, "--out", str(out)]
    for goal in brought.goals:
        command += ["--objective", goal.flag()]
    command += ["--method", brought.method, "--seed", str(brought.seed)]
    if brought.epochs:
        command += ["--epochs", str(brought.epochs)]
    if text:
        length = str(response_tokens(brought))
        return [*command, "--model", brought.model, "--limit", str(brought.lists), "--max-response", length]
    if brought.main:
        command += ["--main", brought.main]
    if brought.qid:
        command += ["--qid-column", brought.qid]
    if brought.preset:
        command += ["--preset", brought.preset]
    return [*command, "--base", brought.base]


def fits(config: Mapping[str, Any], look: Look) -> bool:
    """Whether a run reads columns that this data has, so that it can be measured on it."""
    task, known = config["task"], {look.main, *(c.name for c in look.columns)}
    columns = {o["column"] for o in task["objectives"]}
    if look.kind == RANK:
        columns |= {task["main"]["column"], *task["features"], *filter(None, [task.get("base_column")])}
    return columns <= known


def response_tokens(brought: Brought) -> int:
    """Tokens of a response, at most: as asked for; the base that ships has room for few."""
    return brought.response or (SHORT if brought.model == str(OWN_BASE) else LONG)


def measure_command(brought: Brought, run: Path) -> list[str]:
    """`evaluate ...` over every list that was brought, as a terminal takes it."""
    return ["evaluate", str(run), "--data", *brought.files, "--split", "all"]


def shell(command: Sequence[str]) -> str:
    """A command as people paste it."""
    return shlex.join(["hyperdpo", *command])


SAID = ("main", "qid", "preset", "run", "name", "method", "base", "model")
COUNTED = ("epochs", "seed", "lists", "response")
KEYS = frozenset({"file", "goal", *SAID, *COUNTED})


def read_brought(parameters: Mapping[str, Sequence[str]]) -> tuple[Brought, tuple[str, ...]]:
    """What the address says was brought, and a sentence for whatever is foreign."""
    notes: list[str] = []
    found: dict[str, Any] = {}
    plain = Brought()
    for key in (*SAID, *COUNTED):
        if not parameters.get(key):
            continue
        text = parameters[key][-1]
        if key in SAID:
            found[key] = text[: 5 * MAX_TEXT]
        elif text.isascii() and text.isdigit() and len(text) < 8:
            found[key] = int(text)
        else:
            notes.append(f"The link's {key}={quoted(text)} is not a whole number; {getattr(plain, key)} is used.")
    goals = []
    for text in parameters.get("goal", ()):
        column, _, rest = text.rpartition(":")
        column, _, labels = column.rpartition(":")
        if column and labels in LABELS and rest in BETTER:
            goals.append(Goal(column, labels, rest))
        else:
            notes.append(
                f"The link's goal={quoted(text)} is not COLUMN:{'|'.join(LABELS)}:{'|'.join(BETTER)}; it was left out."
            )
    for key, known in (("method", METHODS), ("base", BASES), ("preset", PRESETS)):
        if found.get(key, getattr(plain, key)) not in known:
            notes.append(f"The link's {key}={quoted(found.pop(key))} is none of {', '.join(filter(None, known))}.")
    return Brought(tuple(parameters.get("file", ())), goals=tuple(goals), **found), tuple(notes)


def write_brought(brought: Brought) -> dict[str, list[str]]:
    """The address' parameters; the inverse of `read_brought`."""
    plain = Brought()
    said = {key: getattr(brought, key) for key in (*SAID, *COUNTED) if getattr(brought, key) != getattr(plain, key)}
    out = {"file": list(brought.files), "goal": [g.to_text() for g in brought.goals]}
    return {k: v for k, v in out.items() if v} | {k: [str(v)] for k, v in said.items()}
