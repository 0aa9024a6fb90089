"""Two answers with their differences marked."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from dashboard import words_text
from dashboard.blocks_text import answers
from dashboard.marks import difference, marked
from dashboard.text_store import Ask, by_scale
from hyperdpo.text.generate import Sampling

SHORT = st.text("ab c.<&\n", max_size=30)


def test_words_that_differ_are_struck_and_underlined() -> None:
    assert marked("The cat was sad.", "The cat was very glad.") == (
        'The cat was <del class="hx-gone">sad</del>.',
        'The cat was <ins class="hx-new">very glad</ins>.',
    )
    assert marked("", "new") == ("", '<ins class="hx-new">new</ins>')
    assert marked("old", "") == ('<del class="hx-gone">old</del>', "")


@given(SHORT, SHORT)
def test_both_texts_are_all_there_and_marks_hold_what_only_one_has(before: str, after: str) -> None:
    left, right = marked(before, after)
    without = [unescape(re.sub(r"</?(?:ins|del)[^>]*>", "", html)) for html in (left, right)]
    assert without == [words_text.visible(before), words_text.visible(after)]
    assert not re.search(r"<(?!/?(?:ins|del)\b)", left + right), "a text became a tag"
    same = [re.sub(r"<(ins|del)[^>]*>.*?</\1>", "", html, flags=re.DOTALL) for html in (left, right)]
    assert same[0] == same[1]
    assert ("<del" in left or "<ins" in right) == (before != after)


def test_marks_take_the_place_of_the_first_texts_only() -> None:
    rows = [(h, "now same", "stop", (), False) for h in ("B", "A", "Base model")]
    html = answers("p", rows, (), (), ("<ins>now</ins>", "<del>then</del>"))
    assert html.index("<ins>now</ins>") < html.index("<del>then</del>") < html.index("now same")
    assert html.count("now same") == 1


def test_the_measured_difference_is_said_where_both_are_measured() -> None:
    names, measures = ("upbeat", "concise", "odd"), (("", ""), ("", "-words"), ("", ""))
    nan = float("nan")
    told = difference("B against A", (0.5, -10.0, nan), (0.25, -8.0, 1.0), names, measures)
    assert "B against A: upbeat −0.25 (0.50 → 0.25), concise +2.00 (10.0 words → 8.0 words)" in told
    assert "odd" not in told
    assert difference("B against A", (), (0.1,), names[:1], measures[:1]) == ""


def test_answers_at_one_c_are_written_together() -> None:
    drawn = Sampling(8, 0.8, 0.95, 0)
    b, a, base = Ask("p", drawn, (1.0, 0.0), 2.0), Ask("p", drawn, (0.0, 1.0), 1.0), Ask("p", drawn)
    assert by_scale([b, a, base]) == [[b, base], [a]]
    assert by_scale([a, base]) == [[a, base]]
    assert by_scale([base]) == [[base]]
