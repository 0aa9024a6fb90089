"""The tuning protocol: a few settings per method, one seed, on the demo's validation split; the best are kept.

Settings are judged by the hypervolume of validation NDCG at c = 1 and the common beta, which favours bold settings:
those that go further from the base and keep less of the main score. That holds for every method alike, and tables show
the main score beside the hypervolume. `tuned.toml` holds, for each method, the chosen options and the CPU seconds that
all of its settings took, which tables show in a column of its own.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from hyperdpo.rank.study.recipe import MEASURING, Recipe, Variant
from hyperdpo.rank.study.rows import CaseTable, Cell

FILE = "tuned.toml"


def chosen(recipe: Recipe, tables: Sequence[CaseTable]) -> dict[str, dict[str, Any]]:
    """{method: setting, options, hypervolume, main, settings, seconds}: the best setting of each method.

    With several cases a setting's figure is its mean over them, relative to the best of the method on each.
    """
    out: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(v.config.method.method for v in recipe.variants):
        cells = {t: [(c, t.sampled[i]) for i, c in enumerate(t.cells) if _is(c, method)] for t in tables}
        score: dict[str, float] = {}
        for found in cells.values():
            best = max((s.value("hypervolume") for _, s in found), default=0.0) or 1.0
            for cell, sampled in found:
                label = cell.variant.label
                score[label] = score.get(label, 0.0) + sampled.value("hypervolume") / best
        if not score:
            continue
        label = max(score, key=lambda name: score[name])
        variant = next(v for v in recipe.variants if v.label == label)
        own = [(c, s) for found in cells.values() for c, s in found if c.variant.label == label]
        out[method] = {
            "setting": label,
            "settings": len(score),
            "hypervolume": sum(s.value("hypervolume") for _, s in own) / len(own),
            "main": sum(s.value("main") for _, s in own) / len(own),
            "seconds": round(sum(_seconds(c) for found in cells.values() for c, _ in found), 1),
            "options": own_options(variant),
        }
    return out


def _seconds(cell: Cell) -> float:
    """CPU seconds where they are known: tuning takes long enough for other programs to disturb the clock."""
    return float(cell.about["cpu_seconds"] or cell.about["seconds"])


def _is(cell: Cell, method: str) -> bool:
    return cell.variant.config.method.method == method


def own_options(variant: Variant) -> dict[str, Any]:
    """The options that make a setting, without the method's name and what is only asked of a run."""
    left_out = ("method", *MEASURING)
    return {k: v for k, v in variant.options.items() if k not in left_out}


def to_toml(found: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> str:
    """The file that recipes name as `tuned`."""
    flag = " --quick" if recipe.size == "quick" else ""
    seeds = "seed 0" if recipe.seeds == 1 else f"seeds 0 to {recipe.seeds - 1}"
    cases = ", ".join(case.name for case in recipe.cases)
    lines = [
        f"# Written by `hyperdpo reproduce {recipe.name}{flag}`. {recipe.title}.",
        f"# Data: {cases}; {seeds}; {platform.machine()}, one thread a process.",
        "# Judged by the hypervolume of validation NDCG at c = 1, which favours bold settings: `main` is the mean main",
        "# score over the front, what they keep of it. `seconds` is the CPU time of all settings of the method.",
    ]
    for method, entry in found.items():
        lines += ["", f"[method.{json.dumps(method)}]"]
        lines += [f"{key} = {_value(value)}" for key, value in entry.items() if not isinstance(value, dict)]
        lines += [f"[method.{json.dumps(method)}.options]"]
        lines += [f"{key} = {_value(value)}" for key, value in entry["options"].items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
