"""The sketch behind the preview, and what a click on the chart finds; worked by hand and against slow versions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dashboard import aiming, preview
from dashboard.state import Choice

SCALES = np.array(preview.SCALES)


def made(m: int) -> tuple[preview.Sketch, Any]:
    """A sketch of figures that are a polynomial of the sketch's own degree, and those figures."""

    def figures(weights: np.ndarray, scale: float) -> np.ndarray:
        bend = weights[:, 0] ** 2 - weights[:, 0] * weights[:, -1]
        return np.stack([bend, weights[:, 0] + np.log(scale), weights[:, -1] * np.log(scale)], axis=1)

    return preview.fit(np.stack([figures(preview.nodes(m), c) for c in SCALES]), m), figures


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 12])
def test_a_polynomial_in_w_that_is_linear_in_log_c_is_given_back(m: int) -> None:
    sketch, figures = made(m)
    assert len(preview.nodes(m)) <= preview.MOST_POINTS
    mixes = np.random.default_rng(0).dirichlet(np.ones(m), 20)
    for scale in (0.1, 0.25, 1.0, 7.3, 10.0):
        np.testing.assert_allclose(sketch.at(mixes, scale), figures(mixes, scale), atol=1e-9)
    np.testing.assert_allclose(sketch.at(mixes, 50.0), figures(mixes, 10.0), atol=1e-9)


def test_lattices_hold_every_point_once_and_the_corners() -> None:
    found = {tuple(row) for row in preview.lattice(3, 4).tolist()}
    assert found == {(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)}
    assert [preview.degree(m) for m in (1, 3, 5, 6, 7, 20)] == [4, 4, 4, 4, 3, 1]


def test_the_browser_gets_two_figures_or_nothing() -> None:
    sketch, _ = made(3)
    plain = sketch.plain(0, 2)
    assert plain is not None
    assert (np.shape(plain["x"]), np.shape(plain["y"])) == ((9, 15), (9, 15))
    sketch.coefficients[3, 0, 2] = np.nan
    assert sketch.plain(0, 2) is None
    assert sketch.plain(0, 1) is not None


def test_a_click_goes_to_the_nearest_mix_and_of_equals_to_the_one_near_the_sliders() -> None:
    sketch, figures = made(3)
    ranges = np.array([[-1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    target = figures(np.array([[0.6, 0.3, 0.1]]), 1.0)[0]
    best = preview.candidates(sketch, (0, 1), (target[0], target[1]), ranges, (0.6, 0.2, 0.2), 1.0)
    assert best[0] == (60, 30, 10)
    # Figure 1 alone leaves the other two weights free: they stay as they stand to each other.
    free = preview.candidates(sketch, (1, 1), (0.5, 0.5), ranges, (0.5, 0.1, 0.4), 1.0)
    assert free[0] == (50, 10, 40)


class FakeLive:
    """A live run whose figures are the sketch's, but for one mix that is measured to be elsewhere."""

    def __init__(self, sketch: preview.Sketch, wrong: tuple[int, ...]) -> None:
        self.sketch, self.wrong, self.saved = sketch, wrong, SimpleNamespace(names=("main", "a", "b"))

    def ranges(self, k: int) -> np.ndarray:
        return np.array([[-1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])

    def reading(self, choice: Choice, k: int) -> Any:
        far = 5.0 if choice.percent == self.wrong else 0.0
        return SimpleNamespace(ndcg=self.sketch.at(np.array([choice.weights]), choice.scale)[0] + far)


def test_what_is_chosen_is_nearest_as_measured_not_as_sketched() -> None:
    sketch, figures = made(3)
    main, a, _ = figures(np.array([[0.6, 0.3, 0.1]]), 1.0)[0]
    now = Choice((10, 10, 80))
    live: Any = FakeLive(sketch, (0, 0, 0))
    assert aiming.nearest_mix(live, sketch, {"main": main, "a": a}, now, 10) == Choice((60, 30, 10))
    live = FakeLive(sketch, (60, 30, 10))
    found = aiming.nearest_mix(live, sketch, {"main": main, "a": a}, now, 10)
    assert found != Choice((60, 30, 10))
    assert abs(found.percent[0] - 60) <= 2


@pytest.mark.parametrize(
    "message", [None, "x", {}, {"x": 1, "y": 2, "axes": ["b", "a"]}, {"x": "1", "y": 2, "axes": ["a", "b"]},
                {"x": float("nan"), "y": 2, "axes": ["a", "b"]}],
)  # fmt: skip
def test_foreign_clicks_are_not_heard(message: Any) -> None:
    assert aiming.read_aim(message, "a", "b") is None
    assert aiming.read_aim({"x": 1, "y": 2.5, "axes": ["a", "b"]}, "a", "b") == (1.0, 2.5)


def test_the_sketch_of_a_trained_run_lies_near_what_is_measured(home: Path) -> None:
    from dashboard import store

    folder = store.saved(store.entry_at(str(home / "runs" / "small")))
    live = store.LiveRun(folder, store.find_data(folder.config, str(home / "data"), lambda _: None), "cpu", print)
    sketch = store.sketch(live, folder.k, wait=True)
    assert sketch is not None
    assert store.sketch(live, folder.k) is sketch
    size, errors = np.ptp(live.ranges(folder.k), axis=1), []
    for percent, scale in (((40, 35, 25), 1.0), ((10, 70, 20), 0.4), ((90, 5, 5), 2.5), ((0, 45, 55), 6.0)):
        exact = live.reading(Choice(percent, scale), folder.k).ndcg
        errors.append(np.abs(sketch.at(np.array([percent]) / 100, scale)[0] - exact) / size)
    assert np.mean(errors) < 0.05
    corner = live.reading(Choice((0, 100, 0), 1.8), folder.k).ndcg
    np.testing.assert_allclose(sketch.at(np.array([[0, 1.0, 0]]), 1.8)[0], corner, atol=1e-6)
