"""Control after training: the linear transformation of eq. (15) and the mixture's closed form for every w.

Temperatures that differ between objectives have no closed form: see `implicit`.

Shapes: `residual` is delta = s - s_base, (..., n); `log_p` holds log p_j = log E[t(z^j) | list], (..., m, n).
"""

from __future__ import annotations

import torch
from torch import Tensor

SAME_RATIO = 1e-6  # relative difference of ratios that float32 temperatures may have


def scaled_scores(base: Tensor, residual: Tensor, scale: float) -> Tensor:
    """Eq. (15): s_{c beta} = (1 - 1/c) s_base + (1/c) s_beta = s_base + delta / c; no forward pass is needed."""
    return base + residual / scale


def common_scale(beta: Tensor, training: Tensor) -> float | None:
    """The c with `beta` = c * `training`, both (m,): eq. (15) then needs no model; None where there is none."""
    ratio = beta.double().cpu() / training.double().cpu()
    return float(ratio.mean()) if float(ratio.max() / ratio.min()) - 1 < SAME_RATIO else None


def mixture_residual(log_p: Tensor, weights: Tensor, beta: float | Tensor) -> Tensor:
    """The minimiser of w . L for a common beta: delta = (1/beta) log sum_j w_j p_j, shape (..., n).

    Cross-entropy is linear in its target, so w . L is the cross-entropy of sum_j w_j t(z^j), whose minimiser is
    softmax(beta delta) = sum_j w_j p_j. `weights` is (m,) or (..., m). Objectives with weight 0 drop out exactly.
    """
    return torch.logsumexp(log_p + weights.log().unsqueeze(-1), -2) / beta


def geometric_residual(log_p: Tensor, weights: Tensor, beta: float | Tensor) -> Tensor:
    """The geometric mixture: delta = (1/beta) sum_j w_j log p_j, MO-DPO's population optimum for a common beta."""
    return torch.einsum("...mn,...m->...n", log_p, weights.expand(*log_p.shape[:-1])) / beta


def oracle_residual(p: Tensor, weights: Tensor, beta: float | Tensor, *, floor: float = 1e-12) -> Tensor:
    """`mixture_residual` for given probabilities `p` (..., m, n): the best any model could do at this beta and w."""
    return mixture_residual(p.clamp(min=floor).log(), weights, beta)
