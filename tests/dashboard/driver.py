"""Starting the app and a browser, for tests and screenshots alike."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Streamlit's own errors in the console: what they say, and the address that they are about. Opened at a view's own
# address, it feels for its server below that address first; an app of two empty pages logs the same.
STREAMLIT_SAYS = (("404 (Not Found)", "/_stcore/health"), ("404 (Not Found)", "/_stcore/host-config"))
START_SECONDS = 60.0
PATIENCE = 180_000  # milliseconds: on a busy machine PyTorch alone takes many seconds to load


class App:
    """The Streamlit app as a process of its own, started from `folder`."""

    def __init__(self, script: Path, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = Path(tempfile.mkdtemp(prefix="hyperdpo-app-")) / "app.log"
        # PYTHONPATH must not help: `streamlit run` from elsewhere has to find the package by itself.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
        command += [f"--server.port={port}", "--server.address=127.0.0.1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> App:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        self.process.terminate()
        raise RuntimeError(f"The app did not start:\n{self.said()}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:  # a model that computes does not hear the wish
            self.process.kill()
            self.process.wait(20)
        shutil.rmtree(self.log.parent, ignore_errors=True)

    def said(self) -> str:
        """What the app wrote to its terminal."""
        return self.log.read_text("utf-8", errors="replace")


def find_chromium() -> str | None:
    """An installed Chromium, or Playwright's own."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as driver:
            path = driver.chromium.executable_path
    except Exception:
        return None
    return path if Path(path).exists() else None


@contextmanager
def launch() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def listen(page: Any) -> list[str]:
    """The errors that the page's console will have said, without Streamlit's own; filled as they come."""
    errors: list[str] = []

    def hear(message: Any) -> None:
        place = message.location.get("url", "")
        known = any(said in message.text and place.endswith(at) for said, at in STREAMLIT_SAYS)
        if message.type == "error" and not known:
            errors.append(f"{message.text} ({place})")

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def open_live(page: Any, url: str) -> None:
    """Open an address of the Explore view and wait until its sliders are live."""
    page.goto(url)
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for(timeout=PATIENCE)


def trace(page: Any, meta: str) -> dict[str, Any]:
    """The drawn chart's trace with this `meta`."""
    script = """(meta) => {
      const chart = [...document.querySelectorAll('.js-plotly-plot')].find((c) => c.data && c.data.length);
      const t = chart && chart.data.find((t) => t.meta === meta || String(t.meta).startsWith(meta + '|'));
      return t ? JSON.stringify({ x: [...t.x], y: [...t.y], text: t.text, name: t.name }) : 'null';
    }"""
    found: dict[str, Any] = json.loads(page.evaluate(script, meta)) or {}
    return found


def live_point(page: Any) -> list[float]:
    """Where the live point stands, in the units of the axes; empty while there is none."""
    dot = page.locator(".js-plotly-plot .hx-exact circle")
    script = "(all) => all.map((d) => [Number(d.dataset.x), Number(d.dataset.y)])[0] ?? []"
    return [float(v) for v in dot.evaluate_all(script)]


def ranges(page: Any) -> list[list[float]]:
    """The drawn chart's axis ranges, x then y."""
    script = (
        "() => { const l = document.querySelector('.js-plotly-plot').layout; return [l.xaxis.range, l.yaxis.range]; }"
    )
    return [list(r) for r in page.evaluate(script)]


def until(page: Any, met: Callable[[], object]) -> None:
    """Until something holds; then once more, so that a failure shows what was there."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not met() and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert met()


def address(page: Any) -> str:
    """By the browser's own word: Playwright's `page.url` may miss a change that comes right after another."""
    return str(page.evaluate("location.href"))


def addressed(page: Any) -> dict[str, list[str]]:
    """The address's parameters, repeated ones included."""
    return parse_qs(urlsplit(address(page)).query)


def parameters(page: Any) -> dict[str, str]:
    """The address's parameters, the last of those that are repeated."""
    return {name: values[-1] for name, values in addressed(page).items()}
