"""The baselines, each through the same train() and run folder: what they must be equal to, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import CLICKS, QUALITY, data, lists, padded

from hyperdpo.errors import ConfigError, Interrupted, RunError, WeightsError
from hyperdpo.methods import METHODS, TREES, MethodConfig
from hyperdpo.metrics import ndcg
from hyperdpo.objectives import Objective
from hyperdpo.rank import train as train_module
from hyperdpo.rank.batches import RankBatches
from hyperdpo.rank.card import model_card
from hyperdpo.rank.data import Task, write_folder
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.hypernetwork import HyperRanker
from hyperdpo.rank.live import LiveModel
from hyperdpo.rank.model import NetConfig, Ranker, ScoreNet
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.soup import Soup
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.rank.trees import LEVELS, TreeRanker, TreesConfig, TreeTraining, item_gains, mixed_labels
from hyperdpo.training import FitConfig, rng_for, seed_torch
from hyperdpo.weights import grid

NET = NetConfig(8, 1, 2, dropout=0.1)
QUICK = FitConfig(epochs=2, patience=2, batch_size=8, learning_rate=0.01)
FOREST = TreesConfig(rounds=4, patience=4, leaves=4, min_leaf=3, learning_rate=0.3)
BASELINES = tuple(m for m in METHODS if m != "hyperdpo")
ANY_WEIGHT = ("dpo-soup", "hypernetwork")
CONFIG = RankConfig(net=NET, fit=QUICK, base_fit=QUICK, base="column:score", beta=(0.5,))


def config(method: str, points: int = 3, **kw: Any) -> RankConfig:
    trees = {"trees": FOREST} if method in TREES else {}
    return replace(CONFIG, method=MethodConfig(method, points=points), **trees, **kw)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    return data(tmp_path_factory.mktemp("data") / "toy", base_column="score")


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RankRun]:
    out = tmp_path_factory.mktemp("runs")
    return {method: train(toy, config(method), out / method, device="cpu") for method in BASELINES}


def content(run: Path) -> dict[str, bytes]:
    files = [run / "model.safetensors", run / "per_query.safetensors", *sorted(run.glob("trees-*.txt"))]
    return {file.name: file.read_bytes() for file in files}


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return padded(lists((5, 1, 3, 7)))


def plain(state: dict[str, Tensor]) -> Ranker:
    """A single-weight network with the given weights."""
    ranker = Ranker(4, 2, "augmentation", NET, (0.5, 0.5), conditioned=False)
    ranker.load_state_dict(state)
    return ranker.eval()


# --- the run folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BASELINES)
def test_a_run_opens_again_and_gives_the_same_figures(toy, runs, method: str) -> None:
    run = runs[method]
    again = RankRun(run.folder.path)
    saved = run.folder.fronts()[0]
    assert saved.method == method
    assert (saved.models, saved.parameters) == (run.models, run.parameters) == (again.models, again.parameters)
    assert run.config["parameters"] == run.parameters
    (measured, *_) = evaluate_run(again, toy, points=3)
    assert measured.ndcg == pytest.approx(saved.ndcg, abs=1e-6)
    test = toy.lists("test")
    scores = again.score_lists(test, [0.5, 0.5], scale=2.0)
    assert torch.equal(scores, run.score_lists(test, [0.5, 0.5], scale=2.0))
    assert torch.allclose(scores, run.score_lists(test, [0.5, 0.5], beta=1.0), atol=1e-5), "eq. (15)"
    with pytest.raises(ConfigError, match=r"got 0.5, 1"):
        run.score_lists(test, [0.5, 0.5], beta=[0.5, 1.0])
    table, features = again.table(test)
    index = 0 if again.trained is None else 1
    live = LiveModel(again.rankers[index], table, features).residual([0.5, 0.5])
    assert table.lists.unpad(table.base + live / 2.0).tolist() == pytest.approx(scores.tolist(), abs=1e-4)


@pytest.mark.parametrize("method", BASELINES)
def test_the_weights_a_method_answers(toy, runs, method: str) -> None:
    run = runs[method]
    test = toy.lists("test")
    card = (run.folder.path / "README.md").read_text()
    if method in ANY_WEIGHT:
        assert run.trained is None
        assert run.config["weights"] is None
        assert len(run.rankers) == 1
        first, second = (run.score_lists(test, w) for w in ([0.4, 0.6], [0.6, 0.4]))
        assert not torch.equal(first, second)
        assert "none for others" not in card
    else:
        assert run.trained is not None
        assert run.trained.tolist() == run.config["weights"] == grid(2, 3).tolist()
        assert len(run.rankers) == 3
        with pytest.raises(WeightsError, match=rf"This {method} run has one model per weight and none for 0.4,0.6"):
            run.score_lists(test, [0.4, 0.6])
        assert "one model for each of 3 weights, and none for others: 1, 0; 0.5, 0.5; 0, 1." in card


def test_the_example_of_the_card_can_be_run(toy, runs) -> None:
    for run in runs.values():
        (line,) = (x for x in (run.folder.path / "README.md").read_text().splitlines() if x.startswith("scores = "))
        weights = json.loads(line[line.index("{") : line.index("}") + 1])
        assert len(run.score_lists(toy.lists("test"), weights)) > 0


def test_the_card_s_example_is_the_most_even_weight_there_is_a_model_for(runs) -> None:
    config = {**runs["dpo-ls"].config, "weights": [[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]]}
    assert 'run.score(features, {"clicks": 0.3, "quality": 0.7}, scale=1.0)' in model_card("x", config, [])


def test_mo_dpo_s_reward_models_do_not_answer(runs) -> None:
    run, x = runs["mo-dpo"], inputs()
    assert run.trained is not None
    for ranker, state, w in zip(run.rankers, run.folder.models()[2:], run.trained, strict=True):
        assert torch.equal(ranker(*x, w), plain(state)(*x, w))


def test_each_fit_says_which_model_it_was(runs) -> None:
    told = {method: [(t["model"], t["part"]) for t in run.config["training"]] for method, run in runs.items()}
    corners = [("objective 1 alone", True), ("objective 2 alone", True)]
    each = [(f"w = ({w})", False) for w in ("1.00, 0.00", "0.50, 0.50", "0.00, 1.00")]
    assert told["dpo-soup"] == corners
    assert told["mo-dpo"] == corners + each
    assert told["lambdamart"] == told["label-aggregation"] == told["dpo-ls"] == each
    assert told["hypernetwork"] == [("every w", False)]
    for run in runs.values():
        for key in ("seconds", "cpu_seconds"):
            assert run.config[key] == pytest.approx(sum(t[key] for t in run.config["training"]))
            assert min(t[key] for t in run.config["training"]) > 0


def test_a_damaged_forest_is_refused(toy, tmp_path: Path) -> None:
    run = train(toy, config("lambdamart"), tmp_path / "run", device="cpu")
    file = run.folder.path / "trees-01.txt"
    file.write_bytes(file.read_bytes().replace(b"leaf_value=", b"leaf_valuf=", 1))
    with pytest.raises(RunError, match=r"trees-01.txt was changed after it was written"):
        RankRun(run.folder.path)


# --- equivalences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dpo-soup", "mo-dpo", "hypernetwork", "lambdamart", "label-aggregation"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy, runs, tmp_path: Path, method: str) -> None:
    train(toy, config(method), tmp_path / "again", device="cpu")
    train(toy, config(method, seed=1), tmp_path / "other", device="cpu")
    first = content(runs[method].folder.path)
    assert content(tmp_path / "again") == first
    assert content(tmp_path / "other") != first


@pytest.mark.parametrize(
    ("method", "what", "at"),
    [
        ("dpo-soup", "model 2", 4),
        ("mo-dpo", "model 2", 6),  # the last step of the last reward model
        ("mo-dpo", "model 4", 2),
        ("hypernetwork", "model 1", 3),
        ("lambdamart", "model 2", 2),
        ("label-aggregation", "model 3", 1),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    toy, runs, tmp_path: Path, method: str, what: str, at: int
) -> None:
    def interrupt(name: str, done: int, total: int, loss: float) -> None:
        if name == what and done == at:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="--resume goes on"):
        train(toy, config(method), out, device="cpu", tick=interrupt)
    seen: set[str] = set()
    train(toy, config(method), out, device="cpu", resume=True, tick=lambda name, *_: seen.add(name))
    assert content(out) == content(runs[method].folder.path)
    finished = int(what.split()[1]) - 1
    assert not seen & {f"model {i + 1}" for i in range(finished)}, "finished models are kept"


def test_a_soup_at_a_corner_is_the_single_objective_model_exactly(runs) -> None:
    soup = runs["dpo-soup"]
    x = inputs()
    for state, w in zip(soup.folder.models(), torch.eye(2), strict=True):
        assert torch.equal(soup.rankers[0](*x, w), plain(state)(*x, w))
    alone = runs["dpo-ls"].rankers[0]  # trained for the first objective alone, by the same seeds
    assert torch.equal(soup.rankers[0](*x, torch.eye(2)[0]), alone(*x, torch.eye(2)[0]))


def test_a_soup_s_members_start_from_one_network(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[dict[str, Tensor]] = []

    def watch(model: Any, *args: Any, **kw: Any) -> Any:
        starts.append({k: v.clone() for k, v in model.state_dict().items()})
        return fit(model, *args, **kw)

    fit = train_module.fit
    monkeypatch.setattr(train_module, "fit", watch)
    train(toy, config("dpo-soup"), tmp_path / "soup", device="cpu")
    train(toy, config("mo-dpo"), tmp_path / "mo", device="cpu")
    same = [all(torch.equal(starts[0][k], s[k]) for k in s) for s in starts]
    assert same == [True, True, True, False, False, False, False]


def test_a_soup_of_equals_is_any_of_them_and_of_others_their_average() -> None:
    seed_torch(1)
    one, two = (Ranker(4, 2, "augmentation", NET, (0.5, 0.5), conditioned=False).eval() for _ in range(2))
    x, w = inputs(), torch.tensor([0.3, 0.7])
    assert torch.allclose(Soup([one, plain(one.state_dict())])(*x, w), one(*x, w), atol=1e-6)
    mean = {name: 0.3 * one.state_dict()[name] + 0.7 * two.state_dict()[name] for name in one.state_dict()}
    assert torch.allclose(Soup([one, two])(*x, w), plain(mean)(*x, w), atol=1e-6)
    with pytest.raises(ConfigError, match="A soup takes one w a batch"):
        Soup([one, two])(*x, w.expand(4, 2))


def test_mo_dpo_is_given_the_single_objective_models_residuals(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor | None] = []

    def watch(model: Any, loss: Any, batches: RankBatches, *args: Any, **kw: Any) -> Any:
        given.append(batches.rewards)
        return fit(model, loss, batches, *args, **kw)

    fit = train_module.fit
    monkeypatch.setattr(train_module, "fit", watch)
    run = train(toy, config("mo-dpo"), tmp_path / "run", device="cpu")
    assert given[:2] == [None, None]
    rewards = given[2]
    assert rewards is not None
    assert all(g is rewards for g in given[2:]), "computed once"
    table, features = run.table(toy.lists("train"))
    for j, (state, w) in enumerate(zip(run.folder.models()[:2], torch.eye(2), strict=True)):
        residual = LiveModel(plain(state), table, features).residual(w)
        assert rewards[:, j].tolist() == pytest.approx((0.5 * table.lists.unpad(residual)).tolist(), abs=1e-5)


def test_a_hypernetwork_at_one_w_is_a_plain_network_with_the_generated_weights(runs) -> None:
    (model,) = runs["hypernetwork"].rankers
    assert isinstance(model, HyperRanker)
    features, base, mask = inputs()
    residuals = []
    for w in torch.tensor([[1.0, 0.0], [0.3, 0.7]]):
        net = ScoreNet(4, NET)
        net.load_state_dict(model.generate(w))
        residuals.append(model(features, base, mask, w))
        assert torch.equal(residuals[-1], net.eval()(features, mask).squeeze(-1).masked_fill(~mask, 0.0))
    assert (residuals[0] - residuals[1]).abs().max() > 1e-4
    with pytest.raises(ConfigError, match="A hypernetwork takes one w a batch; train it with draw = step"):
        model(features, base, mask, w.expand(4, 2))


def test_a_hypernetwork_starts_as_an_ordinary_network_and_drops_out_in_training_alone() -> None:
    seed_torch(3)
    model = HyperRanker(4, 2, replace(NET, dropout=0.5), hidden=16)
    x, w = inputs(), torch.tensor([0.3, 0.7])
    ordinary = ScoreNet(4, NET).state_dict()
    for name, value in model.generate(w).items():
        if value.numel() > 30:
            assert 0.7 < float(value.detach().std() / ordinary[name].std()) < 1.4, name
    assert torch.equal(model.eval()(*x, w), model(*x, w))
    assert not torch.equal(model.train()(*x, w), model(*x, w))
    assert model.trunk[0].out_features == 16


def test_a_hypernetwork_draws_once_a_step_and_gives_a_residual(toy) -> None:
    resolved = config("hypernetwork", parametrisation="scratch").resolve(2)
    assert (resolved.method.draw, resolved.parametrisation) == ("step", "augmentation")
    assert config("lambdamart", parametrisation="scratch").resolve(2).parametrisation == "augmentation"
    assert config("mo-dpo", parametrisation="scratch").resolve(2).parametrisation == "scratch"


# --- forests ---------------------------------------------------------------------------------------------------------


def forest_batches(seed: int = 0) -> RankBatches:
    rolled = lists((6, 4, 5, 7) * 5, seed=seed, informative=False)
    return RankBatches(rolled, rolled.features, rolled.base, (CLICKS, QUALITY), batch_size=8)  # type: ignore[arg-type]


def test_weighted_labels_have_the_weighted_ndcg_as_their_dcg() -> None:
    batches, k, w = forest_batches(), 3, torch.tensor([0.3, 0.7])
    rolled = batches.lists
    mask = rolled.mask()
    labels = mixed_labels(item_gains(batches, k), rolled.sizes.numpy(), w, "lambdamart", rng_for(0))
    assert labels.dtype == np.int32
    assert 0 <= labels.min() < labels.max() <= LEVELS
    scores = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    expected = sum(
        w[j] * ndcg(scores, o.gains(rolled.pad(rolled.labels[:, 1 + j]), mask), mask, k).nan_to_num()
        for j, o in enumerate((CLICKS, QUALITY))
    )
    order = scores.masked_fill(~mask, -torch.inf).argsort(-1, descending=True)[:, :k]
    gains = rolled.pad(torch.from_numpy(labels) / LEVELS).gather(1, order)
    dcg = (gains / torch.log2(torch.arange(2.0, 2.0 + k))).sum(-1)
    assert dcg.tolist() == pytest.approx(expected.tolist(), abs=2 / LEVELS)


def test_drawn_labels_are_of_one_objective_a_list_and_as_often_as_w_says() -> None:
    batches = forest_batches()
    gains = item_gains(batches, 10)
    sizes = batches.lists.sizes.numpy()
    whole = [torch.from_numpy(np.rint(g.numpy() * LEVELS)) for g in gains.T]
    counts = np.zeros(2)
    for seed in range(100):
        labels = torch.from_numpy(
            mixed_labels(gains, sizes, torch.tensor([0.2, 0.8]), "label-aggregation", rng_for(seed))
        )
        for drawn, *options in zip(
            labels.split(sizes.tolist()), *(w.split(sizes.tolist()) for w in whole), strict=True
        ):
            which = [bool((drawn == option).all()) for option in options]
            assert any(which)
            if sum(which) == 1:
                counts += which
    assert counts[0] / counts.sum() == pytest.approx(0.2, abs=0.03)  # 2,000 draws: 3 standard errors


def test_at_a_corner_drawn_and_weighted_labels_grow_the_same_trees(runs) -> None:
    weighted, drawn = (content(runs[method].folder.path) for method in TREES)
    assert weighted["trees-00.txt"] == drawn["trees-00.txt"]
    assert weighted["trees-02.txt"] == drawn["trees-02.txt"]
    assert weighted["trees-01.txt"] != drawn["trees-01.txt"]


def test_drawn_labels_are_validated_on_weighted_ones() -> None:
    batches, w = forest_batches(), torch.tensor([0.4, 0.6])
    grow = TreeTraining("label-aggregation", batches, batches, FOREST, k=10)
    grow.fit(w, seed=0)
    labels = [
        mixed_labels(item_gains(batches, 10), batches.lists.sizes.numpy(), w, method, rng_for(0, 0))
        for method in ("label-aggregation", "lambdamart")
    ]
    for found, expected in zip(grow.data, labels, strict=True):
        assert found.get_label().tolist() == expected.tolist()


def test_trees_are_a_residual_on_the_base() -> None:
    """A base that ranks the labels perfectly leaves them less to do than one that ranks them the wrong way round."""
    batches, w = forest_batches(), torch.tensor([0.0, 1.0])
    quality = item_gains(batches, 10)[:, 1]
    sizes = []
    for sign in (1.0, -1.0):
        batches.base = sign * 20 * quality
        grow = TreeTraining("lambdamart", batches, batches, FOREST, k=10)
        model = TreeRanker(2, grow.fit(w, seed=0)[0])
        residual = model(*padded(batches.lists), w)
        sizes.append(float(residual[batches.lists.mask()].abs().mean()))
    assert sizes[0] < 0.2 * sizes[1]


def test_the_lists_are_binned_once_for_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the second booster is what a first one would have been."""
    import lightgbm

    binned: list[int] = []
    whole = lightgbm.Dataset.construct
    batches, weights = forest_batches(), grid(2, 3)

    def construct(self: Any) -> Any:
        if self._handle is None:
            binned.append(1)
        return whole(self)

    monkeypatch.setattr(lightgbm.Dataset, "construct", construct)
    grow = TreeTraining("lambdamart", batches, batches, FOREST, k=10)
    texts = [grow.fit(w, seed=5 + i)[0] for i, w in enumerate(weights)]
    assert len(binned) == 2
    fresh = TreeTraining("lambdamart", batches, batches, FOREST, k=10)
    assert fresh.fit(weights[2], seed=7)[0] == texts[2]


