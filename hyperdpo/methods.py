"""Methods as recipes over fit(): how many models, which w each is trained for, and what a step minimises.

A method cannot differ from another in its loop, its data, its optimiser or its stopping rule: those are fit()'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from hyperdpo.errors import ConfigError, nearest
from hyperdpo.losses import PenaltySign, drift, icos_loss, mo_dpo_loss, objective_losses, scalarised_loss
from hyperdpo.splitting import Parts, split_lists
from hyperdpo.training import StepLoss
from hyperdpo.weights import DEFAULT_POINTS, balanced_weights, draw_beta, draw_weights, grid

MethodName = Literal["hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo", "hypernetwork", "lambdamart", "label-aggregation"]
METHODS: tuple[str, ...] = get_args(MethodName)
Draw = Literal["list", "step", "balanced", "split", "corners"]
METHOD_NAMES = {  # what people read
    "hyperdpo": "HyperDPO",
    "dpo-ls": "DPO-LS",
    "dpo-soup": "DPO Soup",
    "mo-dpo": "MO-DPO",
    "hypernetwork": "Pareto hypernetwork",
    "lambdamart": "LambdaMART, weighted labels",
    "label-aggregation": "LambdaMART, drawn labels",
}
TREES = ("lambdamart", "label-aggregation")  # LightGBM models rather than networks
CONDITIONED = ("hyperdpo", "hypernetwork")  # one network that takes w
EVERY_WEIGHT = (*CONDITIONED, "dpo-soup")  # answers any w, and not only those it was trained for
GENERATOR_WIDTH = 64
SEVERAL = ("dpo-soup", "mo-dpo", "hypernetwork", "label-aggregation")  # of no use with one objective
AT_CORNERS = ("split", "corners")  # which draw no w
MOST_BETA_RANGE = 100.0
VALIDATION_SEED = 7  # of the temperatures a temperature-conditioned network is validated at


class ListwiseBatch(Protocol):
    """What a step needs to know of b lists of n items with m objectives."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the model's forward takes before the weights."""

    targets: Tensor
    """t(z), (b, n, m); a list that is uninformative for an objective has a row of 0."""
    rewards: Tensor | None
    """r_j = beta_j delta_j of the single-objective models, (b, n, m), where a method needs them (MO-DPO)."""
    mask: Tensor
    """(b, n) bool, True means a real item."""

    @property
    def judged(self) -> Tensor:
        """(b, n, m) bool, True where an objective has a label for a real item."""

    total: int
    """Lists in this batch over all processes."""
    share: slice
    """Which of those `total` lists these are: a list draws the same w in whichever process it is."""


class SplittableBatch(ListwiseBatch, Protocol):
    """Lists whose items cost a forward pass each, which is why parts of them are worth training on."""

    def sublists(self, parts: Parts) -> ListwiseBatch:
        """Parts of these lists as lists of their own; `total` and `share` stay."""


