"""Trainings side by side: failures are told of, an interruption ends the study and what it had not begun."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from hyperdpo.errors import ConfigError, Interrupted
from hyperdpo.workers import Pace, Progress, Workers


@dataclass(frozen=True)
class Toy:
    key: str
    out: Path
    kind: tuple[str, str] = ("toy", "none")
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"toy {self.key}"


def work(toy: Toy) -> float:
    """Leaves a file; 'stop' is interrupted and 'fail' fails."""
    if toy.key == "stop":
        raise Interrupted("asked")
    if toy.key == "fail":
        raise ConfigError("too few lists")
    time.sleep(0.5)
    (toy.out / toy.key).touch()
    return 0.5


def toys(out: Path, *keys: str) -> list[Toy]:
    return [Toy(key, out) for key in keys]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_told_of_and_the_others_go_on(tmp_path: Path, jobs: int) -> None:
    with Workers(jobs) as workers:
        found = {toy.key: outcome for toy, outcome in workers.run(work, toys(tmp_path, "a", "fail", "b"))}
    assert found == {"a": 0.5, "fail": "too few lists", "b": 0.5}
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_an_interruption_ends_what_was_handed_out_and_not_begun(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="asked"), Workers(2) as workers:
        list(workers.run(work, toys(tmp_path, "stop", "1", "2", "3", "4", "5")))
    assert not {"3", "4", "5"} & {p.name for p in tmp_path.iterdir()}


KILLED = """
import os, sys, time
from pathlib import Path
from hyperdpo.workers import Workers

def work(place):
    Path(place, str(os.getpid())).touch()
    time.sleep(600)
    return 0.0

if __name__ == "__main__":
    with Workers(2) as workers:
        list(workers.run(work, sys.argv[1:] * 2))
"""


def test_the_processes_of_a_study_that_was_killed_end_too(tmp_path: Path) -> None:
    script, place = tmp_path / "study.py", tmp_path / "pids"
    script.write_text(KILLED)
    place.mkdir()
    study = subprocess.Popen([sys.executable, str(script), str(place)])
    end = time.monotonic() + 120
    while len(found := [int(p.name) for p in place.iterdir()]) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    study.kill()
    study.wait()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in found if psutil.pid_exists(pid)], timeout=60)
    for process in alive:
        process.kill()
    assert not alive


def test_progress_says_what_ended_and_what_is_left(tmp_path: Path) -> None:
    a, b = toys(tmp_path, "a", "b")
    lines: list[str] = []
    pace = Pace()
    progress = Progress(3, [a, b], pace, 1, lines.append)
    progress.ended(a, 20.0)
    progress.ended(b, None)
    assert lines == [
        "3 units of training, 1 of them finished before; time left not known yet",
        "[2/3] toy a, 20.0 s; about 20 s left",
        "[3/3] toy b, failed",
    ]
