"""Trainings started from the app: processes of their own that are found again, stopped, resumed and told of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from dashboard.jobs import DONE, FAILED, MEASURE, RUNNING, STOPPED, TRAIN, Job, Jobs
from hyperdpo.errors import ConfigError
from hyperdpo.rank.demo import make_demo
from tests.text_helpers import tiny_model, tiny_tokenizer

SECONDS = 120.0


def until(what: Callable[[], bool]) -> None:
    """Wait for it; fails after SECONDS, which a busy machine may need."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "runs")
    yield made
    for job in made.all():
        made.stop(job)
        until(lambda job=job: made.state(job) != RUNNING)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_demo(tmp_path / "data", queries=60)
    return tmp_path / "data"


def command(data: Path, out: Path, epochs: int) -> list[str]:
    common = ["train", "rank", "--data", str(data), "--out", str(out), "--base", "lightgbm", "--device", "cpu"]
    return [*common, "--objective", "clicks", "--objective", "quality", "--epochs", str(epochs), "--patience", "5000"]


def test_a_training_is_stopped_resumed_and_done_and_another_server_sees_the_same(jobs: Jobs, data: Path) -> None:
    out = jobs.runs / "mine"
    job = jobs.start(TRAIN, out, command(data, out, 300), "Training mine")
    assert jobs.state(job) == RUNNING
    with pytest.raises(ConfigError, match="Training mine is still running"):
        jobs.start(TRAIN, jobs.runs / "other", command(data, jobs.runs / "other", 1), "Training other")
    until(lambda: (p := jobs.progress(job)) is not None and p.what.startswith("model") and p.done > 5)
    again = Jobs(jobs.runs)  # a server that was started anew
    assert [j.name for j in again.all()] == [job.name]
    again.stop(again.all()[0])
    until(lambda: jobs.state(job) != RUNNING)
    assert jobs.state(job) == STOPPED
    assert any("--resume" in line for line in jobs.said(job)), "Ctrl-C, and not a kill"
    resumed = jobs.resume(job)
    assert (jobs.state(resumed), resumed.pid) != (STOPPED, job.pid)
    until(lambda: jobs.state(resumed) != RUNNING)
    assert jobs.state(resumed) == DONE
    assert any("resumed from epoch" in line for line in (out / "train.log").read_text("utf-8").splitlines())
    jobs.forget(resumed)
    assert not jobs.all()
    assert (out / "manifest.json").exists()


def test_a_run_is_measured_and_its_figures_are_the_commands(jobs: Jobs, data: Path) -> None:
    from hyperdpo.rank.data import open_data
    from hyperdpo.rank.train import RankConfig, train
    from hyperdpo.training import FitConfig

    own = open_data(data).with_task(objectives=["clicks", "quality"])
    run = train(own, RankConfig(fit=FitConfig(epochs=1), base="lightgbm"), jobs.runs / "mine")
    ask = ["evaluate", str(run.folder.path), "--data", str(data), "--split", "test"]
    job = jobs.start(MEASURE, run.folder.path, ask, "Measuring")
    until(lambda: jobs.state(job) != RUNNING)
    assert jobs.state(job) == DONE, jobs.said(job)
    found = jobs.result(job)
    assert found is not None
    assert found["lists"] == len(own.queries("test"))
    assert found["fronts"][0]["hypervolume"] == pytest.approx(run.folder.fronts()[0].hypervolume, rel=1e-6)


def test_what_goes_wrong_is_told_as_the_command_says_it(jobs: Jobs, tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_text("2 qid:1 1:0.5\n1 qid:1 x:0.5\n")
    job = jobs.start(TRAIN, jobs.runs / "no", command(broken, jobs.runs / "no", 1), "Training no")
    until(lambda: jobs.state(job) != RUNNING)
    assert jobs.state(job) == FAILED
    assert any("line 2" in line for line in jobs.said(job)), jobs.said(job)


def test_a_training_that_fails_after_it_has_begun_failed_and_leaves_no_folder_in_the_way(
    jobs: Jobs, tmp_path: Path
) -> None:
    preferences = tmp_path / "lists.jsonl"
    lists = [
        {"prompt": f"p{i}", "responses": ["a b", "c d"], "scores": {"kind": [0, 1], "brief": [1, 0]}} for i in range(9)
    ]
    preferences.write_text("".join(json.dumps(x) + "\n" for x in lists))
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    out = jobs.runs / "no"
    ask = ["train", "text", "--data", str(preferences), "--out", str(out), "--model", str(tmp_path / "base")]
    job = jobs.start(TRAIN, out, [*ask, "--max-response", "100000"], "Training no")
    until(lambda: jobs.state(job) != RUNNING)
    assert jobs.state(job) == FAILED
    assert any("max_response" in line for line in jobs.said(job)), jobs.said(job)
    assert out.exists()
    jobs.forget(job)
    assert not out.exists()


def test_a_number_that_is_another_process_now_is_not_the_job(jobs: Jobs) -> None:
    me = psutil.Process()
    job = Job("x", TRAIN, str(jobs.runs / "x"), ("train", "rank"), "x", me.pid, me.create_time() - 60, time.time())
    assert jobs.state(job) == FAILED
    assert jobs.state(replace(job, created=me.create_time())) == RUNNING


def test_folders_that_cannot_be_read_are_left_out(jobs: Jobs) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"name": "c"}))):
        (jobs.folder / name).mkdir(parents=True)
        (jobs.folder / name / "job.json").write_text(text)
    good = Job("d", TRAIN, "d", ("train",), "d", 0, 0.0, 1.0)
    (jobs.folder / "d").mkdir()
    (jobs.folder / "d" / "job.json").write_text(json.dumps(asdict(good)))
    assert jobs.all() == [good]
