"""Losses of the paper, eq. (9)-(14): pure functions of tensors, one value per list out.

Shapes: b lists of n padded items, m objectives. `mask` (b, n) is bool, True means a real item. A fully masked list
gives 0 with a live gradient; NaN stays NaN.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

PenaltySign = Literal["toward", "away"]


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """log softmax over the real items of the last axis, shape as `scores`; 0 on pads (so that 0 * log p is 0)."""
    floor = torch.finfo(scores.dtype).min
    return torch.log_softmax(scores.masked_fill(~mask, floor), -1).masked_fill(~mask, 0.0)


def listwise_loss(residual: Tensor, targets: Tensor, mask: Tensor, *, beta: float | Tensor = 1.0) -> Tensor:
    """Eq. (10): -sum_i t_i log softmax_i(beta * residual), one value per list, shape (...,).

    Args:
        residual: `s - s_base`, shape (..., n). With `beta=1` and a base of 0 this is ListNet, eq. (9).
        targets: the label distribution t(z), shape (..., n), 0 on pads; an uninformative list's row is 0 and costs 0.
        mask: True on real items, shape (..., n).
        beta: temperature of this objective, broadcastable to `residual`.
    """
    return -(targets * masked_log_softmax(beta * residual, mask)).sum(-1)


def objective_losses(residual: Tensor, targets: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
    """Eq. (11): the m losses of one residual (b, n) or one residual per objective (b, n, m); shape (b, m).

    `targets` is (b, n, m), `beta` (m,) or one for each list (b, m); `mask` (b, n), or (b, n, m) where an objective has
    labels for some of the items only: its softmax is then over those.
    """
    if residual.dim() == 2:
        residual = residual.unsqueeze(-1)
    if mask.dim() == 2:
        mask = mask.unsqueeze(-1)
    per_objective = (residual * beta.unsqueeze(-2)).transpose(-1, -2)  # (b, m, n)
    return listwise_loss(per_objective, targets.transpose(-1, -2), mask.transpose(-1, -2))


def drift(residual: Tensor, mask: Tensor) -> Tensor:
    """(b,): minus the mean residual of a list's items, `residual` and `mask` (b, n) (ours).

    Eq. (11) does not see it: what is common to a list leaves its softmax as it is. For the base's own samples it
    estimates KL(base || model) in nats, and a language model that drifts loses its fluency.
    """
    return -(residual * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def scalarised_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """Eq. (12): w . L over the last axis; `losses` and `weights` broadcast, last axis m."""
    return (weights * losses).sum(-1)


def alignment_penalty(losses: Tensor, weights: Tensor, *, sign: PenaltySign = "toward") -> Tensor:
    """Eq. (13): the cosine penalty G_w over the last axis (m), to be added to the loss.

    `toward` is -cos(w, L), which pulls the loss vector onto the ray of w, as the text and the work it cites mean it.
    `away` is +cos(w, L), which is the printed formula -cos(w, -L) read literally. An all-zero loss vector gives 0.
    """
    cosine = torch.cosine_similarity(weights.expand_as(losses), losses, dim=-1, eps=1e-12)
    return -cosine if sign == "toward" else cosine


def icos_loss(losses: Tensor, weights: Tensor, *, penalty: float = 0.0, sign: PenaltySign = "toward") -> Tensor:
    """Eq. (14) for given draws of w: w . L + lambda G_w, shape of `losses` without its last axis.

    Args:
        losses: (m,) batch means with one w per step, or (b, m) with one w per list.
        weights: (m,) or (b, m); 0 for what a list is uninformative for, so that the cosine leaves it out.
        penalty: lambda.
        sign: see `alignment_penalty`.
    """
    value = scalarised_loss(losses, weights)
    if penalty:
        value = value + penalty * alignment_penalty(losses, weights, sign=sign)
    return value


def mo_dpo_loss(
    residual: Tensor,
    targets: Tensor,
    mask: Tensor,
    rewards: Tensor,
    weights: Tensor,
    k: int,
    *,
    beta: float | Tensor = 1.0,
) -> Tensor:
    """MO-DPO's loss for lists: -sum_i t_i log softmax_i((beta delta_i - sum_{j != k} w_j r_ji) / w_k); shape (b,).

    For two items with labels (1, 0) it is MODPO's loss (Zhou et al. 2024). Its optimum does not depend on k.

    Args:
        residual: delta, (b, n).
        targets: t(z^k) of objective k, (b, n); an uninformative list's row is 0 and costs 0.
        mask: (b, n).
        rewards: r_j = beta_j delta_j of the single-objective models, (b, n, m).
        weights: one w (m,).
        k: the objective whose labels are used; w_k is above 0.
    """
    others = weights.clone()
    others[k] = 0.0
    return listwise_loss((beta * residual - rewards @ others) / weights[k], targets, mask)


def distillation_loss(residual: Tensor, rewards: Tensor, mask: Tensor, weights: Tensor, beta: Tensor) -> Tensor:
    """How far a model's reward at w is from the w-weighted sum of single rewards; (b,), squared (ours).

    The error is (w . beta) delta_i - sum_j w_j r_ji less its mean over the list, which no listwise loss sees; this is
    its mean square over the real items. With a common beta it is 0 at MO-DPO's optimum alone, with others at a reward
    of w . r kept near the base by w . beta. Distilled rewards: Fisch et al. 2024.

    Args:
        residual: delta, (b, n).
        rewards: r_j = beta_j delta_j of single-objective models, (b, n, m).
        mask: (b, n).
        weights: one w (m,), or one for each list (b, m).
        beta: (m,).
    """
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    wanted = (rewards * weights.unsqueeze(-2)).sum(-1)
    error = ((weights @ beta).unsqueeze(-1) * residual - wanted) * mask
    error = (error - error.sum(-1, keepdim=True) / count) * mask
    return error.square().sum(-1) / count.squeeze(-1)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, *, beta: float | Tensor = 1.0
) -> Tensor:
    """Eq. (4): -log sigmoid(beta * ((s_w - base_w) - (s_l - base_l))), one value per pair.

    Equal to `listwise_loss` for two items with labels (1, 0) under L1 normalisation.
    """
    margin = (chosen - base_chosen) - (rejected - base_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin)
