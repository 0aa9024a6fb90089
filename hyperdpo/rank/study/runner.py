"""Running a study's units: bases first, then what stands on them."""

from __future__ import annotations

from collections.abc import Sequence

from hyperdpo.rank.study.units import Store, Unit
from hyperdpo.workers import Pace, Progress, Say, Workers, locked


def execute(units: Sequence[Unit], store: Store, *, jobs: int = 1, say: Say = lambda line: None) -> list[str]:
    """Run every unit that is not finished, in `jobs` processes; a failed one does not stop the others.

    Returns the failures' messages. Raises Interrupted, once running trainings have saved their state; RunError where
    another study runs in the same folder.
    """
    unique = {u.key: u for u in units}
    pace = Pace()
    for unit in unique.values():
        if not store.missing(unit):
            pace.add(unit, float(store.load(unit.measures[0].key).about["wall"]))
    todo = [u for u in unique.values() if store.missing(u)]
    progress = Progress(len(unique), todo, pace, jobs, say)
    failed: dict[str, str] = {}
    with locked(store.work), Workers(min(jobs, max(1, len(todo)))) as workers:
        for level in ([u for u in todo if u.base is None], [u for u in todo if u.base is not None]):
            ready = [u for u in level if u.base not in failed]
            for unit in level:
                if unit.base in failed:
                    failed[unit.key] = f"{unit.label}: its base failed."
                    progress.ended(unit, None)
            for unit, outcome in workers.run(store.execute, ready):
                if isinstance(outcome, str):
                    failed[unit.key] = f"{unit.label}: {outcome}"
                    progress.ended(unit, None)
                else:
                    progress.ended(unit, outcome)
    return list(failed.values())
