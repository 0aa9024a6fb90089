"""Commands that the app starts and that outlive it: processes of their own, known by a folder each, found again after a
reload of the page or a restart of the server. No layout.

runs/.jobs/NAME/job.json        what was started: command, process, when
runs/.jobs/NAME/progress.json   how far it is, written by the command
runs/.jobs/NAME/log.txt         what it said
runs/.jobs/NAME/result.json     what `evaluate` found
runs/.jobs/NAME/status          how it ended: the exit status, unless it was killed
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from hyperdpo.errors import INTERRUPTED, ConfigError, RunError
from hyperdpo.files import write_json

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ".jobs"
TRAIN, MEASURE = "train", "measure"  # kinds
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"
PATIENCE = 20.0  # seconds a process may take to keep its state before it is killed
LOG_BYTES = 20_000  # of the end of a log


@dataclass(frozen=True)
class Job:
    """A command that was started.

    Attributes:
        name: of its folder, unique among the jobs of one `runs/`.
        kind: TRAIN or MEASURE. run: the run folder that is trained or measured.
        command: what `hyperdpo` was called with. title: what people read.
        pid, created: the process, and when the system says it began; a number alone may be another's by now.
        started: when it was first started, in seconds since 1970.
    """

    name: str
    kind: str
    run: str
    command: tuple[str, ...]
    title: str
    pid: int
    created: float
    started: float


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` steps of `what`."""

    what: str
    done: int
    total: int
    note: str = ""


class Jobs:
    """The jobs of one `runs/` folder."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.folder = runs, runs / FOLDER

    def start(self, kind: str, run: Path, command: Sequence[str], title: str) -> Job:
        """Start `hyperdpo COMMAND`. Raises ConfigError while another runs, RunError where nothing can be written."""
        self._alone()
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{run.name}"[:80]
        while (self.folder / name).exists():
            name += "+"
        own = self.folder / name
        extra = ["--progress", str(own / "progress.json")] if kind == TRAIN else ["--out", str(own / "result.json")]
        return self._spawn(Job(name, kind, str(run), (*command, *extra), title, 0, 0.0, time.time()))

    def resume(self, job: Job) -> Job:
        """Go on with a training that was stopped. Raises as `start`."""
        self._alone()
        command = job.command if "--resume" in job.command else (*job.command, "--resume")
        return self._spawn(replace(job, command=command))

    def stop(self, job: Job) -> None:
        """Ask the process to keep what it has and end; it is killed where it does not within PATIENCE seconds."""
        process = _process(job)
        if process is None:
            return
        with suppress(psutil.Error):
            process.terminate()  # training hears it as Ctrl-C

        def insist() -> None:
            try:
                process.wait(PATIENCE)
            except psutil.TimeoutExpired:
                with suppress(psutil.Error):
                    process.kill()

        threading.Thread(target=insist, daemon=True).start()

    def forget(self, job: Job) -> None:
        """Take an ended job off the list. Its run stays, but for what a training left that failed before its end."""
        state = self.state(job)
        if state == RUNNING:
            return
        if state == FAILED and job.kind == TRAIN and not (Path(job.run) / "manifest.json").exists():
            shutil.rmtree(job.run, ignore_errors=True)
        shutil.rmtree(self.folder / job.name, ignore_errors=True)

    def all(self) -> list[Job]:
        """Every job, the last one first; folders that cannot be read are left out."""
        if not self.folder.is_dir():
            return []
        found = [job for path in self.folder.iterdir() if (job := self._read(path)) is not None]
        return sorted(found, key=lambda job: (-job.started, job.name))

    def state(self, job: Job) -> str:
        """RUNNING, DONE, STOPPED (a training that can go on) or FAILED."""
        if _process(job) is not None:
            return RUNNING
        try:
            status = int((self.folder / job.name / "status").read_text("utf-8"))
        except (OSError, ValueError):
            status = INTERRUPTED  # killed, by a person or with the machine
        if status == 0:
            return DONE
        begun = job.kind == TRAIN and (Path(job.run) / "training" / "plan.json").exists()
        return STOPPED if status == INTERRUPTED and begun else FAILED

    def seconds(self, job: Job) -> float:
        """How long it has run since it was last started, or ran until its last word."""
        end = time.time() if _process(job) is not None else _time(self.folder / job.name / "log.txt")
        return max(0.0, end - job.created)

    def progress(self, job: Job) -> Progress | None:
        """How far it is, where it has said so."""
        try:
            kept = json.loads((self.folder / job.name / "progress.json").read_text("utf-8"))
            return Progress(str(kept["what"]), int(kept["done"]), int(kept["total"]), str(kept["note"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def said(self, job: Job, lines: int = 12) -> list[str]:
        """The last lines of what it said."""
        try:
            with open(self.folder / job.name / "log.txt", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]

    def result(self, job: Job) -> dict[str, Any] | None:
        """What `evaluate` wrote."""
        try:
            kept: dict[str, Any] = json.loads((self.folder / job.name / "result.json").read_text("utf-8"))
            return kept
        except (OSError, ValueError):
            return None

    def _alone(self) -> None:
        for job in self.all():
            if self.state(job) == RUNNING:
                raise ConfigError(
                    f"{job.title} is still running, and two at once would slow each other: wait for it or stop it."
                )

    def _spawn(self, job: Job) -> Job:
        own = self.folder / job.name
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        environment["COLUMNS"] = "120"
        try:
            own.mkdir(parents=True, exist_ok=True)
            for name in ("progress.json", "status"):
                (own / name).unlink(missing_ok=True)
            with open(own / "log.txt", "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dashboard.jobs", str(own / "status"), *job.command],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise RunError(
                f"{own} could not be written ({error.strerror or error}): start the app in a folder you may write to."
            ) from None
        threading.Thread(target=process.wait, daemon=True).start()  # reaps it while this server lives
        job = replace(job, pid=process.pid, created=_created(process.pid))
        write_json(own / "job.json", asdict(job))
        return job

    def _read(self, path: Path) -> Job | None:
        try:
            fields = json.loads((path / "job.json").read_text("utf-8"))
            return Job(**{**fields, "command": tuple(fields["command"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _process(job: Job) -> psutil.Process | None:
    """The job's process while it runs; None for one that has ended, or whose number is another's now."""
    try:
        process = psutil.Process(job.pid)
        if abs(process.create_time() - job.created) > 1 or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process
    except (psutil.Error, ValueError):
        return None


def _created(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return time.time()


def _time(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _main() -> int:
    """`python -m dashboard.jobs STATUS_FILE COMMAND...`: the command, and its exit status in the file."""
    from hyperdpo.cli import main

    status = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(str(status), "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(_main())
