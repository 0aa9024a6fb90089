"""Ranking data: files into a columnar data folder, and the checks before training.

The names of `task`, `lists`, `scaler` and `folder` are imported from here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.files import sha256
from hyperdpo.objectives import Objective
from hyperdpo.rank.folder import SPLITS, FolderWriter, RankData, batch_rows, open_data, write_folder
from hyperdpo.rank.letor import LetorReader
from hyperdpo.rank.lists import ListSet
from hyperdpo.rank.reading import (
    CSV_SUFFIXES,
    LETOR_SUFFIXES,
    MAX_COLUMNS,
    PARQUET_SUFFIXES,
    Block,
    Matrix,
    Problems,
    Progress,
    QueryOrder,
    plain_suffix,
    to_dense,
)
from hyperdpo.rank.scaler import Scaler
from hyperdpo.rank.tables import TableReader
from hyperdpo.rank.task import MSLR_COLUMNS, PRESETS, Task, declare, preset_task

__all__ = [
    "PRESETS",
    "SPLITS",
    "ListSet",
    "RankData",
    "Scaler",
    "Task",
    "check_task",
    "convert",
    "load_any",
    "open_data",
    "random_split",
    "write_folder",
]

_TOKENS = {
    "train": "train",
    "training": "train",
    "vali": "validation",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
Files = Sequence[str | Path] | str | Path


def convert(
    files: Files | None,
    out: str | Path,
    *,
    splits: Mapping[str, Files] | None = None,
    preset: str | None = None,
    main: str | Objective | None = None,
    objectives: Iterable[str | Objective] | None = None,
    base_column: str | None = None,
    qid_column: str | None = None,
    n_features: int | None = None,
    split_seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> RankData:
    """Read LETOR, CSV or Parquet files into the data folder `out`, whole or not at all.

    Lists are split by query: as `splits` says; else by the files' names, where each holds one of train, vali/valid/dev,
    test and both train and test occur; else 60/20/20 at random from `split_seed`. Without validation files, 20 % of the
    train queries become validation. The manifest says which of these happened.

    Args:
        files: paths, all of one kind; None where `splits` (train/validation/test -> paths) is given.
        preset: 'mslr' declares the columns of MSLR-WEB30K.
        main, objectives, base_column: see `RankData.with_task`.
        qid_column: the query id's column in tables; found by its name otherwise.
        n_features: LETOR only; as many columns even if the highest never occur (sparse files).
    Raises:
        DataError: up to 20 problems of the files with their places; a destination that cannot be written.
        ConfigError: unknown columns or presets, columns with two roles.
    """
    given, where = _inputs(files, splits)
    if preset is not None and preset not in PRESETS:
        preset_task(preset, [])
    if n_features is not None and not 1 <= n_features <= MAX_COLUMNS:
        raise ConfigError(f"n_features runs from 1 to {MAX_COLUMNS:,}; got {n_features}.")
    with FolderWriter(out) as writer:
        spool = _Spool(writer.temporary / "spool")
        order, readers = _read(given, spool, qid_column, preset, progress)
        columns, texts = _columns(readers, n_features)
        spool.width = len(columns)
        if preset:
            start = preset_task(preset, columns)
            task = declare(columns, main, objectives, base_column, start)
        else:
            task = declare(columns, main, objectives, base_column)
        split, how, notes = _split(order, given, where, split_seed)
        writer.write_items(columns, spool.batches(), spool.texts(texts))
        spool.remove()
        skipped = {"lines_without_data": sum(getattr(r, "blank_lines", 0) for r in readers)}
        return writer.finish(
            sizes=np.array(order.sizes),
            qids=order.qids,
            split=split,
            task=task,
            name=name or _name(given),
            origin={"kind": "files", "preset": preset},
            sources=[{"file": f.name, "bytes": f.stat().st_size, "sha256": sha256(f)} for f in given],
            query_texts=order.texts if order.texts != order.qids else None,
            skipped=skipped,
            split_how=how,
            notes=notes,
        )


def load_any(
    paths: Files,
    cache: str | Path | None = None,
    *,
    main: str | Objective | None = None,
    objectives: Iterable[str | Objective] | None = None,
    base_column: str | None = None,
    **options: Any,
) -> RankData:
    """Open a data folder, or convert files into a folder under `cache` once and open that the next time.

    The cache folder's name holds a hash of the files' paths, sizes and times and of `options` (see `convert`). Without
    `cache` it is HYPERDPO_CACHE, or hyperdpo in the user's cache folder, or one in the temporary folder.
    Raises what `convert` and `open_data` raise.
    """
    listed = _listed(paths)
    if len(listed) == 1 and listed[0].is_dir():
        data = open_data(listed[0])
    else:
        data = _cached(listed, Path(cache) if cache is not None else _cache_folder(), main, options)
    if main is None and objectives is None and base_column is None:
        return data
    return data.with_task(main, objectives, base_column)


def check_task(data: RankData) -> dict[str, Any]:
    """`data.describe()` of a task that can be trained on.

    Raises DataError listing: labels that are constant or empty in every training list; negative labels of the main label
    or of an objective with direction `max` (they are gains); an empty training split; no features.
    """
    about = data.describe()
    problems = []
    if not about["splits"]["train"]["queries"]:
        problems.append(f"The data {data.name!r} has no training lists; convert with a training file or at least one list.")
    if not data.task.features:
        problems.append("No feature column is left; every column is a label, an objective or the base score.")
    for objective in data.task.labelled:
        role = "The main label" if objective is data.task.main else f"Objective {objective.name!r}"
        problems += _negative(data, objective, role)
        problems += _uninformative(about, objective, role)
    if problems:
        raise DataError(problems)
    return about


def random_split(count: int, seed: int, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> np.ndarray:
    """(count,) uint8 split numbers in the given shares, rounded; each split gets a list while there are enough."""
    rest = [max(round(count * share), 1) if count > 2 else 0 for share in shares[1:]]
    order = np.random.default_rng(seed).permutation(count)
    split = np.zeros(count, np.uint8)
    split[order[: rest[0]]] = 1
    if len(rest) > 1:
        split[order[rest[0] : rest[0] + rest[1]]] = 2
    return split


class _Spool:
    """Blocks on disk until the number of columns is known, so that memory does not grow with the files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.width = 0
        self._sparse: list[bool] = []
        self._texts: list[dict[str, pa.Array]] = []
        folder.mkdir()

    def add(self, block: Block) -> None:
        stem = self.folder / str(len(self._sparse))
        self._sparse.append(sparse.issparse(block.values))
        self._texts.append(block.texts)
        if sparse.issparse(block.values):
            sparse.save_npz(f"{stem}.npz", block.values, compressed=False)
        else:
            np.save(f"{stem}.npy", block.values)

    def batches(self) -> Iterator[np.ndarray]:
        """(rows, width) float32, as many rows at once as `batch_rows` allows."""
        step, kept, rows = batch_rows(self.width), [], 0
        for values in self._stored():
            for start in range(0, values.shape[0], step):
                kept.append(to_dense(values[start : start + step], self.width))
                rows += len(kept[-1])
                while rows >= step:
                    whole = np.concatenate(kept)
                    yield whole[:step]
                    kept, rows = [whole[step:]], rows - step
        if rows:
            yield np.concatenate(kept)

    def texts(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        return {n: pa.chunked_array([t[n] for t in self._texts], pa.string()) for n in names}

    def remove(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()

    def _stored(self) -> Iterator[Matrix]:
        for number, is_sparse in enumerate(self._sparse):
            stem = self.folder / str(number)
            yield sparse.load_npz(f"{stem}.npz") if is_sparse else np.load(f"{stem}.npy", mmap_mode="r")


def _inputs(files: Files | None, splits: Mapping[str, Files] | None) -> tuple[list[Path], list[str] | None]:
    """The files in order, and for given splits the split of each. Raises ConfigError or DataError."""
    where = None
    if splits is not None:
        if files is not None:
            raise ConfigError("Give files, or splits, not both.")
        unknown = [f"There is no split {s!r}{nearest(s, SPLITS)}; there are {SPLITS}." for s in splits if s not in SPLITS]
        if unknown:
            raise ConfigError(unknown)
        given = [f for s in SPLITS for f in _listed(splits.get(s, []))]
        where = [s for s in SPLITS for _ in _listed(splits.get(s, []))]
    else:
        given = _listed(files or [])
    if not given:
        raise ConfigError("No file was given; name at least one LETOR, CSV or Parquet file.")
    known = (*LETOR_SUFFIXES, *CSV_SUFFIXES, *PARQUET_SUFFIXES)
    problems = []
    for file in given:
        if not file.exists():
            beside = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
            problems.append(f"There is no file {file}{nearest(file.name, beside)}.")
        elif file.is_dir():
            problems.append(f"{file} is a folder; give files, or a single data folder where one is read.")
        elif plain_suffix(file) not in known:
            problems.append(
                f"{file.name} has the suffix {plain_suffix(file) or file.suffix!r}, which is not read; "
                f"there are {', '.join(known)}, the texts also with .gz or .xz."
            )
    problems += [f"{f} is given twice." for f in sorted({f for f in given if given.count(f) > 1})]
    if len({_kind(file) for file in given}) > 1 and not problems:
        problems.append(f"Give files of one kind; got {', '.join(f.name for f in given)}.")
    if problems:
        raise DataError(problems)
    return given, where


def _listed(files: Files) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(f) for f in files]


def _kind(file: Path) -> str:
    return "letor" if plain_suffix(file) in LETOR_SUFFIXES else "table"


def _read(
    files: Sequence[Path], spool: _Spool, qid_column: str | None, preset: str | None, progress: Progress | None
) -> tuple[QueryOrder, list[LetorReader | TableReader]]:
    """All blocks into the spool. Raises DataError with up to 20 problems over all files."""
    order, problems = QueryOrder(), Problems()
    readers: list[LetorReader | TableReader] = []
    for file in files:
        reader: LetorReader | TableReader
        if _kind(file) == "letor":
            reader = LetorReader(file, problems, progress)
        else:
            reader = TableReader(file, problems, qid_column, progress)
        readers.append(reader)
        order.start_file(reader)
        before = len(problems.messages)
        for block in reader.blocks():
            spool.add(block)
            order.add(block)
        if len(problems.messages) == before:
            _check_columns(readers, preset, problems)
        if problems.full:
            break
    order.report(problems)
    problems.raise_any()
    return order, readers


def _check_columns(readers: Sequence[LetorReader | TableReader], preset: str | None, problems: Problems) -> None:
    """The last reader's columns against the preset's number and the first reader's names."""
    last, first = readers[-1], readers[0]
    if isinstance(last, LetorReader):
        if preset == "mslr" and last.width != MSLR_COLUMNS:
            problems.add(
                f"{last.file.name} has {last.width} feature columns; the preset 'mslr' is for MSLR-WEB30K files of exactly "
                f"{MSLR_COLUMNS}. Leave the preset out and declare --main and --objective yourself."
            )
    elif isinstance(first, TableReader) and first.numeric and last is not first:
        for names, other in ((set(first.numeric), set(last.numeric)), (set(first.texts), set(last.texts))):
            for name in sorted(names ^ other):
                has, lacks = (first, last) if name in names else (last, first)
                problems.add(f"Column {name!r} is in {has.file.name} but not in {lacks.file.name}; give both the same columns.")


def _columns(readers: Sequence[LetorReader | TableReader], n_features: int | None) -> tuple[list[str], list[str]]:
    """Names of the numeric columns in stored order, and of the item texts."""
    first = readers[0]
    if isinstance(first, TableReader):
        return first.numeric, first.texts
    width = max(r.width for r in readers if isinstance(r, LetorReader))
    if n_features is not None and n_features < width:
        raise DataError(f"n_features is {n_features}, but the files have the feature index {width}; give {width} or more.")
    return ["label", *(f"f{i}" for i in range(1, (n_features or width) + 1))], []


def _split(
    order: QueryOrder, files: Sequence[Path], where: list[str] | None, seed: int
) -> tuple[np.ndarray, dict[str, Any], list[str]]:
    """(Q,) split numbers, how they came about, and notes."""
    how = "files, as given"
    if where is None:
        found = [_split_token(file) for file in files]
        where = [s for s in found if s is not None]
        how = "files, by their names"
        if len(where) < len(files) or not {"train", "test"} <= set(where):
            return random_split(len(order.qids), seed), {"how": "random 60/20/20", "seed": seed}, []
    of_file = np.array([SPLITS.index(s) for s in where], np.uint8)
    split = of_file[np.array(order.reader_of)]
    if "validation" in where or "train" not in where:
        return split, {"how": how, "seed": None}, []
    train = np.flatnonzero(split == 0)
    split[train] = random_split(len(train), seed, (0.8, 0.2))
    note = f"No validation file was given; {int((split == 1).sum()):,} of {len(train):,} train queries became validation."
    return split, {"how": f"{how}; validation is 20 % of the train queries at random", "seed": seed}, [note]


def _split_token(file: Path) -> str | None:
    """The split that a file's name speaks of, if it is exactly one."""
    found = {_TOKENS[word] for word in re.split(r"[^a-z]+", file.name.lower()) if word in _TOKENS}
    return found.pop() if len(found) == 1 else None


def _name(files: Sequence[Path]) -> str:
    """What the names of the files share, without split and suffixes."""
    stems = [re.split(r"\.", f.name)[0] for f in files]
    common = os.path.commonprefix(stems).rstrip("-_. ")
    return common or stems[0]


def _cached(files: list[Path], cache: Path, main: str | Objective | None, options: dict[str, Any]) -> RankData:
    """Convert into a folder of `cache` named by what goes in; reuse it where it opens."""
    _inputs(files, None)
    tables = _kind(files[0]) == "table"
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    wanted = {k: v for k, v in options.items() if k != "progress"}
    # A table without a column called label cannot be converted before the main label is known.
    column = (Objective.parse(main) if isinstance(main, str) else main) if tables else None
    key = json.dumps([stamp, wanted, column.to_dict() if column else None], sort_keys=True, default=str)
    folder = cache / f"{_name(files)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.exists():
        try:
            return open_data(folder)
        except DataError:
            pass  # A damaged cache is made again; nothing is lost by it.
    return convert(files, folder, main=column, **options)


def _cache_folder() -> Path:
    """Where converted files are kept: the first of the usual places that can be written."""
    if "HYPERDPO_CACHE" in os.environ:
        return Path(os.environ["HYPERDPO_CACHE"])
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperdpo" / "data"
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
    except OSError:
        pass  # No home, or a read-only one: the temporary folder serves.
    return Path(tempfile.gettempdir()) / f"hyperdpo-{os.getuid()}"


def _negative(data: RankData, objective: Objective, role: str) -> list[str]:
    """What is wrong with labels below 0 as gains; nothing where `min` reflects them."""
    if objective.direction == "min":
        return []
    values = data.column(objective.column) + np.float32(objective.shift)
    below = np.flatnonzero(values < 0)
    if not len(below):
        return []
    worst = below[0]
    query = int(np.searchsorted(data.offsets, worst, side="right")) - 1
    lowest = float(data.column(objective.column).min())
    return [
        f"{role} has {len(below):,} negative labels: column {objective.column!r} is "
        f"{data.column(objective.column)[worst]:g} at item {worst - data.offsets[query] + 1} of query "
        f"{data.qids[query]!r}. Labels are gains and cannot be below 0; declare shift={-lowest:g} "
        f"({objective.name}={objective.column}:{objective.normalisation}:shift={-lowest:g}), or min where lower is better."
    ]


def _uninformative(about: dict[str, Any], objective: Objective, role: str) -> list[str]:
    lists, labels = about["splits"]["train"]["queries"], about["labels"][objective.name]
    if not lists or labels["constant"]["train"] < lists:
        return []
    what = "empty (0)" if labels["empty"]["train"] == lists else "constant"
    return [
        f"{role} (column {objective.column!r}) is {what} in every one of the {lists:,} training lists, so there is nothing "
        "to learn; leave it out or give another column."
    ]
