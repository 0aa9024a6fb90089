"""The home page in a real browser: choosing a run, and what axe-core says about the page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, App, parameters

pytestmark = pytest.mark.browser
SERIOUS = """async () => (await axe.run()).violations.filter((v) => ['serious', 'critical'].includes(v.impact))
  .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 120)}`))"""


def axe_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical on the page as it stands."""
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (requirements-dev.txt)")
    page.evaluate(next(Path(axe.__file__).parent.rglob("axe*.js")).read_text("utf-8"))
    return list(page.evaluate(SERIOUS))


def test_runs_are_found_filtered_and_the_address_keeps_it(page: Any, app: App) -> None:
    page.goto(f"{app.url}/runs")
    pictures = page.locator("img.hx-small-front")
    pictures.first.wait_for(timeout=PATIENCE)
    every = pictures.count()
    assert pictures.first.evaluate("(i) => i.complete && i.naturalWidth") == 96
    assert axe_faults(page) == []
    box = page.get_by_role("textbox", name="Search")
    box.fill("small-ls")
    box.press("Enter")
    page.get_by_text(f"1 of {every} runs.").wait_for(timeout=PATIENCE)
    assert parameters(page)["find"] == "small-ls"
    page.reload()
    page.get_by_text(f"1 of {every} runs.").wait_for(timeout=PATIENCE)
    assert page.get_by_role("link", name="small-ls").is_visible()


def test_a_foreign_filter_and_a_run_deleted_while_open_are_sentences(page: Any, app: App, home: Path) -> None:
    page.goto(f"{app.url}/runs?kind=zebra&order=sideways")
    page.get_by_text("The link's kind='zebra' is none of rank").wait_for(timeout=PATIENCE)
    doomed = home / "runs" / "doomed"
    shutil.copytree(home / "runs" / "small", doomed)
    try:
        page.goto(f"{app.url}/?run=doomed")
        page.locator(".hx-strip").wait_for(timeout=PATIENCE)
    finally:
        shutil.rmtree(doomed)
    page.reload()
    page.get_by_text("There is no run called 'doomed' here.").wait_for(timeout=PATIENCE)
    page.get_by_text("Shown instead:").wait_for(timeout=PATIENCE)
