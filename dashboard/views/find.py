"""Find it for me: a goal and limits answered with a position of the sliders; the knee; the nearest to a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from dashboard import blocks, finding, panel, words, words_find
from dashboard.finding import BARS
from dashboard.readings import Reading
from dashboard.state import Choice, Key, quoted, read_question, write_question
from dashboard.store import Job, LiveRun, Saved
from dashboard.views.common import add_note, chosen, friendly, write_address

if TYPE_CHECKING:
    from hyperdpo.finding import Question
    from hyperdpo.rank.find import Found

DRAWN = BARS[1]
BARS_HELP = (
    "Thin crosses: 95 % intervals of the change from the base, by bootstrap over the test lists. The live point always "
    "has its own."
)
TITLE = "Find it for me"
MOST_LIMIT, LIMIT_STEP = 1000.0, 0.5  # percent of the base
FIRST_LIMIT = 99.0
SURE = 0.95  # the probability that a margin asks for
FIND_HELP = (
    "Searches attention and c on the validation lists, moves the sliders there, and tells of it on the test lists."
)
A_ROW = 4  # limits beside each other


@dataclass(frozen=True)
class Asked:
    """What is asked for in a run.

    Attributes:
        run: its label.
        goal: an objective, the main one, or finding.ALL.
        limits: names and percent of the base.
        margin: whether a limit is to hold with the probability SURE.
    """

    run: str
    goal: str
    limits: tuple[tuple[str, float], ...]
    margin: bool = False

    def question(self) -> Question:
        """As the solver takes it."""
        from hyperdpo.finding import Limit, Question

        limits = tuple(Limit(name, round(percent / 100, 9)) for name, percent in self.limits)
        return Question(self.goal, limits, SURE if self.margin else 0.5)


@dataclass(frozen=True, eq=False)
class Answered:
    """What came of a question: of which run, where the sliders went, and what the page says of it."""

    run: str
    k: int
    choice: Choice
    found: Found | None
    said: str = ""


def show(saved: Saved, job: Job, url: Callable[[], dict[str, str]]) -> None:
    """The folded block; nothing is loaded or measured before it is opened. `url` is the address of the page's state."""
    box = st.expander(TITLE, key="find.box", on_change="rerun")
    if box.open:
        with box:
            _inside(saved, job, url)


@st.fragment
def _inside(saved: Saved, job: Job, url: Callable[[], dict[str, str]]) -> None:
    with friendly():
        live = job.live
        if live is None:
            st.caption("This needs the model and its data, which are being made ready: see the line under the chart.")
            return
        live.prepare_finding(st.session_state[Key.K])
        _question(saved, live)
        answered = st.session_state.get(Key.FOUND)
        if answered is not None and answered.run == saved.entry.label and answered.k == st.session_state[Key.K]:
            _answer(saved, live, answered)
        _targets(saved, live)
        if st.session_state.get(Key.URL) is not None:
            write_address(url(), Key.URL)


def _asked(saved: Saved) -> Asked:
    kept = st.session_state.get(Key.ASKED)
    if isinstance(kept, Asked) and kept.run == saved.entry.label:
        return kept
    return Asked(saved.entry.label, saved.objectives[0], ((saved.main, FIRST_LIMIT),))


def _keep(asked: Asked) -> None:
    st.session_state[Key.ASKED] = asked


