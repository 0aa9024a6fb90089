"""What an address says of a question, and of choices pinned in a comparison; a report at the size that was chosen."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_report import decision

from dashboard import report, store
from dashboard.charts_paper import SIZES
from dashboard.state import Choice, Comparing, Key, read_question, write_question
from dashboard.views import common, compare

GOALS, NAMES = ("clicks", "quality", "relevance", "all"), ("relevance", "clicks", "quality")


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("limits", [(), (("relevance", 99.0),), (("quality", 102.5), ("relevance", 0.0))])
@pytest.mark.parametrize("margin", [True, False])
def test_a_question_comes_back_from_its_address(goal: str, limits: Any, margin: bool) -> None:
    said = write_question(goal, limits, margin=margin)
    assert read_question(said, GOALS, NAMES, 1000) == ((goal, limits, margin), [])


def test_what_is_foreign_in_a_question_is_a_sentence() -> None:
    assert read_question({}, GOALS, NAMES, 1000) == (None, [])
    found, notes = read_question({"goal": "<b>", "keep": "relevance:99"}, GOALS, NAMES, 1000)
    assert found is None
    assert "goal='<b>'" in notes[0]
    bad = "relevance:99,love:3,clicks,clicks:nan,quality:-1,quality:1e9"
    found, notes = read_question({"goal": "clicks", "keep": bad, "sure": "yes"}, GOALS, NAMES, 1000)
    assert found == ("clicks", (("relevance", 99.0),), False)
    assert len(notes) == 6


class Address(dict[str, list[str]]):
    """The address and the session of a page, without Streamlit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, session: dict[str, Any], **said: str) -> None:
        super().__init__({k: [v] for k, v in said.items()})
        self.session = session
        monkeypatch.setattr(common, "address", lambda: self)
        monkeypatch.setattr(compare.st, "session_state", session)
        monkeypatch.setattr(compare.st, "query_params", SimpleNamespace(from_dict=self._replaced))

    def _replaced(self, wanted: dict[str, list[str]]) -> None:
        self.clear()
        self.update(wanted)


def test_the_pins_of_a_comparison_are_in_its_address_and_come_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [store.saved(store.RunEntry(n, home / "runs" / n)) for n in ("small", "small-film")]
    shown = Comparing(("small", "small-film"))
    a, b = Choice((100, 0, 0)), Choice((0, 0, 100), 2.0)
    here = Address(monkeypatch, {Key.RUN: "small-film", Key.PIN: a, Key.PIN_B: b})
    compare._write_url(shown, runs)
    assert (here["run"], here["a"], here["b"]) == (["small-film"], ["100,0,0@1"], ["0,0,100@2"])

    there = Address(monkeypatch, {}, **{k: v[0] for k, v in here.items() if k in ("run", "a", "b")})
    assert compare._take_pins(dict(there), runs) == []
    assert (there.session[Key.RUN], there.session[Key.PIN], there.session[Key.PIN_B]) == ("small-film", a, b)
    compare._write_url(shown, runs[:1])
    assert set(there) == {"runs"}, "the pins of a run that is not compared are none of this page"

    other = Address(monkeypatch, {}, run="<b>", a="100,0,0")
    assert "not compared here" in compare._take_pins(other, runs)[0]
    foreign = Address(monkeypatch, {}, a="x")
    assert "cannot be read" in compare._take_pins(foreign, runs)[-1]
    assert Key.PIN not in foreign.session


def test_a_report_holds_its_chart_at_the_size_that_was_chosen() -> None:
    svg = '<?xml version="1.0"?><svg class="main-svg" width="326"></svg>'
    page = report.html(decision(chart=svg, inches=SIZES["column"].inches[0]))
    assert '<svg style="width: 3.4in; max-width: 100%; max-height: none" class="main-svg"' in page
    assert "<svg class" in report.html(decision(chart=svg)), "else it takes the room there is"


def test_the_model_made_here_has_its_card_beside_it(home: Path) -> None:
    saved = store.saved(store.entry_at(str(home / "runs" / "small")))
    live = store.LiveRun(saved, store.find_data(saved.config, str(home / "data"), lambda _: None), "cpu", print)
    with zipfile.ZipFile(io.BytesIO(store._to_onnx(live, Choice((0, 0, 100), 2.0), "mine", lambda _: None))) as packed:
        assert sorted(packed.namelist()) == ["mine.md", "mine.onnx"]
        assert "c = 2\n" in packed.read("mine.md").decode()
