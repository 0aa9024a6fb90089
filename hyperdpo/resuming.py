"""What a training keeps in its run folder until it is finished, so that the same command with --resume goes on.

training/plan.json           what must be the same for a training to be resumed
training/*.safetensors       finished parts: the base, models, cached scores, each with a JSON header
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from hyperdpo.errors import RunError
from hyperdpo.files import write_atomic, write_json

TRAINING = "training"


def open_folder(out: Path, wanted: dict[str, Any], accelerator: Accelerator, *, resume: bool, overwrite: bool) -> bool:
    """Begin or resume a training in `out`; whether it is finished already. Raises RunError as `_check_folder` does.

    No process writes before every process has looked.
    """
    _check_folder(out, wanted, resume=resume, overwrite=overwrite)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _begin_folder(out, wanted, overwrite=overwrite)
    accelerator.wait_for_everyone()
    return (out / "manifest.json").exists()


def _check_folder(out: Path, wanted: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Raises RunError where `out` cannot be begun, resumed or overwritten as asked. Changes nothing."""
    plan_file = out / TRAINING / "plan.json"
    finished, begun = (out / "manifest.json").exists(), plan_file.exists()
    if overwrite and (finished or begun):
        return
    if (finished or begun) and not resume:
        what = "a finished run" if finished else "an interrupted training"
        raise RunError(f"{out} holds {what}; add --resume to go on with it or --overwrite to start again.")
    if begun:
        kept = _read_plan(plan_file)
        changed = [f"{k}: {kept.get(k)!r} then, {v!r} now" for k, v in wanted.items() if kept.get(k) != _plain(v)]
        if changed:
            raise RunError([f"{out} cannot be resumed, because the command has changed since:", *changed])
    elif not finished and out.exists() and (not out.is_dir() or any(p.name != TRAINING for p in out.iterdir())):
        raise RunError(f"{out} exists and is not a run folder; choose another --out.")


def _begin_folder(out: Path, wanted: dict[str, Any], *, overwrite: bool) -> None:
    """Remove what is to be overwritten and note the plan of a new training."""
    plan_file = out / TRAINING / "plan.json"
    if overwrite and out.is_dir():
        (out / "manifest.json").unlink(missing_ok=True)  # first: without it nobody takes the rest for a run
        shutil.rmtree(out / TRAINING, ignore_errors=True)
        for path in out.glob("*"):
            if path.is_file():
                path.unlink()
    if not plan_file.exists() and not (out / "manifest.json").exists():
        write_json(plan_file, wanted)


def _read_plan(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_text("utf-8"))
        if isinstance(kept, dict):
            return kept
    except (OSError, ValueError):
        pass
    raise RunError(f"{file} cannot be read; use --overwrite to start this training again.")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def write_part(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Keep a finished part of a training, atomically."""
    content = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_atomic(path, save(content, {"hyperdpo": json.dumps(header)}))


def read_part(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of `write_part`."""
    with safe_open(path, "pt", device="cpu") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["hyperdpo"])
