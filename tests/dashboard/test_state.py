"""The URL, the panel's messages, and the store, without a browser."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard import panel, store
from dashboard.state import Choice, equal_choice, next_scales, read_url, whole_percent, write_url
from dashboard.store import LiveRun, Saved
from hyperdpo.errors import DataError, RunError
from hyperdpo.rank.data import open_data
from hyperdpo.rank.live import LiveModel
from hyperdpo.rank.run import RankRun

NAMES = ("clicks", "quality", "margin")
APP = str(Path(store.__file__).parent / "app.py")


def saved_run(home: Path, name: str) -> Saved:
    return store.saved(store.RunEntry(name, home / "runs" / name))


@pytest.fixture(scope="module")
def live(home: Path) -> LiveRun:
    folder = saved_run(home, "small")
    return LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cpu", lambda _: None)


# The URL


def test_the_url_says_everything_and_reads_back() -> None:
    choice, pin = Choice((40, 25, 35), 1.26), Choice((0, 100, 0), 0.1)
    pin_b = Choice((34, 33, 33), 2.0)
    url = write_url("small", choice, pin=pin, x="margin", y="relevance", k=20, query=7, pin_b=pin_b, only="lost")
    wanted = read_url(url, "relevance", NAMES)
    assert (wanted.choice, wanted.pin, wanted.x, wanted.y) == (choice, pin, "margin", "relevance")
    assert (wanted.pin_b, wanted.query, wanted.only) == (pin_b, 7, "lost")
    assert (wanted.k, wanted.query, wanted.notes) == (20, 7, ())


@pytest.mark.parametrize(
    "url",
    [
        {"w": "1,2"}, {"w": "a,b,c"}, {"w": "-1,50,51"}, {"w": "0,0,0"}, {"w": "nan,1,1"}, {"w": "inf,1,1"}, {"w": ""},
        {"c": "0"}, {"c": "-3"}, {"c": "x"}, {"c": "nan"}, {"c": "1e9"}, {"x": "<b>"}, {"y": "?"}, {"k": "0"},
        {"k": "ten"}, {"k": "9" * 50}, {"q": "-1"}, {"a": "junk"}, {"a": "1,2,3@0"}, {"w": "9" * 10_000},
    ],
)  # fmt: skip
def test_foreign_parameters_become_a_sentence(url: dict[str, str]) -> None:
    wanted = read_url(url, "relevance", NAMES)
    assert len(wanted.notes) == 1
    assert wanted.notes[0].endswith(".")
    assert len(wanted.notes[0]) < 600
    assert wanted.pin is None
    assert sum(wanted.choice.percent if wanted.choice else (100,)) == 100


def test_missing_parameters_say_nothing() -> None:
    assert read_url({}, "relevance", NAMES) == read_url({"run": "x", "utm": "1"}, "relevance", NAMES)
    assert read_url({"c": "2"}, "relevance", NAMES).choice == Choice(equal_choice(3).percent, 2.0)


def test_the_next_steps_of_c_are_those_of_the_slider() -> None:
    assert next_scales(1.0) == (0.955, 1.05)
    assert next_scales(10.0) == (9.55,)
    assert next_scales(0.1) == (0.105,)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 7])
def test_percentages_are_whole_and_sum_to_100(m: int) -> None:
    assert sum(equal_choice(m).percent) == 100
    assert whole_percent([1.0] + [0.0] * (m - 1))[0] == 100


# The panel


def message(**change: object) -> dict[str, object]:
    return {"percent": [50, 30, 20], "scale": 2.0, "locked": [True, False, False], "seq": 4, "epoch": 1} | change


def test_a_move_of_the_panel_becomes_the_state() -> None:
    before = panel.PanelState(equal_choice(3), epoch=1)
    after = panel.heard(before, message())
    assert (after.choice, after.locked, after.ack) == (Choice((50, 30, 20), 2.0), (0,), 4)


@pytest.mark.parametrize(
    "foreign",
    [None, "x", message(epoch=0), message(percent=[1, 2]), message(percent=["a", 1, 2]), message(percent=[0, 0, 0]),
     message(scale=0), message(scale="2"), message(scale=float("nan")), message(percent=[-1, 51, 50])],
)  # fmt: skip
def test_a_foreign_message_changes_nothing(foreign: object) -> None:
    before = panel.PanelState(equal_choice(3), epoch=1)
    assert panel.heard(before, foreign) == before


def test_pinning_twice_unpins() -> None:
    once = panel.pressed(panel.PanelState(equal_choice(3)), panel.PINNED)
    assert once.pin == equal_choice(3)
    assert panel.pressed(once, panel.PINNED).pin is None
    assert panel.pressed(once, "something else") == once


def test_b_is_pinned_beside_a_only_and_swaps_with_it() -> None:
    start = panel.PanelState(equal_choice(3))
    assert panel.pressed(start, panel.PINNED_B) == start
    assert panel.pressed(start, panel.SWAPPED) == start
    other = Choice((100, 0, 0), 2.0)
    both = panel.pressed(replace(panel.pressed(start, panel.PINNED), choice=other), panel.PINNED_B)
    assert (both.pin, both.pin_b) == (equal_choice(3), other)
    swapped = panel.pressed(both, panel.SWAPPED)
    assert (swapped.pin, swapped.pin_b) == (other, equal_choice(3))
    assert panel.pressed(both, panel.PINNED).pin == other, "without A, B is A"
    assert panel.pressed(both, panel.PINNED).pin_b is None
    cleared = panel.pressed(both, panel.CLEARED)
    assert (cleared.pin, cleared.pin_b, cleared.choice) == (None, None, other)


# The store


def test_live_figures_are_those_of_the_package(live: LiveRun, home: Path) -> None:
    run = RankRun(home / "runs" / "small")
    data = run.read(open_data(home / "data"))
    table, features = run.table(data.lists("test"))
    model = LiveModel(run.rankers[0], table, features)
    for choice in (Choice((50, 30, 20), 1.0), Choice((0, 100, 0), 0.3)):
        point, shown = model.point(choice.weights, scale=choice.scale, k=5), live.reading(choice, 5)
        np.testing.assert_allclose(shown.ndcg, point.ndcg, atol=1e-6)
        np.testing.assert_allclose(shown.cross_entropy, point.cross_entropy, atol=1e-5)


def test_at_the_saved_terms_the_curves_are_the_saved_fronts(live: LiveRun) -> None:
    curves = {c.front.name: c for c in live.curves(1.0, live.saved.k)}
    for front in live.saved.fronts:
        np.testing.assert_allclose(curves[front.name].front.ndcg, front.ndcg, atol=1e-4, err_msg=front.name)
        assert not curves[front.name].fixed


def test_baselines_with_residuals_move_with_c_and_others_say_that_they_do_not(live: LiveRun) -> None:
    bolder = {c.front.method: c for c in live.curves(0.3, live.saved.k)}
    saved = {f.method: f for f in live.saved.fronts}
    assert np.abs(bolder["dpo-ls"].front.ndcg - saved["dpo-ls"].ndcg).max() > 1e-3
    plain = Saved(
        live.saved.entry,
        live.saved.config,
        tuple(f.with_arrays(f.per_query, None) for f in live.saved.fronts),
        live.saved.stamp,
    )
    still = LiveRun(plain, live.data, "cpu", lambda _: None)
    curve = next(c for c in still.curves(0.3, plain.k) if c.front.method == "dpo-ls")
    assert curve.fixed == "c = 1"
    np.testing.assert_allclose(curve.front.ndcg, saved["dpo-ls"].ndcg)
    assert "DPO-LS" in still.left_out(5)
    assert "dpo-ls" not in {c.front.method for c in still.curves(1.0, 5)}


def test_the_axes_hold_the_fronts_at_every_c(live: LiveRun) -> None:
    ranges = live.ranges(10)
    for scale in (0.1, 0.7, 1.0, 3.3, 10.0):
        for curve in live.curves(scale, 10):
            slack = 0.05 * (ranges[:, 1] - ranges[:, 0])
            assert (curve.front.ndcg >= ranges[:, 0] - slack).all()
            assert (curve.front.ndcg <= ranges[:, 1] + slack).all()


def test_a_run_of_many_models_says_which_it_shows(home: Path) -> None:
    folder = saved_run(home, "small-ls")
    found = LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cpu", lambda _: None)
    reading = found.reading(Choice((34, 33, 33)), 10)
    assert "4 models, one per weight" in reading.note
    assert found.reading(Choice((100, 0, 0)), 10).note == ""
    assert found.trade("clicks", "quality", Choice((50, 50, 0)), 10) is None


def test_the_base_alone_is_what_c_grows_towards(live: LiveRun) -> None:
    far = live.reading(Choice((100, 0, 0), 10.0), 10)
    near = live.reading(Choice((100, 0, 0), 0.1), 10)
    assert far.base is not None
    assert np.abs(far.ndcg - far.base).max() < np.abs(near.ndcg - far.base).max()


def test_the_sample_list_is_ordered_by_the_scores(live: LiveRun) -> None:
    shown = live.changed_list(0, None, Choice((0, 0, 100), 0.1), 10)
    assert [i.before for i in shown.left] == list(range(1, len(shown.left) + 1))
    assert [i.after for i in shown.right] == list(range(1, len(shown.right) + 1))
    assert {i.title for i in shown.left} != {f"item {i}" for i in range(1, 21)}
    assert shown.left[0].price.startswith("$")
    assert len(shown.left) == len(shown.right) == min(20, shown.size)


def test_when_cuda_memory_runs_out_the_cpu_takes_over_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_run(home, "small")
    build = LiveRun._build

    def small_gpu(self: LiveRun, lists: object, device: str) -> None:
        if device.startswith("cuda"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        build(self, lists, device)

    monkeypatch.setattr(LiveRun, "_build", small_gpu)
    found = LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cuda:0", lambda _: None)
    assert found.device == "cpu"
    assert "memory of cuda:0 ran out" in found.note


def test_when_cuda_memory_runs_out_later_the_figure_is_computed_again(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, failed = LiveRun._measure, []

    def once(self: LiveRun, *rest: object) -> object:
        if not failed:
            failed.append(True)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return measure(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "device", "cuda:0")
    monkeypatch.setattr(LiveRun, "_measure", once)
    assert np.isfinite(live.reading(Choice((91, 9, 0), 1.7), 10).ndcg).all()
    assert live.device == "cpu"
    assert "ran out" in live.note


def test_a_run_whose_data_is_nowhere_says_so(home: Path) -> None:
    with pytest.raises(DataError, match=r"is not at /nowhere/at/all"):
        store.find_data(saved_run(home, "orphan").config, None, lambda _: None)
    with pytest.raises(DataError, match=r"nothing at /not/here"):
        store.find_data(saved_run(home, "orphan").config, "/not/here", lambda _: None)
    assert store.find_data(saved_run(home, "orphan").config, str(home / "data"), lambda _: None).n_queries == 60


def test_a_damaged_run_is_refused_with_its_message(home: Path) -> None:
    with pytest.raises(RunError, match=r"front\.json"):
        saved_run(home, "broken")


def test_the_saved_fronts_alone_give_a_reading(home: Path) -> None:
    folder = saved_run(home, "orphan")
    reading = store.saved_reading(folder, Choice((90, 5, 5)))
    assert reading is not None
    assert reading.weights == (1.0, 0.0, 0.0)
    assert reading.change is not None
    assert "nearest saved point" in reading.note


def test_the_first_chart_needs_no_torch(home: Path) -> None:
    """Loading PyTorch takes a second or more, in which nothing would be on the screen."""
    code = """
