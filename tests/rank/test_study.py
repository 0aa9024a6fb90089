"""Studies end to end on tiny data: units are trained once, shared, resumed; tables are what the fronts say."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import data

from hyperdpo.errors import ConfigError, Interrupted, RunError
from hyperdpo.front import hypervolume, sparsity
from hyperdpo.methods import TREES
from hyperdpo.rank.data import open_data
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.study import units
from hyperdpo.rank.study.recipe import Case, Overrides, read_recipe
from hyperdpo.rank.study.report import csv_text
from hyperdpo.rank.study.rows import at_main, parameters_at
from hyperdpo.rank.study.runner import execute
from hyperdpo.rank.study.sources import Fold, parse_given, prepare, rotated
from hyperdpo.rank.study.study import Outcome, reproduce
from hyperdpo.rank.study.units import SCALES, Store, Unit
from hyperdpo.rank.train import PAPER, RankConfig
from hyperdpo.workers import Pace, locked, time_left

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FIT = """
fit = { epochs = 1, batch_size = 8 }
base_fit = { epochs = 1, batch_size = 8 }
draws = 30
seeds = 2
"""
SMALL = "net = { width = 8, layers = 1, heads = 2 }"
PAIR = f"""
ours = "HyperDPO"
points = 3
[[variant]]
label = "HyperDPO"
{SMALL}
[[variant]]
label = "DPO-LS"
method = "dpo-ls"
{SMALL}
"""
CASE = """
[[quick.case]]
name = "toy"
data = "toy"
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("data") / "toy").path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the run folders that were trained, in order."""
    names: list[str] = []
    real = units.train

    def counted(data: Any, config: Any, out: Path, **options: Any) -> RankRun:
        names.append(out.name)
        return real(data, config, out, **options)

    monkeypatch.setattr(units, "train", counted)
    return names


@pytest.fixture
def study(tmp_path: Path, toy: Path) -> Callable[..., Outcome]:
    """Run one recipe text in the test's work folder."""

    def run(text: str, name: str = "a", **options: Any) -> Outcome:
        (tmp_path / f"{name}.toml").write_text(text)
        options.setdefault("work", tmp_path / "work")
        options.setdefault("data", [f"toy={toy}"])
        [outcome] = reproduce([str(tmp_path / f"{name}.toml")], size="quick", images=False, **options)
        return outcome

    return run


def rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert outcome.document is not None
    return {row["label"]: row for row in outcome.document["rows"]}


def test_a_table_is_what_the_runs_fronts_say(study, tmp_path: Path, trained: list[str]) -> None:
    outcome = study(PAIR + "[quick]" + FIT + CASE)
    assert len(trained) == len(set(trained)) == 6  # for each of two seeds a base and two methods
    found = rows(outcome)
    assert set(found) == {"HyperDPO", "DPO-LS", "base"}
    runs = [RankRun(tmp_path / "work" / "runs" / name) for name in trained]
    for label, method in (("HyperDPO", "hyperdpo"), ("DPO-LS", "dpo-ls")):
        own = [r for r in runs if r.method.method == method and r.config["net"]["width"] == 8]
        fronts = [r.folder.fronts()[0] for r in own]
        assert len(fronts) == 2
        row = found[label]
        assert row["hypervolume"]["value"] == pytest.approx(
            np.mean([hypervolume(f.auxiliary) for f in fronts]), abs=1e-5
        )
        assert sorted(row["hypervolume"]["each"]) == pytest.approx(sorted(f.hypervolume for f in fronts), abs=1e-5)
        assert row["main"]["value"] == pytest.approx(np.mean([f.main_mean for f in fronts]), abs=1e-5)
        assert row["main_std"] == pytest.approx(np.mean([f.main_std for f in fronts]), abs=1e-5)
        assert row["sparsity"]["value"] == pytest.approx(np.mean([sparsity(f.auxiliary) for f in fronts]), abs=1e-5)
        assert row["seconds"] == pytest.approx(np.mean([r.config["seconds"] for r in own]))
        assert (row["models"], row["parameters"]) == (own[0].models, own[0].parameters)
        assert row["base_seconds"] > 0
    bases = {json.dumps(r.config["base"]["factor"]) for r in runs}
    assert len(bases) == 2  # one a seed, the same for both methods
    ours, theirs = found["HyperDPO"]["hypervolume"]["value"], found["DPO-LS"]["hypervolume"]["value"]
    assert found["DPO-LS"]["against"]["hypervolume"]["ratio"] == pytest.approx(ours / theirs)
    assert found["HyperDPO"]["against"] is None
    reach = outcome.document["reach"]["toy"]
    assert (reach["best_baseline"], reach["ratio"]["difference"]) == ("DPO-LS", pytest.approx(ours - theirs))


