"""The run folder: round trip, and one clear message for each way in which it can be wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hyperdpo
from hyperdpo.errors import DataError, RunError
from hyperdpo.front import ParetoFront
from hyperdpo.runs import RunFolder, find_runs, read_fronts, versions, write_run

CONFIG: dict[str, Any] = {
    "kind": "rank", "method": {"method": "hyperdpo"}, "objectives": ["clicks", "quality"], "main": "relevance",
    "data": {"name": "toy"}, "seed": 0, "beta": [1.0, 1.0], "note": "größer ≥ 0",
}  # fmt: skip


def front(name: str = "HyperDPO", seed: int = 0, *, arrays: bool = True) -> ParetoFront:
    rng = np.random.default_rng(seed)
    per_query = rng.random((3, 7, 3)).astype(np.float32)
    per_query[1, 2, 1] = np.nan
    return ParetoFront(
        name=name, method="hyperdpo", main="relevance", objectives=("clicks", "quality"),
        weights=np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), scale=1.0, k=10, split="test",
        ndcg=np.nanmean(per_query, 1).astype(float), per_query=per_query if arrays else None,
        residuals=rng.random((3, 20)).astype(np.float32) if arrays else None,
    )  # fmt: skip


def models() -> list[dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    return [{"net.weight": torch.randn(4, 3, generator=g), "net.bias": torch.randn(4, generator=g)} for _ in range(12)]


def write(path: Path, **changes: Any) -> RunFolder:
    content: dict[str, Any] = {
        "models": models(), "scaler": {"mean": torch.arange(3.0)}, "base": {"w": torch.ones(2)},
        "fronts": [front(), front("Base", 1)], "card": "# A run\n",
    }  # fmt: skip
    return write_run(path, CONFIG, **{**content, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path / "run")
    return tmp_path / "run"


def told(path: Path) -> list[str]:
    with pytest.raises(RunError) as caught:
        RunFolder(path)
    return caught.value.problems


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# --- round trip ------------------------------------------------------------------------------------------------------


def test_round_trip(run: Path) -> None:
    folder = RunFolder(run)
    assert folder.name == "run"
    assert {k: folder.config[k] for k in CONFIG} == CONFIG
    for ours, theirs in zip(models(), folder.models(), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert torch.equal(folder.tensors("scaler.safetensors")["mean"], torch.arange(3.0))
    assert torch.equal(folder.tensors("base.safetensors")["w"], torch.ones(2))
    assert folder.text("base.txt") is None
    assert folder.text("README.md") == "# A run\n"
    assert sorted(p.name for p in run.iterdir()) == [
        "README.md", "base.safetensors", "config.json", "front.json", "manifest.json", "model.safetensors",
        "per_query.safetensors", "scaler.safetensors",
    ]  # fmt: skip


def test_fronts_and_their_arrays_round_trip(run: Path) -> None:
    for ours, theirs in zip([front(), front("Base", 1)], RunFolder(run).fronts(), strict=True):
        assert theirs.name == ours.name
        assert np.allclose(ours.ndcg, theirs.ndcg, atol=1e-6)
        assert ours.per_query is not None
        assert np.array_equal(ours.per_query, theirs.per_query, equal_nan=True)
        assert np.array_equal(ours.residuals, theirs.residuals)


def test_a_base_of_trees_is_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", base=None, texts={"base.txt": "tree\nversion=v4\n"})
    assert folder.tensors("base.safetensors") == {}
    assert folder.text("base.txt") == "tree\nversion=v4\n"


def test_the_folder_can_be_moved(run: Path, tmp_path: Path) -> None:
    shutil.move(run, tmp_path / "elsewhere")
    assert len(RunFolder(tmp_path / "elsewhere").models()) == 12


def test_models_keep_their_order_beyond_ten(run: Path) -> None:
    """`10/...` sorts before `2/...` as text."""
    for i, model in enumerate(RunFolder(run).models()):
        assert torch.equal(model["net.bias"], models()[i]["net.bias"])


def test_fronts_can_be_replaced(run: Path) -> None:
    folder = RunFolder(run)
    folder.save_fronts([front("New", 5)])
    (only,) = RunFolder(run).fronts()
    assert only.name == "New"
    assert np.array_equal(only.per_query, front("New", 5).per_query, equal_nan=True)
    folder.save_fronts([front("Bare", arrays=False)])
    (only,) = RunFolder(run).fronts()
    assert (only.per_query, only.residuals) == (None, None), "the arrays that still lie there are another front's"


def test_a_front_without_arrays_beside_one_with_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", fronts=[front("a", arrays=False), front("b", 3)])
    a, b = folder.fronts()
    assert a.per_query is None
    assert np.array_equal(b.residuals, front("b", 3).residuals)


def test_fronts_open_without_torch(run: Path) -> None:
    """The dashboard opens on fronts alone."""
    code = (
        "import sys; from hyperdpo.runs import RunFolder; "
        f"print(len(RunFolder({str(run)!r}).fronts()), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_versions() -> None:
    found = versions()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert set(found) >= {"python", "hyperdpo", "numpy"}


def test_find_runs_newest_first(tmp_path: Path) -> None:
    for i, name in enumerate(("old", "sub/new", "middle")):
        write(tmp_path / name)
        os.utime(tmp_path / name / "manifest.json", (i, 100 + 10 * (name == "sub/new") + 5 * (name == "middle")))
    (tmp_path / "unrelated").mkdir()
    assert [p.name for p in find_runs(tmp_path)] == ["new", "middle", "old"]
    assert find_runs(tmp_path / "nowhere") == []


# --- bad folders -----------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    assert re.search(r"nowhere is not a folder; a run folder is what `hyperdpo train", told(tmp_path / "nowhere")[0])
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in told(tmp_path / "file")[0]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert "has no manifest.json: it is not a run folder, or its writing was cut off" in told(tmp_path)[0]
    (tmp_path / "manifest.json").write_text('{"format": "web-app", "icons": []}')
    assert "does not say 'hyperdpo-run'" in told(tmp_path)[0]
    (tmp_path / "manifest.json").write_text("[1, 2]")
    assert "not a run folder of this program" in told(tmp_path)[0]
    (tmp_path / "manifest.json").write_text("{")
    assert "cannot be read as JSON" in told(tmp_path)[0]
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as JSON" in told(tmp_path)[0]


def test_a_training_that_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    assert "whose training has not ended; go on with the same command and --resume" in told(tmp_path)[0]


@pytest.mark.parametrize("version", [2, 99])
def test_a_folder_from_the_future(run: Path, version: int) -> None:
    edit(run / "manifest.json", version=version)
    (problem,) = told(run)
    assert f"written by a later version of this program (run format {version}; this one reads up to 1)" in problem
    assert "update the package" in problem


@pytest.mark.parametrize("version", [0, -1, None, "one", True, 1.5])
def test_a_folder_of_no_known_format(run: Path, version: object) -> None:
    edit(run / "manifest.json", version=version)
    (problem,) = told(run)
    assert f"has no known run format (version {version!r}; this program reads 1 to 1)" in problem


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "scaler.safetensors", "base.safetensors", "README.md", "front.json"]
)
def test_a_missing_file(run: Path, name: str) -> None:
    (run / name).unlink()
    problems = told(run)
    assert "is damaged; copy it again or train it again" in problems[0]
    assert [p for p in problems if name in p] == [f"{run / name} is missing."]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "scaler.safetensors"])
def test_a_truncated_file(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[:-3])
    assert f"{run / name} is truncated: {len(content) - 3} bytes, {len(content)} were written." in told(run)


def test_a_changed_file(run: Path) -> None:
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "model.safetensors").write_bytes(content)
    assert f"{run / 'model.safetensors'} was changed after it was written (its SHA-256 differs)." in told(run)
    (run / "model.safetensors").write_bytes(content + b"more")
    assert any("model.safetensors is changed" in p for p in told(run))


def test_a_large_changed_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Hashing gigabytes at every opening would be slow; weights are hashed when they are loaded."""
    folder = write(
        tmp_path / "run", models=[{"w": torch.zeros(400_000)}], base=None, texts={"base.txt": "x" * 1_200_000}
    )
    for name in ("model.safetensors", "base.txt"):
        content = bytearray((folder.path / name).read_bytes())
        content[-1] ^= 1
        (folder.path / name).write_bytes(content)
    again = RunFolder(folder.path)
    with pytest.raises(RunError, match=r"model.safetensors is not the file that was written \(its SHA-256 differs\)"):
        again.models()
    with pytest.raises(RunError, match=r"base.txt is not the file that was written"):
        again.text("base.txt")


