"""The decision on one page: sentences by hand, alternatives nearest in attention, and names that are only text."""

from __future__ import annotations

import numpy as np

from dashboard.readings import Curve, Reading
from dashboard.report import Decision, attention_words, html, verdict_words
from dashboard.state import Choice
from hyperdpo.front import ParetoFront
from hyperdpo.intervals import Interval

NASTY = "<script>x</script>"
NAMES = ("relevance", NASTY, "点击")


def reading(low: float = -0.01) -> Reading:
    change = [Interval(-0.02, -0.03, -0.01, 50, 0), Interval(0.1, 0.05, 0.2, 40, 10), Interval(0.0, low, 0.01, 50, 0)]
    return Reading(
        Choice((30, 70), 2.0), (0.3, 0.7), 10, np.array([0.78, 0.3, 0.4]), np.array([0.8, 0.2, 0.4]), change,
        None, None, None,
    )  # fmt: skip


def front(name: str, method: str, weights: list[list[float]]) -> Curve:
    points = np.array([[0.8, 0.1 + i / 10, 0.5 - i / 10] for i in range(len(weights))])
    return Curve(ParetoFront(name=name, method=method, main="relevance", k=10, weights=np.array(weights), ndcg=points,
                             objectives=NAMES[1:], scale=2.0, split="test", run="r", data="d"))  # fmt: skip


def decision(**changes: object) -> Decision:
    ours = front("HyperDPO", "hyperdpo", [[1.0, 0.0], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.0, 1.0]])
    other = front("DPO-LS", "dpo-ls", [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    given: dict[str, object] = {
        "run": "a & b", "names": NAMES, "reading": reading(), "curves": (ours, other), "price": "One costs two.",
        "skipped": "50 lists.", "pinned": None, "provenance": [("run", "runs/<x>")], "commands": ["hyperdpo info x"],
    }  # fmt: skip
    return Decision(**{**given, **changes})  # type: ignore[arg-type]


def test_the_sentences_say_what_the_figures_say() -> None:
    assert attention_words((0.3, 0.7), ("a", "b")) == "70 % b, 30 % a"
    assert attention_words((0.0, 1.0), ("a", "b")) == "100 % b"
    said = verdict_words(reading(), ("relevance", "clicks", "margin"))
    assert (
        said == "Against the base: better clicks +50.0 %; worse relevance −2.5 %; no measurable difference in margin."
    )
    assert "no measurable" not in verdict_words(reading(0.001), ("relevance", "clicks", "margin"))


def test_alternatives_are_the_points_nearest_in_attention() -> None:
    page = html(decision())
    rows = [row for row in page.split("<tr>") if "HyperDPO</td>" in row or "DPO-LS</td>" in row]
    assert [row.count("70 % 点击") for row in rows] == [1, 0, 0, 0]
    assert "80 % 点击, 20 %" in rows[1]
    assert "50 %" in rows[3]


def test_names_are_text_and_a_missing_chart_leaves_the_rest() -> None:
    page = html(decision(chart='<?xml version="1.0"?><svg id="chart"></svg>', pinned=reading()))
    assert "<script" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "a &amp; b" in page
    assert "runs/&lt;x&gt;" in page
    assert '<svg id="chart">' in page
    assert "<?xml" not in page
    assert "<th scope=col>A</th>" in page
    assert "<svg" not in html(decision())
