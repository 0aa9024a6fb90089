"""Training a ranking run: from data to run folder, interrupted anywhere, and through what can stand in its way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import CLICKS, QUALITY, data, lists

import hyperdpo
from hyperdpo.errors import ConfigError, DataError, Interrupted, RunError, WeightsError
from hyperdpo.methods import Member, MethodConfig, members, step_loss
from hyperdpo.rank import train as train_module
from hyperdpo.rank.batches import RankBatches
from hyperdpo.rank.data import write_folder
from hyperdpo.rank.model import PARAMETRISATIONS, NetConfig, Ranker
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig, fit, rng_for, seed_torch

QUICK = FitConfig(epochs=2, patience=2, batch_size=8, learning_rate=0.01)
CONFIG = RankConfig(
    method=MethodConfig(points=3), net=NetConfig(8, 1, 2), fit=QUICK, base_fit=QUICK, base="column:score", beta=(0.5,)
)
FILES = ("model.safetensors", "scaler.safetensors", "base.safetensors", "per_query.safetensors")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    return data(tmp_path_factory.mktemp("data") / "toy", base_column="score")


def run(toy, out: Path, config: RankConfig = CONFIG, **kw: Any) -> RankRun:
    return train(toy, config, out, device="cpu", **kw)


def content(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


def interrupt(what: str, at: int) -> Any:
    def tick(name: str, done: int, total: int, loss: float) -> None:
        if name == what and done == at:
            os.kill(os.getpid(), signal.SIGINT)

    return tick


def config(method: str = "hyperdpo", parametrisation: str = "mixture", **kw: Any) -> RankConfig:
    return replace(CONFIG, method=MethodConfig(method, points=3), parametrisation=parametrisation, **kw)  # type: ignore[arg-type]


# --- the run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_every_parametrisation_trains_and_scores(toy, tmp_path: Path, parametrisation: str) -> None:
    done = run(toy, tmp_path / "run", config(parametrisation=parametrisation))
    assert len(done.rankers) == 1
    assert done.trained is None
    assert not (tmp_path / "run" / "training").exists()
    names = [f.method for f in done.folder.fronts()]
    assert names == ["hyperdpo", "base"]
    x = toy.lists("test").features[:5].numpy()
    scores = done.score(x, "clicks=.3,quality=.7", scale=2.0, base=np.arange(5.0))
    assert scores.shape == (5,)
    base = done.score(x, [0.3, 0.7], scale=1e9, base=np.arange(5.0))
    assert np.allclose(base, np.arange(5.0) / done.base.factor, atol=1e-4)
    again = hyperdpo.load(tmp_path / "run")
    assert np.array_equal(again.score(x, {"clicks": 0.3, "quality": 0.7}, scale=2.0, base=np.arange(5.0)), scores)


def test_dpo_ls_is_a_model_for_each_weight(toy, tmp_path: Path) -> None:
    done = run(toy, tmp_path / "run", config("dpo-ls"))
    assert len(done.rankers) == 3
    assert done.trained is not None
    assert done.trained.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    assert done.config["parametrisation"] == "augmentation"
    x = toy.lists("test").features[:4].numpy()
    done.score(x, [0.5, 0.5], base=np.zeros(4))
    with pytest.raises(
        WeightsError, match=r"none for 0.4,0.6; the nearest is 0.5,0.5. It was trained at: 1,0; 0.5,0.5"
    ):
        done.score(x, [0.4, 0.6], base=np.zeros(4))


@pytest.mark.parametrize("base", ["transformer", "lightgbm"])
def test_other_bases_and_the_front_is_measured_with_them(toy, tmp_path: Path, base: str) -> None:
    toy = data(tmp_path / "data", queries=80)
    done = run(toy, tmp_path / "run", replace(CONFIG, base=base))
    own, alone = done.folder.fronts()
    table, features = done.table(toy.lists("test"))
    from hyperdpo.rank.live import LiveModel

    point = LiveModel(done.rankers[0], table, features).point([0.5, 0.5])
    assert own.weights[1].tolist() == pytest.approx([0.5, 0.5])
    assert own.ndcg[1].tolist() == pytest.approx(point.ndcg.tolist(), abs=1e-6)
    assert alone.weights.shape == (1, 0)


def test_one_training_step_of_all_methods_is_in_the_history(toy, tmp_path: Path) -> None:
    lines: list[str] = []
    seen: set[tuple[str, int]] = set()
    run(toy, tmp_path / "run", log=lines.append, tick=lambda what, done, total, loss: seen.add((what, total)))
    assert seen == {("model 1", 6)}
    assert any("model 1 of 1: hyperdpo, every w" in line for line in lines)
    assert sum("validation" in line for line in lines) == 2


def assert_same(one: Path, two: Path) -> None:
    """Weights equal to 1e-5, except the biases of attention keys.

    Softmax cancels those, so their gradient is rounding noise, which AdamW makes as large as any other; the function
    does not depend on them.
    """
    theirs = load_file(two / "model.safetensors")
    for name, value in load_file(one / "model.safetensors").items():
        keep = torch.ones_like(value, dtype=torch.bool)
        if name.endswith("qkv.bias"):
            keep[len(value) // 3 : 2 * len(value) // 3] = False
        assert torch.allclose(value[keep], theirs[name][keep], atol=1e-5), name


# --- equivalences ----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(toy, tmp_path / name, replace(CONFIG, seed=seed))
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"]


@pytest.mark.parametrize(
    ("chosen", "what", "at"),
    [
        (config(), "model 1", 1),
        (config(), "model 1", 6),
        (config(parametrisation="film", fit=replace(QUICK, epochs=3)), "model 1", 4),
        (config("dpo-ls"), "model 2", 3),
        (config("dpo-ls"), "model 3", 6),
        (config(base="transformer"), "base", 2),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(toy, tmp_path: Path, chosen, what: str, at: int) -> None:
    run(toy, tmp_path / "whole", chosen)
    with pytest.raises(Interrupted, match="--resume goes on"):
        run(toy, tmp_path / "run", chosen, tick=interrupt(what, at))
    with pytest.raises(RunError, match="whose training has not ended; go on with the same command and --resume"):
        RankRun(tmp_path / "run")
    with pytest.raises(RunError, match="holds an interrupted training; add --resume to go on with it or --overwrite"):
        run(toy, tmp_path / "run", chosen)
    run(toy, tmp_path / "run", chosen, resume=True)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_killed_between_training_and_measuring_is_mended_by_resume(toy, tmp_path: Path, monkeypatch) -> None:
    run(toy, tmp_path / "whole")

    def killed(*args: object, **kw: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "evaluate_run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(toy, tmp_path / "run")
    run(toy, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert len(RankRun(tmp_path / "run").folder.fronts()) == 2
    assert not (tmp_path / "run" / "training").exists()


def test_a_finished_run_is_returned_as_it_is(toy, tmp_path: Path, monkeypatch) -> None:
    run(toy, tmp_path / "run")
    before = content(tmp_path / "run")
    monkeypatch.setattr(train_module, "fit", lambda *a, **k: pytest.fail("trained again"))
    lines: list[str] = []
    run(toy, tmp_path / "run", resume=True, log=lines.append)
    assert content(tmp_path / "run") == before
    assert "already trained" in lines[-1]
    with pytest.raises(RunError, match="holds a finished run; add --resume"):
        run(toy, tmp_path / "run")


def test_overwrite_starts_again(toy, tmp_path: Path) -> None:
    first = run(toy, tmp_path / "run")
    second = run(toy, tmp_path / "run", config("dpo-ls"), overwrite=True)
    assert (len(first.rankers), len(second.rankers)) == (1, 3)
    with pytest.raises(Interrupted):
        run(toy, tmp_path / "run", overwrite=True, tick=interrupt("model 1", 2))
    assert len(run(toy, tmp_path / "run", overwrite=True).rankers) == 1


def test_more_padding_changes_nothing(toy, tmp_path: Path, monkeypatch) -> None:
    run(toy, tmp_path / "plain")
    plain = RankBatches.batch

    def wider(self, queries: np.ndarray, *args: Any, **kw: Any):
        batch = plain(self, queries, *args, **kw)
        grow = lambda t: torch.cat([t, torch.zeros(t.shape[0], 5, *t.shape[2:], dtype=t.dtype)], 1)  # noqa: E731
        features, base, mask = batch.inputs
        return replace(
            batch, inputs=(grow(features), grow(base), grow(mask)), targets=grow(batch.targets), mask=grow(mask)
        )

    class Wider(RankBatches):
        batch = wider

    monkeypatch.setattr(train_module, "RankBatches", Wider)
    run(toy, tmp_path / "wide")
    assert_same(tmp_path / "plain", tmp_path / "wide")


def test_a_corner_of_the_mixture_is_the_single_objective_models_loss() -> None:
    """Step by step: the mixture's training loss is the mean of what its corners lose as single-objective models."""
    rolled = lists((5, 3, 7, 4))
    batches = RankBatches(rolled, rolled.features, rolled.base, (CLICKS, QUALITY), batch_size=4)
    (batch,) = batches.epoch(rng_for(0), 0, 0, 1)
    seed_torch(0)
    model = Ranker(4, 2, "mixture", NetConfig(8, 1, 2), (0.5, 0.5))
    beta, coverage = torch.tensor([0.5, 0.5]), batches.coverage
    method = MethodConfig()
    whole = step_loss(method, members(method, 2)[0], beta=beta, coverage=coverage, separable=True)
    corners = [
        step_loss(method, Member(w, "corner"), beta=beta, coverage=coverage, separable=True)(model, batch, rng_for(0))
        for w in torch.eye(2)
    ]
    assert whole(model, batch, rng_for(0)).item() == pytest.approx(sum(c.item() for c in corners) / 2, abs=1e-6)


