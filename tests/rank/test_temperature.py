"""Any temperatures after training: the network that takes them, the mixture's solution, and who must refuse."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import data, lists, task

import hyperdpo
from hyperdpo.errors import ConfigError, Interrupted, WeightsError
from hyperdpo.implicit import implicit_residual
from hyperdpo.losses import objective_losses
from hyperdpo.methods import Member, MethodConfig, mean_losses, step_loss, validation_beta
from hyperdpo.rank.batches import RankBatches
from hyperdpo.rank.data import RankData
from hyperdpo.rank.demo import make_demo
from hyperdpo.rank.evaluate import evaluate_run, oracle_fronts
from hyperdpo.rank.live import ListTable, LiveModel
from hyperdpo.rank.model import ANY_BETA, PARAMETRISATIONS, NetConfig, Ranker
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig, rng_for, seed_torch
from hyperdpo.weights import draw_beta, grid, parse_beta

SIZES = (5, 1, 3, 7, 2, 4, 7, 6)
W = torch.tensor([0.3, 0.7])
OTHER = (0.4, 1.6)
QUICK = FitConfig(epochs=2, patience=2, batch_size=8, learning_rate=0.01)
CONFIG = RankConfig(
    method=MethodConfig(points=3), net=NetConfig(8, 1, 2), fit=QUICK, base_fit=QUICK, base="column:score", beta=(0.5,)
)


def ranker(parametrisation: str, beta: tuple[float, ...] = (0.5, 0.5)) -> Ranker:
    seed_torch(1)
    model = Ranker(4, 2, parametrisation, NetConfig(8, 1, 2), beta)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
    return model.eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    rolled = lists(SIZES)
    return rolled.pad(rolled.features), rolled.pad(rolled.base), rolled.mask()


def live(parametrisation: str) -> LiveModel:
    rolled = lists(SIZES)
    return LiveModel(ranker(parametrisation), ListTable(rolled, task(), rolled.base, (0.5, 0.5)), rolled.features)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> RankData:
    return data(tmp_path_factory.mktemp("data") / "toy", base_column="score")


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.25, 2.0, 3.7])
def test_eq_15_holds_by_construction(c: float) -> None:
    model, x = ranker("temperature"), inputs()
    beta = torch.tensor(OTHER)
    assert torch.allclose(model(*x, W, c * beta), model(*x, W, beta) / c, rtol=1e-4, atol=1e-5)


def test_the_direction_of_beta_matters_and_the_default_is_the_training_one() -> None:
    model, x = ranker("temperature", (0.5, 2.0)), inputs()
    assert torch.equal(model(*x, W), model(*x, W, torch.tensor([0.5, 2.0])))
    turned = model(*x, W, torch.tensor([2.0, 0.5]))
    assert (turned - turned.mean()).sub(model(*x, W) - model(*x, W).mean()).abs().max() > 1e-2


def test_at_one_common_beta_of_one_the_output_is_the_residual() -> None:
    model, (features, base, mask) = ranker("temperature", (1.0, 1.0)), inputs()
    rows = torch.cat([W.expand(8, 2), torch.zeros(8, 2)], -1)
    raw = model.net.head(model.net.encoder(features, mask, model.film(rows).view(-1, *model.stages))).squeeze(-1)
    assert torch.allclose(model(features, base, mask, W), raw.masked_fill(~mask, 0.0), atol=1e-6)


def test_every_list_has_its_own_temperatures() -> None:
    model, x = ranker("temperature"), inputs()
    betas = draw_beta(torch.tensor([0.5, 0.5]), 4.0, 8, rng_for(0))
    together = model(*x, W.expand(8, 2), betas)
    for i in range(8):
        assert torch.allclose(together[i], model(*x, W, betas[i])[i], atol=1e-5)


def test_the_step_is_the_loss_at_the_drawn_temperatures() -> None:
    """sum_j w_j CE(t_j, softmax(beta_j delta)) with each list's own w and beta, by a loop over the same draws."""
    rolled = lists((5, 3, 7, 4))
    batches = RankBatches(rolled, rolled.features, rolled.base, task().objectives, batch_size=4)
    (batch,) = batches.epoch(rng_for(0), 0, 0, 1)
    model, beta = ranker("temperature"), torch.tensor([0.5, 2.0])
    for draw in ("list", "step"):
        config = MethodConfig(draw=draw, beta_range=3.0)  # type: ignore[arg-type]
        loss = step_loss(config, Member(None, ""), beta=beta, coverage=batches.coverage, separable=False, tempered=True)
        rng, total = rng_for(5), 0.0
        count = 4 if draw == "list" else 1
        w = torch.from_numpy(rng.dirichlet([0.5, 0.5], size=count)).float().expand(4, 2)
        b = draw_beta(beta, 3.0, count, rng).expand(4, 2)
        assert (b / beta <= 3.0).all()
        assert (b / beta >= 1 / 3).all()
        for i in range(4):
            delta = model(*(v[i : i + 1] for v in batch.inputs), w[i], b[i])
            each = objective_losses(delta, batch.targets[i : i + 1], batch.mask[i : i + 1], b[i])
            total += float((w[i] * each).sum().detach()) / 4
        assert float(loss(model, batch, rng_for(5)).detach()) == pytest.approx(total, abs=1e-5)


