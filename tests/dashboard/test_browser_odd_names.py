"""Objectives named in HTML, in Chinese and at length, on every ranking view of a phone: text, and nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driver import App, listen
from test_browser_axe import SMALL
from walking import View, ranking_views, walk

from hyperdpo.methods import MethodConfig
from hyperdpo.rank.demo import make_demo
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig

pytestmark = pytest.mark.browser
HTML = "<b>x</b><script>window.broken++</script>"  # a name may hold no '='
LONG = "an_objective_whose_name_goes_on_and_on_with_no_space_to_break_it_at_in_80_signs_"
CHINESE = "点击率与购买率的平衡"
NAMES = (HTML, LONG, CHINESE)
TRACE = "Traceback (most recent call last)"
# Explore with A and B has all that Explore has; Your data names columns, not objectives.
VIEWS = [v for v in ranking_views("odd") if v.name not in ("Explore", "Explore with A", "Your data")]


@pytest.fixture(scope="module")
def odd_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app beside runs/odd and its baseline, whose objectives have odd names."""
    folder = tmp_path_factory.mktemp("odd")
    columns = ("clicks", "quality", "margin")
    data = make_demo(folder / "data", queries=40).with_task(objectives=list(columns))
    objectives = [replace(o, name=n) for o, n in zip(data.task.objectives, NAMES, strict=True)]
    data = data.with_task(objectives=objectives)
    config = RankConfig(fit=FitConfig(epochs=1), base="lightgbm")
    run = train(data, config, folder / "runs" / "odd")
    other = train(data, replace(config, method=MethodConfig(method="dpo-ls", points=4)), folder / "runs" / "odd-ls")
    evaluate_run(run, data, baselines=[other], save=True)
    with App(Path(__file__).parents[2] / "dashboard" / "app.py", folder) as started:
        yield started


def test_the_longest_name_is_eighty_signs_long() -> None:
    assert len(LONG) == 80


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_odd_names_are_text_on_a_phone(browser: Any, odd_app: App, view: View) -> None:
    context = browser.new_context(viewport=SMALL, has_touch=True)
    page = context.new_page()
    errors = listen(page)
    walk(page, odd_app.url, view)
    said = page.evaluate("document.body.textContent")
    for name in NAMES:
        assert name in said, f"{name} is not on {view.name}"
    assert TRACE not in said
    assert page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
    assert page.evaluate("'broken' in window") is False
    assert page.evaluate("[...document.querySelectorAll('b')].filter((b) => b.textContent === 'x').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]
    assert page.evaluate(CUT_OFF, SMALL["width"]) == []
    context.close()
    assert not errors, errors


# What stands on the page wider than the window, unless it is inside something that scrolls or hides it.
CUT_OFF = """(width) => {
  const held = (e) => { for (let p = e.parentElement; p; p = p.parentElement)
    if (p.dataset.testid !== 'stMain' && p !== document.body && p !== document.documentElement
        && getComputedStyle(p).overflowX !== 'visible') return true;
    return false; };
  const main = document.querySelector('[data-testid=stMain]');
  return [...main.querySelectorAll('*')].filter((e) => { const b = e.getBoundingClientRect();
    return b.width && b.height && b.right > width + 1 && !held(e) && !e.closest('.hx-sr'); })
    .slice(0, 5).map((e) => e.outerHTML.slice(0, 160));
}"""
