"""What the page finds and says of it, without a browser: the same as the package's own answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboard import charts, charts_find, finding, store, words, words_find
from dashboard.readings import Curve
from dashboard.state import Choice
from dashboard.store import LiveRun
from dashboard.views import find
from hyperdpo.errors import ConfigError
from hyperdpo.finding import Limit, Question, knee
from hyperdpo.front import ParetoFront
from hyperdpo.intervals import Interval
from hyperdpo.rank.find import open_finder
from hyperdpo.rank.run import RankRun

QUESTION = Question("clicks", (Limit("relevance", 0.95), Limit("quality", 0.98)))


@pytest.fixture(scope="module")
def live(home: Path) -> LiveRun:
    folder = store.saved(store.RunEntry("small", home / "runs" / "small"))
    return LiveRun(folder, store.find_data(folder.config, None, lambda _: None), "cpu", lambda _: None)


def test_the_page_finds_what_the_package_finds(live: LiveRun, home: Path) -> None:
    run = RankRun(home / "runs" / "small")
    alone = open_finder(run, run.read(live.data)).find(QUESTION, 10)
    found = live.find(QUESTION, 10)
    assert found.answer.spot == alone.answer.spot
    assert [v.probability for v in found.verdicts] == [v.probability for v in alone.verdicts]
    choice = finding.choice_of(found.answer.spot)
    reading = live.reading(choice, 10)
    assert reading.ndcg == pytest.approx(found.answer.told.ndcg, abs=1e-7)
    assert reading.change is not None
    assert [c.low for c in reading.change] == pytest.approx([c.low for c in found.answer.change])
    for i, verdict in zip((0, 2), found.verdicts, strict=True):
        assert reading.base is not None
        assert verdict.told == pytest.approx(reading.ndcg[i] / reading.base[i])
        assert verdict.low == pytest.approx(1 + reading.change[i].low / reading.base[i])


def test_the_nearest_is_nearer_than_any_other_on_the_lists_that_choose(live: LiveRun) -> None:
    finder = live.finder()
    ratio = finder.chosen.base(10).ndcg / finder.told.base(10).ndcg
    spread = np.ptp(np.stack([v[:4] for v in finder.ready(10).known.values()]), axis=0)
    rng = np.random.default_rng(0)
    others = finder.chosen.means(10)(rng.dirichlet(np.ones(3), 200), np.exp(rng.uniform(-2.3, 2.3, 200)))[:, :4]
    for choice in (Choice((70, 20, 10), 0.8), Choice((10, 10, 80), 2.0)):
        there = live.reading(choice, 10).ndcg
        found = finding.nearest_to(live, dict(zip(live.saved.names, there.tolist(), strict=True)))
        weights, scale = np.array([found.weights]), np.array([found.scale])
        got = finder.chosen.means(10)(weights, scale)[:, :4]
        distance = [np.sqrt((((v - there * ratio) / spread) ** 2).sum(1)).min() for v in (got, others)]
        assert distance[0] <= distance[1]
    with pytest.raises(ConfigError, match="no objective 'love'"):
        finding.nearest_to(live, {"love": 0.4})
    with pytest.raises(ConfigError, match="A target is a number"):
        finding.nearest_to(live, {"clicks": float("nan")})


def test_the_fronts_intervals_are_those_the_live_point_has_there(live: LiveRun) -> None:
    curve = live.curves(1.0, 10)[0]
    ends = live.ends(curve, 1.0, 10)
    assert ends is not None
    for p in (0, 3):
        change = live.reading(Choice(words_percent(curve, p)), 10).change
        assert change is not None
        if np.allclose(np.array(words_percent(curve, p)) / 100, curve.front.weights[p]):
            assert ends[0][p] == pytest.approx(
                [n + c.low - c.mean for n, c in zip(curve.front.ndcg[p], change, strict=True)]
            )
            assert ends[1][p] == pytest.approx(
                [n + c.high - c.mean for n, c in zip(curve.front.ndcg[p], change, strict=True)]
            )
    base = next(c for c in live.curves(1.0, 10) if c.front.method == "base")
    assert live.ends(base, 1.0, 10) is None
    assert live.ends(Curve(replace(curve.front, per_query=None)), 1.0, 10) is None


def words_percent(curve: Curve, point: int) -> tuple[int, ...]:
    return tuple(round(100 * w) for w in curve.front.weights[point])


def test_the_knee_is_of_what_is_drawn_and_stands_under_the_live_point(live: LiveRun) -> None:
    extra = finding.extra(live, "quality", "clicks", 1.0, 10, finding.BARS[2])
    edge = live.edge("quality", "clicks", 1.0, 10)
    assert edge is not None
    at = knee(edge[1][:, [2, 1]])
    assert (extra.turn is None) == (at is None)
    turn = finding.Turn(Choice((50, 50, 0), 1.0), edge[1][4])
    reading = live.reading(Choice((40, 30, 30), 1.0), 10)
    figure = charts.front_figure(live.curves(1.0, 10), reading, "quality", "clicks", live.ranges(10), k=10)
    drawn = charts_find.decorated(figure, replace(extra, turn=turn), live.saved.names, "quality", "clicks")
    metas = [t.get("meta") for t in drawn["data"]]
    assert metas[-2:] == ["knee", "live"]
    assert drawn["data"][-2]["x"] == [charts.number(edge[1][4, 2])]
    bars = [t for t in drawn["data"] if str(t.get("meta")).startswith("bars|")]
    assert len(bars) == len(extra.bars) >= 2
    own = extra.bars[0]
    line = finding.on_the_line(own, 2, 1)
    assert bars[0]["y"] == [charts.number(own.curve.front.ndcg[p, 1]) for p in line]
    assert bars[0]["error_y"]["array"] == [charts.number(own.high[p, 1] - own.curve.front.ndcg[p, 1]) for p in line]
    assert [e.words for e in charts.legend(drawn)].count("knee") == 1
    assert "knee" in charts.describe(drawn)
    nothing = charts_find.decorated(figure, finding.Extra(), live.saved.names, "quality", "clicks")
    assert nothing["data"] == figure["data"]
    assert finding.turn_at(live, "clicks", "clicks", 1.0, 10) is None
    assert not finding.extra(live, "relevance", "clicks", 1.0, 10, finding.BARS[0]).bars


def test_an_answer_in_words(live: LiveRun) -> None:
    found = live.find(QUESTION, 10)
    names, base = live.saved.names, [0.8, 0.4, 0.5, 0.6]
    answer = replace(found.answer, change=(Interval(0.04, 0.02, 0.06, 60, 0),) * 4)
    verdict = replace(found.verdicts[0], told=0.991, low=0.987, high=0.995, probability=0.97)
    priced = replace(verdict, gain_told=Interval(0.031, 0.01, 0.05, 60, 0), relaxed=Limit("relevance", 0.94))
    told = replace(found, answer=answer, fits=True, verdicts=(priced,))
    said = words_find.answer(told, names, base, (40, 25, 35))
    c = f"{found.answer.spot.scale:g}"
    assert said == (
        f"Attention of 40 % clicks, 35 % margin and 25 % quality, at c = {c}, gives +10.0 % clicks "
        "(95 %: +5.0 to +15.0 %)."
    )
    assert words_find.limit_sentence(priced) == (
        "Relevance keeps 99.1 % of the base (95 %: 98.7 % to 99.5 %); at least 95 % holds with probability 0.97."
    )
    assert words_find.price(priced, "clicks") == (
        "One percent less of relevance (94 %) would give +3.1 % clicks (95 %: +1.0 to +5.0 %)."
    )
    none = replace(priced, gain_told=Interval(0.001, -0.01, 0.02, 60, 0))
    assert "no measurable difference in all objectives together" in words_find.price(none, "all")
    assert words_find.advice(told) == ""
    lost = replace(told, verdicts=(replace(priced, held=True, probability=0.2),))
    assert "the test lists speak against it" in words_find.advice(lost)
    assert "not seen" in words_find.provenance(told)
    assert (words_find.probability(1.0), words_find.probability(0.0)) == ("above 0.99", "below 0.01")
    missed = replace(told, fits=False, verdicts=(replace(verdict, held=False, chosen=0.9),))
    said = words_find.answer(missed, names, base, (0, 100, 0))
    assert said.startswith("No position of the sliders keeps every limit")
    assert "which misses relevance (90.0 % where 95 % is asked)" in said


def test_whether_two_choices_can_be_told_apart() -> None:
    same, other = words.change(0.01, -0.01, 0.03, 0.5), words.change(0.02, 0.01, 0.03, 0.5)
    names = ("relevance", "clicks", "quality")
    assert "cannot be told apart on these 600 lists" in words_find.apart([same] * 3, names, 600)
    assert "differ measurably in every objective" in words_find.apart([other] * 3, names, 600)
    mixed = words_find.apart([same, other, same], names, 600)
    assert mixed == (
        "A and this choice differ measurably in clicks; in quality and relevance they cannot be told apart."
    )


def test_one_point_and_one_objective_have_no_knee(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    front = ParetoFront(
        "one", "hyperdpo", "relevance", ("clicks",), np.ones((1, 1)), 1.0, 10, "test", np.array([[0.5, 0.4]])
    )
    monkeypatch.setattr(live, "edge", lambda *_: None)
    monkeypatch.setattr(live, "curves", lambda *_: (Curve(front),))
    assert finding.turn_at(live, "relevance", "clicks", 1.0, 10) is None


def test_the_address_says_whose_intervals_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, object] = {}
    monkeypatch.setattr(find.st, "session_state", state)
    assert find.write_bars() == {}
    for index, name in enumerate(finding.BARS):
        find.take_bars({"ci": str(index)})
        assert find.bars() == name
        assert find.write_bars() == ({} if name == find.DRAWN else {"ci": str(index)})
    find.take_bars({"ci": "many"})
    assert "ci='many' is not a number from 0 to 2" in str(list(state.values())[-1])
    find.take_bars({})
    assert find.bars() == find.DRAWN
