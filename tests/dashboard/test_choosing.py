"""The Runs view: what is listed, in which order, and the small picture of a front."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dashboard import charts
from dashboard.choosing import Wish, chosen, read_wish
from hyperdpo.front import ParetoFront


def front(method: str, points: list[list[float]]) -> ParetoFront:
    return ParetoFront(
        name=method, method=method, main="m", k=10, weights=np.full((len(points), 2), 0.5), ndcg=np.array(points),
        objectives=("a", "b"), scale=1.0, split="test", run="r", data="d",
    )  # fmt: skip


def run(label: str, kind: str, data: str, seconds: float, own: ParetoFront | None) -> Any:
    config = {"data": {"name": data}, "method": {"method": "hyperdpo"}}
    names = ("m", "clicks" if kind == "rank" else "upbeat")
    entry = SimpleNamespace(label=label, path=Path(label))
    return SimpleNamespace(entry=entry, kind=kind, config=config, seconds=seconds, own=own, names=names)


LOW, HIGH = front("hyperdpo", [[0.5, 0.2, 0.2]]), front("hyperdpo", [[0.5, 0.6, 0.6]])
RUNS = [run("b", "rank", "shop", 3.0, LOW), run("A", "text", "tales", 2.0, None), run("c", "rank", "web", 9.0, HIGH)]


def labels(**wish: str) -> list[str]:
    return [r.entry.label for r in chosen(RUNS, Wish(**wish))]


def test_runs_are_searched_narrowed_and_ordered() -> None:
    assert labels() == ["b", "A", "c"]
    assert labels(search=" CLICKS ") == ["b", "c"]
    assert labels(search="tale") == ["A"]
    assert labels(kind="text") == ["A"]
    assert labels(data="web") == ["c"]
    assert labels(method="nothing") == []
    assert labels(order="newest") == ["c", "b", "A"]
    assert labels(order="name") == ["A", "b", "c"]
    assert labels(order="hypervolume") == ["c", "b", "A"]


def test_an_address_says_the_wish_and_what_it_cannot_have_is_a_sentence() -> None:
    wish = Wish("shop", "rank", "shop", order="newest")
    assert read_wish(wish.write(), ["shop"], []) == (wish, [])
    assert Wish().write() == {}
    found, notes = read_wish({"kind": "cube", "data": "<b>", "order": "name"}, ["shop"], [])
    assert found == Wish(order="name")
    assert len(notes) == 2
    assert "kind" in notes[0]
    assert "cube" in notes[0]


def test_the_small_picture_keeps_inside_and_draws_what_is_finite() -> None:
    ours = front("hyperdpo", [[0.5, 0.1, 0.9], [0.5, 0.9, 0.1], [0.5, 0.1, 0.5], [0.5, np.nan, 0.3]])
    drawn = charts.thumbnail([ours, front("base", [[0.5, 0.1, 0.1]])], 1, 2)
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert drawn.count("<circle") == 3
    assert drawn.count("<path") == 1
    wide, tall = charts.THUMB
    assert f'points="6.0,6.0 {wide - 6:.1f},{tall - 6:.1f}"' in drawn  # the two that nothing beats, corner to corner
    assert charts.thumbnail([front("hyperdpo", [[0.5, np.nan, 0.1]])], 1, 2) == ""
    assert "nan" not in charts.thumbnail([front("hyperdpo", [[0.5, 0.3, 0.3]])], 1, 2)
