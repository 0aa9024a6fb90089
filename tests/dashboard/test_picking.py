"""A selection as ranges: what a mouse means on each view, who lies in it, and how the charts fade the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboard import charts_compare, picking
from dashboard.blocks_picked import picked_table
from dashboard.readings import Entrant
from dashboard.state import Comparing, Range, read_comparing, write_comparing
from hyperdpo.front import ParetoFront

NAMES = ("relevance", "clicks", "quality", "margin")
SPANS = np.array([[0.5, 0.9], [0.0, 1.0], [0.2, 0.6], [0.1, 0.3]])
WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
FIGURES = np.array([[0.9, 0.8, 0.2, 0.1], [0.8, 0.1, 0.6, 0.2], [0.7, 0.2, 0.3, 0.3], [0.6, 0.7, 0.4, 0.1]])


def entrant() -> Entrant:
    front = ParetoFront("Ours", "hyperdpo", NAMES[0], NAMES[1:], WEIGHTS, 1.0, 10, "test", FIGURES)
    return Entrant("run: Ours", "run", front, 0, 0)


def base() -> Entrant:
    front = ParetoFront("Base", "base", NAMES[0], NAMES[1:], np.zeros((1, 0)), 1.0, 10, "test", FIGURES[:1])
    return Entrant("run: Base", "run", front, 0, 1)


def box(**where: Any) -> dict[str, Any]:
    return {"box": [{"xref": "x", "yref": "y", **where}]}


def test_a_brush_bounds_the_axes_it_crosses_in_their_own_units() -> None:
    found = picking.brushed("lines", box(x=[1.2, -0.2], y=[0.75, 0.25]), NAMES, SPANS, WEIGHTS)
    assert found == [Range("clicks", 0.25, 0.75), Range("quality", 0.3, 0.5)]
    assert picking.brushed("lines", box(x=[2.9, 3.1], y=[0, 0.5]), NAMES, SPANS, WEIGHTS) == [
        Range("relevance", 0.5, 0.7)
    ]
    assert picking.brushed("lines", box(x=[0.2, 0.8], y=[0, 1]), NAMES, SPANS, WEIGHTS) == []


@pytest.mark.parametrize(
    ("xref", "yref", "names"),
    [("x", "y", ("clicks", "margin")), ("x", "y2", ("clicks", "quality")), ("x2", "y", ("quality", "margin"))],
)
def test_a_box_bounds_the_two_objectives_of_its_cell(xref: str, yref: str, names: tuple[str, str]) -> None:
    figure = charts_compare.pairs_figure([entrant()], NAMES, SPANS)
    drawn = next(t for t in figure["data"] if (t["xaxis"], t["yaxis"]) == (xref, yref))
    assert drawn["meta"].endswith("|".join(("", *names))), "the chart and the reading of a box disagree"
    where = {"xref": xref, "yref": yref, "x": [0.1, 0.4], "y": [0.3, 0.2]}
    assert picking.brushed("pairs", box(**where), NAMES, SPANS, WEIGHTS) == [
        Range(names[0], 0.1, 0.4),
        Range(names[1], 0.2, 0.3),
    ]


def test_dots_of_the_triangle_bound_the_attention() -> None:
    points = [{"curve_number": 0, "point_index": p} for p in (0, 3)] + [{"curve_number": 1, "point_index": 2}]
    assert picking.brushed("triangle", {"points": points}, NAMES, SPANS, WEIGHTS) == [
        Range("w.clicks", 0.5, 1.0), Range("w.quality", 0.0, 0.5), Range("w.margin", 0.0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", [None, {}, {"box": [], "points": []}, "junk"])
@pytest.mark.parametrize("view", ["lines", "pairs", "triangle"])
def test_an_empty_selection_means_nothing(view: str, nothing: Any) -> None:
    assert picking.brushed(view, nothing, NAMES, SPANS, WEIGHTS) == []


def test_who_lies_in_every_range_ends_included() -> None:
    front = entrant().front
    assert picking.chosen(front, NAMES, []).all()
    two = [Range("clicks", 0.7, 0.8), Range("w.quality", 0.5, 1.0)]
    assert picking.chosen(front, NAMES, two[:1]).tolist() == [True, False, False, True]
    assert picking.chosen(front, NAMES, two).tolist() == [False, False, False, True]
    assert picking.chosen(base().front, NAMES, two[:1]).tolist() == [True]
    assert picking.chosen(base().front, NAMES, two).tolist() == [False], "the base has no attention to bound"
    assert not picking.inside(np.array([np.nan]), Range("clicks", -9, 9)).any()
    assert picking.merged(two, [Range("clicks", 0, 1)]) == (Range("clicks", 0, 1), two[1])


@pytest.mark.parametrize("make", [charts_compare.pairs_figure, charts_compare.parallel_figure])
def test_the_rest_fades_and_no_point_is_lost(make: Any) -> None:
    figure = make([entrant(), base()], NAMES, SPANS)
    assert picking.fade(figure, [entrant(), base()], NAMES, []) is figure
    faded = picking.fade(figure, [entrant(), base()], NAMES, [Range("clicks", 0.65, 0.75)])
    count = lambda f: sum(v is not None for t in f["data"] for v in t["x"])  # noqa: E731
    assert count(faded) == count(figure)
    if make is charts_compare.parallel_figure:
        shown = {t["meta"]: t for t in faded["data"]}
        assert shown["parallel|run: Ours"]["y"][:4] == [0.7, 0.5, 0.0, 0.25]
        assert len(shown["outparallel|run: Ours"]["x"]) == 15
        assert shown["outparallel|run: Ours"]["line"]["color"] == shown["parallel|run: Ours"]["line"]["color"]
    else:
        trace = next(t for t in faded["data"] if t["meta"] == "pair|run: Ours|clicks|quality")
        assert [x for x, o in zip(trace["x"], trace["marker"]["opacity"], strict=True) if x is not None and o == 1] == [
            0.7
        ]


def test_the_triangles_dots_fade_by_attention_and_by_figure() -> None:
    figure = charts_compare.triangle_figure(WEIGHTS, FIGURES[:, 1], NAMES[1:], "clicks", "Ours", 10)
    ranges = [Range("clicks", 0.5, 1.0), Range("w.quality", 0.4, 0.6)]
    faded = picking.fade_dots(figure, WEIGHTS, FIGURES, NAMES, ranges)
    assert [o == 1 for o in faded["data"][0]["marker"]["opacity"]] == [False, False, False, True]
    assert "opacity" not in figure["data"][0]["marker"], "the figure given must stay as it is"


def test_the_address_gives_a_selection_back_and_foreign_ones_are_sentences() -> None:
    shown = Comparing(runs=("a",), picked=(Range("w.clicks", 0, 0.5), Range("a:b", 0.1234, 0.2)))
    again, notes = read_comparing(write_comparing(shown))
    assert (again, notes) == (shown, ())
    found, notes = read_comparing({"in": ["clicks:1:0", "clicks", "clicks:nan:1", "clicks:0:1", "clicks:0:2"]})
    assert found.picked == (Range("clicks", 0, 2),)
    assert len(notes) == 3


def test_the_table_lists_the_selected_points_and_escapes_names() -> None:
    said = picked_table([entrant(), base()], NAMES, [Range("clicks", 0.65, 0.75)])
    assert "Selected: 1 of 5 points, with clicks 0.650 to 0.750." in said
    assert said.count("data-picked") == 1
    assert "clicks 50 %, quality 50 %" in said
    assert "Selected: 0 of 5" in picked_table([entrant(), base()], NAMES, [Range("clicks", 5, 6)])
    odd = ("<b>", *NAMES[1:])
    assert "<b> 0" not in picked_table([entrant()], odd, [Range("<b>", 0.0, 1.0)])
