"""Find it for me in a real browser: the sliders go where the answer is, and the page says the package's figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, App, open_live, parameters, trace

from hyperdpo.finding import Limit, Question
from hyperdpo.rank.data import open_data
from hyperdpo.rank.find import Finder, open_finder
from hyperdpo.rank.run import RankRun

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def finder(home: Path) -> Finder:
    run = RankRun(home / "runs" / "small")
    return open_finder(run, run.read(open_data(home / "data")))


def cells(page: Any, name: str) -> list[str]:
    return list(page.locator(f'tr[data-objective="{name}"] td').all_inner_texts())


def test_finding_moves_the_sliders_and_the_page_says_the_packages_figures(page: Any, app: App, finder: Finder) -> None:
    open_live(page, f"{app.url}/?run=small&w=10,10,80&a=10,10,80%401&ci=2")
    assert trace(page, "bars")["x"]
    page.get_by_text("Find it for me").click()
    limit = page.get_by_role("spinbutton", name="relevance, % of base")
    limit.wait_for(timeout=PATIENCE)
    limit.fill("95")
    limit.press("Enter")
    button = page.get_by_role("button", name="Find", exact=True)
    button.focus()
    page.wait_for_timeout(500)
    button.press("Enter")
    page.locator(".hx-found").wait_for(timeout=PATIENCE)
    found = finder.find(Question("clicks", (Limit("relevance", 0.95),)), 10)
    percent = ",".join(map(str, found.answer.spot.parts))
    page.wait_for_function(
        "(w) => new URLSearchParams(location.search).get('w') === w", arg=percent, timeout=PATIENCE, polling=50
    )
    said = parameters(page)
    assert (said["goal"], said["keep"]) == ("clicks", "relevance:95")
    assert (said["w"], float(said["c"]), said["a"], said["ci"]) == (percent, found.answer.spot.scale, "10,10,80@1", "2")
    sliders = [int(page.locator("input.slider").nth(i).input_value()) for i in range(3)]
    assert sliders == list(found.answer.spot.parts)
    for i, name in enumerate(finder.names):
        page.wait_for_function(
            "([n, v]) => document.querySelector(`tr[data-objective='${n}'] td`).innerText === v",
            arg=[name, f"{found.answer.told.ndcg[i]:.3f}"], timeout=PATIENCE, polling=50,
        )  # fmt: skip
        assert cells(page, name)[7] == f"{found.answer.change[i].queries:,}"
    words = page.locator(".hx-found").inner_text()
    verdict = found.verdicts[0]
    assert f"Relevance keeps {100 * verdict.told:.1f} % of the base" in words
    assert "test lists" in words
    assert page.locator(".hx-apart").inner_text().startswith("A and this choice")

    page.get_by_role("spinbutton", name="relevance, % of base").fill("300")
    page.get_by_role("spinbutton", name="relevance, % of base").press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Find", exact=True).click()
    page.get_by_text("No position of the sliders keeps every limit").wait_for(timeout=PATIENCE)

    page.get_by_role("button", name="Go to the nearest").click()
    page.get_by_text(re.compile("^Nearest to .* by the validation lists")).wait_for(timeout=PATIENCE)

    asked = {"goal": "clicks", "keep": "relevance:300"}
    assert asked.items() <= parameters(page).items(), "the address asks the same question"
    page.reload()
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    page.get_by_text("Find it for me").click()
    limit.wait_for(timeout=PATIENCE)
    assert float(limit.input_value()) == 300
    assert asked.items() <= parameters(page).items()