import sys
from pathlib import Path
from dashboard import blocks, charts, store
from dashboard.state import equal_choice
from dashboard.views import explore, runs
folder = store.saved(store.RunEntry("small", Path(sys.argv[1])))
reading = store.saved_reading(folder, equal_choice(3))
curves = store.saved_curves(folder)
charts.front_figure(curves, reading, "clicks", "margin", store.saved_ranges(folder), k=10)
blocks.fronts_table(curves, reading, 1.0, 10)
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(home / "runs" / "small")]
    root = Path(store.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_kept_is_bounded() -> None:
    kept = store.Kept(3)
    for i in range(9):
        kept.get(i, lambda i=i: i * i)  # type: ignore[misc]
    assert len(kept._values) == 3
    assert kept.get(8, lambda: -1) == 64


# The app without a browser: it runs, and what is wrong is a sentence


@pytest.mark.parametrize("query", [{}, {"run": "small"}, {"run": "nonsense"}, {"run": "broken"}, {"w": "x", "c": "-1"}])
def test_the_app_never_raises(home: Path, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr(store, "ROOT", home)
    app = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    assert not app.error
    said = " ".join(i.value for i in app.info)
    if query.get("run") in ("nonsense", "broken"):
        assert query["run"] in said
        assert "Shown instead" in said
    if "w" in query:
        assert "not 3 percentages" in said


def test_nothing_to_show_is_an_invitation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert not app.exception
    assert any("hyperdpo train rank" in m.value for m in app.markdown)
