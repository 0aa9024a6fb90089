"""Reports across cases: what growth is called, what a spacing costs, and the sentences they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import data

from hyperdpo.errors import ConfigError
from hyperdpo.figures import sweep_figure
from hyperdpo.front import hypervolume
from hyperdpo.methods import MethodConfig
from hyperdpo.rank.data import RankData, open_data
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.study.across import claims, growth
from hyperdpo.rank.study.recipe import Recipe, read_recipe
from hyperdpo.rank.study.study import Outcome, reproduce
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig
from hyperdpo.weights import lattice

SMALL = "net = { width = 8, layers = 1, heads = 2 }"
VARIANTS = f"""
ours = "HyperDPO"
[[variant]]
label = "HyperDPO"
{SMALL}
[[variant]]
label = "LS"
method = "dpo-ls"
{SMALL}
[[variant]]
label = "Soup"
method = "dpo-soup"
{SMALL}
[[variant]]
label = "MO"
method = "mo-dpo"
{SMALL}
[quick]
points = 4
draws = 20
fit = {{ epochs = 1, batch_size = 8 }}
base_fit = {{ epochs = 1, batch_size = 8 }}
"""
SCALING = 'report = "across"\nx = "objectives"\nspacing = 0.25\n' + VARIANTS
SCALING += "".join(
    f"""
