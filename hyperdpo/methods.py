"""Methods as recipes over fit(): how many models, which w each is trained for, and what a step minimises.

A method cannot differ from another in its loop, its data, its optimiser or its stopping rule: those are fit()'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from hyperdpo.errors import ConfigError, nearest
from hyperdpo.losses import PenaltySign, icos_loss, objective_losses
from hyperdpo.training import StepLoss
from hyperdpo.weights import DEFAULT_POINTS, draw_weights, grid

MethodName = Literal["hyperdpo", "dpo-ls"]
METHODS: tuple[str, ...] = get_args(MethodName)


class ListwiseBatch(Protocol):
    """What a step needs to know of b lists of n items with m objectives."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the model's forward takes before the weights."""

    targets: Tensor
    """t(z), (b, n, m); a list that is uninformative for an objective has a row of 0."""
    mask: Tensor
    """(b, n) bool, True means a real item."""
    total: int
    """Lists in this batch over all processes."""
    share: slice
    """Which of those `total` lists these are: a list draws the same w in whichever process it is."""


@dataclass(frozen=True)
class MethodConfig:
    """A method and how it treats importance weights.

    Attributes:
        method: `hyperdpo` trains one model for every w; `dpo-ls` one model for each of `points` weights.
        alpha: concentration of the symmetric Dirichlet that w is drawn from; below 1 draws favour the corners.
        draw: a draw of w per `list`, or per `step` as in the paper.
        penalty: lambda of eq. (13)-(14).
        penalty_sign: `toward` or `away`, see `losses.alignment_penalty`.
        points: size of the grid that is validated on and, for `dpo-ls`, trained at.
    """

    method: MethodName = "hyperdpo"
    alpha: float = 0.5
    draw: Literal["list", "step"] = "list"
    penalty: float = 0.0
    penalty_sign: PenaltySign = "toward"
    points: int = DEFAULT_POINTS

    def __post_init__(self) -> None:
        problems = []
        if self.method not in METHODS:
            problems.append(
                f"No method is called {self.method!r}{nearest(self.method, METHODS)}; there are {', '.join(METHODS)}."
            )
        if not self.alpha > 0:
            problems.append(f"alpha is above 0; got {self.alpha!r}.")
        if self.draw not in ("list", "step"):
            problems.append(f"draw is 'list' or 'step'; got {self.draw!r}.")
        if self.penalty < 0:
            problems.append(f"The penalty lambda is 0 or more; got {self.penalty!r}; its sign is an option of its own.")
        if self.penalty_sign not in ("toward", "away"):
            problems.append(f"penalty_sign is 'toward' or 'away'; got {self.penalty_sign!r}.")
        if problems:
            raise ConfigError(problems)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Member:
    """One model of a method: the single w it is for, or None for a model of every w."""

    weights: Tensor | None
    label: str


def members(config: MethodConfig, m: int) -> list[Member]:
    """The models a method trains, in order."""
    if config.method == "dpo-ls":
        return [Member(w, f"w = ({', '.join(f'{v:.2f}' for v in w.tolist())})") for w in grid(m, config.points)]
    return [Member(None, "every w")]


def step_loss(config: MethodConfig, member: Member, *, beta: Tensor, coverage: Tensor, separable: bool) -> StepLoss:
    """What fit() minimises for one member of a method.

    Each objective's loss is divided by `coverage` (m,), the share of training lists that are informative for it, so
    that its expectation is the mean over informative lists, without the noise of a small batch's own count.
    """
    m = len(beta)

    def per_list(residual: Tensor, batch: ListwiseBatch) -> Tensor:
        return objective_losses(residual, batch.targets, batch.mask, beta) / coverage

    def fixed(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        assert member.weights is not None
        w = member.weights.to(beta.device)
        losses = per_list(model(*batch.inputs, w), batch).sum(0) / batch.total
        return icos_loss(losses, w, penalty=config.penalty, sign=config.penalty_sign)

    def corners(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        return per_list(model(*batch.inputs, None), batch).sum() / (m * batch.total)

    def drawn_per_step(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        w = draw_weights(config.alpha, 1, m, rng)[0].to(beta.device)
        losses = per_list(model(*batch.inputs, w), batch).sum(0) / batch.total
        return icos_loss(losses, w, penalty=config.penalty, sign=config.penalty_sign)

    def drawn_per_list(model: nn.Module, batch: ListwiseBatch, rng: np.random.Generator) -> Tensor:
        w = draw_weights(config.alpha, batch.total, m, rng)[batch.share].to(beta.device)
        losses = per_list(model(*batch.inputs, w), batch)
        informative = batch.targets.sum(1) > 0
        value = icos_loss(losses, w * informative, penalty=config.penalty, sign=config.penalty_sign)
        return value.sum() / batch.total

    if member.weights is not None:
        return fixed
    if separable:
        return corners
    return drawn_per_step if config.draw == "step" else drawn_per_list


@torch.no_grad()
def mean_losses(model: nn.Module, batches: Iterable[ListwiseBatch], weights: Tensor, beta: Tensor) -> Tensor:
    """L_j of eq. (10) at each of `weights` (p, m), the mean over each objective's informative lists; shape (p, m).

    A model with `encode` and `decode` is encoded once per batch and decoded p times. NaN where no list is informative.
    """
    total = torch.zeros(len(weights), weights.shape[1], dtype=torch.float64)
    count = torch.zeros(weights.shape[1], dtype=torch.float64)
    for batch in batches:
        features, base, mask = batch.inputs
        encoded = model.encode(features, base, mask)  # type: ignore[operator]
        for i, w in enumerate(weights):
            residual = model.decode(encoded, w.to(mask.device), base, mask)  # type: ignore[operator]
            losses = objective_losses(residual, batch.targets, batch.mask, beta)
            total[i] += losses.sum(0).double().cpu()
        count += (batch.targets.sum(1) > 0).sum(0).double().cpu()
    return total / count.where(count > 0, torch.nan)


def validation_weights(config: MethodConfig, member: Member, m: int) -> Tensor:
    """The weights a member is judged at, (p, m): its own, or the whole grid."""
    return grid(m, max(config.points, m)) if member.weights is None else member.weights[None]
