"""A small trained run, the app on a free port, and a page in a real browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT), str(ROOT / "tests")]
from driver import PATIENCE, App, find_chromium, launch, listen  # noqa: E402

CI = os.environ.get("CI", "").lower() == "true"


@pytest.fixture(autouse=True)
def _main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest leaves its script as `__main__`, which processes started later would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not the repository, with runs/small, small-ls (its baseline), small-film (another network on the
    same base), small-k5 (the same measured at another k), one (of one objective, so a front of one point), broken, and
    orphan (no data)."""
    from dataclasses import replace

    from hyperdpo.methods import MethodConfig
    from hyperdpo.rank.demo import make_demo
    from hyperdpo.rank.evaluate import evaluate_run
    from hyperdpo.rank.run import RankRun
    from hyperdpo.rank.train import RankConfig, train
    from hyperdpo.training import FitConfig

    folder = tmp_path_factory.mktemp("elsewhere")
    data = make_demo(folder / "data", queries=60).with_task(objectives=["clicks", "quality", "margin"])
    config = RankConfig(fit=FitConfig(epochs=2), base="lightgbm")
    single = data.with_task(objectives=["clicks"])  # first, since the newest run is what opens by itself
    one = train(single, replace(config, fit=FitConfig(epochs=1)), folder / "runs" / "one")
    evaluate_run(one, single, save=True)
    run = train(data, config, folder / "runs" / "small")
    linear = replace(config, fit=FitConfig(epochs=1), method=MethodConfig(method="dpo-ls", points=4))
    other = train(data, linear, folder / "runs" / "small-ls")
    evaluate_run(run, data, baselines=[other], save=True)
    _copy(folder / "runs" / "small", folder / "runs" / "broken")
    (folder / "runs" / "broken" / "front.json").write_text('{"format": "hyperdpo-front", "fronts": [{"name": ')
    orphan = _copy(folder / "runs" / "small", folder / "runs" / "orphan")
    _without_data(orphan)
    film = train(data, replace(config, fit=FitConfig(epochs=1), parametrisation="film"), folder / "runs" / "small-film")
    evaluate_run(film, data, save=True)
    other_k = RankRun(_copy(folder / "runs" / "small-film", folder / "runs" / "small-k5"))
    evaluate_run(other_k, data, k=5, save=True)
    return folder


def _copy(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target


def _without_data(run: Path) -> None:
    """Point a run's config at data that is nowhere, in a consistent folder."""
    import hashlib
    import json

    config = json.loads((run / "config.json").read_text("utf-8"))
    config["data"]["path"] = "/nowhere/at/all"
    config["data"]["origin"] = {"kind": "files"}
    content = json.dumps(config).encode()
    (run / "config.json").write_bytes(content)
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    manifest["files"]["config.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def app(home: Path) -> Iterator[App]:
    """The app, started from `home`."""
    with App(ROOT / "dashboard" / "app.py", home) as started:
        yield started


@pytest.fixture(scope="session")
def text_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app, started from a folder with the small text runs small-text and text-one, which has one objective."""
    from stories import make_stories

    folder = tmp_path_factory.mktemp("stories")
    make_stories(folder, steps=1, prompts=20, objectives=1, name="text-one")
    make_stories(folder)
    with App(ROOT / "dashboard" / "app.py", folder) as started:
        yield started


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; the tests are skipped with a reason where there is none, but never in CI."""
    pytest.importorskip("playwright.sync_api", reason="needs Playwright (requirements-dev.txt)")
    if find_chromium() is None:
        reason = "needs a Chromium: install the system's package, or run `playwright install chromium`"
        if CI:
            pytest.fail(reason)
        pytest.skip(reason)
    with launch() as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page at 1440 x 900; it fails the test if the console has said an error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_navigation_timeout(PATIENCE)  # a busy machine needs more than Playwright's half minute
    opened = context.new_page()
    errors = listen(opened)
    yield opened
    context.close()
    assert not errors, errors
