"""What changes for users between two choices of (w, c): which lists change most, and how their items move (issue 5).

A choice is weights (m,) with a scale c; None in its place is the base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, WeightsError, nearest
from hyperdpo.metrics import top_items
from hyperdpo.rank.live import ListTable

PERSISTENCE = 0.9
"""p of the rank-biased overlap: the first ten places then carry 86 % of the weight (Webber et al. 2010, eq. 21)."""
SAME_SCORE = 1e-9
SHOWN = 20  # places of a list that are shown

Which = Literal["all", "gained", "lost"]
WHICH: tuple[str, ...] = get_args(Which)


# ---------------------------------------------------------------------------------------------------------------------
# Which lists change


def places(scores: Tensor, mask: Tensor) -> Tensor:
    """Place of each item in its list, from 1, (q, n) int64; 0 on pads. Ties keep the input order, as in NDCG.

    Raises DataError for NaN.
    """
    order = top_items(scores, mask, mask.shape[-1])
    counted = torch.arange(1, mask.shape[-1] + 1, device=mask.device).expand(order.shape)
    return torch.zeros_like(order).scatter(-1, order, counted).masked_fill(~mask, 0)


def rank_distance(before: Tensor, after: Tensor, mask: Tensor, *, persistence: float = PERSISTENCE) -> Tensor:
    """1 - rank-biased overlap of two orders of the same items, (q,) float64, from their places (q, n).

    RBO = (1 - p) sum_d p^(d-1) A_d with A_d the share of the first d items that both orders have (Webber et al. 2010,
    eq. 7). From depth n on both hold the same items, so the infinite sum is known exactly:
    distance = (1 - p) sum_{d < n} p^(d-1) (1 - A_d). 0 for the same order, and for lists of no or one item; below 1.
    """
    n = mask.shape[-1]
    depth = torch.maximum(before, after).masked_fill(~mask, 0)  # where an item has come into both tops
    found = torch.zeros(*mask.shape[:-1], n + 1, dtype=torch.float64, device=mask.device)
    found = found.scatter_add(-1, depth, mask.double())[..., 1:].cumsum(-1)
    d = torch.arange(1, n + 1, dtype=torch.float64, device=mask.device)
    missing = (1 - found / d).where(d <= mask.sum(-1, keepdim=True), 0.0)
    weight: Tensor = (1 - persistence) * persistence ** (d - 1)
    return missing @ weight


@dataclass(frozen=True, eq=False)
class Changes:
    """How every list changes between two choices.

    Attributes:
        distance: (q,) 1 - rank-biased overlap of the two orders.
        entered: (q,) items among the first k after that were not before.
        before, after: (q, 1 + m) NDCG@k, main first; NaN where a list has no positive label.
        k: cut-off of `entered` and NDCG.
    """

    distance: np.ndarray
    entered: np.ndarray
    before: np.ndarray
    after: np.ndarray
    k: int

    @property
    def gain(self) -> np.ndarray:
        """(q,) change of the main NDCG@k; NaN where a list has none."""
        gain: np.ndarray = self.after[:, 0] - self.before[:, 0]
        return gain

    def counts(self) -> dict[str, int]:
        """Lists in all, those whose order changes, and those whose main NDCG@k rises, falls, or is not known."""
        gain = self.gain
        return {
            "lists": len(gain),
            "changed": int((self.distance > 0).sum()),
            "gained": int((gain > SAME_SCORE).sum()),
            "lost": int((gain < -SAME_SCORE).sum()),
            "unknown": int(np.isnan(gain).sum()),
        }

    def most(self, which: str = "all", count: int | None = None) -> np.ndarray:
        """Numbers of the lists whose order changes, most first, ties in input order; (at most `count`,) int.

        `which`: all of them, or only those whose main NDCG@k rises (`gained`) or falls (`lost`). Raises ConfigError for
        anything else.
        """
        if which not in WHICH:
            raise ConfigError(f"The lists to show are {', '.join(WHICH)}; got {which!r}{nearest(which, WHICH)}.")
        wanted = self.distance > 0
        with np.errstate(invalid="ignore"):
            wanted &= {"gained": self.gain > SAME_SCORE, "lost": self.gain < -SAME_SCORE}.get(which, True)
        order: np.ndarray = np.argsort(-self.distance, kind="stable")
        told: np.ndarray = order[wanted[order]][:count]
        return told


def compare(table: ListTable, before: Tensor, after: Tensor, *, k: int = 10) -> Changes:
    """Every list of `table` under two scores (q, n). Raises DataError for NaN."""
    then, now = (table.ndcg(k).per_query(scores).double().cpu().numpy() for scores in (before, after))
    return compare_places(places(before, table.mask), places(after, table.mask), table.mask, then, now, k=k)


def compare_places(
    before: Tensor, after: Tensor, mask: Tensor, ndcg_before: np.ndarray, ndcg_after: np.ndarray, *, k: int
) -> Changes:
    """`compare` where places (q, n) and NDCG@k (q, 1 + m) are known already."""
    entered = (after.le(k) & before.gt(k) & mask).sum(-1)
    distance = rank_distance(before, after, mask)
    return Changes(distance.cpu().numpy(), entered.cpu().numpy(), ndcg_before, ndcg_after, k)


def shown_items(before: np.ndarray, after: np.ndarray, size: int = SHOWN) -> tuple[list[int], list[int]]:
    """The first `size` items of one list before and after, best first, from their places (n,)."""
    orders = [np.argsort(place, kind="stable")[:size].tolist() for place in (before, after)]
    return orders[0], orders[1]


# ---------------------------------------------------------------------------------------------------------------------
# A choice as text


@dataclass(frozen=True)
class Position:
    """A choice: weights (m,) on the simplex and c."""

    weights: tuple[float, ...]
    scale: float = 1.0


def read_position(text: str, parse: Callable[[str], Tensor]) -> Position | None:
    """`base` (None), or weights as `parse` reads them with an optional `@c`: `.3,.7@1.5`.

    Raises WeightsError for weights that `parse` refuses and for a c that is not a number above 0.
    """
    if text.strip().lower() == "base":
        return None
    weights, at, scale = text.partition("@")
    try:
        c = float(scale) if at else 1.0
    except ValueError:
        c = 0.0
    if not (0 < c < float("inf")):
        raise WeightsError(f"A choice is 'base' or weights@c with c a number above 0, such as .3,.7@1.5; got {text!r}.")
    return Position(tuple(parse(weights).tolist()), c)
