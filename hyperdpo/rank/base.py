"""Base rankers: the frozen s_base that HyperDPO starts from, on one scale.

The scale is fixed by dividing raw base scores by their mean within-list standard deviation on train, because beta means
nothing without it: multiplying the base by 10 is the same as multiplying beta by 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hyperdpo.errors import ConfigError, RunError, nearest
from hyperdpo.losses import listwise_loss
from hyperdpo.rank.batches import RankBatches, encode_in_chunks
from hyperdpo.rank.data import ListSet
from hyperdpo.rank.model import NetConfig, ScoreNet, count_parameters
from hyperdpo.rank.trees import TreesConfig, boost, dataset
from hyperdpo.training import FitConfig, FitResult, fit, seed_torch

BASE_NET = NetConfig(width=128, layers=2, heads=4)
BASE_TREES = TreesConfig(rounds=500, leaves=31)
BASE_FIT = FitConfig(epochs=40, patience=6, batch_size=32, learning_rate=1e-3)
KINDS = ("transformer", "lightgbm", "column:NAME", "run:PATH")


@dataclass
class Base:
    """A fitted base ranker. `factor` divides its raw scores; one of `net`, `trees`, `column` is set."""

    kind: str
    factor: float = 1.0
    net: ScoreNet | None = None
    net_config: NetConfig = BASE_NET
    trees: Any = None
    column: str | None = None
    seconds: float = 0.0

    def raw_scores(self, lists: ListSet, scaled: Tensor) -> Tensor:
        """Unscaled scores (N,) of every item; `scaled` (N, d) are the features after the run's scaler.

        Trees see the raw features, the network the scaled ones, a column is read from the lists. Raises ConfigError if
        the column is not among the lists.
        """
        if self.net is not None:
            net = self.net
            return encode_in_chunks(
                lambda batch: net(batch.inputs[0], batch.mask).squeeze(-1), lists, scaled, torch.zeros(len(scaled))
            )
        if self.trees is not None:
            threads = torch.get_num_threads()
            predicted = self.trees.predict(lists.features.numpy(), num_threads=threads)
            return torch.from_numpy(np.asarray(predicted, dtype=np.float32))
        if lists.base is None:
            raise ConfigError(f"This run's base score is column {self.column!r}, which the lists do not carry.")
        return lists.base.float()

    def scores(self, lists: ListSet, scaled: Tensor) -> Tensor:
        """s_base (N,) on the run's one scale."""
        return self.raw_scores(lists, scaled) / self.factor

    @property
    def parameters(self) -> int:
        """Weights of the network; 0 for trees and columns."""
        return count_parameters(self.net) if self.net is not None else 0

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
        """What a run folder keeps: a config, tensors, and LightGBM's own text."""
        config = {"kind": self.kind, "factor": self.factor, "seconds": self.seconds, "net": self.net_config.to_dict()}
        tensors = {} if self.net is None else {k: v.cpu() for k, v in self.net.state_dict().items()}
        return config, tensors, None if self.trees is None else self.trees.model_to_string()

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor], text: str | None, d: int) -> Base:
        """The inverse of `state`. Raises RunError where a part is missing."""
        kind = config["kind"]
        base = cls(kind=kind, factor=config["factor"], seconds=config.get("seconds", 0.0))
        if kind == "transformer":
            base.net_config = NetConfig(**config["net"])
            base.net = ScoreNet(d, base.net_config)
            base.net.load_state_dict(tensors)
            base.net.eval()
        elif kind == "lightgbm":
            import lightgbm

            if not text:
                raise RunError("The run's base is LightGBM, but base.txt with its trees is missing.")
            base.trees = lightgbm.Booster(model_str=text)
        else:
            base.column = kind.partition(":")[2]
        return base


def mean_within_list_std(scores: Tensor, lists: ListSet) -> float:
    """The mean over lists of two or more items of the standard deviation of their scores."""
    mask = lists.mask()
    padded = lists.pad(scores.double())
    count = mask.sum(1)
    mean = padded.sum(1, keepdim=True) / count[:, None].clamp(min=1)
    variance = (padded - mean).masked_fill(~mask, 0).square().sum(1) / count.clamp(min=1)
    several = count > 1
    return float(variance[several].sqrt().mean()) if several.any() else 0.0


