"""Taking charts and points away."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.charts import Figure
from dashboard.charts_paper import PIXELS_PER_INCH, SCREEN, Paper, on_paper
from dashboard.readings import Curve, Reading
from hyperdpo import pictures
from hyperdpo.errors import HyperDPOError
from hyperdpo.pictures import PictureError

IMAGES = {"PNG": "image/png", "SVG": "image/svg+xml", "PDF": "application/pdf"}
MIME = {
    **IMAGES,
    "HTML": "text/html",
    "Python": "text/x-python",
    "CSV": "text/csv",
    "JSON": "application/json",
    "ZIP": "application/zip",
    "ONNX": "application/octet-stream",
}
PRINT_SECONDS = 60
SUFFIX = {"Python": "py"}  # where it is not the name of the kind
SCRIPT = '''"""{title}: the chart that HyperDPO Explorer showed, drawn again. Needs plotly alone.

    python {name}                writes {stem}.html
    python {name} chart.pdf      or .png, .svg: needs kaleido and a browser as well
"""

import json
import sys

import plotly.graph_objects as go

FIGURE = json.loads(r"""
{figure}
""")

figure = go.Figure(FIGURE)
if len(sys.argv) > 1:
    figure.write_image(sys.argv[1])
else:
    figure.write_html("{stem}.html")
'''
NO_BROWSER = (
    "Pictures are drawn by a browser on the machine that runs the dashboard, and none (Chrome or Chromium) was found, "
    "or it did not start. The HTML file holds the same chart and opens anywhere; the camera in the chart's own toolbar "
    "saves a PNG."
)


class ExportError(HyperDPOError):
    """A chart could not be made into a picture; the message says what to take instead."""


def has_browser() -> bool:
    """Whether a browser that can draw pictures seems to be installed. Starts nothing."""
    try:
        from choreographer.browsers.chromium import Chromium

        return bool(Chromium.find_browser(skip_local=False))
    except Exception:
        return True  # another version of the library: asking it to draw will tell


def picture(figure: Figure, title: str, kind: str, paper: Paper = SCREEN) -> bytes:
    """The chart as PNG, SVG or PDF. Raises ExportError where no browser can be started."""
    width, height = paper.target.pixels
    scale = paper.target.dpi / PIXELS_PER_INCH if kind == "PNG" else 1
    try:
        return pictures.draw(on_paper(figure, title, paper), kind.lower(), width=width, height=height, scale=scale)
    except PictureError as error:
        raise ExportError(f"{NO_BROWSER} ({error})") from error


def page(figure: Figure, title: str, paper: Paper = SCREEN) -> bytes:
    """The chart as one HTML file that needs nothing else, hover included."""
    import plotly.io

    drawn = on_paper(figure, title, paper)
    return plotly.io.to_html(drawn, include_plotlyjs=True, full_html=True, validate=False).encode()  # type: ignore[no-any-return]


def printed(page: str) -> bytes:
    """A page of HTML as PDF, by the browser that also draws pictures. Raises ExportError without one."""
    from choreographer.browsers.chromium import Chromium

    try:
        found = Chromium.find_browser(skip_local=False)
        if not found:
            raise ExportError(NO_BROWSER)
        with tempfile.TemporaryDirectory(prefix="hyperdpo-") as room:
            (Path(room) / "page.html").write_text(page, "utf-8")
            out = Path(room) / "page.pdf"
            flags = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-pdf-header-footer",
                f"--user-data-dir={room}/user",
            ]
            subprocess.run(
                [found, *flags, f"--print-to-pdf={out}", (Path(room) / "page.html").as_uri()],
                check=True, capture_output=True, timeout=PRINT_SECONDS,
            )  # fmt: skip
            return out.read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        raise ExportError(f"{NO_BROWSER} ({type(error).__name__}: {str(error)[:200]})") from error


def script(figure: Figure, title: str, name: str, paper: Paper = SCREEN) -> bytes:
    """A Python script called `name` that draws the chart again, its data inside."""
    import plotly.io

    drawn = plotly.io.to_json(on_paper(figure, title, paper), validate=False)
    held = json.dumps(json.loads(drawn), indent=1, ensure_ascii=True)
    plain = "".join(c if c.isprintable() and c not in '\\"' else " " for c in title)
    return SCRIPT.format(title=plain, name=name, stem=name.removesuffix(".py"), figure=held).encode()


def points(curves: Sequence[Curve], live: Reading | None, names: Sequence[str], run: str) -> list[dict[str, Any]]:
    """Every point on the chart as a flat row: front, w, c, k, NDCG and cross-entropy by objective."""
    rows = []
    for curve in curves:
        front = curve.front
        for i in range(len(front.ndcg)):
            weights = front.weights[i] if front.weights.shape[1] else [None] * front.m
            entropy = None if front.cross_entropy is None else front.cross_entropy[i]
            rows.append(_point(front.name, run, weights, front.scale, front.k, names, front.ndcg[i], entropy))
    if live is not None:
        rows.append(
            _point("live point", run, live.weights, live.choice.scale, live.k, names, live.ndcg, live.cross_entropy)
        )
    return rows


def _point(
    front: str,
    run: str,
    weights: Sequence[float | None] | np.ndarray,
    scale: float,
    k: int,
    names: Sequence[str],
    ndcg: np.ndarray,
    entropy: np.ndarray | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {"run": run, "front": front, "c": scale, "k": k}
    row |= {f"w.{n}": _plain(v) for n, v in zip(names[1:], weights, strict=True)}
    row |= {f"ndcg.{n}": _plain(v) for n, v in zip(names, ndcg, strict=True)}
    values = [None] * (len(names) - 1) if entropy is None else entropy
    return row | {f"cross_entropy.{n}": _plain(v) for n, v in zip(names[1:], values, strict=True)}


def points_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows of `points` as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["front"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def points_json(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows of `points` as a JSON list."""
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 7)
