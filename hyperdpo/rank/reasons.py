"""Which features a score, or the change of it between two choices, rests on (issue 5).

Networks: integrated gradients. Trees: LightGBM's own contributions (Lundberg et al. 2018). Both are taken beside the
average item of the list, since only what sets an item apart from the others in its list can move it. They say what
the model's score rests on; not what would happen if a feature were changed in the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hyperdpo.rank.base import Base
from hyperdpo.rank.changes import Position
from hyperdpo.rank.model import Answerer
from hyperdpo.rank.trees import TreeRanker

STEPS = 24  # of the path along which gradients are averaged
AT_ONCE, PAIRS = 200_000, 20_000_000  # items, and pairs of items, that pass through a model together
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reasons:
    """What one item's score, or its change, rests on, beside the average item of its list.

    Attributes:
        total: the sum over all features.
        parts: (feature, share) of those that weigh most, largest first; signed.
        rest: what the other features give together, `others` of them.
    """

    total: float
    parts: tuple[tuple[str, float], ...]
    rest: float
    others: int


def reasons(values: np.ndarray, names: Sequence[str], top: int = 5) -> Reasons:
    """The `top` largest of one item's shares (d,) by size; those that are exactly 0 are never among them."""
    order = [int(i) for i in np.argsort(-np.abs(values), kind="stable")[:top] if values[i] != 0]
    rest = float(values.sum() - values[order].sum())
    return Reasons(
        float(values.sum()), tuple((names[i], float(values[i])) for i in order), rest, len(names) - len(order)
    )


def integrated_gradients(score: Score, features: Tensor, items: Sequence[int], *, steps: int = STEPS) -> Tensor:
    """What each feature adds to the score of some items of one list, (len(items), d).

    Sundararajan et al. (2017), eq. 1: (x - x') times the gradient averaged over the straight path from x', the mean
    item of the list, to x, by the midpoint rule; the list's other items stay as they are. The shares of an item sum to
    score(x) - score(x') but for the rule's error. Zero for a list of one item: it is its own mean.

    Args:
        score: scores (b, n) of lists of features (b, n, d); gradients must pass through it.
        features: (n, d) of one list, without pads.
    """
    x = features.detach().clone().float()
    mean = x.mean(0)
    path = (torch.arange(steps, device=x.device, dtype=x.dtype) + 0.5) / steps
    out = torch.zeros(len(items), x.shape[1], device=x.device)
    lists = steps * max(1, len(x))
    block = max(1, min(AT_ONCE // lists, PAIRS // (lists * max(1, len(x)))))
    for start in range(0, len(items), block):
        part = torch.tensor(list(items[start : start + block]), device=x.device)
        out[start : start + len(part)] = _path_gradients(score, x, mean, part, path) * (x[part] - mean)
    return out


def _path_gradients(score: Score, x: Tensor, mean: Tensor, items: Tensor, path: Tensor) -> Tensor:
    """The gradient of each item's score by its own features, averaged over the path, (i, d)."""
    i, s = len(items), len(path)
    with torch.enable_grad():
        moving = (mean + path[None, :, None] * (x[items] - mean)[:, None]).flatten(0, 1).requires_grad_()  # (i s, d)
        lists = x.expand(i * s, *x.shape).clone()
        rows, which = torch.arange(i * s, device=x.device), items.repeat_interleave(s)
        lists[rows, which] = moving
        total = score(lists)[rows, which].sum()
        (gradient,) = torch.autograd.grad(total, moving)
    return gradient.view(i, s, -1).mean(1)


def centred(contributions: np.ndarray) -> np.ndarray:
    """Additive contributions (n, d) of a list's items beside the mean item's, so that they say why one is above it."""
    difference: np.ndarray = contributions - contributions.mean(0)
    return difference


# ---------------------------------------------------------------------------------------------------------------------
# Of a run's parts


def change_shares(
    before: tuple[Answerer, Position] | None,
    after: tuple[Answerer, Position] | None,
    features: Tensor,
    base: Tensor,
    items: Sequence[int],
) -> np.ndarray:
    """What each feature adds to the change of score between two choices, (len(items), d); None is the base.

    Args:
        before, after: the model that answers, and what it is asked for.
        features: (n, d) scaled features of one list, without pads. base: (n,) its base scores, which stay as they are.
    """
    sides = [(-1.0, before), (1.0, after)]
    grown = np.zeros((len(items), features.shape[1]))
    smooth: list[tuple[float, Answerer, Position]] = []
    for sign, side in sides:
        if side is None:
            continue
        model, position = side
        if isinstance(model, TreeRanker):
            grown += sign / position.scale * _tree_shares(model.booster, features)[list(items)]
        else:
            smooth.append((sign, model, position))
    if smooth:
        grown += _network_shares(smooth, features, base, items)
    return grown


def base_shares(base: Base, raw: Tensor, scaled: Tensor, items: Sequence[int]) -> np.ndarray | None:
    """What each feature adds to the base's score, (len(items), d); None where the base is a column.

    Args:
        raw, scaled: (n, d) features of one list as in the data, which trees see, and scaled, which a network sees.
    """
    if base.trees is not None:
        shares: np.ndarray = _tree_shares(base.trees, raw)[list(items)] / base.factor
        return shares
    if base.net is None:
        return None
    net = base.net.to(scaled.device)
    mask = torch.ones(1, len(scaled), dtype=torch.bool, device=scaled.device)

    def score(lists: Tensor) -> Tensor:
        out: Tensor = net(lists, mask.expand(len(lists), -1)).squeeze(-1) / base.factor
        return out

    return integrated_gradients(score, scaled, items).double().cpu().numpy()


def _network_shares(
    sides: Sequence[tuple[float, Answerer, Position]], features: Tensor, base: Tensor, items: Sequence[int]
) -> np.ndarray:
    device = next(sides[0][1].parameters()).device
    x, held = features.to(device), base.detach().clone().to(device)
    mask = torch.ones(1, len(x), dtype=torch.bool, device=device)
    asked = [torch.tensor(p.weights, dtype=torch.float32, device=device) for _, _, p in sides]

    def score(lists: Tensor) -> Tensor:
        b = len(lists)
        total = torch.zeros(lists.shape[:2], device=device)
        for (sign, model, position), w in zip(sides, asked, strict=True):
            total = total + sign / position.scale * model(lists, held.expand(b, -1), mask.expand(b, -1), w)
        return total

    return integrated_gradients(score, x, items).double().cpu().numpy()


def _tree_shares(booster: object, features: Tensor) -> np.ndarray:
    """LightGBM's contributions (n, d) beside the list's average item."""
    found = booster.predict(features.cpu().numpy(), pred_contrib=True)  # type: ignore[attr-defined]
    return centred(np.asarray(found, dtype=float)[:, :-1])  # the last column is the same for every item
