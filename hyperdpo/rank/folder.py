"""The columnar data folder, memory-mapped. `writer` writes it.

data.json      what is in it, the declared task, sources, split, counts, fingerprint, and the other files' sizes
items.arrow    one float32 column a numeric column, and texts to show; Arrow IPC, uncompressed
queries.arrow  qid, offset, size, split (0 train, 1 validation, 2 test), and optionally a text
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.objectives import Objective
from hyperdpo.rank.lists import ListSet
from hyperdpo.rank.task import Task, declare, hint, shown

FORMAT = "hyperdpo-data"
VERSION = 1
SPLITS = ("train", "validation", "test")
ALL = "all"
UNUSED = len(SPLITS)
"""The split number of queries that `with_train_queries` left out; no split, but 'all', has them."""
Array = npt.NDArray[Any]
_KEYS = (
    "name", "n_queries", "n_items", "columns", "task", "sources", "split", "skipped", "origin", "fingerprint", "files",
)  # fmt: skip


class RankData:
    """An opened data folder. Columns stay on disk until they are asked for.

    Attributes:
        path: the folder. manifest: its data.json. task: the roles of the columns. fingerprint: identifies the data.
        columns: all numeric columns, in file order.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], task: Task, items: pa.Table, queries: pa.Table) -> None:
        self.path = path
        self.manifest = manifest
        self.task = task
        self.fingerprint: str = manifest["fingerprint"]
        self.columns: tuple[str, ...] = tuple(manifest["columns"])
        self.n_queries: int = manifest["n_queries"]
        self.n_items: int = manifest["n_items"]
        self._items = items
        self._queries = queries
        self.split = queries["split"].to_numpy()
        self.sizes = queries["size"].to_numpy().astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])

    def __repr__(self) -> str:
        return f"RankData({str(self.path)!r}, {self.n_queries:,} queries, {self.n_items:,} items, m={self.task.m})"

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def skipped(self) -> list[str]:
        """What was left out as the files were read, as `3 lines without data`; empty where nothing was."""
        counts = self.manifest["skipped"] or {}
        return [f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items() if count]

    @cached_property
    def qids(self) -> list[str]:
        """(Q,) the queries' ids in file order."""
        return list(self._queries["qid"].to_pylist())

    @cached_property
    def query_texts(self) -> list[str]:
        """(Q,) what to show for each query: its text where there is one, else its id."""
        return list(self._queries["text" if "text" in self._queries.column_names else "qid"].to_pylist())

    def column(self, name: str) -> Array:
        """(N,) float32 values of one numeric column, read-only. Raises ConfigError with the nearest name if unknown."""
        if name not in self.columns:
            raise ConfigError(
                f"There is no column {name!r}{hint(name, self.columns)}; the columns are {shown(self.columns)}."
            )
        return _values(self._items[name])

    def text(self, name: str) -> pa.ChunkedArray | None:
        """(N,) strings of an item text column (title, price, ...), or None if the data has none of that name."""
        return self._items[name] if name in self.manifest.get("item_texts", ()) else None

    def with_task(
        self,
        main: str | Objective | None = None,
        objectives: Iterable[str | Objective] | None = None,
        base_column: str | None = None,
    ) -> RankData:
        """The same data with roles declared anew; what is None stays as it is.

        A string is a column, an objective declared before, or the grammar of `Objective.parse`. Columns given a role
        leave the features; a column that had a role does not become a feature. Raises ConfigError (see `task.declare`).
        """
        return self.with_exact_task(declare(self.columns, main, objectives, base_column, self.task))

    def with_exact_task(self, task: Task) -> RankData:
        """The same data under another run's roles, whose columns the caller has checked to be here."""
        other = copy.copy(self)
        other.task = task
        return other

    def with_split(self, split: np.ndarray) -> RankData:
        """The same data split another way, as cross-validation needs; `split` (Q,) holds indices into SPLITS.

        The fingerprint changes with it, so that runs on different folds are never taken for comparable ones. Raises
        ConfigError for another length or other values.
        """
        if split.shape != (self.n_queries,) or not np.isin(split, range(len(SPLITS))).all():
            raise ConfigError(
                f"A split names one of {SPLITS} (as 0, 1, 2) for each of the {self.n_queries} queries; got an array of "
                f"shape {split.shape} with the values {np.unique(split)[:5].tolist()}."
            )
        return self._resplit(split.astype(np.uint8))

    def with_train_queries(self, count: int, seed: int = 0) -> RankData:
        """The same data with `count` of its training queries; validation and test keep all theirs.

        One permutation a seed decides, so that smaller subsets are part of larger ones and a sample-efficiency curve
        only ever adds lists. The fingerprint changes unless all are kept. Raises ConfigError unless 1 <= count <= the
        number of training queries.
        """
        train = self.queries(SPLITS[0])
        if not 1 <= count <= len(train):
            raise ConfigError(
                f"A subset has from 1 to all {len(train):,} training queries of {self.name!r}; got {count:,}."
            )
        if count == len(train):
            return self
        left_out = np.random.default_rng(seed).permutation(train)[count:]
        split = self.split.astype(np.uint8)
        split[left_out] = UNUSED
        return self._resplit(split)

    def queries(self, split: str = ALL) -> Array:
        """Numbers of the queries of 'train', 'validation' or 'test', or of 'all'; ascending int64."""
        if split == ALL:
            return np.arange(self.n_queries)
        if split not in SPLITS:
            raise ConfigError(
                f"A split is one of {', '.join(map(repr, (*SPLITS, ALL)))}; got {split!r}{hint(split, (*SPLITS, ALL))}."
            )
        return np.flatnonzero(self.split == SPLITS.index(split))

    def lists(self, split: str = ALL, features: Sequence[str] | None = None, labels: bool = True) -> ListSet:
        """The lists of a split in memory; 'all' gives every list, in file order.

        `features` replaces the task's features (a run asks for its own); without `labels` the label columns are left
        unread and `ListSet.labels` is (N, 0). Raises ConfigError listing every column that is not there.
        """
        names = tuple(self.task.features if features is None else features)
        problems = [
            f"There is no feature column {name!r} in {self.name!r}{hint(name, self.columns)}."
            for name in names
            if name not in self.columns
        ]
        if problems:
            raise ConfigError(problems)
        queries = self.queries(split)
        rows = None if len(queries) == self.n_queries else np.repeat(self.split, self.sizes) == SPLITS.index(split)
        base = self.task.base_column
        return ListSet(
            features=self._gather(names, rows),
            labels=self._gather([o.column for o in self.task.labelled] if labels else [], rows),
            base=None if base is None else self._gather([base], rows)[:, 0],
            offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(self.sizes[queries])])),
            query_index=torch.from_numpy(queries),
        )

    def describe(self) -> dict[str, Any]:
        """Counts for people and checks: per split the lists and their sizes, per labelled column how many say nothing.

        Of the lists of a split, `constant` counts those with all labels equal (a one-item list always is), `empty`
        those whose gains (shifted, or reflected for `min`) are all 0. `uninformative` is `empty` under l1, whose mean
        leaves such lists out, and `constant` under softmax, which then learns nothing from them.
        """
        return {
            "name": self.name,
            "queries": self.n_queries,
            "items": self.n_items,
            "features": len(self.task.features),
            "splits": {s: _sizes(self.sizes[self.queries(s)]) for s in SPLITS},
            "labels": {o.name: self._describe_labels(o) for o in self.task.labelled},
        }

    def verify(self) -> None:
        """Read everything and compare with the fingerprint. Raises DataError where the contents have changed."""
        marks = Fingerprint(self.columns)
        for batch in self._items.select(list(self.columns)).to_batches():
            marks.add([column.to_numpy() for column in batch.columns])
        if marks.digest(self.offsets, self.split) != self.fingerprint:
            raise DataError(
                f"{self.path}: the values differ from the fingerprint in data.json; the folder is damaged. "
                "Convert the source files again."
            )

    def _resplit(self, split: Array) -> RankData:
        other = copy.copy(self)
        other.split = split
        other.fingerprint = hashlib.sha256(self.fingerprint.encode() + split.tobytes()).hexdigest()
        return other

    def _gather(self, names: Sequence[str], rows: Array | None) -> torch.Tensor:
        """(N', k) float32 of the chosen rows (all for None), a record batch at a time."""
        count = self.n_items if rows is None else int(rows.sum())
        out = np.empty((count, len(names)), np.float32)
        done = seen = 0
        for batch in self._items.select(list(names)).to_batches() if names else ():
            keep = slice(None) if rows is None else rows[seen : seen + batch.num_rows]
            columns = [batch.column(i).to_numpy()[keep] for i in range(len(names))]
            end = done + len(columns[0])
            np.stack(columns, axis=1, out=out[done:end])
            done, seen = end, seen + batch.num_rows
        return torch.from_numpy(out)

    def _describe_labels(self, objective: Objective) -> dict[str, Any]:
        values = self.column(objective.column)
        low, high = (f.reduceat(values, self.offsets[:-1]) for f in (np.minimum, np.maximum))
        constant = low == high
        empty = constant & ((low + np.float32(objective.shift) == 0) | (objective.direction == "min"))

        def per_split(flags: Array) -> dict[str, int]:
            return {s: int(flags[self.queries(s)].sum()) for s in SPLITS}

        return {
            "column": objective.column,
            "min": float(low.min()),
            "max": float(high.max()),
            "negative": int((values < 0).sum()),
            "constant": per_split(constant),
            "empty": per_split(empty),
            "uninformative": per_split(empty if objective.normalisation == "l1" else constant),
        }


