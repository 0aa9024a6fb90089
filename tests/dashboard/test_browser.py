"""The app in a real browser, started from another folder than the repository; every control by key."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import opening
import pytest
from driver import PATIENCE, App, live_point, open_live, parameters, ranges, trace

from hyperdpo.rank.data import open_data
from hyperdpo.rank.live import LiveModel
from hyperdpo.rank.run import RankRun
from hyperdpo.weights import rebalance

pytestmark = pytest.mark.browser
NAMES = ("clicks", "quality", "margin")


@pytest.fixture(scope="module")
def model(home: Path) -> LiveModel:
    """The same run measured by the package alone."""
    run = RankRun(home / "runs" / "small")
    table, features = run.table(run.read(open_data(home / "data")).lists("test"))
    return LiveModel(run.rankers[0], table, features)


def wait_for_url(page: Any, key: str, value: str) -> None:
    page.wait_for_function(
        "([k, v]) => new URLSearchParams(location.search).get(k) === v", arg=[key, value], timeout=PATIENCE, polling=50
    )


def differences(page: Any, model: LiveModel) -> list[str]:
    """Where table and chart do not say what the package computes for the address's (w, c, k)."""
    said, names = parameters(page), ("relevance", *NAMES)
    if not {"w", "c", "k", "x", "y"} <= set(said):
        return [f"address incomplete: {said}"]
    weights = [int(p) / 100 for p in said["w"].split(",")]
    point = model.point(weights, scale=float(said["c"]), k=int(said["k"]))
    out = []
    for j, name in enumerate(names):
        cells = page.locator(f'tr[data-objective="{name}"] td').all_inner_texts()
        entropy = f"{point.cross_entropy[j - 1]:.3f}" if j else ""
        if not cells or (cells[0], cells[5]) != (f"{point.ndcg[j]:.3f}", entropy):
            out.append(f"{name}: {cells}, not {point.ndcg[j]:.3f} and {entropy}")
    live = live_point(page)
    where = [float(point.ndcg[names.index(said[axis])]) for axis in "xy"]
    if live != pytest.approx(where, abs=2e-6):
        out.append(f"live point: {live}, not {where}")
    return out


def check_figures(page: Any, model: LiveModel) -> None:
    """Table and chart come to say what the package computes for the same (w, c, k)."""
    deadline = time.monotonic() + PATIENCE / 1000
    while differences(page, model) and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert not differences(page, model)


def test_sliders_by_key_give_the_packages_figures(page: Any, app: App, model: LiveModel) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    check_figures(page, model)
    before = ranges(page)
    percent = [40, 30, 30]
    sliders = page.locator("input.slider")
    for i, key, by in (
        (0, "ArrowRight", 1),
        (1, "PageUp", 10),
        (2, "ArrowLeft", -1),
        (0, "PageDown", -10),
        (1, "End", 100),
    ):
        sliders.nth(i).focus()
        page.keyboard.press(key)
        percent = rebalance(percent, i, max(0, min(100, percent[i] + by)))
        wait_for_url(page, "w", ",".join(map(str, percent)))
        check_figures(page, model)
    page.locator("#scale").focus()
    page.keyboard.press("PageDown")
    wait_for_url(page, "c", "0.631")
    check_figures(page, model)
    assert ranges(page) == before, "the axes must not jump while a slider moves"


