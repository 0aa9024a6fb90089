"""Feature scaling, fitted on the training lists and saved with the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError, RunError, nearest

ScalerKind = Literal["auto", "standard", "none"]
KINDS: tuple[ScalerKind, ...] = ("auto", "standard", "none")
CLIP = 10.0
HEAVY_KURTOSIS = 9.0
"""A column is heavy-tailed where its kurtosis passes 9, that of the exponential distribution (the normal has 3)."""
_COLUMNS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Scaler:
    """Signed log1p of the heavy-tailed columns, then standardisation, then clipping to [-10, 10].

    The rule for `auto`: a column whose kurtosis on train is above 9 first goes through `sign(x) log(1 + |x|)`. A column
    that is constant on train becomes 0 everywhere. `standard` leaves the logarithm out; `none` changes nothing.

    Attributes:
        names: the d feature columns.
        log: (d,) bool, which columns go through the logarithm.
        mean, std: (d,) float32 after the logarithm; std is 0 for a constant column.
    """

    kind: ScalerKind
    names: tuple[str, ...]
    log: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, features: Tensor, names: Sequence[str], kind: ScalerKind = "auto") -> Scaler:
        """Learn from the training rows (N, d).

        Raises ConfigError for an unknown kind or a wrong number of names, DataError for no rows, NaN or infinity.
        """
        if kind not in KINDS:
            raise ConfigError(
                f"A scaler is of the kind {', '.join(map(repr, KINDS))}; got {kind!r}{nearest(kind, KINDS)}."
            )
        if features.ndim != 2 or features.shape[1] != len(names):
            raise ConfigError(f"Features of shape (N, {len(names)}) are expected; got {tuple(features.shape)}.")
        if len(features) == 0:
            raise DataError("A scaler cannot be fitted on no rows; the training split is empty.")
        bad = [names[i] for i in (~features.isfinite().all(0)).nonzero().flatten().tolist()]
        if bad:
            raise DataError([f"Feature {name!r} holds NaN or infinity; put numbers there." for name in bad])
        d = len(names)
        log, mean, std = torch.zeros(d, dtype=torch.bool), torch.zeros(d), torch.ones(d)
        if kind != "none":
            for start in range(0, d, _COLUMNS_AT_ONCE):
                part = slice(start, start + _COLUMNS_AT_ONCE)
                log[part], mean[part], std[part] = _statistics(features[:, part].double().cpu(), kind == "auto")
        return cls(kind, tuple(names), log, mean, std)

    def __call__(self, features: Tensor) -> Tensor:
        """Scale (..., d) to float32 of the same shape. Raises ConfigError where d differs."""
        if features.shape[-1] != len(self.names):
            raise ConfigError(
                f"The scaler was fitted on {len(self.names)} features; got {features.shape[-1]}. "
                "Give the columns that the run was trained on."
            )
        features = features.float()
        if self.kind == "none":
            return features
        log, mean, std = (t.to(features.device) for t in (self.log, self.mean, self.std))
        features = torch.where(log, signed_log1p(features), features)
        scaled = (features - mean) / std.where(std > 0, 1.0)
        return (scaled * (std > 0)).clamp(-CLIP, CLIP)

    def state(self) -> dict[str, Tensor]:
        """Tensors for safetensors; the feature count and names are among them."""
        names = json.dumps(list(self.names)).encode()
        return {
            "feature_count": torch.tensor(len(self.names)),
            "names": torch.tensor(list(names), dtype=torch.uint8),
            "kind": torch.tensor(KINDS.index(self.kind)),
            "log": self.log.to(torch.uint8),
            "mean": self.mean.clone(),
            "std": self.std.clone(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Scaler:
        """The inverse of `state`. Raises RunError listing what is missing or of the wrong size."""
        keys = ("feature_count", "names", "kind", "log", "mean", "std")
        missing = [
            f"The saved scaler lacks {key!r}; the run is damaged, train it again." for key in keys if key not in state
        ]
        if missing:
            raise RunError(missing)
        count, kind = int(state["feature_count"]), int(state["kind"])
        try:
            names = tuple(json.loads(bytes(state["names"].tolist()).decode()))
        except ValueError:
            names = ()
        sizes = {"names": len(names), **{key: state[key].numel() for key in ("log", "mean", "std")}}
        problems = [
            f"The saved scaler has {size} values in {key!r} for {count} features; the run is damaged."
            for key, size in sizes.items()
            if size != count
        ]
        if not 0 <= kind < len(KINDS):
            problems.append(f"The saved scaler is of the unknown kind {kind}; it may come from a later version.")
        if problems:
            raise RunError(problems)
        return cls(KINDS[kind], names, state["log"].bool(), state["mean"].float(), state["std"].float())


def signed_log1p(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|), entrywise: shrinks large values of either sign and keeps 0."""
    return x.sign() * x.abs().log1p()


def _statistics(x: Tensor, may_log: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of the columns of x (N, k) float64: which are heavy-tailed, and mean and std after the logarithm."""
    log = torch.zeros(x.shape[1], dtype=torch.bool)
    if may_log:
        mean, std = _moments(x)
        kurtosis = ((x - mean) / std.where(std > 0, 1.0)).pow(4).mean(0)
        log = kurtosis > HEAVY_KURTOSIS
    mean, std = _moments(torch.where(log, signed_log1p(x), x))
    return log, mean.float(), std.float()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population std of the columns; of a constant one exactly 0, as float64 sums float32 values exactly."""
    mean = x.mean(0)
    return mean, (x - mean).square().mean(0).sqrt()
