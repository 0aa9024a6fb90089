"""Units of a study: a training with what is measured of it, keyed by everything that decides them.

Trained runs lie in WORK/runs/KEY and what was measured in WORK/units/KEY.npz, each written whole or not at all. A key
is a hash of the data's fingerprint, the resolved config, the base's key, and the versions of what computes; so recipes
share units, and a unit whose recipe changed is another one.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperdpo.errors import RunError
from hyperdpo.files import write_atomic
from hyperdpo.front import ParetoFront
from hyperdpo.methods import members
from hyperdpo.rank.data import RankData
from hyperdpo.rank.evaluate import evaluate_run, run_residuals
from hyperdpo.rank.live import front_ndcg
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.study.recipe import Case
from hyperdpo.rank.study.sources import Fold
from hyperdpo.rank.train import RankConfig, plan, train
from hyperdpo.resuming import TRAINING
from hyperdpo.runs import versions
from hyperdpo.training import FitConfig, make_accelerator
from hyperdpo.weights import lattice

FORMAT = 1  # of what a unit keeps; another number makes every unit anew
KEY_LENGTH = 20
DECIDING = ("hyperdpo", "torch", "numpy", "lightgbm")  # versions that may change a figure
BASE = "base"
SCALES = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0, 32.0)
"""c at which a curve is measured: trees, which know no beta, need a large one to keep as much as a network."""
# The least network whose run folder can carry a base for the others.
CARRIER = RankConfig(net=NetConfig(width=1, layers=0, heads=0), fit=FitConfig(epochs=1))


@dataclass(frozen=True)
class Measure:
    """One front of a trained run: on which split, at which c, at which temperatures.

    `steps` asks for every weight that is a multiple of 1/steps instead of the method's grid; `curve` for the front at
    each of SCALES.
    """

    key: str
    scale: float = 1.0
    at_beta: tuple[float, ...] | None = None
    split: str = "test"
    steps: int = 0
    curve: bool = False


@dataclass(frozen=True)
class Unit:
    """A training and the measures asked of it.

    Attributes:
        key: names the run folder.
        label: what a person reads in the progress.
        kind: (case, method), whose units take about the same time.
        weight: models times epochs, for a first estimate of the time.
        base: key of the base's unit, or None for a base itself.
    """

    key: str
    label: str
    kind: tuple[str, str]
    weight: float
    case: Case
    fold: Fold
    preset: str
    config: RankConfig
    base: str | None
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a unit's file holds: fronts by method (`own`, `base`, `oracle` ...) and what the run cost.

    Attributes:
        ndcg: {front: (p, q, 1 + m)} NDCG per query.
        names: the main label and the objectives.
        about: seconds, cpu_seconds, base_seconds, wall (all of the unit), models, parameters, features, device, k.
    """

    ndcg: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    about: Mapping[str, Any]


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:KEY_LENGTH]


def _common(device: str) -> dict[str, Any]:
    found = versions()
    return {"format": FORMAT, "device": device, "versions": {name: found[name] for name in DECIDING}}


def base_unit(case: Case, fold: Fold, data: RankData, config: RankConfig, device: str) -> Unit:
    """The unit that trains the base all variants of one case, fold and seed stand on.

    Objectives do not enter its key: a base knows the main label alone.
    """
    config = replace(CARRIER, **{n: getattr(config, n) for n in ("base", "base_fit", "scaling", "seed")})
    key = digest({
        **_common(device), "what": BASE, "data": data.fingerprint, "main": data.task.main.to_dict(),
        "features": data.task.features, "column": data.task.base_column, "base": config.base,
        "fit": vars(config.base_fit), "scaling": config.scaling, "seed": config.seed,
    })  # fmt: skip
    return Unit(
        key, f"{_place(case, fold)}, seed {config.seed}: base", (case.name, BASE), float(config.base_fit.epochs), case,
        fold, "default", config, None, (Measure(digest([key, BASE])),),
    )  # fmt: skip


def method_unit(
    case: Case, fold: Fold, data: RankData, config: RankConfig, base: Unit, *, label: str, preset: str, device: str
) -> Unit:
    """The unit that trains one method on the base of `base`. Raises ConfigError for a config that does not resolve."""
    resolved = config.resolve(data.task.m)
    decided = {**_common(device), **plan(data, resolved), "base": base.key}
    count = len(members(resolved.method, data.task.m))
    return Unit(
        digest(decided), f"{_place(case, fold)}, seed {config.seed}: {label}", (case.name, config.method.method),
        float(count * resolved.fit.epochs), case, fold, preset, config, base.key,
    )  # fmt: skip


def _place(case: Case, fold: Fold) -> str:
    return case.name + (f", fold {fold.index + 1}" if fold.rotate or fold.index else "")


def measure(
    unit: Unit, *, scale: float, at_beta: Sequence[float] | None, split: str, steps: int = 0, curve: bool = False
) -> Measure:
    """One measure of a unit's run."""
    beta = None if at_beta is None else tuple(at_beta)
    decided = [unit.key, scale, beta, split, *([steps] if steps else []), *([*SCALES] if curve else [])]
    return Measure(digest(decided), scale, beta, split, steps, curve)


