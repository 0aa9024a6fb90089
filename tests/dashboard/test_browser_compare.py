"""Compare and Temperature in a real browser: every control, the address, downloads, a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import opening
import pytest
from driver import PATIENCE, App, addressed, parameters, until

from hyperdpo.comparison import hypervolume_draws, interval, resampled
from hyperdpo.front import ParetoFront
from hyperdpo.intervals import bootstrap_counts
from hyperdpo.rank.data import open_data
from hyperdpo.rank.live import LiveModel, front_ndcg
from hyperdpo.rank.run import RankRun
from hyperdpo.runs import RunFolder

pytestmark = pytest.mark.browser
MAIN, COST, HEAT, SIDE = "compare-main", "compare-cost", "heat-main", "heat-side"
OURS, LS, FILM = "small: HyperDPO (mixture)", "small-ls: DPO-LS", "small-film: HyperDPO (film)"
BOTH = "runs=small&runs=small-film"
PICTURES = ("SVG", "PNG", "PDF", "HTML", "Python")


def drawn(page: Any, key: str) -> dict[str, dict[str, Any]]:
    """The traces of one chart by their meta."""
    script = """(key) => {
      const chart = document.querySelector(`.st-key-${key} .js-plotly-plot`);
      const some = (t) => ({ meta: t.meta, name: t.name, text: t.text, x: t.x && [...t.x], y: t.y && [...t.y],
        colour: t.line && t.line.color, errors: !!(t.error_x && t.error_x.array), a: t.a && [...t.a],
        value: t.marker && t.marker.color });
      return JSON.stringify(chart && chart.data ? chart.data.map(some) : []);
    }"""
    return {t["meta"]: t for t in json.loads(page.evaluate(script, key)) if t.get("meta")}


def fronts(page: Any) -> set[str]:
    """Keys of the fronts in the main chart."""
    return {meta.split("|", 1)[1] for meta in drawn(page, MAIN) if meta.startswith("front|")}


def idle(page: Any) -> None:
    """Until the script has run through: what it replaces as it runs would swallow a click."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(timeout=PATIENCE)


def open_compare(page: Any, app: App, query: str) -> None:
    page.goto(f"{app.url}/compare?{query}")
    page.locator("tr[data-front]").first.wait_for(timeout=PATIENCE)
    page.locator(f".st-key-{MAIN} .js-plotly-plot .main-svg").first.wait_for(timeout=PATIENCE)


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_test_id("stMain").get_by_label(label, exact=True).or_(
        page.get_by_test_id("stSidebar").get_by_label(label, exact=True)
    ).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    idle(page)


# --- Compare ----------------------------------------------------------------------------------------------------------


def stored(home: Path, run: str, method: str) -> ParetoFront:
    return next(f for f in RunFolder(home / "runs" / run).fronts() if f.method == method)


def test_the_table_and_the_charts_say_what_the_stored_figures_give(page: Any, app: App, home: Path) -> None:
    open_compare(page, app, f"{BOTH}&x=clicks&y=quality")
    ours, ls = stored(home, "small", "hyperdpo"), stored(home, "small", "dpo-ls")
    assert ours.per_query is not None
    counts = bootstrap_counts(ours.per_query.shape[1])
    draws = [hypervolume_draws(resampled(f, counts)) for f in (ours, ls)]
    span = interval(ours.hypervolume, draws[0], 1)
    cells = page.locator(f'tr[data-front="{OURS}"] td').all_inner_texts()
    assert cells[0] == f"{ours.hypervolume:#.4g} ({span.low:#.3g} to {span.high:#.3g})"
    difference = 100 * (ours.hypervolume - ls.hypervolume) / ls.hypervolume
    assert f"{difference:+.1f} %".replace("-", "−") in cells[2]
    low, high = np.percentile(draws[0] - draws[1], [2.5, 97.5])
    verdict = "better" if low > 0 else "worse" if high < 0 else "no measurable difference"
    assert cells[1].endswith(verdict)
    assert page.locator(f'tr[data-front="{LS}"] td').nth(1).inner_text() == "the yardstick"
    trace = drawn(page, MAIN)[f"front|{OURS}"]
    assert sorted(v for v in trace["x"] if v is not None) == pytest.approx(sorted(ours.ndcg[:, 1]), abs=1e-6)
    until(page, lambda: f"cost|{OURS}" in drawn(page, COST))
    point = drawn(page, COST)[f"cost|{OURS}"]
    assert (point["x"][0], point["y"][0]) == (pytest.approx(ours.seconds, abs=1e-3), pytest.approx(ours.hypervolume))
    assert [m for m in drawn(page, MAIN) if m.startswith("owner|")]
    page.get_by_text(re.compile("trade-off space|no measurable difference between")).first.wait_for()
    page.get_by_text("beaten by no other").wait_for()


