"""What changes between two choices, as the page says and draws it; and the command's figures beside the page's."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dashboard import blocks_changes, charts_changes, store, words
from dashboard import words_changes as said
from dashboard.pairs import Pair, pair
from dashboard.readings import ChangedList, MovedItem, Reading
from dashboard.state import Choice, read_url
from dashboard.store import LiveRun
from hyperdpo.cli import main
from hyperdpo.rank.changes import Changes
from hyperdpo.rank.reasons import Reasons, base_shares
from hyperdpo.weights import grid

NOW = pair(Choice((40, 30, 30)), None, None)
NAMES = ("clicks", "quality", "margin")


def item(index: int, before: int, after: int, **rest: object) -> MovedItem:
    told = {"title": f"item {index}", "price": "", "labels": (1.0, float("nan"))} | rest
    return MovedItem(index, before, after, **told)  # type: ignore[arg-type]


def changes(distance: list[float], before: list[float], after: list[float]) -> Changes:
    then, now = (np.array(v)[:, None] for v in (before, after))
    return Changes(np.array(distance), np.ones(len(distance), dtype=int), then, now, 10)


class Seen(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def reading(note: str = "") -> Reading:
    values = np.array([0.5, 0.25])
    return Reading(Choice((100,)), (1.0,), 10, values, values / 2, None, None, None, None, note)


# The pair


def test_a_and_the_base_come_before_b_and_now() -> None:
    here, a, b = Choice((100, 0, 0)), Choice((0, 100, 0)), Choice((0, 0, 100))
    assert pair(here, None, None) == Pair(None, here, "the base", "now")
    assert pair(here, None, b) == Pair(None, here, "the base", "now")
    assert pair(here, a, None) == Pair(a, here, "A", "now")
    assert pair(here, a, b) == Pair(a, b, "A", "B")
    assert (pair(here, a, b).title, pair(here, a, b).short, pair(here, a, None).short) == (
        "B against A", "B vs A", "vs A"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "expected", "note"),
    [
        ({"b": "0,50,50@2"}, (Choice((0, 50, 50), 2.0), None), "pinned as A"),
        ({"a": "1,1,0", "b": "junk"}, (Choice((50, 50, 0)), None), "pinned choice b='junk'"),
        ({"a": "1,1,0", "b": "0,0,1"}, (Choice((50, 50, 0)), Choice((0, 0, 100))), ""),
        ({"only": "most"}, (None, None), "is none of all, gained, lost"),
    ],
)
def test_pins_of_a_link(url: dict[str, str], expected: tuple[Choice | None, Choice | None], note: str) -> None:
    wanted = read_url(url, "relevance", NAMES)
    assert (wanted.pin, wanted.pin_b) == expected
    assert (note in " ".join(wanted.notes)) if note else wanted.notes == ()


# Drawn


def test_every_item_shown_has_one_line_from_its_old_place_to_its_new() -> None:
    left = [item(0, 1, 2), item(1, 2, 9)]
    right = [item(2, 7, 1), item(0, 1, 2)]
    seen = Seen(charts_changes.slopes(left, right, "A", "B"))
    lines = {a["data-item"]: a for tag, a in seen.tags if tag == "line"}
    assert {k: (v["y1"], v["y2"]) for k, v in lines.items()} == {
        "0": ("0.5", "1.5"), "1": ("1.5", "2"), "2": ("2", "0.5")
    }  # fmt: skip
    assert lines["1"]["stroke-dasharray"]
    assert "stroke-dasharray" not in lines["2"]
    assert lines["2"]["stroke"] != lines["1"]["stroke"]
    assert "up from 7" in seen.text
    assert "down from 1" in seen.text


def test_texts_from_data_stay_text_everywhere() -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    moved = item(0, 2, 1, title=evil, price=evil)
    changed = ChangedList(0, evil, 1, (moved,), (moved,), np.array([0.5, np.nan]), np.array([0.6, np.nan]))
    why = {0: (Reasons(1.0, ((evil, 1.0),), 0.0, 3), None)}
    known = reading(evil)
    drawn = (
        blocks_changes.pins_table([known, known], ("main", evil), None, evil, evil),
        charts_changes.slopes([moved], [moved], evil, evil),
        blocks_changes.lists_table(changes([0.3], [0.5], [0.6]), [0], [evil], 0, NOW, evil),
        blocks_changes.items_table(changed, ("main", evil), NOW, why),
        blocks_changes.list_head(changed),
    )
    for html in drawn:
        assert not [tag for tag, _ in Seen(html).tags if tag == "img"]
        assert evil in Seen(html).text


def test_labels_that_are_missing_are_a_dash_and_reasons_are_signed() -> None:
    moved = item(4, 2, 1)
    changed = ChangedList(0, "q", 1, (moved,), (moved,), np.zeros(2), np.zeros(2))
    change, base = Reasons(-0.5, (("price", -0.7), ("match", 0.15)), 0.05, 8), Reasons(0.2, (("match", 0.2),), 0.0, 9)
    text = Seen(blocks_changes.items_table(changed, ("main", "clicks"), NOW, {4: (change, base)})).text
    for part in ("–", "−0.500", "−0.700 price", "+0.150 match", "+0.050 8 other features together", "the base's score"):
        assert part in text, part


def test_a_and_b_are_a_table_and_a_alone_stands_beside_the_base() -> None:
    change = [words.change(0.1, 0.05, 0.15, 0.5), words.change(0.01, -0.02, 0.04, 0.25)]
    both = Seen(blocks_changes.pins_table([reading(), reading()], ("main", "clicks"), change, "small", "")).text
    for part in ("B against A", "+20.0 %", "+10.0 to +30.0 %", "better", "no measurable difference", "clicks 100 %"):
        assert part in both, part
    alone = Seen(blocks_changes.pins_table([reading()], ("main", "clicks"), None, "small", "")).text
    assert "base" in alone
    assert "0.125" in alone
    assert "B against A" not in alone


# In words


def test_what_changes_is_said_and_that_nothing_does() -> None:
    some = changes([0.3, 0.2, 0.0, 0.1], [0.5, 0.5, 0.5, np.nan], [0.6, 0.4, 0.5, np.nan])
    assert said.summary(some, NOW, "relevance") == (
        "Between the base and now, 3 of 4 test lists change: for 1 relevance rises, for 1 it falls, for 1 it stays, "
        "1 have no positive label for it."
    )
    none = changes([0.0, 0.0], [0.5, 0.5], [0.5, 0.5])
    assert "nothing changes: both rank all 2 test lists alike" in said.summary(none, NOW, "relevance")
    assert blocks_changes.lists_table(none, [], ["a", "b"], None, NOW, "relevance") == ""


def test_short_and_long_lists_say_what_is_shown() -> None:
    assert "one item" in said.shown(1, 1)
    assert said.shown(1000, 20) == "Shown are the first 20 of 1,000 items."
    assert said.shown(7, 7) == "All 7 items are shown."
    assert said.told_apart(["a", "b", "a"]) == ["a (list 0)", "b", "a (list 2)"]
    line = said.by_objective(("main", "clicks"), np.array([0.5, np.nan]), np.array([0.25, np.nan]), 5)
    assert line == "NDCG@5 of this list: main 0.500 → 0.250 (−0.250), clicks no label."


# Live, beside the command


@pytest.fixture(scope="module")
def live(home: Path) -> LiveRun:
    folder = store.saved(store.RunEntry("small", home / "runs" / "small"))
    return LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cpu", lambda _: None)


def test_the_page_and_the_command_tell_the_same_lists(
    live: LiveRun, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then, now = Choice((20, 30, 50), 2.0), Choice((100, 0, 0), 0.5)
    found = live.changes(then, now, 10)
    ask = ["changes", str(home / "runs" / "small"), "--from", ".2,.3,.5@2", "--to", "clicks=1,quality=0,margin=0@0.5"]
    assert main([*ask, "--top", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["list"] for row in told["lists"]] == found.most(count=5).tolist()
    assert told["counts"] == found.counts()
    for row in told["lists"]:
        assert row["distance"] == pytest.approx(float(found.distance[row["list"]]))
        assert row["after"]["relevance"] == pytest.approx(float(found.after[row["list"], 0]), abs=1e-6)
    assert main([*ask, "--only", "lost"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"rises for \d+, falls for \d+", text)
    assert main([ask[0], ask[1], "--from", "base", "--to", ".2,.3"]) == 2
    assert main([*ask, "--top", "0"]) == 2
    assert "--top is 1 or more; got 0" in capsys.readouterr().err
    assert main([ask[0], ask[1], "--from", ".2,.3,.5", "--to", ".2,.3,.5"]) == 0
    assert "nothing changes" in capsys.readouterr().out


def test_reasons_sum_to_the_change_of_score_beside_the_mean_item(live: LiveRun) -> None:
    import torch

    then, now = Choice((0, 0, 100), 2.0), Choice((100, 0, 0), 0.5)
    number, n = 0, int(live.table.lists.sizes[0])
    why = live.reasons(number, then, now, tuple(range(min(4, n))))
    raw = live.table.lists.features[:n]
    x, base = live.run.scaler(raw), live.table.base[:1, :n]
    mask = torch.ones(1, n, dtype=torch.bool)

    def change(lists: torch.Tensor) -> torch.Tensor:
        sides = ((-1 / then.scale, then.weights), (1 / now.scale, now.weights))
        model = live.models[0].model
        with torch.no_grad():
            return sum(s * model(lists, base, mask, torch.tensor(w)) for s, w in sides)  # type: ignore[misc]

    for i, (reason, below) in why.items():
        start = x.clone()
        start[i] = x.mean(0)
        assert reason.total == pytest.approx(float(change(x[None])[0, i] - change(start[None])[0, i]), abs=0.03)
        assert reason.total == pytest.approx(sum(v for _, v in reason.parts) + reason.rest)
        assert below is not None
    # The base is LightGBM: its contributions sum to how far each score is from the list's mean, exactly.
    shares = base_shares(live.run.base, raw, list(range(n)))
    assert shares is not None
    scores = live.table.base[0, :n].double().numpy()
    np.testing.assert_allclose(shares.sum(1), scores - scores.mean(), atol=1e-5)


def test_one_model_per_weight_answers_with_its_nearest(home: Path) -> None:
    folder = store.saved(store.RunEntry("small-ls", home / "runs" / "small-ls"))
    found = LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cpu", lambda _: None)
    near = tuple(float(v) for v in grid(3, 4)[0])
    assert found.changes(Choice((100, 0, 0)), Choice((98, 1, 1)), 10).counts()["changed"] == 0
    assert near in {tuple(row) for row in found.run.trained.tolist()}  # type: ignore[union-attr]
    why = found.reasons(0, Choice((100, 0, 0)), Choice((98, 1, 1)), (0, 1))
    assert all(abs(reason.total) < 1e-6 for reason, _ in why.values())
