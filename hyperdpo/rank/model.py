"""Ranking networks: a transformer over the items of a list, and the ways it can take importance weights as an input.

Shapes: features (b, n, d), mask (b, n) bool, weights (b, m), base (b, n) on the run's one scale.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, scaled_dot_product_attention

from hyperdpo.control import common_scale, geometric_residual, mixture_residual
from hyperdpo.errors import ConfigError, nearest
from hyperdpo.implicit import implicit_residual
from hyperdpo.losses import masked_log_softmax

Parametrisation = Literal["mixture", "geometric", "augmentation", "scratch", "film", "temperature"]
PARAMETRISATIONS: tuple[str, ...] = get_args(Parametrisation)
SEPARABLE = ("mixture", "geometric")  # one pass gives every w
ANY_BETA = ("mixture", "temperature")  # any temperatures after training, not only multiples of the training ones
MODULATED = ("film", "temperature")


@dataclass(frozen=True)
class NetConfig:
    """Size of a network.

    Attributes:
        width: hidden width; divisible by `heads`.
        layers: blocks.
        heads: attention heads; 0 leaves attention out, so that an item is judged by its own features alone.
        dropout: on block outputs; the paper states none.
        use_base: whether the base score stands beside the features as one more input.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    use_base: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.heads < 0 or (self.heads and self.width % self.heads):
            raise ConfigError(
                "The width is a multiple of the heads, and 0 heads mean no attention; got width "
                f"{self.width}, heads {self.heads}."
            )
        if self.layers < 0 or not 0 <= self.dropout < 1:
            raise ConfigError(f"layers >= 0 and 0 <= dropout < 1; got layers {self.layers} and dropout {self.dropout}.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Block(nn.Module):
    """Attention over a list's items, then one linear layer, each on a residual path behind a parameter-free norm.

    Without heads only the linear layer is there.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        if self.heads:
            self.qkv = nn.Linear(config.width, 3 * config.width)
            self.out = nn.Linear(config.width, config.width)
        self.forward_layer = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, n, width) -> (b, n, width); pads attend and are never attended to."""
        if self.heads:
            x = x + self.dropout(self._attention(_norm(x), mask))
        out: Tensor = x + self.dropout(relu(self.forward_layer(_norm(x))))
        return out

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, width))
        return out


class Encoder(nn.Module):
    """Items of a list to hidden vectors: Linear(d + extra -> width), then the blocks."""

    def __init__(self, inputs: int, config: NetConfig) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor, modulation: Tensor | None = None) -> Tensor:
        """(b, n, inputs) -> (b, n, width).

        `modulation` (b, layers + 1, 2, width) scales and shifts each stage (FiLM).
        """
        safe = mask | ~mask.any(-1, keepdim=True)  # a fully padded list attends to its pads: finite, and never used
        x = _modulate(self.input(x), modulation, 0)
        for i, block in enumerate(self.blocks):
            x = _modulate(block(x, safe), modulation, i + 1)
        return _norm(x)


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])


def _modulate(x: Tensor, modulation: Tensor | None, stage: int) -> Tensor:
    if modulation is None:
        return x
    scale, shift = modulation[:, stage, :, None, :].unbind(1)
    return x * (1 + scale) + shift


class ScoreNet(nn.Module):
    """An unconditioned scorer with `outputs` heads: (b, n, inputs) -> (b, n, outputs)."""

    def __init__(self, inputs: int, config: NetConfig, outputs: int = 1) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, config)
        self.head = nn.Linear(config.width, outputs, bias=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(features, mask))
        return scores


