"""Key press on a slider to the updated chart, in a browser: the dashboard against an otherwise empty Streamlit app.

    python benchmarks/browser_latency.py [--run RUN] [--presses 20] [--starts 3] [--large DIR]

Both apps run at once and are pressed in turn, so that whatever else the machine does falls on both alike. The clock is
the browser's own: from the keydown event to the moment the chart is drawn differently: for a move of w the live point,
which is all that w moves; for a move of c the curves, which come last. The empty app is a slider and a chart with one
moving point. The same for a change of view, from the click to the next view's chart, the empty app having two pages.
Then the first chart: a new server, a new browser, from the address to the first point on the screen, the two apps in
turn; with --large also of a run of 2,000 test lists x 120 items and 6 labels, made in DIR the first time.
"""

from __future__ import annotations

import argparse
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Playwright, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
]
EMPTY_APP = """
import streamlit as st


def show(first):
    value = st.slider("value", 0, 100, first)
    point = {"type": "scatter", "mode": "markers", "x": [value], "y": [value], "name": "moving", "marker": {"size": 17}}
    axis = {"range": [0, 100]}
    st.plotly_chart({"data": [point], "layout": {"xaxis": axis, "yaxis": axis}}, key=f"chart{first}")


pages = [
    st.Page(lambda: show(50), title="Explore", url_path="explore", default=True),
    st.Page(lambda: show(40), title="Other", url_path="other"),
]
st.navigation(pages, position="top").run()
"""
# Notes the milliseconds from the next keydown, or pressed button of the mouse, to the first change of what the chart
# draws. Not by animation frames, which a headless browser gives when it likes.
ARM = """
(what) => {
  const drawn = () => {
    const shown = document.querySelector(what);  // for a moment there may be none
    return shown && shown.querySelector('.point, circle') ? shown.innerHTML : null;
  };
  const before = drawn();
  window.measured = null;
  let pressed = null;
  const note = () => { pressed ??= performance.now(); };
  for (const event of ['keydown', 'mousedown']) window.addEventListener(event, note, { capture: true, once: true });
  const watcher = new MutationObserver(() => {
    const now = drawn();
    if (pressed === null || now === null || now === before) return;
    window.measured = performance.now() - pressed;
    watcher.disconnect();
  });
  const everything = { subtree: true, childList: true, attributes: true };
  watcher.observe(document.body, everything);
}
"""
CURVES, LIVE_POINT = ".js-plotly-plot .scatterlayer", ".js-plotly-plot .hx-exact"
PREVIEW = ".js-plotly-plot .hx-ahead"  # what the browser draws by itself while Python measures
FIRST_CHART_SECONDS = 120


def serve(app: Path, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Streamlit app on a free port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.headless=true", f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--browser.gatherUsageStats=false"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.1)
    process.terminate()
    raise SystemExit(f"{app} did not start within a minute.")


def timed(page: Page, what: str, act: Callable[[], None], rest: int) -> float:
    """Milliseconds from what `act` does to a change of `what`; then `rest` milliseconds for the rest of the page."""
    page.evaluate(ARM, what)
    act()
    page.wait_for_function("window.measured !== null", timeout=20_000, polling=20)
    took = float(page.evaluate("window.measured"))
    page.wait_for_timeout(rest)
    return took


def press(page: Page, slider: Any, key: str, what: str = CURVES) -> float:
    """One key press; milliseconds until `what` of the chart has followed."""
    slider.focus()
    return timed(page, what, lambda: page.keyboard.press(key), rest=250)


def change_view(page: Page, title: str) -> float:
    """A click on a view's name; milliseconds until its chart is drawn."""
    return timed(page, CURVES, page.get_by_role("link", name=title, exact=True).click, rest=800)


