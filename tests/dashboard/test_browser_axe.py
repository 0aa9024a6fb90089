"""Every view in a real browser: axe-core finds no serious fault, and the console says no error (see `page`)."""

from __future__ import annotations

from typing import Any

import pytest
from driver import App, listen
from test_browser_home import axe_faults
from walking import TEXT, View, ranking_views, walk

pytestmark = pytest.mark.browser
VIEWS = ranking_views("small")
SMALL = {"width": 390, "height": 844}
# Streamlit's own faults: (view, rule, how the element's HTML begins) and how often it occurs there. Nothing is switched
# off: what is listed and no longer occurs fails as well, so that the list never outlives its reasons.
STREAMLITS: dict[tuple[str, str, str], int] = {}


def own_faults(page: Any, view: str) -> list[str]:
    """What axe finds beyond the list, and what the list says that axe does not find."""
    faults = axe_faults(page)
    wrong = []
    for (where, rule, html), count in STREAMLITS.items():
        if where != view:
            continue
        known = [f for f in faults if f.startswith(f"{rule}: {html}")]
        faults = [f for f in faults if f not in known]
        if len(known) != count:
            wrong.append(f"{rule} at {html} is listed {count} times, and occurs {len(known)} times")
    return faults + wrong


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_a_view_has_no_serious_fault_and_a_quiet_console(page: Any, app: App, view: View) -> None:
    walk(page, app.url, view)
    assert own_faults(page, view.name) == []


def test_the_text_view_has_no_serious_fault_and_a_quiet_console(page: Any, text_app: App) -> None:
    walk(page, text_app.url, TEXT)
    assert own_faults(page, TEXT.name) == []


@pytest.mark.parametrize(
    ("name", "dark", "small"),
    [("Explore", True, False), ("Find", True, False), ("Compare", True, False), ("Explore with A and B", False, True)],
)
def test_the_dark_theme_and_a_phone_have_no_serious_fault(
    browser: Any, app: App, name: str, dark: bool, small: bool
) -> None:
    size = {"viewport": SMALL, "has_touch": True} if small else {"viewport": {"width": 1440, "height": 900}}
    context = browser.new_context(color_scheme="dark" if dark else "light", **size)
    page = context.new_page()
    errors = listen(page)
    walk(page, app.url, next(v for v in VIEWS if v.name == name))
    assert own_faults(page, f"{name}, {'dark' if dark else 'phone'}") == []
    context.close()
    assert not errors, errors
