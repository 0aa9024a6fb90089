"""A Pareto hypernetwork (Navon et al. 2021, "Learning the Pareto Front with Hypernetworks"): w generates the weights.

An MLP on w has one linear output per tensor of an unconditioned scorer; the scorer itself owns no weights. Shapes as in
`model`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hyperdpo.errors import ConfigError
from hyperdpo.methods import GENERATOR_WIDTH
from hyperdpo.rank.model import Answerer, NetConfig, ScoreNet

SPREAD = 0.1  # how far a draw of w moves the generated weights at first, against a network's usual initial weights


class HyperRanker(Answerer):
    """The residual delta(y, w) of a scorer whose every weight is a function of w.

    Args:
        d: item features.
        m: auxiliary objectives.
        config: size of the generated scorer.
        hidden: width of the two hidden layers on w.
    """

    def __init__(self, d: int, m: int, config: NetConfig, *, hidden: int = GENERATOR_WIDTH) -> None:
        super().__init__()
        self.m = m
        self.use_base = config.use_base
        scorer = ScoreNet(d + int(config.use_base), config)
        self._scorer = [scorer]  # in a list: a shape to call with other weights, not a part with its own
        self.shapes = {name: p.shape for name, p in scorer.named_parameters()}
        self.trunk = nn.Sequential(nn.Linear(m, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        layers = [nn.Linear(hidden, p.numel()) for p in scorer.parameters()]
        self.outputs = nn.ModuleList(layers)
        with torch.no_grad():
            for layer, start in zip(layers, scorer.parameters(), strict=True):
                layer.weight.mul_(SPREAD * float(start.std(correction=0)) / float(layer.weight.std()))
                layer.bias.copy_(start.flatten())

    def generate(self, weights: Tensor) -> dict[str, Tensor]:
        """The scorer's tensors for one w (m,)."""
        code: Tensor = self.trunk(weights)
        flat = [layer(code) for layer in self.outputs]
        return {name: x.view(shape) for x, (name, shape) in zip(flat, self.shapes.items(), strict=True)}

    def encode(self, features: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """What does not depend on w: the inputs, (b, n, d)."""
        return torch.cat([features, base.unsqueeze(-1)], -1) if self.use_base else features

    def decode(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """delta (b, n), 0 on pads, for one w (m,). Raises ConfigError for a w per list: each needs its own network."""
        if weights.dim() != 1:
            raise ConfigError("A hypernetwork takes one w a batch; train it with draw = step.")
        scorer = self._scorer[0]
        scorer.train(self.training)
        scores: Tensor = functional_call(scorer, self.generate(weights), (encoded, mask)).squeeze(-1)
        return scores.masked_fill(~mask, 0.0)