def test_methods_are_compared_where_c_gives_them_the_same_main_score(study) -> None:
    text = PAIR.replace('label = "DPO-LS"\nmethod = "dpo-ls"', 'label = "twin"')
    for method in TREES:
        text += f'[[variant]]\nlabel = "{method}"\nmethod = "{method}"\n'
    outcome = study(text + "[quick]" + FIT + "trees = { rounds = 3 }\n" + CASE, overrides=Overrides(seeds=1))
    assert outcome.problems == []
    found = rows(outcome)
    assert found["HyperDPO"]["equal_main"] is None
    twin = found["twin"]["equal_main"]
    assert (twin["scale"], twin["ratio"]) == (pytest.approx(1), pytest.approx(1))
    equal = {label: found[label]["equal_main"] for label in TREES if found[label]["equal_main"]}
    for label, at in equal.items():
        assert (at["scale"] > 1) == (found[label]["main"]["value"] < found["HyperDPO"]["main"]["value"])
    reach = outcome.document["reach"]["toy"].get("equal_main", {})
    assert reach.get("best_baseline") == (max(equal, key=lambda n: equal[n]["hypervolume"]) if equal else None)
    assert "at equal main" in outcome.text
    assert "1.000 (c 1)" in outcome.text


def test_a_curve_is_read_between_its_scales() -> None:
    main = np.linspace(0.5, 0.9, len(SCALES))
    curve = np.stack([main, 1 - main, 1 - main], 1)[:, None]  # one point: its hypervolume is (1 - main)^2
    c, volume = at_main(curve, float(main[3]))
    assert (c, volume) == (pytest.approx(SCALES[3]), pytest.approx((1 - main[3]) ** 2))
    c, volume = at_main(curve, float(main[3] + main[4]) / 2)
    assert c == pytest.approx(math.sqrt(SCALES[3] * SCALES[4]))
    assert volume == pytest.approx(((1 - main[3]) ** 2 + (1 - main[4]) ** 2) / 2)
    assert np.isnan(at_main(curve, 0.95)).all()


def test_the_files_say_the_same_as_the_answer(study, tmp_path: Path) -> None:
    outcome = study(PAIR + "[quick]" + FIT + CASE)
    out = tmp_path / "work" / "a-quick"
    assert {f.name for f in outcome.files} == {
        "table.txt",
        "table.csv",
        "result.json",
        "recipe.json",
        "figure-toy.html",
    }
    stored = json.loads((out / "result.json").read_text())
    assert [r["label"] for r in stored["rows"]] == ["HyperDPO", "DPO-LS", "base"]
    lines = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    for line, row in zip(lines, stored["rows"], strict=True):
        assert float(line["hypervolume"]) == row["hypervolume"]["value"]
        assert [float(line["main_low"]), float(line["main_high"])] == row["main"]["interval"]
    text = (out / "table.txt").read_text()
    assert "seeds 0, 1" in text
    assert f"{stored['rows'][0]['main']['value']:.4f}" in text
    resolved = json.loads((out / "recipe.json").read_text())
    config = resolved["variants"][1]["config"]["toy"]
    assert (config["method"]["method"], config["method"]["points"], config["fit"]["epochs"]) == ("dpo-ls", 3, 1)
    assert config["net"]["width"] == 8
    figure = (out / "figure-toy.html").read_text()
    assert "DPO-LS" in figure
    assert (out / "plotly.min.js").stat().st_size > 1_000_000