class Fingerprint:
    """sha256 over names, values, offsets and split, whatever the batches the values come in."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._digests = [hashlib.sha256() for _ in columns]

    def add(self, columns: Sequence[Array]) -> None:
        for digest, values in zip(self._digests, columns, strict=True):
            digest.update(np.ascontiguousarray(values).data)

    def digest(self, offsets: Array, split: Array) -> str:
        whole = hashlib.sha256(json.dumps(self._columns).encode())
        for digest in self._digests:
            whole.update(digest.digest())
        whole.update(np.ascontiguousarray(offsets, "<i8").data)
        whole.update(np.ascontiguousarray(split, np.uint8).data)
        return whole.hexdigest()


def open_data(path: str | Path) -> RankData:
    """Open a data folder, memory-mapped. Raises DataError listing all that is wrong with it."""
    path = Path(path)
    manifest = _manifest(path)
    problems: list[str] = []
    tables = {}
    for file in ("items.arrow", "queries.arrow"):
        tables[file] = _table(path / file, manifest["files"].get(file), problems)
    for file, size in manifest["files"].items():
        if file not in tables:
            _check_size(path / file, size, problems)
    items, queries = tables["items.arrow"], tables["queries.arrow"]
    if items is not None and queries is not None:
        problems += _mismatches(path, manifest, items, queries)
    task = None
    try:
        task = Task.from_dict(manifest["task"])
        roles = [o.column for o in task.labelled] + [task.base_column] * (task.base_column is not None)
        problems += [
            f"{path}/data.json: the task names the column {name!r}, which the folder does not have."
            for name in [*roles, *task.features]
            if name not in set(manifest["columns"])
        ]
    except (ConfigError, TypeError, KeyError, AttributeError) as error:
        problems.append(f"{path}/data.json: the task cannot be read: {error}")
    if problems or task is None or items is None or queries is None:
        raise DataError([*problems, f"Convert the source files again: {path} is damaged or incomplete."])
    return RankData(path, manifest, task, items, queries)


def _values(column: pa.ChunkedArray) -> Array:
    """A numeric column as an array: a view of the mapped file where it is one batch, a copy otherwise."""
    values: Array = column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()
    return values


def _manifest(path: Path) -> dict[str, Any]:
    """data.json checked for format, version and keys. Raises DataError."""
    if not path.exists():
        raise DataError(f"There is no data folder {path}; make one with `hyperdpo data convert FILE... --out {path}`.")
    if not path.is_dir():
        raise DataError(f"{path} is a file, not a data folder; convert it with `hyperdpo data convert`.")
    file = path / "data.json"
    if not file.exists():
        raise DataError(f"{path} is not a data folder: it has no data.json.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}); the folder is damaged. Convert the files again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DataError(f"{file} is of another program: its format is {got!r}, not {FORMAT!r}.")
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise DataError(
            f"{path} was written by a later version of this program (data version {version!r}; this one reads up to "
            f"{VERSION}); update the program or convert the files again."
        )
    kinds = {"n_queries": int, "n_items": int, "columns": list, "files": dict, "task": dict, "fingerprint": str}
    problems = [f"{file} lacks {key!r}." for key in _KEYS if key not in manifest]
    problems += [
        f"{file}: {key!r} is {manifest[key]!r}, which is not of the type {kind.__name__}."
        for key, kind in kinds.items()
        if key in manifest and not isinstance(manifest[key], kind)
    ]
    if problems:
        raise DataError([*problems, f"Convert the source files again: {path} is damaged."])
    return manifest


def _table(file: Path, size: int | None, problems: list[str]) -> pa.Table | None:
    """The file memory-mapped, or None and a problem."""
    if not _check_size(file, size, problems):
        return None
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        problems.append(f"{file} is not a sound Arrow file ({str(error).splitlines()[0]}).")
        return None


def _check_size(file: Path, size: int | None, problems: list[str]) -> bool:
    if not file.exists():
        problems.append(f"{file} is missing.")
        return False
    actual = file.stat().st_size
    if size is not None and actual != size:
        problems.append(f"{file} has {actual:,} bytes; data.json says {size:,}.")
        return False
    return True


def _mismatches(path: Path, manifest: dict[str, Any], items: pa.Table, queries: pa.Table) -> list[str]:
    """What data.json says against what the tables hold."""
    problems = []
    if items.num_rows != manifest["n_items"]:
        problems.append(f"{path}/items.arrow has {items.num_rows:,} rows; data.json says {manifest['n_items']:,}.")
    if queries.num_rows != manifest["n_queries"]:
        problems.append(
            f"{path}/queries.arrow has {queries.num_rows:,} rows; data.json says {manifest['n_queries']:,}."
        )
    absent = [c for c in (*manifest["columns"], *manifest.get("item_texts", ())) if c not in items.column_names]
    problems += [f"{path}/items.arrow has no column {name!r}." for name in absent]
    problems += [
        f"{path}/items.arrow: column {name!r} is of the type {items.schema.field(name).type}, not float32."
        for name in manifest["columns"]
        if name not in absent and items.schema.field(name).type != pa.float32()
    ]
    missing = [name for name in ("qid", "offset", "size", "split") if name not in queries.column_names]
    problems += [f"{path}/queries.arrow has no column {name!r}." for name in missing]
    if not missing and queries.num_rows:
        sizes, offsets = queries["size"].to_numpy().astype(np.int64), queries["offset"].to_numpy()
        if (sizes < 1).any() or (offsets != np.cumsum(sizes) - sizes).any() or sizes.sum() != items.num_rows:
            problems.append(
                f"{path}/queries.arrow: the lists do not cover the {items.num_rows:,} items one after another."
            )
        if queries["split"].to_numpy().max() >= len(SPLITS):
            problems.append(f"{path}/queries.arrow: a split number above {len(SPLITS) - 1}.")
    return problems


def _sizes(sizes: Array) -> dict[str, int]:
    if not len(sizes):
        return {"queries": 0, "items": 0, "shortest": 0, "median": 0, "longest": 0, "one_item_lists": 0}
    return {
        "queries": len(sizes),
        "items": int(sizes.sum()),
        "shortest": int(sizes.min()),
        "median": int(np.median(sizes)),
        "longest": int(sizes.max()),
        "one_item_lists": int((sizes == 1).sum()),
    }