def test_everything_wrong_is_listed_at_once(run: Path) -> None:
    (run / "scaler.safetensors").unlink()
    (run / "model.safetensors").write_bytes(b"x")
    (run / "config.json").write_text("{")
    (run / "front.json").write_text('{"format": "hyperdpo-front", "fr')
    problems = told(run)
    for name in ("scaler.safetensors is missing", "model.safetensors is truncated", "config.json", "front.json"):
        assert any(name in p for p in problems), name


def test_a_config_that_lacks_keys(tmp_path: Path) -> None:
    config = {k: v for k, v in CONFIG.items() if k not in ("beta", "method")}
    with pytest.raises(RunError, match=r"config.json lacks method, beta\."):
        write_run(tmp_path / "run", config, models=models(), scaler={"mean": torch.zeros(1)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "hyperdpo-front", "version": 1, "fro', "cannot be read as JSON"),
        ('{"format": "else"}', "not a file of fronts"),
        ("[]", "not a file of fronts"),
        ('{"format": "hyperdpo-front", "version": 7, "fronts": []}', r"later version of this program \(7\)"),
        ('{"format": "hyperdpo-front", "version": 1, "fronts": [{}]}', "missing or misstates"),
        ('{"format": "hyperdpo-front", "version": 1, "fronts": [3]}', "missing or misstates"),
        ('{"format": "hyperdpo-front", "version": "x", "fronts": []}', "version"),
        ('{"format": "hyperdpo-front", "version": 1, "fronts": 3}', "front"),
        ('{"format": "hyperdpo-front", "version": 1}', "front"),
    ],
)
def test_a_damaged_front_file(run: Path, content: str, message: str) -> None:
    (run / "front.json").write_text(content)
    with pytest.raises((RunError, DataError), match=message):
        read_fronts(run / "front.json")
    assert re.search(message, "\n".join(told(run)))


