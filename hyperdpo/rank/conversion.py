"""Files into a data folder: reading, splitting by query, and writing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.files import sha256
from hyperdpo.objectives import Objective
from hyperdpo.rank.folder import SPLITS, RankData
from hyperdpo.rank.letor import LetorReader
from hyperdpo.rank.reading import (
    CSV_SUFFIXES,
    LETOR_SUFFIXES,
    MAX_COLUMNS,
    PARQUET_SUFFIXES,
    Array,
    Block,
    Matrix,
    Progress,
    QueryOrder,
    plain_suffix,
    to_dense,
)
from hyperdpo.rank.tables import TableReader
from hyperdpo.rank.task import MSLR_COLUMNS, PRESETS, declare, preset_task
from hyperdpo.rank.writer import FolderWriter, batch_rows
from hyperdpo.streams import Problems

if TYPE_CHECKING:
    from hyperdpo.rank.text_features import TextColumn

Files = Sequence[str | Path] | str | Path
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
    texts: Iterable[str | TextColumn] = (),
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
        texts: tables only; text columns, as COLUMN or COLUMN:REFERENCE_COLUMN, that become numbers to learn from (see
            `text_features`). The texts are kept to be shown, references are not unless they are shown anyway.
    Raises:
        DataError: up to 20 problems of the files with their places; a destination that cannot be written.
        ConfigError: unknown columns or presets, columns with two roles.
    """
    given, where = checked_inputs(files, splits)
    if preset is not None and preset not in PRESETS:
        preset_task(preset, [])
    described = _text_columns(texts)
    _check_options(kind_of(given[0]), qid_column, n_features, described)
    with FolderWriter(out) as writer:
        spool = _Spool(writer.temporary / "spool")
        order, readers = _read(given, spool, qid_column, preset, described, progress)
        columns, shown_texts = _columns(readers, n_features)
        spool.width = len(columns)
        extra, about_texts = _describe_texts(described, spool, order.sizes, columns)
        columns = [*columns, *(name for text in described for name in text.features)]
        if preset:
            start = preset_task(preset, columns)
            task = declare(columns, main, objectives, base_column, start)
        else:
            task = declare(columns, main, objectives, base_column)
        split, how, notes = _split(order, given, where, split_seed)
        writer.write_items(columns, _widened(spool.batches(), extra), spool.texts(shown_texts))
        spool.remove()
        sources = _sources(given)
        skipped = {"lines_without_data": sum(getattr(r, "blank_lines", 0) for r in readers)}
        return writer.finish(
            sizes=np.array(order.sizes),
            qids=order.qids,
            split=split,
            task=task,
            name=name or common_name(given),
            origin={"kind": "files", "preset": preset, **({"texts": [str(t) for t in described]} if described else {})},
            sources=sources,
            query_texts=order.texts if order.texts != order.qids else None,
            skipped=skipped,
            split_how=how,
            notes=[*notes, *about_texts],
        )


