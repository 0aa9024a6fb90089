"""What the chart does by itself in a real browser: the preview while a slider is held, and a click that finds a mix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import PATIENCE, App, live_point, open_live, parameters, ranges, until

from hyperdpo.rank.data import open_data
from hyperdpo.rank.live import LiveModel
from hyperdpo.rank.run import RankRun

pytestmark = pytest.mark.browser
NAMES = ("relevance", "clicks", "quality", "margin")
RING = """() => {
  const ring = document.querySelector('.hx-ahead circle'), label = document.querySelector('.hx-ahead text');
  return ring && ring.style.display !== 'none' && label.textContent === 'preview'
    ? [Number(ring.dataset.x), Number(ring.dataset.y)] : [];
}"""
# From the slider's input event to the ring standing elsewhere, in one task of the browser: no round trip can fit in it.
STEP = """(value) => {
  const slider = document.querySelector('input.slider') ?? [...document.querySelectorAll('*')]
    .map((e) => e.shadowRoot?.querySelector('input.slider')).find(Boolean);
  const ring = document.querySelector('.hx-ahead circle'), before = ring.getAttribute('cx') + ring.getAttribute('cy');
  const began = performance.now();
  slider.value = String(value);
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  return { moved: ring.getAttribute('cx') + ring.getAttribute('cy') !== before, took: performance.now() - began };
}"""


@pytest.fixture(scope="module")
def model(home: Path) -> LiveModel:
    """The same run measured by the package alone."""
    run = RankRun(home / "runs" / "small")
    table, features = run.table(run.read(open_data(home / "data")).lists("test"))
    return LiveModel(run.rankers[0], table, features)


def measured(page: Any, model: LiveModel) -> list[float]:
    """What the package gives for the address's w and c on the address's axes."""
    said = parameters(page)
    point = model.point([int(p) / 100 for p in said["w"].split(",")], scale=float(said["c"]), k=int(said["k"]))
    return [float(point.ndcg[NAMES.index(said[axis])]) for axis in "xy"]


def sketched(page: Any) -> None:
    """Until the browser has the sketch: it comes with the first answer after it has been measured."""
    sliders = page.locator("input.slider")

    def previews() -> bool:
        sliders.nth(2).focus()
        page.keyboard.press("ArrowRight")
        seen = bool(page.evaluate("() => document.querySelector('.hx-ahead circle').hasAttribute('cx')"))
        page.wait_for_timeout(0 if seen else 400)
        return seen

    until(page, previews)
    page.wait_for_timeout(600)


@pytest.mark.parametrize("width", [1440, 390])
def test_the_preview_follows_the_slider_and_the_measured_point_takes_its_place(
    page: Any, app: App, model: LiveModel, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900 if width > 400 else 844})
    open_live(page, f"{app.url}/?run=small&w=40,30,30&x=clicks&y=margin")
    if width < 400:
        page.get_by_test_id("stExpandSidebarButton").click()
    sketched(page)
    before, slider = ranges(page), page.locator("input.slider").first
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2, steps=4)
    until(page, lambda: page.evaluate(RING))
    steps = [page.evaluate(STEP, value) for value in (62, 66, 70, 74, 78)]
    assert all(step["moved"] for step in steps), "the ring waited for Python"
    assert page.evaluate(RING)
    page.mouse.up()
    until(page, lambda: parameters(page)["w"].startswith("78,") and not page.evaluate(RING))
    until(page, lambda: live_point(page) == pytest.approx(measured(page, model), abs=2e-6))
    assert page.evaluate("() => document.querySelector('.hx-exact').style.opacity") == ""
    assert ranges(page) == before, "the axes must not jump"
    last = [float(page.locator(".hx-ahead circle").get_attribute(f"data-{axis}")) for axis in "xy"]
    size = [abs(high - low) for low, high in before]
    assert np.abs((np.array(last) - live_point(page)) / size).max() < 0.1, "the preview pointed elsewhere"
    assert page.locator(".js-plotly-plot [role=status]").text_content().startswith("Measured: clicks 0.")
    scale = page.locator("#scale")
    scale.focus()
    page.keyboard.press("PageDown")
    until(page, lambda: parameters(page)["c"] == "0.631")
    until(page, lambda: live_point(page) == pytest.approx(measured(page, model), abs=2e-6))
    until(page, lambda: not page.evaluate(RING))


@pytest.mark.parametrize("width", [1440, 390])
def test_a_click_on_the_plane_puts_the_sliders_at_the_nearest_mix(
    page: Any, app: App, model: LiveModel, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900 if width > 400 else 844})
    open_live(page, f"{app.url}/?run=small&w=100,0,0&x=clicks&y=margin&a=0,0,100%401")
    (left, right), (low, high) = ranges(page)
    goal = model.point([0.3, 0.3, 0.4], k=10).ndcg
    aim = [float(goal[1]), float(goal[3])]
    spot = page.evaluate(
        """([x, y]) => {
          const chart = document.querySelector('.js-plotly-plot'), { xaxis, yaxis } = chart._fullLayout;
          const box = chart.querySelector('.svg-container').getBoundingClientRect();
          return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)];
        }""",
        aim,
    )
    page.mouse.click(*spot)
    until(page, lambda: parameters(page)["w"] != "100,0,0")
    until(page, lambda: live_point(page) == pytest.approx(measured(page, model), abs=2e-6))
    size = np.array([right - left, high - low])
    ring = [float(page.locator(".hx-aim").get_attribute(f"data-{axis}")) for axis in "xy"]
    assert np.abs((np.array(ring) - aim) / size).max() < 0.01
    grid = [(a, b, 10 - a - b) for a in range(11) for b in range(11 - a)]
    best = min(np.linalg.norm((model.point([v / 10 for v in w], k=10).ndcg[[1, 3]] - aim) / size) for w in grid)
    assert np.linalg.norm((np.array(live_point(page)) - aim) / size) < best + 0.03
    assert parameters(page)["a"] == "0,0,100@1", "A stays pinned"
    page.get_by_text("The ring is where you clicked").wait_for(timeout=PATIENCE)
    page.mouse.dblclick(spot[0] - 30, spot[1] - 20)
    page.wait_for_timeout(700)
    assert page.locator(".hx-aim").is_visible(), "a double click is the chart's own and changes nothing here"
    if width > 400:
        page.locator("input.slider").first.focus()
        page.keyboard.press("ArrowRight")
        until(page, lambda: not page.locator(".hx-aim").is_visible())
