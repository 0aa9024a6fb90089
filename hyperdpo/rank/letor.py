"""LETOR / SVMlight text: `LABEL qid:QUERY INDEX:VALUE ... # comment`, in blocks of whole lines.

A block goes through scikit-learn's reader. Where that refuses it, or what it returns looks suspicious, a slow scan of
the same block names file, line and text of each problem; it also reads what the fast reader cannot (query ids that are
not integers), by stricter rules and to the same values.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.datasets import load_svmlight_file

from hyperdpo.errors import DataError
from hyperdpo.rank.reading import MAX_COLUMNS, Array, Block, Matrix, Progress, runs
from hyperdpo.streams import Problems, opened

BLOCK_BYTES = 32 << 20
MAX_LINE_BYTES = 16 << 20
_COMMENT = re.compile(rb"#[^\n]*")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_INTEGER = re.compile(rb"[+-]?\d+")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class Rows:
    """Parsed lines: labels (rows,), features (rows, columns) sparse, qids (rows,) integers or strings."""

    labels: Array
    features: Matrix
    qids: Array

    def counts(self) -> Array:
        """(rows,) how many INDEX:VALUE fields each line had, zeros included."""
        return np.diff(self.features.indptr)


class LetorReader:
    """One LETOR file. After `blocks`, `width` is its highest feature index; `blank_lines` counts lines without data."""

    def __init__(self, file: Path, problems: Problems, progress: Progress | None = None) -> None:
        self.file = file
        self.width = 0
        self.blank_lines = 0
        self.notes: list[str] = []
        self._problems = problems
        self._progress = progress
        self._fewest: int | None = None

    def blocks(self) -> Iterator[Block]:
        """The file's rows; what is wrong with them goes to the problems, and then nothing more is yielded."""
        row = line = 0
        before = len(self._problems.messages)
        for text, position in self._texts():
            rows = parse(text, self.file.name, line + 1, self._problems)
            if self._problems.full:
                return
            lines = text.count(b"\n") + (not text.endswith(b"\n"))
            if rows is not None:
                self.blank_lines += lines - len(rows.labels)
                if len(rows.labels) and len(self._problems.messages) == before:
                    self._look_for_cut(text, rows, line + lines)
                    self.width = max(self.width, rows.features.shape[1])
                    yield _block(rows, row)
                row += len(rows.labels)
            line += lines
            if self._progress:
                self._progress(self.file.name, position, self.file.stat().st_size)
        if row == 0 and len(self._problems.messages) == before:
            self._problems.add(f"{self.file.name} holds no rows, only comments or blank lines; give a file with rows.")

    def places(self, rows: list[int]) -> list[str]:
        """'line N' for each row number (ascending); reads the file again, so only for messages."""
        wanted, found, row, line = set(rows), [], 0, 0
        for text, _ in self._texts():
            for content in text.removesuffix(b"\n").split(b"\n"):
                line += 1
                if content.split(b"#", 1)[0].strip():
                    if row in wanted:
                        found.append(f"line {line}")
                    row += 1
        return found

    def _texts(self) -> Iterator[tuple[bytes, int]]:
        """Blocks of whole lines and the position in the stored file; a read error becomes a problem."""
        try:
            with opened(self.file) as stream:
                for text in _whole_lines(stream.content, self.file.name):
                    yield text, stream.position()
        except DataError as error:
            for message in error.problems:
                self._problems.add(message)

    def _look_for_cut(self, text: bytes, rows: Rows, last_line: int) -> None:
        """A last line without newline that is shorter than every other line is taken for the end of a cut file."""
        counts = rows.counts()
        earlier = counts if text.endswith(b"\n") else counts[:-1]
        if len(earlier):
            fewest = int(earlier.min())
            self._fewest = fewest if self._fewest is None else min(self._fewest, fewest)
        if not text.endswith(b"\n") and self._fewest is not None and counts[-1] < self._fewest:
            self._problems.add(
                f"{self.file.name}, line {last_line}: the file seems cut here: the last line has no newline and only "
                f"{counts[-1]} features, where every other line has {self._fewest} or more. Copy the file again, or "
                "end that line with a newline if it is whole."
            )


def parse(text: bytes, name: str, first_line: int, problems: Problems) -> Rows | None:
    """Whole lines to rows; None where problems were added. `first_line` is the number of the text's first line."""
    if b"\0" in text:
        line = first_line + text[: text.index(b"\0")].count(b"\n")
        problems.add(f"{name}, line {line}: a zero byte; this is not text. Is the file compressed, or another format?")
        return None
    rows = _fast(text)
    return rows if rows is not None else scan(text, name, first_line, problems)


def _fast(text: bytes) -> Rows | None:
    """scikit-learn's reading, or None where it refuses or the slow scan should look: it takes 1_0 for 10, lines without
    qid among others, NaN and overflow."""
    if b"_" in text and b"_" in _COMMENT.sub(b"", text):
        return None
    try:
        with np.errstate(over="ignore"):
            features, labels, qids = load_svmlight_file(
                io.BytesIO(text), dtype=np.float32, zero_based=False, query_id=True
            )
            labels = labels.astype(np.float32)
    except (ValueError, OverflowError, MemoryError):
        return None
    width = int(features.indices.max()) + 1 if features.nnz else 0
    if len(qids) != len(labels) or width > MAX_COLUMNS:
        return None
    if not (np.isfinite(features.data).all() and np.isfinite(labels).all()):
        return None
    return Rows(labels, _csr(features.data, features.indices, features.indptr, width), qids)