def _question(saved: Saved, live: LiveRun) -> None:
    """The goal, the limits and the button."""
    from hyperdpo.finding import ALL

    asked = _asked(saved)
    goals = [*saved.objectives, *([ALL] if len(saved.objectives) > 1 else []), saved.main]
    goal, which, margin = st.columns([1.3, 2.4, 1.1], vertical_alignment="bottom")
    with goal:
        chosen(
            st.selectbox, "As much as possible of", "find.goal", asked.goal, lambda v: _keep(replace(asked, goal=v)),
            goals, format_func=lambda g: saved.called.get(g, words_find.goal_words(g)),
            help="What shall rise as far as the limits allow. All together: their mean change, in percent.",
        )  # fmt: skip
    with which:
        chosen(
            st.multiselect, "Keep at least", "find.which", [n for n, _ in asked.limits],
            lambda v: _keep(replace(asked, limits=_limits(asked, v))), list(saved.names),
            format_func=saved.called.__getitem__, placeholder="nothing has to be kept",
            help="Objectives that must not fall below a share of what the base gives; each gets a field for its share.",
        )  # fmt: skip
    with margin:
        chosen(
            st.checkbox, "with a margin", "find.margin", asked.margin, lambda v: _keep(replace(asked, margin=v)),
            help=f"Ask for so much more that each limit should hold on other lists with probability {SURE:g}.",
        )  # fmt: skip
    cells = [
        column
        for _ in range(0, len(asked.limits) + 1, A_ROW)
        for column in st.columns(A_ROW, vertical_alignment="bottom")
    ]
    for cell, (name, percent) in zip(cells, asked.limits, strict=False):
        with cell:
            chosen(
                st.number_input, f"{saved.called[name]}, % of base", f"find.limit.{saved.names.index(name)}", percent,
                _setter(asked, name), 0.0, MOST_LIMIT, step=LIMIT_STEP, format="%.1f",
                help=f"100 is what the base gives; {FIRST_LIMIT:g} lets one percent go, 102 asks for 2 % more.",
            )  # fmt: skip
    with cells[len(asked.limits)]:
        pressed = st.button("Find", type="primary", key="find.go", width="stretch", help=FIND_HELP)
    if pressed:
        _solve(saved, live, asked)


def _setter(asked: Asked, name: str) -> Callable[[float | None], None]:
    def keep(value: float | None) -> None:
        if value is not None:
            _keep(replace(asked, limits=tuple((n, value if n == name else p) for n, p in asked.limits)))

    return keep


