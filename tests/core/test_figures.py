"""Figures of studies: what is drawn is what was given, and what is written when no browser is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from hyperdpo import figures, pictures
from hyperdpo.figures import COLOURS, NEUTRAL, ORACLE, Curve, Series, bar_figure, front_figure, save, sweep_figure

FRONT = np.array([[0.3, 0.5], [0.1, 0.6], [0.2, 0.4]])


def valid(figure: figures.Figure) -> None:
    """Plotly knows every key and value."""
    go.Figure(figure)


def test_fronts_are_drawn_in_order_with_the_main_score_beside_them() -> None:
    base = Curve("base", FRONT[:1], 0.9, 0.0, "base")
    figure = front_figure(
        [Curve("a <b>", FRONT, 0.7, 0.02), Curve("best", FRONT, 0.6, 0.1, "oracle"), base], ("x", "y"), "grade"
    )
    valid(figure)
    lines = [t for t in figure["data"] if t["type"] == "scatter"]
    assert lines[0]["x"] == [0.1, 0.2, 0.3]
    assert lines[0]["y"] == [0.6, 0.4, 0.5]
    sizes = lines[0]["marker"]["size"]
    assert sizes[0] == sizes[2] > sizes[1]  # the dominated point is smaller
    assert lines[0]["name"] == "a &lt;b&gt;"
    assert [t["line"]["color"] for t in lines] == [COLOURS[0], ORACLE, NEUTRAL]
    assert lines[2]["mode"] == "markers"
    bars = [t for t in figure["data"] if t["type"] == "bar"]
    assert [(b["y"], b["error_y"]["array"]) for b in bars] == [([0.7], [0.02]), ([0.6], [0.1]), ([0.9], [0.0])]


def test_curves_of_a_group_share_their_colour_and_differ_in_dash() -> None:
    curves = [Curve(f"{g}{d}", FRONT, 0.5, 0.1, group=g, dash=d) for g in (0, 1) for d in ("solid", "dash")]
    lines = [t for t in front_figure(curves, ("x", "y"), "m")["data"] if t["type"] == "scatter"]
    assert [(t["line"]["color"], t["line"]["dash"]) for t in lines] == [
        (COLOURS[g], d) for g in (0, 1) for d in ("solid", "dash")
    ]


def test_a_sweep_has_intervals_and_levels_and_a_logarithm_where_x_spans_far() -> None:
    curve = Series("a", [0.1, 1.0, 3.0], [1.0, 2.0, 3.0], [0.5, None, 2.0], [1.5, None, 5.0])
    level = Series("level", [None], [2.5], [2.0], [3.0])
    figure = sweep_figure([("hypervolume", [curve, level]), ("main", [curve])], "alpha")
    valid(figure)
    first, flat, second = figure["data"]
    assert first["error_y"]["array"] == [0.5, 0.0, 2.0]
    assert first["error_y"]["arrayminus"] == [0.5, 0.0, 1.0]
    assert (flat["x"], flat["y"]) == ([0.1, 3.0], [2.5, 2.5])
    assert (second["yaxis"], second["showlegend"]) == ("y2", False)
    assert figure["layout"]["xaxis"]["type"] == "log"
    signed = Series("a", [-1.0, 0.0, 30.0], [1.0] * 3, [None] * 3, [None] * 3)
    assert sweep_figure([("h", [signed])], "lambda")["layout"]["xaxis"]["type"] == "linear"


def test_bars_have_their_intervals() -> None:
    figure = bar_figure(
        [
            (
                "hypervolume",
                [Series("a", [None], [1.0], [0.4], [1.1]), Series("b", [None], [2.0], [None], [None], "#123456")],
            )
        ]
    )
    valid(figure)
    a, b = figure["data"]
    assert (a["x"], a["error_x"]["array"], a["error_x"]["arrayminus"]) == ([1.0], [pytest.approx(0.1)], [0.6])
    assert (b["error_x"]["array"], b["marker"]["color"]) == ([0.0], "#123456")


def test_without_a_browser_the_page_is_written_and_a_sentence_says_so(tmp_path: Path, monkeypatch) -> None:
    def fail(*args: Any, **options: Any) -> bytes:
        raise pictures.PictureError("no Chrome")

    figure = front_figure([Curve("a", FRONT, 0.5, 0.1)], ("x", "y"), "m")
    monkeypatch.setattr(pictures, "draw", fail)
    written, sentence = save(figure, tmp_path / "f.1")
    assert [p.name for p in written] == ["f.1.html"]
    assert sentence is not None
    assert "none was found or it did not start" in sentence
    assert "no Chrome" in sentence
    page = (tmp_path / "f.1.html").read_text()
    assert 'src="plotly.min.js"' in page
    assert (tmp_path / "plotly.min.js").exists()
    monkeypatch.setattr(pictures, "draw", lambda figure, kind, **options: kind.encode())
    written, sentence = save(figure, tmp_path / "f.1")
    assert ([p.name for p in written], sentence) == (["f.1.html", "f.1.png", "f.1.pdf"], None)
    assert (tmp_path / "f.1.pdf").read_bytes() == b"pdf"