def test_a_forest_counts_its_leaves_and_thresholds(runs) -> None:
    run = runs["lambdamart"]
    texts = [(run.folder.path / f"trees-{i:02d}.txt").read_text() for i in range(3)]
    leaves = [int(line.split("=")[1]) for text in texts for line in text.splitlines() if line.startswith("num_leaves=")]
    assert max(leaves) > 1
    assert run.parameters == sum(2 * n - 1 for n in leaves)


def test_pads_and_lists_without_items_get_no_score(runs) -> None:
    model = runs["lambdamart"].rankers[0]
    features, base, mask = inputs()
    mask = mask.clone()
    mask[2] = False
    assert not model(features, base, mask, torch.tensor([1.0, 0.0]))[~mask].any()
    assert not model(features, base, torch.zeros_like(mask), torch.tensor([1.0, 0.0])).any()


@pytest.mark.parametrize("fields", [{"rounds": 0}, {"patience": 0}, {"leaves": 1}, {"min_leaf": 0}])
def test_forests_that_cannot_be(fields: dict[str, int]) -> None:
    (name,) = fields
    with pytest.raises(
        ConfigError, match=rf"{name} is \d or more; got {fields[name]}\..*\n?.*learning_rate is above 0"
    ):
        TreesConfig(**fields, learning_rate=0.0)  # type: ignore[arg-type]


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory):
    """Twelve lists of the shape of MSLR under the `mslr` preset: 131 features, five objectives."""
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d", "e")
    columns = {f"x{i}": rng.normal(size=48).astype(np.float32) for i in range(131)}
    columns |= {name: rng.uniform(0.1, 1, 48).astype(np.float32) for name in ("label", "score", *names)}
    return write_folder(
        tmp_path_factory.mktemp("wide") / "data",
        columns=columns,
        sizes=np.full(12, 4),
        qids=[f"q{i}" for i in range(12)],
        split=np.repeat([0, 1, 2], [6, 3, 3]).astype(np.uint8),
        task=Task(
            Objective("label", "label"),
            tuple(Objective(n, n) for n in names),
            tuple(f"x{i}" for i in range(131)),
            "score",
        ),
        name="wide",
        origin={"kind": "files"},
    )


