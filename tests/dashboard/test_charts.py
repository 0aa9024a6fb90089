"""Figures, words and pieces of the page, without Streamlit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard import blocks, charts, export, words
from dashboard.readings import Curve, Reading
from dashboard.state import Choice
from hyperdpo import pictures
from hyperdpo.front import ParetoFront
from hyperdpo.intervals import Interval
from hyperdpo.methods import METHODS

HERE = Path(charts.__file__).parent
NASTY = "<img src=x onerror=alert(1)> & a very long name that goes on and on"


def front(
    m: int = 2, points: int = 5, method: str = "hyperdpo", names: tuple[str, ...] = (), **more: Any
) -> ParetoFront:
    names = names or tuple(f"objective {j}" for j in range(m))
    rng = np.random.default_rng(points)
    weights = rng.dirichlet([1.0] * m, points) if method != "base" else np.zeros((points, 0))
    ndcg = np.concatenate([rng.uniform(0.6, 0.8, (points, 1)), rng.uniform(0.2, 0.6, (points, m))], 1)
    return ParetoFront(
        more.pop("name", method), method, "relevance", names, weights, more.pop("scale", 1.0), 10, "test", ndcg,
        cross_entropy=rng.uniform(2, 3, (points, m)), **more,
    )  # fmt: skip


def reading(curve: ParetoFront, point: int = 0) -> Reading:
    m = curve.m
    change = [Interval(0.02, -0.01, 0.05, 100, 3)] * (1 + m)
    choice = Choice((100,) + (0,) * (m - 1))
    return Reading(
        choice, choice.weights, 10, curve.ndcg[point], curve.ndcg[point] - 0.02, change, np.full(m, 3.0),
        np.full(m, 3.5), None,
    )  # fmt: skip


def figure(m: int = 2, points: int = 5, **more: Any) -> charts.Figure:
    own = front(m, points, models=1)
    curves = [Curve(own), Curve(front(m, points, "dpo-ls", models=11), "c = 1"), Curve(front(m, 1, "base"))]
    names = (own.main, *own.objectives)
    ranges = np.array([[0.0, 1.0]] * (1 + m))
    x, y = names[-1], names[min(1, m - 1)]
    return charts.front_figure(curves, reading(own), x, y, ranges, k=10, **more)


def test_the_first_sentence_says_how_many_lists_and_where_better_is() -> None:
    said = words.opening(reading(front(2, 3)), "<shop>", "clicks", "margin")
    assert said.startswith("103 test lists of <shop>. Move a slider")
    assert "Up is better margin, right is better clicks" in said
    assert "Up and right are better clicks" in words.opening(None, "shop", "clicks", "clicks")
    assert "&lt;shop&gt;" in blocks.opening(said)


@pytest.mark.parametrize(("m", "points"), [(1, 1), (2, 1), (2, 11), (5, 11)])
def test_every_point_is_drawn_once_with_words(m: int, points: int) -> None:
    for trace in figure(m, points)["data"]:
        real = [i for i, x in enumerate(trace["x"]) if x is not None]
        assert len(real) == (points if trace["meta"].split("|")[0] in ("hyperdpo", "dpo-ls") else 1)
        texts = trace.get("hovertext", trace["text"])
        assert all(t is not None for t in texts), "null hover data empties a selection"
        assert all("NDCG@10" in texts[i] for i in real)


def test_hover_says_w_c_and_every_metric() -> None:
    own = front(3, 4)
    said = charts.point_words(Curve(own), 2, ("relevance", *own.objectives))
    for value in own.ndcg[2]:
        assert f"{value:.3f}" in said
    assert "c = 1" in said
    assert "w: " in said
    assert "cross-entropy" in said


def test_the_live_point_is_last_largest_and_has_a_cross() -> None:
    data = figure()["data"]
    live = data[-1]
    assert live["meta"] == "live"
    assert live["marker"]["size"] > max(t["marker"]["size"] for t in data[:-1])
    assert live["error_x"]["array"] == pytest.approx([0.03])
    assert live["error_y"]["arrayminus"] == pytest.approx([0.03])


def test_without_its_live_point_a_chart_does_not_change_as_the_point_moves() -> None:
    own = front(points=4)
    places = [figure_at(own, i) for i in (0, 1)]
    (still, first), (again, second) = map(charts.without_live, places)
    assert still == again
    assert first != second
    assert first == places[0]["data"][-1]
    assert [t["meta"] for t in still["data"]] == [t["meta"] for t in places[0]["data"]]
    assert still["data"][-1]["x"] == []
    assert charts.without_live(charts.front_figure([Curve(own)], None, *own.objectives, RANGES, k=10))[1] is None


RANGES = np.array([[0.0, 1.0]] * 3)


def figure_at(own: ParetoFront, point: int) -> charts.Figure:
    return charts.front_figure([Curve(own)], reading(own, point), *own.objectives, RANGES, k=10)


def test_a_pinned_choice_takes_the_place_of_a_line_and_of_no_legend_entry() -> None:
    own = front()
    names = (own.main, *own.objectives)
    now, against = reading(own), [words.change(0.02, 0.01, 0.03, 0.4)] * 3
    plain, compared = blocks.figures_strip(now, names), blocks.figures_strip(now, names, against)
    assert compared.count(">vs A:") == 3
    assert compared.count("<div") == plain.count("<div")
    assert charts.legend(figure(pinned=now)) == charts.legend(figure())


def test_the_legend_says_what_each_curve_costs_and_where_it_stands_still() -> None:
    entries = [e.words for e in charts.legend(figure())]
    assert entries[0] == "you are here"
    assert "hyperdpo · 1 model" in entries
    assert "dpo-ls · 11 models · at c = 1 only" in entries


def test_axes_are_fixed_by_the_ranges_and_name_objective_unit_and_direction() -> None:
    layout = figure()["layout"]
    assert layout["xaxis"]["range"] == [-0.07, 1.07]
    assert re.fullmatch(r"objective \d, NDCG@10 →", layout["xaxis"]["title"]["text"])


def test_names_from_data_are_escaped_and_shortened() -> None:
    own = front(2, 3, names=(NASTY, "点击率" * 30))
    curves = [Curve(own)]
    drawn = charts.front_figure(curves, reading(own), NASTY, "点击率" * 30, np.array([[0, 1]] * 3), k=10)
    everything = str(drawn) + blocks.figures_strip(reading(own), ("relevance", *own.objectives))
    everything += blocks.fronts_table(curves, reading(own), 1.0, 10)
    assert "<img" not in everything
    assert "&lt;img" in everything
    assert len(charts.safe(NASTY)) < len(NASTY) + 20


def test_points_beaten_in_the_plane_are_faded_and_not_joined() -> None:
    order, faded = charts.plane_order(np.array([[0.2, 0.8], [0.1, 0.1], [0.8, 0.2], [np.nan, 1.0], [0.5, 0.5]]))
    assert order == [0, 4, 2]
    assert faded == [1]
    own = front(2, 11)
    trace = charts.front_figure([Curve(own)], None, *own.objectives, np.array([[0, 1]] * 3), k=10)["data"][0]
    order, faded = charts.plane_order(own.ndcg[:, [1, 2]])
    assert trace["marker"]["opacity"].count(1.0) == len(order)
    assert trace["x"].count(None) == len(faded)


def test_methods_differ_in_colour_marker_and_dash() -> None:
    assert set(charts.LOOKS) == {*METHODS, "oracle", "oracle-unconstrained", "base"}
    looks = list(charts.LOOKS.values())
    assert len({x.colour for x in looks}) == len({x.symbol for x in looks}) == len(looks)
    assert len({charts.LOOKS[m].dash for m in ("hyperdpo", "dpo-ls", "oracle")}) == 3
    assert len({charts.LOOKS[m].dash for m in ("hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo", "hypernetwork")}) == 5
    signs = [charts.SIGNS[x.symbol] for x in looks]
    assert len(set(signs)) == len(signs)
    assert charts.look("some-new-method") == charts.look("some-new-method")


def test_the_theme_and_the_charts_use_one_palette_of_at_least_ten() -> None:
    theme = tomllib.loads((HERE / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
    assert tuple(theme["chartCategoricalColors"]) == charts.OBJECTIVE_COLOURS
    assert len(set(charts.OBJECTIVE_COLOURS)) >= 10
    assert set(theme["light"]) == set(theme["dark"])


def test_the_palette_survives_colour_blindness() -> None:
    assert least_distance(charts.OBJECTIVE_COLOURS) > 14


def test_the_methods_colours_survive_colour_blindness() -> None:
    assert least_distance([charts.LOOKS[m].colour for m in METHODS]) > 14


def least_distance(colours: Sequence[str]) -> float:
    """Full deuteranopia and protanopia after Machado et al. (2009) on linear RGB; distances in CIE Lab."""
    views = (
        np.eye(3),
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    )
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
    linear = np.where(palette <= 0.04045, palette / 12.92, ((palette + 0.055) / 1.055) ** 2.4)
    least = np.inf
    for matrix in views:
        seen = lab(np.clip(linear @ np.array(matrix).T, 0, 1))
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
        least = min(least, gaps.min())
    return float(least)


def lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = linear @ to_xyz.T / to_xyz.sum(1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def test_no_colour_literal_outside_charts_and_theme() -> None:
    literal = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|\brgba?\(|\bhsl\(")
    for file in HERE.rglob("*"):
        if file.suffix in (".py", ".css", ".js") and file.name != "charts.py":
            assert not literal.search(file.read_text("utf-8")), file


def test_a_change_inside_its_interval_is_no_measurable_difference() -> None:
    assert words.change(0.01, -0.01, 0.03, 0.5).verdict == words.SAME
    found = words.change(0.0155, 0.01, 0.02, 0.5)
    assert (found.words, found.interval, found.verdict) == ("+3.1 %", "+2.0 to +4.0 %", "better")
    assert words.change(-0.002, -0.003, -0.001, 0.5).words == "−0.4 %"
    assert "no list" in words.change(np.nan, np.nan, np.nan, 0.5).verdict


def test_the_price_is_the_slope_where_the_point_stands() -> None:
    curve = np.array([[0.1, 0.9], [0.5, 0.7], [0.7, 0.2]])
    assert words.price_sentence("freshness", "clicks", (0.3, 0.8), curve) == (
        "Freshness and clicks pull apart here: one more point of clicks costs 2.0 points of freshness."
    )
    assert "costs 0.4 points" in words.price_sentence("freshness", "clicks", (0.65, 0.3), curve)
    assert "not enough points" in words.price_sentence("a", "b", (0.3, 0.8), curve[:1])
    assert "do not pull apart" in words.slope_sentence("a", "b", np.array([[0.1, 0.1], [0.2, 0.2]]))
    assert "next to nothing" in words.slope_sentence("a", "b", np.array([[0.2, 0.1], [0.2, 0.2]]))
    assert "at its limit" in words.slope_sentence("a", "b", np.array([[0.3, 0.2], [0.1, 0.2]]))
    assert "hardly move" in words.slope_sentence("a", "b", np.array([[0.2, 0.2], [0.2, 0.2]]))


def test_points_hold_what_the_chart_shows() -> None:
    own = front(2, 3)
    names = ("relevance", *own.objectives)
    rows = export.points([Curve(own), Curve(front(2, 1, "base"))], reading(own), names, "small")
    assert [r["front"] for r in rows] == ["hyperdpo"] * 3 + ["base", "live point"]
    assert rows[1]["ndcg.objective 1"] == pytest.approx(own.ndcg[1, 2], abs=1e-6)
    assert rows[3]["w.objective 0"] is None
    assert export.points_csv(rows).decode().count("\n") == 6
    assert export.points_json(rows).startswith(b"[")


def test_the_html_export_needs_nothing_from_elsewhere() -> None:
    content = export.page(figure(), "title").decode()
    assert "you are here" in content
    assert not re.search(r"<script[^>]+src=", content)


def test_without_a_browser_the_reader_is_told_what_to_take_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise pictures.PictureError("no browser")

    monkeypatch.setattr(pictures, "draw", fail)
    with pytest.raises(export.ExportError, match="HTML file holds the same chart"):
        export.picture(figure(), "title", "PNG")
