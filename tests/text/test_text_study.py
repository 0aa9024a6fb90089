"""Recipes of text: read with all problems at once, run, resumed without training again, printed beside the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperdpo.cli import main
from hyperdpo.errors import ConfigError
from hyperdpo.rank.study.recipe import is_recipe
from hyperdpo.runs import read_fronts
from hyperdpo.text.data import load_preferences, write_lists
from hyperdpo.text.evaluate import TextTable, run_front
from hyperdpo.text.run import TextRun
from hyperdpo.text.study import Lists, read_text_recipe
from tests.text.conftest import toy_preferences

RECIPE = """
kind = "text"
title = "Toy"
[quick]
model = "{model}"
data = ["{data}"]
objectives = ["upbeat", "concise"]
seeds = 2
points = 3
follow = 3
fit = {{ epochs = 1, batch_size = 4 }}
tokens = {{ max_prompt = 32, max_response = 32 }}
[[variant]]
label = "HyperDPO"
method = "hyperdpo"
[[variant]]
label = "DPO Soup"
method = "dpo-soup"
seeds = 1
[published."HyperDPO"]
hypervolume = 0.19424
"""


@pytest.fixture
def recipe(model_folder: Path, tmp_path: Path) -> Path:
    toys = toy_preferences()
    scores = [{"upbeat": s[:, 0].tolist(), "concise": s[:, 1].tolist()} for s in toys.scores]
    write_lists(tmp_path / "lists.jsonl", toys.prompts, toys.responses, scores)
    file = tmp_path / "toy.toml"
    file.write_text(RECIPE.format(model=model_folder, data=tmp_path / "lists.jsonl"))
    return file


def test_a_recipe_runs_resumes_and_prints(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["reproduce", str(recipe), "--quick", "--work", str(tmp_path / "work"), "--no-images", "--device", "cpu"]
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["recipes"]["toy"]
    assert captured.err.count("model 1 of") == 3
    assert [(row["label"], row["seeds"]) for row in found["rows"]] == [("HyperDPO", 2), ("DPO Soup", 1)]
    assert found["rows"][0]["above_chance"] == pytest.approx(found["rows"][0]["hypervolume"] - found["chance"])
    assert found["rows"][0]["ours_minus_this"] is None
    assert 0 < found["rows"][1]["ours_minus_this"]["p"] <= 1
    names = {Path(f).name for f in found["files"]}
    assert {"table.txt", "table.csv", "result.json", "config.json", "front.html"} <= names
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert "model 1 of" not in captured.err
    assert "0.19424" in captured.out


def test_every_row_is_compared_with_a_mean_of_replicas_too(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mean = '[[variant]]\nlabel = "Mean"\nmethod = "hyperdpo"\nreplicas = 2\ndistil = 1\ncompared = true\n'
    recipe.write_text(recipe.read_text().replace("seeds = 2", "seeds = 1").replace("follow = 3", "") + mean)
    argv = ["reproduce", str(recipe), "--quick", "--work", str(tmp_path / "work"), "--no-images", "--device", "cpu"]
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]["toy"]["rows"]
    one, soup, two = rows
    assert two["others_minus_this"] == {"Mean": None}
    assert one["others_minus_this"]["Mean"]["difference"] == pytest.approx(two["hypervolume"] - one["hypervolume"])
    assert one["others_minus_this"]["Mean"]["difference"] == pytest.approx(-two["ours_minus_this"]["difference"])
    assert soup["others_minus_this"]["Mean"]["difference"] == pytest.approx(two["hypervolume"] - soup["hypervolume"])
    assert two["models"] == 1
    [made] = [c for c in (TextRun(f.parent).config for f in tmp_path.glob("work/text/*/manifest.json")) if c["distil"]]
    assert (made["replicas"], len(made["training"])) == (2, 3)
    assert main(argv) == 0
    assert "Mean - this" in capsys.readouterr().out
    recipe.write_text(recipe.read_text().replace('method = "dpo-soup"', 'method = "dpo-soup"\nreplicas = 2'))
    with pytest.raises(ConfigError, match="got 2 of dpo-soup"):
        read_text_recipe(recipe, "quick")


def test_lists_that_no_training_sees_are_tested_on_too(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_preferences(tmp_path / "lists.jsonl")
    used = len(whole) - 5
    recipe.write_text(recipe.read_text().replace("seeds = 2", f"seeds = 1\nlists = {used}").replace("follow = 3", ""))
    argv = ["reproduce", str(recipe), "--quick", "--work", str(tmp_path / "work"), "--no-images", "--device", "cpu"]
    assert main([*argv, "--json"]) == 0
    few = json.loads(capsys.readouterr().out)["recipes"]["toy"]
    recipe.write_text(recipe.read_text().replace(f"lists = {used}", f"lists = {used}\nmore_test = 50"))
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    more = json.loads(captured.out)["recipes"]["toy"]
    assert "model 1 of" not in captured.err, "what is tested on changes no training"
    assert more["data"]["lists"]["test"] == few["data"]["lists"]["test"] + 5
    lists = Lists.load(read_text_recipe(recipe, "quick"))
    assert lists.more is not None
    assert not set(lists.more.prompts) & set(lists.preferences.prompts)
    out = next((tmp_path / "work" / "text").glob("*-hyperdpo-*"))
    kept = read_fronts(out / lists.key / "front.json")
    table = TextTable(TextRun(out), lists.test(TextRun(out)))
    again = run_front(TextRun(out), table, split="test", points=3)
    assert kept[0].cross_entropy == pytest.approx(again.cross_entropy, abs=1e-6)
    assert more["rows"][0]["hypervolume"] == pytest.approx(again.hypervolume, abs=1e-6)


def test_all_unknown_keys_are_listed_at_once(recipe: Path) -> None:
    text = recipe.read_text().replace("seeds = 2", "seedz = 2").replace('label = "DPO Soup"', 'lable = "x"')
    recipe.write_text(text.replace("points = 3", "points = 3\nmore_test = 5"))
    assert is_recipe(recipe, kind="text")
    with pytest.raises(ConfigError) as caught:
        read_text_recipe(recipe, "quick")
    assert len(caught.value.problems) == 4
    assert "more_test, lists beyond `lists`, and no lists" in str(caught.value)
    assert "did you mean 'seeds'" in str(caught.value)


def test_seeds_that_are_asked_for_are_those_of_every_variant(recipe: Path) -> None:
    assert [v.seeds for v in read_text_recipe(recipe, "quick").variants] == [2, 1]
    assert [v.seeds for v in read_text_recipe(recipe, "quick", seeds=3).variants] == [3, 3]


def test_shipped_recipes_can_be_read() -> None:
    folder = Path(__file__).resolve().parents[2] / "recipes"
    found = [file for file in folder.glob("*.toml") if is_recipe(file, kind="text")]
    assert found
    for file in found:
        for size in ("quick", "full"):
            assert read_text_recipe(file, size).variants
