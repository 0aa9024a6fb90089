"""Files that a person brings: kept, told apart, described, and turned into the commands a terminal takes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import bringing
from dashboard.bringing import Brought, Goal, Look
from dashboard.store import RANK, TEXT, Prepared
from hyperdpo import cli
from hyperdpo.errors import ConfigError, RunError

TABLE = """query_id,relevance,clicks,taste
q1,2,0,-1.5
q1,0,1,0.25
q2,1,0,2
q2,0,0,-0.5
q3,1,0,1
q3,0,0,3
"""


def parse(command: list[str]) -> Any:
    """A command as the program reads it."""
    return cli.app.cli(prog="hyperdpo", args=command, config=(cli.FlagCreatePairsOff,))


def read(brought: Brought) -> Look:
    """The look at files, once it is there."""
    job: Prepared[Look] = Prepared(lambda say: bringing._look(brought, say))
    job.begin()
    job.wait(60)
    assert job.live is not None, job.failure
    return job.live


def table(folder: Path, text: str = TABLE) -> str:
    file = folder / "shop.csv"
    file.write_text(text)
    return str(file)


def test_uploads_are_kept_by_content_and_never_outside_their_folder(tmp_path: Path) -> None:
    twice = [bringing.keep_uploads(tmp_path, [("a.csv", b"x"), ("../../b.csv", b"y")]) for _ in range(2)]
    assert twice[0] == twice[1]
    other = bringing.keep_uploads(tmp_path, [("a.csv", b"z")])
    assert Path(other[0]).parent != Path(twice[0][0]).parent
    assert [Path(p).read_bytes() for p in twice[0]] == [b"x", b"y"]
    assert all(Path(p).is_relative_to(tmp_path / ".uploads") and ".." not in p for p in twice[0])


def test_an_old_upload_goes_unless_a_run_or_a_job_names_it(tmp_path: Path) -> None:
    kept = [Path(bringing.keep_uploads(tmp_path, [("a.csv", content)])[0]) for content in (b"1", b"2", b"3", b"4")]
    for path in kept[:3]:
        os.utime(path.parent, (0, 0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps({"data": {"origin": [str(kept[0])]}}))
    (tmp_path / ".jobs" / "one").mkdir(parents=True)
    (tmp_path / ".jobs" / "one" / "job.json").write_text(json.dumps({"command": ["evaluate", "--data", str(kept[1])]}))
    bringing.keep_uploads(tmp_path, [("b.csv", b"5")])
    assert [path.exists() for path in kept] == [True, True, False, True]


def test_uploads_that_cannot_be_written_say_where(tmp_path: Path) -> None:
    (tmp_path / ".uploads").write_text("a file in the way")
    with pytest.raises(RunError, match=r"uploads.* could not be written"):
        bringing.keep_uploads(tmp_path, [("a.csv", b"x")])


def test_kinds_are_told_by_endings_and_not_mixed() -> None:
    assert bringing.kind_of(["a.jsonl.xz", "b.JSON"]) == TEXT
    assert bringing.kind_of(["a.txt.gz"]) == bringing.kind_of(["a"]) == bringing.kind_of(["a.parquet"]) == RANK
    with pytest.raises(ConfigError, match="one kind at a time"):
        bringing.kind_of(["a.jsonl", "b.csv"])


def test_a_table_is_described_and_its_columns_suggest_how_they_are_read(tmp_path: Path) -> None:
    look = read(Brought((table(tmp_path),)))
    facts = dict(look.facts)
    assert (facts["lists"].split(" ")[0], facts["items"], facts["main label"]) == ("3", "6", "relevance")
    assert {c.name: c.sparse for c in look.columns} == {"clicks": True, "taste": False}
    assert bringing.goal_for(look, "clicks") == Goal("clicks", "l1")
    taste = bringing.goal_for(look, "taste")
    assert taste.labels == "softmax"
    assert np.float32(taste.shift) + np.float32(-1.5) >= 0
    assert taste.shift == pytest.approx(1.5, rel=1e-6)
    assert taste.flag().startswith("taste:softmax:max:shift=1.5")
    assert Goal("taste", better="min", shift=1.5).flag() == "taste:softmax:min"


def test_the_header_of_a_table_is_read_without_the_table(tmp_path: Path) -> None:
    assert bringing.header([table(tmp_path)]) == ("query_id", "relevance", "clicks", "taste")
    (tmp_path / "a.txt").write_text("1 qid:1 1:2\n")
    assert bringing.header([str(tmp_path / "a.txt")]) == bringing.header([str(tmp_path / "none.csv")]) == ()


def test_preferences_are_described_with_what_was_skipped(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"p{i}", "responses": [f"a{i}", f"b{i}"], "scores": {"kind": [0.1, 0.9], "brief": [1, 0]}}
        for i in range(4)
    ]
    file = tmp_path / "lists.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    look = read(Brought((str(file),)))
    assert (look.kind, dict(look.facts)["prompts with lists"]) == (TEXT, "4")
    assert [g.column for g in look.declared] == ["kind", "brief"]
    made = bringing.train_command(bringing.fitted(Brought((str(file),)), look), look, tmp_path / "runs" / "r")
    parsed = parse(made)
    assert parsed.limit == bringing.LISTS
    assert len(parsed.objective) == 2


def test_what_is_not_there_or_wrong_is_said_as_the_reader_says_it(tmp_path: Path) -> None:
    for brought, said in (
        (Brought(("/no/such/file.csv",)), "There is nothing at '/no/such/file.csv'"),
        (Brought((table(tmp_path, "a,b\n1,2\n"),)), "has no query id column"),
    ):
        job = bringing.look(brought)
        job.begin()
        job.wait(60)
        assert said in job.failure


def test_the_commands_are_ones_a_terminal_takes(tmp_path: Path) -> None:
    file = table(tmp_path)
    look = read(Brought((file,)))
    brought = bringing.fitted(
        Brought((file,), "relevance", "query_id", goals=(Goal("clicks", "l1"), Goal("taste"), Goal("gone")), epochs=3),
        look,
    )
    assert [g.column for g in brought.goals] == ["clicks", "taste"], "what the data lacks is left out"
    command = bringing.train_command(brought, look, tmp_path / "runs" / "mine")
    parsed = parse(command)
    assert (parsed.main, parsed.qid_column, parsed.base) == ("relevance", "query_id", "transformer")
    assert parsed.config().fit.epochs == 3
    assert parsed.objective == ("clicks:l1:max", brought.goals[1].flag())
    assert parse(bringing.measure_command(brought, tmp_path / "runs" / "mine")).split == "all"


def test_a_training_that_cannot_be_says_everything_at_once(tmp_path: Path) -> None:
    look = Look(RANK, (), ())
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        bringing.train_command(Brought(("a.csv",)), look, tmp_path / "runs" / "taken")
    assert "at least one objective" in str(caught.value)
    assert "taken is there already" in str(caught.value)
    with pytest.raises(ConfigError, match="a folder's name"):
        bringing.train_command(Brought(goals=(Goal("x"),)), look, tmp_path / "runs" / ".hidden")


def test_names_of_runs_are_free(tmp_path: Path) -> None:
    brought = Brought(("/x/my data.csv.gz",))
    assert bringing.run_name(brought, tmp_path) == "my-data"
    (tmp_path / "my-data").mkdir()
    assert bringing.run_name(brought, tmp_path) == "my-data-2"


@given(
    st.lists(st.text(min_size=1, max_size=20), max_size=3),
    st.lists(st.builds(Goal, st.text(min_size=1, max_size=9), st.sampled_from(["l1", "softmax"]),
                       st.sampled_from(["max", "min"])), max_size=3),
    st.integers(0, 9_999_999),
    st.text(max_size=30),
)  # fmt: skip
def test_the_address_says_it_all(files: list[str], goals: list[Goal], seed: int, name: str) -> None:
    brought = Brought(tuple(files), goals=tuple(goals), seed=seed, name=name, method="dpo-ls")
    assert bringing.read_brought(bringing.write_brought(brought)) == (brought, ())


def test_a_foreign_address_is_told_of() -> None:
    found, notes = bringing.read_brought(
        {"seed": ["-1"], "method": ["magic"], "base": ["wood"], "goal": ["x"], "preset": ["no"], "epochs": ["1e3"]}
    )
    assert found == Brought()
    assert len(notes) == 6


def test_reading_happens_in_a_thread_and_once(tmp_path: Path) -> None:
    brought = Brought((table(tmp_path),))
    first = bringing.look(brought)
    assert bringing.look(brought) is first
    time.sleep(0.01)
    table(tmp_path, TABLE + "q4,1,0,0\nq4,0,0,0\n")
    assert bringing.look(brought) is not first