class Answerer(nn.Module):
    """What every trained model of this wing can do: give the residual delta(y, w) = s(y, w) - s_base(y).

    Attributes:
        m: auxiliary objectives.
        separable: whether one `encode` serves every w without another pass through the model.
        any_beta: whether `forward` takes any temperatures, (m,), as one more argument; the others answer multiples of
            the training ones by eq. (15), see `multiple`.
        tempered: whether temperatures are drawn in training, as the weights are.
    """

    m: int
    separable = False
    any_beta = False
    tempered = False

    def encode(self, features: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """What does not depend on w: by default the features, (b, n, d)."""
        return features

    def decode(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """delta (b, n), 0 on pads, for what `encode` returned and weights (m,)."""
        raise NotImplementedError

    def forward(self, features: Tensor, base: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """delta (b, n), 0 on pads, for weights (m,)."""
        return self.decode(self.encode(features, base, mask), weights, base, mask)


class Ranker(Answerer):
    """The residual delta(y, w) = s(y, w) - s_base(y) under one parametrisation.

    Args:
        d: item features.
        m: auxiliary objectives.
        parametrisation: `mixture` and `geometric` have one head per objective and give every w in closed form;
            `augmentation` outputs delta, `scratch` outputs s, both with w concatenated to the input (the paper);
            `film` outputs delta, with w scaling and shifting every stage of the network (ours); `temperature` is a film
            that takes the direction of beta beside w (ours).
        config: size.
        beta: the m training temperatures. The closed forms need one common value and raise ConfigError otherwise.
        conditioned: False leaves w out: one single-weight model, as DPO-LS trains.
    """

    def __init__(
        self,
        d: int,
        m: int,
        parametrisation: str,
        config: NetConfig,
        beta: tuple[float, ...],
        *,
        conditioned: bool = True,
    ) -> None:
        super().__init__()
        if parametrisation not in PARAMETRISATIONS:
            raise ConfigError(
                f"No parametrisation is called {parametrisation!r}{nearest(parametrisation, PARAMETRISATIONS)}; "
                f"there are {', '.join(PARAMETRISATIONS)}."
            )
        if parametrisation in SEPARABLE and len(set(beta)) > 1:
            raise ConfigError(
                f"The {parametrisation} needs one common beta; got {beta}; use --parametrisation temperature, film or "
                "augmentation for training temperatures that differ. A mixture trained at one beta answers any "
                "temperatures afterwards (--beta of evaluate and score)."
            )
        self.parametrisation = parametrisation
        self.separable = parametrisation in SEPARABLE
        self.conditioned = conditioned
        self.tempered = conditioned and parametrisation == "temperature"
        self.any_beta = conditioned and parametrisation in ANY_BETA
        self.use_base = config.use_base
        self.heads = config.heads
        self.m = m
        self.beta: Tensor
        self.register_buffer("beta", torch.tensor(beta, dtype=torch.float32), persistent=False)
        concatenated = m if conditioned and parametrisation in ("augmentation", "scratch") else 0
        inputs = d + int(config.use_base) + concatenated
        self.net = ScoreNet(inputs, config, m if self.separable else 1)
        self.film = None
        if conditioned and parametrisation in MODULATED:
            stages = (config.layers + 1) * 2 * config.width
            last = nn.Linear(config.width, stages)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.film = nn.Sequential(nn.Linear(m * (1 + self.tempered), config.width), nn.ReLU(), last)
        self.stages = (config.layers + 1, 2, config.width)

    def encode(self, features: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """What does not depend on w, computed once for many w: log p (b, m, n) if separable, else the inputs."""
        if not self.separable:
            return self._inputs(features, base)
        return masked_log_softmax(self.logits(features, base, mask), mask.unsqueeze(-2))

    def _inputs(self, features: Tensor, base: Tensor) -> Tensor:
        return torch.cat([features, base.unsqueeze(-1)], -1) if self.use_base else features

    def logits(self, features: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """A separable model's heads before the softmax over the list, (b, m, n)."""
        heads: Tensor = self.net(self._inputs(features, base), mask).transpose(-1, -2)
        return heads

    def mixed(self, log_p: Tensor, weights: Tensor) -> Tensor:
        """A separable model's delta (b, n) from log p (b, m, n) and weights (b, m), at the training beta."""
        if self.parametrisation == "mixture":
            return mixture_residual(log_p, weights, self.beta[0])
        return geometric_residual(log_p, weights, self.beta[0])

    def decode(
        self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor, beta: Tensor | None = None
    ) -> Tensor:
        """delta (b, n), 0 on pads, for what `encode` returned and weights (m,) or (b, m).

        `beta` (m,) asks for other temperatures than the training ones, as `at_beta` can give them; a temperature-
        conditioned network also takes one for each list, (b, m).
        """
        if beta is not None and not self.tempered:
            return self.at_beta(encoded, weights, base, mask, beta)
        weights = weights.expand(mask.shape[0], self.m)
        if self.tempered:
            residual = self._tempered(encoded, weights, mask, self.beta if beta is None else beta)
        elif self.separable:
            residual = self.mixed(encoded, weights)
        else:
            residual = self._conditioned(encoded, weights, mask)
            if self.parametrisation == "scratch":
                residual = residual - base
        return residual.masked_fill(~mask, 0.0)

    def at_beta(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
        """`decode` at temperatures `beta` (m,) and weights (m,): the mixture's implicit solution, or eq. (15).

        Raises ConfigError where neither applies.
        """
        if self.parametrisation == "mixture":
            return implicit_residual(encoded, weights, beta, mask)[0]
        return self.decode(encoded, weights, base, mask) / multiple(self, beta, self.beta)

    def _tempered(self, inputs: Tensor, weights: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
        """delta = Delta(y, w, beta / |beta|_1) / |beta|_1 (derived), so that eq. (15) holds by construction.

        Delta is m times the network's output, so that at one common beta of 1 the output is delta. The direction is
        handed over as the logarithm of m * beta / |beta|_1: 0 at a common beta, and of one size whichever way it turns.
        """
        size = beta.mean(-1, keepdim=True)
        direction = (beta / size).log().expand_as(weights)
        return self._conditioned(inputs, torch.cat([weights, direction], -1), mask) / size

    def _conditioned(self, inputs: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """The network's output (b, n); `weights` (b, m), or (b, 2 m) with the direction of beta."""
        modulation = None
        if self.film is not None:
            modulation = self.film(weights).view(-1, *self.stages)
        elif self.conditioned:
            inputs = torch.cat([inputs, weights.unsqueeze(1).expand(-1, inputs.shape[1], -1)], -1)
        residual: Tensor = self.net.head(self.net.encoder(inputs, mask, modulation)).squeeze(-1)
        return residual

    def forward(  # type: ignore[override]
        self, features: Tensor, base: Tensor, mask: Tensor, weights: Tensor | None, beta: Tensor | None = None
    ) -> Tensor:
        """delta for weights (m,) or (b, m), shape (b, n); for `weights=None` the m corners at once, (b, n, m).

        `beta` as in `decode`. The corners are how a separable model is trained: head j alone is the answer to w = e_j.
        """
        encoded = self.encode(features, base, mask)
        if weights is not None:
            return self.decode(encoded, weights, base, mask, beta)
        if not self.separable:
            raise ConfigError(f"Only {' and '.join(SEPARABLE)} have all corners at once.")
        return encoded.transpose(-1, -2) / self.beta


def multiple(model: Answerer, beta: Tensor, training: Tensor) -> float:
    """The c with `beta` (m,) = c * `training`, at which eq. (15) gives the answer. Raises ConfigError without one."""
    c = common_scale(beta, training)
    if c is None:
        raise ConfigError(
            f"{getattr(model, 'parametrisation', type(model).__name__)!r} answers multiples of its training beta "
            f"({_listed(training)}) only, by eq. (15); got {_listed(beta)}; train with --parametrisation "
            f"{' or '.join(ANY_BETA)} for any temperatures, or a model of these ones."
        )
    return c


def _listed(beta: Tensor) -> str:
    return ", ".join(f"{b:.4g}" for b in beta.tolist())


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
