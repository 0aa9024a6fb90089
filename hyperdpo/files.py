"""Writing files so that a reader sees the old one or the new one, never half of either; and the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperdpo.errors import RunError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write beside `path`, flush to disk, then rename. On any failure `path` is as it was and nothing is left over.

    Raises RunError naming the path and the reason (no permission, disk full).
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); the earlier file, if there was one, "
            "is untouched. Free some space or choose a folder you may write to."
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of indented UTF-8 JSON. NaN is refused: it is not JSON."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The same value with null for what JSON has no number for, and mappings and sequences as JSON has them."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def user_cache() -> Path:
    """Where what can be made again is kept: HYPERDPO_CACHE, or `hyperdpo` under XDG_CACHE_HOME or ~/.cache."""
    if "HYPERDPO_CACHE" in os.environ:
        return Path(os.environ["HYPERDPO_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperdpo"
