"""A list at every corner of w in one visit, whole or with its responses shared out among the objectives (ours).

A draw of w spends a list of n responses on one mixture of labels. Near a corner, where LoRA gated by w is trained best
(each objective's rows alone), that is one objective: the others wait for another visit. Here each objective has its
turn at its own corner: on all n responses, for m times the rows, or on those that its labels tell apart most, and a
visit still costs n rows at most. The extremes of few lists teach as much as whole lists do, those of many teach less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.weights import balanced_weights


@dataclass(frozen=True)
class Parts:
    """s parts of lists, each for one objective.

    Attributes:
        lists: (s,) row of the batch that a part is of.
        objectives: (s,) the objective it is for.
        items: (s, k) its responses' positions in the list; what `mask` leaves out is padding.
        mask: (s, k) bool.
        weights: (s,) of its loss: the inverse of m times the probability that this objective has its turn on this
            list, so that in expectation every objective counts 1 / m of its informative lists.
    """

    lists: Tensor
    objectives: Tensor
    items: Tensor
    mask: Tensor
    weights: Tensor


def split_lists(
    targets: Tensor, judged: Tensor, total: int, share: slice, rng: np.random.Generator, *, whole: bool = False
) -> Parts:
    """Split each list among the objectives it is informative for, or give all of it to one of them or to each.

    Args:
        targets: t(z), (b, n, m); a column of 0 where the list is uninformative for an objective.
        judged: (b, n, m) bool, True where an objective has scored a response.
        total: lists in the step over all processes.
        share: which of those these b are.
        rng: of the step: decides whose turn it is.
        whole: give each of those objectives all of the list, n rows for each.

    Else, of n responses each of q objectives gets n // q, the highest and the lowest by its labels. Fewer than two for
    each are no list: the objectives then take turns with all n, alike over m lists in a row. Where no list is
    informative there is one part, masked out, for a live gradient of 0.
    """
    b, _, m = targets.shape
    turns = balanced_weights(1.0, total, m, rng)[share].numpy()
    labels, scored = targets.cpu().numpy(), judged.cpu().numpy()
    parts: list[tuple[int, int, np.ndarray, float]] = []
    for i in range(b):
        informative = np.flatnonzero(labels[i].sum(0) > 0)
        size = int(scored[i].any(1).sum())
        if not len(informative):
            continue
        given = len(informative) if whole or divisible(size, len(informative)) else 1
        weight = len(informative) / (given * m)
        for j in informative[np.argsort(-turns[i, informative], kind="stable")][:given]:
            ranked = np.flatnonzero(scored[i, :, j])
            ranked = ranked[np.argsort(-labels[i, ranked, j], kind="stable")]
            parts.append((i, int(j), _ends(ranked, size if whole else size // given), weight))
    if not parts:
        parts = [(0, 0, np.empty(0, dtype=np.int64), 0.0)]
    width = max(1, *(len(chosen) for _, _, chosen, _ in parts))
    items, mask = np.zeros((len(parts), width), dtype=np.int64), np.zeros((len(parts), width), dtype=bool)
    for row, (_, _, chosen, _) in enumerate(parts):
        items[row, : len(chosen)], mask[row, : len(chosen)] = chosen, True
    lists, objectives, _, weights = zip(*parts, strict=True)
    found = (np.array(lists), np.array(objectives), items, mask, np.array(weights, dtype=np.float32))
    return Parts(*(torch.from_numpy(x).to(targets.device) for x in found))


def divisible(size: Any, objectives: Any) -> Any:
    """Whether a list of `size` responses can be split: two for each of its `objectives`; numbers or arrays of them."""
    return size >= 2 * objectives


def _ends(ranked: np.ndarray, k: int) -> np.ndarray:
    """The first ceil(k / 2) and the last floor(k / 2), or all where there are no more."""
    return ranked if len(ranked) <= k else np.concatenate([ranked[: -(-k // 2)], ranked[len(ranked) - k // 2 :]])
