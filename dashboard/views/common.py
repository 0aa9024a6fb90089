"""What several views share: errors as sentences, which run is asked for, notes, the device, choices that outlive their
widgets, and taking charts and tables away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from plotly.basedatatypes import BaseFigure

from dashboard import export, store, ticker, words, words_help
from dashboard.charts import Figure
from dashboard.charts_paper import POINTS, SCREEN, SIZES, Paper
from dashboard.state import Key, quoted
from dashboard.store import Prepared, RunEntry, Saved
from hyperdpo.errors import HyperDPOError

PACK_MS = 500
MOST_STRANGE = 5  # parameters of a foreign address that are named
TABLE_HELP = {
    "CSV": "One row a point, for a spreadsheet: attention, c and every figure.",
    "JSON": "The same rows for a program: attention, c and every figure.",
}
PLOT_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "hyperdpo"},
    "responsive": True,
}


class Ready(BaseFigure):  # type: ignore[misc]
    """A figure that is known to be right: plotly need not copy and validate it at every move of a slider."""

    def __init__(self, figure: Figure) -> None:
        # Not the parent's: it validates. Streamlit asks for nothing but `to_dict`; the template carries its theme.
        self.__dict__["_plain"] = {**figure, "layout": {"template": _template(), **figure["layout"]}}

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = self.__dict__["_plain"]
        return plain


@cache
def _template() -> dict[str, Any]:
    import plotly.io

    template: dict[str, Any] = plotly.io.templates[plotly.io.templates.default].to_plotly_json()
    return template


@contextmanager
def friendly() -> Iterator[None]:
    """Errors as sentences, never as a trace; what was not foreseen is logged in the terminal."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, HyperDPOError):
            logging.getLogger(__name__).exception("the dashboard stumbled")
        for line in words.friendly(error):
            st.error(plain_markdown(line))


def plain_markdown(text: str) -> str:
    """Text that markdown and HTML leave alone."""
    for sign in "\\`*_{}[]<>#|$~:":
        text = text.replace(sign, "\\" + sign)
    return text


def asked_first(entries: Sequence[RunEntry], asked: str | None, what: str) -> tuple[list[RunEntry], list[str]]:
    """The runs in the order they are tried, the one asked for by name or path first, and a note where there is none."""
    if not asked:
        return list(entries), []
    named = next((e for e in entries if e.label == asked), None)
    if named is None and ("/" in asked or "\\" in asked or _exists(asked)):
        named = store.entry_at(asked)
    if named is None:
        return list(entries), [absent(asked, what)]
    return [named, *[e for e in entries if e.path != named.path]], []


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # longer than a file's name may be, or with a sign that none may have
        return False


def absent(label: str, what: str = "run") -> str:
    """Why a view does not show a run of this name: there is none, or it is of the other kind."""
    other = next((e for e in store.list_runs(None) if e.label == label), None)
    if other is None:
        return f"There is no {what} called {quoted(label)} here."
    return store.wrong_kind(other)


