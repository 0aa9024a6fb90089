"""Ranking lists as batches:

bucketed by length, drawn in an order that depends on a generator alone, padded on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import DataError
from hyperdpo.objectives import Objective
from hyperdpo.rank.data import ListSet

WHOLE = slice(None)  # all lists of a batch, as in a single process
POOL = 16  # batches within which lists are sorted by length, so that few pads are computed and order stays random
CHUNK_ITEMS = 60_000  # padded items a forward pass without gradients takes at once


@dataclass
class RankBatch:
    """b padded lists; see methods.ListwiseBatch. `inputs` is (features (b, n, d), base (b, n), mask (b, n))."""

    inputs: tuple[Tensor, Tensor, Tensor]
    targets: Tensor
    mask: Tensor
    total: int
    queries: Tensor
    share: slice = field(default_factory=lambda: WHOLE)
    rewards: Tensor | None = None

    @property
    def judged(self) -> Tensor:
        """(b, n, m): every objective has a label for every item."""
        return self.mask.unsqueeze(-1).expand_as(self.targets)


def list_targets(lists: ListSet, objectives: Sequence[Objective], first_label: int) -> tuple[Tensor, Tensor]:
    """t(z) of each item (N, m) and the informative flags (Q, m), for label columns from `first_label` on."""
    if not objectives:
        return torch.zeros(len(lists.labels), 0), torch.zeros(len(lists), 0, dtype=torch.bool)
    mask = lists.mask()
    columns, flags = [], []
    for j, objective in enumerate(objectives):
        t, informative = objective.targets(lists.pad(lists.labels[:, first_label + j]), mask)
        columns.append(lists.unpad(t))
        flags.append(informative)
    return torch.stack(columns, 1), torch.stack(flags, 1)


class RankBatches:
    """A split ready for training, on one device.

    Args:
        lists: the split.
        features: (N, d) scaled features of its items.
        base: (N,) base scores on the run's scale (zeros while the base itself is trained).
        objectives: what the targets are made of, from label column `first_label` on.
        batch_size: lists a step, over all processes.
    """

    def __init__(
        self,
        lists: ListSet,
        features: Tensor,
        base: Tensor,
        objectives: Sequence[Objective],
        *,
        batch_size: int,
        first_label: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.lists = lists
        self.objectives = tuple(objectives)
        self.batch_size = batch_size
        self.device = torch.device(device)
        targets, informative = list_targets(lists, objectives, first_label)
        self.coverage = informative.float().mean(0).to(device)
        empty = [o.name for o, share in zip(objectives, self.coverage.tolist(), strict=True) if share == 0]
        if empty:
            raise DataError(
                f"No list is informative for {', '.join(map(repr, empty))}: every label is 0; remove the objective, "
                "or choose a split or another column that has labels."
            )
        self.features = features.to(device)
        self.base = base.to(device)
        self.targets = targets.to(device)
        self.offsets = lists.offsets.to(device)
        self.sizes = np.diff(lists.offsets.numpy())
        self.rewards: Tensor | None = None  # (N, m), set where a method needs other models' residuals (MO-DPO)

    def __len__(self) -> int:
        return -(-len(self.lists) // self.batch_size)

    def epoch(self, order: np.random.Generator, start: int, rank: int, world: int) -> Iterator[RankBatch]:
        """This process's share of each batch from step `start` on; every list is seen once an epoch."""
        shuffled = order.permutation(len(self.lists))
        pool = POOL * self.batch_size
        pieces = [shuffled[i : i + pool] for i in range(0, len(shuffled), pool)]
        by_size = np.concatenate([p[np.argsort(self.sizes[p], kind="stable")] for p in pieces])
        batches = [by_size[i : i + self.batch_size] for i in range(0, len(by_size), self.batch_size)]
        for index in order.permutation(len(batches))[start:]:
            share = slice(rank, None, world)
            yield self.batch(batches[index][share], total=len(batches[index]), share=share)

    def once(self) -> Iterator[RankBatch]:
        """Every list once, long ones together, in batches bounded by padded items rather than by lists."""
        order = np.argsort(self.sizes, kind="stable")
        for piece in _chunks(order, self.sizes):
            yield self.batch(piece, total=len(piece))

    def batch(self, queries: np.ndarray, total: int, share: slice = WHOLE) -> RankBatch:
        """The given lists, padded to the longest of them."""
        index = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device)
        n = int(self.sizes[queries].max()) if len(queries) else 1
        items = self.offsets[index].unsqueeze(1) + torch.arange(n, device=self.device)
        mask = items < self.offsets[index + 1].unsqueeze(1)
        items = items.where(mask, 0)
        real = mask.unsqueeze(-1)
        features = self.features[items] * real
        base = self.base[items] * mask
        rewards = None if self.rewards is None else self.rewards[items] * real
        return RankBatch((features, base, mask), self.targets[items] * real, mask, total, index, share, rewards)


def _chunks(order: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Cut `order` (by rising size) so that lists times longest list stays within CHUNK_ITEMS."""
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * sizes[order[stop]] <= CHUNK_ITEMS:
            stop += 1
        yield order[start:stop]
        start = stop


@torch.no_grad()
def encode_in_chunks(function: Callable[[RankBatch], Tensor], lists: ListSet, features: Tensor, base: Tensor) -> Tensor:
    """`function` of padded batches, giving (b, n) or (b, L, n), gathered into items: (N,) or (N, L) on the CPU."""
    batches = RankBatches(lists, features, base, (), batch_size=1, device=features.device)
    out: Tensor | None = None
    offsets = lists.offsets
    for batch in batches.once():
        value = function(batch).cpu()
        if value.dim() == 3:
            value = value.transpose(1, 2)
        if out is None:
            out = torch.zeros(len(features), *value.shape[2:])
        mask = batch.mask.cpu()
        items = offsets[batch.queries.cpu()].unsqueeze(1) + torch.arange(mask.shape[1])
        out[items[mask]] = value[mask]
    return out if out is not None else torch.zeros(len(features))
