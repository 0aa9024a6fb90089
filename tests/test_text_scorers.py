"""Scorers against texts whose qualities are plain, and `hyperdpo label`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdpo import cli
from hyperdpo.errors import ConfigError
from hyperdpo.text.data import load_preferences
from hyperdpo.text.scorers import SCORERS, WINDOW, Scorer, find_scorer, find_scorers, label_records, sentences, words

OWN = "def length(texts):\n    'Characters.'\n    return [len(t) for t in texts]\n\nNUMBER = 3\n"


def score(name: str, *texts: str) -> list[float]:
    return SCORERS[name](texts).tolist()


def test_words_and_sentences() -> None:
    assert words("Don't! It's a well-known dog’s 2nd —tail_") == [
        "don't",
        "it's",
        "a",
        "well-known",
        "dog’s",
        "2nd",
        "tail",
    ]
    assert sentences('He ran. "Stop!" she said... 3.5 miles on') == 4
    assert sentences("No end") == 1
    assert sentences("") == sentences("?! ...") == 0


def test_each_scorer_by_hand() -> None:
    assert score("concise", "A dog ran. It hid.", "one two three") == [-2.5, -3]
    assert score("brief", "A dog ran. It hid.", "one") == [-5, -1]
    assert score("talkative", '"Hi there," said Tom.', "“Hi there,” said Tom.", '"All of it', "None.") == [
        0.5,
        0.5,
        1,
        0,
    ]
    assert score("vivid", "the dog saw the cat", "a b c") == [0.8, 1]
    assert score("easy", "The cat sat.") == pytest.approx([206.835 - 1.015 * 3 - 84.6])
    assert score("easy", "The dolphin ate a little whale.") == pytest.approx([206.835 - 1.015 * 6 - 84.6 * 8 / 6])
    good, plain, bad = score("upbeat", "What a wonderful day!", "It is a table.", "A terrible, sad death.")
    assert good > 0.5 > plain == 0 > -0.5 > bad


def test_variety_does_not_fall_with_the_length_of_a_text() -> None:
    part = " ".join(f"w{i}" for i in range(WINDOW))
    assert score("vivid", part, f"{part} {part} {part}") == pytest.approx([1, 1])


@pytest.mark.parametrize("name", SCORERS)
def test_a_text_without_a_word_has_no_score(name: str) -> None:
    values = SCORERS[name](["", "?! …", "A word."])
    assert np.isnan(values).tolist() == [True, True, False]
    assert SCORERS[name]([]).shape == (0,)
    assert SCORERS[name].description.endswith(".")
    assert SCORERS[name].unit


@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_text_has_one_number_or_none(texts: list[str]) -> None:
    for name in ("concise", "brief", "vivid", "talkative", "easy"):
        values = SCORERS[name](texts)
        assert values.shape == (len(texts),)
        assert not np.isinf(values).any()
    known = SCORERS["talkative"](texts)
    assert ((known[~np.isnan(known)] >= 0) & (known[~np.isnan(known)] <= 1)).all()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_scorer.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ones_own_scorer(here: Path) -> None:
    own = find_scorer("own_scorer:length")
    assert (own.name, own.description) == ("length", "Characters.")
    assert own(["ab", ""]).tolist() == [2, 0]
    assert find_scorer("size=own_scorer:length").name == "size"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "upbeet",
            r"No scorer is called 'upbeet' \(did you mean 'upbeat'\?\); there are upbeat, concise, .*module:func",
        ),
        ("own_scorer:nothing", "'own_scorer:nothing' could not be loaded .*write it as module:function"),
        ("no_such_module:f", "could not be loaded .*No module named 'no_such_module'"),
        ("own_scorer:NUMBER", "is no function; got int"),
        ("=own_scorer:length", "name may not be empty"),
    ],
)
def test_a_scorer_that_is_not_there(here: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_scorer(text)


def test_problems_of_several_scorers_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        find_scorers(["upbeet", "consise", "vivid", "vivid"])
    assert len(caught.value.problems) == 3
    assert "Two scorers are called 'vivid'" in caught.value.problems[2]
    with pytest.raises(ConfigError, match="Name at least one scorer"):
        find_scorers([])


@pytest.mark.parametrize("value", [[1.0], ["a", "b"], [1.0, float("inf")], 3.0])
def test_a_scorer_returns_one_finite_number_a_text(value: object) -> None:
    with pytest.raises(ConfigError, match=r"The scorer 'odd' must return one finite number \(or NaN\) a text; for 2"):
        Scorer("odd", "", "", lambda texts: value)(["a", "b"])


RECORDS = [
    {"prompt": "Tell", "responses": ["A dog.", "..."], "scores": {"brief": [7, None], "good": [1, 0]}, "id": 5},
    {"prompt": "B", "responses": [{"text": "One two", "scores": {"good": 3}}, {"text": "x"}]},
]


def test_labels_are_added_and_what_is_there_is_kept() -> None:
    before = json.dumps(RECORDS)
    done = label_records(RECORDS, find_scorers(["brief", "concise"]))
    assert json.dumps(RECORDS) == before
    assert done.counts["brief"] == {"added": 2, "kept": 1, "missing": 1}
    assert done.records[0]["id"] == 5
    assert done.records[0]["scores"] == {"brief": [7, None], "good": [1, 0], "concise": [-2, None]}
    assert done.records[1]["responses"] == ["One two", "x"]
    assert done.records[1]["scores"] == {"good": [3, None], "brief": [-2, -1], "concise": [-2, -1]}


def test_the_label_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = here / "lists.jsonl", here / "scored.jsonl.gz"
    file.write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    assert cli.main(["label", str(file), "--scorers", "brief, own_scorer:length", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["lists"], document["responses"]) == (2, 4)
    assert document["scorers"]["length"] == {"added": 4, "kept": 0, "missing": 0}
    assert [o.name for o in load_preferences(out).objectives] == ["brief", "good", "length"]
    assert cli.main(["label", str(out), "--scorers", "upbeat", "--out", str(out)]) == 0
    assert "How positive the words are" in capsys.readouterr().out
    assert "upbeat" in [o.name for o in load_preferences(out).objectives]


def test_the_label_command_refuses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "lists.jsonl"
    file.write_text('{"prompt": "x", "chosen": "a"}\n')
    assert cli.main(["label", str(file), "--scorers", "brief", "--out", str(here / "o")]) == 2
    assert "lists.jsonl, line 1: the record lacks 'responses', which the lists format needs" in capsys.readouterr().err
    assert not (here / "o").exists()
