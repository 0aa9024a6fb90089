"""What of a language model depends on w: a prefix masked by a low-rank function of it, and LoRA turned by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 64  # width of the MLPs
import os
SCALE = float(os.environ.get("SC", "1"))
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


class HyperCore(nn.Module):
    """A matrix M(w) between the two factors of each adapted layer: x A^T M(w) B^T in place of x A^T B^T (ours).

    M(w) is what an MLP gives plus a diagonal matrix of m w_j, r times for each objective: each begins with r rows of A
    and B of its own, at equal weights LoRA as it is, at a corner LoRA of that objective alone, as the members of a soup
    are. At one w it is LoRA of rank m r with the factor M(w)^T A: what is exported is ordinary. B begins at 0 as in
    LoRA, so that it changes nothing yet. Preferences in the core of LoRA: Zhong et al. 2024 (Panacea), where M is
    diagonal; a soup trained as a whole: Wang et al. 2024 (CLP).

    Args:
        m: objectives.
        layers: adapted layers.
        rank: r, rows of an objective.
        hidden: width of the MLP.
    """

    def __init__(self, m: int, layers: int, rank: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.m, self.layers, self.rank = m, layers, rank
        self.turn = _mlp(m, hidden, layers * (m * rank) ** 2, bias=0.0, start=float(os.environ.get('ST','1.0')))

    def forward(self, weights: Tensor) -> Tensor:
        """(rows, layers, m r, m r) for `weights` (rows, m)."""
        own = torch.diag_embed(SCALE * weights.repeat_interleave(self.rank, -1))
        turned: Tensor = self.turn(weights).unflatten(-1, (self.layers, *own.shape[1:]))
        return turned + own.unsqueeze(1)


def _mlp(inputs: int, hidden: int, outputs: int, *, bias: float, start: float = START) -> nn.Sequential:
    """An MLP whose output begins near `bias`."""
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(start)
        last.bias.fill_(bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)