def test_finished_units_are_not_trained_again(study, trained: list[str]) -> None:
    first = study(PAIR + "[quick]" + FIT + CASE)
    said: list[str] = []
    again = study(PAIR + "[quick]" + FIT + CASE, say=said.append)
    assert len(trained) == 6
    assert again.text == first.text
    assert "6 units of training, 6 of them finished before" in said[0]
    more = study((PAIR + "[quick]" + FIT + CASE).replace("seeds = 2", "seeds = 3"))
    assert len(trained) == 9
    assert rows(more)["DPO-LS"]["seeds"] == [0, 1, 2]


def test_recipes_share_units_and_cases_share_bases(study, trained: list[str]) -> None:
    study(PAIR + "[quick]" + FIT + CASE)
    other = PAIR.replace('label = "DPO-LS"', 'label = "one model per w"')
    study(other + "[quick]" + FIT + CASE, name="b")  # a label decides nothing
    assert len(trained) == 6
    study(other + "[quick]" + FIT + CASE + 'objectives = ["quality", "clicks"]\n', name="c")
    assert len(trained) == 10  # other objectives are other models on the same two bases
    study(other.replace("points = 3", "points = 3\n").replace(SMALL, SMALL + "\nfit = { learning_rate = 0.1 }", 1)
          + "[quick]" + FIT + CASE, name="d")  # fmt: skip
    assert len(trained) == 12  # one method changed, for two seeds


def test_one_training_is_measured_at_many_scales(study, trained: list[str], tmp_path: Path) -> None:
    text = f"""
report = "distance"
points = 3
[[variant]]
label = "trained"
parametrisation = "augmentation"
{SMALL}
sweep = {{ beta = [0.5, 1.0, 2.0] }}
[[variant]]
label = "transformed"
parametrisation = "augmentation"
reference = "trained"
{SMALL}
sweep = {{ scale = [0.5, 1.0, 2.0] }}
[quick]{FIT}{CASE}
"""
    outcome = study(text)
    assert len(trained) == 2 * (1 + 3)  # the training at beta 1 serves three scales and itself
    distances = {d["x"]: d for d in outcome.document["distances"]}
    assert set(distances) == {0.5, 1.0, 2.0}
    assert distances[1.0]["same_w"]["value"] == 0.0
    assert distances[1.0]["hypervolume"]["better"] == 0.5
    assert distances[0.5]["same_w"]["value"] > 0
    assert distances[0.5]["floor"]["same_w"] > 0
    assert "Distances between fronts" in outcome.text


def test_a_study_killed_half_way_goes_on_where_it_stopped(study, trained, monkeypatch: pytest.MonkeyPatch) -> None:
    real = units.train
    calls = 0

    def stopped(*args: Any, **options: Any) -> RankRun:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Interrupted("stopped")
        return real(*args, **options)

    monkeypatch.setattr(units, "train", stopped)
    with pytest.raises(Interrupted):
        study(PAIR + "[quick]" + FIT + CASE)
    assert len(trained) == 4
    outcome = study(PAIR + "[quick]" + FIT + CASE)
    assert len(trained) == len(set(trained)) == 6
    assert set(rows(outcome)) == {"HyperDPO", "DPO-LS", "base"}


def test_a_half_written_run_is_begun_again(study, trained: list[str], tmp_path: Path) -> None:
    study(PAIR + "[quick]" + FIT + CASE)
    work = tmp_path / "work"
    victim = work / "runs" / trained[-1]
    (victim / "manifest.json").unlink()
    for file in (work / "units").glob("*.npz"):
        if json.loads(str(np.load(file)["about"]))["label"] == "toy, seed 1: DPO-LS":
            file.unlink()
    outcome = study(PAIR + "[quick]" + FIT + CASE)
    assert trained[6:] == [victim.name]
    assert rows(outcome)["DPO-LS"]["seeds"] == [0, 1]


def test_a_work_folder_can_be_moved_in_the_middle_of_a_training(study, trained, monkeypatch, tmp_path: Path) -> None:
    real, ended = units.train, []

    def cut(data: Any, config: RankConfig, out: Path, **options: Any) -> RankRun:
        if config.method.method == "dpo-ls" and not ended:
            (out / "training").mkdir(parents=True)
            (out / "training" / "plan.json").write_text(json.dumps({"base": config.base}))
            ended.append(out)
            raise Interrupted("stopped")
        return real(data, config, out, **options)

    monkeypatch.setattr(units, "train", cut)
    text = PAIR + "[quick]" + FIT + CASE
    with pytest.raises(Interrupted):
        study(text, overrides=Overrides(seeds=1))
    (tmp_path / "work").rename(tmp_path / "moved")
    outcome = study(text, overrides=Overrides(seeds=1), work=tmp_path / "moved")
    assert set(rows(outcome)) == {"HyperDPO", "DPO-LS", "base"}


