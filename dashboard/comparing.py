"""Pure: which fronts of several runs stand in one comparison, which do not and why, and the rows of its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard import words
from dashboard.readings import Entrant, Judged
from hyperdpo.front import differing_terms

if TYPE_CHECKING:
    from dashboard.store import Saved
    from hyperdpo.front import ParetoFront


def admit(runs: Sequence[Saved]) -> tuple[tuple[Entrant, ...], tuple[str, ...]]:
    """The fronts that may be compared, and a sentence for every run or front that may not.

    The first run that was measured sets the terms. A front that several folders hold, as a baseline's is held by the
    run it was measured beside, stands once. Methods come first, then the base, then what is best possible.
    """
    refused: list[str] = []
    found: list[tuple[Saved, int, ParetoFront]] = []
    first: tuple[Saved, ParetoFront] | None = None
    for run in runs:
        own = run.own or next(iter(run.fronts), None)
        if own is None:
            refused.append(words.unmeasured(run.entry.label))
            continue
        first = first or (run, own)
        terms = differing_terms(first[1], own)
        if terms:
            refused.append(words.refusal(run.entry.label, first[0].entry.label, differences(first, (run, own), terms)))
            continue
        for index, front in enumerate(run.fronts):
            inner = differing_terms(first[1], front)
            if inner:
                what = f"{front.name} of {run.entry.label}"
                refused.append(words.refusal(what, first[0].entry.label, differences(first, (run, front), inner)))
            elif not any(_same(front, other) for _, _, other in found):
                found.append((run, index, front))
    return _named(sorted(found, key=lambda f: _rank(f[2].method))), tuple(refused)


def differences(
    first: tuple[Saved, ParetoFront], other: tuple[Saved, ParetoFront], terms: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """By term, what `other` has and what `first` has, in words."""
    out = {}
    for term in terms:
        there, here = (_said(run, front, term) for run, front in (other, first))
        if there == here and term == "data":  # of one name, but not the same
            there, here = f"{there} with other lists or labels", "the same"
        elif there == here:  # one temperature for another number of objectives, say: the objectives say it all
            continue
        out[term] = (there, here)
    return out


def _said(run: Saved, front: ParetoFront, term: str) -> str:
    value = getattr(front, term)
    if term == "data":
        return str(run.config["data"].get("name") or value[:12])
    if term == "objectives":
        return words.listed(value)
    if term == "beta":
        return words.temperatures(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(a: ParetoFront, b: ParetoFront) -> bool:
    return a.method == b.method and not differing_terms(a, b) and np.array_equal(a.ndcg, b.ndcg, equal_nan=True)


def _rank(method: str) -> int:
    return {"base": 1, "oracle": 2, "oracle-unconstrained": 3}.get(method, 0)


def _named(found: Sequence[tuple[Saved, int, ParetoFront]]) -> tuple[Entrant, ...]:
    """Entrants whose names and keys differ: by the run they come from where the front's own name does not do."""
    names = [front.name for _, _, front in found]
    out: list[Entrant] = []
    for run, index, front in found:
        label = run.entry.label if front.method == run_method(run) else front.run or run.entry.label
        name = front.name if names.count(front.name) == 1 else f"{front.name}, {label}"
        key = f"{label}: {front.name}"
        taken = {e.key for e in out}
        key = key if key not in taken else f"{run.entry.label}/{index}: {front.name}"
        nth = sum(e.front.method == front.method for e in out)
        out.append(Entrant(key, run.entry.label, replace(front, name=name), nth, index))
    return tuple(out)


def run_method(run: Saved) -> str:
    """The method that a run trained."""
    method = run.config["method"]
    return str(method["method"] if isinstance(method, dict) else method)


def spans(entrants: Sequence[Entrant]) -> np.ndarray:
    """(1 + m, 2) lowest and highest NDCG of the entrants; (0, 1) for an objective without any."""
    rows = np.concatenate([e.front.ndcg for e in entrants])
    out = np.tile([0.0, 1.0], (rows.shape[1], 1))
    for column, values in enumerate(rows.T):
        real = values[np.isfinite(values)]
        if len(real):
            out[column] = real.min(), real.max()
    return out


def rows(
    entrants: Sequence[Entrant], judged: Mapping[str, Judged], contributions: Mapping[str, Any], against: str
) -> list[dict[str, Any]]:
    """The table as flat rows of plain values, for CSV and JSON; `against` is the key of the front compared with."""
    names = {e.key: e.front.name for e in entrants}
    out = []
    for entrant in entrants:
        front, found = entrant.front, judged.get(entrant.key)
        volume = found.hypervolume if found else None
        difference = found.against if found else None
        added = contributions.get(entrant.key)
        out.append({
            "front": front.name,
            "run": entrant.run,
            "method": front.method,
            "hypervolume": _plain(entrant.hypervolume),
            "hypervolume.low": _plain(volume.low if volume else None),
            "hypervolume.high": _plain(volume.high if volume else None),
            "compared_with": names.get(against, ""),
            "difference": _plain(difference.mean if difference else None),
            "difference.low": _plain(difference.low if difference else None),
            "difference.high": _plain(difference.high if difference else None),
            "verdict": words.verdict(difference) if difference else "",
            "main": front.main,
            "main_mean": _plain(front.main_mean),
            "main_std": _plain(front.main_std),
            "sparsity": None if np.isnan(front.auxiliary).any() else _plain(front.sparsity),
            "seconds": _plain(front.seconds),
            "parameters": front.parameters,
            "models": front.models,
            "points": len(front.ndcg),
            "points_on_joint_front": added.points if added else None,
            "exclusive_share": _plain(added.exclusive) if added else None,
            "k": front.k,
            "c": front.scale,
            "split": front.split,
            "data": front.data,
        })  # fmt: skip
    return out


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 9)
