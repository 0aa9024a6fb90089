"""Simulated data: the same from the same seed, of the shape asked for, and with expectations that are known exactly."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from hyperdpo import cli
from hyperdpo.commands.reading import own_data
from hyperdpo.control import oracle_residual
from hyperdpo.errors import ConfigError, DataError
from hyperdpo.losses import listwise_loss
from hyperdpo.methods import MethodConfig
from hyperdpo.metrics import NDCG
from hyperdpo.objectives import Objective
from hyperdpo.rank import simulate as module
from hyperdpo.rank import simulate_oracle
from hyperdpo.rank.data import RankData, open_data
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.live import LiveModel
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.simulate import SHARPNESS, Simulation, Truth, draw_label, draw_labels, simulate
from hyperdpo.rank.simulate_oracle import ensure_simulated, oracle
from hyperdpo.rank.sources import source_of
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig
from hyperdpo.weights import grid

SMALL = Simulation(queries=30, items=(4, 9), features=12, objectives=3, dense=1, clicks=3, seed=5)
FROZEN_SUMS = {"f1": 93.6048, "f12": 5.7744, "grade": 134.0, "clicks1": 90.0, "quality1": 335.1620}
LOG2_3 = float(np.log2(3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RankData:
    return simulate(SMALL, tmp_path_factory.mktemp("simulated") / "data")


def one_list(p: list[float], clicks: int = 1, dense: bool = False) -> Truth:
    """A list whose first objective has these expectations."""
    simulation = Simulation(objectives=1, dense=int(dense), clicks=clicks)
    utilities = np.stack([np.zeros(len(p)), np.log(p) / SHARPNESS])
    return Truth.of(simulation, utilities, np.array([len(p)]))


def exact_gain(truth: Truth, draws: int, name: str = "clicks1") -> np.ndarray:
    known = simulate_oracle._Simulated(truth, draws, (0, 0))
    gain: np.ndarray = known.gain(Objective(name, name, "l1"), 10)[0]
    return gain


def idcg(labels: torch.Tensor) -> torch.Tensor:
    """(..., 1) the ideal DCG@10 of labels (..., n <= 10), the plain way."""
    discount = 1 / torch.log2(torch.arange(2.0, labels.shape[-1] + 2))
    assert labels.shape[-1] <= 10
    return (labels.sort(-1, descending=True).values * discount).sum(-1, keepdim=True)


# Making it


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_data(data: RankData, tmp_path: Path) -> None:
    again = simulate(SMALL, tmp_path / "again")
    other = simulate(replace(SMALL, seed=6), tmp_path / "other")
    assert again.fingerprint == data.fingerprint != other.fingerprint
    for file in ("items.arrow", "queries.arrow", "truth.arrow"):
        assert (again.path / file).read_bytes() == (data.path / file).read_bytes()


def test_the_frozen_generator_has_not_moved(data: RankData) -> None:
    """Whoever changes these raises GENERATOR_VERSION."""
    assert module.GENERATOR_VERSION == 1
    sums = {name: float(data.column(name).sum(dtype=np.float64)) for name in FROZEN_SUMS}
    assert sums == pytest.approx(FROZEN_SUMS, rel=1e-4)


def test_names_shapes_and_roles(data: RankData) -> None:
    assert [o.name for o in data.task.objectives] == ["clicks1", "clicks2", "quality1"]
    assert data.task.main.column == "grade"
    assert data.task.features == tuple(f"f{i}" for i in range(1, 13))
    assert [len(data.queries(s)) for s in ("train", "validation", "test")] == [18, 6, 6]
    assert 4 <= data.sizes.min() < data.sizes.max() <= 9
    assert data.manifest["origin"]["kind"] == "simulated"
    assert Simulation.from_origin(data.manifest["origin"]) == SMALL
    assert set(np.unique(data.column("grade"))) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    starts = data.offsets[:-1]
    for name in ("clicks1", "clicks2"):
        assert (np.add.reduceat(data.column(name), starts) == SMALL.clicks).all()
    assert (data.column("quality1") >= 0).all()
    parts = {name: np.split(data.column(name), data.offsets[1:-1]) for name in data.task.features}
    of_query = [name for name, lists in parts.items() if all(len(set(x)) == 1 for x in lists)]
    assert of_query == ["f1", "f2"]


def test_chunks_change_nothing_but_the_draws(data: RankData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists made a few at a time are the lists of one chunk where the chunks begin alike, and keep their shape."""
    monkeypatch.setattr(module, "CHUNK_CELLS", 4 * 6 * 16)
    chunked = simulate(SMALL, tmp_path / "chunked")
    assert (chunked.sizes == data.sizes).all()
    assert np.array_equal(chunked.split, data.split)
    first = data.offsets[3]
    assert not np.array_equal(chunked.column("f12")[first:], data.column("f12")[first:])
    chunked.verify()


