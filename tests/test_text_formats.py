"""Preference files: every shape that is read, what is skipped and counted, and how a bad one is refused."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences, load_preferences, read_prompts, write_lists
from hyperdpo.text.formats import Message, plain_text

PKU = {"prompt": "Why?", "response_0": "Because.", "response_1": "No.", "better_response_id": 0, "safer_response_id": 1}
SAFETY = {"prompt": "Why?", "safer": "I would not.", "less_safe": "Do it."}
TRL = {"prompt": "Once", "chosen": " upon a time", "rejected": " more"}
LIST = {"prompt": "Tell", "responses": ["a b", "c", "d"], "scores": {"good": [1, 2, 4], "short": [None, 1, 0]}}
RATED = {"mr": "confirm(area)", "response": "You want the area ?", "scores": {"quality": 4.0, "naturalness": 3.5}}
USER = {"role": "user", "content": "Hi"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def talk(answer: str, before: str = "Hello?") -> str:
    return f"\n\nHuman: {before}\n\nAssistant: Yes?\n\nHuman: And?\n\nAssistant: {answer}"


def jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


@pytest.fixture
def load(tmp_path: Path):
    def load(*records: Any, **options: Any) -> Preferences:
        return load_preferences(jsonl(tmp_path / "data.jsonl", *records), **options)

    return load


def named(p: Preferences) -> list[tuple[str, str]]:
    return [(o.name, o.normalisation) for o in p.objectives]


def test_pku_has_two_objectives_and_a_question_is_a_chat(load) -> None:
    p = load(PKU, {**PKU, "prompt": "How?", "better_response_id": 1, "safer_response_id": None})
    assert p.prompts[0] == (Message("user", "Why?"),)
    assert p.responses[0] == ("Because.", "No.")
    assert named(p) == [("helpful", "l1"), ("safe", "l1")]
    assert p.scores[0].tolist() == [[1, 0], [0, 1]]
    assert p.scores[1][:, 0].tolist() == [0, 1]
    assert np.isnan(p.scores[1][:, 1]).all()
    assert p.targets(0).tolist() == [[1, 0], [0, 1]]
    assert p.targets(1).tolist() == [[0, 0], [1, 0]]


def test_the_safety_only_shape(load) -> None:
    p = load(SAFETY)
    assert named(p) == [("safe", "l1")]
    assert p.scores[0].tolist() == [[1], [0]]


def test_trl_strings_messages_and_chats_without_a_prompt(load) -> None:
    chat = {"prompt": [USER], "chosen": [said("Hello")], "rejected": [said("Go")]}
    p = load(TRL, chat, {"chosen": [USER, said("Well")], "rejected": [USER, said("Ill")]})
    assert p.prompts == ("Once", (Message("user", "Hi"),), (Message("user", "Hi"),))
    assert p.responses == ((" upon a time", " more"), ("Hello", "Go"), ("Well", "Ill"))
    assert named(p) == [("preferred", "l1")]
    assert p.targets(2).tolist() == [[1], [0]]


def test_hh_is_split_behind_the_last_shared_answer(load) -> None:
    p = load({"chosen": talk("Fine."), "rejected": talk("Fire!")})
    assert p.responses == (("Fine.", "Fire!"),)  # not at the shared letters
    assert p.prompts[0] == (Message("user", "Hello?"), Message("assistant", "Yes?"), Message("user", "And?"))
    assert plain_text(p.prompts[0]) + " Fine." == talk("Fine.")


def test_what_published_hh_files_contain_is_skipped_and_counted(load) -> None:
    fine = {"chosen": talk("Fine."), "rejected": talk("Fire!")}
    empty = {"chosen": talk("Fine."), "rejected": talk("")}
    parted = {"chosen": talk("Fine."), "rejected": talk("Fire!", "Hey?")}
    p = load(fine, empty, parted, {"chosen": talk("x"), "rejected": talk("x")})
    assert len(p) == 1
    assert p.skipped == {
        "dialogues with an empty answer": 1,
        "dialogues that part before the last answer": 1,
        "lists with fewer than two different responses": 1,
    }


def test_neighbouring_turns_of_one_speaker_are_one(load) -> None:
    start = "\n\nHuman: a\n\nHuman: b\n\nAssistant:"
    assert load({"chosen": start + " x", "rejected": start + " y"}).prompts[0] == (Message("user", "a\n\nb"),)


def test_files_of_one_objective_each_are_merged_whatever_the_order_of_the_pair(tmp_path: Path) -> None:
    one, other = {"chosen": talk("A."), "rejected": talk("B.")}, {"chosen": talk("C."), "rejected": talk("D.")}
    helpful = jsonl(tmp_path / "a.jsonl", one, other)
    harmless = jsonl(tmp_path / "b.jsonl", {"chosen": one["rejected"], "rejected": one["chosen"]})
    p = load_preferences([f"helpful={helpful}", f"harmless={harmless}"])
    assert [o.name for o in p.objectives] == ["helpful", "harmless"]
    assert p.name == "a+b"
    assert p.scores[0].tolist() == [[1, 0], [0, 1]]
    assert np.isnan(p.scores[1][:, 1]).all()
    assert p.target_distributions()[1].tolist() == [[True, True], [True, False]]


def test_a_pair_judged_twice_has_the_mean(load) -> None:
    p = load(SAFETY, SAFETY, {**SAFETY, "safer": SAFETY["less_safe"], "less_safe": SAFETY["safer"]}, SAFETY)
    assert p.scores[0].tolist() == [[0.75], [0.25]]
    assert p.skipped == {"repeated records (merged)": 3}


def test_lists_with_missing_scores_and_the_two_ways_to_write_them(load) -> None:
    other = [{"text": "a b", "scores": {"good": 1}}, {"text": "c", "scores": {"good": 2, "short": 1}}]
    other.append({"text": "d", "scores": {"good": 4, "short": 0}})
    p = load(LIST, {"prompt": "Again", "responses": other})
    assert named(p) == [("good", "softmax"), ("short", "softmax")]
    assert np.array_equal(p.scores[0], p.scores[1], equal_nan=True)
    assert p.scores[0][:, 0].tolist() == [1, 2, 4]


def test_targets_are_over_the_scored_responses_only(load) -> None:
    p = load(LIST, {**LIST, "prompt": "B", "scores": {"good": [1, 2, 3], "short": [None, None, 1]}})
    targets, informative = p.target_distributions()
    z = torch.tensor([1.0, 2.0, 4.0])
    assert torch.allclose(targets[0][:, 0], torch.softmax((z - z.mean()) / z.std(correction=0), 0))
    assert targets[0][0, 1] == 0
    assert torch.allclose(targets[0][1:, 1], torch.softmax(torch.tensor([1.0, -1.0]), 0))
    assert informative.tolist() == [[True, True], [True, False]]
    assert targets[1][:, 1].tolist() == [0, 0, 0]


@given(st.lists(st.lists(st.none() | st.integers(0, 4), min_size=2, max_size=5), min_size=1, max_size=4))
def test_padding_lists_together_changes_no_target(columns: Sequence[Sequence[int | None]]) -> None:
    objective = Objective("x", "x", direction="min")
    scores = tuple(np.array([[np.nan if v is None else v] for v in c], dtype=float) for c in columns)
    texts = tuple(tuple(map(str, range(len(c)))) for c in columns)
    p = Preferences(tuple(map(str, range(len(columns)))), texts, scores, (objective,))
    for i, column in enumerate(columns):
        known = [v for v in column if v is not None]
        expected = torch.zeros(len(column), 1)
        if len(known) >= 2:
            z = torch.tensor(known, dtype=torch.float32)
            rows = [k for k, v in enumerate(column) if v is not None]
            expected[rows, 0] = objective.targets(z, torch.ones(len(z), dtype=torch.bool))[0]
        assert torch.allclose(p.target_distributions()[0][i], expected, atol=1e-6)


def test_ratings_are_grouped_by_prompt_within_a_file(tmp_path: Path) -> None:
    more = {**RATED, "response": "The area ?", "scores": {"quality": 2.0, "naturalness": 1.0}}
    again = {**RATED, "scores": {"quality": 2.0, "naturalness": 3.5}}
    lone = {**RATED, "mr": "inform()"}
    a = jsonl(tmp_path / "a.jsonl", RATED, lone, more, again)
    p = load_preferences([a, jsonl(tmp_path / "b.jsonl", {**RATED, "response": "A hotel ?"}, more)])
    assert p.prompts == ("confirm(area)\n",) * 2
    assert [len(r) for r in p.responses] == [2, 2]
    assert p.scores[0].tolist() == [[3, 3.5], [2, 1]]
    assert p.skipped == {"prompts with a single response": 1, "repeated responses": 1}


def test_summaries_follow_their_article(load) -> None:
    p = load(*({"src": "An article .", "summary": s, "scores": {"fluency": i}} for i, s in enumerate(("A .", "B ."))))
    assert p.prompts == ("An article .\nTL;DR:",)
    assert p.responses == ((" A .", " B ."),)


def test_repeated_responses_and_lists_that_say_nothing_are_counted(load) -> None:
    twice = {"prompt": "A", "responses": ["x", "x", "y"], "scores": {"good": [1, 3, 0]}}
    alone = {"prompt": "B", "responses": ["x", "x"], "scores": {"good": [1, 3]}}
    silent = {"prompt": "C", "responses": ["x", "y"], "scores": {"good": [None, 3]}}
    p = load(twice, alone, silent, LIST)
    assert p.responses[0] == ("x", "y")
    assert p.scores[0][:, 0].tolist() == [2, 0]
    assert p.skipped == {
        "repeated responses": 2,
        "lists with fewer than two different responses": 1,
        "responses without a score": 1,
        "lists without two scores for any objective": 1,
    }


def test_objectives_are_declared_in_the_grammar(load) -> None:
    p = load(LIST, objectives=["terse=short:l1", "good:softmax:0.5:min"])
    assert [o.to_dict()["name"] for o in p.objectives] == ["terse", "good"]
    assert p.objectives[1].temperature == 0.5
    assert p.scores[0][:, 1].tolist() == [1, 2, 4]
    assert named(load(PKU, objectives=["safe"])) == [("safe", "l1")]
    assert named(load(PKU, objectives=["safe:softmax"])) == [("safe", "softmax")]


def test_one_objective_has_no_say_in_lists_it_has_no_score_in(load) -> None:
    p = load(LIST, {**LIST, "prompt": "B", "scores": {"good": [1, 2, 3]}}, objectives=["short"])
    assert len(p) == 1
    assert p.responses == (("c", "d"),)


def test_limit_name_and_fingerprint(load) -> None:
    p = load(LIST, {**LIST, "prompt": "B"}, limit=1, name="mine")
    assert len(p) == 1
    assert p.name == "mine"
    assert p.fingerprint == load(LIST).fingerprint != load({**LIST, "prompt": "B"}).fingerprint
    assert load(LIST, objectives=["good"]).fingerprint != load(LIST, objectives=["good:l1"]).fingerprint


def test_a_limit_takes_from_every_file_in_turn(tmp_path) -> None:
    files = []
    for name in ("first", "second"):
        records = [{"prompt": f"{name} {i}", "chosen": "a", "rejected": "b"} for i in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
        files.append(f"{name}={tmp_path / name}.jsonl")
    assert load_preferences(files, limit=3).prompts == ("first 0", "first 1", "second 0")
    assert len(load_preferences(files, limit=100)) == 8


def many(n: int) -> Preferences:
    prompts = tuple(f"p{i // 3}" for i in range(n))
    scores = tuple(np.array([[1.0], [0.0]]) for _ in range(n))
    return Preferences(prompts, tuple((f"a{i}", f"b{i}") for i in range(n)), scores, (Objective("x", "x"),))


def test_a_split_is_by_prompt_and_does_not_depend_on_the_order() -> None:
    p = many(300)
    parts = p.split(0)
    sets = [set(part.prompts) for part in parts.values()]
    assert [len(s) for s in sets] == [60, 20, 20]
    assert not (sets[0] & sets[1])
    assert not (sets[0] & sets[2])
    assert not (sets[1] & sets[2])
    assert sum(map(len, parts.values())) == 300
    turned = p.subset(range(299, -1, -1)).split(0)
    assert {k: set(v.responses) for k, v in turned.items()} == {k: set(v.responses) for k, v in parts.items()}
    assert set(p.split(1)["test"].prompts) != sets[2]
    assert len(p.split(0, (1, 0, 0))["test"]) == 0


def test_a_split_that_cannot_be_says_so() -> None:
    with pytest.raises(ConfigError, match=r"three fractions.*got \(0\.5, 0\.6\)"):
        many(9).split(0, (0.5, 0.6))
    with pytest.raises(DataError, match=r"1 different prompts are too few .* nothing is left for validation and test"):
        many(3).split(0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**SAFETY, "safer": "  "}, "'safer' is empty"),
        ({**SAFETY, "prompt": 3}, "'prompt' must be a string; got 3"),
        ({**PKU, "better_response_id": 2}, "'better_response_id' must be 0 or 1 .*got 2"),
        ({**PKU, "safer_response_id": True}, "'safer_response_id' must be 0 or 1 .*got True"),
        ({**LIST, "scores": {"good": [1, "2", 3]}}, "score 'good' of response 1 must be a number or null; got '2'"),
        ({**LIST, "scores": {"good": [1, 2]}}, r"'scores' of 'good' must be a list of 3.*got \[1, 2\]"),
        ({**LIST, "scores": [1, 2, 3]}, "'scores' must map objectives to numbers"),
        ({**LIST, "responses": []}, "'responses' must be a list"),
        ('{"prompt": "A", "responses": ["x", "y"], "scores": {"good": [NaN, 1]}}', "must be finite; got nan; write nu"),
        ('{"prompt": "A", "responses": ["x", "y"], "scores": {"good": [Infinity, 1]}}', "must be finite; got inf"),
        ({**RATED, "scores": {"quality": True}}, "score 'quality' of response 0 must be a number or null; got True"),
        ({"prompt": [{"role": "me", "content": "x"}], "safer": "a", "less_safe": "b"}, "a message in 'prompt' needs a"),
        ({"chosen": "x", "rejected": "y"}, "'chosen' must be a dialogue of"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [said("x")]}, "must end with an assistant message"),
    ],
)
def test_a_bad_record_is_refused_with_its_place(load, record: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.jsonl, line 1: .*{message}"):
        load(record)


def test_problems_are_collected(load) -> None:
    with pytest.raises(DataError) as caught:
        load(SAFETY, {**SAFETY, "safer": ""}, "{broken", {"prompt": "x"}, "[1]")
    assert [p.split(":")[0] for p in caught.value.problems] == [f"data.jsonl, line {i}" for i in (2, 3, 4, 5)]
    assert "not JSON" in caught.value.problems[1]
    assert "character 2" in caught.value.problems[1]
    assert "lacks 'safer', 'less_safe'" in caught.value.problems[2]
    with pytest.raises(DataError, match="Reading stopped after 19 problems"):
        load(SAFETY, *["{"] * 50)


def test_an_unknown_shape_lists_those_that_are_known(load, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"line 1: no supported format .*: text, src\. Supported: pku .*hh \(chosen, re"
    ):
        load({"text": "x", "src": "y"})
    with pytest.raises(ConfigError, match=r"No format is called 'list' \(did you mean 'lists'\?\)"):
        load(LIST, format="list")
    with pytest.raises(DataError, match="lacks 'safer', 'less_safe', which the pku-safety format needs"):
        load(LIST, format="pku-safety")


def test_scores_that_cannot_be_used_are_refused(load) -> None:
    with pytest.raises(ConfigError, match=r"no scores called 'goud' \(did you mean 'good'\?\); there are good, short"):
        load(LIST, objectives=["goud"])
    with pytest.raises(ConfigError, match="Two objectives are called 'good'"):
        load(LIST, objectives=["good", "good=short"])
    with pytest.raises(DataError, match="no list has two responses with a score for 'short'"):
        load({**LIST, "scores": {"good": [1, 2, 3], "short": [None, None, 1]}})
    with pytest.raises(DataError, match="data: no record has a score; add some with `hyperdpo label`"):
        load({"prompt": "A", "responses": ["x", "y"]})
    with pytest.raises(
        DataError, match=r"l1 needs scores of 0 or more, but 'good' has a negative one \(prompt 'Tell'\)"
    ):
        load({**LIST, "scores": {"good": [-1, 2, 3]}}, objectives=["good:l1"])


def test_files_that_are_empty_cut_missing_or_no_text(tmp_path: Path) -> None:
    empty, blank = tmp_path / "e.jsonl", jsonl(tmp_path / "b.jsonl", "", "  ")
    empty.write_text("")
    packed = gzip.compress(b"".join(json.dumps({**TRL, "prompt": str(i)}).encode() + b"\n" for i in range(5000)))
    cut, foreign = tmp_path / "c.jsonl.gz", tmp_path / "f.jsonl"
    cut.write_bytes(packed[: len(packed) // 2])
    foreign.write_bytes(lzma.compress(b"x"))
    for file, message in (
        (empty, r"e\.jsonl is empty"),
        (blank, "b holds no records"),
        (cut, r"c\.jsonl\.gz is cut: its compressed data ends too early.*\(line [\d,]+ was the last whole one\)"),
        (foreign, r"f\.jsonl, line 1: this is not UTF-8 text"),
        (tmp_path / "none.jsonl", r"none\.jsonl cannot be read \(No such file"),
    ):
        with pytest.raises(DataError, match=message):
            load_preferences(file)
    with pytest.raises(ConfigError, match="Name at least one file"):
        load_preferences([])


def test_a_name_is_for_files_of_one_objective(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "d.jsonl", PKU)
    with pytest.raises(DataError, match=r"NAME=FILE names the one objective .* records of the pku format bring their"):
        load_preferences(f"safe={file}")


def test_a_hub_name_goes_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str) -> list[dict[str, Any]]:
        asked.append((name, split))
        if name == "some/where":
            raise ConnectionError("no route to host\nmore")
        return [SAFETY, {**SAFETY, "safer": ""}] if split == "bad" else [SAFETY]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(load_preferences("someone/safety")) == 1
    assert len(load_preferences("someone/safety:test")) == 1
    assert asked == [("someone/safety", "train"), ("someone/safety", "test")]
    with pytest.raises(DataError, match="someone/safety, record 2: 'safer' is empty"):
        load_preferences("someone/safety:bad")
    with pytest.raises(
        DataError, match=r"no file here and could not be read .*\(no route to host\)\. Check .* network"
    ):
        load_preferences("some/where")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets: pip install"):
        load_preferences("someone/safety")


def test_lists_that_were_written_are_read_back(tmp_path: Path) -> None:
    prompts = ["Tell", (Message("user", "<b>Hi</b> \u2028"),)]
    scores = [{"good": [1.0, float("nan"), 2.0]}, {"good": [0.0, 3.0, None]}]
    for ending in ("", ".gz", ".xz"):
        file = tmp_path / f"lists.jsonl{ending}"
        write_lists(file, prompts, [["a", "b", "c"], ["x", "y", "z"]], scores)
        p = load_preferences(file)
        assert p.prompts == tuple(prompts)
        assert p.responses == (("a", "c"), ("x", "y"))
        assert [s.tolist() for s in p.scores] == [[[1], [2]], [[0], [3]]]
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_prompts_are_lines_or_records(tmp_path: Path) -> None:
    text = tmp_path / "p.txt"
    text.write_text("Once upon a time\n\n  The dog\r\n", "utf-8")
    assert read_prompts(text) == ("Once upon a time", "  The dog")
    file = jsonl(tmp_path / "p.jsonl", {"prompt": "A"}, {"prompt": [USER]})
    assert read_prompts(file) == ("A", (Message("user", "Hi"),))
    with pytest.raises(DataError, match=r"q\.jsonl, line 2: a record needs a 'prompt'"):
        read_prompts(jsonl(tmp_path / "q.jsonl", {"prompt": "A"}, {"text": "B"}))
    with pytest.raises(DataError, match=r"r\.txt holds no prompts"):
        read_prompts(jsonl(tmp_path / "r.txt", " "))


@pytest.mark.parametrize(
    ("files", "objectives", "least"),
    [
        (
            ["harmless=hh_harmless_base_test.jsonl.gz", "helpful=hh_helpful_base_test.jsonl.gz"],
            ["harmless", "helpful"],
            4600,
        ),
        (["pku_saferlhf_safety_only_5135.jsonl.xz"], ["safe"], 3400),
        (["sfres_ratings.jsonl.xz", "sfhot_ratings.jsonl.xz"], ["informativeness", "naturalness", "quality"], 900),
        (["summeval_ratings.jsonl.xz"], ["coherence", "consistency", "fluency", "relevance"], 100),
    ],
)
def test_real_files(real_data: Path, files: list[str], objectives: list[str], least: int) -> None:
    folder = real_data / "text"
    if not folder.is_dir():
        pytest.skip(f"needs the real texts, which are not part of the repository (no {folder})")
    specs = [f"{f.split('=')[0]}={folder / f.split('=')[1]}" if "=" in f else str(folder / f) for f in files]
    p = load_preferences(specs)
    assert [o.name for o in p.objectives] == objectives
    assert len(p) >= least
    parts = p.split(0)
    assert not set(parts["train"].prompts) & set(parts["test"].prompts)
    targets, informative = p.target_distributions()
    sums = torch.stack([t.sum(0) for t in targets])
    assert torch.allclose(sums, informative.float(), atol=1e-5)
    assert informative.any(0).all()