def test_a_corner_trained_alone_and_through_the_mixture_agree(toy) -> None:
    """With heads that share nothing to learn but one objective, both reach the same loss."""
    rolled = lists((6, 4, 5) * 6)
    objectives = (CLICKS,)
    batches = RankBatches(rolled, rolled.features, rolled.base, objectives, batch_size=6)
    results = []
    for weights in (None, torch.ones(1)):
        seed_torch(1)
        model = Ranker(4, 1, "mixture", NetConfig(8, 1, 2), (0.5,), conditioned=True)
        method = MethodConfig()
        loss = step_loss(
            method, Member(weights, "w"), beta=torch.tensor([0.5]), coverage=batches.coverage, separable=True
        )
        fit(model, loss, batches, lambda m: 1.0, replace(QUICK, average=0.0, patience=9), seed=0)
        results.append(model.state_dict())
    for name in results[0]:
        assert torch.allclose(results[0][name], results[1][name], atol=1e-5), name


TWO_PROCESSES = """
    import sys
    sys.path.insert(0, {tests!r})
    sys.path.insert(0, {tests!r} + "/rank")
    import torch
    torch.set_num_threads(1)
    from pathlib import Path
    from test_train import config
    from hyperdpo.cli import leave
    from hyperdpo.rank.data import open_data
    from hyperdpo.rank.train import train

    chosen = config(parametrisation=sys.argv[3])
    train(open_data(sys.argv[1]), chosen, Path(sys.argv[2]), device="cpu")
    leave(0)
"""


