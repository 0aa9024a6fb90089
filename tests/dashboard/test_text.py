"""The Text view without Streamlit: state, words, pieces of the page, figures, and the panel with a seat of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_charts import front

from dashboard import blocks_text, charts_text, text_store, words_text
from dashboard.panel import PanelState, Seat, heard
from dashboard.readings import Curve, TextReading
from dashboard.state import Choice, Key, Telling, read_telling, write_telling
from dashboard.text_store import text_reading
from hyperdpo.front import CROSS_ENTROPY, ParetoFront
from hyperdpo.losses import objective_losses
from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences
from hyperdpo.text.labels import Labels

NAMES = ("upbeat", "concise", "vivid")
MEASURES = [("How positive", "-1 to 1"), ("Short sentences", "-words"), ("", "")]
NOW = Telling("Once upon a time", "concise", "upbeat")
NASTY = "<script>alert(1)</script>&\x1b[31m\u202e\x00"


def entropy_front(method: str = "hyperdpo", points: int = 5, shift: float = 0.0, **more: Any) -> ParetoFront:
    rng = np.random.default_rng(points)
    entropies = rng.uniform(1.2, 1.4, (points, 3)) + shift
    weights = rng.dirichlet([1.0] * 3, points) if method != "base" else np.zeros((points, 0))
    values = np.concatenate([np.zeros((points, 1)), -entropies], 1)
    return ParetoFront(
        more.pop("name", method), method, "closeness", NAMES, weights, 1.0, 0, "test", values, cross_entropy=entropies,
        metric=CROSS_ENTROPY, reference=(-2.2,) * 3, **more,
    )  # fmt: skip


def some_reading(q: int = 40, total: int = 100, shift: tuple[float, ...] = (-0.3, 0.0, 0.3)) -> TextReading:
    rng = np.random.default_rng(0)
    base = np.full((q, 3), np.log(4))
    losses = base + np.array(shift) + rng.normal(0, 0.1, (q, 3))
    return text_reading(Choice((20, 30, 50), 2.0), (0.2, 0.3, 0.5), losses, base, total, float(np.log(4)))


# State


@given(
    st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(sum),
    st.text(max_size=80),
    st.integers(0, 10**9),
    st.sampled_from([0.5, 0.7, 1.0, 2.5, 10.0]),
    st.booleans(),
)
def test_the_address_says_the_whole_state(parts: list[int], prompt: str, seed: int, scale: float, strip: bool) -> None:
    percent = tuple(round(100 * p / sum(parts)) for p in parts[:2])
    choice = Choice((*percent, 100 - sum(percent)), scale)
    if min(choice.percent) < 0:
        return
    told = Telling(prompt, "vivid", "concise", seed, 1.25, 0.5, 128, strip)
    assert read_telling(write_telling("run", choice, told), NAMES, NOW) == (choice, told, ())


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"w": "1,2"}, "percentages"),
        ({"c": "nan"}, "above 0"),
        ({"c": "0.2"}, "0.5 to 10"),
        ({"c": "99"}, "0.5 to 10"),
        ({"x": "<b>"}, "objective"),
        ({"seed": "-1"}, "whole number"),
        ({"t": "9"}, "0 to 2"),
        ({"p": "x"}, "0.05 to 1"),
        ({"n": "0"}, "whole number"),
        ({"strip": "yes"}, "neither 0 nor 1"),
        ({"prompt": "a" * 3000}, "3,000 characters"),
    ],
)
def test_a_foreign_address_becomes_a_sentence(said: dict[str, str], kept: str) -> None:
    choice, told, notes = read_telling(said, NAMES, NOW)
    assert len(notes) == 1
    assert kept in notes[0]
    assert choice is None or 0.5 <= choice.scale <= 10
    assert len(told.prompt) <= 2000


def test_an_address_that_says_nothing_changes_nothing() -> None:
    assert read_telling({}, NAMES, NOW) == (None, NOW, ())


def test_a_seat_has_keys_and_a_lowest_c_of_its_own() -> None:
    seat = Seat(".text", low=0.5)
    assert seat.key(Key.CHOICE) != Seat().key(Key.CHOICE) == Key.CHOICE
    moved = {"epoch": 0, "percent": [50, 50], "scale": 0.1, "locked": [False, False], "seq": 1}
    assert heard(PanelState(Choice((100, 0)), low=0.5), moved).choice == Choice((50, 50), 0.5)
    assert heard(PanelState(Choice((100, 0))), moved).choice.scale == 0.1


# Words


@given(st.text())
def test_nothing_invisible_is_left_in_a_text(text: str) -> None:
    shown = words_text.visible(text)
    assert not any(c for c in shown if (ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0)
    assert not set(shown) & set("\u202e\u202d\u2066\u2067\u200b\ufeff\u2028")


def test_text_is_shown_as_text() -> None:
    shown = blocks_text.plain(NASTY)
    assert "<" not in shown
    assert "&lt;script&gt;" in shown
    assert "\u241b" in shown
    assert "U+202E" in shown
    told = [("A <b>", NASTY, "length", (0.5, -3.0, float("nan")), True), ("Base", NASTY, "", (), False)]
    html = blocks_text.answers(NASTY, told, ("<i>", "b", "c"), MEASURES)
    html += blocks_text.strip([(1, 0, 0)], [(NASTY, (0.5, -3.0, 0.1), False)], ("<i>", "b", "c"), MEASURES, 0)
    assert "<script" not in html
    assert "<i>" not in html
    assert "A <b>" not in html


def test_measures_say_their_unit_and_which_way_they_moved() -> None:
    assert words_text.measure(0.5) == "0.50"
    assert words_text.measure(-0.25) == "−0.25"
    assert words_text.measure(-7.25, "-words") == "7.2 words"
    assert words_text.measure(0.5, "-1 to 1") == "0.50"
    assert words_text.measure(float("nan")) == "–"
    line = blocks_text.scores_line((0.5, -3.0, float("nan")), NAMES, MEASURES, (0.2, -2.0, 0.0))
    assert "3.0 words" in line
    assert line.count("▲") == 1
    assert line.count("▼") == 1
    assert "vivid" not in line


def test_a_change_is_called_one_only_where_it_is_measurable() -> None:
    reading = some_reading()
    kinds = [words_text.change_words(reading, j)[2] for j in range(3)]
    assert kinds == ["up", "same", "down"]
    assert words_text.change_words(reading, 1)[0] == "no measurable difference"
    said = words_text.entropy_sentence(reading, NAMES)
    assert "follows upbeat better than chance" in said
    assert "against vivid" in said
    cards = blocks_text.entropy_strip(reading, NAMES)
    assert cards.count("hx-card") == 3
    assert "40 of 100" in words_text.progress(reading, 100)
    assert "all 40" in words_text.progress(some_reading(total=40), 40)


# Figures


def test_the_front_has_less_to_the_right_the_base_as_chance_and_a_fixed_frame() -> None:
    curves = [Curve(entropy_front()), Curve(entropy_front("dpo-ls", 4), "c = 1"), Curve(entropy_front("base", 1))]
    ranges = charts_text.entropy_ranges(curves)
    figure = charts_text.entropy_figure(curves, some_reading(), "upbeat", "vivid", ranges)
    for axis in ("xaxis", "yaxis"):
        low, high = figure["layout"][axis]["range"]
        assert low > high, "less is better, so the axis runs downwards"
    named = [t["name"] for t in figure["data"]]
    assert named[0] == "base model: chance"
    assert named[-1] == "you are here"
    assert any("c = 1 only" in n for n in named)
    live = figure["data"][-1]
    assert live["x"] == [pytest.approx(float(some_reading().values[0]), abs=1e-6)]
    assert live["error_x"]["array"][0] > 0
    assert "40 of 100 test lists" in live["text"][0]
    json.dumps(figure, allow_nan=False)
    for trace in figure["data"]:
        assert all(t for t, v in zip(trace["text"], trace["x"], strict=True) if v is not None)


def test_the_better_points_of_a_front_are_the_lower_ones() -> None:
    curve = entropy_front(points=2)
    better = np.array([[1.0, 1.0, 1.0], [1.3, 1.3, 1.3]])
    curve = ParetoFront(
        curve.name, curve.method, curve.main, NAMES, curve.weights, 1.0, 0, "test", curve.ndcg, cross_entropy=better,
        metric=CROSS_ENTROPY,
    )  # fmt: skip
    trace = charts_text.entropy_figure([Curve(curve)], None, "upbeat", "vivid", np.array([[1, 1.4]] * 3))["data"][0]
    assert trace["x"][0] == 1.0
    assert trace["marker"]["opacity"][0] == 1.0
    assert trace["marker"]["opacity"][-1] < 1


def test_the_strips_chart_has_a_row_for_each_measured_objective() -> None:
    weights = [(1 - s, s, 0.0) for s in np.linspace(0, 1, 11)]
    scores = [(s, -5 * s, float("nan")) for s in np.linspace(0, 1, 11)]
    figure = charts_text.strip_figure(NAMES, weights, scores, (0.1, -3.0, float("nan")), "upbeat", "concise")
    assert {t["yaxis"] for t in figure["data"]} == {"y", "y2"}
    assert sum(t["name"] == "base model" for t in figure["data"]) == 2
    nothing = charts_text.strip_figure(NAMES, weights, [(float("nan"),) * 3] * 11, None, "upbeat", "concise")
    json.dumps([figure, nothing], allow_nan=False)


def test_the_table_says_what_is_above_chance() -> None:
    curves = [Curve(entropy_front(shift=-0.2)), Curve(entropy_front("base", 1))]
    html = blocks_text.fronts(curves, NAMES, 1.0)
    assert "Base model: chance" in html
    above = curves[0].front.hypervolume - curves[1].front.hypervolume
    assert f"+{above:.4f}" in html


def test_a_ranking_front_is_none_of_this_views_business() -> None:
    assert charts_text.entropy_ranges([Curve(front(3))]).shape == (3, 2)


# Cross-entropy from residuals


def preferences(sizes: tuple[int, ...]) -> Preferences:
    rng = np.random.default_rng(1)
    scores = tuple(rng.normal(size=(n, 2)) for n in sizes)
    scores[0][1:, 1] = np.nan  # one score alone says nothing
    return Preferences(
        tuple(f"p{i}" for i in range(len(sizes))),
        tuple(tuple(f"{i} {j}" for j in range(n)) for i, n in enumerate(sizes)),
        scores,
        (Objective("a", "a"), Objective("b", "b", normalisation="softmax")),
    )


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 4, 3)])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_labels_give_the_packages_losses(sizes: tuple[int, ...], scale: float) -> None:
    part, beta = preferences(sizes), (0.1, 0.3)
    labels = Labels(part, beta)
    residuals = np.random.default_rng(2).normal(size=(2, sum(sizes)))
    found = labels.losses(residuals, scale)
    assert found.shape == (2, 3, 2)
    start = 0
    for i, n in enumerate(sizes):
        delta = torch.tensor(residuals[0, start : start + n] / scale, dtype=torch.float32)[None]
        want = objective_losses(delta, part.targets(i)[None], torch.ones(1, n, dtype=torch.bool), torch.tensor(beta))
        factor = 1.0 if len(set(sizes)) == 1 else np.log(2) / np.log(n)
        known = part.target_distributions()[1][i].numpy()
        assert found[0, i][known] == pytest.approx(want[0].numpy()[known] * factor, abs=1e-5)
        assert np.isnan(found[0, i][~known]).all()
        start += n
    assert np.isnan(found).sum() == 2
    some = np.array([2])
    assert labels.losses(residuals[:, -sizes[2] :], scale, some) == pytest.approx(found[:, some], abs=1e-6)
    untouched = labels.losses(np.zeros((1, sum(sizes))), 1.0)
    assert untouched[np.isfinite(untouched)] == pytest.approx(labels.chance, abs=1e-5)


def test_chosen_examples_come_before_what_was_trained_on(tmp_path: Path) -> None:
    saved = SimpleNamespace(entry=SimpleNamespace(path=tmp_path))
    assert text_store.openings(saved) == text_store.OWN_OPENINGS  # type: ignore[arg-type]
    (tmp_path / "openings.txt").write_text("A cat sat.\n\n", "utf-8")
    assert text_store.openings(saved) == ("A cat sat.",)  # type: ignore[arg-type]
    (tmp_path / "examples.txt").write_text("\n", "utf-8")
    assert text_store.openings(saved) == ("A cat sat.",)  # type: ignore[arg-type]
    (tmp_path / "examples.txt").write_text("A dog ran.\n", "utf-8")
    assert text_store.openings(saved) == ("A dog ran.",)  # type: ignore[arg-type]
