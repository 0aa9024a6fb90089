"""The columnar data folder: written whole or not at all, reopened memory-mapped.

    data.json      what is in it, the declared task, sources, split, counts, fingerprint, and the other files' sizes
    items.arrow    one float32 column a numeric column, and texts to show; Arrow IPC, uncompressed
    queries.arrow  qid, offset, size, split (0 train, 1 validation, 2 test), and optionally a text
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hyperdpo.errors import ConfigError, DataError, HyperDPOError
from hyperdpo.objectives import Objective
from hyperdpo.rank.lists import ListSet
from hyperdpo.rank.task import Task, declare, hint, shown

FORMAT = "hyperdpo-data"
VERSION = 1
SPLITS = ("train", "validation", "test")
ALL = "all"
CELLS_AT_ONCE = 16_000_000
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
    def qids(self) -> list[str]:
        """(Q,) the queries' ids in file order."""
        return self._queries["qid"].to_pylist()

    @property
    def query_texts(self) -> list[str]:
        """(Q,) what to show for each query: its text where there is one, else its id."""
        return self._queries["text" if "text" in self._queries.column_names else "qid"].to_pylist()

    def column(self, name: str) -> np.ndarray:
        """(N,) float32 values of one numeric column. Raises ConfigError with the nearest name if there is none."""
        if name not in self.columns:
            raise ConfigError(
                f"There is no column {name!r}{hint(name, self.columns)}; the columns are {shown(self.columns)}."
            )
        return self._items[name].to_numpy()

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

        A string is a column, an objective declared before, or the grammar of `Objective.parse`. Columns given a role leave
        the features; a column that had a role does not become a feature. Raises ConfigError (see `task.declare`).
        """
        task = declare(self.columns, main, objectives, base_column, self.task)
        return RankData(self.path, self.manifest, task, self._items, self._queries)

    def queries(self, split: str = ALL) -> np.ndarray:
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

        `constant`: all labels of the list are equal; `empty`: they are all 0; a one-item list is always constant.
        """
        splits = {s: _sizes(self.sizes[self.queries(s)]) for s in SPLITS}
        labelled = {o.name: self._describe_labels(o) for o in self.task.labelled}
        return {
            "name": self.name, "queries": self.n_queries, "items": self.n_items, "features": len(self.task.features),
            "splits": splits, "labels": labelled,
        }  # fmt: skip

    def verify(self) -> None:
        """Read everything and compare with the fingerprint. Raises DataError where the contents have changed."""
        marks = Fingerprint(self.columns)
        for batch in self._items.select(list(self.columns)).to_batches():
            marks.add([column.to_numpy() for column in batch.columns])
        if marks.digest(self.offsets, self.split) != self.fingerprint:
            raise DataError(
                f"{self.path}: the values differ from the fingerprint in data.json; the folder is damaged. Convert again."
            )

    def _gather(self, names: Sequence[str], rows: np.ndarray | None) -> torch.Tensor:
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
        constant, empty = low == high, (low == 0) & (high == 0)
        count = {s: self.queries(s) for s in SPLITS}
        return {
            "column": objective.column,
            "min": float(low.min()),
            "max": float(high.max()),
            "negative": int((values < 0).sum()),
            "constant": {s: int(constant[q].sum()) for s, q in count.items()},
            "empty": {s: int(empty[q].sum()) for s, q in count.items()},
        }


