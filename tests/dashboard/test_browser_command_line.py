"""Every view says, for the same (w, c), what the command line prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import PATIENCE, App, live_point, open_live, parameters
from test_browser_compare import HEAT, OURS, drawn, open_compare, open_heat, until
from test_browser_text import open_text

from dashboard import words
from hyperdpo.cli import main
from hyperdpo.intervals import Interval

pytestmark = pytest.mark.browser
Said = Callable[..., dict[str, Any]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command prints as JSON."""

    def run(*command: object) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, command), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_explore_says_what_evaluate_and_find_print(page: Any, app: App, home: Path, said: Said) -> None:
    run = home / "runs" / "small"
    front = said("evaluate", run, "--scale", "0.5", "--k", "5")["fronts"][0]
    point = next(p for p in front["points"] if p["weights"]["quality"] == 1)
    open_live(page, f"{app.url}/?run=small&w=0,100,0&c=0.5&k=5&x=clicks&y=quality")
    page.locator(".hx-exact circle").wait_for(timeout=PATIENCE)
    for name, value in point["ndcg"].items():
        assert page.locator(f'tr[data-objective="{name}"] td').first.inner_text() == f"{value:.3f}"
    for name, value in point["cross_entropy"].items():
        assert page.locator(f'tr[data-objective="{name}"] td').nth(5).inner_text() == f"{value:.3f}"
    assert live_point(page) == pytest.approx([point["ndcg"]["clicks"], point["ndcg"]["quality"]], abs=2e-6)
    assert words.volume(front["hypervolume"]) in page.get_by_role("row", name="HyperDPO (mixture)").inner_text()

    found = said("find", run, "--goal", "margin", "--at-least", "relevance=98%", "--k", "5")
    page.goto(f"{app.url}/?run=small&k=5&goal=margin&keep=relevance:98")
    page.get_by_text("Find it for me").click()
    button = page.get_by_role("button", name="Find", exact=True)
    button.wait_for(timeout=PATIENCE)
    button.click()
    page.locator(".hx-found").wait_for(timeout=PATIENCE)
    wanted = ",".join(f"{100 * found['weights'][name]:.0f}" for name in ("clicks", "quality", "margin"))
    until(page, lambda: (parameters(page)["w"], float(parameters(page)["c"])) == (wanted, found["scale"]))
    for name, figures in found["ndcg"].items():
        cell = page.locator(f'tr[data-objective="{name}"] td').first
        until(page, lambda cell=cell, value=figures["test"]: cell.inner_text() == f"{value:.3f}")


def test_compare_says_what_compare_prints(page: Any, app: App, home: Path, said: Said) -> None:
    runs = [home / "runs" / name for name in ("small-ls", "small")]
    before, ours = said("compare", *runs)["runs"]
    open_compare(page, app, f"runs=small&vs=small-ls%3A+{before['front']}")
    cells = page.locator(f'tr[data-front="{OURS}"] td').all_inner_texts()
    low, high = (words.volume(v, 3) for v in ours["hypervolume_interval"])
    assert cells[0] == f"{words.volume(ours['hypervolume'])} ({low} to {high})"
    lower, upper = (-v for v in reversed(ours["against_first"]["difference_interval"]))  # of the first less this one
    change = Interval(-ours["against_first"]["difference"], lower, upper, 12, 0)
    assert cells[1].removeprefix("▲ ").removeprefix("▼ ") == words.verdict(change)
    assert cells[2] == words.relative(change, before["hypervolume"])
    assert cells[3] == f"{ours['main_mean']:.3f} ± {ours['main_std']:.3f}"
    assert cells[4] == f"{ours['sparsity']:.2g}"


def test_temperature_says_what_evaluate_prints_at_other_temperatures(
    page: Any, app: App, home: Path, said: Said
) -> None:
    front = said("evaluate", home / "runs" / "small", "--scale", "2", "--beta", "1,2.5,1")["fronts"][0]
    open_heat(page, app, "run=small&c=2&own=1,2.5,1&x=clicks&y=quality")
    values = np.array([[p["ndcg"]["clicks"], p["ndcg"]["quality"]] for p in front["points"]])

    def same() -> bool:
        line = drawn(page, HEAT).get("own", {"x": []})
        shown = [at for at in zip(line["x"], line["y"], strict=True) if None not in at] if line["x"] else []
        return bool(shown) and all(np.abs(values - at).max(1).min() < 2e-4 for at in shown)

    until(page, same)
    row = page.get_by_role("row", name="own temperatures").locator("td").all_inner_texts()
    assert row[1] == f"{front['main_mean']:.3f} ± {front['main_std']:.3f}"
    assert row[3:] == [
        f"{max(p['ndcg'][name] for p in front['points']):.3f}" for name in ("clicks", "quality", "margin")
    ]


def test_text_says_what_evaluate_prints(page: Any, text_app: App, said: Said) -> None:
    front = said("evaluate", text_app.folder / "runs" / "small-text", "--scale", "2")["fronts"][0]
    point = next(p for p in front["points"] if p["weights"]["concise"] == 1)
    open_text(page, text_app, "&w=0,100,0&c=2&strip=0&n=16")
    page.get_by_text("On all 12 test lists").wait_for(timeout=PATIENCE)
    for name, value in point["cross_entropy"].items():
        card = page.locator(".hx-entropy .hx-card", has_text=name).first
        until(page, lambda card=card, value=value: f"cross-entropy {value:.3f}" in card.inner_text())
