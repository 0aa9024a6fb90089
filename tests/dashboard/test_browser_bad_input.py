"""What nobody should do, on every view: each time a sentence, never a trace, and the page goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from driver import PATIENCE, App, listen, open_live, parameters
from test_browser_axe import SMALL
from test_browser_odd_names import CUT_OFF, TRACE
from walking import View, find_answer, settle, walk

pytestmark = pytest.mark.browser
LONG = "x" * 3000  # longer than the name of a file can be
OVER = 201_000_000  # bytes: more than the app takes in one file
UNFORESEEN = "unforeseen"


def calm(page: Any, where: str) -> str:
    """What the page says; it fails where that is a trace, or an error that nobody thought of."""
    said = str(page.evaluate("document.body.textContent"))
    assert TRACE not in said, where
    assert UNFORESEEN not in said, where
    assert page.locator("[data-testid=stException]").count() == 0, where
    return said


# --- Addresses --------------------------------------------------------------------------------------------------------

RANK = f"run={LONG}&w=1,2&c=0&x=%3Cb%3E&k=zero&q=-1&only=some&a=junk&ci=9&goal=love&other=1"
ADDRESSES = {
    "/": (RANK, ("is not 5 percentages", "goal='love' is nothing", "ci='9'", "'other'")),
    "/temperature": (f"{RANK}&own=1,x", ("is not 5 percentages", "own='1,x' is not 5 numbers", "'other'")),
    "/compare": (f"runs={LONG}&runs=small&view=cube&x=no&in=junk&ci=2&other=1", ("'cube'", "axis x='no'", "'other'")),
    "/text": (f"run={LONG}&w=1&t=9&p=x&n=0&seed=-1&strip=2&y=no&b=junk&other=1", ("t='9'", "axis y='no'", "'other'")),
    "/runs": ("kind=zebra&order=sideways&other=1", ("kind='zebra'", "order='sideways'", "'other'")),
    "/yours": (
        f"file=/nowhere/{LONG}&goal=x&epochs=-1&method=magic&other=1", ("is nothing at", "epochs='-1'", "'other'")
    ),
}  # fmt: skip


@pytest.mark.parametrize("view", ADDRESSES)
def test_a_foreign_address_is_told_of_in_sentences(page: Any, app: App, view: str) -> None:
    query, sentences = ADDRESSES[view]
    page.goto(f"{app.url}{view}?{query}")
    for said in sentences:
        page.get_by_text(said).first.wait_for(timeout=PATIENCE)
    if f"={LONG}" in query:
        page.get_by_text("xxx ...' here.").first.wait_for(timeout=PATIENCE)
    settle(page)
    calm(page, view)


# --- A run deleted while it is open, and two tabs on one run ----------------------------------------------------------


@pytest.fixture
def doomed(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Path]]:
    """Makes a copy of a run, called doomed, which is gone again after the test."""
    made: list[Path] = []

    def copy(app: str, name: str) -> Path:
        made.append(request.getfixturevalue(app).folder / "runs" / "doomed")
        shutil.copytree(made[-1].parent / name, made[-1])
        return made[-1]

    yield copy
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


def press_c(page: Any) -> None:
    page.locator(".st-key-heat-c").get_by_role("slider").press("ArrowRight")


def press_write(page: Any) -> None:
    page.get_by_role("button", name="Another draw").press("Enter")


def press_intervals(page: Any) -> None:
    page.get_by_text("95 % intervals").click()


def press_measure(page: Any) -> None:
    page.get_by_role("button", name="Measure", exact=True).press("Enter")


DELETED = [
    ("app", "small", "/temperature?run=doomed", "tr[data-c]", press_c, "no run called 'doomed'"),
    ("app", "small", "/compare?runs=doomed&runs=small-ls", "tr[data-front]", press_intervals, "no run called 'doomed'"),
    ("text_app", "small-text", "/text?run=doomed&strip=0&n=16", ".hx-score", press_write, "no text run called"),
    ("app", "small", "/yours?file=data&run=doomed", ".st-key-yours-measure", press_measure, "nothing was started"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("server", "run", "address", "whole", "press", "said"), DELETED, ids=lambda v: v if str(v).startswith("/") else ""
)
def test_a_run_deleted_while_open_is_told_of(
    page: Any, request: pytest.FixtureRequest, doomed: Callable[[str, str], Path],
    server: str, run: str, address: str, whole: str, press: Callable[[Any], None], said: str,
) -> None:  # fmt: skip
    folder = doomed(server, run)
    started: App = request.getfixturevalue(server)
    page.goto(f"{started.url}{address}")
    page.locator(whole).first.wait_for(timeout=PATIENCE)
    settle(page)
    shutil.rmtree(folder)
    press(page)
    page.get_by_text(said).first.wait_for(timeout=PATIENCE)
    if server == "app":  # what Text shows instead writes for long
        settle(page)
    assert "The link" not in calm(page, address), "nobody followed a link"
    assert page.locator(".hx-job", has_text="Measuring").count() == 0, "another run was measured in its place"


def test_two_tabs_on_one_run_do_not_disturb_each_other(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    other = page.context.new_page()
    errors = listen(other)
    open_live(other, f"{app.url}/?run=small&w=0,0,100&c=2")
    for tab, key, w in ((page, "End", "100,0,0"), (other, "Home", "0,0,100"), (page, "Home", "0,50,50")):
        tab.locator("input.slider").first.press(key)
        tab.wait_for_function("w => new URLSearchParams(location.search).get('w') === w", arg=w, timeout=PATIENCE)
    page.get_by_role("button", name="pin as A").press("Enter")
    page.get_by_text("vs A:").first.wait_for(timeout=PATIENCE)
    settle(other)
    assert parameters(other).items() >= {"w": "0,0,100", "c": "2"}.items()
    assert "a" not in parameters(other)
    calm(other, "the other tab")
    assert not errors, errors


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_or_no_table_is_a_sentence(page: Any, app: App, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(OVER)
    page.goto(f"{app.url}/yours")
    page.get_by_text("of a larger one give the path instead").wait_for(timeout=PATIENCE)
    chooser = page.locator("input[type=file]")
    chooser.set_input_files(str(large))
    page.get_by_text("File must be 200.0MB or smaller.").wait_for(timeout=PATIENCE)
    zeros = tmp_path / "zeros.csv"
    zeros.write_bytes(b"\0" * 200_000)
    chooser.set_input_files(str(zeros))
    page.get_by_text("cannot be read as column names").wait_for(timeout=PATIENCE)
    calm(page, "zeros")
    page.goto(f"{app.url}/yours?file={quote(str(large))}")  # by its path it is read, whatever its size
    page.get_by_text("large.csv: the first line cannot be read").wait_for(timeout=PATIENCE)
    calm(page, "the path of a large file")


# --- One objective, and so a front of one point, on a phone -----------------------------------------------------------


def nearest_and_find(page: Any) -> None:
    """The knee does not exist; a place on the chart and an answer do."""
    find_answer(page)
    assert page.get_by_role("button", name="Go to the knee").is_disabled()
    page.get_by_role("button", name="Go to the nearest").click()
    page.get_by_text("by the validation lists").first.wait_for(timeout=PATIENCE)


ONE = [
    View("Explore", "/?run=one&w=100&a=100%400.5&b=100%402", (".hx-strip", ".hx-slopes"), nearest_and_find),
    View("Compare", "/compare?runs=one&runs=small", (".js-plotly-plot .main-svg", "tr[data-front]")),
    View("Temperature", "/temperature?run=one&c=0.5", ("tr[data-c]",)),
    View("Your data", "/yours?file=data&run=one", (".st-key-yours-train",)),
]


@pytest.mark.parametrize("view", ONE, ids=lambda v: v.name)
def test_a_run_of_one_objective_is_whole_on_a_phone(browser: Any, app: App, view: View) -> None:
    narrow(browser, app, view)


def test_a_text_run_of_one_objective_is_whole_on_a_phone(browser: Any, text_app: App) -> None:
    said = narrow(
        browser, text_app, View("Text", "/text?run=text-one&n=16", (".hx-answer .hx-score", "tr[data-front]"))
    )
    assert "Strip of weights" not in said


def narrow(browser: Any, app: App, view: View) -> str:
    """Open a view at the width of a phone; give what it says."""
    context = browser.new_context(viewport=SMALL, has_touch=True)
    page = context.new_page()
    errors = listen(page)
    walk(page, app.url, view)
    said = calm(page, view.name)
    assert page.locator("[data-testid=stAlertContentError]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]
    assert page.evaluate(CUT_OFF, SMALL["width"]) == []
    context.close()
    assert not errors, errors
    return said