class Fingerprint:
    """sha256 over names, values, offsets and split, whatever the batches the values come in."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._digests = [hashlib.sha256() for _ in columns]

    def add(self, columns: Sequence[np.ndarray]) -> None:
        for digest, values in zip(self._digests, columns, strict=True):
            digest.update(np.ascontiguousarray(values))

    def digest(self, offsets: np.ndarray, split: np.ndarray) -> str:
        whole = hashlib.sha256(json.dumps(self._columns).encode())
        for digest in self._digests:
            whole.update(digest.digest())
        whole.update(np.ascontiguousarray(offsets, "<i8"))
        whole.update(np.ascontiguousarray(split, np.uint8))
        return whole.hexdigest()


class FolderWriter:
    """Writes a data folder beside its destination and renames it at the end.

    Used as a context: `write_items`, then `finish`. Whatever goes wrong in between, the destination is as it was and the
    temporary folder is removed. Raises DataError if `out` exists and is no data folder, cannot be written, or the disk is full.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.temporary: Path
        self._marks: Fingerprint
        self._columns: list[str] = []
        self._text_names: list[str] = []
        self._rows = 0

    def __enter__(self) -> FolderWriter:
        _check_destination(self.out)
        with self._explained():
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", suffix=".tmp", dir=self.out.parent))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, HyperDPOError):
            raise self._message(error) from error

    def write_items(
        self, columns: Sequence[str], batches: Iterable[np.ndarray], texts: Mapping[str, pa.ChunkedArray] | None = None
    ) -> None:
        """Write items.arrow from (rows, len(columns)) float32 batches, and texts of all rows."""
        texts = dict(texts or {})
        self._columns, self._text_names, self._marks = list(columns), list(texts), Fingerprint(columns)
        fields = [(name, pa.float32()) for name in columns] + [(name, pa.string()) for name in texts]
        schema = pa.schema(fields)
        with pa.OSFile(str(self.temporary / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                values = list(np.ascontiguousarray(batch.T))
                self._marks.add(values)
                words = [t.slice(self._rows, len(batch)).combine_chunks() for t in texts.values()]
                writer.write_batch(pa.record_batch([*map(pa.array, values), *words], schema=schema))
                self._rows += len(batch)

    def finish(
        self,
        *,
        sizes: np.ndarray,
        qids: Sequence[str],
        split: np.ndarray,
        task: Task,
        name: str,
        origin: dict[str, Any],
        sources: Sequence[dict[str, Any]] = (),
        query_texts: Sequence[str] | None = None,
        skipped: dict[str, int] | None = None,
        split_how: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
        tables: Mapping[str, pa.Table] | None = None,
    ) -> RankData:
        """Write the rest, move the folder to its destination and open it. Raises DataError where the parts do not fit."""
        sizes, split = np.asarray(sizes, np.int64), np.asarray(split, np.uint8)
        _check_parts(sizes, qids, split, task, self._columns, self._rows, query_texts)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        queries = {"qid": list(qids), "offset": offsets[:-1], "size": sizes.astype(np.int32), "split": split}
        if query_texts is not None:
            queries["text"] = list(query_texts)
        every = {"queries.arrow": pa.table(queries), **(tables or {})}
        for file, table in every.items():
            with pa.OSFile(str(self.temporary / file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        one = int((sizes == 1).sum())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "n_queries": len(sizes),
            "n_items": self._rows,
            "columns": self._columns,
            "item_texts": self._text_names,
            "task": task.to_dict(),
            "sources": list(sources),
            "split": {"how": "given", "seed": None, **(split_how or {})},
            "skipped": {**(skipped or {}), "one_item_lists": one},
            "notes": [*notes, *([f"{one:,} lists have one item; they are kept, and no order of them differs."] if one else [])],
            "origin": origin,
            "fingerprint": self._marks.digest(offsets, split),
            "files": {file: (self.temporary / file).stat().st_size for file in ("items.arrow", *every)},
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.temporary / "data.json").write_text(text, encoding="utf-8")
        self._move()
        return open_data(self.out)

    def _move(self) -> None:
        """Put the temporary folder in place of the destination; on failure what was there comes back."""
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o777 & ~mask)
        before = self.temporary.with_suffix(".old")
        had = self.out.exists()
        if had:
            os.rename(self.out, before)
        try:
            os.rename(self.temporary, self.out)
        except OSError:
            if had:
                os.rename(before, self.out)
            raise
        shutil.rmtree(before, ignore_errors=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._message(error) from error

    def _message(self, error: OSError) -> DataError:
        return DataError(
            f"{self.out} could not be written ({error.strerror or error}); what was there before is untouched. "
            "Free some space or choose a folder you may write to."
        )


def write_folder(
    out: str | Path,
    *,
    columns: Mapping[str, np.ndarray],
    sizes: np.ndarray,
    qids: Sequence[str],
    split: np.ndarray,
    task: Task,
    name: str,
    origin: dict[str, Any],
    sources: Sequence[dict[str, Any]] = (),
    item_texts: Mapping[str, Sequence[str]] | None = None,
    query_texts: Sequence[str] | None = None,
    skipped: dict[str, int] | None = None,
    split_how: dict[str, Any] | None = None,
    notes: Sequence[str] = (),
    tables: Mapping[str, pa.Table] | None = None,
) -> RankData:
    """Write a data folder from arrays in memory, atomically, and open it.

    Args:
        columns: (N,) values of each numeric column, in order; stored as float32.
        sizes, qids, split: (Q,) items, id and split number of each list, in the order of the rows.
        item_texts: (N,) texts to show by name (title, price). query_texts: (Q,).
        split_how: {"how": ..., "seed": ...}. skipped: counts. notes: sentences.
        tables: further Arrow tables by file name (truth.arrow).
    Raises:
        DataError: `out` cannot be written or is something else; lengths that do not fit; NaN or infinity.
    """
    names = list(columns)
    arrays = [np.asarray(columns[n]) for n in names]
    rows = int(np.sum(sizes))
    problems = [
        f"Column {n!r} has the shape {a.shape}; the lists have {rows:,} items in all."
        for n, a in zip(names, arrays, strict=True)
        if a.shape != (rows,)
    ]
    problems += [
        f"Column {n!r} holds NaN or infinity; put numbers there."
        for n, a in zip(names, arrays, strict=True)
        if not np.isfinite(a).all()
    ]
    problems += [
        f"Item text {n!r} has {len(t):,} entries; the lists have {rows:,} items in all."
        for n, t in (item_texts or {}).items()
        if len(t) != rows
    ]
    if problems:
        raise DataError(problems)
    texts = {n: pa.chunked_array([pa.array(list(t), pa.string())]) for n, t in (item_texts or {}).items()}
    step = batch_rows(len(names))
    batches = (
        np.stack([a[start : start + step].astype(np.float32) for a in arrays], axis=1) for start in range(0, rows, step)
    )
    with FolderWriter(out) as writer:
        writer.write_items(names, batches, texts)
        return writer.finish(
            sizes=sizes, qids=qids, split=split, task=task, name=name, origin=origin, sources=sources,
            query_texts=query_texts, skipped=skipped, split_how=split_how, notes=notes, tables=tables,
        )  # fmt: skip


def open_data(path: str | Path) -> RankData:
    """Open a data folder, memory-mapped. Raises DataError listing all that is wrong with it, ConfigError for a bad task."""
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


def batch_rows(columns: int) -> int:
    """Rows of one record batch: one batch (no copies) for small data, bounded memory for large."""
    return max(1_024, CELLS_AT_ONCE // max(1, columns))


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
        problems.append(f"{path}/queries.arrow has {queries.num_rows:,} rows; data.json says {manifest['n_queries']:,}.")
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
            problems.append(f"{path}/queries.arrow: the lists do not cover the {items.num_rows:,} items one after another.")
        if queries["split"].to_numpy().max() >= len(SPLITS):
            problems.append(f"{path}/queries.arrow: a split number above {len(SPLITS) - 1}.")
    return problems


def _check_destination(out: Path) -> None:
    if out.is_dir() and ((out / "data.json").exists() or not any(out.iterdir())):
        return
    if out.exists():
        kind = "a folder with other things in it" if out.is_dir() else "a file"
        raise DataError(f"{out} exists already and is {kind}, not a data folder; choose another --out.")


def _check_parts(
    sizes: np.ndarray,
    qids: Sequence[str],
    split: np.ndarray,
    task: Task,
    columns: Sequence[str],
    rows: int,
    query_texts: Sequence[str] | None,
) -> None:
    problems = []
    lengths = {"sizes": len(sizes), "qids": len(qids), "split": len(split)}
    if query_texts is not None:
        lengths["query_texts"] = len(query_texts)
    if len(set(lengths.values())) > 1:
        problems.append(f"Queries are counted differently: {', '.join(f'{n} {k:,}' for n, k in lengths.items())}.")
    if not len(sizes) or sizes.min() < 1:
        problems.append("There are no lists, or one without items.")
    if sizes.sum() != rows:
        problems.append(f"The lists have {int(sizes.sum()):,} items; {rows:,} rows were written.")
    if len(split) and split.max() >= len(SPLITS):
        problems.append(f"A split number is 0, 1 or 2; got {int(split.max())}.")
    if len(set(qids)) != len(qids):
        problems.append("A query id occurs twice.")
    used = [*(o.column for o in task.labelled), *task.features, *([task.base_column] if task.base_column else [])]
    known = set(columns)
    problems += [f"The task names the column {n!r}, which is not among the columns." for n in used if n not in known]
    if problems:
        raise DataError(problems)


def _sizes(sizes: np.ndarray) -> dict[str, int]:
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
