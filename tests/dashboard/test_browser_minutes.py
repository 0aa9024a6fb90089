"""The first five minutes: find a trade-off, pin it, compare, take the model away, score a list with it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from driver import PATIENCE, App, open_live, parameters

from hyperdpo.rank.run import RankRun

pytestmark = pytest.mark.browser


def test_the_first_five_minutes(page: Any, app: App, home: Path, tmp_path: Path) -> None:
    open_live(page, f"{app.url}/?run=small")
    page.get_by_text("Find it for me").click()
    limit = page.get_by_role("spinbutton", name="relevance, % of base")
    limit.wait_for(timeout=PATIENCE)
    limit.fill("99")
    limit.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Find", exact=True).click()
    page.locator(".hx-found").wait_for(timeout=PATIENCE)
    page.wait_for_function("new URLSearchParams(location.search).get('c') !== '1'", timeout=PATIENCE)
    found = parameters(page)

    page.get_by_role("button", name="pin as A").click()
    page.wait_for_function("new URLSearchParams(location.search).has('a')", timeout=PATIENCE)
    assert parameters(page)["a"] == f"{found['w']}@{found['c']}"
    page.locator("input.slider").nth(2).focus()
    page.keyboard.press("End")
    page.wait_for_function("new URLSearchParams(location.search).get('w') === '0,0,100'", timeout=PATIENCE)
    page.get_by_text("vs A").first.wait_for(timeout=PATIENCE)
    chosen = parameters(page)

    page.get_by_role("link", name="Compare").click()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for(timeout=PATIENCE)
    page.wait_for_function("new URLSearchParams(location.search).has('a')", timeout=PATIENCE)
    assert parameters(page).items() >= {"runs": "small", "run": "small", "a": chosen["a"]}.items()
    page.get_by_role("link", name="Explore").click()
    page.wait_for_function("new URLSearchParams(location.search).get('w') === '0,0,100'", timeout=PATIENCE)
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    assert parameters(page) == chosen, "another view loses nothing"

    page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()
    told = page.get_by_text("hyperdpo export").first.inner_text()
    assert f"--weights 0,0,1 --scale {found['c']}" in told
    page.get_by_role("button", name="Make it here").click()
    button = page.get_by_role("button", name="Save the ONNX model")
    button.wait_for(timeout=PATIENCE)
    with page.expect_download(timeout=PATIENCE) as download:
        button.click()
    download.value.save_as(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as packed:
        packed.extractall(tmp_path)
        model, card = sorted(packed.namelist(), reverse=True)
    assert f"c = {found['c']}" in (tmp_path / card).read_text("utf-8")
    assert f'"{model}"' in (tmp_path / card).read_text("utf-8"), "the card's example opens the file beside it"

    run = RankRun(home / "runs" / "small")
    features = np.random.default_rng(0).random((7, len(run.task.features)), dtype=np.float32)
    base = run.base.trees.predict(features)[None].astype(np.float32)  # LightGBM's: a second input
    session = onnxruntime.InferenceSession(tmp_path / model)
    [scores] = session.run(
        ["scores"], {"features": features[None], "mask": np.ones((1, 7), bool), "base_score": base}
    )  # fmt: skip
    wanted = run.score(features, (0, 0, 1), scale=float(found["c"]))
    np.testing.assert_allclose(scores[0], wanted, atol=1e-5)