def random_split(count: int, seed: int, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> Array:
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

    def batches(self) -> Iterator[Array]:
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


def checked_inputs(files: Files | None, splits: Mapping[str, Files] | None) -> tuple[list[Path], list[str] | None]:
    """The files in order, and for given splits the split of each. Raises ConfigError or DataError."""
    where = None
    if splits is not None:
        if files is not None:
            raise ConfigError("Give files, or splits, not both.")
        unknown = [
            f"There is no split {s!r}{nearest(s, SPLITS)}; there are {SPLITS}." for s in splits if s not in SPLITS
        ]
        if unknown:
            raise ConfigError(unknown)
        given = [f for s in SPLITS for f in listed(splits.get(s, []))]
        where = [s for s in SPLITS for _ in listed(splits.get(s, []))]
    else:
        given = listed(files or [])
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
    if len({kind_of(file) for file in given}) > 1 and not problems:
        problems.append(f"Give files of one kind; got {', '.join(f.name for f in given)}.")
    if problems:
        raise DataError(problems)
    return given, where


def _text_columns(texts: Iterable[str | TextColumn]) -> list[TextColumn]:
    """The text columns to describe. Raises ConfigError naming a column given twice, or what cannot be read."""
    given = list(texts)
    if not given:
        return []
    from hyperdpo.rank.text_features import TextColumn  # scikit-learn takes a second to import

    parsed = [TextColumn.parse(t) if isinstance(t, str) else t for t in given]
    columns = [t.column for t in parsed]
    twice = [
        f"Text column {c!r} is given twice; give it once." for c in sorted({c for c in columns if columns.count(c) > 1})
    ]
    if twice:
        raise ConfigError(twice)
    return parsed


def _describe_texts(
    described: Sequence[TextColumn], spool: _Spool, sizes: Sequence[int], columns: Sequence[str]
) -> tuple[Array | None, list[str]]:
    """(N, features of all text columns) float32 (None without any), and notes on empty texts.

    Raises DataError where a feature's name is taken, or a column has no text at all.
    """
    if not described:
        return None, []
    from hyperdpo.rank.text_features import text_features

    names = list(dict.fromkeys(n for t in described for n in (t.column, t.reference) if n))
    stored = {name: column.to_pylist() for name, column in spool.texts(names).items()}
    empty = {name: sum(not text.strip() for text in texts) for name, texts in stored.items()}
    problems = [
        f"The file has a column {name!r}, which is what the text features of {t.column!r} are called; rename it."
        for t in described
        for name in t.features
        if name in columns
    ]
    problems += [
        f"Text column {name!r} is empty in all {len(stored[name]):,} rows; give a column that holds texts."
        for name in names
        if empty[name] == len(stored[name])
    ]
    if problems:
        raise DataError(problems)
    notes = [
        f"{count:,} of {len(stored[name]):,} items have no text in column {name!r}; what cannot be counted there is 0."
        for name, count in empty.items()
        if count
    ]
    parts = [text_features(stored[t.column], stored[t.reference] if t.reference else None, sizes) for t in described]
    return np.concatenate(parts, axis=1), notes


def _widened(batches: Iterable[Array], extra: Array | None) -> Iterator[Array]:
    """The batches with their rows of `extra` (N, k) at the right."""
    row = 0
    for batch in batches:
        yield batch if extra is None else np.concatenate([batch, extra[row : row + len(batch)]], axis=1)
        row += len(batch)


def _check_options(kind: str, qid_column: str | None, n_features: int | None, described: Sequence[TextColumn]) -> None:
    """Raises ConfigError for options that the kind of file does not have."""
    problems = []
    if kind == "letor" and qid_column is not None:
        problems.append(f"qid_column is for tables; LETOR text has qid:QUERY in every line; got {qid_column!r}.")
    if kind == "letor" and described:
        problems.append(f"Text columns are for tables; LETOR text has numbers only; got {described[0]}.")
    if kind == "table" and n_features is not None:
        problems.append(f"n_features is for LETOR text; a table names its columns; got {n_features}.")
    if n_features is not None and not 1 <= n_features <= MAX_COLUMNS:
        problems.append(f"n_features runs from 1 to {MAX_COLUMNS:,}; got {n_features}.")
    if problems:
        raise ConfigError(problems)


def _sources(files: Sequence[Path]) -> list[dict[str, Any]]:
    """What identifies the files. Raises DataError where one went away or changed its rights meanwhile."""
    try:
        return [{"file": f.name, "bytes": f.stat().st_size, "sha256": sha256(f)} for f in files]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read any more ({error.strerror}).") from error


def listed(files: Files) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(f) for f in files]


def kind_of(file: Path) -> str:
    return "letor" if plain_suffix(file) in LETOR_SUFFIXES else "table"


