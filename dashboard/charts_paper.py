"""Pure: a chart made ready to be printed or shown: its size in inches, its type in points, its colours or greys.

Plotly counts in CSS pixels, 96 to an inch, which is also how a PDF or an SVG of it is printed. Source: issue 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dashboard.charts import EXPORT_PAPER, Figure, channels, for_export

PIXELS_PER_INCH, PIXELS_PER_POINT = 96, 96 / 72
PRINT_DPI = 300
DARKEST, LIGHTEST = 0.0, 0.62  # greys of marks, 1 is white: lighter ones fade on paper
WHITE = EXPORT_PAPER.lower()
COLOUR = re.compile(r"#[0-9a-fA-F]{6}|rgba?\([\d., ]+\)")


@dataclass(frozen=True)
class Size:
    """Where a chart goes: `inches` wide and high, `points` of its type, and how thick its marks are drawn."""

    words: str
    inches: tuple[float, float]
    points: float
    marks: float
    titled: bool
    dpi: int = PRINT_DPI

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = (round(PIXELS_PER_INCH * v) for v in self.inches)
        return width, height


SIZES = {
    "screen": Size("Screen", (1000 / 96, 640 / 96), 10.5, 1.0, True, 192),
    "column": Size("One column, 3.4 in", (3.4, 3.6), 8, 0.62, False),
    "page": Size("Two columns, 7 in", (7.0, 4.2), 9, 0.8, False),
    "slide": Size("Slide, 16:9", (13.333, 7.5), 18, 1.6, True, 144),
}
POINTS = (5.0, 32.0)  # the least and the most that may be asked for


@dataclass(frozen=True)
class Paper:
    """How a chart is to be taken away.

    Attributes:
        size: a key of SIZES.
        points: size of the type; the size's own by default.
        legend: whether there is one.
        grey: greys alone; markers and dashes tell the methods apart.
    """

    size: str = "screen"
    points: float | None = None
    legend: bool = True
    grey: bool = False

    @property
    def target(self) -> Size:
        return SIZES[self.size]


SCREEN = Paper()


def on_paper(figure: Figure, title: str, paper: Paper = SCREEN) -> Figure:
    """The chart on white paper; a title stands on it where it is not printed above a caption."""
    target = paper.target
    width, height = target.pixels
    drawn = for_export(figure, title, width=width, height=height)
    type_size = round(PIXELS_PER_POINT * (paper.points or target.points), 1)
    layout, data = drawn["layout"], drawn["data"]
    if target.marks != 1:
        data = [_scaled(trace, target.marks) for trace in data]
        layout = layout | {k: _scaled(v, target.marks) for k, v in layout.items() if k in ("annotations", "shapes")}
    layout = {name: _typed(value, type_size) if _is_axis(name) else value for name, value in layout.items()}
    layout |= {"font": {**layout["font"], "size": type_size}, "showlegend": paper.legend}
    layout["margin"] = _margin(target, type_size, legend=paper.legend)
    if target.titled:
        layout["title"] = {**layout["title"], "font": {"size": round(1.15 * type_size, 1)}}
    else:
        del layout["title"]
    whole: Figure = {"data": data, "layout": layout}
    return _recoloured(whole, _grey) if paper.grey else whole


def _is_axis(name: str) -> bool:
    return name.startswith(("xaxis", "yaxis"))


def _margin(target: Size, type_size: float, *, legend: bool) -> dict[str, Any]:
    """Room for ticks and axis titles; a legend or a title above the plot takes its own."""
    lines = (3.4 if target.titled else 0.6) + (4.4 if legend and target.titled else 0.0)
    return {"l": 4.6 * type_size, "r": 1.6 * type_size, "t": lines * type_size, "b": 4 * type_size, "autoexpand": True}


def _typed(axis: dict[str, Any], type_size: float) -> dict[str, Any]:
    """An axis whose words have the chart's size."""
    title = {**axis.get("title", {})} if isinstance(axis.get("title"), dict) else {}
    title["font"] = {**title.get("font", {}), "size": type_size}
    title["standoff"] = round(0.6 * type_size, 1)
    return {**axis, "title": title, "tickfont": {**axis.get("tickfont", {}), "size": round(0.9 * type_size, 1)}}


def _scaled(value: Any, by: float, key: str = "") -> Any:
    """Marks drawn `by` times as large: sizes, widths and thicknesses, wherever they stand."""
    if isinstance(value, dict):
        return {k: _scaled(v, by, k) for k, v in value.items()}
    if key in ("size", "width", "thickness", "standoff"):
        if isinstance(value, list):
            return [_scaled(v, by, key) for v in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * by, 2)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_scaled(v, by) for v in value]
    return value


def _recoloured(value: Any, change: Callable[[str], str]) -> Any:
    """The figure with every colour in it changed; texts that are not a colour alone stay."""
    if isinstance(value, dict):
        return {k: v if k in ("text", "name", "customdata") else _recoloured(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_recoloured(v, change) for v in value]
    return change(value) if isinstance(value, str) and COLOUR.fullmatch(value) else value


def _grey(colour: str) -> str:
    """The grey of the same lightness, dark enough for paper; white stays, and how much shows through."""
    if colour.lower() == WHITE:
        return colour
    if colour.startswith("#"):
        red, green, blue, opacity = *(float(v) for v in channels(colour)), ""
    else:
        red, green, blue, *rest = (float(v) for v in colour[colour.index("(") + 1 : -1].split(","))
        opacity = f",{rest[0]:g}" if rest else ""
    light = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    level = round(255 * min(max(light, DARKEST), LIGHTEST))
    return f"rgb{'a' if opacity else ''}({level},{level},{level}{opacity})"