@pytest.mark.parametrize(("m", "conflict"), [(2, 0.7), (2, 1.0), (4, 0.4), (1, 0.5)])
def test_objectives_pull_apart_as_far_as_conflict_says(m: int, conflict: float) -> None:
    simulation = Simulation(objectives=m, features=40, conflict=conflict)
    function_rng, pilot_rng, rng = module._generators(simulation, 3)
    sizes = np.full(200, 50)
    functions = module._Functions.draw(function_rng, pilot_rng, simulation)
    lists = functions(module.draw_features(rng, sizes, 40)).reshape(1 + m, 200, 50)
    within = (lists - lists.mean(2, keepdims=True)).reshape(1 + m, -1)
    assert within.std(1) == pytest.approx(1, abs=0.06)
    seen = np.corrcoef(within)
    expected = 1 - conflict - conflict / max(m - 1, 1)
    assert seen[1:, 1:][~np.eye(m, dtype=bool)] == pytest.approx(expected, abs=0.08)
    assert seen[0, 1:] == pytest.approx(np.sqrt(0.5 * (1 - conflict)), abs=0.08)


def test_grades_follow_the_features_and_come_in_about_the_shares_promised(tmp_path: Path) -> None:
    data = simulate(Simulation(queries=150, items=(50, 50), features=30, seed=2), tmp_path / "data")
    grade = data.column("grade")
    shares = np.bincount(grade.astype(int), minlength=5) / len(grade)
    assert shares == pytest.approx(module.GRADE_SHARES, abs=0.1)
    utility = simulate_oracle._read_truth(data, Simulation.from_origin(data.manifest["origin"]))[0]
    assert np.corrcoef(grade, utility)[0, 1] > 0.75


def test_numbers_that_cannot_be_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Simulation(queries=9, items=(5, 4), features=3, objectives=0, dense=2, clicks=0, conflict=1.5, seed=-1)
    said = str(caught.value)
    for words in ("got 9", "5 and 4", "got 3", "got 0", "got 2", "1 draw", "got 1.5", "got -1"):
        assert words in said


# The expectations: by hand, by going through everything that can happen, and by drawing again and again


def test_expectations_by_hand() -> None:
    truth = one_list([0.2, 0.3, 0.5])
    assert truth.p["clicks1"][0] == pytest.approx([0.2, 0.3, 0.5])
    assert exact_gain(truth, draws=1) == pytest.approx([0.2, 0.3, 0.5])  # one click: IDCG is 1
    # Two clicks: on one item (IDCG 2) or on two (IDCG 1 + 1/log2 3); exact but for the draw of the other click.
    by_hand = [2 * p * (p / 2 + (1 - p) / (1 + 1 / LOG2_3)) for p in (0.2, 0.3, 0.5)]
    assert exact_gain(one_list([0.2, 0.3, 0.5], clicks=2), draws=40_000) == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize("clicks", [1, 2, 4])