def test_colours_are_those_of_explore_and_of_the_temperature_view(page: Any, app: App) -> None:
    from dashboard.charts import LOOKS

    open_compare(page, app, BOTH)
    found = drawn(page, MAIN)
    assert {found[f"front|{k}"]["colour"] for k in (OURS, FILM)} == {LOOKS["hyperdpo"].colour}
    assert found[f"front|{LS}"]["colour"] == LOOKS["dpo-ls"].colour


def test_runs_fronts_yardstick_and_intervals_by_their_controls(page: Any, app: App) -> None:
    page.goto(f"{app.url}/?run=small")
    page.get_by_role("link", name="Compare").click()
    page.locator("tr[data-front]").first.wait_for(timeout=PATIENCE)
    until(page, lambda: {OURS, LS} <= fronts(page))
    until(page, lambda: addressed(page).get("runs") == ["small"])  # it opens on the run that was being explored
    idle(page)
    page.locator(".st-key-compare-runs input").click()
    page.get_by_role("option", name="small-film").click()
    until(page, lambda: FILM in fronts(page))
    until(page, lambda: addressed(page).get("runs") == ["small", "small-film"])
    page.keyboard.press("Escape")
    page.get_by_role("listbox").wait_for(state="detached", timeout=PATIENCE)
    idle(page)
    page.get_by_test_id("stSidebar").get_by_role("button", name="DPO-LS", exact=True).click()
    until(page, lambda: LS not in fronts(page))
    until(page, lambda: addressed(page).get("off") == [LS])
    assert page.locator(f'tr[data-front="{LS}"]').count() == 0
    choose(page, "Better than", "HyperDPO (film)")
    page.get_by_text("better than HyperDPO (film)?").wait_for(timeout=PATIENCE)
    until(page, lambda: addressed(page).get("vs") == [FILM])
    assert drawn(page, MAIN)[f"front|{OURS}"]["errors"]
    page.get_by_text("95 % intervals").click()
    until(page, lambda: not drawn(page, MAIN)[f"front|{OURS}"]["errors"])
    until(page, lambda: addressed(page).get("ci") == ["0"])


def test_axes_views_and_triangle_and_the_address_restores_them(page: Any, app: App) -> None:
    open_compare(page, app, f"{BOTH}&x=clicks&y=quality")
    choose(page, "Vertical axis", "relevance")
    page.wait_for_function(
        f"() => document.querySelector('.st-key-{MAIN} .ytitle')?.textContent.startsWith('relevance')", timeout=PATIENCE
    )
    choose(page, "Horizontal axis", "margin")
    until(page, lambda: addressed(page).get("x") == ["margin"])
    page.get_by_role("radio", name="All at once").or_(page.get_by_role("button", name="All at once")).first.click()
    until(page, lambda: f"parallel|{OURS}" in drawn(page, MAIN))
    page.get_by_role("radio", name="Every pair").or_(page.get_by_role("button", name="Every pair")).first.click()
    until(page, lambda: f"pair|{OURS}|clicks|quality" in drawn(page, MAIN))
    page.get_by_role("radio", name="Triangle").or_(page.get_by_role("button", name="Triangle")).first.click()
    until(page, lambda: len(drawn(page, MAIN).get("triangle", {"a": []})["a"]) == 66)
    before = drawn(page, MAIN)["triangle"]["value"]
    choose(page, "Figure", "margin")
    until(page, lambda: drawn(page, MAIN)["triangle"]["value"] != before)
    choose(page, "Front", "DPO-LS")
    until(page, lambda: len(drawn(page, MAIN)["triangle"]["a"]) == 4)
    until(page, lambda: addressed(page).get("of") == [LS])
    address, shown = addressed(page), drawn(page, MAIN)
    assert (address["view"], address["metric"]) == (["triangle"], ["margin"])
    page.reload()
    until(page, lambda: drawn(page, MAIN) == shown)
    until(page, lambda: addressed(page) == address)


def test_the_triangle_is_what_the_package_measures(page: Any, app: App, home: Path) -> None:
    open_compare(page, app, "runs=small&view=triangle&metric=clicks")
    until(page, lambda: len(drawn(page, MAIN).get("triangle", {"a": []})["a"]) == 66)
    run = RankRun(home / "runs" / "small")
    table, features = run.table(run.read(open_data(home / "data")).lists("test"))
    model, found = LiveModel(run.rankers[0], table, features), drawn(page, MAIN)["triangle"]
    weights = [(a, b, 10 - a - b) for a in range(11) for b in range(11 - a)]
    for place in (0, 17, 65):
        point = model.point([v / 10 for v in weights[place]])
        assert found["a"][place] == pytest.approx(weights[place][0] / 10)
        assert found["value"][place] == pytest.approx(float(point.ndcg[1]), abs=1e-5)


