"""The command line, end to end on a small demo: what it prints, what it writes, and how it says no."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hyperdpo import cli, tables
from hyperdpo.commands import train
from hyperdpo.commands.shared import Bar
from hyperdpo.errors import ConfigError
from hyperdpo.methods import METHODS, SEVERAL, TREES, MethodConfig
from hyperdpo.rank.base import BASE_FIT
from hyperdpo.rank.data import open_data
from hyperdpo.rank.live import LiveModel, measure
from hyperdpo.rank.model import NetConfig, Ranker, count_parameters
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import BASELINE_NET, DEFAULT_NET, RankConfig
from hyperdpo.rank.trees import TreesConfig
from hyperdpo.runs import read_fronts
from hyperdpo.text.train import TextConfig
from hyperdpo.training import FitConfig

QUICK = ["--epochs", "2", "--base-epochs", "1", "--width", "8", "--points", "5", "--device", "cpu"]
PAIR = ["--objective", "clicks", "--objective", "quality"]


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERDPO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg")))
        patch.delenv("HYPERDPO_DEBUG", raising=False)
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "demo"
    assert cli.main(["data", "demo", "--out", str(out), "--queries", "60", "--seed", "3"]) == 0
    return out


@pytest.fixture(scope="session")
def run_path(demo: Path) -> Path:
    out = demo.parent / "run"
    assert cli.main(["train", "rank", "--data", str(demo), "--out", str(out), *PAIR, *QUICK]) == 0
    return out


@pytest.fixture(scope="session")
def ls_path(demo: Path, run_path: Path) -> Path:
    out = demo.parent / "ls"
    base = ["--method", "dpo-ls", "--base", f"run:{run_path}"]
    assert cli.main(["train", "rank", "--data", str(demo), "--out", str(out), *PAIR, *QUICK, *base]) == 0
    return out


@pytest.fixture(scope="session")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 lists in a table without a column called label."""
    rng = np.random.default_rng(0)
    lines = ["qid,grade_given,x1,x2,prior,clicked,beauty"]
    for q in range(30):
        for _ in range(6):
            x = rng.normal(size=2)
            row = [
                int(np.clip(round(x[0] + 2), 0, 4)),
                *x.round(4),
                round(x[0], 2),
                int(x[1] > 0.2),
                round(abs(x[0] - x[1]), 3),
            ]
            lines.append(f"q{q}," + ",".join(map(str, row)))
    file = tmp_path_factory.mktemp("csv") / "shop.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


CSV_TASK = ["--main", "grade_given", "--objective", "clicks=clicked:l1", "--objective", "beauty=beauty:softmax:2"]