def test_shares_of_clicks_have_exactly_the_expectation_p(clicks: int) -> None:
    p = [0.1, 0.25, 0.65]
    truth = one_list(p, clicks)
    objective, mask = Objective("clicks1", "clicks1", "l1"), torch.ones(3, dtype=torch.bool)
    expected_target, expected_gain = np.zeros(3), np.zeros(3)
    for outcome in itertools.product(range(3), repeat=clicks):
        chance = np.prod([p[i] for i in outcome])
        labels = torch.bincount(torch.tensor(outcome), minlength=3).float()
        expected_target += chance * objective.targets(labels, mask)[0].numpy()
        expected_gain += chance * (labels / idcg(labels)).numpy()
    assert expected_target == pytest.approx(truth.p["clicks1"][0], abs=1e-6)
    assert exact_gain(truth, draws=20_000) == pytest.approx(expected_gain, rel=0.015)


@pytest.mark.parametrize("name", ["clicks1", "clicks2", "quality1"])
def test_labels_drawn_again_and_again_have_the_expectation_p(data: RankData, name: str) -> None:
    draws = 4000
    known = oracle(data, "all", draws=512)
    lists = data.lists("all")
    utilities = simulate_oracle._read_truth(data, SMALL)
    truth = Truth.of(SMALL, utilities, data.sizes)
    labels = torch.from_numpy(draw_label(np.random.default_rng(1), truth, name, draws))
    mask = lists.mask().expand(labels.shape)
    objective = Objective(name, name, "l1")
    targets, informative = objective.targets(labels, mask)
    assert informative.all()
    j = SMALL.names.index(name)
    for seen, ours in ((targets, known.p), (labels / idcg(labels), known.gain)):
        error = seen.std(0) / draws**0.5
        score = lists.unpad((seen.mean(0) - lists.pad(ours[:, j])) / error.clamp(min=1e-9))
        assert score.square().mean().sqrt() < 1.3  # the oracle's own error comes on top for gains
        assert score.abs().max() < 6
    torch.testing.assert_close(lists.pad(known.p).sum(1), torch.ones(len(lists), 3))
    assert (known.rho == 1).all()


@pytest.mark.parametrize(
    "objective",
    [Objective("soft", "clicks1", "softmax"), Objective("low", "quality1", "l1", direction="min"),
     Objective("more", "clicks2", "l1", shift=1.0)],
    ids=lambda o: o.name,
)  # fmt: skip
def test_another_declaration_of_a_column_is_simulated(data: RankData, objective: Objective) -> None:
    draws = 2000
    known = oracle(data, draws=draws, objectives=[objective])
    lists = data.lists("test")
    tested = np.repeat(data.split, data.sizes) == 2
    truth = Truth.of(SMALL, simulate_oracle._read_truth(data, SMALL)[:, tested], lists.sizes.numpy())
    labels = torch.from_numpy(draw_label(np.random.default_rng(8), truth, objective.column, draws))
    targets, _ = objective.targets(labels, lists.mask().expand(labels.shape))
    error = (targets.std(0) * (2 / draws) ** 0.5).clamp(min=1e-6)
    assert lists.unpad((targets.mean(0) - lists.pad(known.p[:, 0])) / error).abs().max() < 5


def test_main_gains_are_the_mean_over_draws(data: RankData) -> None:
    draws = 6000
    lists = data.lists("all")
    truth = Truth.of(SMALL, simulate_oracle._read_truth(data, SMALL), data.sizes)
    grades = torch.from_numpy(draw_label(np.random.default_rng(2), truth, "grade", draws))
    seen = lists.unpad(grades.mean(0)).numpy()
    assert seen == pytest.approx(truth.expected_grade[truth.mask], abs=5 * 1.3 / draws**0.5)
    plain = (grades / idcg(grades).clamp(min=1e-9)).mean(0)
    torch.testing.assert_close(oracle(data, "all", draws=2000).main_gain, lists.unpad(plain), atol=0.03, rtol=0)


