"""The home page's list: which runs pass, in which order, how the address says it, and the small pictures."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from dashboard import store
from dashboard.charts_small import HEIGHT, WIDTH, small_front
from dashboard.listing import Line, Listing, narrowed, read_listing, write_listing
from hyperdpo.front import ParetoFront

LINES = (
    Line("shop", "rank", "market", "HyperDPO", ("relevance", "clicks"), 30.0, 0.2, 5.0),
    Line("Tales", "text", "stories", "HyperDPO", ("closeness", "upbeat"), 10.0, 0.9, 300.0),
    Line("old shop", "rank", "market", "DPO-LS", ("relevance", "新しさ"), 20.0, math.nan, 90.0),
)


@pytest.mark.parametrize(
    ("listing", "runs"),
    [
        (Listing(), ["shop", "old shop", "Tales"]),
        (Listing(order="name"), ["old shop", "shop", "Tales"]),
        (Listing(order="hypervolume"), ["Tales", "shop", "old shop"]),
        (Listing(order="training"), ["shop", "old shop", "Tales"]),
        (Listing(find="SHOP market"), ["shop", "old shop"]),
        (Listing(find="新しさ"), ["old shop"]),
        (Listing(find="shop tales"), []),
        (Listing(kind="text"), ["Tales"]),
        (Listing(data="market", method="HyperDPO"), ["shop"]),
    ],
)
def test_filters_and_orders(listing: Listing, runs: list[str]) -> None:
    assert [LINES[i].run for i in narrowed(LINES, listing)] == runs


def test_the_address_brings_the_list_back_and_foreign_values_are_sentences() -> None:
    wanted = Listing("cli", "rank", "market", "DPO-LS", "training")
    assert read_listing(write_listing(wanted), LINES) == (wanted, ())
    assert write_listing(Listing()) == {}
    found, notes = read_listing({"kind": "<b>zebra", "order": "up", "run": "gone"}, LINES)
    assert found == Listing()
    assert notes == (
        "The link's kind='<b>zebra' is none of rank, text; no run is left out for it.",
        "The link's order='up' is none of newest, name, hypervolume, training; the newest come first.",
    )


def front(ndcg: list[list[float]], **rest: object) -> ParetoFront:
    values = np.array(ndcg)
    names = tuple("abc"[: values.shape[1] - 1])
    made = ParetoFront("F", "hyperdpo", "main", names, np.full((len(values), len(names)), 1 / len(names)), 1.0, 10,
                       "test", values)  # fmt: skip
    return replace(made, **rest)  # type: ignore[arg-type]


def dots(picture: str) -> list[tuple[float, float]]:
    found = re.search(r"base64,([^\"]+)", picture)
    assert found
    drawn = ElementTree.fromstring(base64.b64decode(found[1]))
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in drawn.iter() if c.tag.endswith("circle")]


def test_a_small_front_has_a_dot_a_point_and_better_is_right_and_up() -> None:
    at = dots(small_front(front([[0.5, 0.1, 0.4], [0.5, 0.2, 0.2], [0.5, 0.3, 0.1]])))
    assert len(at) == 3
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in at)
    assert at[0][0] < at[1][0] < at[2][0]
    assert at[0][1] < at[1][1] < at[2][1]  # pixels count downwards


def test_a_small_front_takes_the_axes_it_is_told() -> None:
    points = front([[0.9, 0.3, 0.1], [0.5, 0.1, 0.4]])
    assert dots(small_front(points, axes=("main", "b"))) == dots(small_front(points, axes=("a", "b")))
    assert "main to the right, b upwards" in small_front(points, axes=("main", "b"))


def test_a_small_front_of_one_point_one_objective_or_nothing() -> None:
    assert dots(small_front(front([[0.5, 0.3, 0.1]]))) == [(WIDTH / 2, HEIGHT / 2)]
    assert len(dots(small_front(front([[0.5, 0.3], [0.4, 0.6]])))) == 2
    assert small_front(None) == ""
    named = small_front(front([[0.5, 0.3, 0.1]], objectives=('"><script>', "新しさ")))
    assert "<script>" not in named
    assert "新しさ" in named


def test_folders_that_hold_a_plain_model_are_no_runs_and_damaged_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, config in (("model", {"architectures": ["X"]}), ("text", {"kind": "text"}), ("rank", {"kind": "rank"})):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps(config))
        (tmp_path / "runs" / name / "model.safetensors").write_bytes(b"")
    (tmp_path / "runs" / "begun" / "training").mkdir(parents=True)
    (tmp_path / "runs" / "begun" / "training" / "plan.json").write_text("{}")
    assert sorted(e.label for e in store.list_runs(None)) == ["begun", "rank", "text"]
    assert sorted(e.label for e in store.list_runs()) == ["begun", "rank"]