def test_runs_on_other_terms_and_foreign_addresses_are_sentences(page: Any, app: App) -> None:
    open_compare(page, app, "runs=small&runs=small-k5&runs=nowhere&runs=broken&x=%3Cb%3E&view=cube&vs=none&off=junk")
    for said in (
        "small-k5 is left out, because it has another cut-off (NDCG@5, not NDCG@10) than small.",
        "There is no run called 'nowhere' here.",
        "cannot be read as JSON",
        "axis x='<b>' is not in this comparison",
        "view='cube' is none of plane",
        "front vs='none' is not in this comparison",
    ):
        page.get_by_text(said).first.wait_for(timeout=PATIENCE)
    assert "small-k5" not in "".join(fronts(page))


def test_downloads_of_the_comparison(page: Any, app: App, tmp_path: Path) -> None:
    open_compare(page, app, BOTH)
    rows = take(page, tmp_path, "Table, JSON", None)
    opening.json_rows(rows)
    table = json.loads(rows)
    assert {r["front"] for r in table} >= {"HyperDPO (mixture)", "DPO-LS", "HyperDPO (film)"}
    assert table[0]["verdict"] in ("better", "worse", "no measurable difference")
    assert len(opening.csv_rows(take(page, tmp_path, "Table, CSV", None))) == len(table)
    points = take(page, tmp_path, "Points, CSV", None)
    assert points.startswith(b"run,front,c,k,w.clicks")
    assert len(opening.csv_rows(points)) == len(opening.json_rows(take(page, tmp_path, "Points, JSON", None))) >= 20
    for kind in PICTURES:
        opening.check(kind, take(page, tmp_path, f"Save {kind}", kind), tmp_path)


def take(page: Any, folder: Path, button: str, kind: str | None) -> bytes:
    """What a button of the download popover gives, once the popover is open and the format chosen."""
    save = page.get_by_role("button", name=button, exact=True)
    form = page.get_by_role("radio", name=kind or "PNG", exact=True).or_(
        page.get_by_role("button", name=kind or "PNG", exact=True)
    )
    if not form.first.is_visible():
        page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()
        form.first.wait_for(timeout=PATIENCE)
    if kind is not None:
        form.first.click()
    save.wait_for(timeout=PATIENCE)
    with page.expect_download(timeout=PATIENCE) as download:
        save.click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file.read_bytes()


# --- Temperature ------------------------------------------------------------------------------------------------------


def open_heat(page: Any, app: App, query: str) -> None:
    page.goto(f"{app.url}/temperature?{query}")
    page.locator("tr[data-c]").first.wait_for(timeout=PATIENCE)
    page.locator(f".st-key-{HEAT} .js-plotly-plot .main-svg").first.wait_for(timeout=PATIENCE)


@pytest.fixture(scope="module")
def model(home: Path) -> LiveModel:
    run = RankRun(home / "runs" / "small")
    table, features = run.table(run.read(open_data(home / "data")).lists("test"))
    return LiveModel(run.rankers[0], table, features)


def test_the_slider_of_c_moves_the_front_as_the_package_does(page: Any, app: App, model: LiveModel) -> None:
    open_heat(page, app, "run=small&c=0.5&x=clicks&y=quality&k=5&w=10,20,70")
    assert {f"c|{c:g}" for c in (0.25, 0.5, 1, 2, 4, 10)} <= set(drawn(page, HEAT))
    slider = page.locator(".st-key-heat-c").get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, lambda: parameters(page).get("c") == "0.525")
    expected = front_ndcg(model.table, model.grid_residuals(11), scale=0.525, k=5).nanmean(1).numpy()

    def shown() -> bool:
        found = drawn(page, HEAT).get("live", {"x": []})["x"]
        return bool(found) and all(np.abs(expected[:, 1] - x).min() < 2e-6 for x in found)

    until(page, shown)
    assert drawn(page, HEAT)["live"]["name"] == "c = 0.525, the slider"
    side = drawn(page, SIDE)
    assert side["live|y"]["y"][0] == pytest.approx(expected[:, 0].mean(), abs=1e-5)
    cells = page.locator('tr[data-c="0.525"] td').all_inner_texts()
    assert cells[1] == f"{expected[:, 0].mean():.3f} ± {expected[:, 0].std():.3f}"
    page.get_by_text("At c = 0.525, bolder than trained").wait_for(timeout=PATIENCE)


