"""What several views share: choices that outlive their widgets, and taking charts and tables away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import export
from dashboard.charts import Figure
from dashboard.state import Key
from dashboard.views.explore import friendly


@dataclass(frozen=True, eq=False)
class Take:
    """What can be downloaded: tables and figures by their titles, made when asked for; `name` begins the file names."""

    name: str
    title: str
    tables: Mapping[str, Callable[[], list[dict[str, Any]]]]
    figures: Mapping[str, Callable[[], Figure]]


def downloads(take: Take, key: str) -> None:
    """A popover with everything that can be taken away; nothing is made before it is open."""
    with st.popover("Download", width="stretch", on_change="rerun", key=key) as box:
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
                    key=f"{key}.{title}.{kind}",
                )  # fmt: skip
        st.caption("The chart as it stands")
        which: str = next(iter(take.figures))
        if len(take.figures) > 1:
            picked = st.selectbox("Chart", list(take.figures), key=f"{key}.which", label_visibility="collapsed")
            which = picked or which
        form = st.segmented_control(
            "Format", ["PNG", "SVG", "PDF", "HTML"], key=f"{key}.kind", label_visibility="collapsed"
        )
        if form is not None:
            _picture(take, which, form)


def _picture(take: Take, which: str, kind: str) -> None:
    if kind in export.IMAGES and not export.has_browser():
        st.info(export.NO_BROWSER)
        return
    with st.spinner(f"Drawing the {kind} ..."):
        figure, title = take.figures[which](), f"{take.title}: {which[:1].lower()}{which[1:]}"
        content = export.page(figure, title) if kind == "HTML" else export.picture(figure, title, kind)
    st.download_button(
        f"Save {kind}", content, f"{take.name}-{_slug(which)}.{kind.lower()}", export.MIME[kind], type="primary",
        width="stretch", on_click="ignore",
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


def many(values: Sequence[str], options: Sequence[str]) -> list[str]:
    """Those of `values` that may be chosen, in the order of `values`."""
    return [v for v in values if v in options]
