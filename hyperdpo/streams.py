"""Reading files that may be compressed, and problems collected over them."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from hyperdpo.errors import MAX_SHOWN, DataError

COMPRESSED = (".gz", ".xz")


class Problems:
    """Messages collected over files, raised together; reading stops at the limit."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @property
    def full(self) -> bool:
        return len(self.messages) >= MAX_SHOWN - 1

    def add(self, message: str) -> None:
        """Keep the message while there is room."""
        if not self.full:
            self.messages.append(message)

    def raise_any(self) -> None:
        """Raises DataError if anything was added."""
        if self.messages:
            rest = [f"Reading stopped after {len(self.messages)} problems; there may be more."] if self.full else []
            raise DataError(self.messages + rest)


@dataclass(frozen=True)
class Stream:
    """A file being read: its decompressed bytes, and the stored file under them."""

    content: IO[bytes]
    stored: IO[bytes]

    def position(self) -> int:
        """How many stored bytes were read so far."""
        return self.stored.tell()


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Stream]:
    """The file, decompressed as its suffix says. Raises DataError, naming the file, for whatever goes wrong."""
    try:
        size = file.stat().st_size
        if size == 0:
            raise DataError(f"{file.name} is empty (0 bytes); give a file with rows.")
        with open(file, "rb") as stored, _decompressed(stored, file.suffix.lower()) as content:
            yield Stream(content, stored)
    except EOFError:
        raise DataError(
            f"{file.name} is cut: its compressed data ends too early, after {size:,} bytes. Copy or download it again."
        ) from None
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file.name} is not a sound {file.suffix} file ({error}); it is damaged or compressed otherwise. "
            "Copy or download it again."
        ) from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}).") from error


def _decompressed(stored: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stored))
    return cast(IO[bytes], lzma.LZMAFile(stored)) if suffix == ".xz" else stored
