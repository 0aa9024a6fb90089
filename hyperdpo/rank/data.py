"""Ranking data: data folders, files converted into them, and the checks before training.

What other modules need of `task`, `lists`, `scaler`, `folder`, `writer` and `conversion` is imported from here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.objectives import Objective
from hyperdpo.rank.conversion import Files, checked_inputs, common_name, convert, kind_of, listed, random_split
from hyperdpo.rank.folder import ALL, SPLITS, RankData, open_data
from hyperdpo.rank.lists import ListSet
from hyperdpo.rank.scaler import Scaler
from hyperdpo.rank.task import PRESETS, Task, preset_task
from hyperdpo.rank.writer import write_folder

__all__ = [
    "ALL",
    "PRESETS",
    "SPLITS",
    "ListSet",
    "RankData",
    "Scaler",
    "Task",
    "check_task",
    "convert",
    "load_any",
    "open_data",
    "random_split",
    "write_folder",
]

_ONLY_FOR_FILES = ("splits", "qid_column", "n_features", "texts")


def load_any(
    paths: Files | None,
    cache: str | Path | None = None,
    *,
    main: str | Objective | None = None,
    objectives: Iterable[str | Objective] | None = None,
    base_column: str | None = None,
    **options: Any,
) -> RankData:
    """Open a data folder, or convert files into a folder under `cache` once and open that the next time.

    The cache folder's name holds a hash of the files' paths, sizes and times and of `options` (see `convert`). Without
    `cache` it is HYPERDPO_CACHE, or hyperdpo/data in the user's cache folder, or one in the temporary folder. A data
    folder keeps its own split and name; a preset is declared on it.
    Raises what `convert` and `open_data` raise, and ConfigError for options that a data folder cannot take.
    """
    given = listed(paths or [])
    if len(given) == 1 and given[0].is_dir():
        data = _opened(given[0], options)
    else:
        data = _cached(paths, Path(cache) if cache is not None else _cache_folder(), main, options)
    if main is None and objectives is None and base_column is None:
        return data
    return data.with_task(main, objectives, base_column)


def check_task(data: RankData) -> dict[str, Any]:
    """`data.describe()` of a task that can be trained on.

    Raises DataError listing: labels that are constant or empty in every training list; labels below 0 after the shift,
    unless the direction is `min` (labels are gains); an empty training split; no features.
    """
    about = data.describe()
    problems = []
    if not about["splits"]["train"]["queries"]:
        problems.append(
            f"The data {data.name!r} has no training lists; convert with a training file or at least one list."
        )
    if not data.task.features:
        problems.append("No feature column is left; every column is a label, an objective or the base score.")
    for objective in data.task.labelled:
        role = "The main label" if objective is data.task.main else f"Objective {objective.name!r}"
        problems += _negative(data, objective, role)
        problems += _uninformative(about, objective, role)
    if problems:
        raise DataError(problems)
    return about


def _opened(folder: Path, options: Mapping[str, Any]) -> RankData:
    """The data folder with the preset's roles, if one is asked for."""
    unfit = [name for name in _ONLY_FOR_FILES if options.get(name) is not None]
    if unfit:
        raise ConfigError(
            f"{', '.join(unfit)}: only for files; {folder} is a data folder, which was split and read before."
        )
    data, preset = open_data(folder), options.get("preset")
    return data.with_exact_task(preset_task(preset, data.columns)) if preset else data


def _cached(paths: Files | None, cache: Path, main: str | Objective | None, options: Mapping[str, Any]) -> RankData:
    """Convert into a folder of `cache` named by what goes in; reuse it where it opens."""
    files, where = checked_inputs(paths, options.get("splits"))
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    wanted = {k: v for k, v in options.items() if k not in ("progress", "splits")}
    # A table without a column called label cannot be converted before its main label is known.
    column = main if kind_of(files[0]) == "table" else None
    key = json.dumps([stamp, where, wanted, column], sort_keys=True, default=str)
    folder = cache / f"{common_name(files)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.exists():
        try:
            return open_data(folder)
        except DataError:
            pass  # A damaged cache is made again; nothing is lost by it.
    return convert(paths, folder, main=column, **options)


def _cache_folder() -> Path:
    """Where converted files are kept: the first of the usual places that can be written."""
    if "HYPERDPO_CACHE" in os.environ:
        return Path(os.environ["HYPERDPO_CACHE"])
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperdpo" / "data"
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
    except OSError:
        pass  # No home, or a read-only one: the temporary folder serves.
    return Path(tempfile.gettempdir()) / f"hyperdpo-{os.getuid()}"


def _negative(data: RankData, objective: Objective, role: str) -> list[str]:
    """What is wrong with labels below 0 as gains; nothing where `min` reflects them."""
    if objective.direction == "min":
        return []
    values = data.column(objective.column)
    below = np.flatnonzero(values + np.float32(objective.shift) < 0)
    if not len(below):
        return []
    first = int(below[0])
    query = int(np.searchsorted(data.offsets, first, side="right")) - 1
    place = f"item {first - data.offsets[query] + 1} of query {data.qids[query]!r}"
    declared = f"{objective.name}={objective.column}:{objective.normalisation}:shift={np.float32(-values.min())!s}"
    return [
        f"{role} has {len(below):,} negative labels; the first is {values[first]!s} in column {objective.column!r}, "
        f"{place}. Labels are gains, which cannot be below 0; declare a shift ({declared}), or 'min' if lower is "
        "better."
    ]


def _uninformative(about: dict[str, Any], objective: Objective, role: str) -> list[str]:
    """What is wrong with labels that never differ within a training list."""
    lists, labels = about["splits"]["train"]["queries"], about["labels"][objective.name]
    if not lists or labels["constant"]["train"] < lists:
        return []
    what = "empty (0)" if labels["empty"]["train"] == lists else "constant"
    return [
        f"{role} (column {objective.column!r}) is {what} in every one of the {lists:,} training lists, so there is "
        "nothing to learn; leave it out or give another column."
    ]
