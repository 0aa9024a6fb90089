"""What every reader of files shares: blocks of rows, and the order of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from hyperdpo.errors import MAX_SHOWN
from hyperdpo.streams import COMPRESSED, Problems

LETOR_SUFFIXES = (".txt", ".letor", ".svm", ".svmlight", ".libsvm", ".dat")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
MAX_COLUMNS = 10_000
"""More columns than this are taken for a slip of the pen (or a bag of words): rows are stored densely."""

Array = npt.NDArray[Any]
Matrix: TypeAlias = Any  # a dense array or a scipy CSR matrix
Progress = Callable[[str, int, int], None]
"""Called as progress(file name, bytes read, bytes in the file, as stored)."""


@dataclass
class Block:
    """Consecutive rows of one file.

    Attributes:
        first_row: how many rows of the file come before.
        values: (rows, columns) float32, dense or sparse; absent columns at the right are 0.
        run_qids, run_sizes: the runs of equal query ids, in order, and their lengths.
        texts: item texts by column name, one a row.
        query_texts: a text for each run, or None.
    """

    first_row: int
    values: Matrix
    run_qids: list[str]
    run_sizes: Array
    texts: dict[str, pa.Array] = field(default_factory=dict)
    query_texts: list[str] | None = None


class Reader(Protocol):
    """Reads one kind of file; `columns` is complete once all blocks were drawn."""

    file: Path

    def blocks(self) -> Iterator[Block]: ...

    def places(self, rows: list[int]) -> list[str]:
        """Where these rows are, for a message: 'line 7' or 'row 6'."""
        ...


def plain_suffix(file: Path) -> str:
    """The suffix under the compression: `.txt` of `a.txt.xz`, in lower case."""
    name = file.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return Path(name).suffix


def to_dense(values: Matrix, width: int) -> Array:
    """(rows, width) float32 in memory order, zeros added at the right."""
    dense = values.toarray() if sparse.issparse(values) else np.asarray(values)
    if dense.shape[1] < width:
        dense = np.pad(dense, ((0, 0), (0, width - dense.shape[1])))
    return np.ascontiguousarray(dense, dtype=np.float32)


def runs(qids: Array) -> tuple[list[str], Array]:
    """Runs of equal neighbours in (rows,) query ids: their ids as strings, and their lengths."""
    starts = np.flatnonzero(np.concatenate([[True], qids[1:] != qids[:-1]]))
    return [str(q) for q in qids[starts].tolist()], np.diff(starts, append=len(qids))


class QueryOrder:
    """The queries of all files in order of appearance; finds a query whose rows are in two places."""

    def __init__(self) -> None:
        self.qids: list[str] = []
        self.sizes: list[int] = []
        self.texts: list[str] = []
        self.reader_of: list[int] = []
        self._first_rows: list[int] = []
        self._last: tuple[int, str] | None = None
        self._number: dict[str, int] = {}
        self._readers: list[Reader] = []
        self._twice: list[tuple[int, int, int]] = []

    def start_file(self, reader: Reader) -> None:
        self._readers.append(reader)

    def add(self, block: Block) -> None:
        """Append the block's runs; the first continues the last list where the query id is the same, within a file."""
        row, here = block.first_row, len(self._readers) - 1
        texts = block.query_texts or block.run_qids
        for qid, size, text in zip(block.run_qids, block.run_sizes.tolist(), texts, strict=True):
            number = self._number.get(qid)
            adjacent, self._last = self._last == (here, qid), (here, qid)
            if number is not None and adjacent:
                self.sizes[number] += size
            elif number is not None:
                self._twice.append((number, here, row))
            else:
                self._number[qid] = len(self.qids)
                self.qids.append(qid)
                self.sizes.append(size)
                self.texts.append(text)
                self.reader_of.append(here)
                self._first_rows.append(row)
            row += size

    def report(self, problems: Problems) -> None:
        """Add a problem naming both places for every query that comes back after another one."""
        twice = self._twice[:MAX_SHOWN]
        wanted: dict[int, set[int]] = {}
        for number, reader, row in twice:
            wanted.setdefault(self.reader_of[number], set()).add(self._first_rows[number])
            wanted.setdefault(reader, set()).add(row)
        found: dict[tuple[int, int], str] = {}
        for reader, rows in wanted.items():
            ordered = sorted(rows)
            for row, place in zip(ordered, self._readers[reader].places(ordered), strict=True):
                found[reader, row] = f"{self._readers[reader].file.name}, {place}"
        for number, reader, row in twice:
            first = found[self.reader_of[number], self._first_rows[number]]
            same = self.reader_of[number] == reader
            why = "sort the file so that each query's rows are adjacent" if same else "a query belongs to one file only"
            problems.add(
                f"Query {self.qids[number]!r} starts at {first} and comes again at {found[reader, row]}; {why}."
            )
