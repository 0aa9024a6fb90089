"""Running a study's units: bases first, `jobs` processes of one thread each, progress, and the time that is left."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from hyperdpo.errors import HyperDPOError, Interrupted, RunError
from hyperdpo.rank.study.units import Store, Unit, one_thread

Say = Callable[[str], None]


@dataclass
class Pace:
    """Measured seconds of units, from which the time of the others is estimated."""

    seen: list[tuple[tuple[str, str], float, float]] = field(default_factory=list)
    """(kind, weight, seconds) of each finished unit."""

    def add(self, unit: Unit, seconds: float) -> None:
        self.seen.append((unit.kind, unit.weight, seconds))

    def estimate(self, unit: Unit) -> float | None:
        """Seconds a unit will take: the mean of its kind; else, per model and epoch, of its method; else of all.

        None before anything was measured.
        """
        own = [seconds for kind, _, seconds in self.seen if kind == unit.kind]
        if own:
            return sum(own) / len(own)
        for chosen in ([x for x in self.seen if x[0][1] == unit.kind[1]], self.seen):
            weight = sum(w for _, w, _ in chosen)
            if weight > 0:
                return unit.weight * sum(s for _, _, s in chosen) / weight
        return None

    def left(self, units: Sequence[Unit], jobs: int) -> float | None:
        """Seconds until all of `units` are done by `jobs` processes, or None if nothing is known."""
        each = [self.estimate(u) for u in units]
        known = [s for s in each if s is not None]
        if len(known) < len(each):
            return None
        return max(sum(known) / jobs, max(known, default=0.0))


def execute(units: Sequence[Unit], store: Store, *, jobs: int = 1, say: Say = lambda line: None) -> list[str]:
    """Run every unit that is not finished; a failed one does not stop the others.

    Returns the failures' messages. Raises Interrupted, once running trainings have saved their state.
    """
    unique = {u.key: u for u in units}
    pace = Pace()
    for unit in unique.values():
        if not store.missing(unit):
            pace.add(unit, float(store.load(unit.measures[0].key).about["wall"]))
    todo = [u for u in unique.values() if store.missing(u)]
    progress = _Progress(len(unique), len(unique) - len(todo), todo, pace, jobs, say)
    failed: dict[str, str] = {}
    with _locked(store.work), _Workers(store, min(jobs, max(1, len(todo)))) as workers:
        for level in ([u for u in todo if u.base is None], [u for u in todo if u.base is not None]):
            ready = [u for u in level if u.base not in failed]
            for unit in level:
                if unit.base in failed:
                    failed[unit.key] = f"{unit.label}: its base failed."
                    progress.ended(unit, None)
            for unit, outcome in workers.run(ready):
                if isinstance(outcome, str):
                    failed[unit.key] = f"{unit.label}: {outcome}"
                    progress.ended(unit, None)
                else:
                    progress.ended(unit, outcome)
    return list(failed.values())


class _Progress:
    def __init__(self, total: int, done: int, todo: Sequence[Unit], pace: Pace, jobs: int, say: Say) -> None:
        self.total, self.done, self.pace, self.jobs, self.say = total, done, pace, jobs, say
        self.left = {u.key: u for u in todo}
        if total:
            again = f", {done} of them finished before" if done else ""
            say(f"{total} units of training{again}; {time_left(pace.left(todo, jobs))}")

    def ended(self, unit: Unit, seconds: float | None) -> None:
        """A unit has ended, after `seconds` or, None, with a failure."""
        self.left.pop(unit.key)
        self.done += 1
        if seconds is not None:
            self.pace.add(unit, seconds)
        took = "failed" if seconds is None else f"{seconds:.1f} s"
        left = time_left(self.pace.left(list(self.left.values()), self.jobs))
        self.say(f"[{self.done}/{self.total}] {unit.label}, {took}" + (f"; {left}" if self.left else ""))


def time_left(seconds: float | None) -> str:
    """The estimate in words."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


class _Workers:
    """`jobs` processes that live as long as the study, or, for one job, this process."""

    def __init__(self, store: Store, jobs: int) -> None:
        self.store, self.jobs = store, jobs
        self._pool: ProcessPoolExecutor | None = None
        self._threads = torch.get_num_threads()

    def __enter__(self) -> _Workers:
        if self.jobs == 1:
            one_thread()
        else:
            # Read by every library of the new processes before torch is imported there.
            os.environ["OMP_NUM_THREADS"] = "1"
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=one_thread)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is None:
            torch.set_num_threads(self._threads)
        else:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, float | str]]:
        """Each unit with the seconds it took or the message of its failure, in the order in which they end."""
        if self._pool is None:
            for unit in units:
                yield unit, _outcome(self.store, unit)
            return
        waiting = {self._pool.submit(_outcome, self.store, unit): unit for unit in units}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()


def _outcome(store: Store, unit: Unit) -> float | str:
    """Seconds, or why it failed. An interruption goes up."""
    try:
        return store.execute(unit)
    except Interrupted:
        raise
    except HyperDPOError as error:
        return str(error)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """One study at a time in a work folder; the lock dies with its process. Raises RunError where it is taken."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"Another study is running in {work}; wait for it or choose another --work.") from None
        yield