@dataclass(frozen=True)
class MethodConfig:
    """A method and how it treats importance weights.

    Attributes:
        method: one model for every w (`hyperdpo`; `hypernetwork`, whose weights w generates); one for each of `points`
            weights (`dpo-ls`; `mo-dpo`, after one per objective; on LightGBM `lambdamart` and `label-aggregation`); or
            one per objective, averaged with w (`dpo-soup`).
        alpha: concentration of the symmetric Dirichlet that w is drawn from; below 1 draws favour the corners.
        draw: a draw of w per `list`, per `step` as in the paper, or per list and `balanced` over objectives. `split`
            and `corners` draw none: the responses to a prompt are shared out among the corners of w, or all of them
            are seen at each, for m times the seconds (see `splitting`); for text alone.
        penalty: lambda of eq. (13)-(14).
        penalty_sign: `toward` or `away`, see `losses.alignment_penalty`.
        points: size of the grid that is validated on and, for one model per weight, trained at.
        beta_range: r >= 1: a temperature-conditioned network draws each beta_j log-uniformly from [1/r, r] times the
            training beta_j.
        generator_width: hidden width of the MLP that generates a `hypernetwork`'s weights.
    """

    method: MethodName = "hyperdpo"
    alpha: float = 0.5
    draw: Draw = "list"
    penalty: float = 0.0
    penalty_sign: PenaltySign = "toward"
    points: int = DEFAULT_POINTS
    beta_range: float = 4.0
    generator_width: int = GENERATOR_WIDTH

    def __post_init__(self) -> None:
        problems = []
        if self.method not in METHODS:
            problems.append(
                f"No method is called {self.method!r}{nearest(self.method, METHODS)}; there are {', '.join(METHODS)}."
            )
        if not self.alpha > 0:
            problems.append(f"alpha is above 0; got {self.alpha!r}.")
        if self.draw not in get_args(Draw):
            problems.append(f"draw is one of {', '.join(get_args(Draw))}; got {self.draw!r}.")
        if self.penalty < 0:
            problems.append(f"The penalty lambda is 0 or more; got {self.penalty!r}; its sign is an option of its own.")
        if self.penalty_sign not in ("toward", "away"):
            problems.append(f"penalty_sign is 'toward' or 'away'; got {self.penalty_sign!r}.")
        if not 1 <= self.beta_range <= MOST_BETA_RANGE:
            problems.append(f"beta_range is from 1 to {MOST_BETA_RANGE:g}; got {self.beta_range!r}.")
        if self.generator_width < 1:
            problems.append(f"generator_width is 1 or more; got {self.generator_width!r}.")
        if self.generator_width != GENERATOR_WIDTH and self.method != "hypernetwork":
            problems.append(f"{self.method} has no generator; generator_width is for hypernetwork: leave it out.")
        if self.penalty and self.method in ("mo-dpo", *TREES):
            problems.append(f"{self.method} has no alignment penalty; got lambda {self.penalty!r}: leave it out.")
        if self.penalty and self.draw in AT_CORNERS:
            problems.append(
                f"Lists trained at the corners have no alignment penalty; got lambda {self.penalty!r}: leave it out, "
                "or take another draw, such as list."
            )
        if problems:
            raise ConfigError(problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the generator's width where there is a generator."""
        without = () if self.method == "hypernetwork" else ("generator_width",)
        return {key: value for key, value in asdict(self).items() if key not in without}


@dataclass(frozen=True)
class Member:
    """One model of a method: the single w it is for, or None for a model of every w.

    `part` says that the model is an ingredient (a soup's, MO-DPO's reward models) and answers no w by itself.
    """

    weights: Tensor | None
    label: str
    part: bool = False


def members(config: MethodConfig, m: int) -> list[Member]:
    """The models a method trains, in order.

    Raises ConfigError where a method needs several objectives and gets one.
    """
    if m < 2 and config.method in SEVERAL:
        raise ConfigError(
            f"{config.method} combines several objectives; got {m}: declare another --objective, or use --method "
            "dpo-ls."
        )
    if config.method in CONDITIONED:
        return [Member(None, "every w")]
    corners = [Member(w, f"objective {j + 1} alone", part=True) for j, w in enumerate(torch.eye(m))]
    if config.method == "dpo-soup":
        return corners
    each = [Member(w, f"w = ({', '.join(f'{v:.2f}' for v in w.tolist())})") for w in grid(m, config.points)]
    return [*corners, *each] if config.method == "mo-dpo" else each


def trained_weights(config: MethodConfig, m: int) -> Tensor | None:
    """(p, m): the only w that a trained method answers, or None where it answers all."""
    if config.method in EVERY_WEIGHT:
        return None
    return torch.stack([x.weights for x in members(config, m) if x.weights is not None and not x.part])


def mixing_weights(config: MethodConfig, m: int) -> int:
    """Numbers a method keeps beside its models: a soup's m for each of its points, as the paper counts them."""
    return m * config.points if config.method == "dpo-soup" else 0


def step_loss(
    config: MethodConfig,
    member: Member,
    *,
    beta: Tensor,
    coverage: Tensor,
    separable: bool,
    tempered: bool = False,
    anchor: float = 0.0,
) -> StepLoss:
    """What fit() minimises for one member of a method. `tempered` models are given drawn temperatures beside w.

    Each objective's loss is divided by `coverage` (m,), the share of training lists that are informative for it, so
    that its expectation is the mean over informative lists, without the noise of a small batch's own count. `anchor`
    times beta is the weight of `losses.drift` beside each.
    """
    m = len(beta)

    def per_list(residual: Tensor, batch: ListwiseBatch, beta: Tensor = beta) -> Tensor:
        losses = objective_losses(residual, batch.targets, batch.judged, beta) / coverage
        return losses + anchor * beta * drift(residual, batch.mask).unsqueeze(-1) if anchor else losses

    def conditioned(model: nn.Module, batch: ListwiseBatch, w: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        if not tempered:
            return per_list(model(*batch.inputs, w), batch)
        drawn = draw_beta(beta, config.beta_range, count, rng)
        drawn = drawn[0] if w.dim() == 1 else drawn[batch.share]
        return per_list(model(*batch.inputs, w, drawn), batch, drawn)

    def fixed(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        assert member.weights is not None
        w = member.weights.to(beta.device)
        losses = per_list(model(*batch.inputs, w), batch).sum(0) / batch.total
        return icos_loss(losses, w, penalty=config.penalty, sign=config.penalty_sign)

    def corners(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        return per_list(model(*batch.inputs, None), batch).sum() / (m * batch.total)

    def drawn_per_step(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        w = draw_weights(config.alpha, 1, m, rng)[0].to(beta.device)
        losses = conditioned(model, batch, w, 1, rng).sum(0) / batch.total
        return icos_loss(losses, w, penalty=config.penalty, sign=config.penalty_sign)

    def drawn_per_list(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        drawn = balanced_weights if config.draw == "balanced" else draw_weights
        w = drawn(config.alpha, batch.total, m, rng)[batch.share].to(beta.device)
        losses = conditioned(model, batch, w, batch.total, rng)
        informative = batch.targets.sum(1) > 0
        value = icos_loss(losses, w * informative, penalty=config.penalty, sign=config.penalty_sign)
        return value.sum() / batch.total

    def at_corners(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        whole = config.draw == "corners"
        parts = split_lists(batch.targets, batch.judged, batch.total, batch.share, rng, whole=whole)
        piece = cast(SplittableBatch, batch).sublists(parts)
        w = torch.eye(m, device=beta.device)[parts.objectives]
        losses = per_list(model(*piece.inputs, w), piece)
        return (parts.weights * scalarised_loss(losses, w)).sum() / batch.total

    def margin(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        assert member.weights is not None
        w = member.weights.to(beta.device)
        return margin_losses(model, batch, w, beta, anchor).sum() / (batch.total * coverage[w.argmax()])

    if member.weights is not None:
        return margin if config.method == "mo-dpo" and not member.part else fixed
    if separable:
        return corners
    if config.draw in AT_CORNERS:
        return at_corners
    return drawn_per_step if config.draw == "step" else drawn_per_list


def margin_losses(model: nn.Module, batch: ListwiseBatch, weights: Tensor, beta: Tensor, anchor: float = 0.0) -> Tensor:
    """`losses.mo_dpo_loss` of each list for k = argmax w, (b,), with `anchor` as in `step_loss`."""
    assert batch.rewards is not None
    k = int(weights.argmax())
    residual = model(*batch.inputs, weights)
    judged = batch.judged[..., k]
    losses = mo_dpo_loss(residual, batch.targets[..., k], judged, batch.rewards, weights, k, beta=beta[k])
    return losses + anchor * beta[k] * drift(residual, batch.mask) if anchor else losses


@torch.no_grad()
def mean_margin_loss(model: nn.Module, batches: Iterable[ListwiseBatch], weights: Tensor, beta: Tensor) -> float:
    """MO-DPO's own loss over the lists that are informative for k = argmax w."""
    total, count = 0.0, 0
    k = int(weights.argmax())
    for batch in batches:
        total += float(margin_losses(model, batch, weights.to(batch.mask.device), beta).sum())
        count += int((batch.targets[..., k].sum(1) > 0).sum())
    return total / count if count else math.nan


@torch.no_grad()
def mean_losses(model: nn.Module, batches: Iterable[ListwiseBatch], weights: Tensor, beta: Tensor) -> Tensor:
    """L_j of eq. (10) at each of `weights` (p, m), the mean over each objective's informative lists; shape (p, m).

    `beta` is (m,), or one for each of `weights` (p, m), which is then handed to the model. A model with `encode` and
    `decode` is encoded once per batch and decoded p times. NaN where no list is informative.
    """
    total = torch.zeros(len(weights), weights.shape[1], dtype=torch.float64)
    count = torch.zeros(weights.shape[1], dtype=torch.float64)
    for batch in batches:
        features, base, mask = batch.inputs
        encoded = model.encode(features, base, mask)  # type: ignore[operator]
        for i, w in enumerate(weights):
            own = () if beta.dim() == 1 else (beta[i],)
            residual = model.decode(encoded, w.to(mask.device), base, mask, *own)  # type: ignore[operator]
            losses = objective_losses(residual, batch.targets, batch.judged, own[0] if own else beta)
            total[i] += losses.sum(0).double().cpu()
        count += (batch.targets.sum(1) > 0).sum(0).double().cpu()
    return total / count.where(count > 0, torch.nan)


def validation_weights(config: MethodConfig, member: Member, m: int) -> Tensor:
    """The weights a member is judged at, (p, m): its own, or the whole grid."""
    return grid(m, max(config.points, m)) if member.weights is None else member.weights[None]


def validation_beta(config: MethodConfig, weights: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """(weights (2 p, m), temperatures (2 p, m)) a temperature-conditioned network is judged at.

    Each of `weights` (p, m) stands at the training `beta` (m,) and at one drawn from the range that is trained on; the
    draws are the same for every model.
    """
    drawn = draw_beta(beta, config.beta_range, len(weights), np.random.default_rng(VALIDATION_SEED))
    return torch.cat([weights, weights]), torch.cat([beta.expand_as(drawn), drawn])