def _limits(asked: Asked, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The limits on `names`: as they were, new ones at what is usual."""
    before = dict(asked.limits)
    return tuple((n, before.get(n, FIRST_LIMIT)) for n in names)


def _solve(saved: Saved, live: LiveRun, asked: Asked) -> None:
    k = st.session_state[Key.K]
    _keep(asked)
    with st.spinner("Searching the validation lists ..."):
        found = live.find(asked.question(), k)
    _go(Answered(saved.entry.label, k, finding.choice_of(found.answer.spot), found))


def _go(answered: Answered) -> None:
    """Move the sliders to an answer and draw the page anew."""
    st.session_state[Key.FOUND] = answered
    panel.set_choice(answered.choice, st.session_state.get(Key.PIN))
    st.rerun()


def _answer(saved: Saved, live: LiveRun, answered: Answered) -> None:
    """The answer in words, and a way back to it once the sliders have moved on."""
    found = answered.found
    if found is None:
        st.html(_paragraphs(answered.said, []))
    else:
        base = live.finder().told.base(answered.k).ndcg
        first = words_find.answer(found, saved.names, base.tolist(), answered.choice.percent)
        rest = [words_find.limit_sentence(v) for v in found.verdicts]
        rest += [words_find.price(v, found.question.goal) for v in found.verdicts]
        st.html(_paragraphs(first, [*rest, words_find.advice(found), words_find.provenance(found)]))
    if st.session_state[Key.CHOICE] != answered.choice and st.button(
        "Go there again", key="find.again", help="Put the sliders back where this answer stands."
    ):  # fmt: skip
        _go(answered)


def _paragraphs(first: str, rest: Sequence[str]) -> str:
    return f'<div class="hx-found" role="status">{blocks.price_line(first, 0, [r for r in rest if r])}</div>'


def _targets(saved: Saved, live: LiveRun) -> None:
    """The nearest to two values on the axes, and the knee: the chart's own answers, by keyboard."""
    s = st.session_state
    x, y, k = s[Key.X], s[Key.Y], s[Key.K]
    st.caption("Or name a place on the chart")
    now = live.reading(s[Key.CHOICE], k).ndcg
    names = [y] if x == y else [y, x]
    target: dict[str, float | None] = {}
    across = st.columns([1, 1, 1, 1.2], vertical_alignment="bottom")
    for column, name in zip(across, names, strict=False):
        value = float(now[saved.names.index(name)])
        with column:
            target[name] = st.number_input(
                f"{saved.called[name]}, NDCG@{k}", 0.0, 1.0, round(value, 3), 0.005, format="%.3f",
                key=f"find.at.{saved.names.index(name)}.{k}.{saved.entry.label}.{s[Key.CHOICE].to_text()}",
                help="The value you would like, 0 to 1, higher is better. It begins where the sliders stand.",
            )  # fmt: skip
    with across[2]:
        if st.button(
            "Go to the nearest", key="find.near", width="stretch",
            help="Moves attention and c to where the model comes nearest to these values.",
        ):  # fmt: skip
            go_near(saved, live, {n: v for n, v in target.items() if v is not None})
    turn = finding.turn_at(live, x, y, s[Key.CHOICE].scale, k)
    with across[3]:
        if st.button(
            "Go to the knee", key="find.knee", width="stretch", disabled=turn is None,
            help="Where the front in this plane turns most, at this c." if turn else "This front has no clear turn.",
        ) and turn is not None:  # fmt: skip
            _go(Answered(saved.entry.label, k, turn.choice, None, _knee_words(saved, turn, x, y)))


def _knee_words(saved: Saved, turn: finding.Turn, x: str, y: str) -> str:
    at = words_find.attention(saved.objectives, turn.choice.percent)
    return (
        f"The knee between {x} and {y} at c = {turn.choice.scale:g}: {at}. Beyond it, a little more of either costs "
        "much of the other."
    )


def go_near(saved: Saved, live: LiveRun, target: Mapping[str, float]) -> None:
    """Move the sliders to the point nearest to NDCG values, and say what came of it."""
    k = st.session_state[Key.K]
    with st.spinner("Searching the validation lists ..."):
        choice = finding.nearest_to(live, target, k)
        told = live.reading(choice, k).ndcg
    got = {name: float(told[saved.names.index(name)]) for name in target}
    _go(Answered(saved.entry.label, k, choice, None, words_find.nearest_words(dict(target), got)))


# ---------------------------------------------------------------------------------------------------------------------
# Trust: whose intervals are drawn, and whether two choices can be told apart


def write_asked(run: str) -> dict[str, str]:
    """The URL's parameters of the question asked of this run; nothing before there is one."""
    kept = st.session_state.get(Key.ASKED)
    if not isinstance(kept, Asked) or kept.run != run:
        return {}
    return write_question(kept.goal, kept.limits, margin=kept.margin)


def take_asked(url: Mapping[str, str], saved: Saved) -> None:
    """Adopt the question that a URL asks; without one it is as for the first time."""
    from hyperdpo.finding import ALL

    st.session_state.pop(Key.ASKED, None)
    goals = [*saved.objectives, saved.main, *([ALL] if len(saved.objectives) > 1 else [])]
    found, notes = read_question(url, goals, saved.names, MOST_LIMIT)
    add_note(*notes)
    if found is not None:
        goal, limits, margin = found
        _keep(Asked(saved.entry.label, goal, limits, margin))


def bars() -> str:
    """Whose intervals the chart draws."""
    return str(st.session_state.get(Key.BARS, DRAWN))


def write_bars() -> dict[str, str]:
    """The URL's parameter of the intervals drawn; nothing where it is as usual."""
    return {} if bars() == DRAWN else {"ci": str(BARS.index(bars()))}


def take_bars(url: Mapping[str, str]) -> None:
    """Adopt what a URL says of the intervals."""
    said = url.get("ci", str(BARS.index(DRAWN)))
    if said in map(str, range(len(BARS))):
        st.session_state[Key.BARS] = BARS[int(said)]
        return
    add_note(f"The link's ci={quoted(said)} is not a number from 0 to {len(BARS) - 1}; {DRAWN} has its intervals.")


def apart(reading: Reading | None, against_a: Sequence[words.Change] | None, names: Sequence[str]) -> str:
    """HTML of the sentence on A and the live point; nothing where nothing is pinned."""
    if against_a is None or reading is None or reading.per_query is None:
        return ""
    said = words_find.apart(against_a, names, len(reading.per_query))
    return f'<p class="hx-small hx-apart">{escape(said)}</p>'