def test_axes_k_and_run_and_the_address_restores_the_temperature(page: Any, app: App) -> None:
    open_heat(page, app, "run=small&x=clicks&y=quality")
    choose(page, "Vertical axis", "relevance")
    until(page, lambda: parameters(page)["y"] == "relevance")
    choose(page, "Horizontal axis", "margin")
    until(page, lambda: parameters(page)["x"] == "margin")
    choose(page, "NDCG@", "3")
    until(page, lambda: parameters(page)["k"] == "3")
    page.locator(".st-key-heat-c").get_by_role("slider").focus()
    page.keyboard.press("End")
    until(page, lambda: parameters(page)["c"] == "10")
    until(page, lambda: "c = 10, the slider" in [t["name"] for t in drawn(page, HEAT).values()])
    address, shown = parameters(page), drawn(page, HEAT)
    page.reload()
    until(page, lambda: drawn(page, HEAT) == shown)
    assert parameters(page) == address
    page.get_by_role("link", name="Explore").click()
    page.locator("#scale").wait_for(timeout=PATIENCE)
    until(page, lambda: parameters(page).get("c") == "10" and parameters(page).get("k") == "3")
    page.get_by_role("link", name="Temperature").click()
    until(page, lambda: drawn(page, HEAT) == shown)
    choose(page, "Run", "small-film")
    until(page, lambda: parameters(page)["run"] == "small-film" and parameters(page)["c"] == "1")


def test_a_temperature_for_each_objective_where_the_run_cannot_is_a_sentence(page: Any, app: App) -> None:
    open_heat(page, app, "run=small-ls&own=1,2,0.5")
    page.get_by_text("This run has one model per weight").wait_for(timeout=PATIENCE)
    assert "own" not in drawn(page, HEAT)
    page.get_by_role("button", name="One temperature for all").click()
    until(page, lambda: "own" not in parameters(page))
    page.get_by_text("This run has one model per weight").wait_for(state="detached", timeout=PATIENCE)


def test_a_temperature_for_each_objective_by_its_sliders(page: Any, app: App, model: LiveModel) -> None:
    pytest.importorskip("hyperdpo.implicit", reason="needs the mixture's implicit solution")
    open_heat(page, app, "run=small&x=clicks&y=quality&c=2")
    page.get_by_text("A temperature for each objective").click()
    slider = page.locator('[class*="st-key-heat-own-1"]').get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, lambda: parameters(page).get("own", "").count(",") == 2)
    beta = [float(v) for v in parameters(page)["own"].split(",")]
    assert beta[0] == beta[2] == 1.0 < beta[1]
    residuals = model.grid_residuals(11, beta=beta)  # type: ignore[call-arg]
    expected = front_ndcg(model.table, residuals, scale=2.0, k=10).nanmean(1).numpy()

    def shown() -> bool:
        found = drawn(page, HEAT).get("own", {"x": []})["x"]
        return bool(found) and all(np.abs(expected[:, 1] - x).min() < 2e-3 for x in found)

    until(page, shown)
    page.get_by_text(f"own temperatures (quality {beta[1]:g})").wait_for(timeout=PATIENCE)
    address = parameters(page)
    page.reload()
    until(page, shown)
    assert parameters(page) == address


def test_downloads_of_the_temperature_view(page: Any, app: App, tmp_path: Path) -> None:
    open_heat(page, app, "run=small")
    rows = take(page, tmp_path, "Table, CSV", None)
    assert rows.startswith(b"run,front,c,k,beta,hypervolume,main")
    assert len(opening.csv_rows(rows)) == len(opening.json_rows(take(page, tmp_path, "Table, JSON", None))) == 7
    points = (take(page, tmp_path, f"Points, {kind}", None) for kind in ("CSV", "JSON"))
    assert len(opening.csv_rows(next(points))) == len(opening.json_rows(next(points))) == 6 * 11 + 1
    for kind in PICTURES:
        opening.check(kind, take(page, tmp_path, f"Save {kind}", kind), tmp_path)


def test_without_its_data_the_saved_front_is_shown_with_what_to_do(page: Any, app: App, home: Path) -> None:
    page.goto(f"{app.url}/temperature?run=orphan")
    page.get_by_text("is not at /nowhere/at/all").wait_for(timeout=PATIENCE)
    page.get_by_text("Shown is the saved front, at c = 1.").wait_for(timeout=PATIENCE)
    page.get_by_role("textbox", name="Path of the data folder").fill(str(home / "data"))
    page.get_by_role("textbox", name="Path of the data folder").press("Enter")
    page.get_by_role("button", name="Open the data").click()
    page.locator("tr[data-c]").first.wait_for(timeout=PATIENCE)


@pytest.mark.parametrize("address", ["compare?runs=small&view=pairs", "compare?runs=small", "temperature?run=small"])
def test_a_phone_shows_everything_within_its_width(browser: Any, app: App, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{app.url}/{address}")
    page.locator("tr[data-front], tr[data-c]").first.wait_for(timeout=PATIENCE)
    chart = page.locator(".js-plotly-plot").first
    until(page, lambda: chart.bounding_box() is not None)
    box = chart.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["y"] < 500, "the chart begins on the first screen"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).is_visible()
    context.close()
