"""One trade-off as ONNX: the same scores in onnxruntime as here, for every kind of run, whatever the lists' lengths."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toys import D, data

from hyperdpo import cli
from hyperdpo.errors import ConfigError, RunError, WeightsError
from hyperdpo.methods import MethodConfig
from hyperdpo.rank.export import Frozen, export_rank, to_onnx
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig

FIT = FitConfig(epochs=1, patience=1, batch_size=8, learning_rate=0.05)
BASE_FIT = FitConfig(
    epochs=8, patience=8, batch_size=8, learning_rate=0.003
)  # a base whose scores differ: not all noise
ATTENTION, ALONE = NetConfig(8, 1, 2), NetConfig(8, 1, 0, use_base=True)
CONFIG = RankConfig(method=MethodConfig(points=3), net=ATTENTION, fit=FIT, base_fit=BASE_FIT, beta=(0.5,))
W = (0.3, 0.7)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    return data(tmp_path_factory.mktemp("data") / "toy", base_column="score")


@pytest.fixture(scope="module")
def mixture(toy, tmp_path_factory: pytest.TempPathFactory) -> RankRun:
    return train(toy, CONFIG, tmp_path_factory.mktemp("runs") / "mixture", device="cpu")


def apart(scores: np.ndarray, wanted: np.ndarray) -> float:
    return float((np.abs(scores - wanted) / np.maximum(1, np.abs(wanted))).max())


def differences(run: RankRun, content: bytes, w: Any = W, **at: Any) -> list[float]:
    """Largest difference of scores, of their size where above 1, on single lists and on a padded batch.

    Pads must be minus infinity.
    """
    session = onnxruntime.InferenceSession(content)
    outside = run.base.net is None
    rng, found, rows = np.random.default_rng(0), [], []
    for n in (1, 2, 200):
        features, base = rng.normal(size=(n, D)).astype(np.float32) * 3, rng.normal(size=n).astype(np.float32)
        wanted = run.score(features, w, base=base if run.base.column else None, **at)
        raw = base if run.base.column or not outside else run.base.trees.predict(features)
        given = {"features": features[None], "mask": np.ones((1, n), bool)}
        given |= {"base_score": raw[None].astype(np.float32)} if outside else {}
        [scores] = session.run(["scores"], given)
        found.append(apart(scores[0], wanted))
        rows.append((features, raw, wanted))
    batch = {"features": np.zeros((3, 200, D), np.float32), "mask": np.zeros((3, 200), bool)}
    batch |= {"base_score": np.zeros((3, 200), np.float32)} if outside else {}
    for i, (features, raw, _) in enumerate(rows):
        batch["features"][i, : len(features)] = features
        batch["mask"][i, : len(features)] = True
        if outside:
            batch["base_score"][i, : len(features)] = raw
    [scores] = session.run(["scores"], batch)
    for i, (features, _, wanted) in enumerate(rows):
        found.append(apart(scores[i, : len(features)], wanted))
        assert np.isneginf(scores[i, len(features) :]).all()
    return found


def frozen_apart(run: RankRun, w: Any = W, **at: Any) -> float:
    """Largest difference before ONNX comes in: the module that is recorded against the run, on a list of 30 items."""
    rng = np.random.default_rng(1)
    features, base = rng.normal(size=(30, D)).astype(np.float32), rng.normal(size=30).astype(np.float32)
    model = Frozen(run, run.weights(w), at.get("scale", 1.0), at.get("beta")).eval()
    with torch.no_grad():
        scores = model(torch.tensor(features)[None], torch.ones(1, 30, dtype=torch.bool), torch.tensor(base)[None])
    return apart(scores[0].numpy(), run.score(features, w, base=base, **at))


def test_a_mixture_with_its_base_inside(mixture: RankRun) -> None:
    assert max(differences(mixture, to_onnx(mixture, W, scale=2.5), scale=2.5)) < 1e-5


@pytest.mark.parametrize(
    ("parametrisation", "net", "base", "recorded"),
    [
        ("mixture", ALONE, "column:score", False),
        ("geometric", ATTENTION, "lightgbm", True),
        ("augmentation", ALONE, "column:score", False),
        ("scratch", ATTENTION, "column:score", False),
        ("film", ALONE, "column:score", True),
    ],
)
def test_every_parametrisation_and_base(
    toy, tmp_path: Path, parametrisation: str, net: NetConfig, base: str, recorded: bool
) -> None:
    config = replace(CONFIG, parametrisation=parametrisation, net=net, base=base)
    run = train(toy, config, tmp_path / "run", device="cpu")
    if recorded:
        assert max(differences(run, to_onnx(run, W, scale=0.5), scale=0.5)) < 1e-5
    else:
        assert frozen_apart(run, scale=0.5) < 1e-6
        assert frozen_apart(run, (0.0, 1.0)) < 1e-6


def test_temperatures_of_each_objectives_own(toy, mixture: RankRun, tmp_path: Path) -> None:
    config = replace(CONFIG, parametrisation="temperature", base="column:score", net=ALONE)
    run = train(toy, config, tmp_path / "run", device="cpu")
    own = (0.4, 1.3)
    assert max(differences(run, to_onnx(run, W, beta=own), beta=own)) < 1e-5
    with pytest.raises(ConfigError, match="which no exported graph holds; export at one common multiple"):
        to_onnx(mixture, W, beta=own)
    assert Frozen(mixture, mixture.weights(W), 1.5, (1.0, 1.0)).scale == 3.0  # twice the training temperatures: c = 2


@pytest.mark.parametrize("method", ["hypernetwork", "dpo-soup", "dpo-ls"])
def test_methods_whose_network_depends_on_w(toy, tmp_path: Path, method: str) -> None:
    config = replace(CONFIG, method=MethodConfig(method, points=3), base="column:score")  # type: ignore[arg-type]
    run = train(toy, config, tmp_path / "run", device="cpu")
    w = (0.5, 0.5)
    assert frozen_apart(run, w, scale=2.0) < 1e-5
    if method == "hypernetwork":
        assert max(differences(run, to_onnx(run, w), w)) < 1e-5
    if method == "dpo-ls":
        with pytest.raises(WeightsError, match="one model per weight and none for"):
            to_onnx(run, W)


def test_trees_are_refused(toy, tmp_path: Path) -> None:
    run = train(
        toy, replace(CONFIG, method=MethodConfig("lambdamart", points=2), net=None, base="column:score"),
        tmp_path / "run", device="cpu",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="LightGBM's own text format"):
        to_onnx(run, (1.0, 0.0))


def test_the_command_writes_the_model_and_a_card_whose_example_runs(
    mixture: RankRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "mine.onnx"
    told = ["export", str(mixture.folder.path), "--weights", "clicks=.3,quality=.7", "--scale", "2", "--out", str(out)]
    assert cli.main([*told, "--format", "onnx", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(out), str(out.with_suffix(".md"))]
    assert document["weights"] == {"clicks": 0.3, "quality": 0.7}
    about = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert json.loads(about["features"]) == list(mixture.task.features)
    assert (about["run"], about["scale"], about["main"]) == ("mixture", "2", "relevance")
    [code] = re.findall(r"```python\n(.*?)```", out.with_suffix(".md").read_text("utf-8"), re.S)
    monkeypatch.chdir(out.parent)
    space: dict[str, Any] = {}
    exec(code, space)
    wanted = mixture.score(np.zeros((10, D), np.float32), W, scale=2.0)
    np.testing.assert_allclose(space["scores"][0], wanted, atol=1e-5)
    assert cli.main(told) == 2
    assert "exists; choose another --out" in capsys.readouterr().err
    assert cli.main([*told[:-1], str(tmp_path / "x"), "--format", "peft"]) == 2
    assert "--format peft is for text runs; a ranking run is written as onnx" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(mixture: RankRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        export_rank(mixture, W, tmp_path / "file" / "model.onnx")
    with pytest.raises(WeightsError, match="The scale c is a finite number above 0"):
        to_onnx(mixture, W, scale=0.0)
