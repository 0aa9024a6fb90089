"""The figures, words and tables of Compare and Temperature, without Streamlit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard import blocks_compare, charts, charts_compare, charts_temperature, comparing, export, words
from dashboard.readings import Entrant, Judged
from dashboard.state import (
    Comparing,
    read_comparing,
    read_own,
    write_comparing,
    write_own,
)
from dashboard.store import RunEntry, Saved
from hyperdpo.comparison import Contribution, Stretches, stretches
from hyperdpo.front import ParetoFront
from hyperdpo.intervals import Interval

NASTY = "<img src=x onerror=alert(1)>"


def front(method: str = "hyperdpo", m: int = 3, points: int = 5, seed: int = 0, **more: Any) -> ParetoFront:
    rng = np.random.default_rng(seed)
    points = 1 if method == "base" else points
    weights = np.zeros((1, 0)) if method == "base" else rng.dirichlet([1.0] * m, points)
    fields = {"beta": (1.0,) * m, "data": "d" * 64, "run": "one", "scale": 1.0, "k": 10, "split": "test"} | more
    names = fields.pop("objectives", tuple(f"o{j}" for j in range(m)))
    return ParetoFront(
        fields.pop("name", method), method, fields.pop("main", "relevance"), names, weights,
        ndcg=rng.uniform(0.2, 0.8, (points, 1 + m)), **fields,
    )  # fmt: skip


def run(label: str, *fronts: ParetoFront, method: str = "hyperdpo", data: str = "shop") -> Saved:
    first = fronts[0] if fronts else front()
    config = {"main": first.main, "objectives": list(first.objectives), "method": {"method": method},
              "data": {"name": data}}  # fmt: skip
    return Saved(RunEntry(label, Path(label)), config, fronts, (0,))


def judged(entrant: Entrant, half: float = 0.02) -> Judged:
    values, volume = entrant.front.ndcg, entrant.hypervolume
    return Judged(values - half, values + half, Interval(volume, volume * 0.9, volume * 1.2, 40, 0))


@pytest.fixture
def everyone() -> tuple[Entrant, ...]:
    own, other = (
        front(models=1, parameters=9, seconds=4.0, name="Ours"),
        front(seed=1, run="two", name="Ours", models=1),
    )
    ls = front("dpo-ls", seed=2, models=11, seconds=40.0, run="one-ls", name="DPO-LS")
    base = front("base", seed=3, name="Base")
    found, refused = comparing.admit([run("one", own, base, ls), run("two", replace(other, seconds=9.0), base)])
    assert not refused
    return found


# --- who is admitted --------------------------------------------------------------------------------------------------


def test_a_front_held_by_two_runs_stands_once_and_equal_names_are_told_apart(everyone: tuple[Entrant, ...]) -> None:
    assert [e.front.name for e in everyone] == ["Ours, one", "DPO-LS", "Ours, two", "Base"]
    assert [e.key for e in everyone] == ["one: Ours", "one-ls: DPO-LS", "two: Ours", "one: Base"]
    assert [e.nth for e in everyone] == [0, 0, 1, 0]
    assert [e.trained for e in everyone] == [True, True, True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 5}, "another cut-off (NDCG@5, not NDCG@10)"),
        ({"split": "train"}, "another split of the data (train, not test)"),
        ({"scale": 2.0}, "another temperature scale (c = 2, not 1)"),
        ({"beta": (0.5,) * 3}, "another training temperature (beta 0.5, not 1)"),
        ({"beta": (1.0, 1.0, 2.0)}, "beta 1, 1 and 2, not 1"),
        ({"data": "e" * 64}, "other data (films, not shop)"),
        ({"main": "stars"}, "another main objective (stars, not relevance)"),
        ({"objectives": ("o0", "o1", "price")}, "other objectives (o0, o1 and price, not o0, o1 and o2)"),
    ],
)
def test_every_difference_refuses_a_run_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    other = run("two", front(seed=5, **changes), data="films" if "data" in changes else "shop")
    found, refused = comparing.admit([run("one", front()), other])
    assert len(found) == 1
    assert len(refused) == 1
    assert refused[0].startswith("two is left out, because it has ")
    assert said in refused[0]
    assert refused[0].count("than one.") == 1
    assert ("hyperdpo evaluate" in refused[0]) == bool({"k", "split", "scale"} & set(changes))


def test_all_differences_are_in_one_sentence_and_data_of_one_name_are_told_apart() -> None:
    other = run("two", front(seed=5, k=5, data="e" * 64))
    (said,) = comparing.admit([run("one", front()), other])[1]
    assert "shop with other lists or labels, not the same" in said
    assert "NDCG@5" in said
    assert "hyperdpo evaluate" not in said, "measuring again does not make the data the same"


def test_a_run_without_a_front_is_said_to_be_unmeasured_and_the_next_sets_the_terms() -> None:
    found, refused = comparing.admit([run("empty"), run("one", front())])
    assert [e.run for e in found] == ["one"]
    assert "empty is left out, because it has not been measured" in refused[0]


# --- figures ----------------------------------------------------------------------------------------------------------


def overlay(everyone: tuple[Entrant, ...], **more: Any) -> charts.Figure:
    names = ("relevance", "o0", "o1", "o2")
    return charts_compare.overlay_figure(everyone, names, "o0", "o1", comparing.spans(everyone), **more)


def test_every_point_of_every_front_is_drawn_in_its_methods_colour(everyone: tuple[Entrant, ...]) -> None:
    data = overlay(everyone)["data"]
    assert [t["meta"] for t in data] == [f"front|{e.key}" for e in reversed(everyone)], (
        "the first is drawn last, on top"
    )
    for entrant, trace in zip(reversed(everyone), data, strict=True):
        assert sorted(x for x in trace["x"] if x is not None) == pytest.approx(
            sorted(entrant.front.ndcg[:, 1]), abs=1e-6
        )
        assert trace["line"]["color"] == charts.LOOKS[entrant.front.method].colour
    styles = {(t["line"]["color"], t["marker"]["symbol"], t["line"]["dash"]) for t in data}
    assert len(styles) == len(data), "two runs of one method differ in marker and dash"


def test_looks_of_one_method_differ_but_in_colour() -> None:
    for method in (*charts.LOOKS, "something-new"):
        looks = [charts.look(method, n) for n in range(4)]
        assert len({x.colour for x in looks}) == 1
        assert len({(x.symbol, x.dash) for x in looks}) == 4


def test_crosses_stand_at_undominated_points_only(everyone: tuple[Entrant, ...]) -> None:
    own = everyone[0]
    trace = overlay(everyone, judged={own.key: judged(own)})["data"][-1]
    order, faded = charts.plane_order(own.front.ndcg[:, [1, 2]])
    assert faded, "the example should have a dominated point"
    assert trace["error_x"]["array"] == pytest.approx([0.02] * len(order) + [0.0] * (2 * len(faded)))
    assert "95 %:" in trace["text"][0]
    assert "error_x" not in overlay(everyone)["data"][-1]


def test_the_strip_shows_each_stretch_in_its_owners_colour_and_hatches_what_is_not_sure(
    everyone: tuple[Entrant, ...],
) -> None:
    methods = everyone[:2]
    owned = Stretches(np.array([0.1, 0.2, 0.3, 0.6]), np.array([0, 0, 1]), np.array([1.0, 0.5, 0.99]))
    figure = overlay(everyone, owned=(owned, methods))
    bars = [t for t in figure["data"] if t["type"] == "bar"]
    assert [t["meta"] for t in bars] == ["owner|one: Ours|sure", "owner|one: Ours|close", "owner|one-ls: DPO-LS|sure"]
    assert [t["base"][0] for t in bars] == pytest.approx([0.1, 0.2, 0.3])
    assert [t["x"][0] for t in bars] == pytest.approx([0.1, 0.1, 0.3])
    assert [t["marker"]["pattern"]["shape"] for t in bars] == ["", "/", ""]
    assert bars[2]["marker"]["color"] == charts.LOOKS["dpo-ls"].colour
    assert figure["layout"]["yaxis2"]["domain"][1] < figure["layout"]["yaxis"]["domain"][0]
    assert len(charts.legend(figure)) == len(everyone), "the strip is not in the legend"


def test_cost_is_seconds_against_hypervolume_and_the_untrained_is_a_level(everyone: tuple[Entrant, ...]) -> None:
    figure = charts_compare.cost_figure(everyone, {e.key: judged(e) for e in everyone})
    found = {t["meta"]: t for t in figure["data"]}
    for entrant in everyone[:3]:
        trace = found[f"cost|{entrant.key}"]
        assert (trace["x"], trace["y"]) == ([entrant.front.seconds], [pytest.approx(entrant.hypervolume)])
        assert trace["error_y"]["array"] == pytest.approx([0.2 * entrant.hypervolume])
        assert trace["error_y"]["arrayminus"] == pytest.approx([0.1 * entrant.hypervolume])
    base = found["level|one: Base"]
    assert base["y"] == [pytest.approx(everyone[3].hypervolume)] * 3
    low, high = (10**v for v in figure["layout"]["xaxis"]["range"])
    assert low < 4 < 40 < high
    assert base["x"][0] == pytest.approx(low)
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert dict(zip(figure["layout"]["xaxis"]["tickvals"], figure["layout"]["xaxis"]["ticktext"], strict=True)) == {
        3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min",
    }  # fmt: skip


def test_parallel_lines_run_over_every_objective_with_the_main_one_last(everyone: tuple[Entrant, ...]) -> None:
    spans = comparing.spans(everyone)
    figure = charts_compare.parallel_figure(everyone, ("relevance", "o0", "o1", "o2"), spans)
    trace = figure["data"][-1]
    assert trace["x"][:5] == [0, 1, 2, 3, None]
    scaled = (everyone[0].front.ndcg - spans[:, 0]) / np.ptp(spans, axis=1)
    assert trace["y"][:4] == pytest.approx(scaled[0, [1, 2, 3, 0]], abs=1e-5)
    assert len(trace["x"]) == 5 * len(everyone[0].front.ndcg)
    assert figure["layout"]["xaxis"]["ticktext"] == ["o0", "o1", "o2", "relevance"]
    ends = [n["text"] for n in figure["layout"]["annotations"] if n["x"] == 3]
    assert ends == [f"{spans[0, 1]:.2f}", f"{spans[0, 0]:.2f}"]


@pytest.mark.parametrize("m", [3, 4, 5])
def test_every_pair_of_objectives_has_one_small_chart_with_its_own_axes(m: int) -> None:
    (entrant,), _ = comparing.admit([run("one", front(m=m))])
    names = ("relevance", *(f"o{j}" for j in range(m)))
    figure = charts_compare.pairs_figure([entrant], names, comparing.spans([entrant]))
    pairs = set()
    for trace in figure["data"]:
        _, _, x, y = trace["meta"].split("|")
        pairs.add(frozenset((x, y)))
        for letter, name in (("x", x), ("y", y)):
            there = figure["layout"][f"{letter}axis{trace[f'{letter}axis'][1:]}"]
            assert there["title"]["text"] == name
            shown = [v for v in trace[letter] if v is not None]
            assert sorted(shown) == pytest.approx(sorted(entrant.front.ndcg[:, names.index(name)]), abs=1e-6)
    assert len(pairs) == len(figure["data"]) == m * (m - 1) // 2
    assert len(charts.legend(figure)) >= 1


def test_the_triangle_shows_every_mix_and_rings_the_best() -> None:
    weights = np.array([[1.0, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5]])
    figure = charts_compare.triangle_figure(weights, np.array([0.3, np.nan, 0.7]), ("a", "b", NASTY), "b", "Ours", 10)
    dots, ring, corners = figure["data"]
    assert (dots["a"], dots["b"], dots["c"]) == ([1, 0, 0.2], [0, 1, 0.3], [0, 0, 0.5])
    assert dots["marker"]["color"] == [0.3, None, 0.7]
    assert (ring["a"], ring["b"], ring["c"]) == ([0.2], [0.3], [0.5])
    assert corners["text"][:2] == ["only a", "only b"]
    assert "<img" not in json.dumps(figure)


def test_nothing_from_data_becomes_markup() -> None:
    everyone, _ = comparing.admit([run(NASTY, front(name=NASTY, objectives=(NASTY, "b", "c"), seconds=2.0))])
    names, spans = ("relevance", NASTY, "b", "c"), comparing.spans(everyone)
    made = [
        charts_compare.overlay_figure(
            everyone, names, NASTY, "b", spans, judged={everyone[0].key: judged(everyone[0])}
        ),
        charts_compare.cost_figure(everyone),
        charts_compare.parallel_figure(everyone, names, spans),
    ]
    for figure in made:
        shown = [{k: v for k, v in t.items() if k != "meta"} for t in figure["data"]]
        assert "<img" not in json.dumps([shown, figure["layout"]])
    assert "<img" not in blocks_compare.comparison_table(everyone, {}, everyone[0])


def test_figures_survive_plotlys_own_check_and_export_on_white(everyone: tuple[Entrant, ...]) -> None:
    import plotly.graph_objects as go

    names, spans = ("relevance", "o0", "o1", "o2"), comparing.spans(everyone)
    planes = [e.front.ndcg[:, [1, 2]] for e in everyone[:3]]
    family = [front(scale=c, seed=int(4 * c)) for c in (0.5, 1.0, 2.0)]
    sweep = charts_temperature.sweep_of(family)
    made = [
        overlay(everyone, judged={e.key: judged(e) for e in everyone}, owned=(stretches(planes), everyone[:3])),
        charts_compare.cost_figure(everyone, {e.key: judged(e) for e in everyone}),
        charts_compare.parallel_figure(everyone, names, spans),
        charts_compare.pairs_figure(everyone, names, spans),
        charts_compare.triangle_figure(everyone[0].front.weights, np.arange(5.0), names[1:], "o0", "Ours", 10),
        charts_temperature.family_figure(family, family[1], everyone[3].front, names, "o0", "o1", spans, own=family[0]),
        charts_temperature.sweep_figure(sweep, family[1], everyone[3].front, own=family[0]),
    ]
    for figure in made:
        go.Figure(charts.for_export(figure, "title"))
        go.Figure(figure)
        assert b"<html" in export.page(figure, "title")[:200]


# --- temperature ------------------------------------------------------------------------------------------------------


def test_the_family_is_coloured_in_order_of_c_and_the_sliders_front_lies_on_top() -> None:
    family = [front(scale=c, seed=int(100 * c)) for c in (0.25, 1.0, 10.0)]
    live = front(scale=0.7, seed=9)
    figure = charts_temperature.family_figure(
        family, live, front("base"), ("relevance", "o0", "o1", "o2"), "o0", "o1", np.array([[0.0, 1.0]] * 4)
    )
    metas = [t["meta"] for t in figure["data"]]
    assert metas == ["base", "c|10", "c|1", "c|0.25", "live"]
    by = {t["meta"]: t for t in figure["data"]}
    assert by["c|0.25"]["line"]["color"] == charts.SEQUENTIAL[-1]
    assert by["c|10"]["line"]["color"] == charts.SEQUENTIAL[0]
    assert by["live"]["line"]["color"] == charts.LOOKS["hyperdpo"].colour
    assert by["live"]["line"]["width"] > by["c|1"]["line"]["width"]
    assert [[t for t in by[m]["text"] if t] for m in metas[1:4]] == [["10"], ["1"], ["0.25"]]
    order, _ = charts.plane_order(live.ndcg[:, [1, 2]])
    assert by["live"]["x"] == pytest.approx(live.ndcg[order, 1], abs=1e-6)


def test_the_sequential_scale_grows_lighter_step_by_step() -> None:
    light = [
        sum(int(c[s : s + 2], 16) * f for s, f in ((1, 0.2126), (3, 0.7152), (5, 0.0722))) for c in charts.SEQUENTIAL
    ]
    assert light == sorted(light)
    assert charts_temperature.scale_colour(1.0, 0.1, 10.0) == charts.SEQUENTIAL[len(charts.SEQUENTIAL) // 2]
    assert charts_temperature.scale_colour(99.0, 0.1, 10.0) == charts.SEQUENTIAL[0]


def test_the_sweep_is_mean_range_and_hypervolume_of_each_front() -> None:
    family = [front(scale=c, seed=int(100 * c)) for c in (0.25, 1.0, 10.0)]
    sweep = charts_temperature.sweep_of(family)
    figure = charts_temperature.sweep_figure(sweep, family[1], front("base"), own=replace(family[0], name="own"))
    by = {t["meta"]: t for t in figure["data"]}
    assert by["main"]["y"] == pytest.approx([f.main_mean for f in family], abs=1e-6)
    assert by["volume"]["y"] == pytest.approx([f.hypervolume for f in family], abs=1e-6)
    assert by["band"]["y"][:3] == pytest.approx([f.ndcg[:, 0].max() for f in family], abs=1e-6)
    assert by["band"]["y"][:2:-1] == pytest.approx([f.ndcg[:, 0].min() for f in family], abs=1e-6)
    assert (by["live|y"]["x"], by["live|y2"]["y"]) == ([1.0], [pytest.approx(family[1].hypervolume, abs=1e-6)])
    assert by["own|y2"]["y"] == [pytest.approx(family[0].hypervolume, abs=1e-6)]


# --- words and tables -------------------------------------------------------------------------------------------------


def test_a_verdict_needs_the_interval_to_leave_zero() -> None:
    assert words.verdict(Interval(0.1, 0.01, 0.2, 9, 0)) == "better"
    assert words.verdict(Interval(-0.1, -0.2, -0.01, 9, 0)) == "worse"
    assert words.verdict(Interval(0.1, -0.01, 0.2, 9, 0)) == words.SAME
    assert words.verdict(Interval(0.1, math.nan, math.nan, 9, 0)) == "cannot be told"


def test_the_answer_says_more_less_or_no_measurable_difference_and_the_cost(everyone: tuple[Entrant, ...]) -> None:
    ours, ls = everyone[:2]
    volume = ls.hypervolume
    said = words.versus_sentence(ours, ls, Interval(0.1 * volume, 0.02 * volume, 0.2 * volume, 9, 0))
    assert "covers 10.0 % more of the trade-off space than DPO-LS (95 %: +2.0 to +20.0 %)" in said
    assert said.endswith("with 1 model against 11 and 10 % of the training time.")
    assert "less of the trade-off space" in words.versus_sentence(ours, ls, Interval(-0.1, -0.2, -0.05, 9, 0))
    assert "no measurable difference" in words.versus_sentence(ours, ls, Interval(0.1, -0.2, 0.3, 9, 0))
    assert "cannot be told apart" in words.versus_sentence(ours, ls, None)


def test_owners_in_words(everyone: tuple[Entrant, ...]) -> None:
    edges, owner = np.array([0.0, 0.25, 1.0]), np.array([1, 0])
    said = words.owner_sentence(Stretches(edges, owner, np.array([0.5, 1.0])), everyone[:2], "o0", "o1")
    assert "Ours, one leads on 75 % and DPO-LS leads on 25 % of the way" in said
    assert "measurable on 75 % of it" in said
    unsure = words.owner_sentence(Stretches(edges, owner, np.array([0.5, 0.6])), everyone[:2], "o0", "o1")
    assert "nowhere is the lead measurable" in unsure
    alone = words.owner_sentence(Stretches(edges, np.array([1, 1]), np.array([1.0, 1.0])), everyone[:2], "o0", "o1")
    assert alone == "DPO-LS gives the most o1 at every level of o0, measurably so all along."


def test_contributions_and_cost_in_words(everyone: tuple[Entrant, ...]) -> None:
    found = [Contribution(3, 5, 0.12), Contribution(4, 5, 0.02)]
    said = words.contribution_sentence(everyone[:2], found, 3)
    assert "3 of Ours, one's 5 and 4 of DPO-LS's 5 points are beaten by no other" in said
    assert "12.0 % without Ours, one and 2.0 % without DPO-LS" in said
    volumes = [e.hypervolume for e in everyone[:2]]
    cost = words.cost_sentence(everyone[:2])
    if volumes[0] >= volumes[1]:
        assert "both the cheapest" in cost
    else:
        assert f"reaches {100 * volumes[0] / volumes[1]:.0f} % of DPO-LS's" in cost
        assert "trains 10.0 times as long" in cost


def test_the_table_says_who_is_better_and_what_cannot_be_told(everyone: tuple[Entrant, ...]) -> None:
    ls = everyone[1]
    better = replace(judged(everyone[0]), against=Interval(0.1, 0.05, 0.2, 9, 0))
    html = blocks_compare.comparison_table(everyone, {everyone[0].key: better, ls.key: judged(ls)}, ls)
    assert "better than DPO-LS?" in html
    rows = {e.key: html.split(f'data-front="{e.key}"')[1].split("</tr>")[0] for e in everyone}
    assert "▲" in rows["one: Ours"]
    assert f'{words.volume(everyone[0].hypervolume)} <span class="hx-nowrap">(' in rows["one: Ours"]
    assert "the yardstick" in rows["one-ls: DPO-LS"]
    assert ">11<" in rows["one-ls: DPO-LS"]
    assert "40 s" in rows["one-ls: DPO-LS"]
    assert "cannot be told" in rows["two: Ours"]
    unknown = blocks_compare.comparison_table(everyone, {everyone[0].key: judged(everyone[0])}, ls)
    assert "cannot be told" in unknown.split(f'data-front="{everyone[0].key}"')[1].split("</tr>")[0]


def test_rows_for_csv_and_json_are_plain_and_say_nothing_where_there_is_nothing(everyone: tuple[Entrant, ...]) -> None:
    ls = everyone[1]
    worse = replace(judged(everyone[0]), against=Interval(-0.1, -0.2, -0.05, 9, 0))
    added = {everyone[0].key: Contribution(3, 5, 0.25)}
    rows = comparing.rows(everyone, {everyone[0].key: worse}, added, ls.key)
    first, second = rows[:2]
    assert (first["verdict"], first["difference.high"], first["compared_with"]) == ("worse", -0.05, "DPO-LS")
    assert (first["points_on_joint_front"], first["exclusive_share"]) == (3, 0.25)
    assert (second["hypervolume.low"], second["verdict"]) == (None, "")
    assert json.loads(export.points_json(rows))[0]["hypervolume"] == pytest.approx(everyone[0].hypervolume)


def test_temperature_in_words() -> None:
    trained, base = front(seed=1), front("base", seed=2)
    bold = replace(trained, scale=0.5, ndcg=trained.ndcg * np.array([0.5, 1.1, 1.1, 1.1]))
    said = words.temperature_sentence(bold, trained, base, Interval(-0.1, -0.2, -0.05, 9, 0))
    assert "At c = 0.5, bolder than trained" in said
    assert f"keeps {100 * bold.main_mean / base.main_mean:.0f} % of the base's relevance" in said
    assert "33.1 % more of the trade-off space than as trained" in said
    near = words.temperature_sentence(replace(bold, scale=3.0), trained, base, Interval(-0.1, -0.2, 0.05, 9, 0))
    assert "closer to the base than trained" in near
    assert words.SAME in near
    assert "as trained" in words.temperature_sentence(trained, trained, base, None)
    own = words.own_sentence(bold, trained, trained.objectives, (1.0, 2.0, 0.5), None)
    assert "own temperatures (o1 2 and o2 0.5)" in own


# --- state ------------------------------------------------------------------------------------------------------------


def test_the_address_of_a_comparison_restores_it() -> None:
    shown = Comparing(("a", "b/c, d"), ("a: Base",), "x", "y", "a: LS", "triangle", False, "z", "a: Ours")
    assert read_comparing(write_comparing(shown)) == (shown, ())
    assert read_comparing(write_comparing(Comparing())) == (Comparing(), ())


def test_a_foreign_address_is_a_sentence() -> None:
    shown, notes = read_comparing({"view": ["cube"], "ci": ["maybe"], "runs": ["a", "a"], "other": ["1"]})
    assert shown == Comparing(runs=("a",))
    assert "view='cube' is none of plane" in notes[0]
    assert "ci='maybe'" in notes[1]


def test_the_sliders_stops_are_even_steps_and_hold_the_familys_values_and_the_present_one() -> None:
    from dashboard.views.temperature import FAMILY, stops

    found = stops(0.3)
    assert {0.1, 0.3, *FAMILY} <= set(found)
    assert found == sorted(set(found))
    ratios = np.array(found[1:]) / np.array(found[:-1])
    assert ratios.min() > 1.012
    assert ratios.max() < 1.08
    assert 0.501 not in found


def test_own_temperatures_in_the_address() -> None:
    assert read_own(write_own((1.0, 0.5, 2.0))["own"], 3) == ((1.0, 0.5, 2.0), ())
    assert write_own(None) == {}
    assert read_own(None, 3) == (None, ())
    assert read_own("1,99,0.001", 3)[0] == (1.0, 10.0, 0.1)
    for wrong in ("1,2", "1,x,2", "1,-1,2", "nan,1,1"):
        found, notes = read_own(wrong, 3)
        assert found is None
        assert "is not 3 numbers above 0" in notes[0]
