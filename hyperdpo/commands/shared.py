"""What several commands share: their answer, flags, tables of fronts, JSON, and progress on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from tyro.conf import Positional, UseAppendAction, arg

from hyperdpo.errors import RunError
from hyperdpo.tables import table

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.objectives import Objective

GRAMMAR = "NAME=COLUMN[:l1|softmax[:TEMPERATURE]][:min|max]"
WRITE_SECONDS = 0.3  # between two notes of how far a command is


@dataclass(frozen=True)
class Answer:
    """What a command found: `document` for `--json`, `text` for people."""

    document: dict[str, Any]
    text: str


class Command(Protocol):
    """What `main` needs of a parsed command."""

    @property
    def json(self) -> bool: ...

    def execute(self) -> Answer | None:
        """None where this process is not the one that prints."""


def flag(text: str, metavar: str, default: object = None) -> object:
    """An optional flag; `default` is what holds where neither the flag nor a preset says otherwise."""
    return arg(help=text, metavar=metavar, help_behavior_hint="" if default is None else f"(default: {default})")


Json = Annotated[bool, arg(help="Print one JSON document instead of a table.", help_behavior_hint="")]
Out = Annotated[Path, arg(metavar="DIR")]
Device = Annotated[Literal["auto", "cpu", "cuda"], arg(help="Where to compute.")]
RunPath = Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
MainFlag = Annotated[str | None, flag("Column of the main label.", "COLUMN", "the declared one, or 'label'")]
ObjectiveFlag = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(metavar=GRAMMAR, help="An auxiliary objective; once for each. Replaces those the data declares."),
]
ProgressFlag = Annotated[
    Path | None, arg(metavar="FILE", help="Keep a note there of how far it is, as JSON.", help_behavior_hint="")
]
QidFlag = Annotated[str | None, flag("Column of the query id in tables.", "COLUMN", "found by its name")]


def given(flags: Any, *names: str) -> dict[str, Any]:
    """The flags (all fields, or `names`) that were given."""
    listed = names or tuple(f.name for f in fields(flags))
    return {name: value for name in listed if (value := getattr(flags, name)) is not None}


def label_kind(objective: Objective) -> str:
    """How an objective's labels are normalised, in few words."""
    words: list[str] = [objective.normalisation]
    if objective.normalisation == "softmax":
        words.append(f"T {objective.temperature:g}{'' if objective.standardise else ', raw'}")
    if objective.direction == "min":
        words.append("lower is better")
    if objective.shift:
        words.append(f"shift {objective.shift:g}")
    return ", ".join(words)


def measure_of(front: ParetoFront) -> str:
    """What a front's main score is."""
    return f"{front.main}, nats, mean" if front.metric == "cross-entropy" else f"{front.main} NDCG@{front.k} mean"


def fronts_table(fronts: Sequence[ParetoFront]) -> str:
    headers = ["front", "hypervolume", measure_of(fronts[0]), "std", "sparsity", "points", "models"]
    rows = [
        [f.name, f"{f.hypervolume:.5f}", f.main_mean, f.main_std, f"{f.sparsity:.6f}", len(f.ndcg), f.models]
        for f in fronts
    ]
    return table(headers, rows)


def version() -> str:
    return metadata.version("hyperdpo")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def device_of(name: str) -> Any:
    from hyperdpo.training import make_accelerator

    return make_accelerator(name).device


class Bar:
    """A progress bar on stderr where a person sees it: on a terminal, and not with --json.

    With `file` the same is also written there for other programs, at most a few times a second:
    `{"what": .., "done": .., "total": .., "note": ..}`.
    """

    def __init__(self, *, shown: bool = True, file: Path | None = None) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._file, self._written = file, 0.0
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of `what`; another `what` begins another bar."""
        self._write(what, done, total, note)
        if not self._shown:
            return
        if what != self._what or self._bar is None:
            from tqdm import tqdm

            self._close()
            self._bar, self._what = tqdm(total=total, desc=what, leave=False, dynamic_ncols=True), what
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close()

    def _write(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._file is None or now - self._written < WRITE_SECONDS:
            return
        from hyperdpo.files import write_json

        self._written = now
        try:
            write_json(self._file, {"what": what, "done": done, "total": total, "note": note})
        except RunError:  # a full disk, say: a bar is not worth a training
            self._file = None

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
