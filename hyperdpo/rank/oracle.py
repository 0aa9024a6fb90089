"""What is known of simulated labels, and how the unknown rest of it is averaged over draws.

`demo` and `simulate_oracle` fill an `Oracle`, each from its own simulation; `sources` says which data has which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperdpo.objectives import Objective
from hyperdpo.rank.lists import ListSet

ORACLE_SEED = 71
ORACLE_CHUNK = 1_500_000
"""Label values simulated at a time: 6 MB in float32, which keeps a chunk near the cache."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Oracle:
    """What the simulation is known to do on one split: the best a model of the features can know.

    Rows follow `RankData.lists(split)`: N items, list after list, and Q lists; columns follow `objectives`.

    Attributes:
        objectives: the m objectives.
        p: (N, m) float32, `E[t(z^j) | features, the list is informative for j]`; sums to 1 within each list. Where no
            drawn list was informative it is uniform (and `rho` is 0).
        rho: (Q, m) float32, the chance that the list is informative for j; 1 for `softmax`.
        gain: (N, m) float32, `E[z_ij / IDCG@k_j | features]`, a draw without any positive label counting 0. To rank by
            `sum_j w_j gain_j` is the best any ranking of these features can do for `sum_j w_j NDCG@k_j` (each objective
            in units of its share of lists that have a positive label, a constant that only moves w along the front).
        main_gain: (N,) float32, the same for the main label.
        offsets: (Q + 1,) int64, as in ListSet.
        query_index: (Q,) int64, the lists' numbers in the data folder.
        k: the cut-off of the gains.
        draws: simulations behind each number.
    """

    objectives: tuple[Objective, ...]
    p: Tensor
    rho: Tensor
    gain: Tensor
    main_gain: Tensor
    offsets: Tensor
    query_index: Tensor
    k: int
    draws: int

    @classmethod
    def of(
        cls,
        objectives: tuple[Objective, ...],
        lists: ListSet,
        *,
        p: Array,
        rho: Array,
        gain: Array,
        main_gain: Array,
        k: int,
        draws: int,
    ) -> Oracle:
        """What a simulation filled in for `lists`, row by row."""
        return cls(
            objectives,
            p=torch.from_numpy(p),
            rho=torch.from_numpy(rho),
            gain=torch.from_numpy(gain),
            main_gain=torch.from_numpy(main_gain),
            offsets=lists.offsets,
            query_index=lists.query_index,
            k=k,
            draws=draws,
        )


def expected_targets(objective: Objective, labels: Tensor, mask: Tensor) -> tuple[Array, Array]:
    """p (q, n) and rho (q,) by averaging t(z) of eq. (9) over drawn labels; both arguments are (draws, q, n)."""
    targets, informative = objective.targets(labels, mask)
    count = informative.sum(0)
    uniform = mask[0] / mask[0].sum(-1, keepdim=True)
    p = targets.sum(0) / count.clamp(min=1).unsqueeze(-1)
    return torch.where(count.unsqueeze(-1) > 0, p, uniform).numpy(), (count / len(labels)).numpy()


def expected_gain(gains: Tensor, k: int, rates: Tensor | None) -> Array:
    """E[z / IDCG@k] (q, n) over drawn gains (draws, q, n); a list without a positive gain counts 0.

    For Poisson counts of known `rates`, E[z_i f(z)] = rate_i E[f(z + e_i)] replaces a mean over the few draws in which
    item i has a count by one over all draws; one count more raises IDCG by the discount of its value's first place.
    """
    depth = min(k, gains.shape[-1])
    discount = torch.log2(torch.arange(2, depth + 2, dtype=gains.dtype)).reciprocal()
    top = gains.topk(depth, -1).values
    ideal = top @ discount
    if rates is None:
        return torch.einsum("sqn,sq->qn", gains, ideal.reciprocal().where(ideal > 0, 0.0)).div(len(gains)).numpy()
    place = torch.searchsorted(-top, -gains)  # how many items have more
    raised = ideal.unsqueeze(-1) + torch.cat([discount, discount.new_zeros(1)])[place]
    return (rates / raised).mean(0).numpy()
