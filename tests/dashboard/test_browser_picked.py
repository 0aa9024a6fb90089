"""A selection in one picture of a comparison is a selection in all of them, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from driver import PATIENCE, App, addressed, until

from hyperdpo.runs import RunFolder

pytestmark = pytest.mark.browser
OURS = "small: HyperDPO (mixture)"
CHART = ".st-key-compare-main .js-plotly-plot"
TRACES = """(chart) => {
  const found = document.querySelector(chart);
  return JSON.stringify((found?.data ?? []).map((t) => ({ meta: String(t.meta ?? ''), n: (t.x ?? t.a ?? []).length,
    opacity: t.marker?.opacity,
    first: (t.x ?? []).map((x, i) => (x === 0 ? t.y[i] : null)).filter((y) => y !== null) })));
}"""
# Where values of a chart's axes are on the screen, by plotly's own conversion.
SPOT = """([chart, xref, yref, x, y]) => {
  const found = document.querySelector(chart), layout = found._fullLayout;
  const box = found.querySelector('.svg-container').getBoundingClientRect();
  const [across, up] = [layout[xref], layout[yref]];
  return [box.x + across._offset + across.d2p(x), box.y + up._offset + up.d2p(y)];
}"""


def traces(page: Any) -> dict[str, dict[str, Any]]:
    return {t["meta"]: t for t in json.loads(page.evaluate(TRACES, CHART))}


def selection(page: Any) -> list[str]:
    """As the address keeps it."""
    return addressed(page).get("in", [])


def picked(page: Any) -> int:
    """How many rows of our own run the table of selected points has."""
    return int(page.locator(f'tr[data-picked="{OURS}"]').count())


def view(page: Any, name: str) -> None:
    page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name)).first.click()


def drag(page: Any, axes: tuple[str, str], start: tuple[float, float], end: tuple[float, float]) -> None:
    page.locator(CHART).scroll_into_view_if_needed()
    a, b = (page.evaluate(SPOT, [CHART, *axes, *at]) for at in (start, end))
    page.mouse.move(*a)
    page.mouse.down()
    page.mouse.move(*b, steps=6)
    page.mouse.up()


@pytest.mark.parametrize("width", [1440, 390])
def test_a_brush_selects_in_every_picture_and_the_address_keeps_it(page: Any, app: App, home: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900 if width > 400 else 844})
    page.goto(f"{app.url}/compare?runs=small&view=lines")
    until(page, lambda: f"parallel|{OURS}" in traces(page))
    front = next(f for f in RunFolder(home / "runs" / "small").fronts() if f.method == "hyperdpo")
    middle = float(np.mean(traces(page)[f"parallel|{OURS}"]["first"]))
    drag(page, ("xaxis", "yaxis"), (-0.15, middle), (0.15, 1.05))  # the better part of the first axis, clicks
    until(page, lambda: selection(page))
    (said,) = selection(page)
    name, low, high = said.rsplit(":", 2)
    assert name == "clicks"
    clicks = front.ndcg[:, 1]
    expected = int(((clicks >= float(low)) & (clicks <= float(high))).sum())
    assert 0 < expected < len(clicks), "the brush must part the points, or this test shows nothing"
    until(page, lambda: picked(page) == expected)
    until(page, lambda: traces(page).get(f"outparallel|{OURS}", {}).get("n") == (len(clicks) - expected) * 5)
    assert traces(page)[f"parallel|{OURS}"]["n"] == expected * 5
    view(page, "Every pair")
    until(page, lambda: f"pair|{OURS}|clicks|quality" in traces(page))
    faded = [o for o in traces(page)[f"pair|{OURS}|clicks|quality"]["opacity"] if o < 0.2]
    assert len(faded) == len(clicks) - expected
    view(page, "Triangle")
    until(page, lambda: isinstance(traces(page).get("triangle", {}).get("opacity"), list))
    page.reload()
    until(page, lambda: picked(page) == expected)
    until(page, lambda: selection(page) == [said])
    page.get_by_role("button", name="Clear selection").click()
    until(page, lambda: not selection(page) and not picked(page))


def test_a_box_in_a_pair_and_a_slider_by_key(page: Any, app: App, home: Path) -> None:
    front = next(f for f in RunFolder(home / "runs" / "small").fronts() if f.method == "hyperdpo")
    page.goto(f"{app.url}/compare?runs=small&view=pairs")
    until(page, lambda: f"pair|{OURS}|quality|margin" in traces(page))
    quality, margin = front.ndcg[:, 2], front.ndcg[:, 3]
    middle = (float(np.median(quality)), float(np.median(margin)))
    drag(page, ("xaxis2", "yaxis"), middle, (float(quality.max()) + 0.01, float(margin.min()) - 0.01))
    until(page, lambda: sorted(r.split(":")[0] for r in selection(page)) == ["margin", "quality"])
    page.get_by_role("button", name="Clear selection").click()
    until(page, lambda: not selection(page))
    page.get_by_text("Select by ranges").click()
    low = page.get_by_role("slider", name="clicks").first
    low.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    until(page, lambda: [r.split(":")[0] for r in selection(page)] == ["clicks"])
    page.get_by_text("Selected:").wait_for(timeout=PATIENCE)


def test_a_box_over_dots_of_the_triangle_bounds_the_attention(page: Any, app: App) -> None:
    page.goto(f"{app.url}/compare?runs=small&view=triangle")
    until(page, lambda: traces(page).get("triangle", {}).get("n") == 66)  # live: every mix in steps of a tenth
    chart = page.locator(f"{CHART} .ternary").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(across - 90, down - 40)
    page.mouse.down()
    page.mouse.move(across + 90, down + 60, steps=12)
    page.mouse.up()
    until(page, lambda: [r.split(":")[0] for r in selection(page)] == ["w.clicks", "w.quality", "w.margin"])
    bounds = [tuple(map(float, r.split(":")[1:])) for r in selection(page)]
    grid = [(i, j, 10 - i - j) for i in range(11) for j in range(11 - i)]
    inside = [all(low <= v / 10 <= high for v, (low, high) in zip(w, bounds, strict=True)) for w in grid]
    assert 0 < sum(inside) < 66
    until(page, lambda: isinstance(traces(page).get("triangle", {}).get("opacity"), list))
    assert sum(o == 1 for o in traces(page)["triangle"]["opacity"]) == sum(inside)


def test_a_foreign_selection_in_the_address_is_a_sentence(page: Any, app: App) -> None:
    page.goto(f"{app.url}/compare?runs=small&in={quote('<b>:0:1')}&in=junk&in=clicks:2:1")
    page.get_by_text("selection names '<b>'").wait_for(timeout=PATIENCE)
    page.get_by_text("in='junk' is not NAME:LOW:HIGH").wait_for(timeout=PATIENCE)
    page.get_by_text("in='clicks:2:1' is not NAME:LOW:HIGH").wait_for(timeout=PATIENCE)
    until(page, lambda: selection(page) == [])
