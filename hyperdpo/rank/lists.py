"""Lists of unequal length in memory: rows one after the other, and where each list starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ListSet:
    """Q lists with N items in all.

    Attributes:
        features: (N, d) float32, as in the file (unscaled).
        labels: (N, 1 + m) float32 raw labels, the main one first, then the objectives in their order.
        base: (N,) raw base scores, or None.
        offsets: (Q + 1,) int64; list q has the rows offsets[q] to offsets[q + 1].
        query_index: (Q,) int64, the number of each list in its data folder.
    """

    features: Tensor
    labels: Tensor
    base: Tensor | None
    offsets: Tensor
    query_index: Tensor

    def __len__(self) -> int:
        return len(self.query_index)

    @cached_property
    def sizes(self) -> Tensor:
        """(Q,) int64 items in each list."""
        return self.offsets.diff()

    def mask(self, queries: Tensor | None = None) -> Tensor:
        """(b, n) bool, True for a real item; b lists (all, or those at positions `queries`), n the longest of them."""
        sizes = self.sizes if queries is None else self.sizes[queries]
        longest = int(sizes.max()) if len(sizes) else 0
        return torch.arange(longest, device=sizes.device) < sizes.unsqueeze(-1)

    def rows(self, queries: Tensor | None = None) -> Tensor:
        """(sum of sizes,) the rows of these lists, list after list."""
        if queries is None:
            return torch.arange(int(self.offsets[-1]), device=self.offsets.device)
        sizes = self.sizes[queries]
        ends = sizes.cumsum(0)
        first = (self.offsets[queries] - (ends - sizes)).repeat_interleave(sizes)
        return first + torch.arange(len(first), device=first.device)

    def pad(self, values: Tensor, queries: Tensor | None = None) -> Tensor:
        """Values (N, ...) of the rows as (b, n, ...), zero where `mask(queries)` is False."""
        mask = self.mask(queries)
        padded = values.new_zeros(*mask.shape, *values.shape[1:])
        padded[mask] = values if queries is None else values[self.rows(queries)]
        return padded

    def unpad(self, padded: Tensor, queries: Tensor | None = None) -> Tensor:
        """The inverse of `pad`: (b, n, ...) to the real items' (N, ...), list after list."""
        return padded[self.mask(queries)]

    def subset(self, queries: Tensor) -> ListSet:
        """The lists at the positions `queries` (b,), in that order."""
        rows = self.rows(queries)
        offsets = self.offsets.new_zeros(len(queries) + 1)
        offsets[1:] = self.sizes[queries].cumsum(0)
        base = None if self.base is None else self.base[rows]
        return ListSet(self.features[rows], self.labels[rows], base, offsets, self.query_index[queries])

    def to(self, device: torch.device | str) -> ListSet:
        """The same lists on another device."""
        return ListSet(
            self.features.to(device),
            self.labels.to(device),
            None if self.base is None else self.base.to(device),
            self.offsets.to(device),
            self.query_index.to(device),
        )
