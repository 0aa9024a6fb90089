"""Explore without a mouse: where Tab goes, and every step of a session by key."""

from __future__ import annotations

from typing import Any

import pytest
from driver import PATIENCE, App, open_live, parameters
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
  const name = e.getAttribute('aria-label') || label || e.textContent || e.id;
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
    assert page.url.split("?")[0].endswith("/runs")
