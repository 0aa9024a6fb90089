"""CSV, TSV and Parquet with named columns, in blocks of rows."""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hyperdpo.errors import DataError, nearest
from hyperdpo.rank.reading import (
    CSV_SUFFIXES,
    MAX_COLUMNS,
    PARQUET_SUFFIXES,
    Array,
    Block,
    Progress,
    plain_suffix,
    runs,
)
from hyperdpo.streams import Problems, opened

QID_NAMES = ("qid", "query_id", "session_id", "search_id", "srch_id", "impression_id", "list_id", "query", "user_id")
TEXT_NAMES = ("title", "item_title", "name", "description", "url", "docid", "doc_id", "item_id", "product_id")
"""Columns of these names are shown to people and are never numbers, also where every cell is one. Nor are ids that are
not the query id (user_id beside query_id)."""
MAYBE_TEXT_NAMES = ("price", "brand", "category")
"""These are texts only where the first rows are not all numbers."""
QUERY_TEXT_NAMES = ("query_text", "query", "text")
CELLS_AT_ONCE = 4_000_000


def _column_names(table: pq.ParquetFile) -> list[str]:
    return [name for name in table.schema_arrow.names if not name.startswith("__index_level_")]


class TableReader:
    """One CSV, TSV or Parquet file."""

    def __init__(
        self,
        file: Path,
        problems: Problems,
        qid_column: str | None = None,
        progress: Progress | None = None,
        like: TableReader | None = None,
        described: Sequence[str] = (),
        references: Sequence[str] = (),
    ) -> None:
        """`like` is the reader of an earlier file, whose columns this one must have too, in whatever order.

        `described` are columns that are item texts whatever they are called or hold; `references` are columns whose
        texts are read without being shown, unless they are shown anyway.
        """
        self.file = file
        self.names: list[str] = []
        self.numeric: list[str] = []
        self.texts: list[str] = []
        self.query_text: str | None = None
        self.qid = ""
        self.references = tuple(references)
        self._described = tuple(described)
        self._given_qid = qid_column if like is None else like.qid
        self._like = like
        self._problems = problems
        self._progress = progress

    def blocks(self) -> Iterator[Block]:
        """The file's rows; what is wrong with them goes to the problems, and then nothing more is yielded."""
        before, row = len(self._problems.messages), 0
        try:
            for frame in self._frames():
                if frame.empty:
                    continue
                if row == 0:
                    self._assign(frame)
                block = self._block(frame, row)
                row += len(frame)
                if self._problems.full:
                    return
                if len(self._problems.messages) == before:
                    yield block
        except DataError as error:
            for message in error.problems:
                self._problems.add(message)
        if len(self._problems.messages) > before and plain_suffix(self.file) in CSV_SUFFIXES:
            with contextlib.suppress(DataError):  # what keeps the file from being read is among the problems already
                self._look_for_cut()
        if row == 0 and len(self._problems.messages) == before:
            self._problems.add(f"{self.file.name} has a header but no rows; give a file with rows.")

    def places(self, rows: list[int]) -> list[str]:
        """'row N', the header not counted."""
        return [f"row {row + 1}" for row in rows]

    def header(self) -> list[str]:
        """The column names, without the rows. Raises DataError for a header that cannot be read."""
        with opened(self.file) as stream:
            if plain_suffix(self.file) in PARQUET_SUFFIXES:
                with self._sound():
                    return _column_names(pq.ParquetFile(stream.content))
            return self._header(stream.content.readline())

    @property
    def _separator(self) -> str:
        return "\t" if plain_suffix(self.file) == ".tsv" else ","

    def _frames(self) -> Iterator[pd.DataFrame]:
        return self._parquet_frames() if plain_suffix(self.file) in PARQUET_SUFFIXES else self._csv_frames()

    def _csv_frames(self) -> Iterator[pd.DataFrame]:
        names = self.header()
        self._find_qid(names)
        strings = {*QID_NAMES, self.qid, *TEXT_NAMES, *MAYBE_TEXT_NAMES, *QUERY_TEXT_NAMES}
        strings |= {*self._described, *self.references}
        with opened(self.file) as stream:
            with self._explained():
                frames = pd.read_csv(
                    stream.content,
                    sep=self._separator,
                    encoding="utf-8-sig",
                    dtype={name: str for name in names if name in strings},
                    index_col=False,
                    keep_default_na=False,
                    low_memory=False,
                    chunksize=max(1_000, CELLS_AT_ONCE // len(names)),
                )
            while True:
                with self._explained():
                    frame = next(frames, None)
                if frame is None:
                    return
                yield frame
                if self._progress:
                    self._progress(self.file.name, stream.position(), self.file.stat().st_size)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises DataError for what pandas says of rows with too many cells, open quotes, or other encodings."""
        with warnings.catch_warnings():
            # Where every row has a cell too many, pandas drops it with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                yield
            except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
                raise DataError(
                    f"{self.file.name} is not a regular table ({str(error).strip()}); give every row as many cells as "
                    "the header. An open quotation mark can mean that the file is cut."
                ) from None
            except UnicodeDecodeError as error:
                raise DataError(f"{self.file.name} is not UTF-8 text ({error.reason}); save it as UTF-8.") from None

    def _look_for_cut(self) -> None:
        """Add a problem if the last line has no newline and fewer cells than the header; for files with wrong cells."""
        separator = self._separator.encode()
        with opened(self.file) as stream:
            header = last = stream.content.readline()
            for line in stream.content:
                last = line
        if not last.endswith(b"\n") and last.count(separator) < header.count(separator):
            self._problems.add(
                f"{self.file.name} seems cut: its last line has no newline and {last.count(separator) + 1} of "
                f"{header.count(separator) + 1} cells. Copy the file again."
            )

    def _header(self, line: bytes) -> list[str]:
        """The column names. Raises DataError for repeated or empty names, or another separator."""
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.file.name} is not UTF-8 text ({error.reason}); save it as UTF-8.") from None
        try:
            names = next(csv.reader(io.StringIO(text), delimiter=self._separator), [])
        except csv.Error as error:  # a name longer than any can be: not text, or no line ends
            raise DataError(
                f"{self.file.name}: the first line cannot be read as column names ({error}); is this a table?"
            ) from None
        problems = [
            f"{self.file.name}: column {name!r} is named twice in the header; give each column its own name."
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        if not names or any(not name.strip() for name in names):
            problems.append(f"{self.file.name}: the header has an empty column name; the first line names the columns.")
        if len(names) == 1 and any(c in names[0] for c in ";\t,|"):
            problems.append(
                f"{self.file.name}: the header {names[0][:60]!r} has one column; separate columns by "
                f"{'tabs' if self._separator == chr(9) else 'commas'} (.csv) or tabs (.tsv)."
            )
        if problems:
            raise DataError(problems)
        return names

    def _parquet_frames(self) -> Iterator[pd.DataFrame]:
        with opened(self.file) as stream, self._sound():
            table = pq.ParquetFile(stream.content)
            names = _column_names(table)
            self._find_qid(names)
            self._check_types(table.schema_arrow, names)
            done = 0
            for batch in table.iter_batches(max(1_000, CELLS_AT_ONCE // max(1, len(names))), columns=names):
                done += batch.num_rows
                yield batch.to_pandas(ignore_metadata=True)
                if self._progress:
                    size = self.file.stat().st_size
                    self._progress(self.file.name, size * done // max(1, table.metadata.num_rows), size)

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        """Raises DataError for what Arrow says of a file that is not Parquet."""
        try:
            yield
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{self.file.name} is not a sound Parquet file ({error}); it is cut, damaged or another format."
            ) from None

    def _check_types(self, schema: pa.Schema, names: Sequence[str]) -> None:
        """Raises DataError naming every column that holds neither numbers nor texts."""
        problems = [
            f"{self.file.name}: column {name!r} is of the type {schema.field(name).type}; give numbers or leave it out."
            for name in names
            if not _is_readable(schema.field(name).type)
        ]
        if problems:
            raise DataError(problems)

    def _find_qid(self, names: Sequence[str]) -> None:
        """Raises DataError where no column, or not the given one, can be the query id."""
        if self._given_qid is not None:
            if self._given_qid not in names:
                raise DataError(
                    f"{self.file.name} has no column {self._given_qid!r} for the query id"
                    f"{nearest(self._given_qid, names)}; its columns are {', '.join(map(repr, names[:20]))}."
                )
            self.qid = self._given_qid
            return
        found = [name for name in QID_NAMES if name in names]
        if not found:
            raise DataError(
                f"{self.file.name} has no query id column ({', '.join(QID_NAMES)}); name one of its columns "
                f"with qid_column: {', '.join(map(repr, names[:20]))}."
            )
        self.qid = found[0]

    def _assign(self, frame: pd.DataFrame) -> None:
        """Decide from the first rows which columns are numbers and which are texts to show."""
        names = self.names = [str(name) for name in frame.columns if name != self.qid]
        self._check_described([self.qid, *names])
        if self._like is not None:
            self._assign_like(self._like, names)
            return
        shown = [n for n in names if n in QUERY_TEXT_NAMES and (n != "query" or not _all_numbers(frame[n]))]
        shown = [n for n in shown if n not in self._described]
        item_texts = (*TEXT_NAMES, *QID_NAMES, *self._described)
        self.texts = [name for name in names if name in item_texts and name not in shown]
        maybe = [name for name in names if name in MAYBE_TEXT_NAMES and name not in self._described]
        self.texts += [name for name in maybe if not _all_numbers(frame[name])]
        self.query_text = shown[0] if shown else None
        self.numeric = [name for name in names if name not in {*self.texts, *shown, *self.references}]
        if len(self.numeric) > MAX_COLUMNS:
            raise DataError(f"{self.file.name} has {len(self.numeric):,} columns; at most {MAX_COLUMNS:,} are read.")

    def _check_described(self, names: Sequence[str]) -> None:
        """Raises DataError naming every described or reference column that is missing."""
        problems = [
            f"{self.file.name} has no text column {name!r}{nearest(name, names)}; its columns are "
            f"{', '.join(map(repr, names[:20]))}."
            for name in dict.fromkeys([*self._described, *self.references])
            if name not in names
        ]
        if self.qid in self._described:
            problems.append(
                f"{self.file.name}: {self.qid!r} is the query id, which is the same for all items of a list; describe "
                "a column of the items' own texts."
            )
        if problems:
            raise DataError(problems)

    def _assign_like(self, like: TableReader, names: Sequence[str]) -> None:
        """The columns of the earlier file, in its order. Raises DataError naming those that only one file has."""
        problems = [
            f"Column {name!r} is in {has} but not in {lacks}; give both files the same columns."
            for ours, theirs, has, lacks in (
                (like.names, names, like.file.name, self.file.name),
                (names, like.names, self.file.name, like.file.name),
            )
            for name in ours
            if name not in theirs
        ]
        if problems:
            raise DataError(problems)
        self.numeric, self.texts, self.query_text = like.numeric, like.texts, like.query_text

    def _block(self, frame: pd.DataFrame, row: int) -> Block:
        values = np.empty((len(frame), len(self.numeric)), np.float32)
        for i, name in enumerate(self.numeric):
            values[:, i] = self._numbers(frame[name], name, row)
        qids = self._qids(frame[self.qid], row)
        run_qids, sizes = runs(qids)
        wanted = dict.fromkeys([*self.texts, *self.references])
        texts = {n: pa.array(frame[n].astype(object).map(_text), pa.string()) for n in wanted}
        query_texts = None
        if self.query_text:
            starts = np.cumsum(sizes) - sizes
            query_texts = [_text(t) for t in frame[self.query_text].iloc[starts].tolist()]
        return Block(row, values, run_qids, sizes, texts, query_texts)

    def _numbers(self, column: pd.Series, name: str, row: int) -> Array:
        """(rows,) float32; every cell that is not a finite number becomes a problem naming row and column."""
        if pd.api.types.is_numeric_dtype(column.dtype):
            numbers = column.to_numpy(np.float64, na_value=np.nan)
        else:
            numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            values = numbers.astype(np.float32)
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            if self._problems.full:
                break
            self._problems.add(f"{self.file.name}, row {row + i + 1}, column {name!r}: {_why(column.iloc[i])}")
        return values

    def _qids(self, column: pd.Series, row: int) -> Array:
        """(rows,) strings; a whole number kept as float (3.0) is '3'. A missing one is a problem."""
        missing = column.isna() | (column.astype(object).map(str).str.strip() == "")
        for i in np.flatnonzero(missing).tolist():
            self._problems.add(f"{self.file.name}, row {row + i + 1}, column {self.qid!r}: the query id is missing.")
        return column.astype(object).map(_text).to_numpy(dtype=object)


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_readable(kind.value_type)
    tests = ("integer", "floating", "boolean", "decimal", "string", "large_string", "string_view", "null")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def _all_numbers(column: pd.Series) -> bool:
    return bool(pd.to_numeric(column, errors="coerce").notna().all())


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _why(value: object) -> str:
    """What is wrong with a cell that is not a finite 32-bit number."""
    text = _text(value) if isinstance(value, str) else str(value)
    if not text.strip():
        return "the cell is empty; put a number."
    if value is None or value is pd.NA or text.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "<na>"):
        return f"got {text!r}; values must be finite: leave the row out or put a number."
    with contextlib.suppress(ValueError):
        if abs(float(text)) > float(np.finfo(np.float32).max):
            return f"{text[:40]!r} is beyond the range of a 32-bit float; rescale the column."
    return (
        f"{text[:40]!r} is not a number; put a number, leave the column out, or count features of its texts (--text)."
    )
