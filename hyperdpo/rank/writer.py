"""Writing a data folder: beside its destination, then renamed, so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hyperdpo.errors import DataError
from hyperdpo.rank.folder import FORMAT, SPLITS, VERSION, Fingerprint, RankData, open_data
from hyperdpo.rank.task import Task

Array = npt.NDArray[Any]
CELLS_AT_ONCE = 16_000_000


class FolderWriter:
    """Writes a data folder beside its destination and renames it at the end.

    Used as a context: `write_items`, then `finish`. Whatever goes wrong in between, the destination is as it was and
    the temporary folder is removed. Raises DataError if `out` exists and is no data folder, or cannot be written (no
    permission, disk full).
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self._place = Path(os.path.realpath(out))  # a link is followed, not replaced
        self.temporary: Path
        self._marks: Fingerprint
        self._columns: list[str] = []
        self._text_names: list[str] = []
        self._rows = 0

    def __enter__(self) -> FolderWriter:
        try:
            _check_destination(self.out)
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = Path(
                tempfile.mkdtemp(prefix=f".{self._place.name}.", suffix=".tmp", dir=self._place.parent)
            )
        except OSError as error:
            raise self._message(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise self._message(error) from error

    def write_items(
        self, columns: Sequence[str], batches: Iterable[Array], texts: Mapping[str, pa.ChunkedArray] | None = None
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
        sizes: Array,
        qids: Sequence[str],
        split: Array,
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
        """Write the rest, move the folder to its place and open it. Raises DataError where the parts do not fit."""
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
            "notes": [
                *notes,
                *([f"{one:,} lists have one item; they are kept, and no order of them differs."] if one else []),
            ],
            "origin": origin,
            "fingerprint": self._marks.digest(offsets, split),
            "files": {file: (self.temporary / file).stat().st_size for file in ("items.arrow", *every)},
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.temporary / "data.json").write_text(text, encoding="utf-8")
        self._move()
        return open_data(self.out)

    def _move(self) -> None:
        """Put the temporary folder in place of the destination; on failure what was there comes back.

        Two programs may write the same folder at once (a cache, several training processes): the last one stays.
        """
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o777 & ~mask)
        before = self.temporary.with_suffix(".old")
        for _ in range(5):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._place, before)
            try:
                os.rename(self.temporary, self._place)
            except OSError as error:
                if before.exists() and not self._place.exists():
                    os.rename(before, self._place)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                shutil.rmtree(before, ignore_errors=True)
                return
            shutil.rmtree(before, ignore_errors=True)
        raise OSError(errno.EBUSY, "another program keeps writing it")

    def _message(self, error: OSError) -> DataError:
        return DataError(
            f"{self.out} could not be written ({error.strerror or error}); what was there before is untouched. "
            "Free some space or choose a folder you may write to."
        )


def write_folder(
    out: str | Path,
    *,
    columns: Mapping[str, Array],
    sizes: Array,
    qids: Sequence[str],
    split: Array,
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
    with np.errstate(over="ignore"):
        arrays = [np.asarray(columns[n], np.float32) for n in names]
    rows = int(np.sum(sizes))
    problems = [
        f"Column {n!r} has the shape {a.shape}; the lists have {rows:,} items in all."
        for n, a in zip(names, arrays, strict=True)
        if a.shape != (rows,)
    ]
    problems += [
        f"Column {n!r} holds NaN, infinity or numbers beyond a 32-bit float; put finite numbers there."
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
    batches = (np.stack([a[start : start + step] for a in arrays], axis=1) for start in range(0, rows, step))
    with FolderWriter(out) as writer:
        writer.write_items(names, batches, texts)
        return writer.finish(
            sizes=sizes, qids=qids, split=split, task=task, name=name, origin=origin, sources=sources,
            query_texts=query_texts, skipped=skipped, split_how=split_how, notes=notes, tables=tables,
        )  # fmt: skip


def batch_rows(columns: int) -> int:
    """Rows of one record batch: one batch (no copies) for small data, bounded memory for large."""
    return max(1_024, CELLS_AT_ONCE // max(1, columns))


def _check_destination(out: Path) -> None:
    """Raises DataError unless `out` is new, an empty folder, or a data folder and nothing else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} exists already and is a file, not a data folder; choose another --out.")
    inside = {p.name for p in out.iterdir()}
    others = sorted(name for name in inside if name != "data.json" and not name.endswith(".arrow"))
    manifest = out / "data.json"
    foreign = manifest.exists() and "items.arrow" not in inside and FORMAT.encode() not in manifest.read_bytes()
    if others or foreign:
        held = ", ".join(others[:5]) or "a data.json of another program"
        raise DataError(f"{out} exists already and is not a data folder (it holds {held}); choose another --out.")


def _check_parts(
    sizes: Array,
    qids: Sequence[str],
    split: Array,
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