def test_a_failed_unit_stops_no_other_and_is_named(study, monkeypatch: pytest.MonkeyPatch) -> None:
    real = units.train

    def fails(data: Any, config: RankConfig, out: Path, **options: Any) -> RankRun:
        if config.method.method == "dpo-ls" and config.seed == 1:
            raise ConfigError("The loss became nan.")
        return real(data, config, out, **options)

    monkeypatch.setattr(units, "train", fails)
    outcome = study(PAIR + "[quick]" + FIT + CASE)
    assert outcome.problems == ["toy, seed 1: DPO-LS: The loss became nan."]
    assert rows(outcome)["HyperDPO"]["seeds"] == [0]  # paired: only seeds that all have


def test_several_processes_do_what_one_does(study, tmp_path: Path) -> None:
    options = {"overrides": Overrides(seeds=1)}
    one = study(PAIR + "[quick]" + FIT + CASE, **options)
    two = study(PAIR + "[quick]" + FIT + CASE, work=tmp_path / "two", jobs=2, **options)
    for label, row in rows(one).items():
        assert rows(two)[label]["hypervolume"] == row["hypervolume"]


def test_data_that_was_not_given_is_named_and_left_out(study) -> None:
    text = PAIR + "[quick]" + FIT + CASE + '[[quick.case]]\nname = "m"\ndata = "mslr"\n'
    outcome = study(text, overrides=Overrides(seeds=1))
    assert "m is left out, because its data was not given: --data mslr=FOLDER" in outcome.text
    skipped = study(PAIR + '[quick]\n[[quick.case]]\ndata = "mslr"\n', data=[])
    assert skipped.document is None
    assert "a was skipped" in skipped.text
    assert "--data mslr=FOLDER" in skipped.text


def test_what_cannot_be_trained_is_refused_before_anything_is(study, trained: list[str]) -> None:
    text = (
        PAIR.replace('method = "dpo-ls"', 'method = "dpo-soup"') + "[quick]" + FIT + CASE + 'objectives = ["clicks"]\n'
    )
    with pytest.raises(ConfigError, match="a, toy, DPO-LS: dpo-soup combines several objectives; got 1"):
        study(text)
    assert trained == []


def test_every_fold_scores_the_queries_it_did_not_train_on(study, tmp_path: Path, trained: list[str]) -> None:
    outcome = study(PAIR + "[quick]" + FIT + CASE + "folds = 4\nseeds = 1\n")
    assert len(trained) == 4 * 3
    assert rows(outcome)["HyperDPO"]["queries"] == 40
    splits = np.stack([rotated(40, 4, fold) for fold in range(4)])
    assert ((splits == 2).sum(0) == 1).all()
    assert ((splits == 1).sum(0) == 1).all()
    assert (splits[0][splits[1] == 2] == 1).all()
    seconds = [RankRun(tmp_path / "work" / "runs" / n).config for n in trained]
    own = sum(c["seconds"] for c in seconds if c["method"]["method"] == "dpo-ls")
    assert rows(outcome)["DPO-LS"]["seconds"] == pytest.approx(own)


def test_simulated_data_brings_the_oracle_and_its_share(study) -> None:
    case = '[[quick.case]]\ndata = "simulated"\ntrain_queries = 12\n'
    case += "simulation = { queries = 30, items = [3, 5], features = 6, objectives = 2 }\n"
    outcome = study(PAIR + "[quick]" + FIT + case, overrides=Overrides(seeds=1), data=[])
    assert "best possible at this beta" in rows(outcome)
    share = outcome.document["reach"]["simulated"]["oracle_share"]["ratio"]
    oracle = rows(outcome)["best possible at this beta"]["hypervolume"]["value"]
    assert share == pytest.approx(rows(outcome)["HyperDPO"]["hypervolume"]["value"] / oracle)


