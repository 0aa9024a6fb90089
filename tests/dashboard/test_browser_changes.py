"""What changes for users, driven in a real browser: pin A, move, pin B, pick a list, filter, reload; and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, App, open_live, parameters, trace

from hyperdpo.cli import main

pytestmark = pytest.mark.browser
DRAWN = """(key) => {
  const chart = document.querySelector(`.st-key-${key} .js-plotly-plot`);
  const seen = (chart?.data ?? []).filter((t) => String(t.meta).startsWith('pin'));
  return seen.length === 2 && seen.every((t) => Number.isFinite(t.x[0]));
}"""

# The cells in one look: the page may be drawn anew between two.
FIRST_PINNED = """(name) => {
  const row = document.querySelector(`[role=region][aria-label="${name}"] tbody tr`);
  const cells = [...(row?.querySelectorAll('td') ?? [])].map((cell) => cell.innerText);
  return cells.length > 3 && cells;
}"""


def wait_for(page: Any, **wanted: str | None) -> None:
    """Until the address says so; None is a parameter that is not there."""
    script = "(all) => all.every(([k, v]) => new URLSearchParams(location.search).get(k) === v)"
    page.wait_for_function(script, arg=[list(pair) for pair in wanted.items()], timeout=PATIENCE, polling=50)


def told(page: Any) -> list[int]:
    """The numbers of the lists in the table, in its order."""
    return [int(v) for v in page.locator("button[data-list]").evaluate_all("(all) => all.map((b) => b.dataset.list)")]


def wait_for_table(page: Any, expected: list[int]) -> None:
    script = "(want) => [...document.querySelectorAll('button[data-list]')].map((b) => b.dataset.list).join() === want"
    page.wait_for_function(script, arg=",".join(map(str, expected)), timeout=PATIENCE, polling=50)


def by_command(home: Path, capsys: pytest.CaptureFixture[str], *ask: str) -> list[dict[str, Any]]:
    """The lists that the command tells for the same choices."""
    assert main(["changes", str(home / "runs" / "small"), *ask, "--top", "8", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["lists"]
    return rows


def test_pinning_a_and_b_and_picking_a_list_by_key(
    page: Any, app: App, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_live(page, f"{app.url}/?run=small&w=100,0,0&c=0.5")
    first = by_command(home, capsys, "--to", "1,0,0@0.5")
    page.locator(".hx-slopes").wait_for(timeout=PATIENCE)
    wait_for_table(page, [row["list"] for row in first])
    page.get_by_role("button", name="pin as A").press("Enter")
    wait_for(page, a="100,0,0@0.5", b=None)
    page.get_by_text("nothing changes").wait_for(timeout=PATIENCE)
    assert told(page) == []
    page.locator("input.slider").nth(2).focus()
    page.keyboard.press("End")
    wait_for(page, w="0,0,100")
    page.get_by_role("button", name="pin as B").press("Enter")
    wait_for(page, a="100,0,0@0.5", b="0,0,100@0.5")
    page.get_by_text("B vs A:").first.wait_for(timeout=PATIENCE)
    assert page.get_by_role("columnheader", name="B against A").count() == 1
    second = by_command(home, capsys, "--from", "1,0,0@0.5", "--to", "0,0,1@0.5")
    wait_for_table(page, [row["list"] for row in second])
    cells = page.locator(".hx-changed tbody tr").first.locator("td").all_inner_texts()
    assert cells[0] == f"{second[0]['distance']:.3f}"
    assert cells[2] == f"{second[0]['before']['relevance']:.3f}"
    for letter in ("", "-b"):
        assert trace(page, f"pin{letter}")["x"]
    third = page.locator("button[data-list]").nth(2)
    third.press("Enter")
    wait_for(page, q=str(second[2]["list"]))
    pressed = page.locator('button[data-list][aria-pressed="true"]')
    pressed.wait_for(timeout=PATIENCE)
    assert pressed.inner_text() == page.locator(".hx-listname").inner_text()
    assert page.evaluate("document.activeElement.dataset.list") == str(second[2]["list"])
    page.locator("input.slider").nth(0).focus()
    page.keyboard.press("End")
    wait_for(page, w="100,0,0")
    address = parameters(page)
    assert told(page) == [row["list"] for row in second], "what B is compared with does not follow the sliders"
    said = page.locator('tr[data-objective="clicks"] td').last.inner_text()
    for view, chart in (("Temperature", "heat-main"), ("Compare", "compare-main")):
        page.get_by_role("link", name=view).click()
        page.wait_for_function(DRAWN, arg=chart, timeout=PATIENCE, polling=100)
        first = page.wait_for_function(FIRST_PINNED, arg="Pinned on small", timeout=PATIENCE, polling=100)
        change, interval = first.json_value()[2:4]
        assert said in (f"{change} ({interval})", f"no measurable difference ({interval})"), view
    page.get_by_role("link", name="Explore").click()
    wait_for(page, **address)
    page.reload()
    page.locator(".hx-slopes").wait_for(timeout=PATIENCE)
    wait_for(page, **address)
    page.get_by_role("button", name="swap A and B").press("Enter")
    wait_for(page, a="0,0,100@0.5", b="100,0,0@0.5")
    page.get_by_role("button", name="unpin both").press("Enter")
    wait_for(page, a=None, b=None)


def test_filter_and_reasons_on_a_phone(browser: Any, app: App, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    open_live(page, f"{app.url}/?run=small&w=0,0,100&c=0.3&only=lost&q=100000")
    page.get_by_text("no test list number 100,000").wait_for(timeout=PATIENCE)
    page.locator(".hx-slopes").wait_for(timeout=PATIENCE)
    lost = by_command(home, capsys, "--to", "0,0,1@0.3", "--only", "lost")
    wait_for_table(page, [row["list"] for row in lost])
    page.get_by_text("relevance rises", exact=True).click()
    wait_for(page, only="gained")
    gained = by_command(home, capsys, "--to", "0,0,1@0.3", "--only", "gained")
    wait_for_table(page, [row["list"] for row in gained])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".hx-slopes").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    drawn = page.locator(".hx-slopes svg")
    assert drawn.bounding_box()["width"] > 15
    rows = page.locator(".hx-slopes ol").last.locator("li").count()
    assert drawn.locator("line").count() >= rows
    page.get_by_text("Labels, and what moved each item").click()
    page.locator(".hx-why summary").first.wait_for(timeout=PATIENCE)
    page.locator(".hx-why summary").first.click()
    page.locator(".hx-why[open] li").first.wait_for(timeout=PATIENCE)
    assert page.get_by_text("A sensitivity (integrated gradients)").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_answers_at_a_and_b_stand_side_by_side_with_their_differences_marked(page: Any, text_app: App) -> None:
    page.goto(f"{text_app.url}/text?w=34,33,33&strip=0&n=16&a=100,0,0%401&b=0,100,0%402")
    page.locator(".hx-answer .hx-score").nth(3).wait_for(timeout=PATIENCE)
    assert page.locator(".hx-answer h3").all_inner_texts() == ["A", "B, c = 2", "Base model"]
    page.get_by_text("B against A:").wait_for(timeout=PATIENCE)
    texts = page.locator(".hx-answer .hx-told").all_inner_texts()
    assert (page.locator("ins, del").count() > 0) == (texts[0] != texts[1])
    page.get_by_text("Mark differences").click()
    page.wait_for_function("() => !document.querySelector('ins, del')", timeout=PATIENCE)
    assert page.locator(".hx-answer .hx-told").all_inner_texts() == texts
    page.get_by_role("button", name="unpin both").press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.hx-answer').length === 2", timeout=PATIENCE)
    wait_for(page, a=None, b=None)
