"""DPO Soup (Rame et al. 2023, "Rewarded soups"): one model per objective, their weights averaged with w."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hyperdpo.errors import ConfigError
from hyperdpo.rank.model import Answerer, Ranker


class Soup(Answerer):
    """m single-objective models of one architecture, answering any w by sum_j w_j theta_j."""

    def __init__(self, models: Sequence[Ranker]) -> None:
        super().__init__()
        self.m = len(models)
        self.models = nn.ModuleList(models)

    def average(self, weights: Tensor) -> dict[str, Tensor]:
        """The averaged tensors for one w (m,)."""
        states = [dict(model.named_parameters()) for model in self.models]
        return {name: torch.stack([s[name] for s in states], -1) @ weights for name in states[0]}

    def decode(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """delta (b, n), 0 on pads, for one w (m,). Raises ConfigError for a w per list: each needs its own average."""
        if weights.dim() != 1:
            raise ConfigError("A soup takes one w a batch.")
        residual: Tensor = functional_call(self.models[0], self.average(weights), (encoded, base, mask, weights))
        return residual
