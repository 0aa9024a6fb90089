"""What residuals are worth against the labels of a split: cross-entropies and accuracies, at any c, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hyperdpo.losses import objective_losses
from hyperdpo.text.data import Preferences


@dataclass(frozen=True)
class Measured:
    """One w on one split.

    Attributes:
        losses: (q, m) cross-entropy of each list, on the pairs' scale where lengths differ; NaN where uninformative.
        correct: (q, m) whether the highest-ranked response is a best-labelled one; NaN where uninformative.
        residuals: (items,) delta of each response in order.
    """

    losses: np.ndarray
    correct: np.ndarray
    residuals: np.ndarray

    @property
    def cross_entropy(self) -> np.ndarray:
        """(m,) mean over informative lists."""
        return np.asarray(np.nanmean(self.losses, 0))

    @property
    def accuracy(self) -> np.ndarray:
        """(m,) mean over informative lists."""
        return np.asarray(np.nanmean(self.correct, 0))

    @property
    def spread(self) -> float:
        """Inter-quartile range of the log-likelihood's change from the base, in nats (the paper's Figure 4 inset)."""
        low, high = np.percentile(self.residuals, [25, 75])
        return float(high - low)


class Labels:
    """The q lists' target distributions at the temperatures `beta` (m,).

    Attributes:
        sizes: (q,) responses of each list.
        judged: (q, n, m) bool, the responses that an objective has scored: it is measured on those alone.
        scale: (q, m) ln 2 / ln n, n the judged responses, where these numbers differ, so that chance is ln 2 in all
            lists; 1 where they do not.
        chance: cross-entropy of an untouched model: ln n, or ln 2 on the common scale.
    """

    def __init__(self, preferences: Preferences, beta: Sequence[float]) -> None:
        targets, self.informative = preferences.target_distributions()
        self.preferences, self.m = preferences, len(preferences.objectives)
        self.sizes = np.array([len(r) for r in preferences.responses])
        self.targets = pad_sequence(list(targets), batch_first=True)
        self.mask = torch.arange(self.targets.shape[1]) < torch.from_numpy(self.sizes).unsqueeze(1)
        self.beta = torch.tensor(list(beta))
        self.judged = pad_sequence(preferences.judged, batch_first=True)
        counts = self.judged.sum(1).where(self.informative, 2).numpy()  # what is uninformative is never looked at
        sizes = set(counts[self.informative.numpy()].tolist())
        same = len(sizes) == 1
        self.scale = np.ones(counts.shape) if same else math.log(2) / np.log(counts)
        self.chance = math.log(sizes.pop()) if same else math.log(2)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def items(self) -> int:
        """Responses of all lists."""
        return int(self.sizes.sum())

    @property
    def reference(self) -> float:
        """1.1 ln n / ln 2: what hypervolume is measured from, on every axis."""
        return 1.1 * self.chance / math.log(2)

    @property
    def floor(self) -> np.ndarray:
        """(m,) the labels' own mean entropy: no model can have a lower cross-entropy."""
        t = self.targets.double().numpy()
        entropy = -(t * np.log(np.where(t > 0, t, 1.0))).sum(1) * self.scale
        return np.asarray(np.nanmean(np.where(self.informative.numpy(), entropy, np.nan), 0))

    def losses(self, residuals: np.ndarray, scale: float = 1.0, lists: np.ndarray | None = None) -> np.ndarray:
        """(p, q, m) cross-entropies of residuals (p, items) at c = `scale`, NaN where a list is uninformative.

        Of some `lists` only, in their order, if given; the items are then theirs.
        """
        chosen = np.arange(len(self)) if lists is None else lists
        targets, mask, judged = self.targets[chosen], self.mask[chosen], self.judged[chosen]
        rows = [objective_losses(_padded(flat / scale, mask), targets, judged, self.beta).numpy() for flat in residuals]
        out = np.stack(rows) * self.scale[chosen]
        out[:, ~self.informative[chosen].numpy()] = np.nan
        return np.asarray(out)

    def from_residuals(self, residuals: np.ndarray, *, scale: float = 1.0) -> Measured:
        """The figures of known residuals (items,) at c = `scale`: no forward pass."""
        delta = np.asarray(residuals) / scale
        correct = _correct(_padded(delta, self.mask), self.targets, self.judged)
        return Measured(self.losses(delta[None])[0], correct.where(self.informative, torch.nan).numpy(), delta)

    def closeness(self, residuals: np.ndarray) -> np.ndarray:
        """(q,) minus the mean absolute residual of each list, in nats: 0 is the base."""
        return np.asarray(-_padded(np.abs(residuals), self.mask).sum(1).numpy() / self.sizes)

    def base(self) -> Measured:
        """The untouched base: delta is 0 everywhere."""
        return self.from_residuals(np.zeros(self.items))


def _padded(flat: np.ndarray, mask: Tensor) -> Tensor:
    """Values of every response in order, (items,), as float32 (q, n), 0 on pads."""
    padded = torch.zeros(mask.shape)
    padded[mask] = torch.as_tensor(flat, dtype=torch.float32)
    return padded


def _correct(delta: Tensor, targets: Tensor, judged: Tensor) -> Tensor:
    """(q, m): the share of the top-ranked judged responses (ties count together) that have the highest label."""
    floor = torch.finfo(delta.dtype).min
    scores = delta.unsqueeze(-1).masked_fill(~judged, floor)
    top = (scores == scores.amax(1, keepdim=True)) & judged
    best = (targets == targets.amax(1, keepdim=True)) & judged
    return (top & best).sum(1) / top.sum(1).clamp(min=1)
