"""What passes between measuring and drawing: curves, readings, rows of a list. Plain values, no layout, no cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.state import Choice

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.metrics import Interval


@dataclass(frozen=True, eq=False)
class Curve:
    """A front as drawn at some c and k; `fixed` says why it does not follow c, or is empty where it does."""

    front: ParetoFront
    fixed: str = ""

    @property
    def hypervolume(self) -> float:
        """NaN where an objective has no positive label anywhere."""
        values = self.front.auxiliary
        return float("nan") if np.isnan(values).any() else self.front.hypervolume


@dataclass(frozen=True, eq=False)
class Reading:
    """Everything the page says about one choice.

    Attributes:
        choice: what was asked for. weights: what is shown, which differs where only some weights are known.
        ndcg, base: (1 + m,) main first.
        change: interval of the change from the base in NDCG, paired over queries; or None without per-query figures.
        cross_entropy, base_entropy: (m,) or None.
        per_query: (q, 1 + m) or None.
        note: a sentence where the figures are not exactly those of the choice.
    """

    choice: Choice
    weights: tuple[float, ...]
    k: int
    ndcg: np.ndarray
    base: np.ndarray | None
    change: list[Interval] | None
    cross_entropy: np.ndarray | None
    base_entropy: np.ndarray | None
    per_query: np.ndarray | None
    note: str = ""


@dataclass(frozen=True)
class ListItem:
    """One row of a sample list: its place (from 1) under the base and now, and what people read."""

    base_rank: int
    rank: int
    title: str
    price: str
    grade: float
