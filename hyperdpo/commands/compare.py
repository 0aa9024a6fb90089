"""`hyperdpo compare` and `hyperdpo info`: what run folders say, without data or models."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from hyperdpo.commands.shared import (
    Answer,
    Json,
    RunPath,
    fronts_table,
    label_kind,
    measure_of,
)
from hyperdpo.commands.text import text_info
from hyperdpo.errors import ConfigError, RunError
from hyperdpo.files import without_nan
from hyperdpo.tables import facts, table

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.runs import RunFolder


@dataclass(frozen=True)
class Compare:
    """Compare runs by the fronts they hold, with intervals and a paired test of the first run against each other.

    One run is compared with the fronts of others that its folder holds. Refuses runs that were not measured on the
    same terms.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN", help="Run folders.")]
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.front import comparable
        from hyperdpo.runs import RunFolder

        if not self.runs:
            raise ConfigError("A comparison needs two runs, or one that holds fronts of others; got none.")
        folders = [RunFolder(path) for path in _all_runs(self.runs)]
        fronts = [replace(_own_front(folder), run=str(folder.path)) for folder in folders]
        if len(folders) == 1:
            fronts += _others_in(folders[0], fronts[0])
            folders *= len(fronts)
        try:
            comparable(fronts)
        except ConfigError as error:
            raise ConfigError([*error.problems, _evaluate_hint(fronts)]) from None
        measured = _measured_together(fronts)
        rows = [
            {**_compared(folder, front, own=i < len(self.runs)), **statistics}
            for i, (folder, front, statistics) in enumerate(zip(folders, fronts, measured, strict=True))
        ]
        first = fronts[0]
        terms = {
            "main": first.main,
            "objectives": list(first.objectives),
            "k": first.k,
            "split": first.split,
            "scale": first.scale,
            "beta": list(first.beta),
            "data": first.data,
            "reference": list(first.reference_point),
        }
        notes = _differences(rows)
        return Answer({**terms, "runs": rows, "notes": notes}, self._text(first, rows, notes))

    @staticmethod
    def _text(first: ParetoFront, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
        head = f"{', '.join(first.objectives)}; split {first.split}, c = {first.scale:g}, data {first.data[:12]}"
        headers = ["run", "front", "hypervolume", measure_of(first), "std", "sparsity", "seconds"]
        headers += ["base s", "parameters", "models", "points", "first / this", "p first is better"]
        shown = []
        for r in rows:
            test = r["against_first"]
            shown.append([
                r["run"], r["front"], _with_interval(r["hypervolume"], r["hypervolume_interval"], 5),
                _with_interval(r["main_mean"], r["main_interval"], 4), r["main_std"], f"{r['sparsity']:.6f}",
                f"{r['seconds']:.1f}", f"{r['base_seconds']:.1f}", r["parameters"], r["models"], r["points"],
                _with_interval(test["ratio"], test["ratio_interval"], 3) if test else None,
                f"{test['p']:.3f}" if test else None,
            ])  # fmt: skip
        lines = [head, "", table(headers, shown, left=2)]
        lines += [
            "",
            "95 % intervals by bootstrap over queries; the same samples for every run, so that tests are paired.",
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in notes)])


def _measured_together(fronts: Sequence[ParetoFront]) -> list[dict[str, Any]]:
    """Intervals of each front, and the paired test of the first against it.

    None where a front was stored without its per-query figures.
    """
    from hyperdpo.paired import Sampled, Samples

    nothing = {"hypervolume_interval": None, "main_interval": None, "sparsity_interval": None, "against_first": None}
    stored = [front.per_query for front in fronts if front.per_query is not None]
    if not stored:
        return [nothing for _ in fronts]
    samples = Samples.draw(stored[0].shape[1], 1)
    each = [None if f.per_query is None else Sampled(f.per_query[None], samples, f.reference_point) for f in fronts]
    first = each[0]
    out = []
    for sampled in each:
        found: dict[str, Any] = dict(nothing)
        if sampled is not None:
            for name, figure in (("hypervolume", "hypervolume"), ("main", "main"), ("sparsity", "sparsity")):
                found[f"{name}_interval"] = sampled.estimate(figure).interval
            if first is not None and sampled is not first:
                found["against_first"] = first.against(sampled).to_dict()
        out.append(found)
    return out


