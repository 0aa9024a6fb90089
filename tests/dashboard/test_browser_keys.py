"""Every view without a mouse: where Tab goes, and every step of a session by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, App, address, open_live, parameters
from walking import settle

from hyperdpo.weights import rebalance

pytestmark = pytest.mark.browser
# The element that has the focus, inside components too, and a number by which a second visit is known.
FOCUSED = """() => {
  let e = document.activeElement;
  while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
  if (!e || e === document.body) return null;
  window.hxSeen ??= new Map();
  if (!window.hxSeen.has(e)) window.hxSeen.set(e, window.hxSeen.size);
  const box = e.getBoundingClientRect(), label = e.labels?.[0]?.textContent;
  const name = e.getAttribute('aria-label') || label || (e.tagName === 'MAIN' ? 'the page' : e.textContent) || e.id;
  return [window.hxSeen.get(e), name.trim().replace(/\\s+/g, ' ').slice(0, 80), box.width * box.height > 0];
}"""
MOST_TABS = 120
FOLD = "keyboard_arrow_right"  # the name of an icon is its text


def focused(page: Any) -> str:
    """The name of what has the focus; empty where nothing has."""
    now = page.evaluate(FOCUSED)
    return str(now[1]) if now else ""


def wait_for_focus(page: Any, name: str) -> None:
    """The address can be ahead of the component that moves the focus."""
    page.wait_for_function(f"name => ({FOCUSED})()?.[1] === name", arg=name, timeout=PATIENCE, polling=50)


def tab_round(page: Any) -> list[tuple[str, bool]]:
    """Tab from the page's beginning until the focus leaves it or comes back: names, and whether each can be seen."""
    page.evaluate("document.activeElement.blur()")
    order: dict[int, tuple[str, bool]] = {}
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUSED)
        if now is None or now[0] in order:
            return list(order.values())
        order[now[0]] = (now[1], now[2])
    raise AssertionError(f"Tab does not come round: {list(order.values())}")


