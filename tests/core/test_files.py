"""Writing files: a reader sees the old one or the new one, and nothing is left over."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from hyperdpo.errors import ConfigError, HyperDPOError, RunError, nearest
from hyperdpo.files import sha256, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_text_and_bytes_and_makes_folders(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "c.txt", "größer ≥ 0")
    assert (tmp_path / "a" / "b" / "c.txt").read_text("utf-8") == "größer ≥ 0"
    write_atomic(tmp_path / "a" / "b" / "c.txt", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"\x00\xff"
    assert names(tmp_path / "a" / "b") == ["c.txt"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x", "1")
        assert os.umask(0o027) == 0o027, "the umask is put back"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


@pytest.mark.parametrize("where", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    file = tmp_path / "state"
    write_atomic(file, "earlier")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, where, full)
    with pytest.raises(RunError, match=r"could not be written \(No space left on device\); the earlier file.*Free"):
        write_atomic(file, "later" * 1000)
    assert file.read_text() == "earlier"
    assert names(tmp_path) == ["state"]


def test_a_full_disk_during_the_write_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state"
    write_atomic(file, "earlier")
    real = os.fdopen

    class Full:
        def __init__(self, handle: int, mode: str) -> None:
            self.file = real(handle, mode)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", Full)
    with pytest.raises(RunError, match="No space left on device"):
        write_atomic(file, "later" * 1000)
    assert file.read_text() == "earlier"
    assert names(tmp_path) == ["state"]


def test_an_interrupt_during_the_write_leaves_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "state", "later")
    assert names(tmp_path) == []


def test_no_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the tests may run as root, whom permissions do not stop."""
    import tempfile

    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(RunError, match=r"could not be written \(Permission denied\).*choose a folder you may write to"):
        write_atomic(tmp_path / "x", "1")


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    with pytest.raises(RunError, match="could not be written"):
        write_atomic(tmp_path / "x" / "y", "1")
    assert (tmp_path / "x").read_text() == "a file"


def test_json_is_readable_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert "ä" in (tmp_path / "a.json").read_text("utf-8")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"ä": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"ä": [1, None]}


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_collect_their_problems() -> None:
    error = ConfigError(["one.", "two."])
    assert error.problems == ["one.", "two."]
    assert str(error) == "one.\ntwo."
    assert isinstance(error, HyperDPOError)
    assert isinstance(error, ValueError)


def test_a_flood_of_problems_is_cut_and_counted() -> None:
    error = ConfigError([f"problem {i}." for i in range(50)])
    assert len(error.problems) == 50
    assert str(error).count("\n") == 20
    assert str(error).endswith("... and 30 more problems of this kind.")


def test_nearest() -> None:
    assert nearest("click", ["clicks", "quality"]) == " (did you mean 'clicks'?)"
    assert nearest("zzz", ["clicks", "quality"]) == ""