def test_tuning_keeps_the_best_setting_on_validation_and_what_it_cost(study, tmp_path: Path, trained) -> None:
    text = f"""
report = "tuning"
points = 3
[[variant]]
label = "slow"
method = "dpo-ls"
fit = {{ learning_rate = 0.000001 }}
{SMALL}
[[variant]]
label = "fast"
method = "dpo-ls"
fit = {{ learning_rate = 0.05 }}
{SMALL}
[quick]{FIT.replace("epochs = 1", "epochs = 4", 1).replace("seeds = 2", "seeds = 1")}{CASE}
"""
    outcome = study(text)
    found = rows(outcome)
    best = max(("slow", "fast"), key=lambda label: found[label]["hypervolume"]["value"])
    chosen = outcome.document["chosen"]["dpo-ls"]
    assert (chosen["setting"], chosen["settings"]) == (best, 2)
    assert chosen["seconds"] == pytest.approx(found["slow"]["cpu_seconds"] + found["fast"]["cpu_seconds"], abs=0.06)
    run = next(r for r in map(RankRun, (tmp_path / "work" / "runs").iterdir()) if r.method.method == "dpo-ls")
    test_front = run.folder.fronts()[0].hypervolume
    assert all(abs(found[n]["hypervolume"]["value"] - test_front) > 1e-9 for n in found)  # judged on validation
    tuned = 'tuned = "tuned.toml"\n' + PAIR + "[quick]" + FIT + CASE
    after = study(tuned, name="b", overrides=Overrides(seeds=1))
    assert rows(after)["DPO-LS"]["tuning_seconds"] == chosen["seconds"]
    assert rows(after)["HyperDPO"]["tuning_seconds"] is None
    resolved = json.loads((tmp_path / "work" / "b-quick" / "recipe.json").read_text())
    fit = resolved["variants"][1]["config"]["toy"]["fit"]
    assert (fit["learning_rate"], fit["epochs"]) == (chosen["options"]["fit"]["learning_rate"], 1)


def test_published_figures_stand_beside_ours_with_parameters_at_the_papers_size(study) -> None:
    text = PAIR + '[published]\nfeatures = 131\nobjectives = 5\n[published."DPO-LS"]\nmain = 0.5\nparameters = 1000\n'
    outcome = study(text + "[quick]" + FIT + CASE, overrides=Overrides(seeds=1))
    [entry] = outcome.document["published"]
    main = entry["figures"]["main"]
    assert main["ratio"] == pytest.approx(rows(outcome)["DPO-LS"]["main"]["value"] / 0.5)
    assert entry["figures"]["parameters"]["ours"] == 5 * (
        (131 * 8 + 8) + 4 * (8 * 8 + 8) + (8 * 8 + 8) + 8
    )  # five models: three points, but m = 5
    assert "Beside the paper's" in outcome.text


def test_parameters_are_the_papers() -> None:
    recipe = read_recipe(RECIPES / "table1.toml", "full")
    found = {v.label: parameters_at(v.config, 131, 5) for v in recipe.variants}
    expected = {label: figures["parameters"] for label, figures in recipe.published.items() if label != "HyperDPO"}
    assert {label: found[label] for label in expected} == expected
    assert set(expected.values()) == {551_232, 250_615, 801_792, 50_432}
    quick = read_recipe(RECIPES / "table1.toml", "quick")
    assert all(
        parameters_at(v.config, 131, 5) == n for v in quick.variants for k, n in expected.items() if v.label == k
    )
    assert parameters_at(PAPER, 131, 5) == 50_432