def scan(text: bytes, name: str, first_line: int, problems: Problems) -> Rows | None:
    """The slow reading, line by line; None where problems were added."""
    before = len(problems.messages)
    labels: list[float] = []
    qids: list[str] = []
    data: list[float] = []
    indices: list[int] = []
    indptr = [0]
    lines = text.split(b"\n")
    for number, line in enumerate(lines, first_line):
        tokens = line.split(b"#", 1)[0].split()
        if not tokens:
            continue
        wrong = _scan_line(tokens, labels, qids, data, indices)
        indptr.append(len(indices))
        cut = (
            " The file may be cut here: its last line has no newline." if number == first_line + len(lines) - 1 else ""
        )
        for message in wrong:
            problems.add(f"{name}, line {number}: {message}{cut}")
        if problems.full:
            return None
    if len(problems.messages) > before:
        return None
    width = max(indices, default=-1) + 1
    features = _csr(np.array(data, np.float32), np.array(indices, np.int32), np.array(indptr, np.int64), width)
    return Rows(np.array(labels, np.float32), features, np.array(qids, dtype=object))


def _scan_line(
    tokens: list[bytes], labels: list[float], qids: list[str], data: list[float], indices: list[int]
) -> list[str]:
    """Append one line's values; returns what is wrong with it."""
    wrong = []
    label, problem = _value(tokens[0], "the label")
    wrong += [problem] if problem else []
    labels.append(label)
    qid = tokens[1][4:] if len(tokens) > 1 and tokens[1].startswith(b"qid:") else b""
    if qid:
        qids.append(str(int(qid)) if _INTEGER.fullmatch(qid) else qid.decode(errors="replace"))
    else:
        second = _quote(tokens[1]) if len(tokens) > 1 else "nothing"
        wrong.append(f"the query id is missing; the second field should be qid:QUERY, got {second}.")
    previous = 0
    is_feature = len(tokens) > 1 and _INTEGER.fullmatch(tokens[1].partition(b":")[0])
    for token in tokens[1 if is_feature else 2 :]:
        index, value, problem = _feature(token, previous)
        if problem:
            wrong.append(problem)
        else:
            indices.append(index - 1)
            data.append(value)
            previous = index
    return wrong


def _feature(token: bytes, previous: int) -> tuple[int, float, str]:
    """Index, value and what is wrong (or ''), of one INDEX:VALUE field after one of index `previous`."""
    left, colon, right = token.partition(b":")
    if not colon or not _INTEGER.fullmatch(left) or not right:
        return 0, 0.0, f"{_quote(token)} is not a feature; write INDEX:VALUE, two numbers with a colon."
    index = int(left)
    if not 1 <= index <= MAX_COLUMNS:
        return (
            0,
            0.0,
            f"feature index {index} in {_quote(token)} is out of range; indices run from 1 to {MAX_COLUMNS:,}.",
        )
    if index == previous:
        return 0, 0.0, f"feature index {index} occurs twice, the second time in {_quote(token)}; give it once a line."
    if index < previous:
        return (
            0,
            0.0,
            f"feature index {index} in {_quote(token)} comes after {previous}; indices must rise along a line.",
        )
    value, problem = _value(right, f"column f{index}")
    return index, value, problem


def _value(token: bytes, what: str) -> tuple[float, str]:
    """A finite float32 value, or 0 and what is wrong with it."""
    if _NUMBER.fullmatch(token):
        value = float(token)
        if abs(value) <= _FLOAT32_MAX:
            return value, ""
        return 0.0, f"{what} is {_quote(token)}, beyond the range of a 32-bit float; rescale the column."
    if _NOT_FINITE.fullmatch(token):
        return 0.0, f"{what} is {_quote(token)}; values must be finite: leave the item out or put a number."
    return 0.0, f"{what} is {_quote(token)}, which is not a number."


def _quote(token: bytes, most: int = 40) -> str:
    text = token.decode(errors="replace")
    return repr(text if len(text) <= most else text[:most] + "...")


def _csr(data: Array, indices: Array, indptr: Array, width: int) -> Matrix:
    return sparse.csr_matrix((data, indices.astype(np.int32), indptr), shape=(len(indptr) - 1, width))


def _block(rows: Rows, first_row: int) -> Block:
    """Rows with the label as column 0."""
    values = sparse.hstack([sparse.csr_matrix(rows.labels[:, None]), rows.features], format="csr", dtype=np.float32)
    qids, sizes = runs(rows.qids)
    return Block(first_row, values, qids, sizes)


def _whole_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The stream in blocks that end at a line's end (the last may not). Raises DataError where there is no line end."""
    kept = b"\xef\xbb\xbf"
    start = stream.read(len(kept))
    kept = b"" if start == kept else start
    while chunk := stream.read(BLOCK_BYTES):
        text = kept + chunk
        end = text.rfind(b"\n") + 1
        if end == 0 and len(text) > MAX_LINE_BYTES:
            raise DataError(f"{name} has no line end within {len(text):,} bytes; this is not LETOR text.")
        kept = text[end:]
        if end:
            yield text[:end]
    if kept:
        yield kept