@pytest.mark.parametrize(
    ("method", "parameters", "models"),
    [
        ("hyperdpo", 50_432, 1),
        ("dpo-ls", 551_232, 11),
        ("dpo-soup", 250_615, 5),
        ("mo-dpo", 801_792, 16),
    ],
)
def test_the_parameters_of_the_paper_s_table_1(wide, tmp_path: Path, method: str, parameters: int, models: int) -> None:
    paper = RankConfig(
        MethodConfig(method, draw="step"),  # type: ignore[arg-type]
        "scratch",
        NetConfig(),
        FitConfig(epochs=1, average=0.0),
        base="column:score",
    )
    run = train(wide, paper, tmp_path / "run", device="cpu")
    front = RankRun(tmp_path / "run").folder.fronts()[0]
    assert (run.parameters, run.config["parameters"], front.parameters) == (parameters,) * 3
    assert (run.models, run.config["models"], front.models) == (models,) * 3
    if method == "dpo-ls":
        assert parameters // models == 50_112 == sum(p.numel() for p in run.rankers[0].parameters())


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dpo-soup", "mo-dpo", "hypernetwork", "label-aggregation"])
def test_methods_of_several_objectives_refuse_one(toy, tmp_path: Path, method: str) -> None:
    alone = toy.with_task(objectives=["clicks"])
    with pytest.raises(ConfigError, match=rf"{method} combines several objectives; got 1: declare another"):
        train(alone, config(method), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_lambdamart_on_one_objective_is_lambdamart(toy, tmp_path: Path) -> None:
    run = train(toy.with_task(objectives=["clicks"]), config("lambdamart"), tmp_path / "run", device="cpu")
    assert run.models == 1


def test_mo_dpo_needs_one_beta(toy) -> None:
    with pytest.raises(ConfigError, match=r"mo-dpo needs one common beta.*got 0.5, 2; use --method dpo-ls"):
        config("mo-dpo", beta=(0.5, 2.0)).resolve(2)
    config("dpo-ls", beta=(0.5, 2.0)).resolve(2)


def test_options_of_another_method_are_refused_together() -> None:
    with pytest.raises(ConfigError) as caught:
        MethodConfig("mo-dpo", generator_width=8, penalty=0.1)
    assert "mo-dpo has no generator" in str(caught.value)
    assert "mo-dpo has no alignment penalty; got lambda 0.1" in str(caught.value)
    with pytest.raises(ConfigError, match="lambdamart has no alignment penalty"):
        MethodConfig("lambdamart", penalty=0.1)
    with pytest.raises(ConfigError, match="generator_width is 1 or more; got 0"):
        MethodConfig("hypernetwork", generator_width=0)
    with pytest.raises(ConfigError, match="dpo-ls grows no trees; options of trees are for lambdamart and label"):
        replace(config("dpo-ls"), trees=FOREST).resolve(2)