def test_unknown_data_is_refused_with_every_problem(tmp_path: Path, toy: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_given(["toy", f"tay={toy}", f"toy={tmp_path / 'no'}"], {"toy", "demo"})
    text = str(caught.value)
    assert "takes NAME=PATH; got 'toy'" in text
    assert "no chosen recipe uses data of that name (did you mean 'toy'?)" in text
    assert "there is no" in text
    with pytest.raises(ConfigError, match=r"toy=.* is not a data folder; give --data toy=DIR"):
        prepare(Case("toy", "toy"), {"toy": Path(__file__)}, tmp_path)


def mslr(folder: Path, part: str, queries: range) -> None:
    rng = np.random.default_rng(len(part))
    lines = [
        f"{rng.integers(5)} qid:{q} " + " ".join(f"{j}:{rng.integers(1, 9)}" for j in range(1, 137))
        for q in queries
        for _ in range(3)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")


def test_mslr_comes_as_folds_or_as_three_files(tmp_path: Path) -> None:
    for fold in (1, 2, 3):
        for i, part in enumerate(("train", "vali", "test")):
            mslr(tmp_path / "web" / f"Fold{fold}", part, range(100 * fold + 10 * i, 100 * fold + 10 * i + 3))
    given = {"mslr": tmp_path / "web"}
    one = prepare(Case("m", "mslr"), given, tmp_path / "data")
    three = prepare(Case("m", "mslr", folds=3), given, tmp_path / "data")
    assert one is not None
    assert three is not None
    assert [f.open(Case("m", "mslr")).qids[-1] for f in three] == ["122", "222", "322"]
    assert one[0].folder == three[0].folder
    assert not any(f.rotate for f in three)  # the files' own splits
    with pytest.raises(ConfigError, match=r"rotates 5 folds, but .* lacks Fold4, Fold5"):
        prepare(Case("m", "mslr", folds=5), given, tmp_path / "data")
    single = prepare(Case("m", "mslr", folds=4), {"mslr": tmp_path / "web" / "Fold1"}, tmp_path / "data")
    assert single is not None
    assert [f.rotate for f in single] == [4] * 4
    raw = one[0].open(Case("m", "mslr"), "paper").task.objectives
    assert [o.standardise for o in raw if o.normalisation == "softmax"] == [False, False]


def test_fewer_training_queries_are_other_data(toy: Path) -> None:
    whole, less = (Fold(toy).open(Case("toy", "toy", train_queries=n)) for n in (0, 10))
    assert (len(whole.queries("train")), len(less.queries("train"))) == (24, 10)
    assert whole.fingerprint == open_data(toy).fingerprint != less.fingerprint


def unit(key: str, kind: tuple[str, str], weight: float) -> Unit:
    case = Case("toy", "toy")
    return Unit(key, key, kind, weight, case, Fold(Path("x")), "default", RankConfig(), "base")


def test_the_time_left_rests_on_what_was_measured() -> None:
    pace = Pace()
    a, b, c = unit("a", ("toy", "dpo-ls"), 10), unit("b", ("big", "dpo-ls"), 20), unit("c", ("toy", "mo-dpo"), 5)
    assert pace.left([a], 1) is None
    pace.add(a, 30.0)
    assert [pace.estimate(u) for u in (a, b, c)] == [30, 60, 15]  # its kind; its method by weight; all by weight
    pace.add(b, 100.0)
    pace.add(a, 50.0)
    assert [pace.estimate(u) for u in (a, b)] == [40, 100]
    assert pace.left([a, b], 1) == 140
    assert pace.left([a, b], 2) == 100  # no sooner than the longest
    assert pace.left([], 2) == 0
    assert [time_left(s) for s in (None, 40, 600, 7200)] == [
        "time left not known yet", "about 40 s left", "about 10 min left", "about 2.0 h left",
    ]  # fmt: skip


def test_two_studies_do_not_share_a_work_folder_at_once(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunError, match="Another study is running"):
        execute([], Store(tmp_path))
    assert execute([], Store(tmp_path)) == []


def test_a_damaged_unit_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.file("x").parent.mkdir()
    store.file("x").write_bytes(b"PK no archive")
    with pytest.raises(RunError, match="delete it, and it is measured again"):
        store.load("x")


def test_rows_without_costs_leave_their_cells_empty() -> None:
    estimate = {"value": 0.5, "interval": None}
    row = {"case": "c", "label": "base", "seeds": [0], "main_std": 0.1, "against": None}
    [line] = csv.DictReader(
        csv_text([{**row, "hypervolume": estimate, "main": estimate, "sparsity": estimate}]).splitlines()
    )
    assert (line["hypervolume"], line["hypervolume_low"], line["seconds"], line["seeds"]) == ("0.5", "", "", "1")