def test_changed_arrays_are_ignored_rather_than_mispaired(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", fronts=[front("x", 8), front("y", 9)])
    shutil.copy(tmp_path / "other" / "per_query.safetensors", run)
    for f in RunFolder(run).fronts():
        assert (f.per_query, f.residuals) == (None, None)
        assert f.ndcg.shape == (3, 3)
    (run / "per_query.safetensors").write_bytes(b"cut")
    assert RunFolder(run).fronts()[0].per_query is None
    (run / "per_query.safetensors").unlink()
    assert RunFolder(run).fronts()[0].per_query is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SPOTS = st.sampled_from(
    [
        ("manifest.json", ()), ("manifest.json", ("files",)), ("manifest.json", ("files", "config.json")),
        ("manifest.json", ("files", "config.json", "bytes")), ("manifest.json", ("files", "config.json", "sha256")),
        ("manifest.json", ("version",)), ("front.json", ()), ("front.json", ("fronts",)), ("front.json", ("version",)),
        ("front.json", ("fronts", 0)), ("front.json", ("fronts", 0, "points")), ("front.json", ("fronts", 0, "beta")),
        ("front.json", ("fronts", 0, "points", 1)), ("front.json", ("fronts", 0, "points", 1, "ndcg")),
        ("front.json", ("fronts", 0, "points", 1, "weights")), ("front.json", ("fronts", 0, "objectives")),
        ("front.json", ("fronts", 0, "points", 1, "ndcg", "clicks")), ("front.json", ("fronts", 0, "k")),
        ("front.json", ("fronts", 0, "points", 1, "cross_entropy")), ("front.json", ("fronts", 0, "name")),
    ]
)  # fmt: skip


@given(SPOTS, JSON)
def test_no_json_makes_opening_a_run_fail_with_anything_but_a_message(spot: tuple[str, tuple], value: object) -> None:
    name, keys = spot
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        write(path)
        document = json.loads((path / name).read_text())
        if keys:
            inner = document
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
        else:
            document = value
        (path / name).write_text(json.dumps(document))
        try:
            opened = RunFolder(path)
            opened.fronts()
            opened.models()
        except (RunError, DataError) as error:
            said = error.problems
        else:
            said = ["nothing"]
        assert said
        assert all(p.strip() for p in said)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_no_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the tests may run as root, whom permissions do not stop."""

    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(RunError, match=r"config.json could not be written \(Permission denied\)"):
        write(tmp_path / "run")


@pytest.mark.parametrize("at", range(8))
def test_a_disk_that_fills_up_while_a_run_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real, calls = os.replace, []

    def full(*args: Any) -> None:
        calls.append(1)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        write(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*")), "no temporary file is left"
    assert "its writing was cut off" in told(tmp_path / "run")[0]


@pytest.mark.parametrize("at", range(2))
def test_fronts_survive_a_disk_that_fills_up_while_new_ones_are_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    real, calls = os.replace, []

    def full(*args: Any) -> None:
        calls.append(1)
        if len(calls) == at + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        RunFolder(run).save_fronts([front("New", 5)])
    monkeypatch.undo()
    first, second = RunFolder(run).fronts()
    assert (first.name, second.name) == ("HyperDPO", "Base")
    for ours, theirs in ((front(), first), (front("Base", 1), second)):
        assert np.array_equal(ours.per_query, theirs.per_query, equal_nan=True), "the arrays survive with them"


def test_nothing_is_ever_unpickled() -> None:
    """No source of the package loads pickles, however it is spelt."""
    forbidden = re.compile(
        r"\bimport pickle\b|\bpickle\.|\bcloudpickle\b|\bdill\b|\bjoblib\b|torch\.load\(|allow_pickle\s*=\s*True"
        r"|\beval\(|\bexec\(|read_pickle|shelve|\bmarshal\b|yaml\.load\("
    )
    sources = list(Path(hyperdpo.__file__).parent.rglob("*.py"))
    assert len(sources) > 15
    found = [
        f"{file.name}:{number}"
        for file in sources
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if forbidden.search(re.sub(r"\bmodel\.eval\(|\.eval\(\)", "", line))
    ]
    assert found == []


def test_the_card_is_for_people_and_may_be_edited(run: Path) -> None:
    (run / "README.md").write_text("# Edited by hand\n", encoding="utf-8")
    assert RunFolder(run).text("README.md") == "# Edited by hand\n"