def tab_to(page: Any, name: str, *, whole: bool = False) -> None:
    """Tab forward until something whose name begins so, or is `whole` so, has the focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        now = focused(page)
        if now == name or (now.startswith(name) and not whole):
            return
    raise AssertionError(f"Tab never reaches {name!r}")


def wait_for_url(page: Any, key: str, value: str) -> None:
    page.wait_for_function(
        "([k, v]) => new URLSearchParams(location.search).get(k) === v", arg=[key, value], timeout=PATIENCE, polling=50
    )


def test_tab_reaches_every_control_in_the_order_it_is_read(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    page.locator(".hx-slopes").wait_for(timeout=PATIENCE)
    settle(page)
    order = tab_round(page)
    assert all(seen for _, seen in order), order
    names = [name for name, _ in order]
    place = -1
    for wanted in (
        "equal", "Only clicks", "Keep clicks", "clicks", "Only margin", "Keep margin", "margin", "How far from",
        "reset", "pin as A", "copy link", "Computed on",
    ):  # fmt: skip
        place = next((i for i, n in enumerate(names) if i > place and n.startswith(wanted)), -1)
        assert place >= 0, (wanted, names)
    for wanted in ("Run", "Vertical axis", "Horizontal axis", "NDCG@", "95 % intervals", "Download", "Find it for me"):
        place = next((i for i, n in enumerate(names) if i > place and wanted in n), -1)
        assert place >= 0, (wanted, names)
    for view in ("Explore", "Text", "Temperature", "Compare", "Runs"):
        assert view in names


def test_a_session_on_explore_by_key_alone(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    page.locator(".hx-slopes").wait_for(timeout=PATIENCE)
    tab_to(page, "clicks")
    percent = [40, 30, 30]
    for key, by in (("ArrowRight", 1), ("ArrowLeft", -1), ("PageUp", 10)):
        page.keyboard.press(key)
        percent = rebalance(percent, 0, percent[0] + by)
        wait_for_url(page, "w", ",".join(map(str, percent)))
    tab_to(page, "How far from the base")
    page.keyboard.press("PageDown")
    wait_for_url(page, "c", "0.631")
    tab_to(page, "pin as A")
    page.keyboard.press("Enter")
    wait_for_url(page, "a", ",".join(map(str, percent)) + "@0.631")
    wait_for_focus(page, "pin as B")  # in the place of the button that went
    page.keyboard.press("Space")
    page.get_by_role("button", name="unpin both").wait_for(timeout=PATIENCE)
    assert {"a", "b"} <= set(parameters(page))
    tab_to(page, "Vertical axis")
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="relevance", exact=True).wait_for(timeout=PATIENCE)
    page.keyboard.type("relevance")
    page.keyboard.press("Enter")
    wait_for_url(page, "y", "relevance")
    settle(page)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, FOLD + "Find it for me")
    page.keyboard.press("Enter")
    page.get_by_role("spinbutton", name="relevance, % of base").wait_for(timeout=PATIENCE)
    settle(page)
    tab_to(page, "Find", whole=True)
    page.keyboard.press("Enter")
    page.locator(".hx-found").wait_for(timeout=PATIENCE)
    settle(page)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Runs")
    page.keyboard.press("Enter")
    page.locator("img.hx-small-front").first.wait_for(timeout=PATIENCE)
    assert address(page).split("?")[0].endswith("/runs")


def reached(page: Any, *wanted: str) -> None:
    """Tab goes through the whole page, sees what it reaches, and meets the controls of these names in this order."""
    missing = "?"
    for _ in range(4):  # the browser fetches what draws a kind of control when the first of them comes
        order = tab_round(page)
        page.evaluate("document.activeElement.blur()")
        missing = first_missing([name for name, _ in order], wanted)
        if not missing and all(seen for _, seen in order):
            return
        page.wait_for_timeout(1000)
    raise AssertionError(f"{missing or 'something hidden'} among {order}")


def first_missing(names: list[str], wanted: tuple[str, ...]) -> str:
    """The first of `wanted` that none of `names` holds behind the one before it."""
    place = -1
    for name in wanted:
        place = next((i for i, n in enumerate(names) if i > place and name in n), -1)
        if place < 0:
            return name
    return ""


def pick(page: Any, box: str, option: str) -> None:
    """An option of a select box, by typing."""
    tab_to(page, box)
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name=option, exact=True).wait_for(timeout=PATIENCE)
    page.keyboard.type(option)
    page.keyboard.press("Enter")


def again(page: Any) -> None:
    """From the page's beginning, once it stands still."""
    settle(page)
    page.evaluate("document.activeElement.blur()")


def test_temperature_by_key_alone(page: Any, app: App) -> None:
    page.goto(f"{app.url}/temperature?run=small&x=clicks&y=quality")
    page.locator("tr[data-c]").first.wait_for(timeout=PATIENCE)
    settle(page)
    reached(
        page, "Run", "Vertical axis", "Horizontal axis", "NDCG@", "Download", "How far from the base",
        "A temperature for each objective",
    )  # fmt: skip
    pick(page, "Vertical axis", "margin")
    wait_for_url(page, "y", "margin")
    again(page)
    tab_to(page, "How far from the base")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Number(new URLSearchParams(location.search).get('c')) > 1", timeout=PATIENCE)
    again(page)
    tab_to(page, FOLD + "A temperature for each objective")
    page.keyboard.press("Enter")
    settle(page)
    tab_to(page, "clicks")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("new URLSearchParams(location.search).has('own')", timeout=PATIENCE)
    settle(page)
    tab_to(page, "One temperature for all")
    page.keyboard.press("Enter")
    page.wait_for_function("!new URLSearchParams(location.search).has('own')", timeout=PATIENCE)


