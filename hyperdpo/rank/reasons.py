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
from hyperdpo.rank.model import Answerer, Ranker
from hyperdpo.rank.trees import TreeRanker

STEPS = 64  # of the path along which gradients are averaged; measured: off by 0.002 where shares sum to 1
FEW_STEPS = 12  # where a step passes the whole list through attention, a hundred times as much work
AT_ONCE, PAIRS = 200_000, 20_000_000  # items, and pairs of items, that pass through a model together


@dataclass(frozen=True)
class Score:
    """How the score of single items of one list is computed while they are moved.

    Attributes:
        of: items (b, d) and which of the list they stand for (b,), to their scores (b,); the list's others stay.
        at_once: how many moved items may pass together. steps: of their path.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    at_once: int
    steps: int = STEPS


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


def integrated_gradients(score: Score, features: Tensor, items: Sequence[int], *, steps: int = 0) -> Tensor:
    """What each feature adds to the score of some items of one list, (len(items), d).

    Sundararajan et al. (2017), eq. 1: (x - x') times the gradient averaged over the straight path from x', the mean
    item of the list, to x, by the midpoint rule; the list's other items stay as they are. The shares of an item sum to
    score(x) - score(x') but for the rule's error. Zero for a list of one item: it is its own mean.

    Args:
        score: see `Score`; gradients must pass through it.
        features: (n, d) of one list, without pads.
        steps: of the path; the score's own number by default.
    """
    x, steps = features.detach().clone().float(), steps or score.steps
    mean, path = x.mean(0), (torch.arange(steps, device=x.device, dtype=x.dtype) + 0.5) / steps
    out = torch.zeros(len(items), x.shape[1], device=x.device)
    block = max(1, score.at_once // steps)
    for start in range(0, len(items), block):
        part = torch.tensor(list(items[start : start + block]), device=x.device)
        away = x[part] - mean
        with torch.enable_grad():
            moving = (mean + path[:, None] * away[:, None]).flatten(0, 1).requires_grad_()  # (i steps, d)
            total = score.of(moving, part.repeat_interleave(steps)).sum()
            (gradient,) = torch.autograd.grad(total, moving)
        out[start : start + len(part)] = gradient.view(len(part), steps, -1).mean(1) * away
    return out


def in_list(score: Callable[[Tensor], Tensor], features: Tensor) -> Score:
    """The score of an item moved within its list (n, d), from the scores (b, n) of lists (b, n, d)."""
    x = features.detach().clone().float()
    n = max(1, len(x))

    def of(moved: Tensor, which: Tensor) -> Tensor:
        rows = torch.arange(len(moved), device=x.device)
        lists = x.expand(len(moved), *x.shape).clone()
        lists[rows, which] = moved
        return score(lists)[rows, which]

    return Score(of, max(1, min(AT_ONCE // n, PAIRS // n**2)), FEW_STEPS)


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


def base_shares(base: Base, raw: Tensor, items: Sequence[int]) -> np.ndarray | None:
    """What each feature adds to the score of a LightGBM base, (len(items), d); None for other bases.

    `raw` (n, d) are the features of one list as in the data.
    """
    if base.trees is None:
        return None
    shares: np.ndarray = _tree_shares(base.trees, raw)[list(items)] / base.factor
    return shares


def _network_shares(
    sides: Sequence[tuple[float, Answerer, Position]], features: Tensor, base: Tensor, items: Sequence[int]
) -> np.ndarray:
    device = next(sides[0][1].parameters()).device
    x, held = features.to(device), base.detach().clone().to(device)
    found = np.zeros((len(items), x.shape[1]))
    for sign, model, position in sides:
        shares = integrated_gradients(_residual(model, position, x, held), x, items)
        found += sign / position.scale * shares.double().cpu().numpy()
    return found


def _residual(model: Answerer, position: Position, x: Tensor, base: Tensor) -> Score:
    """delta of a moved item of the list x (n, d) with base scores (n,), at the choice's weights."""
    w = torch.tensor(position.weights, dtype=torch.float32, device=x.device)
    if isinstance(model, Ranker) and not model.heads:
        return _unattended(model, w, x, base)

    def score(lists: Tensor) -> Tensor:
        b = len(lists)
        mask = torch.ones(b, len(x), dtype=torch.bool, device=x.device)
        out: Tensor = model(lists, base.expand(b, -1), mask, w)
        return out

    return in_list(score, x)


def _unattended(model: Ranker, w: Tensor, x: Tensor, base: Tensor) -> Score:
    """The same without attention: other items count through the softmax over the list alone, and need no other pass."""
    if not model.separable:

        def alone(moved: Tensor, which: Tensor) -> Tensor:
            out: Tensor = model(moved[:, None], base[which, None], _one(moved), w)
            return out.squeeze(-1)

        return Score(alone, AT_ONCE)
    with torch.no_grad():
        logits = model.logits(x[None], base[None], torch.ones(1, len(x), dtype=torch.bool, device=x.device))[0]
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        others = logits[:, None].masked_fill(itself, -torch.inf).logsumexp(-1)  # (m, n) without the item itself

    def of(moved: Tensor, which: Tensor) -> Tensor:
        own = model.logits(moved[:, None], base[which, None], _one(moved))  # (b, m, 1)
        log_p = own - torch.logaddexp(own, others.T[which].unsqueeze(-1))
        return model.mixed(log_p, w.expand(len(moved), -1)).squeeze(-1)

    return Score(of, AT_ONCE)


def _one(moved: Tensor) -> Tensor:
    return torch.ones(len(moved), 1, dtype=torch.bool, device=moved.device)


def _tree_shares(booster: object, features: Tensor) -> np.ndarray:
    """LightGBM's contributions (n, d) beside the list's average item."""
    found = booster.predict(features.cpu().numpy(), pred_contrib=True)  # type: ignore[attr-defined]
    return centred(np.asarray(found, dtype=float)[:, :-1])  # the last column is the same for every item
