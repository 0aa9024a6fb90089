"""Plotly figures as PNG, SVG or PDF, drawn by one browser that stays open between them.

Kaleido opens a browser for every picture, which takes seconds where the drawing takes a few tenths, and waits for ever
where that browser hangs as it starts. Here it is kept, ended when nothing was drawn for a while, and given up for a
fresh one after a deadline. Kaleido is imported when the first picture is asked for.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from contextlib import suppress
from typing import Any

from hyperdpo.errors import HyperDPOError

START_SECONDS = 30.0  # a browser that has not opened by then never will
DRAW_SECONDS = 60.0
CLOSE_SECONDS = 5.0
IDLE_SECONDS = 300.0
ATTEMPTS = 2


class PictureError(HyperDPOError):
    """No browser could draw the figure; the message is the last one's."""


def draw(figure: Any, kind: str, *, width: float, height: float, scale: float = 1.0) -> bytes:
    """A Plotly figure, or a dict of one, as an image file.

    Args:
        figure: what is drawn.
        kind: png, svg or pdf.
        width, height: of the picture, in CSS pixels (96 to an inch).
        scale: pixels of a PNG for each of them.

    One picture at a time; others wait. Raises PictureError where there is no browser, or where two of them in a row
    did not open within 30 s or draw within 60 s.
    """
    options = {"format": kind, "width": width, "height": height, "scale": scale}
    return _KEPT.draw(figure, options)


class _Kept:
    """The browser that draws, if one is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._browser: _Browser | None = None
        self._idle: threading.Timer | None = None

    def draw(self, figure: Any, options: dict[str, Any]) -> bytes:
        with self._lock:
            self._rest(None)
            failure: Exception | None = None
            for _ in range(ATTEMPTS):
                try:
                    self._browser = self._browser or _Browser()
                    drawn = self._browser.draw(figure, options)
                    self._rest(IDLE_SECONDS)
                    return drawn
                except Exception as error:
                    self._close()
                    failure = error
        raise PictureError(f"{type(failure).__name__}: {str(failure)[:200]}") from failure

    def close(self) -> None:
        with self._lock:
            self._rest(None)
            self._close()

    def _close(self) -> None:
        browser, self._browser = self._browser, None
        if browser is not None:
            browser.close()

    def _rest(self, seconds: float | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = None
        if seconds is not None:
            self._idle = threading.Timer(seconds, self.close)
            self._idle.daemon = True
            self._idle.start()


class _Browser:
    """One browser and the thread that talks to it. Raises what Kaleido raises, TimeoutError after a deadline."""

    def __init__(self) -> None:
        import kaleido  # type: ignore[import-untyped]

        self._kaleido = kaleido.Kaleido(n=1, timeout=None, mathjax=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pictures", daemon=True)
        self._thread.start()
        self._opened = False

    def draw(self, figure: Any, options: dict[str, Any]) -> bytes:
        if not self._opened:
            self._run(self._kaleido.open(), START_SECONDS)
            self._opened = True
        return bytes(self._run(self._kaleido.calc_fig(figure, opts=options), DRAW_SECONDS))

    def close(self) -> None:
        """End the browser, by force where it does not answer."""
        with suppress(Exception):
            self._run(self._kaleido.close(), CLOSE_SECONDS)
        process = getattr(self._kaleido, "subprocess", None)
        if process is not None and process.poll() is None:
            process.kill()
        with suppress(Exception):
            self._run(_cancel_others(), CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def _run(self, work: Any, seconds: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"the browser did not answer within {seconds:g} s") from None


async def _cancel_others() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_KEPT = _Kept()
atexit.register(_KEPT.close)
