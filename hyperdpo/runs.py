"""The run folder: the contract between training and everything that comes after.

    config.json              resolved: method, objectives, network, data, seeds, versions, cost
    model.safetensors        K >= 1 sets of weights, keys `0/...`, `1/...`; empty where the models are trees
    trees-00.txt ...         LightGBM's own text of each model of the methods that grow trees
    base.safetensors|.txt    the frozen base (a network's weights, or LightGBM's own text)
    scaler.safetensors       feature scaling fitted on train
    front.json               named fronts: this run's, its baselines', the base's, the oracles'
    per_query.safetensors    NDCG per query of every point, so that intervals need no data; and residuals
    README.md                the model card
    manifest.json            what was written, with size and SHA-256; written last, so that a folder without it is
    incomplete

Nothing in it is ever unpickled. Every file is replaced atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from hyperdpo.errors import DataError, RunError
from hyperdpo.files import sha256, write_atomic
from hyperdpo.front import ParetoFront

if TYPE_CHECKING:  # torch is loaded where tensors are read or written: a run's fronts can be shown without it
    from torch import Tensor

FORMAT = "hyperdpo-run"
VERSION = 1
FRONTS_FORMAT = "hyperdpo-front"
REQUIRED = ("config.json", "model.safetensors", "scaler.safetensors", "front.json", "README.md")
REQUIRED_KEYS = ("kind", "method", "objectives", "main", "data", "seed", "beta")
REWRITTEN = ("front.json", "per_query.safetensors", "README.md")  # measured again, or edited by a person: not sealed


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("hyperdpo", "torch", "numpy", "accelerate", "lightgbm", "pymoo")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_run(
    path: Path,
    config: Mapping[str, Any],
    *,
    models: Iterable[Mapping[str, Tensor]],
    scaler: Mapping[str, Tensor],
    base: Mapping[str, Tensor] | None = None,
    texts: Mapping[str, str] | None = None,
    fronts: Iterable[ParetoFront] = (),
    card: str = "",
) -> RunFolder:
    """Write a run folder; `manifest.json` comes last. Raises RunError where the folder cannot be written."""
    from safetensors.torch import save as save_tensors

    weights = {f"{i}/{k}": v.detach().cpu().contiguous() for i, model in enumerate(models) for k, v in model.items()}
    content: dict[str, bytes] = {
        "config.json": _json({"format": FORMAT, "version": VERSION, **config}),
        "model.safetensors": save_tensors(weights),
        "scaler.safetensors": save_tensors({k: v.contiguous() for k, v in scaler.items()}),
        "README.md": card.encode(),
    }
    if base:
        content["base.safetensors"] = save_tensors({k: v.detach().cpu().contiguous() for k, v in base.items()})
    content |= {name: text.encode() for name, text in (texts or {}).items()}
    for name, blob in content.items():
        write_atomic(path / name, blob)
    write_fronts(path, list(fronts))
    listed = {
        name: {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        for name, blob in content.items()
        if name not in REWRITTEN
    }
    write_atomic(path / "manifest.json", _json({"format": FORMAT, "version": VERSION, "files": listed}))
    return RunFolder(path)


class RunFolder:
    """A run folder opened for reading.

    Raises RunError with everything that is wrong with it: not there, not a run, incomplete, from a later version, files
    missing, of another size or with another hash than the manifest says, JSON that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._manifest = self._check()
        self.config: dict[str, Any] = json.loads((self.path / "config.json").read_text("utf-8"))

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def _check(self) -> dict[str, Any]:
        path = self.path
        if not path.is_dir():
            raise RunError(f"{path} is not a folder; a run folder is what `hyperdpo train ... --out RUN` writes.")
        if not (path / "manifest.json").exists():
            if (path / "training").is_dir():
                raise RunError(
                    f"{path} is a run whose training has not ended; go on with the same command and --resume."
                )
            raise RunError(f"{path} has no manifest.json: it is not a run folder, or its writing was cut off.")
        manifest = _read_json(path / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise RunError(f"{path} is not a run folder of this program: its manifest.json does not say {FORMAT!r}.")
        version = manifest.get("version")
        if type(version) is not int or version < 1:
            raise RunError(
                f"{path} has no known run format (version {version!r}; this program reads 1 to {VERSION}): copy the run"
                " again, or train it again."
            )
        if version > VERSION:
            raise RunError(
                f"{path} was written by a later version of this program (run format {version!r}; this one reads up to "
                f"{VERSION}): update the package, or train the run again."
            )
        problems = []
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(map(_is_entry, files.values())):
            problems.append(f"{path / 'manifest.json'} does not say what was written.")
            files = {}
        for name in REQUIRED:
            if not (path / name).is_file() and name not in files:
                problems.append(f"{path / name} is missing.")
            elif name not in REWRITTEN and files and name not in files:
                problems.append(f"{path / 'manifest.json'} does not list {name}.")
        for name, expected in files.items():
            problems += _file_problems(path / name, expected)
        problems += self._config_problems() + self._front_problems()
        if problems:
            raise RunError([f"The run folder {path} is damaged; copy it again or train it again:", *problems])
        return manifest

    def _config_problems(self) -> list[str]:
        file = self.path / "config.json"
        if not file.exists():
            return []
        try:
            config = _read_json(file)
        except RunError as error:
            return error.problems
        missing = [k for k in REQUIRED_KEYS if not isinstance(config, dict) or k not in config]
        return [f"{file} lacks {', '.join(missing)}."] if missing else []

    def _front_problems(self) -> list[str]:
        file = self.path / "front.json"
        if not file.exists():
            return []  # said already: it is among the required files
        try:
            read_fronts(file)
        except (RunError, DataError) as error:
            return error.problems
        return []

    def models(self) -> list[dict[str, Tensor]]:
        """The K sets of weights. Raises RunError where the file's hash is not the manifest's."""
        sets: dict[int, dict[str, Tensor]] = {}
        for key, value in self.tensors("model.safetensors").items():
            index, _, name = key.partition("/")
            sets.setdefault(int(index), {})[name] = value
        return [sets[i] for i in sorted(sets)]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file, or none if the run has no such file. Raises RunError where it is damaged."""
        from safetensors.torch import load as load_tensors

        if name not in self._manifest["files"]:
            return {}
        file = self._verified(name)
        try:
            tensors: dict[str, Tensor] = load_tensors(file.read_bytes())
        except SafetensorError as error:
            raise RunError(f"{file} cannot be read ({error}); copy the run again.") from None
        return tensors

    def text(self, name: str) -> str | None:
        """A text file of the run, or None if the run has no such file. Raises RunError where it is damaged."""
        file = self._verified(name) if name in self._manifest["files"] else self.path / name
        return file.read_text("utf-8") if file.exists() else None

    def _verified(self, name: str) -> Path:
        file = self.path / name
        if sha256(file) != self._manifest["files"][name]["sha256"]:
            raise RunError(f"{file} is not the file that was written (its SHA-256 differs); copy the run again.")
        return file

    def fronts(self) -> list[ParetoFront]:
        """The named fronts, with per-query metrics and residuals where they lie beside them and match."""
        return read_fronts(self.path / "front.json", with_arrays=True)

    def save_fronts(self, fronts: Iterable[ParetoFront], card: str | None = None) -> None:
        """Replace front.json, the arrays beside it, and the model card if given; the earlier ones survive a failure."""
        write_fronts(self.path, list(fronts))
        if card is not None:
            write_atomic(self.path / "README.md", card)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _file_problems(file: Path, expected: Mapping[str, Any]) -> list[str]:
    if not file.is_file():
        return [f"{file} is missing."]
    size = file.stat().st_size
    if size != expected["bytes"]:
        how = "truncated" if size < expected["bytes"] else "changed"
        return [f"{file} is {how}: {size} bytes, {expected['bytes']} were written."]
    if size <= 1_000_000 and sha256(file) != expected["sha256"]:
        return [f"{file} was changed after it was written (its SHA-256 differs)."]
    return []


def write_fronts(path: Path, fronts: list[ParetoFront]) -> None:
    """The arrays first, then front.json with their hash: a reader never pairs figures with the wrong arrays."""
    arrays: dict[str, np.ndarray] = {}
    for i, front in enumerate(fronts):
        if front.per_query is not None:
            arrays[f"{i}/per_query"] = np.ascontiguousarray(front.per_query, dtype=np.float32)
        if front.residuals is not None:
            arrays[f"{i}/residuals"] = np.ascontiguousarray(front.residuals, dtype=np.float32)
    blob = save_arrays(arrays) if arrays else None
    document = _json(
        {
            "format": FRONTS_FORMAT,
            "version": VERSION,
            "arrays_sha256": None if blob is None else hashlib.sha256(blob).hexdigest(),
            "fronts": [front.to_dict() for front in fronts],
        }
    )
    with _put_back_on_failure(path / "per_query.safetensors"):
        if blob is not None:
            write_atomic(path / "per_query.safetensors", blob)
        write_atomic(path / "front.json", document)


@contextmanager
def _put_back_on_failure(file: Path) -> Iterator[None]:
    """Keep a second name for `file`, which costs no space, and give it its own name back if the block fails."""
    earlier = file.with_name(f".{file.name}.earlier")
    with suppress(OSError):  # some file systems have no links: the arrays are then lost with the failed write, not more
        earlier.unlink(missing_ok=True)
        os.link(file, earlier)
    try:
        yield
    except BaseException:
        if earlier.exists():
            os.replace(earlier, file)
        raise
    finally:
        earlier.unlink(missing_ok=True)


def read_fronts(file: Path, *, with_arrays: bool = False) -> list[ParetoFront]:
    """The fronts of a front.json. Raises RunError or DataError naming the file where it is not one."""
    document = _read_json(file)
    if not isinstance(document, dict) or document.get("format") != FRONTS_FORMAT:
        raise RunError(f"{file} is not a file of fronts written by this program.")
    version, listed = document.get("version"), document.get("fronts")
    if type(version) is not int or not isinstance(listed, list):
        raise RunError(f"{file} lacks a version or its fronts; it was not written by this program.")
    if version > VERSION:
        raise RunError(f"{file} was written by a later version of this program ({version}).")
    fronts = [ParetoFront.from_dict(fields) for fields in listed]
    beside = file.parent / "per_query.safetensors"
    if not with_arrays or not beside.exists() or sha256(beside) != document.get("arrays_sha256"):
        return fronts
    arrays = load_arrays(beside.read_bytes())
    return [
        front.with_arrays(arrays.get(f"{i}/per_query"), arrays.get(f"{i}/residuals")) for i, front in enumerate(fronts)
    ]


def find_runs(root: Path) -> list[Path]:
    """Folders below `root` (two levels) that hold a manifest or a front, newest first."""
    found = {p.parent for pattern in ("*/manifest.json", "*/*/manifest.json") for p in root.glob(pattern)}
    return sorted(found, key=lambda p: (p / "manifest.json").stat().st_mtime, reverse=True)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{file} cannot be read as JSON ({error}).") from None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
