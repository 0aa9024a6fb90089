"""What passes between measuring and drawing: curves, readings, rows of a list. Plain values, no layout, no cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.state import Choice

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.intervals import Interval


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
class MovedItem:
    """One item of a list under two choices.

    Attributes:
        index: its place in the data, from 0. before, after: its places in the two orders, from 1.
        title, price: what people read. labels: (1 + m) raw, main first; NaN where there is none.
    """

    index: int
    before: int
    after: int
    title: str
    price: str
    labels: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ChangedList:
    """One list under two choices.

    Attributes:
        number: among the test lists, from 0. query: what to show for it. size: its items.
        left, right: its first items before and after, best first.
        before, after: (1 + m) NDCG@k, main first, NaN without a positive label.
    """

    number: int
    query: str
    size: int
    left: tuple[MovedItem, ...]
    right: tuple[MovedItem, ...]
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True, eq=False)
class Entrant:
    """One front in a comparison.

    Attributes:
        key: what URL and lists call it. run: label of the run whose folder holds it.
        front: with a name that tells it from the others in the comparison.
        nth: how many fronts of the same method stand before it; it varies marker and dash.
        index: its place among the fronts of its folder.
    """

    key: str
    run: str
    front: ParetoFront
    nth: int
    index: int

    @property
    def trained(self) -> bool:
        """Whether it is a method, not the base or an oracle."""
        return self.front.method != "base" and not self.front.method.startswith("oracle")

    @property
    def hypervolume(self) -> float:
        """NaN where an objective has no positive label anywhere."""
        return Curve(self.front).hypervolume


@dataclass(frozen=True, eq=False)
class Judged:
    """What a bootstrap over queries says of one front.

    Attributes:
        low, high: (p, 1 + m) ends of the 95 % interval of every point's NDCG.
        hypervolume: with its interval, or None where some objective has none.
        against: the difference in hypervolume from the front compared with, paired over queries; or None.
    """

    low: np.ndarray
    high: np.ndarray
    hypervolume: Interval | None
    against: Interval | None = None


@dataclass(frozen=True, eq=False)
class TextReading:
    """What the lists say of one choice of a text run.

    Attributes:
        choice: what was asked for. weights: what is shown, which differs where only some weights were trained.
        entropy: test cross-entropy by objective, with its interval.
        change: its change from chance, which is the base's, paired over the same lists; below 0 is better.
        lists: how many lists are measured so far. total: how many there are.
        chance: cross-entropy of a model that knows nothing.
    """

    choice: Choice
    weights: tuple[float, ...]
    entropy: list[Interval]
    change: list[Interval]
    lists: int
    total: int
    chance: float

    @property
    def values(self) -> np.ndarray:
        """(m,) cross-entropies."""
        return np.array([e.mean for e in self.entropy])
