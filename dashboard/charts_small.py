"""Very small pictures as SVG within the page, where a chart library would be too much: points in, markup out."""

from __future__ import annotations

from base64 import b64encode
from html import escape

import numpy as np

from dashboard.charts import FADED, LOOKS, NEUTRAL
from hyperdpo.front import ParetoFront, non_dominated

WIDTH, HEIGHT, EDGE = 96, 54, 7  # of the picture, in pixels, and what stays free around the points


def small_front(front: ParetoFront | None, base: ParetoFront | None = None, axes: tuple[str, str] | None = None) -> str:
    """A run's front in one plane, better towards the top right; beaten points faded, the base as a cross.

    `axes` are the objectives to the right and upwards, the first two where not said. Text stands on minus the
    cross-entropy, so right and up is better there as well. Empty text where nothing was measured. Source: issue 5.
    """
    if front is None:
        return ""
    names = (front.main, *front.objectives)
    x, y = axes or (front.objectives[0], front.objectives[1] if front.m > 1 else front.main)
    columns = [names.index(x), names.index(y)]
    points = _known(front.ndcg[:, columns])
    if not len(points):
        return ""
    at = _placed(np.concatenate([points, _known(base.ndcg[:1, columns]) if base is not None else points[:0]]))
    dots, marks, best = at[: len(points)], at[len(points) :], non_dominated(points)
    colour = LOOKS[front.method].colour if front.method in LOOKS else NEUTRAL
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in sorted(dots[best].tolist()))
    drawn = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-opacity="0.5"/>'
    for (a, b), kept in zip(dots, best, strict=True):
        drawn += f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2" fill="{colour}" fill-opacity="{1 if kept else FADED}"/>'
    drawn += "".join(f'<path d="M{a - 3:.1f} {b:.1f}h6M{a:.1f} {b - 3:.1f}v6" stroke="{NEUTRAL}"/>' for a, b in marks)
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {HEIGHT}">{drawn}</svg>'
    told = escape(f"Front of {len(points)} points: {x} to the right, {y} upwards", quote=True)
    # As an image: what cleans the page's HTML takes SVG elements out of it.
    source = f"data:image/svg+xml;base64,{b64encode(whole.encode()).decode()}"
    return f'<img class="hx-small-front" src="{source}" alt="{told}" title="{told}" {size}>'


def _known(values: np.ndarray) -> np.ndarray:
    """The points (n, 2) that have both values."""
    known: np.ndarray = values[np.isfinite(values).all(1)]
    return known


def _placed(values: np.ndarray) -> np.ndarray:
    """Points (n, 2) in pixels of the picture; an axis without any spread is drawn in its middle."""
    low, size = values.min(0), np.ptp(values, axis=0)
    share = np.where(size > 0, (values - low) / np.where(size > 0, size, 1.0), 0.5)
    x = EDGE + share[:, 0] * (WIDTH - 2 * EDGE)
    y = HEIGHT - EDGE - share[:, 1] * (HEIGHT - 2 * EDGE)
    return np.stack([x, y], axis=1)