def test_it_is_validated_at_the_training_beta_and_at_drawn_ones() -> None:
    weights, beta = validation_beta(MethodConfig(beta_range=2.0), grid(2, 3), torch.tensor([0.5, 2.0]))
    assert weights.tolist() == [*grid(2, 3).tolist()] * 2
    assert beta[:3].tolist() == [[0.5, 2.0]] * 3
    assert len({tuple(b) for b in beta.tolist()}) == 4
    assert torch.equal(beta, validation_beta(MethodConfig(beta_range=2.0), grid(2, 3), torch.tensor([0.5, 2.0]))[1])
    rolled = lists(SIZES)
    batches = RankBatches(rolled, rolled.features, rolled.base, task().objectives, batch_size=4)
    model = ranker("temperature", (0.5, 2.0))
    each = mean_losses(model, batches.once(), weights, beta)
    assert torch.allclose(each[:3], mean_losses(model, batches.once(), grid(2, 3), torch.tensor([0.5, 2.0])), atol=1e-6)
    alone = mean_losses(ranker("temperature", tuple(beta[4].tolist())), batches.once(), weights[4:5], beta[4])
    assert torch.allclose(each[4], alone[0], atol=1e-5)


@pytest.mark.parametrize("wrong", [0.5, 0.0, float("nan"), 1e9])
def test_a_range_of_temperatures_is_at_least_one(wrong: float) -> None:
    with pytest.raises(ConfigError, match="beta_range is from 1 to 100"):
        MethodConfig(beta_range=wrong)
    assert torch.equal(draw_beta(torch.tensor([0.5, 2.0]), 1.0, 1, rng_for(0))[0], torch.tensor([0.5, 2.0]))


def test_temperatures_that_differ_are_trained_saved_resumed_and_scored(toy: RankData, tmp_path: Path) -> None:
    config = replace(CONFIG, parametrisation="temperature", beta=(0.5, 1.5))
    whole = train(toy, config, tmp_path / "whole", device="cpu")

    def stop(name: str, done: int, total: int, loss: float) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(toy, config, tmp_path / "run", device="cpu", tick=stop)
    train(toy, config, tmp_path / "run", device="cpu", resume=True)
    name = "model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rolled = toy.lists("test")
    again = hyperdpo.load(tmp_path / "run")
    for beta in (None, "2,.3", {"clicks": 0.2}):
        scores = whole.score_lists(rolled, W, beta=beta)
        assert torch.equal(again.score_lists(rolled, W, beta=beta), scores)
    assert not torch.allclose(whole.score_lists(rolled, W, beta="2,.3"), whole.score_lists(rolled, W))


# --- one interface ---------------------------------------------------------------------------------------------------


