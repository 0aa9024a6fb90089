"""Opening every view until nothing moves any more, for tests that ask the same of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from driver import PATIENCE

SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'


@dataclass(frozen=True)
class View:
    """A view to open: its name, its address below the app's, and what is on the page once it is whole."""

    name: str
    address: str
    whole: tuple[str, ...]
    then: Callable[[Any], None] | None = None


def find_answer(page: Any) -> None:
    """Ask "Find it for me" as it stands, by key, and wait for the answer."""
    page.locator("summary", has_text="Find it for me").press("Enter")
    button = page.get_by_role("button", name="Find", exact=True)
    button.wait_for(timeout=PATIENCE)
    settle(page)
    button.press("Enter")
    page.locator(".hx-found").wait_for(timeout=PATIENCE)


def ranking_views(run: str) -> list[View]:
    """Every view of a ranking run with three objectives; Changes stands below Explore's chart."""
    live, drawn = (".hx-strip", ".hx-slopes"), (".js-plotly-plot .main-svg",)
    return [
        View("Explore", f"/?run={run}&w=60,20,20", live),
        View("Explore with A", f"/?run={run}&w=60,20,20&a=100,0,0%401", live),
        View("Explore with A and B", f"/?run={run}&w=60,20,20&a=100,0,0%401&b=0,0,100%400.5&ci=2", live),
        View("Find", f"/?run={run}&w=60,20,20", live, find_answer),
        View("Changes", f"/?run={run}&w=0,0,100&c=0.3", (".hx-slopes", ".hx-changed"), reasons),
        View("Compare", f"/compare?runs={run}", (*drawn, "tr[data-front]")),
        View("Temperature", f"/temperature?run={run}", drawn),
        View("Runs", "/runs", ("img.hx-small-front",)),
        View("Your data", "/yours?file=data&goal=clicks:l1:max&goal=quality:softmax:max", (".st-key-yours-train",)),
    ]


def reasons(page: Any) -> None:
    """Show what moved the items of the list that is drawn."""
    page.get_by_text("Labels, and what moved each item").click()
    page.locator(".hx-why").first.wait_for(timeout=PATIENCE)


TEXT = View("Text", "/text?w=34,33,33&strip=0&n=16&a=100,0,0%401", (".hx-answer .hx-score",))


def walk(page: Any, url: str, view: View) -> None:
    """Open a view and wait until it is whole."""
    page.goto(f"{url}{view.address}")
    for place in view.whole:
        page.locator(place).first.wait_for(timeout=PATIENCE)
    settle(page)
    if view.then is not None:
        view.then(page)
        settle(page)


def settle(page: Any) -> None:
    """Until the script has run through and nothing on the page fades in any more."""
    page.locator(SETTLED).wait_for(timeout=PATIENCE)
    faded = "() => ![...document.querySelectorAll('[data-stale=true]')].length"
    page.wait_for_function(faded, timeout=PATIENCE, polling=50)
