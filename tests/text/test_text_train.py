"""Training: four methods through one fit(), equivalences, the cache of base scores, and figures beside chance."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, RunError, WeightsError
from hyperdpo.losses import distillation_loss
from hyperdpo.methods import Draw, Member, MethodConfig, step_loss
from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences, part_of_run
from hyperdpo.text.evaluate import TextTable, decoding_front, evaluate_run, measured_front
from hyperdpo.text.generate import Sampling, answers, prompt_ids
from hyperdpo.text.labels import Labels
from hyperdpo.text.model import PromptConfig, TextModel, average_replicas, load_frozen
from hyperdpo.text.prompt import gates
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TextBatches, Tokens, tokenise
from hyperdpo.text.train import METHODS, TextConfig, train
from tests.text.conftest import QUICK, TOKENS, toy_preferences
from tests.text_helpers import tiny_model, tiny_tokenizer

CONFIG = TextConfig(fit=QUICK, tokens=TOKENS)


def trained(folder: Path, out: Path, config: TextConfig = CONFIG, **options: object) -> TextRun:
    return train(toy_preferences(), str(folder), config, out, device="cpu", **options)  # type: ignore[arg-type]


def same_weights(a: TextRun, b: TextRun) -> bool:
    pairs = zip(a.folder.models(), b.folder.models(), strict=True)
    return all(torch.equal(x[k], y[k]) for x, y in pairs for k in x)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_measures_and_answers(method: str, model_folder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, method=MethodConfig(method=method, points=3), fit=replace(QUICK, epochs=1))  # type: ignore[arg-type]
    run = trained(model_folder, tmp_path / "run", config)
    assert run.config["models"] == {"hyperdpo": 1, "dpo-ls": 3, "dpo-soup": 2, "mo-dpo": 5}[method]
    front, base = run.folder.fronts()
    assert front.metric == "cross-entropy"
    assert len(front.ndcg) == 3
    np.testing.assert_allclose(base.cross_entropy, math.log(3), rtol=1e-6)
    assert base.hypervolume == pytest.approx((1.1 * math.log(3) / math.log(2) - math.log(3)) ** 2)
    first = TextTable(run, toy_preferences().split(0)["test"]).measure(run, torch.tensor([1.0, 0.0]))
    corner = np.flatnonzero((front.weights == [1, 0]).all(1))[0]
    np.testing.assert_allclose(first.cross_entropy, front.cross_entropy[corner], rtol=1e-5)  # type: ignore[index]
    if method in ("dpo-ls", "mo-dpo"):
        with pytest.raises(WeightsError, match="only at the 3 weights"):
            run.at(torch.tensor([0.3, 0.7]))
    else:
        run.at(torch.tensor([0.3, 0.7]))


def test_training_lowers_the_cross_entropy_of_what_w_asks_for(model_folder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, fit=replace(QUICK, epochs=6, patience=6), beta=(0.5,))
    many = toy_preferences(60)
    run = train(many, str(model_folder), config, tmp_path / "run", device="cpu")
    table = TextTable(run, many.split(0)["train"])
    ends = [table.measure(run, w).cross_entropy for w in torch.eye(2)]
    assert ends[0][0] < math.log(3) - 0.02
    assert ends[1][1] < math.log(3) - 0.02
    assert ends[0][0] < ends[1][0]
    assert ends[1][1] < ends[0][1]


def test_an_anchor_keeps_lists_as_likely_as_the_base_finds_them(
    model_folder: Path, run: TextRun, tmp_path: Path
) -> None:
    held = trained(model_folder, tmp_path / "run", replace(CONFIG, anchor=2.0))
    assert held.config["anchor"] == 2.0
    means = [float(np.mean(r.folder.fronts()[0].residuals)) for r in (run, held)]  # type: ignore[arg-type]
    assert means[1] > means[0] + 0.1
    with pytest.raises(ConfigError, match=r"anchor is 0 or more; got -1\.0"):
        replace(CONFIG, anchor=-1.0).resolve(2)


def test_accumulated_gradients_equal_whole_batches(model_folder: Path, run: TextRun, tmp_path: Path) -> None:
    parts = trained(model_folder, tmp_path / "run", replace(CONFIG, micro=1))
    for a, b in zip(run.folder.models(), parts.folder.models(), strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=2e-3, rtol=1e-2)


def test_the_same_seed_twice_gives_the_same_bytes(model_folder: Path, run: TextRun, tmp_path: Path) -> None:
    assert same_weights(run, trained(model_folder, tmp_path / "run"))


def test_resumed_equals_uninterrupted(model_folder: Path, run: TextRun, tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop(what: str, done: int, total: int, loss: float) -> None:
        if what == "model 1" and done == 4:
            raise EnoughError

    with pytest.raises(EnoughError):
        trained(model_folder, tmp_path / "run", tick=stop)
    with pytest.raises(RunError, match="--resume"):
        trained(model_folder, tmp_path / "run")
    with pytest.raises(RunError, match=r"beta: \[0.1, 0.1\] then, \[0.2, 0.2\] now"):
        trained(model_folder, tmp_path / "run", replace(CONFIG, beta=(0.2,)), resume=True)
    assert same_weights(run, trained(model_folder, tmp_path / "run", resume=True))


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_trained_in_fp32_and_said_where_the_cpu_would_emulate_it(
    native: bool, model_folder: Path, run: TextRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdpo.text.train.computes_bf16", lambda: native)
    lines: list[str] = []
    half = trained(model_folder, tmp_path / "half", replace(CONFIG, precision="bf16"), log=lines.append)
    assert half.config["precision"] == ("bf16" if native else "fp32")
    assert same_weights(run, half) != native
    assert any("no instructions for bf16" in line for line in lines) != native


def test_seeds_share_their_test_prompts(model_folder: Path, tmp_path: Path) -> None:
    run = trained(model_folder, tmp_path / "run", replace(CONFIG, seed=3, split_seed=1, fit=replace(QUICK, epochs=1)))
    toys = toy_preferences()
    for split in ("train", "test"):
        assert part_of_run(run.config, toys, split).prompts == toys.split(1)[split].prompts
    assert part_of_run(run.config, toys, "all") is toys
    assert run.folder.fronts()[0].data == toys.split(1)["test"].fingerprint


def test_base_scores_are_computed_once(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERDPO_CACHE", str(tmp_path / "cache"))
    lines: list[str] = []
    one = trained(model_folder, tmp_path / "a", log=lines.append)
    two = trained(model_folder, tmp_path / "b", log=lines.append)
    assert sum("computed once" in line for line in lines) == 1
    assert sum("taken from" in line for line in lines) == 1
    assert same_weights(one, two)
    assert one.config["base_seconds"] == two.config["base_seconds"]


def test_another_base_is_refused_by_its_hash(run: TextRun, tmp_path: Path) -> None:
    tiny_model(seed=5).save_pretrained(tmp_path)
    tiny_tokenizer(front=True).save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"another base than .* \(hash"):
        _ = TextRun(run.folder.path, base=tmp_path).model


def test_a_run_moves_with_its_base_inside(run: TextRun, tmp_path: Path, model_folder: Path) -> None:
    import shutil

    shutil.copytree(run.folder.path, tmp_path / "moved")
    shutil.copytree(model_folder, tmp_path / "moved" / "base")
    moved = TextRun(tmp_path / "moved")
    assert moved.base_path == str(tmp_path / "moved" / "base")
    assert moved.model is not None


def test_an_objective_looks_only_at_the_responses_it_has_scored() -> None:
    objectives = (Objective("a", "a"), Objective("b", "b"))
    texts = (("x", "y", "z"),)
    full = Preferences(("p",), texts, (np.array([[1.0, 2.0], [3.0, np.nan], [2.0, 1.0]]),), objectives)
    without = Preferences(("p",), (("x", "z"),), (np.array([[1.0, 2.0], [2.0, 1.0]]),), objectives)
    delta = np.array([0.5, 4.0, -1.0])
    found = Labels(full, (0.7, 0.7)).from_residuals(delta)
    alone = Labels(without, (0.7, 0.7)).from_residuals(delta[[0, 2]])
    scale = math.log(2) / math.log(3)  # the objectives see 3 and 2 responses: both on the pairs' scale
    three = delta - np.log(np.exp(0.7 * delta).sum()) / 0.7
    targets = full.target_distributions()[0][0][:, 0].numpy()
    assert found.losses[0, 0] == pytest.approx(-scale * 0.7 * (targets * three).sum(), rel=1e-5)
    assert found.losses[0, 1] == pytest.approx(alone.losses[0, 1], rel=1e-6)
    assert found.correct.tolist() == [[1.0, 1.0]]  # of x and z, x is on top; y, which b has not seen, does not count
    assert Labels(full, (0.7, 0.7)).chance == pytest.approx(math.log(2))


def test_training_neither_lifts_nor_lowers_what_an_objective_has_not_scored(model_folder: Path) -> None:
    scores = (np.array([[1.0, 2.0], [3.0, np.nan], [2.0, 1.0]]),)
    preferences = Preferences(("Once",), (("upon", "a", "time"),), scores, (Objective("a", "a"), Objective("b", "b")))
    lists = tokenise(preferences, tiny_tokenizer(), TOKENS)
    batch = TextBatches(lists, batch_size=1).batch(np.array([0]), total=1)
    for w, moved in ((torch.tensor([0.0, 1.0]), False), (torch.tensor([0.5, 0.5]), True)):
        residual = torch.zeros(1, 3, requires_grad=True)
        loss = step_loss(
            MethodConfig(method="dpo-ls"), Member(w, ""), beta=torch.ones(2), coverage=torch.ones(2), separable=False
        )
        loss(lambda *_, r=residual: r, batch, np.random.default_rng(0)).backward()  # type: ignore[arg-type, misc]
        assert residual.grad is not None
        assert bool(residual.grad[0, 1] != 0) is moved


def test_a_split_list_is_answered_at_every_corner_by_its_ends_alone() -> None:
    scores = (np.array([[1.0, 4.0], [2.0, 3.0], [3.0, 1.0], [4.0, 2.0]]),)
    objectives = (Objective("a", "a"), Objective("b", "b"))
    preferences = Preferences(("Once",), (("upon", "a", "time", "there"),), scores, objectives)
    lists = tokenise(preferences, tiny_tokenizer(), TOKENS)
    batch = TextBatches(lists, batch_size=1).batch(np.array([0]), total=1)
    # At corner j response i gets the residual i + 10 j, whatever its place in the part: told apart by its tokens.
    known = {tuple(row.tolist()): float(i) for i, row in enumerate(batch.tokens.ids[0])}
    asked = []

    def model(tokens: Tokens, base: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        assert mask.all()
        asked.append(weights)
        at = torch.tensor([[known[tuple(row.tolist())] for row in part] for part in tokens.ids])
        return at + 10 * weights[:, 1:]

    beta = torch.tensor([0.5, 2.0])
    loss = step_loss(
        MethodConfig(draw="split"), Member(None, ""), beta=beta, coverage=torch.tensor([1.0, 0.5]), separable=False,
        anchor=0.3,
    )(model, batch, np.random.default_rng(0))  # type: ignore[arg-type]  # fmt: skip
    assert sorted(asked[0].tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    targets = preferences.target_distributions()[0][0].numpy()
    expected = 0.0
    for j, (best, worst), coverage in ((0, (3, 0), 1.0), (1, (0, 2), 0.5)):
        t = targets[[best, worst], j] / targets[[best, worst], j].sum()
        residual = np.array([best, worst]) + 10.0 * j
        logits = float(beta[j]) * residual
        entropy = -(t * (logits - np.log(np.exp(logits).sum()))).sum()
        expected += 0.5 * (entropy / coverage - 0.3 * float(beta[j]) * residual.mean())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def changes(state: dict[str, Tensor], weights: Tensor) -> list[Tensor]:
    """B diag(g) A of every adapted layer at one w, without LoRA's scale, which replicas leave as it is."""
    factors = [(a, state[name.replace("lora_A", "lora_B")]) for name, a in sorted(state.items()) if "lora_A" in name]
    return [b @ (gates(weights, len(a) // len(weights)).unsqueeze(-1) * a) for a, b in factors]


def test_replicas_are_one_model_with_the_mean_of_their_changes(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, replicas=2, fit=replace(QUICK, epochs=1))
    seen = []

    def noted(states: list[dict[str, Tensor]], groups: int) -> dict[str, Tensor]:
        seen.extend(states)
        return average_replicas(states, groups)

    monkeypatch.setattr("hyperdpo.text.train.average_replicas", noted)
    run = trained(model_folder, tmp_path / "both", config)
    alone = trained(model_folder, tmp_path / "alone", replace(config, replicas=1))
    assert all(torch.equal(seen[0][name], value) for name, value in alone.folder.models()[0].items())
    assert run.config["models"] == 1
    assert [t["model"] for t in run.config["training"]] == ["every w", "every w"]
    assert run.config["prompt"]["lora_rank"] == 2 * alone.config["prompt"]["lora_rank"]
    assert run.config["parameters"] == sum(x.numel() for x in run.model.trained().values())
    [mean], weights, prefix = run.folder.models(), torch.tensor([0.3, 0.7]), "prompt.prefix"
    for change, *each in zip(*(changes(state, weights) for state in (mean, *seen)), strict=True):
        assert float((each[0] - each[1]).abs().max()) > 0
        torch.testing.assert_close(change, (each[0] + each[1]) / 2)
    torch.testing.assert_close(mean[prefix], (seen[0][prefix] + seen[1][prefix]) / 2)
    again = trained(model_folder, tmp_path / "again", config)
    assert same_weights(run, again)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, replicas=0), "replicas is 1 or more trainings; got 0"),
        (replace(CONFIG, replicas=2, method=MethodConfig(method="dpo-ls")), "got 2 of dpo-ls"),
        (replace(CONFIG, replicas=2, prompt=PromptConfig(conditioning="prompt")), "got 2 with the prompt alone"),
    ],
)
def test_replicas_that_cannot_be_averaged_are_refused(config: TextConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.resolve(2)


MIDDLE = torch.tensor([0.5, 0.5])


def apart(table: TextTable, run: TextRun, wanted: np.ndarray, w: Tensor) -> float:
    """How far a run at w is from the residuals that are wanted there, less what is common to a list."""
    error = (table.measure(run, w).residuals - wanted).reshape(-1, 3)
    return float(np.square(error - error.mean(1, keepdims=True)).mean())


def test_distilling_moves_what_lies_between_to_the_sum_of_the_corners(model_folder: Path, tmp_path: Path) -> None:
    lists, config = toy_preferences(40), replace(CONFIG, beta=(0.5,), fit=replace(QUICK, epochs=4, patience=4))
    plain = train(lists, str(model_folder), config, tmp_path / "plain", device="cpu")
    taught = train(lists, str(model_folder), replace(config, distil=6), tmp_path / "taught", device="cpu")
    assert [t["model"] for t in taught.config["training"]] == ["every w", "what its corners add up to"]
    assert taught.config["cpu_seconds"] == pytest.approx(sum(t["cpu_seconds"] for t in taught.config["training"]))
    assert taught.config["models"] == 1
    assert taught.config["prompt"] == plain.config["prompt"]
    table = TextTable(plain, lists.split(0)["train"])
    corners = [table.measure(plain, w).residuals for w in torch.eye(2)]
    summed = np.mean(corners, 0)
    before, after = apart(table, plain, summed, MIDDLE), apart(table, taught, summed, MIDDLE)
    assert after < 0.6 * before
    for w, corner in zip(torch.eye(2), corners, strict=True):
        assert apart(table, taught, corner, w) < before, "the corners are kept"
    assert not same_weights(plain, taught)


def test_what_is_taught_is_the_mean_of_all_trainings_and_a_stop_in_it_is_gone_on_from(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EnoughError(Exception):
        pass

    def stop(what: str, done: int, total: int, loss: float) -> None:
        if what == "model 3" and done == 3:
            raise EnoughError

    config = replace(CONFIG, beta=(0.1, 0.3), replicas=2, distil=2, fit=replace(QUICK, epochs=1))
    states: list[dict[str, Tensor]] = []
    rewards: list[Tensor] = []

    def noted(each: list[dict[str, Tensor]], groups: int) -> dict[str, Tensor]:
        states[:] = each
        return average_replicas(each, groups)

    def spied(residual: Tensor, given: Tensor, mask: Tensor, w: Tensor, beta: Tensor) -> Tensor:
        rewards.append(given)
        return distillation_loss(residual, given, mask, w, beta)

    monkeypatch.setattr("hyperdpo.text.train.average_replicas", noted)
    monkeypatch.setattr("hyperdpo.text.train.distillation_loss", spied)
    whole = trained(model_folder, tmp_path / "whole", config)
    assert whole.config["prompt"]["lora_rank"] == 2 * config.prompt.lora_rank
    [final], mean = whole.folder.models(), average_replicas(states, 2)
    for name in (x for x in final if ".lora_A." in x):
        moved, other = (
            float((final[name] - mean[name]).abs().max()),
            float((mean[name] - mean[name].flip(0)).abs().max()),
        )
        assert moved < 0.1 * other, "it starts from the trainings' mean"
    backbone, _ = load_frozen(str(model_folder), half=False)
    model = TextModel(backbone, 2, config.prompt, conditioned=True).eval()
    table = TextTable(whole, toy_preferences().split(0)["train"])
    expected = []
    for j, beta in enumerate(whole.beta):
        each = []
        for state in states:
            model.load_trained(state)
            with torch.no_grad():
                each.append(table.batches.each(lambda batch, j=j: model(*batch.inputs, torch.eye(2)[j])))  # type: ignore[misc]
        expected.append(beta * torch.stack(each).mean(0))
    seen = torch.cat([given.flatten(0, 1) for given in rewards])
    for row in torch.stack(expected, -1):
        assert float((seen - row).abs().amax(1).min()) < 1e-4
    with pytest.raises(EnoughError):
        trained(model_folder, tmp_path / "stopped", config, tick=stop)
    with pytest.raises(RunError, match="distil: 2 then, 3 now"):
        trained(model_folder, tmp_path / "stopped", replace(config, distil=3), resume=True)
    assert same_weights(whole, trained(model_folder, tmp_path / "stopped", config, resume=True))


@pytest.mark.parametrize(
    ("config", "m", "said"),
    [
        (replace(CONFIG, distil=-1), 2, "distil is 0 or more passes; got -1"),
        (replace(CONFIG, distil=2, method=MethodConfig(method="dpo-ls")), 2, "got 2 passes for dpo-ls"),
        (replace(CONFIG, distil=2), 1, "With one objective there is nothing between corners; got distil 2"),
    ],
)
def test_what_cannot_be_distilled_is_refused(config: TextConfig, m: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.resolve(m)


@pytest.mark.parametrize(("n", "draw", "said"), [(3, "split", True), (4, "split", False), (3, "corners", False)])
def test_lists_too_short_to_be_split_are_counted(
    n: int, draw: Draw, said: bool, model_folder: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    lists, config = toy_preferences(n=n), replace(CONFIG, method=MethodConfig(draw=draw), fit=replace(QUICK, epochs=1))
    train(lists, str(model_folder), config, tmp_path / "run", device="cpu", log=lines.append)
    count = len(lists.split(0)["train"])
    expected = f"{count} of {count} training lists are too short to be split over their objectives"
    assert any(line.startswith(expected) for line in lines) is said


@torch.no_grad()
def test_corners_train_the_mean_of_what_each_objective_alone_would(model_folder: Path) -> None:
    lists = tokenise(toy_preferences(n=3), tiny_tokenizer(), TOKENS)
    batches = TextBatches(lists, batch_size=4)
    model = TextModel(load_frozen(str(model_folder), half=False)[0], 2, conditioned=True)
    beta = torch.tensor([0.5, 2.0])

    def loss(method: MethodConfig, member: Member) -> float:
        step = step_loss(method, member, beta=beta, coverage=batches.coverage, separable=False, anchor=0.3)
        batch = batches.batch(np.arange(4), total=4)
        return float(step(model, batch, np.random.default_rng(0)))

    alone = [loss(MethodConfig(method="dpo-soup"), Member(w, "")) for w in torch.eye(2)]
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert loss(MethodConfig(draw="corners"), Member(None, "")) == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_split_lists_accumulate_and_repeat(model_folder: Path, tmp_path: Path) -> None:
    lists, config = toy_preferences(n=4), replace(CONFIG, method=MethodConfig(draw="split"))
    whole, again, parts = (
        train(lists, str(model_folder), replace(config, micro=micro), tmp_path / name, device="cpu")
        for name, micro in (("whole", 0), ("again", 0), ("parts", 1))
    )
    assert same_weights(whole, again)
    for a, b in zip(whole.folder.models(), parts.folder.models(), strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=2e-3, rtol=1e-2)


def test_figures_by_hand(run: TextRun) -> None:
    table = TextTable(run, toy_preferences().split(0)["test"])
    delta = np.random.default_rng(0).normal(size=table.lists.items)
    found = table.from_residuals(delta, scale=2.0)
    targets, _ = table.preferences.target_distributions()
    start, losses, correct = 0, [], []
    for t in targets:
        d = delta[start : start + len(t)] / 2
        start += len(t)
        q = np.exp(0.1 * d) / np.exp(0.1 * d).sum()
        losses.append([-sum(float(t[i, j]) * math.log(q[i]) for i in range(len(t))) for j in range(2)])
        correct.append([float(t[d.argmax(), j] == t[:, j].max()) for j in range(2)])
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.correct, correct)
    low, high = np.percentile(delta / 2, [25, 75])
    assert found.spread == pytest.approx(high - low, rel=1e-5)
    assert (table.floor <= found.cross_entropy).all()


def test_lists_of_mixed_length_are_measured_on_the_scale_of_pairs(run: TextRun) -> None:
    three, two = toy_preferences(6, n=3), toy_preferences(6, n=2, seed=1)
    mixed = type(three)(
        three.prompts + two.prompts, three.responses + two.responses, three.scores + two.scores, three.objectives
    )
    table = TextTable(run, mixed)
    np.testing.assert_allclose(table.base().cross_entropy, math.log(2), rtol=1e-6)
    assert table.reference == pytest.approx(1.1)
    np.testing.assert_allclose(TextTable(run, three).base().cross_entropy, math.log(3), rtol=1e-6)


def test_evaluation_keeps_baselines_and_refuses_strangers(run: TextRun, model_folder: Path, tmp_path: Path) -> None:
    soup = trained(model_folder, tmp_path / "soup", replace(CONFIG, method=MethodConfig(method="dpo-soup")))
    mine = trained(model_folder, tmp_path / "mine")
    names = [f.name for f in evaluate_run(mine, toy_preferences(), baselines=[soup], save=True)]
    assert names == ["HyperDPO", "DPO Soup", "Base"]
    assert [f.name for f in evaluate_run(mine, toy_preferences(), save=True)] == names
    assert "DPO Soup" in (mine.folder.path / "README.md").read_text()
    with pytest.raises(ConfigError, match="trained on upbeat, concise; the data has upbeat, concise, vivid"):
        evaluate_run(mine, toy_preferences(m=3))
    with pytest.raises(ConfigError, match=r"--split is train, validation, test or all; got 'tset'"):
        evaluate_run(mine, toy_preferences(), split="tset")


def test_decoding_mixes_the_logits_of_the_single_objective_models(model_folder: Path, tmp_path: Path) -> None:
    soup = trained(model_folder, tmp_path / "soup", replace(CONFIG, method=MethodConfig(method="dpo-soup", points=3)))
    table = TextTable(soup, toy_preferences().split(0)["test"])
    front = decoding_front(soup, table, split="test", points=3)
    for j, w in enumerate(torch.eye(2)):  # at a corner it is that corner's model
        row = np.flatnonzero((front.weights == w.numpy()).all(1))[0]
        assert front.cross_entropy is not None
        np.testing.assert_allclose(front.cross_entropy[row], table.measure(soup, w).cross_entropy, rtol=1e-5)
        assert j == int(front.weights[row].argmax())
    middle = np.flatnonzero((front.weights == 0.5).all(1))[0]
    batch = table.batches.batch(np.array([0]), total=1)
    ids, attention, scored = (x[0, 0] for x in batch.tokens)
    logits = []
    for w in torch.eye(2):
        model = soup.at(w)
        with torch.no_grad():
            embedded, seen = model.with_prefix(model.embed(ids[None]), attention[None], None)
            logits.append(model.backbone(inputs_embeds=embedded, attention_mask=seen.long()).logits[0, 8:])
    log_p = ((logits[0] + logits[1]) / 2).log_softmax(-1)
    slow = sum(float(log_p[t - 1, ids[t]]) for t in range(1, len(ids)) if scored[t]) - float(batch.inputs[1][0, 0])
    assert front.residuals is not None
    assert front.residuals[middle][0] == pytest.approx(slow, abs=1e-3)


def test_multi_objective_decoding_draws_from_the_mixed_logits(model_folder: Path, tmp_path: Path) -> None:
    soup = trained(model_folder, tmp_path / "soup", replace(CONFIG, method=MethodConfig(method="dpo-soup", points=3)))
    greedy = Sampling(6, temperature=0.0)
    corner, middle = torch.tensor([0.0, 1.0]), torch.tensor([0.3, 0.7])
    mixed = answers(soup, "Once upon", [corner, middle, None], sampling=greedy, decoding=True)
    assert mixed[0].ids == answers(soup, "Once upon", [corner], sampling=greedy)[0].ids
    assert mixed[2].ids == answers(soup, "Once upon", [None], sampling=greedy)[0].ids
    for scale in (1.0, 2.0):
        [answer] = answers(soup, "Once upon", [middle], scale=scale, sampling=greedy, decoding=True)
        ids = list(prompt_ids(soup.tokenizer, "Once upon", soup.tokens, None))
        for token in answer.ids:
            assert int(slow_mixture(soup, ids, middle, scale).argmax()) == token
            ids.append(token)
    mine = trained(model_folder, tmp_path / "mine")
    with pytest.raises(ConfigError, match="Multi-objective decoding mixes single-objective models"):
        answers(mine, "Once upon", [corner], decoding=True)


def slow_mixture(soup: TextRun, ids: list[int], weights: torch.Tensor, scale: float) -> torch.Tensor:
    """Next-token logits without a cache: sum_j w_j of the models', and eq. (15) with the base's."""
    tokens = torch.tensor([ids])
    logits = torch.zeros(1)
    with torch.no_grad():
        for w, corner in zip(weights, torch.eye(2), strict=True):
            model = soup.at(corner)
            embedded, _ = model.with_prefix(model.embed(tokens), torch.ones_like(tokens, dtype=torch.bool), None)
            logits = logits + w * model.backbone(inputs_embeds=embedded).logits[0, -1]
        with model.as_base():
            base = model.backbone(inputs_embeds=model.embed(tokens)).logits[0, -1]
    return (1 - 1 / scale) * base + logits / scale


def test_a_front_refuses_an_objective_without_information(run: TextRun) -> None:
    table = TextTable(run, toy_preferences().split(0)["test"])
    found = table.base()
    broken = replace(found, losses=np.full_like(found.losses, np.nan))
    with pytest.warns(RuntimeWarning, match="empty slice"), pytest.raises(Exception, match="no informative list"):
        measured_front(table, [broken], np.zeros((1, 0)), name="x", method="base", scale=1.0, split="test")


def test_configs_report_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        replace(CONFIG, method=MethodConfig(method="lambdamart"), precision="fp8", micro=-1).resolve(2)
    assert len(caught.value.problems) == 3
