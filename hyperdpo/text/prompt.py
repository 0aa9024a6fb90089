"""What of a language model depends on w: a prefix masked by a low-rank function of it, and LoRA gated by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 64  # width of the MLPs
START = 0.3  # how far the mask may depend on w before training, against PyTorch's own initial scale


class PlainPrompt(nn.Module):
    """Ordinary prompt tuning: k virtual tokens, the same for every w.

    Args:
        start: (k, d_model) what the virtual tokens begin as.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.prefix = nn.Parameter(start.detach().clone().float())

    def forward(self, weights: Tensor | None = None) -> Tensor:
        """(k, d_model), whatever `weights` are."""
        return self.prefix


class HyperPrompt(nn.Module):
    """prefix * (L(w) R(w)): two MLPs map w to (k, r) and (r, d_model) matrices whose product masks k virtual tokens.

    The mask is near 1 before training, so that step 0 is ordinary prompt tuning. Source: the paper, section on hyper
    prompt tuning.

    Args:
        m: objectives.
        rank: r of the mask.
        start: (k, d_model) what the virtual tokens begin as.
        hidden: width of the MLPs.
    """

    def __init__(self, m: int, rank: int, start: Tensor, hidden: int = HIDDEN) -> None:
        super().__init__()
        k, d = start.shape
        self.k, self.rank, self.d = k, rank, d
        self.prefix = nn.Parameter(start.detach().clone().float())
        self.left = _mlp(m, hidden, k * rank, bias=1.0 / rank)
        self.right = _mlp(m, hidden, rank * d, bias=1.0)

    def mask(self, weights: Tensor) -> Tensor:
        """(..., k, d_model) for `weights` (..., m)."""
        left = self.left(weights).unflatten(-1, (self.k, self.rank))
        right = self.right(weights).unflatten(-1, (self.rank, self.d))
        product: Tensor = left @ right
        return product

    def forward(self, weights: Tensor | None) -> Tensor:
        """(..., k, d_model): one prefix for each of `weights` (..., m)."""
        assert weights is not None, "a conditioned prefix needs w"
        return self.prefix * self.mask(weights.to(self.prefix.dtype))


def gates(weights: Tensor, rank: int) -> Tensor:
    """(..., m r): w_j for each of the r rows that LoRA's factors hold for objective j; `weights` is (..., m) (ours).

    Between the factors of an adapted layer they give x A^T diag(g) B^T: at a corner LoRA of that objective alone, in
    between LoRAs mixed as w says, trained as one. At one w it is plain LoRA of rank m r, which is what is exported.
    Close to it: a soup whose mixtures are trained (Wang et al. 2024, CLP), w in the core of a decomposition (Zhong et
    al. 2024, Panacea).
    """
    return weights.repeat_interleave(rank, -1)


def _mlp(inputs: int, hidden: int, outputs: int, *, bias: float) -> nn.Sequential:
    """An MLP whose output begins near `bias`."""
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(START)
        last.bias.fill_(bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)
