"""The data a finished run is measured or used on: what is given, or the run's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperdpo.commands.shared import (
    Bar,
    say,
)
from hyperdpo.errors import RunError

if TYPE_CHECKING:
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.run import RankRun

NUMBERED = "f"  # LETOR columns are f1, f2, ...


def read_for(run: RankRun, paths: Sequence[Path], *, labels: bool = True, shown: bool = True) -> RankData:
    """The data at `paths`, or the run's own, under the run's roles. Without `labels`, label columns may be missing.

    Raises DataError naming the columns that are missing.
    """
    data = own_data(run) if not paths else _given_data(run, paths, labels=labels, shown=shown)
    if labels:
        data = run.read(data)
        if data.fingerprint != run.config["data"]["fingerprint"]:
            say(
                f"note: {data.path} is not the data this run was trained on; its split is its own "
                "(--split all measures every list)"
            )
        return data
    return run.read(data, labels=False)


def _given_data(run: RankRun, paths: Sequence[Path], *, labels: bool, shown: bool) -> RankData:
    """A data folder as it is; files with as many columns as the run needs. Raises what `load_any` raises."""
    from hyperdpo.rank.conversion import checked_inputs, kind_of
    from hyperdpo.rank.data import load_any, open_data

    if len(paths) == 1 and paths[0].is_dir():
        return open_data(paths[0])
    files, _ = checked_inputs(paths, None)
    with Bar(shown=shown) as bar:
        options: dict[str, Any] = {"progress": lambda file, done, total: bar(f"reading {file}", done, total)}
        if kind_of(files[0]) == "table":
            # A table's main label must be named; where none is needed any column stands in for it.
            main = run.task.main.column if labels else run.task.features[0]
            return load_any(files, main=main, texts=run.config["data"]["origin"].get("texts", []), **options)
        data = load_any(files, **options)
        width = _letor_width(run)
        if width and f"{NUMBERED}{width}" not in data.columns:  # a sparse file whose last columns never occur
            data = load_any(files, n_features=width, **options)
    return data


def _letor_width(run: RankRun) -> int:
    """The highest column number the run reads from LETOR text, or 0 where its columns are not numbered."""
    names = [*run.task.features, *(o.column for o in run.task.labelled)]
    numbers = [int(name[1:]) for name in names if name.startswith(NUMBERED) and name[1:].isdigit()]
    return max(numbers, default=0)


def own_data(run: RankRun) -> RankData:
    """The data the run was trained on, made again where it is simulated. Raises RunError where it is not to be had."""
    from hyperdpo.rank.data import open_data
    from hyperdpo.rank.sources import source_of

    recorded = run.config["data"]
    path, wanted = Path(recorded["path"]), recorded["fingerprint"]
    give = f"give it with --data (fingerprint {wanted[:12]})"
    if path.is_dir():
        data = open_data(path)
        if data.fingerprint == wanted:
            return data
    source = source_of(recorded["origin"])
    if source is not None:
        data = open_data(source.ensure(recorded["origin"]))
        if data.fingerprint == wanted:
            return data
        raise RunError(f"The simulated data made now is not what {run.folder.path} was trained on; {give}.")
    if path.is_dir():
        raise RunError(f"The data in {path} has changed since {run.folder.path} was trained on it; {give}.")
    raise RunError(f"The data of {run.folder.path} was in {path}, where it is no more; {give}.")
