"""Ranking metrics under one stated rule for ties, empty lists and negative labels.

NDCG@k has linear gain and discount log2(i + 1), as in the paper. Ties keep the input order. A list with no positive
gain has no NDCG: it is NaN per query, left out of the mean, and counted. A negative gain is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperdpo.errors import DataError
from hyperdpo.intervals import BOOTSTRAP_DRAWS, Interval, bootstrap_counts, bootstrap_means, intervals
from hyperdpo.losses import listwise_loss, masked_log_softmax

__all__ = [
    "BOOTSTRAP_DRAWS",
    "NDCG",
    "Interval",
    "bootstrap_counts",
    "bootstrap_means",
    "cross_entropy",
    "discounts",
    "ideal_dcg",
    "intervals",
    "ndcg",
    "top_items",
]


def discounts(k: int, *, like: Tensor) -> Tensor:
    """1 / log2(i + 1) for ranks i = 1..k, shape (k,)."""
    return 1.0 / torch.log2(torch.arange(2, k + 2, dtype=like.dtype, device=like.device))


def top_items(scores: Tensor, mask: Tensor, k: int) -> Tensor:
    """Indices of the k best real items of each list, best first, shape (..., k); ties keep the input order.

    `torch.topk` breaks ties as it likes, so lists with a tie among their k + 1 best are ranked again by unique keys.
    Pads come last. k is cut to the number of columns. NaN is refused.
    """
    scores = scores.float()
    k = min(k, scores.shape[-1])
    best = scores.masked_fill(~mask, -torch.inf).topk(min(k + 1, scores.shape[-1]), dim=-1)
    if best.values.isnan().any():  # topk puts NaN first
        raise DataError("Scores must be numbers; got NaN; a model that gives NaN cannot be ranked by.")
    top = best.indices[..., :k]
    finite = best.values > -torch.inf
    tied = (best.values[..., 1:] == best.values[..., :-1]) & finite[..., 1:]
    like_a_pad = finite.sum(-1) < mask.sum(-1).clamp(max=best.values.shape[-1])  # a real item scored -inf
    rows = tied.any(-1) | like_a_pad
    if rows.any():
        top = top.clone()
        top[rows] = _top_by_unique_keys(scores[rows], mask[rows], k)
    return top


def _top_by_unique_keys(scores: Tensor, mask: Tensor, k: int) -> Tensor:
    """Slower and free of ties: the order-preserving bits of the float32 score above the reversed position."""
    n = scores.shape[-1]
    bits = scores.add(0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0, which ties with it
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).masked_fill(~mask, torch.iinfo(torch.int32).min)
    keys = (ordered.long() << 32) | torch.arange(n - 1, -1, -1, device=scores.device)
    return keys.topk(k, dim=-1).indices


def ideal_dcg(gains: Tensor, k: int) -> Tensor:
    """The largest DCG@k of each list, shape (...,); `gains` (..., n) holds 0 on pads.

    Raises DataError for a negative gain.
    """
    if (gains < 0).any():
        raise DataError(
            f"NDCG needs gains of 0 or more; got {float(gains.min()):.6g}; declare a shift for this objective "
            "(NAME=COLUMN:shift=VALUE) that makes its labels non-negative."
        )
    k = min(k, gains.shape[-1])
    return (gains.topk(k, dim=-1).values * discounts(k, like=gains)).sum(-1)


def ndcg(scores: Tensor, gains: Tensor, mask: Tensor, k: int = 10) -> Tensor:
    """NDCG@k of each list, shape (...,): NaN where no gain is positive. `scores`, `gains`, `mask` are (..., n).

    Raises DataError for a negative gain.
    """
    gains = gains.masked_fill(~mask, 0.0)
    return NDCG(gains.unsqueeze(-1), mask, k).per_query(scores)[..., 0]


class NDCG:
    """NDCG@k for many objectives and many score sets over the same lists: ideals are computed once.

    Args:
        gains: (b, n, L) gains of L objectives, 0 on pads. Raises DataError if any is negative.
        mask: (b, n).
    """

    def __init__(self, gains: Tensor, mask: Tensor, k: int = 10) -> None:
        self.mask = mask
        self.k = min(k, gains.shape[-2])
        self.ideal = ideal_dcg(gains.transpose(-1, -2), k)
        self._rows = gains.reshape(-1, gains.shape[-1])  # (b * n, L): one flat gather picks every label of an item
        starts = torch.arange(gains[..., 0, 0].numel(), device=gains.device) * gains.shape[-2]
        self._starts = starts.view(*gains.shape[:-2], 1)
        self.discounts = discounts(self.k, like=gains)

    def per_query(self, scores: Tensor) -> Tensor:
        """(b, L) for scores (b, n), or (p, b, L) for p score sets (p, b, n)."""
        top = top_items(scores, self.mask.expand_as(scores), self.k)  # (..., b, k)
        picked = self._rows[(top + self._starts).flatten()].view(*top.shape, -1)
        dcg = torch.einsum("...kl,k->...l", picked, self.discounts)
        return dcg / self.ideal.where(self.ideal > 0, torch.nan)


def cross_entropy(residual: Tensor, targets: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
    """L_j of eq. (10) per list and objective, shape (b, m): NaN where the list is uninformative (its targets are 0).

    Measured at the training beta on the (scaled) residual (b, n): measured at c * beta it would not depend on c at all.
    """
    per_objective = targets.transpose(-1, -2)  # (b, m, n)
    if bool((beta == beta[0]).all()):  # one softmax serves every objective
        log_q = masked_log_softmax(beta[0] * residual, mask)
        value = -(per_objective @ log_q.unsqueeze(-1)).squeeze(-1)
    else:
        value = listwise_loss(beta.unsqueeze(-1) * residual.unsqueeze(-2), per_objective, mask.unsqueeze(-2))
    return value.where(per_objective.sum(-1) > 0, torch.nan)
