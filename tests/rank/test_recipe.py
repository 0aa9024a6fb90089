"""Recipes: what a file may say, and one message with everything that is wrong with it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hyperdpo.errors import ConfigError
from hyperdpo.methods import METHODS, MethodConfig
from hyperdpo.rank.study.recipe import SIZES, Overrides, Recipe, find_recipe, is_recipe, merged, read_recipe
from hyperdpo.rank.train import DEFAULT_FIT, RankConfig

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
GOOD = """
title = "A study"
ours = "mixture"
[[variant]]
label = "mixture"
[[variant]]
label = "LS"
method = "dpo-ls"
fit = { learning_rate = 0.001 }
[quick]
seeds = 2
fit = { epochs = 3 }
[[quick.case]]
data = "demo"
objectives = ["clicks", "quality"]
queries = 60
"""


def written(path: Path, text: str, name: str = "a.toml") -> Path:
    (path / name).write_text(text)
    return path / name


def problems(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_recipe(written(path, text), "quick")
    return caught.value.problems


def test_options_end_up_in_the_configs(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD), "quick")
    mixture, ls = recipe.variants
    assert mixture.config.fit.epochs == ls.config.fit.epochs == 3
    assert (mixture.config.fit.learning_rate, ls.config.fit.learning_rate) == (DEFAULT_FIT.learning_rate, 0.001)
    assert (mixture.config.method.method, ls.config.method.method) == ("hyperdpo", "dpo-ls")
    assert recipe.cases[0].objectives == ("clicks", "quality")
    assert (recipe.seeds, recipe.cases[0].queries, recipe.ours) == (2, 60, "mixture")
    changed = read_recipe(tmp_path / "a.toml", "quick", overrides=Overrides(seeds=5, epochs=1, queries=30))
    assert (changed.seeds, changed.cases[0].queries) == (5, 30)
    assert (
        {v.config.fit.epochs for v in changed.variants} == {v.config.base_fit.epochs for v in changed.variants} == {1}
    )


def test_a_sweep_is_a_row_for_each_value_and_lambda_has_a_sign(tmp_path: Path) -> None:
    text = GOOD.replace(
        'label = "mixture"\n', 'label = "film"\nparametrisation = "film"\nsweep = { lambda = [-0.5, 0, 2] }\n'
    )
    text = text.replace('ours = "mixture"', 'report = "sweep"')
    rows = read_recipe(written(tmp_path, text), "quick").variants[:3]
    assert [v.x for v in rows] == [-0.5, 0.0, 2.0]
    assert [(v.config.method.penalty, v.config.method.penalty_sign) for v in rows] == [
        (0.5, "away"), (0, "toward"), (2, "toward"),
    ]  # fmt: skip
    assert {v.series for v in rows} == {"film"}
    assert rows[0].label == "film, lambda -0.5"
    deep = text.replace("lambda = [-0.5, 0, 2]", '"net.layers" = [0, 3]')
    assert [
        v.config.net.layers for v in read_recipe(written(tmp_path, deep), "quick").variants[:2] if v.config.net
    ] == [0, 3]


def test_a_sizes_budget_of_trees_is_for_methods_that_grow_them(tmp_path: Path) -> None:
    text = GOOD.replace("seeds = 2", "seeds = 2\ntrees = { rounds = 7 }")
    text = text.replace('label = "mixture"\n', 'label = "mixture"\n[[variant]]\nmethod = "lambdamart"\n')
    rounds = {v.label: v.config.trees.rounds for v in read_recipe(written(tmp_path, text), "quick").variants}
    assert rounds == {"mixture": 300, "lambdamart": 7, "LS": 300}
    assert "quick, trees: no key is called 'round' (did you mean 'rounds'?)" in "\n".join(
        problems(tmp_path, text.replace("rounds", "round"))
    )
    assert any(
        "LS" in p and "grows no trees" in p
        for p in problems(tmp_path, GOOD.replace("fit = { l", "trees = { leaves = 3 }\nfit = { l"))
    )


def test_only_chooses_rows_of_one_size(tmp_path: Path) -> None:
    text = GOOD.replace("seeds = 2", 'seeds = 2\nonly = ["mixture"]')
    assert [v.label for v in read_recipe(written(tmp_path, text), "quick").variants] == ["mixture"]


def test_everything_that_is_wrong_is_said_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    text = """
titel = "x"
ours = "mixtur"
report = "tabel"
[[variant]]
label = "mixture"
parametrisation = "mixtures"
lerning_rate = 1
[[variant]]
label = "LS"
method = "dpols"
fit = { epoch = 3, epochs = 0 }
sweep = { alfa = [1] }
[[variant]]
label = "LS"
alpha = -1
base = "lightgbm"
[published.Soup]
hypervolumes = 1
[quick]
seed = 2
seeds = 0
[full]
epochs = 3
[[quick.case]]
data = "demo"
querys = 3
folds = 2
[[quick.case]]
objectives = ["a"]
"""
    found = "\n".join(problems(tmp_path, text))
    for expected in (
        "no key is called 'titel' (did you mean 'title'?)",
        "report is one of table, sweep, distance, across, tuning; got 'tabel' (did you mean 'table'?)",
        "variant 'mixture': no key is called 'lerning_rate'",
        "No parametrisation is called 'mixtures' (did you mean 'mixture'?)",
        "No method is called 'dpols' (did you mean 'dpo-ls'?)",
        "variant 'LS', fit: no key is called 'epoch' (did you mean 'epochs'?)",
        "epochs = 0 is out of range",
        "variant 'LS', sweep: no key is called 'alfa' (did you mean 'alpha'?)",
        "alpha is above 0; got -1",
        "variant 'LS': no key is called 'base'",
        "published: no row is called 'Soup'",
        "published.Soup: no key is called 'hypervolumes' (did you mean 'hypervolume'?)",
        "quick: no key is called 'seed' (did you mean 'seeds'?)",
        "seeds is a whole number of 1 or more; got 0",
        "full: no key is called 'epochs'",
        "quick.case 1: no key is called 'querys' (did you mean 'queries'?)",
        "folds is a whole number of 3 or more, or 0; got 2",
        "quick.case 2: data is missing",
    ):
        assert expected in found, expected
    assert len(set(found.splitlines())) == len(found.splitlines())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "LS"', 'label = "mixture"', "two rows are called 'mixture'"),
        ('ours = "mixture"', 'ours = "mix"', "ours names a row; got 'mix' (did you mean 'mixture'?)"),
        ('ours = "mixture"', 'report = "distance"', "needs a sweep in every variant and a reference in some"),
        ("queries = 60", "queries = 60\n[[quick.case]]\ndata = 'demo'", "two cases are called 'demo'"),
        ("fit = { epochs = 3 }", "fit = { epochs = 'three' }", "wrong type"),
        (
            "fit = { epochs = 3 }",
            "fit = { epochs = 3 }\nonly = ['LSS']",
            "no variant is called 'LSS' (did you mean 'LS'?)",
        ),
        ('data = "demo"', 'data = "simulated"', "simulation gives the shape of data = 'simulated'"),
        ('data = "demo"', 'data = "mine"', "queries is the size of the demo"),
        (
            'method = "dpo-ls"',
            'method = "dpo-ls"\nscale = 0',
            "scale c is a finite number above 0 (1 is the trained model); got 0",
        ),
        ('method = "dpo-ls"', 'method = "dpo-ls"\nbeta = [1, -1]', "beta is one number above 0"),
        ('method = "dpo-ls"', 'method = "dpo-ls"\nsweep = { scale = [] }', "sweep gives a list of numbers"),
        ('method = "dpo-ls"', 'method = "dpo-ls"\npreset = "papers"', "preset is default or paper; got 'papers'"),
        ('method = "dpo-ls"', 'method = "dpo-ls"\nreference = "mixtur"', "reference names a variant; got 'mixtur'"),
        ("[[quick.case]]", "[[full.case]]", "it has no [[quick.case]]"),
        ("[[variant]]", "[[quick.case]]", "it has no [[variant]]"),
        ('title = "A study"', "title = ", "cannot be read as TOML"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    assert any(message in p for p in problems(tmp_path, GOOD.replace(old, new))), problems(
        tmp_path, GOOD.replace(old, new)
    )


def test_tuned_settings_lie_under_what_a_recipe_says(tmp_path: Path) -> None:
    text = 'tuned = "tuned.toml"\n' + GOOD
    without = read_recipe(written(tmp_path, text), "quick")
    assert "no tuned.toml was found" in without.notes[0]
    written(
        tmp_path,
        '[method."dpo-ls"]\nseconds = 12.5\n[method."dpo-ls".options]\n'
        "fit = { learning_rate = 0.5, batch_size = 8 }\nnet = { width = 16 }\n",
        "tuned.toml",
    )
    mixture, ls = read_recipe(tmp_path / "a.toml", "quick").variants
    assert (ls.config.fit.learning_rate, ls.config.fit.batch_size, ls.config.fit.epochs) == (0.001, 8, 3)
    assert ls.config.net is not None
    assert (ls.config.net.width, ls.config.net.heads) == (16, 4)
    assert (ls.tuning_seconds, mixture.tuning_seconds, mixture.config.net) == (12.5, None, None)
    written(tmp_path, text.replace('method = "dpo-ls"', 'method = "dpo-ls"\ntuned = false'))
    assert read_recipe(tmp_path / "a.toml", "quick").variants[1].tuning_seconds is None


def test_later_options_win_and_tables_are_merged() -> None:
    assert merged({"fit": {"a": 1, "b": 2}, "c": 1}, {"fit": {"b": 3}, "c": 2}) == {"fit": {"a": 1, "b": 3}, "c": 2}


def test_a_recipe_is_found_by_name_or_as_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD, "mine.toml")
    assert find_recipe("mine", [tmp_path]) == file
    assert find_recipe(str(file), []) == file
    with pytest.raises(ConfigError, match=r"no recipe 'mime' \(did you mean 'mine'\?\)"):
        find_recipe("mime", [tmp_path])


def shipped() -> list[Path]:
    return [file for file in sorted(RECIPES.glob("*.toml")) if is_recipe(file, kind="rank")]


def test_every_recipe_of_the_issue_is_there() -> None:
    wanted = {"table1", "fig2a", "fig2b", "fig11", "ablation-alpha", "ablation-depth", "ablation-parametrisation"}
    wanted |= {"ablation-penalty", "movielens", "demo", "mslr-sample", "tuning", "scaling", "sample-efficiency"}
    assert wanted <= {f.stem for f in shipped()}


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.stem)
def test_every_shipped_recipe_can_be_read_at_both_sizes(file: Path) -> None:
    for size in SIZES:
        recipe = read_recipe(file, size)
        assert recipe.cases
        assert all(isinstance(v.config, RankConfig) for v in recipe.variants)


def read(name: str) -> Recipe:
    return read_recipe(RECIPES / f"{name}.toml", "quick")


def test_tuning_gives_every_method_six_settings_and_one_seed() -> None:
    recipe = read("tuning")
    methods = [v.config.method.method for v in recipe.variants]
    assert {m: methods.count(m) for m in METHODS} == dict.fromkeys(METHODS, 6)
    assert recipe.seeds == 1


def test_a_size_may_have_its_own_number_of_points(tmp_path: Path) -> None:
    text = "points = 9\n" + GOOD.replace("seeds = 2", "seeds = 2\npoints = 5") + '[[full.case]]\ndata = "demo"\n'
    assert {v.config.method.points for v in read_recipe(written(tmp_path, text), "quick").variants} == {5}
    assert {v.config.method.points for v in read_recipe(written(tmp_path, text), "full").variants} == {9}


def test_a_report_across_cases_says_what_it_runs_over(tmp_path: Path) -> None:
    head = 'report = "across"\nx = "objectives"\nspacing = 0.1\n'
    assert read_recipe(written(tmp_path, head + GOOD), "quick").steps == 10
    for spacing in ("0.3", "0", "true"):
        [problem] = problems(tmp_path, (head + GOOD).replace("0.1", spacing, 1))
        assert "spacing is 1 divided by a whole number" in problem
    assert any("x of a report across cases is" in p for p in problems(tmp_path, 'report = "across"\n' + GOOD))
    lists = problems(tmp_path, 'report = "across"\nx = "train_queries"\n' + GOOD)
    assert any("train_queries is its x and is missing" in p for p in lists)
    assert problems(tmp_path, "spacing = 0.1\n" + GOOD) == ["a.toml: spacing is for report = 'across'; leave it out."]


def test_scaling_runs_over_two_to_six_objectives_at_eleven_points() -> None:
    for size in SIZES:
        recipe = read_recipe(RECIPES / "scaling.toml", size)
        assert [c.simulation.objectives for c in recipe.cases if c.simulation] == [2, 3, 4, 5, 6]
        assert (recipe.steps, {v.config.method.points for v in recipe.variants}) == (10, {11})
        samples = read_recipe(RECIPES / "sample-efficiency.toml", size)
        assert [c.train_queries for c in samples.cases] == [100, 300, 1000]


def test_comparisons_hold_every_method() -> None:
    for name in ("demo", "movielens", "mslr-sample", "fig2a", "fig2b", "summeval"):
        assert {v.config.method.method for v in read(name).variants} == set(METHODS), name


def test_method_options_are_those_of_the_dataclass(tmp_path: Path) -> None:
    methods = {"generator_width": "hypernetwork"}  # an option that other methods refuse
    for f in fields(MethodConfig):
        if f.name not in ("method", "penalty_sign", "draw"):
            given = f'label = "mixture"\nmethod = "{methods.get(f.name, "hyperdpo")}"\n{f.name} = 3\n'
            text = GOOD.replace('label = "mixture"\n', given)
            found = read_recipe(written(tmp_path, text), "quick").variants[0].config.method
            assert getattr(found, f.name) == 3