@dataclass(frozen=True)
class Store:
    """The work folder: where runs and figures lie."""

    work: Path
    device: str = "cpu"

    def file(self, key: str) -> Path:
        return self.work / "units" / f"{key}.npz"

    def run_folder(self, key: str) -> Path:
        return (self.work / "runs" / key).resolve()

    def missing(self, unit: Unit) -> tuple[Measure, ...]:
        return tuple(m for m in unit.measures if not self.file(m.key).exists())

    def load(self, key: str) -> Measured:
        """What a finished measure kept. Raises RunError where the file is damaged."""
        file = self.file(key)
        try:
            with np.load(file) as arrays:
                about = json.loads(str(arrays["about"]))
                ndcg = {name.removeprefix("ndcg/"): arrays[name] for name in arrays.files if name.startswith("ndcg/")}
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{file} cannot be read ({error}); delete it, and it is measured again.") from None
        return Measured(ndcg, tuple(about.pop("names")), about)

    def execute(self, unit: Unit) -> float:
        """Train a unit unless its run is there, measure what is missing, and return the seconds that took.

        Raises Interrupted with the training's state kept.
        """
        started = time.monotonic()
        data = unit.fold.open(unit.case, unit.preset)
        run = self._trained(unit, data)
        for wanted in self.missing(unit):
            arrays = self._curve(run, data, wanted) if wanted.curve else self._fronts(run, data, wanted)
            self._keep(unit, run, data, wanted, arrays, time.monotonic() - started)
        return time.monotonic() - started

    def _trained(self, unit: Unit, data: RankData) -> RankRun:
        out = self.run_folder(unit.key)
        config = unit.config
        if unit.base is not None:
            config = replace(config, base=f"run:{self.run_folder(unit.base)}")
        if out.exists() and not _resumable(out, config.base):
            shutil.rmtree(out)
        return train(data, config, out, resume=True, device=self.device)

    def _curve(self, run: RankRun, data: RankData, wanted: Measure) -> dict[str, np.ndarray]:
        """{c: per-query NDCG} of the run at SCALES."""
        table, features = run.table(data.lists(wanted.split))
        _, residuals = run_residuals(run, table, features, run.method.points)
        k = int(run.config["k"])
        return {scale_name(c): front_ndcg(table, residuals, scale=c, k=k).cpu().numpy() for c in SCALES}

    def _fronts(self, run: RankRun, data: RankData, wanted: Measure) -> dict[str, np.ndarray]:
        """{own, base, oracle ...: per-query NDCG} of a run."""
        fronts = self._measured(run, data, wanted)
        return {
            "own" if front is fronts[0] else front.method: front.per_query
            for front in fronts
            if front.per_query is not None
        }

    def _measured(self, run: RankRun, data: RankData, wanted: Measure) -> list[ParetoFront]:
        if (wanted.scale, wanted.at_beta, wanted.split, wanted.steps) == (1.0, None, "test", 0):
            return run.folder.fronts()  # measured when the training ended
        terms: dict[str, Any] = {} if wanted.at_beta is None else {"beta": wanted.at_beta}
        if len(terms.get("beta", ())) == 1:
            terms["beta"] = wanted.at_beta[0]  # type: ignore[index]
        return evaluate_run(
            run, data, split=wanted.split, scale=wanted.scale,
            points=lattice(data.task.m, wanted.steps) if wanted.steps else run.method.points,
            device=make_accelerator(self.device).device, **terms,
        )  # fmt: skip

    def _keep(
        self, unit: Unit, run: RankRun, data: RankData, wanted: Measure, ndcg: Mapping[str, np.ndarray], wall: float
    ) -> None:
        about = {
            "names": [data.task.main.name, *(o.name for o in data.task.objectives)],
            "label": unit.label, "wall": wall,
            "seconds": run.config["seconds"], "cpu_seconds": run.config.get("cpu_seconds", 0.0),
            "base_seconds": run.config["base"].get("seconds", 0.0),
            "models": run.models, "parameters": run.parameters, "features": len(data.task.features),
            "device": run.config["device"], "k": run.config["k"], "split": wanted.split,
            "queries": len(data.queries(wanted.split)), "beta": list(wanted.at_beta or run.config["beta"]),
            "scale": wanted.scale,
            "epochs": [t["epochs"] for t in run.config["training"]],
        }  # fmt: skip
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"ndcg/{name}": values for name, values in ndcg.items()}
        np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
        write_atomic(self.file(wanted.key), buffer.getvalue())


def scale_name(c: float) -> str:
    """How a curve's front at c is called."""
    return f"c={c:g}"


def _resumable(out: Path, base: str) -> bool:
    """Whether a run folder is finished or can be gone on with.

    Not so where a kill left it without its plan, or where the work folder has moved and the plan names the old place.
    """
    if (out / "manifest.json").exists():
        return True
    try:
        return bool(json.loads((out / TRAINING / "plan.json").read_text("utf-8"))["base"] == base)
    except (OSError, ValueError, KeyError, TypeError):
        return False
