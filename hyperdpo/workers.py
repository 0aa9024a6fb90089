"""Many trainings in turn or side by side: processes of one thread each, progress, and the time that is left.

Both wings' studies use it; what a training is, is theirs.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from hyperdpo.errors import HyperDPOError, Interrupted, RunError

Say = Callable[[str], None]


class Task(Protocol):
    """A training as its progress sees it.

    Attributes:
        key: its name in the work folder.
        label: what a person reads in the progress.
        kind: (case, method), whose trainings take about the same time.
        weight: models times epochs, for a first estimate of the time.
    """

    @property
    def key(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def kind(self) -> tuple[str, str]: ...
    @property
    def weight(self) -> float: ...


T = TypeVar("T", bound=Task)


@dataclass
class Pace:
    """Measured seconds of trainings, from which the time of the others is estimated."""

    seen: list[tuple[tuple[str, str], float, float]] = field(default_factory=list)
    """(kind, weight, seconds) of each finished one."""

    def add(self, task: Task, seconds: float) -> None:
        self.seen.append((task.kind, task.weight, seconds))

    def estimate(self, task: Task) -> float | None:
        """Seconds a training will take: the mean of its kind; else, per model and epoch, of its method; else of all.

        None before anything was measured.
        """
        own = [seconds for kind, _, seconds in self.seen if kind == task.kind]
        if own:
            return sum(own) / len(own)
        for chosen in ([x for x in self.seen if x[0][1] == task.kind[1]], self.seen):
            weight = sum(w for _, w, _ in chosen)
            if weight > 0:
                return task.weight * sum(s for _, _, s in chosen) / weight
        return None

    def left(self, tasks: Sequence[Task], jobs: int) -> float | None:
        """Seconds until all of `tasks` are done by `jobs` processes, or None if nothing is known."""
        each = [self.estimate(task) for task in tasks]
        known = [s for s in each if s is not None]
        if len(known) < len(each):
            return None
        return max(sum(known) / jobs, max(known, default=0.0))


class Progress:
    """Says how many trainings there are, each one that ends, and how long the others may take."""

    def __init__(self, total: int, todo: Sequence[Task], pace: Pace, jobs: int, say: Say) -> None:
        self.total, self.done, self.pace, self.jobs, self.say = total, total - len(todo), pace, jobs, say
        self.left = {task.key: task for task in todo}
        if total:
            again = f", {self.done} of them finished before" if self.done else ""
            say(f"{total} units of training{again}; {time_left(pace.left(todo, jobs))}")

    def ended(self, task: Task, seconds: float | None) -> None:
        """A training has ended, after `seconds` or, None, with a failure."""
        self.left.pop(task.key)
        self.done += 1
        if seconds is not None:
            self.pace.add(task, seconds)
        took = "failed" if seconds is None else f"{seconds:.1f} s"
        left = time_left(self.pace.left(list(self.left.values()), self.jobs))
        self.say(f"[{self.done}/{self.total}] {task.label}, {took}" + (f"; {left}" if self.left else ""))


def time_left(seconds: float | None) -> str:
    """The estimate in words."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


class Workers:
    """`jobs` processes of one thread each that live as long as the block, or, for one job, this process.

    Args:
        jobs: processes.
        alone: whether this process keeps to one thread, too, so that its seconds compare with theirs.
    """

    def __init__(self, jobs: int, *, alone: bool = True) -> None:
        self.jobs, self.alone = jobs, alone
        self._pool: ProcessPoolExecutor | None = None
        self._threads = torch.get_num_threads()
        self._stopping: Event | None = None

    def __enter__(self) -> Workers:
        if self.jobs == 1 and self.alone:
            one_thread()
        elif self.jobs > 1:
            # Read by every library of the new processes before torch is imported there.
            os.environ["OMP_NUM_THREADS"] = "1"
            context = multiprocessing.get_context("spawn")
            self._stopping = context.Event()
            self._pool = ProcessPoolExecutor(
                self.jobs, mp_context=context, initializer=_begin, initargs=(self._stopping,)
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is None:
            torch.set_num_threads(self._threads)
            return
        if exc[0] is not None and self._stopping is not None:
            self._stopping.set()  # the pool has handed out more tasks than run, and cannot take those back
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, work: Callable[[T], float], tasks: Sequence[T]) -> Iterator[tuple[T, float | str]]:
        """Each task with the seconds that `work` took or the message of its failure, in the order in which they end.

        An interruption goes up.
        """
        if self._pool is None:
            for task in tasks:
                yield task, _outcome(work, task)
            return
        waiting = {self._pool.submit(_outcome, work, task): task for task in tasks}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()


LAST_SECONDS = 20.0  # that a training whose study is gone has to keep its state
_stopping: Event | None = None  # of a process of the pool: set once the study ends before its tasks do


def _begin(stopping: Event) -> None:
    global _stopping
    _stopping = stopping
    one_thread()
    threading.Thread(target=_outlived, daemon=True).start()


def _outlived() -> None:
    """End with the study even where it was killed and could say nothing: a training then keeps its state first."""
    study = multiprocessing.parent_process()
    assert study is not None
    study.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os._exit(1)


def _outcome(work: Callable[[T], float], task: T) -> float | str:
    if _stopping is not None and _stopping.is_set():
        raise Interrupted("The study was stopped before this training began.")
    try:
        return work(task)
    except Interrupted:
        raise
    except HyperDPOError as error:
        return str(error)


def one_thread() -> None:
    """What a process of a study does first: seconds are comparable, and small networks gain little from more."""
    torch.set_num_threads(1)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """One study at a time in a work folder; the lock dies with its process. Raises RunError where it is taken."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"Another study is running in {work}; wait for it or choose another --work.") from None
        yield