def foreign(url: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence on the parameters of an address that a view knows nothing of."""
    strange = [quoted(key) for key in url if key not in known]
    if not strange:
        return []
    return [f"The link says {words.listed(strange[:MOST_STRANGE])}, which this view knows nothing of and leaves out."]


def asked_run(kept_in: Key, url_in: Key) -> str | None:
    """The run that the URL names, where the URL has just been opened or gone back to; else the session's.

    `kept_in` and `url_in` are where a view keeps its run and the address it wrote.
    """
    url = st.query_params.to_dict()
    if url and url != st.session_state.get(url_in) and "run" in url:
        return url["run"]
    kept = st.session_state.get(kept_in)
    return kept if isinstance(kept, str) else None


def default_axes(saved: Saved) -> tuple[str, str]:
    """x and y to begin with: the pair of objectives that the run's own front trades against each other most."""
    names = saved.objectives
    if len(names) < 2:
        return saved.main, names[0]
    own = saved.own
    if own is None or len(own.ndcg) < 3 or np.isnan(own.ndcg).any():
        return names[1], names[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.ptp(own.auxiliary, axis=0)
        pull = np.nan_to_num(-np.corrcoef(own.auxiliary.T), nan=0.0) + 1
    value = [(float(spread[i] * spread[j] * pull[i, j]), i, j) for i in range(len(names)) for j in range(i)]
    _, i, j = max(value)
    return names[i], names[j]


def add_note(*sentences: str) -> None:
    """Sentences that stand above the page until they are dismissed."""
    if sentences:
        kept = st.session_state.setdefault(Key.NOTES, [])
        kept += [s for s in sentences if s not in kept]


def show_notes(place: Any) -> None:
    """The notes in a container, until they are dismissed."""
    notes = st.session_state.get(Key.NOTES, [])
    if not notes:
        return
    with place:
        st.info(plain_markdown("  \n".join(notes)))
        st.button(
            "Dismiss", type="tertiary", help=words_help.DISMISS,
            on_click=lambda: st.session_state.pop(Key.NOTES, None),
        )  # fmt: skip


def write_address(wanted: dict[str, str], url_in: Key) -> None:
    """Put the state into the browser's address, and remember that it is ours."""
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
    st.session_state[url_in] = wanted


def chosen_device() -> str:
    """The device asked for; `auto` until someone chooses, so that the first paint need not ask PyTorch."""
    return str(st.session_state.get(Key.DEVICE, "auto"))


def device_box(job: Prepared[Any]) -> None:
    """Which device computes, how much memory it has, and the choice of another."""
    if job.live is None:
        return
    live, found = job.live, store.devices()
    with st.popover(f"Computed on {'the CPU' if live.device == 'cpu' else live.device}", type="tertiary"):
        st.session_state["device.box"] = live.device if live.device in found else "cpu"

        def changed() -> None:
            st.session_state[Key.DEVICE] = st.session_state["device.box"]

        st.selectbox(
            "Device", list(found), key="device.box", format_func=lambda d: f"{d}: {found[d]}", on_change=changed,
            help="The figures are the same on each; a GPU gives those of large data sooner.",
        )  # fmt: skip
        free = store.cuda_line(live.device)
        if free:
            st.caption(free)
        if len(found) == 1:
            st.caption("No GPU was found that PyTorch can use here.")
    if live.note:
        st.caption(plain_markdown(live.note))


@dataclass(frozen=True, eq=False)
class Take:
    """What can be downloaded: tables and figures by their titles, made when asked for; `name` begins the file names.

    `report` makes the decision on one page, as HTML, its chart on the paper that is chosen; `model` draws what is there
    to take a model away.
    """

    name: str
    title: str
    tables: Mapping[str, Callable[[], list[dict[str, Any]]]]
    figures: Mapping[str, Callable[[], Figure]]
    report: Callable[[Paper], str] | None = None
    model: Callable[[], None] | None = None


def downloads(take: Take, key: str) -> None:
    """A popover with everything that can be taken away; nothing is made before it is open."""
    about = "The points as a table, and the chart as a picture or a page, at the size you need."
    if take.report is not None:
        about = "The points, the chart at the size you need, a one-page report, and this choice as a model."
    with st.popover("Download", width="stretch", on_change="rerun", key=key, help=about) as box:
        if box.open:
            _inside(take, key)


@st.fragment
def _inside(take: Take, key: str) -> None:
    with friendly():
        for title, make in take.tables.items():
            st.caption(title)
            table = make()
            for column, kind, content in zip(
                st.columns(2), ("CSV", "JSON"), (export.points_csv(table), export.points_json(table)), strict=True
            ):
                file = f"{take.name}-{_slug(title)}.{kind.lower()}"
                column.download_button(
                    f"{title}, {kind}", content, file, export.MIME[kind], width="stretch", on_click="ignore",
                    key=f"{key}.{title}.{kind}", help=TABLE_HELP[kind],
                )  # fmt: skip
        which: str = next(iter(take.figures))
        if len(take.figures) > 1:
            picked = st.selectbox(
                "Chart", list(take.figures), key=f"{key}.which", help="Which of this page's charts is taken away."
            )
            which = picked or which
        form = st.segmented_control(
            "The chart as it stands", ["PNG", "SVG", "PDF", "HTML", "Python"], key=f"{key}.kind",
            help="PNG is a picture; SVG and PDF stay sharp at any size; HTML keeps what is shown under the mouse; "
            "Python is a script that draws the chart again, its data inside.",
        )  # fmt: skip
        paper = _paper(key) if form is not None or st.session_state.get(f"{key}.report") is not None else SCREEN
        if form is not None:
            _picture(take, which, form, paper)
        if take.report is not None:
            form = st.segmented_control(
                "The decision on one page", ["HTML", "PDF"], key=f"{key}.report", format_func=lambda f: f"Report, {f}",
                help="What was chosen, what it gives and costs, what else there was, and which commands repeat it.",
            )  # fmt: skip
            if form is not None:
                _report(take, form, paper)
        if take.model is not None:
            take.model()


def _report(take: Take, kind: str, paper: Paper) -> None:
    if kind == "PDF" and not export.has_browser():
        st.info(export.NO_BROWSER)
        return
    assert take.report is not None
    with st.spinner("Writing the report ..."):
        page = take.report(paper)
        content = export.printed(page) if kind == "PDF" else page.encode()
    st.download_button(
        f"Save the report, {kind}", content, f"{take.name}-report.{kind.lower()}", export.MIME[kind], type="primary",
        width="stretch", on_click="ignore", help="Saves the page as it was made for the sliders' present position.",
    )  # fmt: skip


def _paper(key: str) -> Paper:
    """How the chart shall be drawn: for the screen, unless someone chooses."""
    size = st.selectbox(
        "Size", list(SIZES), key=f"{key}.size", format_func=lambda s: SIZES[s].words,
        help="As wide as a column or a page of a paper, without a title because a caption stands below; or a slide.",
    )  # fmt: skip
    least, most = POINTS
    points = st.number_input(
        "Type, in points", least, most, float(SIZES[size].points), 0.5, key=f"{key}.points.{size}", format="%g",
        help="Height of the words on the chart, in points (72 to an inch): 8 is usual in a paper, 18 on a slide.",
    )  # fmt: skip
    left, right = st.columns(2)
    legend = left.checkbox(
        "Legend", value=True, key=f"{key}.legend", help="Whether the chart says which line is whose."
    )
    grey = right.checkbox(
        "Greys only", key=f"{key}.grey", help="For print without colour: markers and dashes tell the methods apart."
    )
    return Paper(size, points, legend, grey)


def _picture(take: Take, which: str, kind: str, paper: Paper) -> None:
    if kind in export.IMAGES and not export.has_browser():
        st.info(export.NO_BROWSER)
        return
    with st.spinner(f"Drawing the {kind} ..."):
        figure, title = take.figures[which](), f"{take.title}: {which[:1].lower()}{which[1:]}"
        file = f"{take.name}-{_slug(which)}.{export.SUFFIX.get(kind, kind.lower())}"
        if kind == "HTML":
            content = export.page(figure, title, paper)
        elif kind == "Python":
            content = export.script(figure, title, file, paper)
        else:
            content = export.picture(figure, title, kind, paper)
    st.download_button(
        f"Save {kind}", content, file, export.MIME[kind], type="primary", width="stretch", on_click="ignore",
        help="Saves the chart as it stands, at the size chosen above.",
    )  # fmt: skip


@st.fragment
def packed(made: Prepared[bytes], key: str, label: str, file: str, kind: str) -> None:
    """A model that a thread makes: what it is doing, then the button that saves it, with its size."""
    made.begin()
    made.wait(0.2)
    if made.failure:
        st.error(plain_markdown(made.failure))
        return
    content = made.live
    if content is None:
        st.caption(f"{words.capital(made.doing)}, {made.seconds:.0f} s ...")
        ticker.show(key, on=True, milliseconds=PACK_MS)
        return
    st.download_button(
        f"{label}, {len(content) / 1e6:.1f} MB", content, file, export.MIME[kind], type="primary", width="stretch",
        on_click="ignore", help="Saves the model at the attention and c that it was made for.",
    )  # fmt: skip


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())[:60].strip("-")


def chosen(
    widget: Callable[..., Any], label: str, key: str, value: Any, keep: Callable[[Any], None], *args: Any, **rest: Any
) -> None:
    """A widget whose value is kept elsewhere: it is told `value`, and `keep` hears every change of it."""
    st.session_state[key] = value

    def changed() -> None:
        # A change may come from a browser that has not yet heard of the address the last run wrote. That older address
        # is no wish to go back, which would undo the change.
        st.session_state[Key.URL], st.session_state[Key.COMPARED_URL] = st.query_params.to_dict(), address()
        keep(st.session_state[key])

    widget(label, *args, key=key, on_change=changed, **rest)


def address() -> dict[str, list[str]]:
    """The address' parameters, repeated ones included."""
    return {k: st.query_params.get_all(k) for k in st.query_params}


def fresh_address(url_in: Key) -> dict[str, list[str]]:
    """The address' parameters where it has just been opened or gone back to; none where a view wrote it itself."""
    url = address()
    return url if url != st.session_state.get(url_in) else {}


def write_lists(wanted: dict[str, list[str]], url_in: Key) -> None:
    """`write_address` of parameters that may be repeated."""
    if address() != wanted:
        st.query_params.from_dict(wanted)
    st.session_state[url_in] = wanted


def many(values: Sequence[str], options: Sequence[str]) -> list[str]:
    """Those of `values` that may be chosen, in the order of `values`."""
    return [v for v in values if v in options]