[[quick.case]]
name = "m{m}"
data = "simulated"
simulation = {{ queries = 30, items = [3, 5], features = 6, objectives = {m} }}
"""
    for m in (3, 2)
)
SAMPLES = 'report = "across"\nx = "train_queries"\n' + VARIANTS
SAMPLES += "".join(f'[[quick.case]]\nname = "lists{n}"\ndata = "toy"\ntrain_queries = {n}\n' for n in (8, 20))


def studied(folder: Path, text: str, given_data: list[str]) -> Outcome:
    (folder / "a.toml").write_text(text)
    [outcome] = reproduce([str(folder / "a.toml")], size="quick", work=folder / "work", data=given_data, images=False)
    return outcome


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("scaling")
    return folder, studied(folder, SCALING, [])


def across(outcome: Outcome) -> dict[tuple[str, float], dict[str, Any]]:
    assert outcome.document is not None
    return {(row["label"], row["x"]): row for row in outcome.document["across"]["rows"]}


def test_models_and_parameters_at_a_spacing_are_counted(scaling: tuple[Path, Outcome]) -> None:
    found = across(scaling[1])
    assert [label for label, x in found if x == 2] == ["HyperDPO", "LS", "Soup", "MO"]
    assert [x for _, x in found] == sorted(x for _, x in found)  # whatever the order of the cases
    points = {2: 5, 3: 15}  # C(4 + m - 1, m - 1)
    for (label, m), row in found.items():
        at = row["spacing"]
        models = {"HyperDPO": 1, "LS": points[m], "Soup": m, "MO": m + points[m]}[label]
        trained = {"HyperDPO": 1, "LS": 4, "Soup": m, "MO": m + 4}[label]
        assert (at["points"], at["models"], row["models"]) == (points[m], models, trained), label
        assert at["cpu_seconds"] == pytest.approx(row["cpu_seconds"] * models / trained)
        assert at["computed"] == (label in ("LS", "MO"))
        mixing = (m * 4, m * points[m]) if label == "Soup" else (0, 0)
        assert (at["parameters"] - mixing[1]) * trained == (row["parameters"] - mixing[0]) * models
        assert (at["hypervolume"] is None) == at["computed"]


def test_the_front_at_a_spacing_is_the_runs_own(scaling: tuple[Path, Outcome]) -> None:
    folder, outcome = scaling
    [run] = [
        r
        for r in map(RankRun, (folder / "work" / "runs").iterdir())
        if r.method.method == "hyperdpo" and r.task.m == 3 and r.config["net"]["width"] == 8
    ]
    source = next(d for d in map(open_data, (folder / "work" / "data").iterdir()) if d.task.m == 3)
    fronts = {f.method: f for f in evaluate_run(run, source, points=lattice(3, 4))}
    row = across(outcome)["HyperDPO", 3]
    assert len(fronts["hyperdpo"].ndcg) == len(fronts["oracle"].ndcg) == 15
    own = hypervolume(fronts["hyperdpo"].auxiliary)
    assert row["spacing"]["hypervolume"] == pytest.approx(own, abs=1e-5)
    assert row["spacing"]["share"] == pytest.approx(own / fronts["oracle"].hypervolume, rel=1e-4)
    assert row["hypervolume"]["value"] == pytest.approx(run.folder.fronts()[0].hypervolume, abs=1e-5)
    assert row["share"]["ratio"] < 1.2


def test_the_text_says_what_is_computed_and_the_figure_has_a_panel_for_each_cost(scaling) -> None:
    folder, outcome = scaling
    lines = outcome.text.splitlines()
    assert all(
        ("(computed)" in line) == line.lstrip().startswith(("LS ", "MO ")) for line in lines if "(computed)" in line
    )
    assert sum("(computed)" in line for line in lines) == 4
    page = (folder / "work" / "a-quick" / "figure-objectives.html").read_text()
    assert all(text in page for text in ("hypervolume of the best possible", "CPU s, 4 points", "spacing 1\\u002f4"))


def test_a_sample_curve_says_who_leads(tmp_path: Path) -> None:
    outcome = studied(tmp_path, SAMPLES, [f"toy={data(tmp_path / 'toy').path}"])
    found = across(outcome)
    assert {x for _, x in found} == {8, 20}
    assert all(row["spacing"] is None and row["share"] is None for row in found.values())
    best = max((row["hypervolume"]["value"], label) for (label, x), row in found.items() if x == 20)[1]
    change = found["LS", 20]["hypervolume"]["value"] / found["LS", 8]["hypervolume"]["value"] - 1
    said = outcome.document["across"]["claims"]
    assert f"20 lists, {best}" in said[1]
    assert f"LS {100 * change:+.1f} %" in said[0]
    assert said[2].startswith("With 8 lists HyperDPO has, relative to 20 lists, ")
    assert said[0] in outcome.text


X = (2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("cost", "kind", "factor"),
    [
        ([3, 3, 3, 3, 3], "proportion", 1),
        ([2, 3, 4, 5, 6], "proportion", 3),
        ([0.8, 1.6, 0.8, 0.9, 0.9], "proportion", 1.125),  # one slow timing
        ([1, 3, 5, 7, 9], "line", 9),
        ([11, 66, 286, 1001, 3003], "exponential", 273),
        ([2, 4, 8, 16, 32], "exponential", 16),
    ],
)
def test_growth_is_called_what_it_is(cost: list[float], kind: str, factor: float) -> None:
    found = growth(X, cost)
    assert found is not None
    assert (found.kind, found.factor) == (kind, pytest.approx(factor))


def test_growth_needs_three_costs_above_zero() -> None:
    assert growth([2, 3], [1, 2]) is None
    assert growth([2, 3, 4], [0, 1, 2]) is None


@given(st.floats(1.6, 5), st.floats(1e-3, 1e3), st.floats(0.97, 1.03))
def test_an_exponential_is_known_whatever_its_rate_and_unit(rate: float, unit: float, noise: float) -> None:
    cost = [unit * rate**x * (noise if x % 2 else 1) for x in X]
    found = growth(X, cost)
    assert found is not None
    assert found.kind == "exponential"
    assert found.per_step == pytest.approx(rate, rel=0.05)


def rows_of(costs: dict[str, list[float]], spaced: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"label": label, "x": x, "cpu_seconds": c, "spacing": {"cpu_seconds": s, "points": 10 * x}}
        for label in costs
        for x, c, s in zip(X, costs[label], spaced[label], strict=True)
    ]


def test_the_verdict_follows_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SCALING)
    recipe: Recipe = read_recipe(tmp_path / "a.toml", "quick")
    flat, steep = [1.0] * 5, [4.0**x for x in X]
    first, one, second, two = claims(
        recipe, rows_of({"HyperDPO": flat, "LS": flat, "Soup": flat}, {"HyperDPO": flat, "LS": steep, "Soup": flat})
    )
    assert first.startswith("At 4 points for every m")
    assert one.endswith("`linear in m` holds for HyperDPO; `exponential in m` does not hold for LS, Soup.")
    assert "(20, 30, 40, 50, 60 points)" in second
    assert "LS 256.0 times (exponentially, 4.0 times for each objective)" in second
    assert two.endswith(
        "holds for HyperDPO; `exponential in m` holds for LS; `exponential in m` does not hold for Soup."
    )
    (_, one, *_) = claims(recipe, rows_of({"HyperDPO": steep}, {"HyperDPO": steep}))
    assert "`linear in m` does not hold for HyperDPO" in one


def test_costs_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    from hyperdpo.figures import Series

    def kind(values: list[float]) -> str:
        panel = ("s", [Series("a", [2.0, 3.0], values, [None] * 2, [None] * 2)])
        return str(sweep_figure([panel], "m")["layout"]["yaxis"]["type"])

    assert [kind([1.0, 150.0]), kind([1.0, 50.0]), kind([0.0, 150.0])] == ["log", "linear", "linear"]


def test_models_for_some_weights_refuse_others(tmp_path: Path) -> None:
    toy: RankData = data(tmp_path / "toy", 20)
    fit = FitConfig(epochs=1, batch_size=8)
    method = MethodConfig("dpo-ls", points=2)
    run = train(toy, RankConfig(method, net=NetConfig(4, 0, 0), fit=fit, base_fit=fit), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="answers the 2 weights it was trained for; got 3"):
        evaluate_run(run, toy, points=torch.tensor(np.eye(3)[:, :2]))
