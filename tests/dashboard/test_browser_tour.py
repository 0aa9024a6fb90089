"""The tour of Explore: shown on a first visit, one step at a time, and gone for good once it is dismissed."""

from __future__ import annotations

from typing import Any

import pytest
from driver import PATIENCE, App, open_live

from dashboard.words_tour import STEPS

pytestmark = pytest.mark.browser


def top_of_chart(page: Any) -> float:
    return float(page.locator(".st-key-chart").bounding_box()["y"])


def test_the_tour_is_walked_dismissed_and_brought_back(page: Any, app: App) -> None:
    open_live(page, app.url)
    tour, again = page.locator(".hx-tour"), page.get_by_role("button", name="Show the tour")
    next_one = page.get_by_role("button", name="Next", exact=True)
    next_one.wait_for(timeout=PATIENCE)
    assert not again.is_visible()
    for place, step in enumerate(STEPS):
        said = tour.locator("p").inner_text()
        assert said.startswith(f"{place + 1} of {len(STEPS)} {step.head}. {step.text[:20]}")
        assert page.locator("body").get_attribute("data-hx-tour") == step.at
        box, chart = tour.bounding_box(), page.locator(".st-key-chart").bounding_box()
        assert box["y"] + box["height"] <= chart["y"], "it covers nothing of the chart"
        assert chart["y"] < 500, "and the chart stays on the first screen"
        if place == 1:
            page.get_by_role("button", name="Back", exact=True).click()
            next_one.click()
        if place < len(STEPS) - 1:
            next_one.click()

    page.reload()
    page.get_by_text(f"{len(STEPS)} of {len(STEPS)}").wait_for(timeout=PATIENCE)  # the address is bare no longer
    before = top_of_chart(page)
    height = tour.bounding_box()["height"]
    page.get_by_role("button", name="Done", exact=True).click()
    again.wait_for()
    assert not tour.is_visible()
    assert before - height - 20 < top_of_chart(page) < before, "the page gives back what the tour took, and no more"
    assert page.locator("body").get_attribute("data-hx-tour") is None

    page.goto(app.url)  # as bare as the first time
    again.wait_for(timeout=PATIENCE)
    assert not tour.is_visible()
    again.press("Enter")
    page.get_by_text(f"1 of {len(STEPS)}").wait_for()
    page.get_by_role("button", name="Skip", exact=True).press("Enter")
    again.wait_for()


def test_whoever_comes_with_an_address_is_not_shown_round(page: Any, app: App) -> None:
    page.goto(f"{app.url}/?run=small")
    page.get_by_role("button", name="Show the tour").wait_for(timeout=PATIENCE)
    assert not page.locator(".hx-tour").is_visible()