def test_locks_presets_and_reset(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=50,30,20&c=2")
    page.get_by_role("button", name="Keep quality where it is").press("Enter")
    page.locator("input.slider").nth(0).focus()
    page.keyboard.press("PageUp")
    wait_for_url(page, "w", ",".join(map(str, rebalance([50, 30, 20], 0, 60, locked=[1]))))
    page.get_by_role("button", name="Only margin").press("Enter")
    wait_for_url(page, "w", "0,0,100")
    page.get_by_role("button", name="equal", exact=True).press("Enter")
    wait_for_url(page, "w", "34,33,33")
    page.get_by_role("button", name="reset", exact=True).press("Enter")
    wait_for_url(page, "c", "1")


def test_the_url_restores_the_view_and_moves_with_it(page: Any, app: App, model: LiveModel) -> None:
    open_live(page, f"{app.url}/?run=small&w=10,20,70&c=0.5&x=clicks&y=relevance&k=5&a=100,0,0%401")
    check_figures(page, model)
    assert trace(page, "pin")["name"] == "A, pinned"
    assert page.get_by_text("vs A:").count() == 4
    page.locator("input.slider").nth(0).focus()
    page.keyboard.press("ArrowRight")
    wait_for_url(page, "w", "11,20,69")
    check_figures(page, model)
    address, drawn = parameters(page), live_point(page)
    page.reload()
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    check_figures(page, model)
    assert parameters(page) == address
    assert live_point(page) == drawn


CENTRE = """() => {
  const box = document.querySelector('.hx-exact circle').getBoundingClientRect();
  const area = document.querySelector('.js-plotly-plot .bglayer').ownerSVGElement.getBoundingClientRect();
  return [box.x + box.width / 2 - area.x, box.y + box.height / 2 - area.y];
}"""
# Where plotly itself puts the values: its axes' own conversion.
PLOTLY = """([x, y]) => {
  const { xaxis, yaxis } = document.querySelector('.js-plotly-plot')._fullLayout;
  return [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(y)];
}"""


def test_the_live_point_stands_where_plotly_would_put_it_and_moves_without_a_new_chart(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    page.locator(".hx-exact circle").wait_for(timeout=PATIENCE)

    def check() -> None:
        assert page.evaluate(CENTRE) == pytest.approx(page.evaluate(PLOTLY, live_point(page)), abs=1.0)

    check()
    page.evaluate("document.querySelector('.js-plotly-plot').dataset.seen = 'yes'")
    before = live_point(page)
    page.locator("input.slider").nth(0).focus()
    page.keyboard.press("PageUp")
    wait_for_url(page, "w", "50,25,25")
    assert live_point(page) != before
    assert page.locator(".js-plotly-plot[data-seen=yes]").count() == 1, "the chart was made anew"
    check()
    box = page.locator(".js-plotly-plot .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 80, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    if page.locator(".hx-exact circle").is_visible():
        check()
    page.locator(".js-plotly-plot").hover()
    with page.expect_download(timeout=PATIENCE) as picture:
        page.locator(".modebar-btn").first.click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
    assert trace(page, "live")["x"] == [], "the chart gave the point back"


def test_pinning_moves_nothing_on_the_page(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=70,20,10")
    page.locator(".hx-strip").wait_for(timeout=PATIENCE)
    before = page.locator(".js-plotly-plot").bounding_box()
    page.get_by_role("button", name="pin as A").press("Enter")
    page.get_by_text("vs A:").first.wait_for(timeout=PATIENCE)
    alone = "document.querySelectorAll('.js-plotly-plot').length === 1"  # for a moment the old chart stands beside it
    page.wait_for_function(alone, timeout=PATIENCE, polling=50)
    assert page.locator(".js-plotly-plot").bounding_box() == before


def test_no_view_is_cut_off_on_a_phone(browser: Any, app: App) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    for path in ("/runs", "/?run=small"):
        page.goto(f"{app.url}{path}")
        page.locator(".hx-table").first.wait_for(timeout=PATIENCE)
        page.locator(".hx-table td").first.wait_for(timeout=PATIENCE)
        wide = page.evaluate("[...document.querySelectorAll('.hx-scroll')].map((e) => e.scrollWidth - e.clientWidth)")
        assert max(wide) <= 0, path
    context.close()


def test_pinning_and_changing_the_view_keep_everything(page: Any, app: App, model: LiveModel) -> None:
    open_live(page, f"{app.url}/?run=small&w=70,20,10&c=0.5")
    page.get_by_role("button", name="pin as A").press("Enter")
    page.get_by_role("button", name="unpin A").wait_for(timeout=PATIENCE)
    page.locator("input.slider").nth(2).focus()
    page.keyboard.press("End")
    wait_for_url(page, "w", "0,0,100")
    address = parameters(page)
    assert address["a"] == "70,20,10@0.5"
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("link", name="small-ls").wait_for(timeout=PATIENCE)
    page.get_by_role("link", name="Explore").click()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for(timeout=PATIENCE)
    wait_for_url(page, "w", "0,0,100")
    check_figures(page, model)
    assert parameters(page) == address


def test_axes_and_k_by_their_boxes_and_back_again(page: Any, app: App, model: LiveModel) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30&x=margin&y=clicks")
    box = page.get_by_label("Vertical axis", exact=True)
    box.click()
    page.get_by_role("option", name="relevance", exact=True).click()
    wait_for_url(page, "y", "relevance")
    page.wait_for_function(
        "() => document.querySelector('.ytitle')?.textContent.startsWith('relevance')", timeout=PATIENCE
    )
    check_figures(page, model)
    page.go_back()
    wait_for_url(page, "y", "clicks")
    page.wait_for_function(
        "() => document.querySelector('.ytitle')?.textContent.startsWith('clicks')", timeout=PATIENCE
    )
    check_figures(page, model)


def test_foreign_parameters_are_a_sentence(page: Any, app: App) -> None:
    open_live(page, f"{app.url}/?run=small&w=1,2,3,4&c=-1&x=%3Cimg%20src%3Dx%3E&k=zero&a=junk&other=1")
    for said in (
        "is not 3 percentages",
        "is not a number above 0",
        "is no objective of this run",
        "is not a whole number",
    ):
        page.get_by_text(said).wait_for(timeout=PATIENCE)
    assert parameters(page)["w"] == "34,33,33"
    page.get_by_role("button", name="Dismiss").click()
    page.get_by_text("is not 3 percentages").wait_for(state="detached", timeout=PATIENCE)


def test_a_run_without_its_data_shows_its_fronts_and_takes_a_path(page: Any, app: App, home: Path) -> None:
    page.goto(f"{app.url}/?run=orphan&w=90,5,5")
    page.get_by_text("is not at /nowhere/at/all").wait_for(timeout=PATIENCE)
    page.get_by_text("nearest saved point").wait_for()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for(timeout=PATIENCE)
    assert trace(page, "dpo-ls")["x"]
    page.locator("input.slider").nth(1).focus()
    page.keyboard.press("End")
    page.get_by_text(re.compile(r"nearest saved point: quality 100 %")).wait_for(timeout=PATIENCE)
    page.get_by_role("textbox", name="Path of the data folder").fill(str(home / "data"))
    page.get_by_role("textbox", name="Path of the data folder").press("Enter")
    page.get_by_role("button", name="Open the data").click()
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)


def test_runs_are_listed_and_damaged_ones_say_what_is_wrong(page: Any, app: App) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="Runs").click()
    row = page.get_by_role("row", name=re.compile("^small ")).first
    row.wait_for(timeout=PATIENCE)
    assert "HyperDPO" in row.inner_text()
    page.get_by_text("cannot be read as JSON").first.wait_for()
    listed = page.locator(".hx-runs tbody tr").count()
    page.get_by_role("textbox", name="Search").fill("small-ls")
    page.keyboard.press("Enter")
    page.wait_for_function("new URLSearchParams(location.search).get('find') === 'small-ls'", timeout=PATIENCE)
    page.wait_for_function("document.querySelectorAll('.hx-runs tbody tr').length === 1", timeout=PATIENCE)
    assert listed > 1
    page.get_by_role("link", name="small-ls").click()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for(timeout=PATIENCE)
    assert parameters(page)["run"] == "small-ls"


def test_downloads_are_what_is_on_the_page(page: Any, app: App, tmp_path: Path) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()
    kinds = {
        "CSV": b"run,front,c,k",
        "JSON": b"[\n {",
        "SVG": b"<svg",
        "PNG": b"\x89PNG",
        "PDF": b"%PDF",
        "HTML": b"<!doctype html",
        "Python": b'"""small: ',
    }
    for kind, start in kinds.items():
        if kind in ("CSV", "JSON"):
            button = page.get_by_role("button", name=f"The points, {kind}", exact=True)
        else:
            page.get_by_role("radio", name=kind).or_(page.get_by_role("button", name=kind, exact=True)).first.click()
            button = page.get_by_role("button", name=f"Save {kind}")
            button.wait_for(timeout=PATIENCE)
        with page.expect_download(timeout=PATIENCE) as download:
            button.click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        content = saved.read_bytes()
        assert content.startswith(start), kind
        assert saved.suffix == (".py" if kind == "Python" else f".{kind.lower()}")
        opening.check(kind, content, tmp_path)
    live = live_point(page)
    rows = [line.split(",") for line in (tmp_path / "hyperdpo-small-the-points.csv").read_text().splitlines()]
    last = dict(zip(rows[0], rows[-1], strict=True))
    assert float(last[f"ndcg.{parameters(page)['x']}"]) == pytest.approx(live[0], abs=2e-6)
    [program] = tmp_path.glob("*.py")
    subprocess.run([sys.executable, program], cwd=tmp_path, check=True, timeout=60)
    assert "DPO-LS" in program.with_suffix(".html").read_text("utf-8")


def test_the_decision_is_written_on_one_page(page: Any, app: App, tmp_path: Path) -> None:
    open_live(page, f"{app.url}/?run=small&w=40,30,30")
    page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()
    for kind in ("HTML", "PDF"):
        page.get_by_text(f"Report, {kind}", exact=True).click()
        button = page.get_by_role("button", name=f"Save the report, {kind}")
        button.wait_for(timeout=PATIENCE)
        with page.expect_download(timeout=PATIENCE) as download:
            button.click()
        download.value.save_as(tmp_path / f"report.{kind.lower()}")
    written = (tmp_path / "report.html").read_text("utf-8")
    assert "small: 40 % clicks, 30 % quality, 30 % margin, c = 1" in written
    assert "<svg" in written
    assert f"{live_point(page)[0]:.3f}" in written
    assert "small: 40 % clicks" in opening.html(written.encode())
    assert opening.pdf((tmp_path / "report.pdf").read_bytes()) == 1, "one page"


def test_a_phone_shows_chart_and_figures_and_keeps_the_sliders_in_a_drawer(browser: Any, app: App) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    open_live(page, f"{app.url}/?run=small")
    chart = page.locator(".js-plotly-plot").first.bounding_box()
    assert chart["x"] >= 0
    assert chart["x"] + chart["width"] <= 390
    assert chart["y"] < 844, "the chart begins on the first screen"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        not page.locator("input.slider").first.is_visible()
        or page.locator("input.slider").first.bounding_box()["x"] < 0
    )
    page.get_by_test_id("stExpandSidebarButton").click()
    slider = page.locator("input.slider").first
    slider.wait_for(state="visible")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stSidebar]').getBoundingClientRect().x >= 0", polling=100
    )
    box = slider.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    slider.focus()
    page.keyboard.press("End")
    wait_for_url(page, "w", "100,0,0")
    context.close()


def test_moving_the_same_slider_in_javascript_and_in_python_is_the_same(page: Any, app: App) -> None:
    page.goto(f"{app.url}/?run=small")
    source = (Path(__file__).parents[2] / "dashboard" / "panel.js").read_text("utf-8")
    rule = source[source.index("export function rebalance") : source.index("const scaleOf")].replace("export ", "")
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(300):
        m = int(rng.integers(1, 7))
        start = rebalance([100 // m + (i < 100 % m) for i in range(m)], int(rng.integers(m)), int(rng.integers(101)))
        locked = [bool(v) for v in rng.random(m) < 0.3]
        cases.append([start, int(rng.integers(m)), int(rng.integers(-5, 106)), locked])
    found = page.evaluate(f"(cases) => {{ {rule}; return cases.map((c) => rebalance(...c)); }}", cases)
    expected = [rebalance(p, i, v, [j for j, on in enumerate(locked) if on]) for p, i, v, locked in cases]
    assert found == expected
    assert all(sum(p) == 100 for p in found)
