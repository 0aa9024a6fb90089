"""Pictures of every view, light, dark and on a phone: `make screenshots` writes them to .screenshots/.

    python tests/screenshots.py [--out FOLDER] [--run RUN]

Look at them after every change of the dashboard; the README's picture is explore-light.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "dashboard"), str(HERE), str(HERE.parent)]
from driver import PATIENCE, App, launch, open_live  # noqa: E402
from stories import make_stories  # noqa: E402

ROOT = HERE.parent
SIZES = {
    "light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}


def whole_page(page: Any) -> None:
    """Make the window as tall as what it holds, since Streamlit scrolls inside."""
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(int(height) + 10, 6000)})
    page.wait_for_timeout(800)


def shoot(browser: Any, url: str, run: str, name: str, out: Path, data: Path) -> None:
    """Every view in one size and theme; `data` is brought to the last of them."""
    context = browser.new_context(**SIZES[name])
    page = context.new_page()
    open_live(page, f"{url}/?{f'run={run}&' if run else ''}a=20,20,20,20,20%401&w=35,10,10,35,10")
    page.wait_for_timeout(1000)
    page.screenshot(path=out / f"explore-{name}.png")
    if name == "phone":
        page.get_by_test_id("stExpandSidebarButton").click()
        page.wait_for_timeout(800)
        page.screenshot(path=out / f"sliders-{name}.png")
        page.get_by_test_id("stSidebarCollapseButton").click()
        page.wait_for_timeout(500)
    whole_page(page)
    page.screenshot(path=out / f"explore-{name}-whole.png")
    for view in ("compare", "temperature"):
        page.set_viewport_size(SIZES[name]["viewport"])
        page.goto(f"{url}/{view}{f'?run={run}' if run else ''}")
        page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=PATIENCE)
        page.wait_for_timeout(4000)
        page.screenshot(path=out / f"{view}-{name}.png")
        whole_page(page)
        page.screenshot(path=out / f"{view}-{name}-whole.png")
    page.set_viewport_size(SIZES[name]["viewport"])
    page.goto(f"{url}/runs")
    page.locator(".hx-table").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(500)
    page.screenshot(path=out / f"runs-{name}.png")
    page.goto(f"{url}/yours?file={data}&goal=clicks:l1:max&goal=quality:softmax:max")
    page.get_by_role("button", name="Start the training").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(800)
    whole_page(page)
    page.screenshot(path=out / f"yours-{name}.png")
    context.close()


def shoot_text(browser: Any, url: str, name: str, out: Path) -> None:
    """The Text view in one size and theme."""
    context = browser.new_context(**SIZES[name])
    page = context.new_page()
    page.goto(f"{url}/text?w=60,30,10")
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    page.locator(".hx-row:last-child .hx-score").first.wait_for(timeout=PATIENCE)
    page.get_by_text("On all").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(1500)
    page.screenshot(path=out / f"text-{name}.png")
    if name == "phone":
        page.get_by_test_id("stExpandSidebarButton").click()
        page.wait_for_timeout(800)
        page.screenshot(path=out / f"text-sliders-{name}.png")
        page.get_by_test_id("stSidebarCollapseButton").click()
        page.wait_for_timeout(500)
    whole_page(page)
    page.screenshot(path=out / f"text-{name}-whole.png")
    context.close()


def has_text_run() -> bool:
    """Whether a text run ships with the repository."""
    return (ROOT / "checkpoints" / "stories" / "manifest.json").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / ".screenshots")
    parser.add_argument("--run", default="", help="name of a run; the shipped one if not given")
    parser.add_argument("--only-text", action="store_true", help="the Text view only")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as made, launch() as browser:
        from hyperdpo.rank.demo import make_demo

        data = make_demo(Path(made) / "data", queries=60).path
        if not has_text_run():
            make_stories(Path(made))
        with App(ROOT / "dashboard" / "app.py", ROOT if has_text_run() else Path(made)) as app:
            for name in SIZES:
                if not asked.only_text:
                    shoot(browser, app.url, asked.run, name, asked.out, data)
                shoot_text(browser, app.url, name, asked.out)
    print("\n".join(str(p) for p in sorted(asked.out.glob("*.png"))))


if __name__ == "__main__":
    main()