def _with_interval(value: float, interval: Sequence[float] | None, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    return shown if interval is None else f"{shown} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _all_runs(paths: Sequence[Path]) -> list[Path]:
    """The paths, once all of them open. Raises RunError with the problems of every one that does not."""
    from hyperdpo.runs import RunFolder

    problems = []
    for path in paths:
        try:
            RunFolder(path)
        except RunError as error:
            problems += error.problems
    if problems:
        raise RunError(problems)
    return list(paths)


def _own_front(folder: RunFolder) -> ParetoFront:
    """The front of the run itself among those its folder holds. Raises RunError where it holds none."""
    method = folder.config["method"]["method"]
    for front in folder.fronts():
        if front.method == method:
            return front
    raise RunError(f"{folder.path} holds no front of its own; measure it: hyperdpo evaluate {folder.path} --save")


def _others_in(folder: RunFolder, own: ParetoFront) -> list[ParetoFront]:
    """The fronts of other methods beside a run's own. Raises ConfigError where there is none."""
    from hyperdpo.front import differing_terms

    others = [f for f in folder.fronts() if f.name != own.name and len(f.weights[0]) and not differing_terms(own, f)]
    if not others:
        raise ConfigError(
            f"A comparison needs two runs, and {folder.path} holds no front but its own that was measured on the same "
            f"terms; name another run, or keep one beside it: hyperdpo evaluate {folder.path} --baseline RUN --save"
        )
    return others


def _evaluate_hint(fronts: Sequence[ParetoFront]) -> str:
    first = fronts[0]
    terms = f"--split {first.split} --k {first.k} --scale {first.scale:g} --save"
    return (
        "Where only split, k or scale differ, measure each run alike: "
        + " ; ".join(f"hyperdpo evaluate {shlex.quote(front.run)} {terms}" for front in fronts)
        + ". Runs of other data, objectives or beta answer other questions."
    )


_TOLD = ("seconds", "parameters", "models", "device")


def _compared(folder: RunFolder, front: ParetoFront, *, own: bool) -> dict[str, Any]:
    """A row; what a front that is not the folder's `own` cost is told by the front itself."""
    config = folder.config
    told = config if own else {"seed": None, **{key: getattr(front, key) for key in _TOLD}}
    return {
        "run": str(folder.path),
        "front": front.name,
        "method": front.method,
        "hypervolume": front.hypervolume,
        "main_mean": front.main_mean,
        "main_std": front.main_std,
        "sparsity": front.sparsity,
        "base_seconds": config["base"].get("seconds", 0.0),
        "points": len(front.ndcg),
        "base": config["base"]["kind"],
        "seed": told["seed"],
        **{key: told[key] for key in _TOLD},
    }


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What does not forbid a comparison but should be known to who reads it."""
    why = {
        "points": "a front of more points covers more",
        "base": "the fronts start from different bases",
        "device": "seconds on different devices are not comparable",
    }
    return [
        f"the runs differ in {key} ({', '.join(str(r[key]) for r in rows)}): {reason}."
        for key, reason in why.items()
        if len({str(r[key]) for r in rows}) > 1
    ]


@dataclass(frozen=True)
class Info:
    """What a run is: method, objectives, parameters, base, data, seeds, versions."""

    run: RunPath
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.runs import RunFolder

        folder = RunFolder(self.run)
        if folder.config["kind"] == "text":
            return text_info(folder)
        config, fronts = folder.config, folder.fronts()
        task = config["task"]
        summary = [
            {key: front.to_dict()[key] for key in ("name", "method", "split", "k", "scale", "hypervolume", "main_mean")}
            for front in fronts
        ]
        document = {
            "run": str(folder.path),
            **{k: v for k, v in config.items() if k not in ("format", "version", "task", "history")},
            "format": config.get("version"),
            "base": {**config["base"], "parameters": _base_parameters(folder)},
            "task": {**task, "features": len(task["features"])},
            "fronts": summary,
        }
        return Answer(without_nan(document), self._text(folder, document, fronts))

    @staticmethod
    def _text(folder: RunFolder, about: Mapping[str, Any], fronts: Sequence[ParetoFront]) -> str:
        from hyperdpo.objectives import Objective

        method, data, base = about["method"], about["data"], about["base"]
        objectives = [Objective.from_dict(o) for o in about["task"]["objectives"]]
        main = Objective.from_dict(about["task"]["main"])
        lists = ", ".join(f"{count:,} {split}" for split, count in data["lists"].items())
        rounds = sum(t["epochs"] for t in about["training"])
        trees = about.get("trees")
        trained = f"{about['seconds']:.1f} s on {about['device']}, {rounds} {'rounds' if trees else 'epochs'}"
        if method["method"] == "mo-dpo":
            trained += (
                f", {sum(t['seconds'] for t in about['training'] if t['part']):.1f} s of it for the reward models"
            )
        pairs: list[tuple[str, object]] = [
            ("run", folder.path),
            ("method", f"{method['method']}, {about['parametrisation']}; {_options(method, 'method')}"),
            ("main", f"{main.name} (column {main.column}, {label_kind(main)})"),
            ("objectives", "\n".join(f"{o.name} (column {o.column}, {label_kind(o)})" for o in objectives)),
            ("beta", ", ".join(f"{b:g}" for b in about["beta"])),
            ("trees", _options(trees)) if trees else ("network", _options(about["net"])),
            ("parameters", f"{about['parameters']:,} in {about['models']} model{'s' * (about['models'] > 1)}"),
            ("base", f"{base['kind']}, {base['parameters']:,} parameters, {base.get('seconds', 0):.1f} s"),
            ("training", f"{trained}, processes: {about['processes']}"),
            *([] if trees else [("fit", _options(about["fit"]))]),
            ("data", f"{data['name']} ({lists} lists, {about['task']['features']} features)\n{data['path']}"),
            ("fingerprint", data["fingerprint"]),
            ("split", data["split"]["how"]),
            ("seed", str(about["seed"])),
            ("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
        ]
        return facts(pairs) + (f"\n\n{fronts_table(fronts)}" if fronts else "")


def _options(values: Mapping[str, Any], *without: str) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in values.items() if k not in without)


def _base_parameters(folder: RunFolder) -> int:
    """Numbers in the base's network, from the file's header; 0 for trees and columns."""
    from safetensors import safe_open

    file = folder.path / "base.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, "np") as tensors:
        return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
