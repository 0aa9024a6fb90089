"""Your data, in a browser: upload, train, reload in the middle, open, measure; and files that cannot be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import PATIENCE, App, parameters

pytestmark = pytest.mark.browser


def shop(folder: Path) -> Path:
    """A small table of 80 lists: relevance, clicks, a taste with values below 0, and three features."""
    rng = np.random.default_rng(0)
    lines = ["query_id,relevance,clicks,taste,a,b,c"]
    for query in range(80):
        for a, b, c in rng.normal(size=(8, 3)):
            relevance = int(np.clip(round(1.5 + a + rng.normal() * 0.4), 0, 4))
            clicked = int(rng.random() < 1 / (1 + np.exp(2 - 2 * b)))
            lines.append(f"{query},{relevance},{clicked},{c + rng.normal() * 0.2:.3f},{a:.3f},{b:.3f},{c:.3f}")
    file = folder / "shop.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def tidy(home: Path) -> Iterator[None]:
    """What is trained and uploaded here is taken away again: other tests open the newest run."""
    yield
    for name in ("shop", ".jobs", ".uploads"):
        shutil.rmtree(home / "runs" / name, ignore_errors=True)


def choose(page: Any, box: str, *options: str) -> None:
    """Options of a select box or a multiselect."""
    for option in options:
        page.get_by_role("combobox", name=box, exact=True).click()
        page.get_by_role("option", name=option, exact=True).click()
    page.keyboard.press("Escape")


@pytest.mark.usefixtures("tidy")
def test_files_become_a_run_in_a_process_that_outlives_the_page(
    page: Any, app: App, home: Path, tmp_path: Path
) -> None:
    page.goto(f"{app.url}/yours")
    page.locator("input[type=file]").set_input_files(str(shop(tmp_path)))
    page.get_by_text("80 (48 train, 16 validation, 16 test)").wait_for(timeout=PATIENCE)
    choose(page, "Objectives", "clicks", "taste")
    page.get_by_text("taste: its values are").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Start the training").click()
    page.get_by_text("Training shop").wait_for(timeout=PATIENCE)
    page.reload()
    page.get_by_role("button", name="Open the run").wait_for(timeout=PATIENCE)
    assert parameters(page)["goal"] == "taste:softmax:max", "the last of them; the address keeps what was chosen"
    assert (home / "runs" / "shop" / "manifest.json").exists()
    page.get_by_role("button", name="Measure", exact=True).click()
    page.get_by_text("On all 80 lists, at c = 1").wait_for(timeout=PATIENCE)
    with page.expect_download() as taken:
        page.get_by_role("button", name="Download the figures, JSON").click()
    found = json.loads(Path(taken.value.path()).read_text("utf-8"))
    assert found["lists"] == 80
    shown = page.get_by_role("row", name="HyperDPO (mixture)").inner_text()
    assert f"{found['fronts'][0]['hypervolume']:.4f}" in shown
    page.get_by_role("button", name="Open the run").click()
    page.wait_for_url("**run=shop**", timeout=PATIENCE)


def test_a_run_is_explored_on_other_data(page: Any, app: App, home: Path) -> None:
    page.goto(f"{app.url}/yours?file={home / 'data'}&run=small")
    page.get_by_role("button", name="Explore it with the sliders").click(timeout=PATIENCE)
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    assert parameters(page)["run"] == "small"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "picture.png"),
        ("broken.txt", b"2 qid:1 1:0.5\n1 qid:1 x:0.5\n", "line 2"),
        ("empty.csv", b"", "empty.csv"),
        ("lists.jsonl", b'{"prompt": "a", "responses": ["b"]}\n', "no record has a score"),
    ],
)
def test_files_that_cannot_be_read_are_told_of_in_a_sentence(
    page: Any, app: App, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    page.goto(f"{app.url}/yours")
    page.locator("input[type=file]").set_input_files(str(tmp_path / name))
    alert = page.get_by_role("alert")
    alert.get_by_text(said).first.wait_for(timeout=PATIENCE)
    assert "Traceback" not in alert.inner_text()
    assert "unforeseen" not in alert.inner_text()
    page.get_by_role("button", name="Other files").click()
    page.get_by_text("Upload files").wait_for(timeout=PATIENCE)
