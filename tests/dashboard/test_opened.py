"""Which run an address opens: names too long for a file, runs of the other kind, parameters that no view knows; and
modules that use only what others show.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from dashboard import store
from dashboard.state import HEAT_KEYS, RANK_KEYS
from dashboard.views.common import absent, asked_first, foreign

DASHBOARD = Path(__file__).parents[2] / "dashboard"


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[store.RunEntry]:
    """Two ranking runs and a text run by their folders alone; the ranking ones are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for name, kind in (("a", "rank"), ("b", "rank"), ("told", "text")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"kind": kind}))
    return store.list_runs()


@pytest.mark.parametrize("asked", ["x" * 3000, "\0", "nowhere", "<b>"])
def test_a_name_that_no_run_has_is_a_sentence_however_long(entries: list[store.RunEntry], asked: str) -> None:
    found, (note,) = asked_first(entries, asked, "run")
    assert found == entries
    assert note.startswith("There is no run called '")
    assert len(note) < 300


def test_a_run_of_the_other_kind_says_where_it_is_shown(entries: list[store.RunEntry]) -> None:
    assert asked_first(entries, "told", "run")[1] == ["told is a text run; the Text view shows it."]
    assert absent("a", "text run") == "a is a ranking run; the Explore view shows it."
    assert absent("c", "text run") == "There is no text run called 'c' here."


def test_the_run_asked_for_is_tried_first(entries: list[store.RunEntry]) -> None:
    last = entries[-1].label
    found, notes = asked_first(entries, last, "run")
    assert [e.label for e in found] == [last, *(e.label for e in entries[:-1])]
    assert notes == []


def test_what_a_view_knows_nothing_of_is_named_once() -> None:
    assert foreign({"run": "a", "own": "1,2"}, HEAT_KEYS) == []
    (note,) = foreign({"run": "a", "own": "1,2", "<b>": "1"}, RANK_KEYS)
    assert note == "The link says 'own' and '<b>', which this view knows nothing of and leaves out."
    (note,) = foreign([f"p{i}" for i in range(99)], RANK_KEYS)
    assert "p4" in note
    assert "p5" not in note


def test_no_module_of_the_dashboard_takes_what_another_keeps_to_itself() -> None:
    wrong = [
        f"{file.name}: {alias.name}"
        for file in DASHBOARD.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    ]
    assert wrong == []