def test_live_temperatures_of_the_mixture_are_the_implicit_solution() -> None:
    model, (features, base, mask) = live("mixture"), inputs()
    log_p = model.model.encode(features, base, mask).detach()
    expected, _ = implicit_residual(log_p, W, torch.tensor(OTHER), mask)
    assert torch.allclose(model.residual(W, OTHER), expected, atol=1e-5)
    cold = model.report.iterations
    model.residual([0.31, 0.69], OTHER)
    assert 0 < model.report.iterations < cold, "begun at the last position"
    turned = model.residual([0.31, 0.69], (1.6, 0.4))
    fresh, _ = implicit_residual(log_p, torch.tensor([0.31, 0.69]), torch.tensor([1.6, 0.4]), mask)
    assert torch.allclose(turned, fresh, atol=1e-4)
    assert torch.allclose(model.model(features, base, mask, W, torch.tensor(OTHER)), expected, atol=1e-5)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_multiples_of_the_training_beta_are_eq_15_for_everyone(parametrisation: str) -> None:
    model, x = live(parametrisation), inputs()
    trained = model.residual(W)
    assert torch.equal(model.residual(W, [0.5, 0.5]), trained)
    twice, direct = model.residual(W, [1.0, 1.0]), model.model(*x, W, torch.tensor([1.0, 1.0])).detach()
    real = x[2]
    for found in (twice, direct):
        assert torch.allclose(found[real], trained[real] / 2, atol=1e-5)
    assert torch.allclose(model.grid_residuals(3, [1.0, 1.0]), model.grid_residuals(3) / 2, atol=1e-5)


@pytest.mark.parametrize("parametrisation", sorted(set(PARAMETRISATIONS) - set(ANY_BETA)))
def test_who_cannot_answer_says_who_can(parametrisation: str) -> None:
    model = live(parametrisation)
    told = (
        r"answers multiples of its training beta \(0.5, 0.5\) only, by eq. \(15\); got 0.4, 1.6; .*mixture or temperat"
    )
    for ask in (lambda: model.residual(W, OTHER), lambda: model.grid_residuals(3, OTHER)):
        with pytest.raises(ConfigError, match=told):
            ask()
    with pytest.raises(ConfigError, match=told):
        model.model(*inputs(), W, torch.tensor(OTHER))


@pytest.mark.parametrize("parametrisation", ANY_BETA)
def test_a_point_and_a_grid_at_other_temperatures(parametrisation: str) -> None:
    model = live(parametrisation)
    whole = model.grid_residuals(3, OTHER)
    for i, w in enumerate(grid(2, 3)):
        assert torch.allclose(whole[i], model.residual(w, OTHER), atol=1e-4)
    point = model.point([0.5, 0.5], beta=OTHER, scale=2.0)
    assert point.beta == OTHER
    assert model.point([0.5, 0.5]).beta == (0.5, 0.5)
    at_training = objective_losses(whole[1] / 2, model.table.targets, model.table.mask, torch.tensor([0.5, 0.5]))
    informative = model.table.targets.sum(1) > 0
    for j in range(2):
        assert point.cross_entropy[j] == pytest.approx(float(at_training[informative[:, j], j].mean()), abs=1e-5)