def large_run(folder: Path) -> Path:
    """A run of 10,000 simulated lists of 120 items, 2,000 of them test lists, with five objectives."""
    from hyperdpo.rank.simulate import Simulation, simulate
    from hyperdpo.rank.train import RankConfig, train
    from hyperdpo.training import FitConfig

    if not (folder / "run" / "manifest.json").exists():
        data = simulate(Simulation(queries=10_000, items=(120, 120), objectives=5), folder / "data")
        config = RankConfig(fit=FitConfig(epochs=1), base_fit=FitConfig(epochs=1))
        train(data, config, folder / "run", overwrite=True, device="cpu")
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="marketplace", help="name or path of a run folder")
    parser.add_argument("--presses", type=int, default=20)
    parser.add_argument("--starts", type=int, default=3, help="cold starts of each app")
    parser.add_argument("--large", type=Path, metavar="DIR", help="also open a run of 2,000 x 120 test items")
    asked = parser.parse_args()
    large = large_run(asked.large.resolve()) if asked.large else None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY_APP)
        found = CHROMIUM if Path(CHROMIUM).exists() else None
        (ours_process, ours_url), (empty_process, empty_url) = (
            serve(ROOT / "dashboard/app.py", str(ROOT)),
            serve(empty, folder),
        )
        # A browser each: in one browser the page behind the other gets no frames.
        browsers = [driver.chromium.launch(executable_path=found, args=FLAGS) for _ in range(2)]
        try:
            ours, bare = (b.new_page(viewport={"width": 1440, "height": 900}) for b in browsers)
            ours.goto(f"{ours_url}/?run={asked.run}")
            ours.get_by_text("Computed on").wait_for(timeout=120_000)
            bare.goto(empty_url)
            bare.locator(".js-plotly-plot .scatterlayer .point").wait_for()
            attention, scale = ours.locator("input.slider").first, ours.locator("#scale")
            only = bare.get_by_test_id("stSlider").locator("input")
            rows: dict[str, list[float]] = {"empty app": [], "attention (w)": [], "scale (c)": [], "preview (w)": []}
            for i in range(asked.presses + 2):
                key = "ArrowRight" if i % 4 < 2 else "ArrowLeft"
                measured = (
                    press(bare, only, key),
                    press(ours, attention, key, LIVE_POINT),
                    press(ours, scale, key),
                    press(ours, attention, key, PREVIEW),
                )
                if i >= 2:  # the first two warm up
                    for row, value in zip(rows.values(), measured, strict=True):
                        row.append(value)
            views: dict[str, list[float]] = {"empty app": []}
            for i in range(asked.presses + 1):
                empty_took = [change_view(bare, title) for title in ("Other", "Explore")]
                took = {title: change_view(ours, title) for title in ("Temperature", "Compare", "Explore")}
                if i >= 1:
                    views["empty app"] += empty_took
                    for title, value in took.items():
                        views.setdefault(f"to {title}", []).append(value)
        finally:
            for browser in browsers:
                browser.close()
            ours_process.terminate()
            empty_process.terminate()
        starts: dict[str, list[float]] = {"empty app": []}
        for _ in range(asked.starts):
            starts["empty app"].append(first_chart(driver, empty, folder, "/"))
            for name, run in {"dashboard": asked.run, "2,000 x 120": large}.items():
                if run is not None:
                    took_to = first_chart(driver, ROOT / "dashboard/app.py", str(ROOT), f"/?run={run}")
                    starts.setdefault(name, []).append(took_to)
    groups = {"key press to updated chart": rows, "click to the view's chart": views}
    report({**groups, "cold, address to first chart": starts}, asked.run)


def first_chart(driver: Playwright, app: Path, folder: str, address: str) -> float:
    """Milliseconds from opening the address to the first drawn point, with a new server and a new browser."""
    process, url = serve(app, folder)
    browser = driver.chromium.launch(executable_path=CHROMIUM if Path(CHROMIUM).exists() else None, args=FLAGS)
    try:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.monotonic()
        page.goto(f"{url}{address}", wait_until="commit")
        page.locator(f"{CURVES} .point").first.wait_for(timeout=1000 * FIRST_CHART_SECONDS)
        return 1000 * (time.monotonic() - began)
    finally:
        browser.close()
        process.terminate()
        process.wait()


def report(groups: dict[str, dict[str, list[float]]], run: str) -> None:
    """Print the tables."""
    import streamlit

    print(f"run {run}; Streamlit {streamlit.__version__}, Python {platform.python_version()}, {platform.machine()}")
    for what, group in groups.items():
        if not all(group.values()):
            continue
        print(f"{what:<28}{'median ms':>10}{'min':>8}{'max':>8}{'ratio':>8}{'n':>5}")
        base = statistics.median(group["empty app"])
        for name, values in group.items():
            median = statistics.median(values)
            print(
                f"{name:<28}{median:>10.0f}{min(values):>8.0f}{max(values):>8.0f}{median / base:>8.2f}{len(values):>5}"
            )


if __name__ == "__main__":
    main()
