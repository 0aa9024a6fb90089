"""Press of "Another draw" to the first token on the Text view, in a browser, and to the whole answer.

    python benchmarks/text_latency.py [--run stories] [--presses 10] [--strip 11]

Each press waits until the strip of the one before is written. The clock is the browser's own: from the press to the
moment the answer with the sliders' weights holds its first new characters, and to the moment it no longer grows.
`--strip` answers are written at the same time, as the page does.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from pathlib import Path
from urllib.parse import quote

from browser_latency import CHROMIUM, FLAGS, ROOT, serve
from playwright.sync_api import Page, sync_playwright

PROMPT = "One day a little dog"
ARM = """
(prompt) => {
  const told = () => (document.querySelector('.hx-answer .hx-told') || {}).textContent || '';
  const before = told();
  window.first = window.whole = null;
  let pressed = null;
  window.addEventListener('keydown', () => { pressed = performance.now(); }, { capture: true, once: true });
  const watcher = new MutationObserver(() => {
    if (pressed === null) return;
    const now = told(), growing = document.querySelector('.hx-answer .hx-caret');
    if (window.first === null && now !== before && now.length > prompt.length + 1) {
      window.first = performance.now() - pressed;
    }
    if (window.first !== null && !growing) {
      window.whole = performance.now() - pressed;
      watcher.disconnect();
    }
  });
  watcher.observe(document.body, { subtree: true, childList: true, characterData: true });
}
"""
WRITTEN = """
() => [...document.querySelectorAll('.hx-answer, .hx-row')].every(
  (a) => a.querySelector('.hx-score') && !a.querySelector('.hx-caret'))
"""


def press(page: Page) -> tuple[float, float]:
    """One new draw: milliseconds to its first characters, and to its end."""
    page.get_by_role("button", name="Another draw").focus()
    page.evaluate(ARM, PROMPT)
    page.keyboard.press("Enter")
    page.wait_for_function("window.whole !== null", timeout=60_000, polling=20)
    page.wait_for_function(WRITTEN, timeout=120_000, polling=100)
    return float(page.evaluate("window.first")), float(page.evaluate("window.whole"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="stories", help="name or path of a text run folder")
    parser.add_argument("--presses", type=int, default=10)
    parser.add_argument("--strip", type=int, default=11, help="answers of the strip")
    parser.add_argument("--busy", action="store_true", help="do not wait until the test lists are measured")
    asked = parser.parse_args()
    process, url = serve(ROOT / "dashboard/app.py", str(ROOT))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM if Path(CHROMIUM).exists() else None, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{url}/text?run={asked.run}&prompt={quote(PROMPT)}&strip={asked.strip}")
            page.get_by_text("Computed on").wait_for(state="attached", timeout=120_000)
            page.locator(".hx-row .hx-score").first.wait_for(timeout=120_000)
            page.wait_for_function(WRITTEN, timeout=120_000, polling=100)
            if not asked.busy:
                page.get_by_text("On all").first.wait_for(timeout=180_000)
            press(page)  # warms up
            found = [press(page) for _ in range(asked.presses)]
        finally:
            browser.close()
            process.terminate()
    print(f"run {asked.run}, a strip of {asked.strip}; Python {platform.python_version()}, {platform.machine()}")
    print(f"{'press to':<28}{'median ms':>10}{'min':>8}{'max':>8}{'n':>5}")
    for name, values in zip(("first token", "whole answer"), zip(*found, strict=True), strict=True):
        print(f"{name:<28}{statistics.median(values):>10.0f}{min(values):>8.0f}{max(values):>8.0f}{len(values):>5}")


if __name__ == "__main__":
    main()
