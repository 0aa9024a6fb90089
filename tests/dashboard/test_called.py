"""Objectives by the names people read, with the better direction where it is not more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dashboard import blocks, charts, store
from dashboard.state import equal_choice
from dashboard.words import called


def test_names_are_read_as_words_and_less_is_said_where_it_is_better() -> None:
    assert called("review_score") == "review score"
    assert called("price", less=True) == "price (less is better)"
    assert called("clicks") == "clicks"


def test_a_run_says_so_of_its_objectives_in_chart_and_figures(home: Path) -> None:
    saved = store.saved(store.entry_at(str(home / "runs" / "small")))
    assert list(saved.called) == list(saved.called.values()) == list(saved.names)
    objectives = [
        {**o, "direction": "min" if o["name"] == "margin" else "max"} for o in saved.config["task"]["objectives"]
    ]
    cheap = replace(saved, config={**saved.config, "task": {**saved.config["task"], "objectives": objectives}})
    assert cheap.called["margin"] == "margin (less is better)"
    assert cheap.called["clicks"] == "clicks"
    reading, ranges = store.saved_reading(cheap, equal_choice(3)), store.saved_ranges(cheap)
    assert reading is not None
    figure = charts.front_figure(
        store.saved_curves(cheap), reading, "margin", "clicks", ranges, k=10, names=cheap.names
    )
    drawn = charts.worded(figure, cheap.called)["layout"]
    assert drawn["xaxis"]["title"]["text"] == "margin (less is better), NDCG@10 →"
    assert drawn["yaxis"] == figure["layout"]["yaxis"]
    assert np.array_equal(drawn["xaxis"]["range"], figure["layout"]["xaxis"]["range"])
    table = blocks.figures_table(reading, cheap.names, None, "", called=cheap.called)
    assert 'data-objective="margin"' in table
    assert "margin (less is better)" in table
