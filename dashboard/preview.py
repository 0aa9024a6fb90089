"""Pure: a run's figures over all (w, c) from a few measured points, cheap enough for a browser to draw while one drags.

At each of a few c the figures are the polynomial in the weights that goes through every point of a lattice over the
simplex (Scheffe's {m, d} lattice design), and linear in log c between them. What is drawn from it is a preview only:
every figure in words or tables is measured. Source: issue 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from typing import Any

import numpy as np

SCALES = (0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2, 5.6, 10.0)
MOST_POINTS = 130  # measured at every c
MOST_CANDIDATES = 12_000
HIGHEST_DEGREE = 4  # beyond it, polynomials through evenly spaced points begin to swing
DIGITS = 5
FAR = 0.01  # what moving all attention elsewhere weighs, against a distance of the axes' whole range


def degree(m: int) -> int:
    """The highest degree whose lattice over m weights is small enough to measure; at least 1."""
    fits = [d for d in range(1, HIGHEST_DEGREE + 1) if comb(m + d - 1, d) <= MOST_POINTS]
    return max(fits, default=1)


def lattice(m: int, steps: int) -> np.ndarray:
    """(p, m) whole numbers that sum to `steps`: every point of the simplex at multiples of 1/steps."""
    picks = combinations_with_replacement(range(m), steps)
    return np.array([np.bincount(pick, minlength=m) for pick in picks])


def nodes(m: int) -> np.ndarray:
    """(p, m) weights at which a run of m objectives has to be measured."""
    return lattice(m, degree(m)) / degree(m)


@dataclass(frozen=True, eq=False)
class Sketch:
    """Figures over all (w, c), near enough to draw.

    Attributes:
        powers: (t, m) exponents of the weights in each term.
        coefficients: (s, t, 1 + m) of each term at each of SCALES; NaN for an objective that has no figure.
    """

    powers: np.ndarray
    coefficients: np.ndarray

    def at(self, weights: np.ndarray, scale: float) -> np.ndarray:
        """NDCG (p, 1 + m), main first, at weights (p, m) on the simplex and c, which is cut to the range of SCALES."""
        place = np.interp(math.log(scale), np.log(SCALES), np.arange(len(SCALES)))
        low = min(int(place), len(SCALES) - 2)
        share = place - low
        mixed = (1 - share) * self.coefficients[low] + share * self.coefficients[low + 1]
        values: np.ndarray = _terms(weights, self.powers) @ mixed
        return values

    def plain(self, i: int, j: int) -> dict[str, Any] | None:
        """What a browser needs to draw figures i and j; None where one of them has none."""
        picked = self.coefficients[:, :, [i, j]]
        if not np.isfinite(picked).all():
            return None
        return {
            "logs": [round(math.log(c), DIGITS) for c in SCALES],
            "powers": self.powers.tolist(),
            "x": np.round(picked[:, :, 0], DIGITS).tolist(),
            "y": np.round(picked[:, :, 1], DIGITS).tolist(),
        }


def fit(figures: np.ndarray, m: int) -> Sketch:
    """The sketch through `figures` (s, p, 1 + m), measured at SCALES and `nodes(m)`."""
    powers = lattice(m, degree(m))
    coefficients = np.linalg.solve(_terms(nodes(m), powers)[None], figures)
    return Sketch(powers, coefficients)


def _terms(weights: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """(p, t): every product of weights (p, m) to the powers (t, m)."""
    out = np.ones((len(weights), len(powers)))
    for column in range(weights.shape[1]):
        table = weights[:, column, None] ** np.arange(powers.max() + 1)
        out *= table[:, powers[:, column]]
    return out


def candidates(
    sketch: Sketch,
    columns: tuple[int, int],
    target: tuple[float, float],
    ranges: np.ndarray,
    now: Sequence[float],
    scale: float,
    most: int = 5,
) -> list[tuple[int, ...]]:
    """Whole percentages whose sketched figures lie nearest a target in the plane, the nearest first.

    Args:
        columns: the two figures that make the plane. target: their wanted values.
        ranges: (1 + m, 2) of the axes, which say how far apart two values are.
        now: (m,) weights of the sliders: of mixes that are as near, the one that moves the sliders least comes first.
    """
    m = len(now)
    steps = next((n for n in (100, 50, 20, 10) if comb(m + n - 1, n) <= MOST_CANDIDATES), 5)
    grid = lattice(m, steps)
    found = sketch.at(grid / steps, scale)[:, list(columns)]
    order = np.argsort(off_by(found, target, columns, ranges) + moved(grid / steps, now), kind="stable")
    return [tuple(int(v) * 100 // steps for v in grid[place]) for place in order[:most]]


def off_by(found: np.ndarray, target: tuple[float, float], columns: tuple[int, int], ranges: np.ndarray) -> np.ndarray:
    """(p,) distances of points (p, 2) from the target, in shares of the axes' ranges."""
    size = np.maximum(np.ptp(ranges[list(columns)], axis=1), 1e-9)
    out: np.ndarray = np.linalg.norm((found - np.array(target)) / size, axis=1)
    return out


def moved(weights: np.ndarray, now: Sequence[float]) -> np.ndarray:
    """(p,) what it weighs to move the attention from `now` to weights (p, m)."""
    out: np.ndarray = FAR * np.abs(weights - np.array(now)).sum(1) / 2
    return out