@pytest.mark.parametrize("parametrisation", ["mixture", "film"])
def test_two_processes_equal_one(tmp_path: Path, parametrisation: str) -> None:
    # 25 training lists in batches of 8: the last batch has one list, so that one process's share of it is empty.
    toy = data(tmp_path / "data", queries=41, base_column="score")
    assert len(toy.queries("train")) == 25
    run(toy, tmp_path / "one", config(parametrisation=parametrisation))
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES.format(tests=str(Path(__file__).parents[1]))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "data"), str(tmp_path / "two"), parametrisation],
        capture_output=True, text=True, env=environment, timeout=240, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert RankRun(tmp_path / "two").config["processes"] == 2
    assert_same(tmp_path / "one", tmp_path / "two")


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_resume_with_another_command_names_every_difference(toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(toy, tmp_path / "run", tick=interrupt("model 1", 2))
    with pytest.raises(RunError) as caught:
        run(toy, tmp_path / "run", replace(CONFIG, seed=5, parametrisation="film"), resume=True)
    told = str(caught.value)
    assert "cannot be resumed, because the command has changed since" in told
    assert "seed: 0 then, 5 now" in told
    assert "parametrisation: 'mixture' then, 'film' now" in told


def test_a_damaged_plan_is_told(toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(toy, tmp_path / "run", tick=interrupt("model 1", 2))
    (tmp_path / "run" / "training" / "plan.json").write_text("{")
    with pytest.raises(RunError, match=r"plan.json cannot be read; use --overwrite"):
        run(toy, tmp_path / "run", resume=True)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_out_that_is_something_else_is_left_alone(toy, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "precious"
    if kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    else:
        out.write_text("years of work")
    for kw in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(RunError, match="precious exists and is not a run folder; choose another --out"):
            run(toy, out, **kw)
    assert (out / "thesis.txt" if kind == "folder" else out).read_text() == "years of work"


def test_a_disk_that_fills_up_can_be_resumed(toy, tmp_path: Path, monkeypatch) -> None:
    run(toy, tmp_path / "whole")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left on device"):
            run(toy, tmp_path / "run")
    run(toy, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "lightgbn"}, ConfigError, "did you mean 'lightgbm'"),
        ({"k": 0}, ConfigError, "k of 1 or more; got 0"),
        ({"beta": (1.0, 2.0, 3.0)}, WeightsError, "or 2 of them"),
        ({"beta": (0.0,)}, WeightsError, "above 0"),
        ({"beta": (1.0, 2.0)}, ConfigError, "mixture needs one common beta"),
        ({"parametrisation": "mixtur"}, ConfigError, "did you mean 'mixture'"),
        ({"seed": -1}, ConfigError, "seed is a whole number of 0 or more; got -1"),
    ],
)
def test_bad_options_are_told_before_anything_is_written(toy, tmp_path: Path, changes, error, message: str) -> None:
    with pytest.raises(error, match=message):
        run(toy, tmp_path / "run", replace(CONFIG, **changes))
    assert not (tmp_path / "run").exists()