def _read(
    files: Sequence[Path],
    spool: _Spool,
    qid_column: str | None,
    preset: str | None,
    described: Sequence[TextColumn],
    progress: Progress | None,
) -> tuple[QueryOrder, list[LetorReader | TableReader]]:
    """All blocks into the spool. Raises DataError with up to 20 problems over all files."""
    order, problems = QueryOrder(), Problems()
    readers: list[LetorReader | TableReader] = []
    for file in files:
        reader: LetorReader | TableReader
        if kind_of(file) == "letor":
            reader = LetorReader(file, problems, progress)
        else:
            earlier = [r for r in readers if isinstance(r, TableReader) and r.numeric]
            reader = TableReader(
                file,
                problems,
                qid_column,
                progress,
                like=earlier[0] if earlier else None,
                described=[t.column for t in described],
                references=[t.reference for t in described if t.reference],
            )
        readers.append(reader)
        order.start_file(reader)
        before = len(problems.messages)
        for block in reader.blocks():
            spool.add(block)
            order.add(block)
        if isinstance(reader, LetorReader) and preset == "mslr" and len(problems.messages) == before:
            _check_mslr(reader, problems)
        if problems.full:
            break
    order.report(problems)
    problems.raise_any()
    return order, readers


def _check_mslr(reader: LetorReader, problems: Problems) -> None:
    if reader.width != MSLR_COLUMNS:
        problems.add(
            f"{reader.file.name} has {reader.width} feature columns; the preset 'mslr' is for MSLR-WEB30K files of "
            f"exactly {MSLR_COLUMNS}. Leave the preset out and declare --main and --objective yourself."
        )


def _columns(readers: Sequence[LetorReader | TableReader], n_features: int | None) -> tuple[list[str], list[str]]:
    """Names of the numeric columns in stored order, and of the item texts."""
    first = readers[0]
    if isinstance(first, TableReader):
        return first.numeric, first.texts
    width = max(r.width for r in readers if isinstance(r, LetorReader))
    if n_features is not None and n_features < width:
        raise ConfigError(
            f"n_features is {n_features}, but the files have the feature index {width}; give {width} or more."
        )
    return ["label", *(f"f{i}" for i in range(1, (n_features or width) + 1))], []


def _split(
    order: QueryOrder, files: Sequence[Path], where: list[str] | None, seed: int
) -> tuple[Array, dict[str, Any], list[str]]:
    """(Q,) split numbers, how they came about, and notes."""
    how = "files, as given"
    if where is None:
        found = [_split_token(file) for file in files]
        where = [s for s in found if s is not None]
        how = "files, by their names"
        if len(where) < len(files) or not {"train", "test"} <= set(where):
            few = ["There are fewer than three lists: all of them are for training."] if len(order.qids) < 3 else []
            return random_split(len(order.qids), seed), {"how": "random 60/20/20", "seed": seed}, few
    of_file = np.array([SPLITS.index(s) for s in where], np.uint8)
    split = of_file[np.array(order.reader_of)]
    if "validation" in where or "train" not in where:
        return split, {"how": how, "seed": None}, []
    train = np.flatnonzero(split == 0)
    split[train] = random_split(len(train), seed, (0.8, 0.2))
    note = (
        f"No validation file was given; {int((split == 1).sum()):,} of {len(train):,} train queries became validation."
    )
    return split, {"how": f"{how}; validation is 20 % of the train queries at random", "seed": seed}, [note]


def _split_token(file: Path) -> str | None:
    """The split that a file's name speaks of, if it is exactly one."""
    found = {_TOKENS[word] for word in re.split(r"[^a-z]+", file.name.lower()) if word in _TOKENS}
    return found.pop() if len(found) == 1 else None


def common_name(files: Sequence[Path]) -> str:
    """What the names of the files share, up to a whole word: mslr of mslr_train.txt and mslr_test.txt."""
    stems = [f.name.split(".")[0] for f in files]
    common = os.path.commonprefix(stems)  # noqa: RUF071 (characters are meant)
    if len(stems) > 1:
        common = re.sub(r"[^\W_]*$", "", common).rstrip("-_ ") or common
    return common or stems[0]