def test_labels_in_the_folder_are_drawn_from_its_truth(tmp_path: Path) -> None:
    """Over many lists the labels' shares agree with p, item by item put in order of p."""
    simulation = Simulation(queries=400, items=(10, 10), features=20, objectives=2, clicks=4, seed=3)
    data = simulate(simulation, tmp_path / "data")
    known, lists = oracle(data, "all", draws=1), data.lists("all")
    for j, objective in enumerate(data.task.objectives):
        targets, _ = objective.targets(lists.pad(lists.labels[:, 1 + j]), lists.mask())
        order = lists.pad(known.p[:, j]).argsort(-1)
        seen, expected = (x.gather(-1, order).mean(0) for x in (targets, lists.pad(known.p[:, j])))
        torch.testing.assert_close(seen, expected, atol=0.03, rtol=0)
        assert expected[-1] > 4 * expected[0]


def test_all_labels_at_once_are_those_of_each_column() -> None:
    truth = one_list([0.2, 0.8], clicks=2)
    labels = draw_labels(np.random.default_rng(0), truth, 5)
    assert labels.shape == (5, 2, 2)
    assert (labels[..., 1].sum(-1) == 2).all()


# The oracle's fronts


@pytest.fixture(scope="module")
def trained(data: RankData, tmp_path_factory: pytest.TempPathFactory) -> Any:
    quick = FitConfig(epochs=6, patience=6, batch_size=6, learning_rate=0.01)
    config = RankConfig(method=MethodConfig(points=4), net=NetConfig(8, 1, 2), fit=quick, base_fit=quick)
    return train(data, config, tmp_path_factory.mktemp("run") / "run", device="cpu")


def test_no_model_does_better_than_the_oracle_in_expectation(data: RankData, trained: Any) -> None:
    """Both are measured on labels drawn anew many times, which neither has seen."""
    known, lists = oracle(data), data.lists("test")
    table, features = trained.table(lists)
    model = LiveModel(trained.rankers[0], table, features)
    utilities = simulate_oracle._read_truth(data, SMALL)[:, np.repeat(data.split, data.sizes) == 2]
    truth = Truth.of(SMALL, utilities, lists.sizes.numpy())
    rng, targets, gains = np.random.default_rng(4), [], []
    for objective in data.task.objectives:
        labels = torch.from_numpy(draw_label(rng, truth, objective.column, 1000))
        targets.append(objective.targets(labels, table.mask.expand(labels.shape))[0].mean(0))
        gains.append((labels / idcg(labels)).mean(0))
    p = lists.pad(known.p).transpose(1, 2)
    for w in grid(3, 11):
        ours = model.residual(w)
        best = oracle_residual(p, w, table.beta[0]).masked_fill(~table.mask, 0.0)
        target, gain = (torch.einsum("j,jqn->qn", w, torch.stack(x)) for x in (targets, gains))
        loss, floor = (listwise_loss(r, target, table.mask, beta=table.beta[0]) for r in (ours, best))
        assert floor.mean() < loss.mean() - 0.01
        ranked = NDCG(gain.unsqueeze(-1), table.mask, 10)  # expected NDCG is the sum of expected gains by discount
        free, mine = (ranked.per_query(scores).mean() for scores in (lists.pad(known.gain) @ w, table.base + ours))
        assert free > max(mine + 0.01, 0.99)


def test_evaluation_measures_both_oracles(data: RankData, trained: Any) -> None:
    fronts = {f.method: f for f in evaluate_run(trained, data, points=4)}
    assert {"oracle", "oracle-unconstrained", "base", "hyperdpo"} == set(fronts)
    assert fronts["oracle-unconstrained"].ndcg[:, 1:].mean() > fronts["hyperdpo"].ndcg[:, 1:].mean()
    entropy = {m: np.einsum("pj,pj->p", fronts[m].weights, fronts[m].cross_entropy) for m in ("oracle", "hyperdpo")}
    assert entropy["oracle"].mean() < entropy["hyperdpo"].mean()


def test_what_is_asked_together_does_not_change_the_answer(data: RankData) -> None:
    whole = oracle(data, draws=16)
    alone = oracle(data, draws=16, objectives=[data.task.objectives[2]])
    assert torch.equal(whole.p[:, 2], alone.p[:, 0])
    assert torch.equal(whole.gain[:, 2], alone.gain[:, 0])
    assert not torch.equal(oracle(data, draws=16, seed=1).gain, whole.gain)
    assert torch.equal(oracle(data, draws=16, seed=1).p, whole.p)


