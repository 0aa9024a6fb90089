"""A study's data: the demo and simulations are made, other data is what a person gives with --data NAME=PATH."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperdpo.errors import ConfigError, nearest
from hyperdpo.rank.data import RankData, convert, open_data
from hyperdpo.rank.demo import DEFAULT_QUERIES, make_demo
from hyperdpo.rank.simulate import simulate
from hyperdpo.rank.study.recipe import Case
from hyperdpo.rank.train import paper_task
from hyperdpo.workers import Say

SUFFIXES = ("", ".gz", ".xz")
PARTS = ("train", "vali", "test")
ORDER_SEED = 0  # of the queries before they are dealt to folds


@dataclass(frozen=True)
class Known:
    """What is known of a public data set's files: how to convert them and how a person gives them."""

    options: Mapping[str, Any]
    how: str


KNOWN = {
    "movielens": Known(
        {"main": "label", "objectives": ["loved=f53:l1", "long_tail=f54", "fresh=f55", "acclaim=f56"]},
        "--data movielens=movielens100k.txt.xz (LETOR lists: f53 to f56 loved, long_tail, fresh, acclaim)",
    ),
    "mslr": Known(
        {"preset": "mslr"},
        "--data mslr=FOLDER, with Fold1 to Fold5 as MSLR-WEB10K comes, or [mslr_]train, vali and test.txt[.gz|.xz]",
    ),
    "summeval": Known({}, "--data summeval=DIR, a data folder made as recipes/summeval.py says"),
}
MADE = ("demo", "simulated")


def how_to_give(name: str) -> str:
    """The flag that gives a data set."""
    return KNOWN[name].how if name in KNOWN else f"--data {name}=DIR, a data folder that `hyperdpo data convert` wrote"


def parse_given(texts: Sequence[str], wanted: set[str]) -> dict[str, Path]:
    """`NAME=PATH` texts as a mapping.

    Raises ConfigError listing every text that is not of that form, every name that no recipe uses, every path that is
    not there.
    """
    problems, found = [], {}
    askable = sorted(wanted - set(MADE))
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and name and path):
            problems.append(f"--data takes NAME=PATH; got {text!r}.")
        elif name not in askable:
            have = f"they use {', '.join(askable)}" if askable else "they make theirs themselves"
            problems.append(f"--data {name}: no chosen recipe uses data of that name{nearest(name, askable)}; {have}.")
        elif not Path(path).exists():
            problems.append(f"--data {name}: there is no {path}.")
        else:
            found[name] = Path(path)
    if problems:
        raise ConfigError(problems)
    return found


@dataclass(frozen=True)
class Fold:
    """One fold of a case: the data folder, and which of `rotate` folds of its queries is the test split."""

    folder: Path
    index: int = 0
    rotate: int = 0

    def open(self, case: Case, preset: str = "default") -> RankData:
        """The fold's data under the case's objectives; with the preset `paper`, under the paper's softmax."""
        data = open_data(self.folder)
        if self.rotate:
            data = data.with_split(rotated(data.n_queries, self.rotate, self.index))
        if case.train_queries:
            data = data.with_train_queries(case.train_queries)
        if case.objectives:
            data = data.with_task(objectives=list(case.objectives))
        return paper_task(data) if preset == "paper" else data


def rotated(queries: int, folds: int, fold: int) -> np.ndarray:
    """The split of one fold, (Q,) uint8: the fold is tested on, the next one validates, the others train.

    Every query is in the test split of exactly one fold; the order in which they are dealt is the same for all.
    """
    part = np.empty(queries, dtype=int)
    part[np.random.default_rng(ORDER_SEED).permutation(queries)] = np.arange(queries) % folds
    split: np.ndarray = np.where(part == fold, 2, np.where(part == (fold + 1) % folds, 1, 0)).astype(np.uint8)
    return split


def prepare(case: Case, given: Mapping[str, Path], folder: Path, say: Say = lambda line: None) -> list[Fold] | None:
    """The folds of a case, made or converted under `folder` where they are not yet; None where it was not given.

    Raises DataError and ConfigError for data that cannot be read.
    """
    if case.data == "demo":
        queries = case.queries or DEFAULT_QUERIES
        made = _once(folder / f"demo-{queries}", lambda out: make_demo(out, queries), say)
        return _rotations(made, case)
    if case.simulation is not None:
        shape = case.simulation
        stamp = hashlib.sha256(json.dumps(shape.origin, sort_keys=True).encode()).hexdigest()[:12]
        return _rotations(_once(folder / f"simulated-{stamp}", lambda out: simulate(shape, out), say), case)
    if case.data not in given:
        return None
    path = given[case.data]
    if (path / "data.json").exists():
        return _rotations(path, case)
    if (path / "Fold1").is_dir():
        count = max(case.folds, 1)
        missing = [f"Fold{i + 1}" for i in range(count) if not (path / f"Fold{i + 1}").is_dir()]
        if missing:
            raise ConfigError(f"{case.name} rotates {count} folds, but {path} lacks {', '.join(missing)}.")
        return [Fold(_converted(case.data, path / f"Fold{i + 1}", folder, say), i) for i in range(count)]
    return _rotations(_converted(case.data, path, folder, say), case)


def _rotations(folder: Path, case: Case) -> list[Fold]:
    return [Fold(folder, i, case.folds) for i in range(case.folds)] if case.folds else [Fold(folder)]


def _once(folder: Path, make: Callable[[Path], object], say: Say) -> Path:
    if not folder.exists():
        say(f"making {folder}")
        make(folder)
    return folder


def _converted(name: str, path: Path, folder: Path, say: Say) -> Path:
    """The data folder of a file, or of a folder of files, as its name says."""
    if name not in KNOWN or not KNOWN[name].options:
        raise ConfigError(f"--data {name}={path} is not a data folder; give {how_to_give(name)}.")
    files = [path] if path.is_file() else _parts(path)
    if not files:
        raise ConfigError(
            f"--data {name}={path}: the folder has no train, vali and test file; give {how_to_give(name)}."
        )
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    out = folder / f"{name}-{hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:12]}"
    return _once(out, lambda target: convert(files, target, **KNOWN[name].options), say)


def _parts(folder: Path) -> list[Path]:
    for prefix in ("mslr_", ""):
        found = [[folder / f"{prefix}{part}.txt{s}" for s in SUFFIXES] for part in PARTS]
        files = [next((f for f in options if f.is_file()), None) for options in found]
        if all(files):
            return [f for f in files if f]
    return []
