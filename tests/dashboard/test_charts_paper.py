"""A chart made ready for paper: inches, points, greys; opened as PNG, PDF and SVG."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dashboard import charts, export
from dashboard.charts_paper import SIZES, Paper, on_paper
from dashboard.readings import Curve
from hyperdpo.front import ParetoFront

NAMES = ("relevance", "clicks", "margin #123456")


def front(method: str, shift: float) -> Curve:
    values = np.array([[0.8, 0.2 + shift + i / 10, 0.6 + shift - i / 10] for i in range(3)])
    return Curve(ParetoFront(name=method, method=method, main=NAMES[0], k=10, weights=np.array([[1, 0], [0.5, 0.5],
        [0, 1]]), ndcg=values, objectives=NAMES[1:], scale=1.0, split="test", run="r", data="d"))  # fmt: skip


@pytest.fixture(scope="module")
def figure() -> charts.Figure:
    ranges = np.array([[0.7, 0.9], [0.2, 0.5], [0.3, 0.7]])
    return charts.front_figure(
        [front("hyperdpo", 0.05), front("dpo-ls", 0.0)], None, NAMES[1], NAMES[2], ranges, k=10, names=NAMES
    )


def colours(value: Any, key: str = "") -> set[str]:
    """Every colour of a figure, as #RRGGBB or its three channels."""
    if isinstance(value, dict):
        return set().union(*(colours(v, k) for k, v in value.items()), set())
    if isinstance(value, list):
        return set().union(*(colours(v, key) for v in value), set())
    return {value} if isinstance(value, str) and re.match(r"#[0-9a-fA-F]{6}$|rgb", value) else set()


def is_grey(colour: str) -> bool:
    if colour.startswith("#"):
        return colour[1:3] == colour[3:5] == colour[5:7]
    return len(set(re.findall(r"[\d.]+", colour)[:3])) == 1


def test_a_size_is_in_inches_and_its_type_in_points(figure: charts.Figure) -> None:
    drawn = on_paper(figure, "title", Paper("column"))["layout"]
    assert (drawn["width"], drawn["font"]["size"]) == (round(3.4 * 96), 10.7)
    assert "title" not in drawn, "a caption stands below it"
    assert on_paper(figure, "title", Paper("page", 12))["layout"]["font"]["size"] == 16
    slide = on_paper(figure, "title", Paper("slide"))["layout"]
    assert slide["width"] / slide["height"] == pytest.approx(16 / 9, rel=1e-3)
    assert slide["title"]["text"] == "title"
    assert on_paper(figure, "t", Paper(legend=False))["layout"]["showlegend"] is False
    assert on_paper(figure, "t")["layout"]["showlegend"] is True


def test_marks_follow_the_size_and_the_data_stay(figure: charts.Figure) -> None:
    small, large = (on_paper(figure, "t", Paper(size))["data"][-1] for size in ("column", "slide"))
    assert small["marker"]["size"] < figure["data"][-1]["marker"]["size"] < large["marker"]["size"]
    assert small["line"]["width"] < large["line"]["width"]
    assert small["x"] == large["x"] == figure["data"][-1]["x"]


def test_greys_alone_with_dashes_that_differ(figure: charts.Figure) -> None:
    before = json.dumps(figure)
    assert not all(map(is_grey, colours(on_paper(figure, "t")["data"])))
    drawn = on_paper(figure, "t", Paper(grey=True))
    found = colours(drawn["data"]) | colours(drawn["layout"]["xaxis"])
    assert found
    assert all(map(is_grey, found)), found
    assert drawn["layout"]["paper_bgcolor"] == charts.EXPORT_PAPER
    looks = {(t["line"]["dash"], t["marker"]["symbol"]) for t in drawn["data"]}
    assert len(looks) == len(drawn["data"])
    assert "#123456" in drawn["layout"]["yaxis"]["title"]["text"], "a name that looks like a colour is a name"
    assert json.dumps(figure) == before, "the page's own figure stays"


@pytest.mark.parametrize("size", list(SIZES))
def test_plotly_takes_every_size(figure: charts.Figure, size: str) -> None:
    go.Figure(on_paper(figure, "t", Paper(size, grey=True)))


def test_a_printed_chart_has_the_size(figure: charts.Figure) -> None:
    if not export.has_browser():
        pytest.skip("needs a Chromium")
    printed = export.picture(figure, "t", "PDF", Paper("column", grey=True))
    [[width, height]] = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", printed)
    assert [float(width), float(height)] == pytest.approx([72 * v for v in SIZES["column"].inches], abs=2)


def test_the_script_draws_the_chart_as_it_was_asked_for(figure: charts.Figure) -> None:
    said = export.script(figure, "t", "chart.py", Paper("page", legend=False)).decode()
    held = json.loads(said.split('r"""')[1].split('"""')[0])
    assert (held["layout"]["width"], held["layout"]["showlegend"]) == (672, False)