def test_an_objective_without_labels_in_training_is_named(tmp_path: Path, toy) -> None:
    columns = {name: toy.column(name).copy() for name in toy.columns}
    for query in toy.queries("train"):
        columns["clicks"][toy.offsets[query] : toy.offsets[query + 1]] = 0
    empty = write_folder(
        tmp_path / "data", columns=columns, sizes=toy.sizes, qids=toy.qids, split=toy.split, task=toy.task,
        name="empty", origin={"kind": "files"},
    )  # fmt: skip
    with pytest.raises(DataError, match="No list is informative for 'clicks'"):
        run(empty, tmp_path / "run")


def test_a_run_folder_whose_weights_do_not_fit_its_config(toy, tmp_path: Path) -> None:
    import hashlib

    out = tmp_path / "run"
    run(toy, out)
    settings = json.loads((out / "config.json").read_text())
    settings["net"]["width"] = 16
    blob = json.dumps(settings).encode()
    (out / "config.json").write_bytes(blob)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["config.json"] = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"(?s)its weights do not fit its config.json .*copy the run again"):
        RankRun(out)


@pytest.mark.parametrize("column", ["clicks", "label"])
def test_a_test_split_that_cannot_be_measured_is_refused_before_training(tmp_path: Path, column: str) -> None:
    whole = data(tmp_path / "whole")
    columns = {name: whole.column(name).copy() for name in whole.columns}
    for query in whole.queries("test"):
        columns[column][whole.offsets[query] : whole.offsets[query + 1]] = 0
    empty = write_folder(
        tmp_path / "empty", columns=columns, sizes=whole.sizes, qids=whole.qids, split=whole.split, task=whole.task,
        name="empty", origin={"kind": "files"},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"test split .* has no positive label for '.*', so NDCG cannot be measured"):
        train(empty, CONFIG, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