def check_kind(kind: str) -> None:
    """Raises ConfigError unless `kind` is transformer, lightgbm, column:NAME or run:PATH."""
    prefix, _, rest = kind.partition(":")
    if kind not in ("transformer", "lightgbm") and not (prefix in ("column", "run") and rest):
        raise ConfigError(f"--base is one of {', '.join(KINDS)}; got {kind!r}{nearest(kind, KINDS)}.")


def fit_base(
    kind: str,
    train: RankBatches,
    validation: RankBatches,
    *,
    seed: int,
    accelerator: Accelerator,
    config: FitConfig = BASE_FIT,
    state: Any = None,
    log: Callable[[str], None] = lambda line: None,
    tick: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> Base:
    """Fit a base on the main label of `train` and put it on one scale.

    The batches' targets hold the main objective alone, (N, 1). Raises ConfigError for an unknown kind, and for a base
    whose scores are constant within every list.
    """
    check_kind(kind)
    if kind == "transformer":
        base = _fit_transformer(train, validation, seed, accelerator, config, state, log, tick)
    elif kind == "lightgbm":
        base = _fit_lightgbm(train, validation, seed)
    else:
        base = Base(kind=kind, column=kind.partition(":")[2])
    factor = mean_within_list_std(base.raw_scores(train.lists, train.features.cpu()), train.lists)
    if not factor > 0:
        raise ConfigError(
            f"The base {kind!r} gives every item of a list the same score (mean within-list deviation {factor}); "
            "there is nothing to fine-tune: choose another base."
        )
    base.factor = factor
    return base


def _fit_transformer(
    train: RankBatches,
    validation: RankBatches,
    seed: int,
    accelerator: Accelerator,
    config: FitConfig,
    state: Any,
    log: Callable[[str], None],
    tick: Callable[[int, int, float], None],
) -> Base:
    seed_torch(seed, 11)
    net = ScoreNet(train.features.shape[1], BASE_NET)

    def loss(model: nn.Module, batch: Any, rng: np.random.Generator) -> Tensor:
        scores = model(batch.inputs[0], batch.mask).squeeze(-1)
        value: Tensor = listwise_loss(scores, batch.targets[..., 0], batch.mask).sum()
        mean: Tensor = value / (batch.total * train.coverage[0])
        return mean

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        total = sum(float(loss(model, batch, np.random.default_rng(0))) * batch.total for batch in validation.once())
        return total / len(validation.lists)

    result: FitResult = fit(
        net, loss, train, validate, config, seed=seed, accelerator=accelerator, state=state, log=log, tick=tick
    )
    return Base(kind="transformer", net=net.cpu(), seconds=result.seconds)


def _fit_lightgbm(train: RankBatches, validation: RankBatches, seed: int) -> Base:
    """LambdaMART on the main label, stopped early on validation NDCG@10. Graded labels only: gains are linear."""
    both = (train, validation)
    labels = [_whole_grades(batches) for batches in both]
    parts: list[Any] = []
    for batches, grades in zip(both, labels, strict=True):
        parts.append(dataset(batches.lists.features, batches.lists, parts[0] if parts else None))
        parts[-1].set_label(grades)
    top = int(max(grades.max(initial=0) for grades in labels))
    trees, result = boost(parts[0], parts[1], top, BASE_TREES, k=10, seed=seed)
    return Base(kind="lightgbm", trees=trees, seconds=result.seconds)


def _whole_grades(batches: RankBatches) -> np.ndarray:
    """The main label's gains, not its raw labels: a shift and a direction of `min` hold for every kind of base."""
    lists, (main,) = batches.lists, batches.objectives
    labels = lists.unpad(main.gains(lists.pad(lists.labels[:, 0]), lists.mask())).numpy()
    grades: np.ndarray = np.rint(labels).astype(np.int32)
    if not np.allclose(labels, grades) or grades.max(initial=0) > 10_000:
        raise ConfigError(
            "LightGBM's LambdaMART needs whole-number grades from 0 to 10,000 as main label; "
            f"got values such as {float(labels[~np.isclose(labels, grades)][:1].sum() or labels.max()):g}; "
            "use --base transformer or round the label."
        )
    return grades
