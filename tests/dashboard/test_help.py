"""Every control of every view says what it does: read from the source, so that none can be forgotten."""

from __future__ import annotations

import ast
from collections.abc import Set
from pathlib import Path

import pytest

VIEWS = Path(__file__).parents[2] / "dashboard"
WIDGETS = {
    "button", "checkbox", "color_picker", "date_input", "download_button", "file_uploader", "feedback",
    "form_submit_button", "link_button", "multiselect", "number_input", "pills", "radio",
    "segmented_control", "select_slider", "selectbox", "slider", "text_area", "text_input", "toggle",
}  # fmt: skip
WRAPPERS = {"chosen", "_kept", "_choose"}  # draw a widget with the help they are given
SHORTEST = 4  # words that can tell anything


def missing(source: str, wrappers: Set[str] = WRAPPERS) -> list[str]:
    """The controls of a module without help, as `line: what`; a wrapper's call counts as a control."""
    tree = ast.parse(source)
    within = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in wrappers
        for inner in ast.walk(node)
    }
    return [
        f"{node.lineno}: {ast.unparse(node)[:70]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _draws(node, wrappers) and not _helps(node, forwarded=id(node) in within)
    ]


def _draws(call: ast.Call, wrappers: Set[str]) -> bool:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in WIDGETS
    return isinstance(call.func, ast.Name) and call.func.id in wrappers


def _helps(call: ast.Call, *, forwarded: bool) -> bool:
    """Whether there is a help of some words, or whatever a wrapper was given is handed on."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "label_visibility" in given:
        return False  # a hidden label hides its help with it
    said = given.get("help")
    if said is None:
        return forwarded and None in given
    return not isinstance(said, ast.Constant) or len(str(said.value).split()) >= SHORTEST


@pytest.mark.parametrize("file", sorted(VIEWS.rglob("*.py")), ids=lambda f: f.name)
def test_every_control_has_its_help(file: Path) -> None:
    inside = file.parent.name == "views"  # elsewhere the wrappers' names are others'
    assert missing(file.read_text("utf-8"), WRAPPERS if inside else frozenset()) == []


def test_the_reader_of_controls_sees_every_kind() -> None:
    source = """
st.button("A")
left.selectbox("B", [], help="Too short")
st.slider("C", help="This one says enough.")
chosen(st.toggle, "D", "key", True, keep)
_choose("E", [], Key.X, help=HELP)
st.radio("F", [], help="It is hidden with its label.", label_visibility="collapsed")
def _choose(label, **rest):
    st.selectbox(label, **rest)
def other(**rest):
    st.multiselect("G", **rest)
"""
    assert [line.split(":")[0] for line in missing(source)] == ["2", "3", "5", "7", "11"]