def test_compare_by_key_alone(page: Any, app: App) -> None:
    page.goto(f"{app.url}/compare?runs=small&x=clicks&y=quality")
    page.locator("tr[data-front]").first.wait_for(timeout=PATIENCE)
    settle(page)
    reached(
        page, "Runs", "HyperDPO (mixture)", "Better than", "95 % intervals", "Two objectives", "Vertical axis",
        "Horizontal axis", "Download", "Select by ranges",
    )  # fmt: skip
    tab_to(page, "HyperDPO (mixture)", whole=True)
    page.keyboard.press("ArrowRight")  # within a group of buttons, as the arrows are meant to
    assert focused(page) == "DPO-LS"
    page.keyboard.press("Enter")
    wait_for_url(page, "off", "small-ls: DPO-LS")
    again(page)
    pick(page, "Better than", "Base model")
    page.get_by_text("better than Base model?").wait_for(timeout=PATIENCE)
    again(page)
    tab_to(page, "95 % intervals")
    page.keyboard.press("Space")
    wait_for_url(page, "ci", "0")
    again(page)
    tab_to(page, "Two objectives")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for_url(page, "view", "lines")
    again(page)
    tab_to(page, "Download")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Table, CSV", exact=True).wait_for(timeout=PATIENCE)


def test_text_by_key_alone(page: Any, text_app: App) -> None:
    page.goto(f"{text_app.url}/text?run=small-text&strip=0&n=16&w=34,33,33")
    page.locator(".hx-answer .hx-score").first.wait_for(timeout=PATIENCE)
    page.get_by_text("On all 12 test lists").wait_for(timeout=PATIENCE)
    settle(page)
    reached(
        page, "Only upbeat", "Keep upbeat", "upbeat", "How far from", "pin as A", "Run", "Sampling", "Export",
        "Download", "Beginning of the text", "Write", "Another draw", "Examples", "Strip of weights", "Vertical axis",
    )  # fmt: skip
    tab_to(page, "upbeat", whole=True)
    page.keyboard.press("End")
    wait_for_url(page, "w", "100,0,0")
    again(page)
    tab_to(page, "Beginning of the text")
    page.keyboard.press("Control+A")
    page.keyboard.type("The dog")
    page.keyboard.press("Control+Enter")
    wait_for_url(page, "prompt", "The dog")
    again(page)
    tab_to(page, "Another draw")
    page.keyboard.press("Enter")
    wait_for_url(page, "seed", "1")
    again(page)
    tab_to(page, "Export")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save the zip").wait_for(timeout=PATIENCE)


def test_runs_and_your_data_by_key_alone(page: Any, app: App, home: Path) -> None:
    page.goto(f"{app.url}/runs")
    page.locator("img.hx-small-front").first.wait_for(timeout=PATIENCE)
    settle(page)
    reached(page, "Search", "Kind", "Data", "Method", "Order", "small-ls", "Open a run folder")
    tab_to(page, "Search")
    page.keyboard.type("small-ls")
    page.keyboard.press("Enter")
    wait_for_url(page, "find", "small-ls")
    again(page)
    pick(page, "Order", "by name")
    wait_for_url(page, "order", "name")
    again(page)
    tab_to(page, "small-ls")
    page.keyboard.press("Enter")
    page.wait_for_url("**run=small-ls**", timeout=PATIENCE)
    page.locator(".hx-strip").wait_for(timeout=PATIENCE)
    again(page)
    tab_to(page, "Your data")
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Or files on this machine").wait_for(timeout=PATIENCE)
    again(page)
    tab_to(page, "Or files on this machine")
    page.keyboard.type(str(home / "data"))
    tab_to(page, "Read them")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start the training").wait_for(timeout=PATIENCE)
    settle(page)
    reached(
        page, "Other files", "Run", "Measure", "Explore it with the sliders", "Objectives", "Name of the run",
        "More settings", "Start the training",
    )  # fmt: skip
    before = address(page)
    page.reload()
    page.get_by_role("button", name="Start the training").wait_for(timeout=PATIENCE)
    settle(page)
    assert address(page) == before
    tab_to(page, "Other files")
    page.keyboard.press("Enter")
    page.get_by_text("Upload files").wait_for(timeout=PATIENCE)