@pytest.mark.parametrize("wrong", [(1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (1.0, 2.0, 3.0)])
def test_temperatures_are_above_zero_and_one_per_objective(wrong: tuple[float, ...]) -> None:
    with pytest.raises(WeightsError, match="beta is one number above 0, or 2 of them"):
        live("mixture").residual(W, wrong)


def test_reading_temperatures() -> None:
    names = ("clicks", "quality")
    assert parse_beta(".5,2", names, (1.0, 3.0)) == (0.5, 2.0)
    assert parse_beta("2", names, (1.0, 3.0)) == (2.0, 2.0)
    assert parse_beta("quality=.5", names, (1.0, 3.0)) == (1.0, 0.5)
    for text, told in (
        ("clics=1", r"No objective is called 'clics' \(did you mean 'clicks'"),
        ("clicks=1,clicks=2", "Each objective has one temperature; got 'clicks' twice"),
        ("clicks=x", "A temperature is a number; got 'x'"),
        ("clicks=1,2", "Either every temperature is named or none is"),
        ("0,1", "above 0"),
    ):
        with pytest.raises(WeightsError, match=told):
            parse_beta(text, names, (1.0, 3.0))


def test_a_run_is_measured_at_other_temperatures(toy: RankData, tmp_path: Path) -> None:
    mixture = train(toy, CONFIG, tmp_path / "mixture", device="cpu")
    augmented = train(toy, replace(CONFIG, parametrisation="augmentation"), tmp_path / "aug", device="cpu")
    own, base = evaluate_run(mixture, toy, points=3, beta="quality=2")
    assert own.beta == base.beta == (0.5, 2.0)
    table, features = mixture.table(toy.lists("test"))
    expected = LiveModel(mixture.rankers[0], table, features).point([0.5, 0.5], beta=(0.5, 2.0))
    assert own.ndcg[1].tolist() == pytest.approx(expected.ndcg.tolist(), abs=1e-6)
    assert evaluate_run(mixture, toy, points=3)[0].beta == (0.5, 0.5)
    with pytest.raises(ConfigError, match="'augmentation' answers multiples"):
        evaluate_run(mixture, toy, points=3, beta="quality=2", baselines=[augmented])
    rolled = toy.lists("test")
    scores = mixture.score_lists(rolled, W, beta=(0.5, 2.0))
    padded = LiveModel(mixture.rankers[0], table, features).residual(W, (0.5, 2.0)) + table.base
    assert torch.allclose(scores, rolled.unpad(padded), atol=1e-4)
    one = slice(int(rolled.offsets[0]), int(rolled.offsets[1]))
    x, column = rolled.features[one].numpy(), rolled.base[one].numpy()
    single = mixture.score(x, W, beta={"quality": 2.0}, base=column)
    assert np.allclose(single, scores[one].numpy(), atol=1e-4)
    with pytest.raises(ConfigError, match="'augmentation' answers multiples"):
        augmented.score(x, W, beta=[0.5, 2.0], base=column)
    assert isinstance(mixture, RankRun)


def test_the_oracle_stands_at_the_temperatures_asked_for(tmp_path: Path) -> None:
    demo = make_demo(tmp_path / "demo", queries=60).with_task(objectives=["clicks", "freshness"])
    rolled = demo.lists("test")
    table = ListTable(rolled, demo.task, torch.zeros(len(rolled.labels)), (1.0, 1.0))
    same, free = oracle_fronts(demo, table, split="test", points=3)
    tilted, still = oracle_fronts(demo, table, split="test", points=3, beta=(0.5, 2.0))
    assert (same.beta, tilted.beta) == ((1.0, 1.0), (0.5, 2.0))
    assert free.ndcg.tolist() == still.ndcg.tolist()
    assert np.allclose(tilted.residuals[0], same.residuals[0] / 0.5, atol=1e-4), "a corner has one temperature"
    shared = ListTable(rolled, demo.task, torch.zeros(len(rolled.labels)), (0.5, 2.0))
    assert np.allclose(oracle_fronts(demo, shared, split="test", points=3)[0].residuals, tilted.residuals, atol=1e-5)


@pytest.mark.parametrize("method", ["dpo-ls", "dpo-soup", "hypernetwork"])
def test_baselines_answer_multiples_and_refuse_the_rest(toy: RankData, tmp_path: Path, method: str) -> None:
    draw = "step" if method == "hypernetwork" else "list"
    config = replace(CONFIG, method=MethodConfig(method, points=3, draw=draw))  # type: ignore[arg-type]
    done = train(toy, config, tmp_path / "run", device="cpu")
    rolled = toy.lists("test")
    corner = torch.tensor([1.0, 0.0])
    twice = done.score_lists(rolled, corner, beta=1.0)
    assert torch.allclose(twice, done.score_lists(rolled, corner, scale=2.0), atol=1e-5)
    front = evaluate_run(done, toy, points=3, beta=1.0)[0]
    assert np.allclose(front.ndcg, evaluate_run(done, toy, points=3, scale=2.0)[0].ndcg, atol=1e-6)
    with pytest.raises(ConfigError, match="answers multiples of its training beta"):
        done.score_lists(rolled, corner, beta="quality=2")
    with pytest.raises(ConfigError, match="answers multiples of its training beta"):
        evaluate_run(done, toy, points=3, beta="quality=2")
