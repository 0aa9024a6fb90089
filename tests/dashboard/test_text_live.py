"""A text run live, without a browser: what threads write and measure reaches whoever waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stories import make_stories
from streamlit.testing.v1 import AppTest

from dashboard import store, text_store, ticker
from dashboard.state import Choice
from dashboard.text_store import Ask, Lists, Text, TextLive, Wish, Writing
from hyperdpo.text.generate import Sampling

A, B = Choice((100, 0, 0)), Choice((0, 100, 0))
ASK = Ask("The cat", Sampling(8), (1.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> TextLive:
    folder = tmp_path_factory.mktemp("live")
    make_stories(folder, steps=1, prompts=150)
    return TextLive(store.saved(store.RunEntry("small-text", folder / "runs" / "small-text"), store.TEXT), "cpu", print)


@pytest.fixture
def lists(live: TextLive) -> Lists:
    return Lists(live.saved, live, None, print)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def measured(lists: Lists, choice: Choice) -> int:
    return len(lists._kept(choice.weights))


def slowly(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Chunks come when they are let through; whether one has been begun, and the gate it waits at."""
    begun, gate, really = threading.Event(), threading.Event(), lists._chunk

    def chunk(number: int, weights: Any) -> np.ndarray:
        begun.set()
        assert gate.wait(30)
        return really(number, weights)

    monkeypatch.setattr(lists, "_chunk", chunk)
    return begun, gate


def test_one_users_choice_is_measured_though_another_user_asks_for_another(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(lists._chunks) > 1
    begun, gate = slowly(lists, monkeypatch)
    assert lists.reading(A, "one") is None
    assert begun.wait(30)
    assert lists.reading(B, "other") is None
    gate.set()
    until(lambda: measured(lists, A) == measured(lists, B) == len(lists._chunks))
    reading = lists.reading(A, "one")
    assert reading is not None
    assert reading.lists == reading.total


def test_what_nobody_asks_for_any_more_is_left_and_gone_on_with_when_asked_again(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = slowly(lists, monkeypatch)
    lists.reading(A, "one")
    assert begun.wait(30)
    lists.reading(B, "one")
    gate.set()
    until(lambda: measured(lists, B) == len(lists._chunks) and not lists._busy)
    assert measured(lists, A) == 1
    lists.reading(A, "one")
    until(lambda: measured(lists, A) == len(lists._chunks))


def test_measuring_that_failed_is_said_and_tried_again_by_whoever_comes_back(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def chunk(number: int, weights: Any) -> np.ndarray:
        calls.append(number)
        raise RuntimeError("out of luck")

    with monkeypatch.context() as broken:
        broken.setattr(lists, "_chunk", chunk)
        lists.reading(A)
        until(lambda: lists.failed(A))
        lists.reading(A)
        time.sleep(3 * text_store.SETTLE_SECONDS)
        assert calls == [0], "the page asks again at every look: a failure is not repeated for ever"
    lists.reading(B)
    until(lambda: measured(lists, B) == len(lists._chunks))
    lists.reading(A)
    assert not lists.failed(A)
    until(lambda: measured(lists, A) == len(lists._chunks))


def test_measuring_waits_while_an_answer_is_written(lists: Lists, live: TextLive) -> None:
    live.writing(+1)
    try:
        lists.reading(A)
        time.sleep(3 * text_store.SETTLE_SECONDS)
        assert measured(lists, A) == 0
    finally:
        live.writing(-1)
    until(lambda: measured(lists, A) == len(lists._chunks))


def test_a_stopped_answer_keeps_what_was_written(live: TextLive, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(asks: Any) -> Any:
        for i in range(1000):
            yield [Text("a" * i)]
            time.sleep(0.01)

    monkeypatch.setattr(live, "write", write)
    writing = Writing(live, Wish(((ASK,), (ASK,))), settle=False)
    until(lambda: writing.text(ASK).text != "")
    writing.stop()
    until(lambda: not writing.running)
    assert writing.stopped
    assert 0 < len(writing.text(ASK).text) < 900
    settling = Writing(live, Wish(((ASK,),)), settle=True)
    settling.stop()
    until(lambda: not settling.running)
    assert settling.stopped
    assert settling.text(ASK) == Text()


def test_stopping_what_has_ended_stops_nothing(live: TextLive) -> None:
    writing = Writing(live, Wish(((ASK,),)), settle=False)
    until(lambda: not writing.running)
    writing.stop()
    assert writing.text(ASK).ended
    assert not writing.stopped


def page() -> None:
    from dashboard.views.text import render

    render()


def test_an_answer_that_ends_while_the_page_is_drawn_is_looked_at_again(
    live: TextLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page drew and what it believes must belong together: it may not call unfinished texts the last ones."""
    folder: Path = live.saved.entry.path.parents[1]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(store, "ROOT", folder)
    looks: list[tuple[bool, bool]] = []  # at each look, whether every text shown was whole, and whether another follows
    shown: list[Text] = []
    really, drawn = Writing.text, ticker.show

    def text(self: Writing, ask: Ask) -> Text:
        found = really(self, ask)
        shown.append(found)
        until(lambda: not self.running)  # it ends between two lines of the page
        return found

    def show(key: str, *, on: bool, milliseconds: int) -> None:
        if key == "text.tick":
            looks.append((all(t.ended for t in shown), on))
            shown.clear()
        drawn(key, on=on, milliseconds=milliseconds)

    monkeypatch.setattr(Writing, "text", text)
    monkeypatch.setattr(ticker, "show", show)
    app = AppTest.from_function(page, default_timeout=60)
    app.query_params.update({"run": "small-text", "n": "16", "strip": "0"})
    for _ in range(20):
        if (False, True) not in looks:
            app.run()
    assert not app.exception
    assert all(whole or again for whole, again in looks), looks
    assert (False, True) in looks, "no look met an answer that was being written"
