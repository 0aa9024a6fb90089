"""The command line's contract: sample, label, train text, evaluate, generate, export, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperdpo import cli
from hyperdpo.cli import main
from hyperdpo.commands.text import TrainText
from hyperdpo.errors import ConfigError
from hyperdpo.methods import MethodConfig
from hyperdpo.text.card import made_of
from hyperdpo.text.train import TextConfig

FAST = ["--epochs", "1", "--batch-size", "4", "--max-response", "24", "--max-prompt", "32", "--device", "cpu"]


def ok(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(a) for a in argv]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by commands alone."""
    here = tmp_path_factory.mktemp("commands")
    (here / "prompts.txt").write_text("".join(f"Story number {i}\n" for i in range(12)))
    lists, out = here / "lists.jsonl.xz", here / "run"
    sample = ["sample", model_folder, "--prompts", here / "prompts.txt", "--n", 3, "--out", here / "raw.jsonl"]
    assert main([str(a) for a in [*sample, "--max-new-tokens", 16]]) == 0
    label = ["label", here / "raw.jsonl", "--scorers", "brief,vivid", "--out", lists]
    assert main([str(a) for a in label]) == 0
    assert main([str(a) for a in ["train", "text", "--model", model_folder, "--data", lists, "--out", out, *FAST]]) == 0
    return out


def test_generate_prints_the_documented_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["generate", trained, "--prompt", "Story number 3", "--json", "--max-new-tokens", 6]
    one = json.loads(ok(capsys, *common, "--weights", "brief=.5,vivid=.5", "--scale", 2))
    assert set(one) == {"prompt", "base", "answers"}
    assert one["answers"][0]["weights"] == {"brief": 0.5, "vivid": 0.5}
    assert one["answers"][0]["scale"] == 2.0
    strip = json.loads(ok(capsys, *common, "--strip", 11))
    assert len(strip["answers"]) == 11
    assert strip == json.loads(ok(capsys, *common, "--strip", 11))
    assert "c is from 0.5 to 10" in refused(capsys, *common, "--scale", 20)
    assert "--strip answers at many weights" in refused(capsys, *common, "--strip", 3, "--weights", ".5,.5")
    assert "sum" in refused(capsys, *common, "--weights", ".5,.9")


def test_evaluate_reports_chance_accuracy_and_whether_texts_follow(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    document = json.loads(
        ok(capsys, "evaluate", trained, "--points", 3, "--follow", 4, "--json", "--out", tmp_path / "f.json")
    )
    assert document == json.loads((tmp_path / "f.json").read_text())
    assert document["chance"]["cross_entropy"] == pytest.approx(1.0986, abs=1e-3)
    assert len(document["accuracy"]["HyperDPO"]) == 3
    assert len(document["follow"]["rows"]) == 4
    text = ok(capsys, "evaluate", trained, "--points", 3)
    assert "Chance: cross-entropy 1.0986" in text
    assert "--k is NDCG" in refused(capsys, "evaluate", trained, "--k", 5)


def test_a_run_of_few_lists_is_measured_on_the_test_part_of_those(
    trained: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lists, run = trained.parent / "lists.jsonl.xz", tmp_path / "few"
    ok(capsys, "train", "text", "--model", model_folder, "--data", lists, "--limit", 5, "--out", run, *FAST)
    used = json.loads((run / "config.json").read_text())["data"]
    assert used["limit"] == 5
    assert sum(used["lists"].values()) == 5
    by_itself = json.loads(ok(capsys, "evaluate", run, "--points", 2, "--json"))
    assert by_itself["lists"] == used["lists"]["test"]
    named = json.loads(ok(capsys, "evaluate", run, "--points", 2, "--data", lists, "--json"))
    assert named["lists"] > used["lists"]["test"], "files that are named are measured whole"


def test_export_writes_what_it_says(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "mine"
    told = json.loads(ok(capsys, "export", trained, "--weights", ".5,.5", "--out", out, "--json"))
    assert {"adapter/adapter_config.json", "base/model.safetensors", "README.md"} <= set(told["files"])
    assert "Only c = 1" in refused(capsys, "export", trained, "--weights", "1,0", "--scale", 3, "--out", tmp_path / "x")


def test_info_and_compare_of_a_text_run_say_what_it_is(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "mask of rank 4" in ok(capsys, "info", trained)
    config = json.loads(ok(capsys, "info", trained, "--json"))
    assert config["kind"] == "text"
    assert made_of(config) == ""
    assert made_of({**config, "distil": 1}) == ", distilled in 1 pass from what its corners add up to"
    both = {**config, "replicas": 4, "distil": 3}
    assert made_of(both) == ", the mean of 4 trainings, distilled in 3 passes from what its corners add up to"
    table = ok(capsys, "compare", trained, trained)
    assert "closeness, nats, mean" in table
    assert "1.000 [1.000, 1.000]" in table


def test_wrong_kinds_are_named(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    err = refused(
        capsys, "train", "text", "--model", tmp_path / "none", "--data", "nothing.jsonl", "--out", tmp_path / "o"
    )
    assert "nothing.jsonl" in err
    err = refused(
        capsys, "train", "text", "--model", "m", "--data", "x", "--out", tmp_path / "o", "--beta", "a", "--tokens", 0
    )
    assert "--beta is a number" in err
    assert "tokens = 0 is out of range" in err


def test_how_w_is_drawn_follows_what_depends_on_it() -> None:
    def method(*argv: str) -> MethodConfig:
        command = cli.app.cli(
            prog="x",
            args=["train", "text", "--model", "m", "--data", "d", "--out", "o", *argv],
            config=(cli.FlagCreatePairsOff,),
        )
        assert isinstance(command, TrainText)
        return command.config().method

    assert method() == TextConfig().method
    assert method().draw == "split"
    assert method("--conditioning", "prompt") == MethodConfig()
    assert method("--conditioning", "prompt", "--draw", "split").draw == "split"
    assert method("--draw", "balanced", "--alpha", "0.2") == MethodConfig(draw="balanced", alpha=0.2)
    with pytest.raises(ConfigError, match=r"--alpha is of draws of w, .* got 0\.2: leave it out, or take --draw balan"):
        method("--alpha", "0.2")
    with pytest.raises(ConfigError, match=r"no alignment penalty; got lambda 0\.1: leave it out, or take another draw"):
        method("--penalty", "0.1")
