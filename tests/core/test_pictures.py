"""The browser that draws pictures: kept between them, given up for a fresh one where it hangs or has died."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from hyperdpo import pictures
from hyperdpo.pictures import PictureError

kaleido = pytest.importorskip("kaleido")

FIGURE = {"data": [{"type": "scatter", "x": [0, 1], "y": [0, 1]}], "layout": {"title": {"text": "t"}}}
SIZE = {"width": 300, "height": 200}


class Process:
    """What is left of a browser: whether it runs."""

    def __init__(self) -> None:
        self.killed = False

    def poll(self) -> int | None:
        return 0 if self.killed else None

    def kill(self) -> None:
        self.killed = True


class Fake:
    """A browser whose `open` and `calc_fig` do what the test says, one entry for each browser in turn."""

    script: ClassVar[list[str]] = []
    made: ClassVar[list[Fake]] = []

    def __init__(self, **options: Any) -> None:
        self.behaviour = Fake.script[len(Fake.made)]
        self.subprocess = Process()
        self.opened = self.closed = self.drawn = 0
        Fake.made.append(self)

    async def open(self) -> None:
        self.opened += 1
        if self.behaviour == "hangs at start":
            await asyncio.sleep(60)

    async def calc_fig(self, figure: Any, *, opts: dict[str, Any]) -> bytes:
        self.drawn += 1
        if self.behaviour == "hangs":
            await asyncio.sleep(60)
        if self.behaviour == "dies" and self.drawn == 2:
            raise RuntimeError("the browser has gone")
        return str(opts["format"]).encode()

    async def close(self) -> None:
        self.closed += 1
        if self.behaviour.startswith("hangs"):
            await asyncio.sleep(60)
        self.subprocess.kill()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No browser is open before the test, and none after it."""
    kept = pictures._Kept()
    monkeypatch.setattr(pictures, "_KEPT", kept)
    yield monkeypatch
    kept.close()


@pytest.fixture
def browsers(fresh: pytest.MonkeyPatch) -> type[Fake]:
    fresh.setattr(kaleido, "Kaleido", Fake)
    fresh.setattr(Fake, "made", [])
    for deadline in ("START_SECONDS", "DRAW_SECONDS", "CLOSE_SECONDS"):
        fresh.setattr(pictures, deadline, 0.1)
    return Fake


def test_one_browser_draws_every_picture(browsers: type[Fake]) -> None:
    browsers.script = ["well"]
    assert [pictures.draw(FIGURE, kind, **SIZE) for kind in ("png", "pdf")] == [b"png", b"pdf"]
    assert (browsers.made[0].opened, browsers.made[0].drawn) == (1, 2)


@pytest.mark.parametrize("fault", ["hangs at start", "hangs"])
def test_a_browser_that_hangs_is_killed_and_a_fresh_one_draws(browsers: type[Fake], fault: str) -> None:
    browsers.script = [fault, "well"]
    assert pictures.draw(FIGURE, "svg", **SIZE) == b"svg"
    assert browsers.made[0].subprocess.killed


def test_a_kept_browser_that_died_is_replaced(browsers: type[Fake]) -> None:
    browsers.script = ["dies", "well"]
    assert [pictures.draw(FIGURE, "png", **SIZE) for _ in range(3)] == [b"png"] * 3
    assert [x.drawn for x in browsers.made] == [2, 2]


def test_after_two_browsers_that_hang_the_failure_is_said(browsers: type[Fake]) -> None:
    browsers.script = ["hangs at start"] * 2 + ["well"]
    with pytest.raises(PictureError, match=r"TimeoutError: the browser did not answer within 0.1 s"):
        pictures.draw(FIGURE, "png", **SIZE)
    assert all(x.subprocess.killed for x in browsers.made)
    assert pictures.draw(FIGURE, "png", **SIZE) == b"png"


def test_a_browser_that_draws_nothing_is_ended_after_a_while(
    browsers: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "IDLE_SECONDS", 0.3)
    browsers.script = ["well", "well"]
    pictures.draw(FIGURE, "png", **SIZE)
    time.sleep(0.1)
    pictures.draw(FIGURE, "png", **SIZE)  # begins the wait anew
    time.sleep(0.25)
    assert browsers.made[0].closed == 0
    limit = time.monotonic() + 10
    while not browsers.made[0].closed:
        assert time.monotonic() < limit
        time.sleep(0.02)
    pictures.draw(FIGURE, "png", **SIZE)
    assert len(browsers.made) == 2


def test_a_real_browser_draws_and_survives_being_killed(fresh: pytest.MonkeyPatch) -> None:
    try:
        first = pictures.draw(FIGURE, "png", **SIZE, scale=2)
    except PictureError as error:
        pytest.skip(f"no browser here: {error}")
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(first[i : i + 4], "big") for i in (16, 20)] == [600, 400]
    browser = pictures._KEPT._browser
    assert browser is not None
    browser._kaleido.subprocess.kill()
    assert pictures.draw(FIGURE, "pdf", **SIZE)[:5] == b"%PDF-"
    assert pictures._KEPT._browser is not browser
