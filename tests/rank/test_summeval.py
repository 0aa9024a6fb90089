"""The SummEval recipe, from a small made-up file of the same format to a trained run that scores a new table."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from hyperdpo import cli
from hyperdpo.rank.data import open_data

RECIPE = ROOT / "recipes" / "summeval.py"
SCORES = ("coherence", "consistency", "fluency", "relevance")
TELL = "The harbour was closed on Monday . Boats waited outside all night . The mayor said repairs had begun ."


def record(article: int, system: int) -> dict[str, Any]:
    words = TELL.split()
    scores = {s: 1 + (article + system * (j + 1)) % 13 / 3 for j, s in enumerate(SCORES)}
    summary = " ".join(words[system : system + 5 + article % 3])
    return {"doc_id": f"a{article}", "src": TELL, "system": f"M{system}", "summary": summary, "scores": scores}


def lines(articles: int = 12, systems: int = 4) -> str:
    """Systems outermost, as in SummEval's own order of files: the recipe brings an article's summaries together."""
    return "".join(json.dumps(record(a, s)) + "\n" for s in range(systems) for a in range(articles))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RECIPE, *map(str, arguments)], capture_output=True, text=True)


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_row_a_summary_an_article_a_list(tmp_path: Path, ending: str, pack: Any) -> None:
    source, target = tmp_path / f"ratings.jsonl{ending}", tmp_path / "out.csv"
    source.write_bytes(pack(lines().encode()))
    done = run(source, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "48 summaries of 12 articles" in done.stdout
    found = rows(target)
    assert [r["query_id"] for r in found] == [f"a{a}" for a in range(12) for _ in range(4)]
    assert [r["name"] for r in found[:4]] == ["M0", "M1", "M2", "M3"]
    first = record(0, 1)
    assert (found[1]["summary"], found[1]["article"]) == (first["summary"], TELL)
    assert [float(found[1][s]) for s in SCORES] == pytest.approx(list(first["scores"].values()), abs=1e-5)
    assert float(found[1]["overall"]) == pytest.approx(sum(first["scores"].values()) / 4, abs=1e-5)


def test_single_annotators_are_averaged(tmp_path: Path) -> None:
    given = [{s: float(i + j) for j, s in enumerate(SCORES, 1)} for i in range(3)]
    old = {"id": "x", "decoded": "short", "text": "long", "model_id": "M5", "expert_annotations": given}
    (tmp_path / "one.jsonl").write_text(json.dumps(old) + "\n\n")
    assert run(tmp_path / "one.jsonl", tmp_path / "one.csv").returncode == 0
    (row,) = rows(tmp_path / "one.csv")
    assert [row[c] for c in ("query_id", "name", "summary", "article")] == ["x", "M5", "short", "long"]
    assert [float(row[s]) for s in (*SCORES, "overall")] == [2, 3, 4, 5, 3.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"doc_id": "a"}', "line 1 lacks summary or decoded, scores.coherence, scores.consistency"),
        ("not json", "line 1 is not JSON"),
        ("[1]", "line 1 lacks doc_id or id"),
        ("\n", "has no line"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    done = run(tmp_path / "bad.jsonl", tmp_path / "out.csv")
    assert done.returncode == 1
    assert f"summeval: bad.jsonl{', ' if message.startswith('line') else ' '}{message}" in done.stderr
    assert "No such file" in run(tmp_path / "none.jsonl", tmp_path / "out.csv").stderr


def test_the_recipe_s_own_commands_train_and_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The docstring's command, run as it stands there; then a new table is scored with the same text features."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ratings.jsonl").write_text(lines())
    assert run("ratings.jsonl", "summeval.csv").returncode == 0
    documented = runpy.run_path(str(RECIPE))["__doc__"].replace("\\\n", " ").splitlines()
    (convert,) = [line.split()[1:] for line in documented if line.strip().startswith("hyperdpo data convert")]
    assert cli.main(convert) == 0
    data = open_data("data/summeval")
    assert [o.name for o in data.task.objectives] == list(SCORES)
    assert (data.task.main.column, data.task.main.shift) == ("overall", -1)
    assert all(o.shift == -1 for o in data.task.labelled)
    assert len(data.task.features) == 25
    assert all(name.startswith("summary.") for name in data.task.features)
    assert data.manifest["item_texts"] == ["name", "summary"]
    quick = ["--epochs", "1", "--base-epochs", "1", "--width", "8", "--points", "5", "--device", "cpu"]
    assert cli.main(["train", "rank", "--data", "data/summeval", "--out", "run", *quick]) == 0
    Path("new.csv").write_text(f"query_id,summary,article\nn,Boats waited,{TELL}\nn,The mayor,{TELL}\n")
    capsys.readouterr()
    scored = ["score", "run", "--data", "new.csv", "--weights", ".25,.25,.25,.25", "--out", "scores.txt"]
    assert cli.main(scored) == 0, capsys.readouterr().err
    scores = [
        float(line.split()[-1]) for line in Path("scores.txt").read_text().splitlines() if line[:1] in "-0123456789"
    ]
    assert len(scores) == 2
    assert scores[0] != scores[1]
    Path("new.csv").write_text("query_id,summary,x\nn,Boats waited,1\n")
    assert cli.main(scored) == 2
    assert "no text column 'article'" in capsys.readouterr().err