# What can be wrong


def test_columns_and_numbers_the_oracle_does_not_know(data: RankData) -> None:
    with pytest.raises(ConfigError, match=r"'f3' is not a simulated label(.|\n)*got 0(.|\n)*got -1"):
        oracle(data.with_task(objectives=["f3"]), draws=0, k=-1)


def test_truth_that_is_gone_or_of_another_version(data: RankData, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data.path, copy)
    opened = open_data(copy)
    opened.manifest["origin"]["generator_version"] = 2
    with pytest.raises(DataError, match=r"version 2 of the simulation"):
        oracle(opened)
    opened.manifest["origin"] = {**data.manifest["origin"], "clicks": None}
    with pytest.raises(DataError, match="origin cannot be read"):
        oracle(opened)
    opened.manifest["origin"] = data.manifest["origin"]
    short = pa.table({name: np.zeros(2, np.float32) for name in module.truth_names(SMALL)})
    with pa.OSFile(str(copy / "truth.arrow"), "wb") as sink, pa.ipc.new_file(sink, short.schema) as writer:
        writer.write_table(short)
    with pytest.raises(DataError, match="2 rows for"):
        oracle(opened)
    (copy / "truth.arrow").unlink()
    with pytest.raises(DataError, match=r"truth\.arrow is damaged"):
        oracle(opened)
    opened.manifest["origin"] = {"kind": "files"}
    with pytest.raises(DataError, match="is not simulated"):
        oracle(opened)


def test_the_cache_makes_once_and_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: RankData) -> None:
    source = source_of(SMALL.origin)
    assert source is not None
    folder = ensure_simulated(SMALL.origin, tmp_path)
    assert open_data(folder).fingerprint == data.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(simulate_oracle, "simulate", lambda *_: pytest.fail("made a second time"))
        assert ensure_simulated(SMALL.origin, tmp_path) == folder
    (folder / "truth.arrow").write_bytes(b"half")
    assert ensure_simulated(SMALL.origin, tmp_path) == folder
    assert open_data(folder).fingerprint == data.fingerprint
    monkeypatch.setenv("HYPERDPO_CACHE", str(tmp_path))
    assert source.ensure(SMALL.origin) == folder
    with pytest.raises(DataError, match="version 9"):
        ensure_simulated({**SMALL.origin, "generator_version": 9}, tmp_path)
    assert source_of({"kind": "files"}) is None


def test_the_command_makes_what_its_flags_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        "queries": "30",
        "items": "4 9",
        "features": "12",
        "objectives": "3",
        "dense": "1",
        "clicks": "3",
        "seed": "5",
    }
    given = [word for name, value in flags.items() for word in (f"--{name}", *value.split())]
    assert cli.main(["data", "simulate", "--out", str(tmp_path / "data"), *given, "--json"]) == 0
    made = open_data(tmp_path / "data")
    assert made.manifest["origin"] == SMALL.origin
    assert json.loads(capsys.readouterr().out)["fingerprint"] == made.fingerprint
    assert cli.main(["data", "simulate", "--out", str(tmp_path / "no"), "--items", "9", "4", "--clicks", "0"]) == 2
    said = capsys.readouterr().err
    assert "got 9 and 4" in said
    assert "at least 1 draw" in said


def test_every_default_in_the_help_is_the_one_that_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "simulate", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    usual = Simulation()
    for name in ("queries", "features", "objectives", "clicks", "conflict", "seed"):
        part = shown.split(f"--{name} ")[-1].split(" --")[0]
        assert f"(default: {getattr(usual, name)})" in part, name
    assert f"(default: {usual.items[0]} {usual.items[1]})" in shown


def test_a_run_s_data_is_made_again_where_it_is_gone(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYPERDPO_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "run"
    shutil.copytree(trained.folder.path, copy)
    run = RankRun(copy)
    run.config["data"]["path"] = str(tmp_path / "gone")
    made = own_data(run)
    assert made.fingerprint == run.config["data"]["fingerprint"]
    assert made.path.parent == tmp_path / "cache"