@pytest.fixture(scope="session")
def csv_run(csv: Path) -> Path:
    out = csv.parent / "run"
    assert (
        cli.main(["train", "rank", "--data", str(csv), "--out", str(out), "--base", "column:prior", *CSV_TASK, *QUICK])
        == 0
    )
    return out


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Run a command: (status, stdout, stderr)."""

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(a) for a in argv])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def document(call):
    """Run a command with --json: the one document on stdout."""

    def run(*argv: object) -> dict[str, Any]:
        status, out, err = call(*argv, "--json")
        assert status == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return run


@pytest.fixture
def refused(call):
    """Run a command that must be refused with 2 and nothing on stdout: the message."""

    def run(*argv: object) -> str:
        status, out, err = call(*argv)
        assert status == 2
        assert out == ""
        assert "Traceback" not in err
        return err

    return run


# --- each command ---------------------------------------------------------------------------------------------------


def test_data_demo_describes_what_it_made(demo: Path, call, document, tmp_path: Path) -> None:
    made = document("data", "demo", "--out", tmp_path / "a", "--queries", "60", "--seed", "3")
    assert made["fingerprint"] == open_data(demo).fingerprint
    assert made["queries"] == 60
    assert [o["name"] for o in made["objectives"]] == ["clicks", "purchases", "quality", "freshness", "margin"]
    assert {s: made["splits"][s]["queries"] for s in made["splits"]} == {"train": 36, "validation": 12, "test": 12}
    status, out, err = call("data", "demo", "--out", tmp_path / "b", "--queries", "12")
    assert status == 0
    assert "relevance" in out
    assert "simulating" in err


def test_data_convert_takes_files_or_splits(csv: Path, document, refused, tmp_path: Path) -> None:
    made = document(
        "data", "convert", csv, "--out", tmp_path / "a", *CSV_TASK, "--base-column", "prior", "--name", "shop"
    )
    assert (made["name"], made["queries"], made["items"], made["base_column"]) == ("shop", 30, 180, "prior")
    assert made["objectives"][1]["temperature"] == 2
    assert made["features"] == 2
    other = tmp_path / "more.csv"
    other.write_text(csv.read_text().replace("q", "r").replace("rid", "qid"))
    split = document("data", "convert", "--train", csv, "--test", other, "--out", tmp_path / "b", *CSV_TASK)
    assert split["splits"]["test"]["queries"] == 30
    assert "not both" in refused("data", "convert", csv, "--train", other, "--out", tmp_path / "c", *CSV_TASK)


def test_data_convert_takes_the_paper_preset_of_columns(document, refused, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    rows = [
        f"{i % 3} qid:{q} " + " ".join(f"{j}:{(i * j + q) % 7}" for j in range(1, 137))
        for q in range(9)
        for i in range(3)
    ]
    file.write_text("\n".join(rows) + "\n")
    made = document("data", "convert", file, "--preset", "mslr", "--out", tmp_path / "data")
    assert made["features"] == 131
    assert len(made["objectives"]) == 5
    assert "'mslr'" in refused("data", "convert", file, "--preset", "mslt", "--out", tmp_path / "other")


def test_train_writes_a_run_a_log_and_a_table(run_path: Path, document, call, demo: Path) -> None:
    lines = (run_path / "train.log").read_text().splitlines()
    assert lines[0].startswith("--- 2")
    assert any(line.startswith("objective clicks: column clicks, l1") for line in lines)
    assert sum("epoch" in line for line in lines) == 3
    arguments = ["train", "rank", "--data", demo, "--out", run_path, *PAIR, *QUICK, "--resume"]
    again = document(*arguments)
    keys = "run main objectives parametrisation models parameters seconds method device data fronts"
    assert set(again) == set(keys.split())
    assert again["fronts"][0]["hypervolume"] > 0
    status, out, err = call(*arguments)
    assert status == 0
    assert "HyperDPO (mixture)" in out
    assert "already trained" in err
    assert (run_path / "train.log").read_text().splitlines()[: len(lines)] == lines


def test_training_asks_before_it_replaces_a_run(run_path: Path, demo: Path, refused, call, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_path, copy)
    arguments = ["train", "rank", "--data", demo, "--out", copy, *PAIR, *QUICK, "--seed", "1"]
    before = (copy / "train.log").read_text()
    assert "--overwrite" in refused(*arguments)
    assert (copy / "train.log").read_text() == before
    assert call(*arguments, "--overwrite")[0] == 0
    assert (copy / "train.log").read_text().count("---") == 1
    assert RankRun(copy).config["seed"] == 1


def test_training_on_a_table_with_a_base_column(csv_run: Path) -> None:
    run = RankRun(csv_run)
    assert run.task.base_column == "prior"
    assert run.task.features == ("x1", "x2")
    assert run.base.kind == "column:prior"


def test_info_says_what_a_run_is(run_path: Path, document, call) -> None:
    about = document("info", run_path)
    assert about["method"]["method"] == "hyperdpo"
    assert about["objectives"] == ["clicks", "quality"]
    assert about["parameters"] == RankRun(run_path).parameters
    assert about["base"]["parameters"] == RankRun(run_path).base.parameters > 0
    assert {"data", "seed", "versions", "beta", "fronts", "fit", "net"} <= set(about)
    status, out, _ = call("info", run_path)
    assert status == 0
    for word in ("clicks", "fingerprint", "seed", "torch", "HyperDPO (mixture)"):
        assert word in out


def test_evaluate_gives_the_figures_of_the_live_model(run_path: Path, demo: Path, document, tmp_path: Path) -> None:
    file = tmp_path / "front.json"
    found = document("evaluate", run_path, "--scale", "1.5", "--k", "5", "--points", "4", "--out", file)
    run = RankRun(run_path)
    table, features = run.table(run.read(open_data(demo)).lists("test"))
    live = LiveModel(run.rankers[0], table, features)
    own = found["fronts"][0]
    assert len(own["points"]) == 4
    for point in own["points"]:
        expected = live.point([point["weights"][n] for n in ("clicks", "quality")], scale=1.5, k=5)
        assert list(point["ndcg"].values()) == [round(float(v), 7) for v in expected.ndcg]
        assert list(point["cross_entropy"].values()) == pytest.approx(expected.cross_entropy.tolist(), abs=1e-5)
        for name, interval in zip(point["ndcg"], expected.intervals(table.bootstrap), strict=True):
            assert point["intervals"][name]["low"] == pytest.approx(interval.low)
            assert point["intervals"][name]["high"] == pytest.approx(interval.high)
            assert point["intervals"][name]["queries"] == interval.queries
    assert [f["method"] for f in found["fronts"]] == ["hyperdpo", "base", "oracle", "oracle-unconstrained"]
    written = read_fronts(file)
    assert written[0].hypervolume == pytest.approx(own["hypervolume"], rel=1e-5)
    assert len(written) == 4
    assert read_fronts(run_path / "front.json")[0].k == 10  # not asked to --save


def test_evaluate_draws_baselines_beside_and_saves_them(
    run_path: Path, ls_path: Path, document, call, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_path, copy)
    found = document("evaluate", copy, "--baseline", ls_path, "--points", "5", "--save")
    assert [f["method"] for f in found["fronts"][:2]] == ["hyperdpo", "dpo-ls"]
    assert [f.method for f in read_fronts(copy / "front.json")[:2]] == ["hyperdpo", "dpo-ls"]
    status, out, _ = call("evaluate", copy, "--baseline", ls_path, "--points", "5")
    assert status == 0
    assert "DPO-LS" in out
    assert "95 % bootstrap" in out


def test_evaluate_makes_the_demo_again_where_it_is_gone(run_path: Path, document, tmp_path: Path) -> None:
    copy = moved_data(run_path, tmp_path / "run", tmp_path / "gone")
    assert document("evaluate", copy)["fronts"][0] == document("evaluate", run_path)["fronts"][0]


def test_evaluate_on_other_data_says_so(csv_run: Path, csv: Path, call, refused, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("".join(csv.read_text().splitlines(keepends=True)[: 1 + 6 * 12]))
    status, out, err = call("evaluate", csv_run, "--data", other, "--split", "all", "--json")
    assert status == 0
    assert "not the data this run was trained on" in err
    assert json.loads(out)["lists"] == 12
    two = tmp_path / "two.csv"
    two.write_text("".join(csv.read_text().splitlines(keepends=True)[: 1 + 6 * 2]))
    assert "no list in the split 'test'" in refused("evaluate", csv_run, "--data", two)


def test_find_tells_of_a_point_chosen_on_validation_what_evaluate_says_of_it_on_test(
    run_path: Path, demo: Path, document, call
) -> None:
    asked = ["find", run_path, "--goal", "clicks", "--at-least", "relevance=95%", "--at-least", "quality=-5%"]
    found = document(*asked)
    run = RankRun(run_path)
    data = run.read(open_data(demo))
    weights = list(found["weights"].values())
    for split in ("validation", "test"):
        table, features = run.table(data.lists(split))
        live = LiveModel(run.rankers[0], table, features)
        point, base = live.point(weights, scale=found["scale"]), measure(table, torch.zeros_like(table.base))
        assert [f[split] for f in found["ndcg"].values()] == pytest.approx(point.ndcg.tolist(), abs=1e-7)
        assert [limit[split] for limit in found["limits"]] == pytest.approx(
            [point.ndcg[0] / base.ndcg[0], point.ndcg[2] / base.ndcg[2]]
        )
        if split == "validation":
            assert found["fits"]
            assert point.ndcg[0] >= 0.95 * base.ndcg[0]
            assert point.ndcg[2] >= 0.95 * base.ndcg[2]
            rng = np.random.default_rng(0)
            others = [
                live.point([w, 1 - w], scale=c)
                for w, c in zip(rng.uniform(0, 1, 200), np.exp(rng.uniform(-2.3, 2.3, 200)), strict=True)
            ]
            fit = [p.ndcg[1] for p in others if (p.ndcg[[0, 2]] >= 0.95 * base.ndcg[[0, 2]]).all()]
            assert len(fit) > 5
            assert point.ndcg[1] >= max(fit)
    for limit in found["limits"]:
        assert 0 <= limit["probability"] <= 1
        assert limit["one_percent_less"]["goal_gain_validation"] >= 0
    assert document(*asked) == found
    status, out, _ = call(*asked)
    assert status == 0
    assert f"--scale {found['scale']:g}" in out
    assert "probability on test" in out


def test_find_near_a_target_without_a_fit_and_with_one_model_a_weight(run_path: Path, ls_path: Path, document) -> None:
    there = document("find", run_path, "--goal", "clicks", "--at-least", "relevance=95%")["ndcg"]
    near = document("find", run_path, "--near", ",".join(f"{n}={there[n]['test']}" for n in ("clicks", "quality")))
    for name in ("clicks", "quality"):
        assert near["ndcg"][name]["test"] == pytest.approx(there[name]["test"], abs=0.05)
    none = document("find", run_path, "--goal", "clicks", "--at-least", "quality=200%")
    assert not none["fits"]
    assert "one_percent_less" not in none["limits"][0]
    few = document("find", ls_path, "--goal", "all", "--at-least", "relevance=90%")
    trained = RankRun(ls_path).trained
    assert trained is not None
    assert list(few["weights"].values()) in [pytest.approx(w, abs=1e-4) for w in trained.tolist()]


def test_find_says_everything_that_is_wrong_at_once(
    run_path: Path, csv_run: Path, csv: Path, refused, tmp_path
) -> None:
    said = refused("find", run_path, "--goal", "click", "--near", "a=b", "--at-least", "quality", "--k", "0")
    for part in ("one of the two", "takes no limits", "k of 1 or more", "got 'quality'", "got 'a=b'"):
        assert part in said
    assert "did you mean 'clicks'?" in refused("find", run_path, "--goal", "click")
    assert "below 1; got 1.0" in refused("find", run_path, "--goal", "clicks", "--sure", "1")
    assert "no objective 'x'" in refused("find", run_path, "--near", "x=1")
    two = tmp_path / "two.csv"
    two.write_text("".join(csv.read_text().splitlines(keepends=True)[: 1 + 6 * 2]))
    assert "no list in its validation split" in refused("find", csv_run, "--goal", "clicks", "--data", two)


def test_scores_stand_in_input_order(run_path: Path, demo: Path, document, call, tmp_path: Path) -> None:
    out = tmp_path / "scores.txt"
    said = document(
        "score", run_path, "--data", demo, "--weights", "clicks=.3,quality=.7", "--scale", "2", "--out", out
    )
    data, run = open_data(demo), RankRun(run_path)
    scores = np.array([float(line) for line in out.read_text().splitlines()])
    assert len(scores) == data.n_items == said["items"]
    features = data.lists("all", features=run.task.features).features
    for q in (0, 7, 59):
        rows = slice(int(data.offsets[q]), int(data.offsets[q + 1]))
        np.testing.assert_allclose(scores[rows], run.score(features[rows], [0.3, 0.7], scale=2), rtol=1e-5, atol=1e-5)
    positional = tmp_path / "positional.txt"
    assert call("score", run_path, "--data", demo, "--weights", ".3,.7", "--scale", "2", "--out", positional)[0] == 0
    assert positional.read_text() == out.read_text()


def test_other_temperatures_reach_the_scores_and_the_front(
    run_path: Path, demo: Path, document, call, refused, tmp_path: Path
) -> None:
    out = tmp_path / "scores.txt"
    said = document("score", run_path, "--data", demo, "--weights", ".3,.7", "--beta", "quality=2", "--out", out)
    run = RankRun(run_path)
    wanted = (run.beta[0], 2.0)
    assert said["beta"] == list(wanted)
    lists = run.read(open_data(demo)).lists("all")
    scores = np.array([float(line) for line in out.read_text().splitlines()])
    np.testing.assert_allclose(scores, run.score_lists(lists, [0.3, 0.7], beta=wanted).numpy(), rtol=1e-4, atol=1e-4)
    assert np.abs(scores - run.score_lists(lists, [0.3, 0.7]).numpy()).max() > 1e-2
    measured = document("evaluate", run_path, "--data", demo, "--points", "3", "--beta", "quality=2")
    assert measured["fronts"][0]["beta"] == list(wanted)
    message = refused("evaluate", run_path, "--data", demo, "--beta", "qualty=2")
    assert "did you mean 'quality'" in message
    assert "above 0" in refused(
        "score", run_path, "--data", demo, "--weights", ".3,.7", "--beta", "0,1", "--out", tmp_path / "no"
    )


def test_files_without_label_columns_can_be_scored(csv_run: Path, csv: Path, call, refused, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    keep = [lines[0].index(name) for name in ("qid", "prior", "x2", "x1")]
    bare.write_text("\n".join(",".join(line[i] for i in keep) for line in lines) + "\n")
    for file in (csv, bare):
        assert call("score", csv_run, "--data", file, "--weights", "1,0", "--out", tmp_path / file.stem)[0] == 0
    assert (tmp_path / "shop").read_text() == (tmp_path / "bare").read_text()
    assert len((tmp_path / "bare").read_text().splitlines()) == 180
    bare.write_text(bare.read_text().replace("x2", "y2").replace("prior", "posterior"))
    message = refused("score", csv_run, "--data", bare, "--weights", "1,0", "--out", tmp_path / "no")
    assert "lacks 2 of the 3 columns" in message
    assert "x2, prior" in message
    assert not (tmp_path / "no").exists()


def test_sparse_files_whose_last_columns_never_occur_are_scored(call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.integers(3)} qid:{q} 1:{rng.normal():.3f} 2:{rng.normal():.3f} 3:{rng.random():.2f} 4:{rng.random():.2f}"
        for q in range(12)
        for _ in range(4)
    ]
    (tmp_path / "a.txt").write_text("\n".join(rows) + "\n")
    task = ["--objective", "a=f3", "--objective", "b=f1:softmax:min", "--base", "column:f2"]
    assert call("train", "rank", "--data", tmp_path / "a.txt", "--out", tmp_path / "run", *task, *QUICK)[0] == 0
    (tmp_path / "b.txt").write_text("0 qid:1 1:1 2:0.5\n0 qid:1 2:1.5\n")
    status, _, err = call(
        "score", tmp_path / "run", "--data", tmp_path / "b.txt", "--weights", ".5,.5", "--out", tmp_path / "s"
    )
    assert status == 0, err
    assert len((tmp_path / "s").read_text().splitlines()) == 2


def test_compare_puts_runs_side_by_side(run_path: Path, ls_path: Path, document, call) -> None:
    found = document("compare", run_path, ls_path)
    assert [r["method"] for r in found["runs"]] == ["hyperdpo", "dpo-ls"]
    assert found["runs"][0]["hypervolume"] == pytest.approx(read_fronts(run_path / "front.json")[0].hypervolume)
    assert found["runs"][1]["models"] == 5
    keys = {"hypervolume", "main_mean", "main_std", "sparsity", "seconds", "parameters", "models"}
    assert all(keys <= set(r) for r in found["runs"])
    assert found["k"] == 10
    status, out, _ = call("compare", run_path, ls_path)
    assert status == 0
    assert "hypervolume" in out
    assert "differ in points" not in out


@pytest.mark.parametrize(
    ("method", "models"),
    [("dpo-soup", 2), ("mo-dpo", 5), ("hypernetwork", 1), ("lambdamart", 3), ("label-aggregation", 3)],
)
def test_every_method_goes_all_the_way(
    run_path: Path, demo: Path, document, call, refused, tmp_path: Path, method: str, models: int
) -> None:
    out, scores = tmp_path / "run", tmp_path / "scores.txt"
    quick = ["--epochs", "1", "--width", "8", "--points", "3", "--device", "cpu"]
    quick += ["--tree-rounds", "3"] * (method in TREES)
    chosen = ["--method", method, "--base", f"run:{run_path}"]
    trained = document("train", "rank", "--data", demo, "--out", out, *PAIR, *chosen, *quick)
    assert (trained["method"], trained["models"]) == (method, models)
    name = trained["fronts"][0]["name"]
    run = RankRun(out)
    assert trained["parameters"] == run.parameters > 0
    status, told, _ = call("info", out)
    assert status == 0
    assert f"{run.parameters:,} in {models} model" in told
    assert ("for the reward models" in told) == (method == "mo-dpo")
    measured = document("evaluate", run_path, "--baseline", out, "--points", "5")
    (front,) = (f for f in measured["fronts"] if f["name"] == name)
    assert front["models"] == models
    assert len(front["points"]) == (5 if run.trained is None else 3)
    assert call("score", out, "--data", demo, "--weights", ".5,.5", "--out", scores)[0] == 0
    lists = open_data(demo).with_task(objectives=["clicks", "quality"]).lists("all")
    assert np.loadtxt(scores) == pytest.approx(run.score_lists(lists, [0.5, 0.5]).numpy(), abs=1e-5)
    elsewhere = ("score", out, "--data", demo, "--weights", ".4,.6", "--out", tmp_path / "other.txt")
    if run.trained is None:
        assert call(*elsewhere)[0] == 0
    else:
        assert f"This {method} run has one model per weight and none for 0.4,0.6" in refused(*elsewhere)
    compared = document("compare", run_path, out)
    assert [r["method"] for r in compared["runs"]] == ["hyperdpo", method]
    assert compared["runs"][1]["models"] == models


def test_methods_of_several_objectives_refuse_one(demo: Path, refused, tmp_path: Path) -> None:
    for method in SEVERAL:
        one = ["--objective", "clicks", "--method", method]
        message = refused("train", "rank", "--data", demo, "--out", tmp_path / "x", *one, *QUICK)
        assert f"{method} combines several objectives; got 1: declare another --objective" in message
    assert not (tmp_path / "x").exists()


def test_compare_tests_the_first_run_against_each_other_on_the_same_samples(run_path: Path, ls_path, document) -> None:
    first, other = document("compare", run_path, ls_path)["runs"]
    assert first["against_first"] is None
    test = other["against_first"]
    assert test["difference"] == pytest.approx(first["hypervolume"] - other["hypervolume"], abs=1e-5)
    assert test["ratio_interval"][0] < test["ratio"] < test["ratio_interval"][1]
    for row in (first, other):
        assert row["hypervolume_interval"][0] < row["hypervolume"] < row["hypervolume_interval"][1]
        assert row["main_interval"][0] < row["main_mean"] < row["main_interval"][1]
    back = document("compare", ls_path, run_path)["runs"][1]["against_first"]
    assert back["difference_interval"] == pytest.approx([-v for v in reversed(test["difference_interval"])])
    assert back["better"] == pytest.approx(1 - test["better"])
    twin = document("compare", run_path, run_path)["runs"][1]["against_first"]
    assert (twin["difference"], twin["p"], twin["better"]) == (0.0, 1.0, 0.5)


def test_one_run_is_compared_with_the_fronts_beside_it(
    run_path: Path, ls_path: Path, csv_run: Path, document, call, refused, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run_path, copy)
    assert call("evaluate", copy, "--baseline", ls_path, "--points", "5", "--save")[0] == 0
    own, *others = document("compare", copy)["runs"]
    assert own["method"] == "hyperdpo"
    [beside] = [row for row in others if row["method"] == "dpo-ls"]
    assert not {"base", "oracle"} & {row["front"] for row in others}, "a front has a point for each w"
    apart = document("compare", copy, ls_path)["runs"][1]
    for key in ("hypervolume", "hypervolume_interval", "against_first", "models", "parameters", "seconds", "device"):
        assert beside[key] == pytest.approx(apart[key], abs=1e-3) if key == "seconds" else beside[key] == apart[key], (
            key
        )
    assert (own["seed"], beside["seed"]) == (0, None)
    told = refused("compare", csv_run)
    assert "holds no front but its own that was measured on the same terms; name another run" in told
    assert f"hyperdpo evaluate {csv_run} --baseline RUN --save" in told
    assert "or one that holds fronts of others; got none" in refused("compare")


def test_compare_does_without_per_query_figures(run_path: Path, ls_path: Path, document, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(ls_path, bare)
    (bare / "per_query.safetensors").unlink()
    first, other = document("compare", run_path, bare)["runs"]
    assert first["hypervolume_interval"] is not None
    assert (other["hypervolume_interval"], other["against_first"]) == (None, None)


def test_compare_refuses_other_splits_betas_and_reference_points(run_path: Path, refused, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_path, other)
    document = json.loads((other / "front.json").read_text())
    changed = {"split": "validation", "beta": [2.0, 2.0], "scale": 2.0, "reference": [0.1, 0.0]}
    document["fronts"][0] |= changed
    (other / "front.json").write_text(json.dumps(document))
    message = refused("compare", run_path, other)
    for what in ("split: test and validation", "beta: (1.0, 1.0) and (2.0, 2.0)", "scale: 1.0 and 2.0",
                 "reference point: (0.0, 0.0) and (0.1, 0.0)"):  # fmt: skip
        assert f"differ in {what}" in message


def test_compare_refuses_what_differs_and_names_it(
    run_path: Path, demo: Path, csv_run: Path, call, refused, tmp_path: Path
) -> None:
    message = refused("compare", run_path, csv_run)
    for what in ("objectives", "data", "main"):
        assert f"differ in {what}" in message
    other = tmp_path / "k5"
    shutil.copytree(run_path, other)
    assert call("evaluate", other, "--k", "5", "--save")[0] == 0
    message = refused("compare", run_path, other)
    assert "differ in k: 10 and 5" in message
    assert f"hyperdpo evaluate {other} --split test --k 10 --scale 1 --save" in message
    assert "differ in data" not in message
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run_path, elsewhere)
    front = json.loads((elsewhere / "front.json").read_text())
    front["fronts"][0]["data"] = "0" * 64
    (elsewhere / "front.json").write_text(json.dumps(front))
    assert "differ in data" in refused("compare", run_path, elsewhere)


# --- reproduce ------------------------------------------------------------------------------------------------------


def test_reproduce_runs_a_recipe_and_goes_on(document, call, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'points = 3\nours = "one"\n[[variant]]\nlabel = "one"\nnet = { width = 8, heads = 0 }\n'
        '[[variant]]\nlabel = "geo"\nparametrisation = "geometric"\nnet = { width = 8, heads = 0 }\n[quick]\n'
        'draws = 20\n[[quick.case]]\ndata = "demo"\nobjectives = ["clicks", "quality"]\n[full]\n'
        '[[full.case]]\ndata = "mine"\n'
    )
    flags = ["--quick", "--work", tmp_path / "w", "--epochs", "1", "--queries", "40", "--seeds", "1", "--no-images"]
    found = document("reproduce", recipe, *flags, "--device", "cpu")["recipes"]["tiny"]
    assert [r["label"] for r in found["rows"]] == ["one", "geo", "base", "best possible at this beta"]
    assert found["problems"] == []
    assert all(Path(file).is_file() for file in found["files"])
    status, out, err = call("reproduce", recipe, *flags, "--device", "cpu")
    assert status == 0
    assert "3 units of training, 3 of them finished before" in err
    assert "hypervolume" in out
    status, out, _ = call("reproduce", recipe, "--work", tmp_path / "w", "--device", "cpu")
    assert status == 0
    assert "tiny was skipped" in out
    assert "--data mine=DIR" in out


@pytest.mark.slow
def test_the_papers_table_at_full_size_on_data_of_its_shape(document, tmp_path: Path) -> None:
    """MSLR-WEB10K's columns and objectives, few queries, one epoch: five folds, the paper's networks, its counts."""
    shape = ["--queries", "30", "--items", "3", "6", "--features", "131", "--objectives", "5"]
    document("data", "simulate", *shape, "--out", tmp_path / "sim")
    flags = ["--epochs", "1", "--seeds", "1", "--no-images", "--device", "cpu", "--work", tmp_path / "w"]
    found = document("reproduce", "table1", "--data", f"mslr={tmp_path / 'sim'}", *flags)["recipes"]["table1"]
    assert found["problems"] == []
    assert (found["size"], {row["case"] for row in found["rows"]}) == ("full", {"mslr5"})
    rows = {row["label"]: row for row in found["rows"]}
    trained = {label: rows[label]["parameters"] for label in ("DPO-LS", "DPO Soup", "MO-DPO")}
    assert trained == {"DPO-LS": 551_232, "DPO Soup": 250_615, "MO-DPO": 801_792}
    assert rows["HyperDPO, as the paper has it"]["parameters"] == 50_432
    assert rows["HyperDPO"]["queries"] == 30  # every query is scored by the fold that did not train on it
    parameters = [entry["figures"]["parameters"]["ratio"] for entry in found["published"]]
    assert parameters.count(1.0) == 4  # the default has counts of its own


def test_reproduce_refuses_in_one_message(refused, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("titel = 1\n[[variant]]\nmetod = 'x'\n[quick]\nseed = 1\n")
    message = refused("reproduce", tmp_path / "bad.toml", "tabel1", "--quick", "--work", tmp_path / "w")
    for expected in ("did you mean 'title'", "did you mean 'method'", "did you mean 'seeds'", "did you mean 'table1'"):
        assert expected in message
    message = refused("reproduce", "table1", "--jobs", "0", "--seeds", "0")
    assert "--jobs is a whole number of 1 or more; got 0" in message
    assert "--seeds is a whole number" in message
    assert not (tmp_path / "w").exists()


# --- presets and flags ----------------------------------------------------------------------------------------------


def parsed(*argv: str) -> train.TrainRank:
    command = cli.app.cli(
        prog="x", args=["train", "rank", "--data", "d", "--out", "o", *argv], config=(cli.FlagCreatePairsOff,)
    )
    assert isinstance(command, train.TrainRank)
    return command


def test_no_flag_is_the_package_s_default() -> None:
    assert parsed().config() == RankConfig()


def test_flags_reach_the_configuration() -> None:
    sizes = "--epochs 3 --base-epochs 2 --width 32 --use-base True --average 0"
    others = "--alpha 0.7 --penalty-sign away --beta .5,2 --k 5 --seed 4 --parametrisation film"
    start = RankConfig()
    assert parsed(*f"{sizes} {others}".split()).config() == RankConfig(
        method=MethodConfig(alpha=0.7, penalty_sign="away"),
        parametrisation="film",
        net=replace(DEFAULT_NET, width=32, use_base=True),
        fit=replace(start.fit, epochs=3, average=0),
        base_fit=replace(BASE_FIT, epochs=2),
        beta=(0.5, 2.0),
        seed=4,
        k=5,
    )


@pytest.mark.parametrize(
    "argv",
    ["train text --model m --out o --data a --data b", "evaluate run --baseline=a --baseline b",
     "score run --weights 1 --out o --data a --data b"],
)  # fmt: skip
def test_a_flag_of_several_values_given_twice_is_refused(refused, argv: str) -> None:
    message = refused(*argv.split())
    assert "stands 2 times, and only the last would be heard" in message


def test_a_flag_that_is_given_once_for_each_may_stand_twice(refused, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.jsonl"
    message = refused(
        "train",
        "text",
        "--model",
        "m",
        "--out",
        tmp_path / "o",
        "--data",
        nothing,
        "--objective",
        "a",
        "--objective",
        "b",
    )
    assert "nothing.jsonl cannot be read" in message


def test_flags_of_one_method_alone() -> None:
    trees = "--tree-rounds 7 --tree-patience 3 --tree-learning-rate 0.2 --tree-leaves 4 --tree-min-leaf 5"
    config = parsed("--method", "lambdamart", *trees.split()).config()
    assert config.trees == TreesConfig(7, 3, 0.2, 4, 5)
    assert (config.net, config.method.method) == (None, "lambdamart")
    assert parsed("--method", "dpo-soup", "--width", "32").config().net == replace(BASELINE_NET, width=32)
    assert parsed("--method", "hypernetwork", "--generator-width", "9").config().method.generator_width == 9
    with pytest.raises(ConfigError, match="mo-dpo has no generator"):
        parsed("--method", "mo-dpo", "--generator-width", "9").config()


def test_the_paper_preset_has_the_paper_s_parameters_and_flags_override_it() -> None:
    command = parsed("--preset", "mslr", "--preset", "paper")
    presets = train.read_presets(command.preset)
    assert presets == train.read_presets(["mslr,paper"]) == ["mslr", "paper"]
    config = command.config(presets)
    ranker = Ranker(131, 5, config.parametrisation, config.net, (1.0,) * 5)
    assert count_parameters(ranker) == 50_432
    assert (config.parametrisation, config.method.draw, config.fit) == ("scratch", "step", FitConfig(average=0))
    assert config.net == NetConfig()
    own = parsed("--preset", "paper", "--draw", "list", "--parametrisation", "augmentation").config(["paper"])
    assert (own.parametrisation, own.method.draw, own.fit.average) == ("augmentation", "list", 0)


def test_the_paper_preset_takes_raw_labels(demo: Path) -> None:
    command = replace(parsed(), data=(demo,), preset=("paper",))
    task = command._open(["paper"], Bar(shown=False)).task
    assert [o.standardise for o in task.objectives] == [
        True,
        True,
        False,
        False,
        False,
    ]  # l1 has none


def test_options_out_of_range_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("--epochs", "0", "--alpha", "0", "--beta", "a,b", "--width", "0").config()
    for what in ("epochs", "alpha", "'a,b'", "width"):
        assert what in str(caught.value)


def test_every_default_in_the_help_is_the_one_that_holds() -> None:
    rank = RankConfig()
    holds: dict[type, Any] = {
        train.MethodFlags: rank.method,
        train.NetFlags: DEFAULT_NET,
        train.FitFlags: rank.fit,
        train.TreeFlags: rank.trees,
        train.BaseFitFlags: rank.base_fit,
    }
    for flags, defaults in holds.items():
        hints = get_type_hints(flags, include_extras=True)
        names = {f.name: f.name.removeprefix("base_").removeprefix("tree_") for f in fields(flags)}
        if flags is not train.BaseFitFlags:
            assert set(names.values()) == {f.name for f in fields(defaults)}
        for flag, name in names.items():
            value = getattr(defaults, name)
            if flags is train.NetFlags and getattr(BASELINE_NET, name) != value:
                value = f"{value}; baselines {getattr(BASELINE_NET, name)}"
            if flags is train.FitFlags and getattr(TextConfig().fit, name) != value:
                value = f"{value}; text {getattr(TextConfig().fit, name)}"
            assert hints[flag].__metadata__[0].help_behavior_hint == f"(default: {value})", flag
    hints = get_type_hints(train.TrainRank, include_extras=True)
    for name in ("base", "parametrisation", "scaling", "seed", "k"):
        assert hints[name].__metadata__[0].help_behavior_hint == f"(default: {getattr(rank, name)})"
    assert get_args(train.MethodName) == METHODS


# --- refusals -------------------------------------------------------------------------------------------------------


def test_unknown_objectives_and_columns_get_the_nearest_name(
    run_path: Path, demo: Path, refused, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    message = refused("score", run_path, "--data", demo, "--weights", "click=.3,quality=.7", "--out", out)
    assert "No objective is called 'click' (did you mean 'clicks'?)" in message
    message = refused("train", "rank", "--data", demo, "--out", out, "--objective", "fresh=freshnes", *QUICK)
    assert "did you mean 'freshness'?" in message
    message = refused("train", "rank", "--data", demo, "--out", out, "--main", "relevanc", *QUICK)
    assert "did you mean 'relevance'?" in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (".3,.3", "sum to 1"),
        ("-.5,1.5", "not negative"),
        (".3,.3,.4", "2 in all; got 3"),
        ("nan,1", "finite"),
        ("a,b", "A weight is a number"),
    ],
)
def test_weights_off_the_simplex(run_path: Path, demo: Path, refused, tmp_path: Path, weights: str, said: str) -> None:
    assert said in refused("score", run_path, "--data", demo, f"--weights={weights}", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("c", ["0", "-1", "nan"])
def test_scales_that_are_not_above_0(run_path: Path, demo: Path, refused, tmp_path: Path, c: str) -> None:
    said = "scale c is a finite number above 0"
    assert said in refused(
        "score", run_path, "--data", demo, "--weights", ".5,.5", "--scale", c, "--out", tmp_path / "x"
    )
    assert said in refused("evaluate", run_path, "--scale", c)


def test_a_run_that_is_not_there(refused, tmp_path: Path, run_path: Path) -> None:
    missing = tmp_path / "nothing"
    for argv in (["info", missing], ["evaluate", missing], ["compare", run_path, missing]):
        assert f"{missing} is not a folder" in refused(*argv)


def test_a_run_from_the_future(run_path: Path, refused, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_path, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    for argv in (["info", copy], ["evaluate", copy], ["compare", run_path, copy]):
        assert "written by a later version" in refused(*argv)


def test_bad_usage(call, run_path: Path) -> None:
    for argv in (
        ["info", run_path, "--jsno"],
        ["inof", run_path],
        [],
        ["evaluate", run_path, "--split", "tset"],
        ["info"],
    ):
        status, out, err = call(*argv)
        assert status == 2, argv
        assert out == ""
        assert err
    assert "--jsno" in call("info", run_path, "--jsno")[2]


def test_bad_options_of_evaluate(run_path: Path, csv_run: Path, refused) -> None:
    assert "k of 1 or more; got 0" in refused("evaluate", run_path, "--k", "0")
    assert "at least 2 points" in refused("evaluate", run_path, "--points", "1")
    message = refused("evaluate", run_path, "--baseline", csv_run)
    for what in ("main label", "objectives", "features", "training data"):
        assert f"differ in {what}" in message
    if not torch.cuda.is_available():
        assert "sees no CUDA" in refused("evaluate", run_path, "--device", "cuda")


def test_an_empty_file_and_one_that_is_not_there(refused, tmp_path: Path) -> None:
    file = tmp_path / "empty.txt"
    file.touch()
    for argv in (
        ["data", "convert", file, "--out", tmp_path / "d"],
        ["train", "rank", "--data", file, "--out", tmp_path / "r"],
    ):
        message = refused(*argv)
        assert "empty.txt" in message
        assert "empty" in message.replace("empty.txt", "")
    assert "There is no file" in refused("data", "convert", tmp_path / "none.txt", "--out", tmp_path / "d")
    assert "No file was given" in refused("data", "convert", "--out", tmp_path / "d")
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "r").exists()


def test_data_without_objectives_says_how_to_name_them(csv: Path, refused, tmp_path: Path) -> None:
    message = refused("train", "rank", "--data", csv, "--main", "grade_given", "--out", tmp_path / "r")
    assert "no auxiliary objective" in message
    assert "beauty" in message


def test_an_objective_by_its_name_keeps_what_the_data_declares(demo: Path) -> None:
    command = replace(parsed(), data=(demo,), objective=("clicks", "dear=margin:min", "quality=quality:softmax:2"))
    clicks, dear, quality = command._open([], Bar(shown=False)).task.objectives
    assert (clicks.normalisation, dear.direction, quality.temperature) == ("l1", "min", 2)
    explicit = replace(command, objective=("clicks=clicks:softmax",))._open([], Bar(shown=False)).task
    assert explicit.objectives[0].normalisation == "softmax"


def test_unknown_presets(demo: Path, refused, tmp_path: Path) -> None:
    message = refused("train", "rank", "--data", demo, "--out", tmp_path / "r", "--preset", "papr,nothing")
    assert "'papr' (did you mean 'paper'?)" in message
    assert "'nothing'" in message


def test_data_that_is_gone_says_how_to_give_it(csv_run: Path, refused, tmp_path: Path) -> None:
    copy = moved_data(csv_run, tmp_path / "run", tmp_path / "gone")
    message = refused("evaluate", copy)
    assert str(tmp_path / "gone") in message
    assert "--data" in message


@pytest.mark.parametrize(("number", "said"), [(errno.EACCES, "Permission denied"), (errno.ENOSPC, "No space left")])
def test_no_permission_and_a_full_disk(
    run_path: Path, demo: Path, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    out = tmp_path / "scores.txt"
    out.write_text("earlier")

    def refuse(*args: Any, **kw: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hyperdpo.files.os.replace", refuse)
    message = refused("score", run_path, "--data", demo, "--weights", ".5,.5", "--out", out)
    assert said in message
    assert str(out) in message
    assert out.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["scores.txt"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "no permission"), (errno.ENOSPC, "the disk is full"), (errno.EIO, "check the path")],
)
def test_faults_of_the_system_are_sentences(
    run_path: Path, refused, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fail(self: cli.Info) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr(cli.Info, "execute", fail)
    message = refused("info", run_path)
    assert said in message
    assert "/some/file" in message


def test_a_fault_of_the_program_shows_its_traceback_only_when_asked(
    run_path: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: cli.Info) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli.Info, "execute", fail)
    status, out, err = call("info", run_path)
    assert (status, out) == (1, "")
    assert "ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    monkeypatch.setenv("HYPERDPO_DEBUG", "1")
    assert "Traceback" in call("info", run_path)[2]


def test_a_log_that_cannot_be_written_does_not_stop_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = train.RunLog(tmp_path / "none" / "train.log", Bar(shown=False))
    log.log("one")
    log.log("two")
    err = capsys.readouterr().err
    assert err.count("cannot be written") == 1
    assert "two" in err


# --- processes ------------------------------------------------------------------------------------------------------


def program(*argv: object, **kw: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hyperdpo", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **kw)


def test_resumed_after_ctrl_c_is_as_if_never_interrupted(demo: Path, call, tmp_path: Path) -> None:
    command = [
        "train",
        "rank",
        "--data",
        demo,
        *PAIR,
        *QUICK,
        "--epochs",
        "25",
        "--patience",
        "25",
        "--batch-size",
        "2",
    ]
    process = program(*command, "--out", tmp_path / "stopped")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("model 1"):
            break
    assert process.stderr.readline().startswith("epoch   0")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "--resume" in err
    assert "Traceback" not in err
    assert "not ended" in call("info", tmp_path / "stopped")[2]
    assert "--resume" in call(*command, "--out", tmp_path / "stopped")[2]
    status, _, err = call(*command, "--out", tmp_path / "stopped", "--resume")
    assert status == 0
    assert "resumed from epoch" in err
    assert call(*command, "--out", tmp_path / "whole")[0] == 0
    for name in ("model.safetensors", "base.safetensors"):
        ours, theirs = load_file(tmp_path / "stopped" / name), load_file(tmp_path / "whole" / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / "stopped" / "train.log").read_text().count("--- 2") == 2


def test_a_closed_pipe_is_quiet(run_path: Path) -> None:
    process = program("info", run_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == cli.BROKEN_PIPE
    assert err == ""


def test_help_and_bad_usage_answer_without_torch() -> None:
    code = (
        "import sys; from hyperdpo.cli import main; s = [main(['--help']), main(['train', 'rank', '--help']), "
        "main(['x'])];"
        "print(s, [m for m in ('torch', 'numpy', 'pyarrow', 'accelerate') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 2] []"
    assert time.monotonic() - started < 5  # far below a second on an idle machine


def test_other_processes_of_a_launch_stay_silent(run_path: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert call("info", run_path) == (0, "", "")


@pytest.mark.parametrize(("world", "told"), [("2", "answer\n"), ("1", "answer\nwound down\n")])
def test_one_of_several_processes_ends_at_once_with_its_answer_and_status(world: str, told: str) -> None:
    code = (
        "import atexit; from hyperdpo.cli import leave; atexit.register(print, 'wound down');"
        "print('answer', end='\\n'); leave(3)"
    )
    environment = {**os.environ, "WORLD_SIZE": world}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (3, told)


def test_version(call) -> None:
    assert call("--version")[1].startswith("hyperdpo ")


# --- tables ---------------------------------------------------------------------------------------------------------


def test_tables_align() -> None:
    text = tables.table(["name", "n"], [["a", 1234], ["long name", 0.5]])
    assert text.splitlines() == ["name            n", "---------  ------", "a           1,234", "long name  0.5000"]
    assert tables.facts([("a", "x\ny"), ("bc", True)]) == "a   x\n    y\nbc  yes"
    assert [tables.show(v) for v in (None, False, float("nan"), "x")] == ["-", "no", "-", "x"]


def moved_data(run: Path, copy: Path, data: Path) -> Path:
    """A copy of a run whose data is said to be elsewhere; the manifest is told of the change."""
    shutil.copytree(run, copy)
    config, manifest = (json.loads((copy / f"{name}.json").read_text()) for name in ("config", "manifest"))
    config["data"]["path"] = str(data)
    blob = json.dumps(config)
    (copy / "config.json").write_text(blob)
    digest = hashlib.sha256(blob.encode()).hexdigest()
    manifest["files"]["config.json"] = {"bytes": len(blob), "sha256": digest}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy
