"""What industry does without conditioning: LightGBM's LambdaMART, one model per w, on labels that w has mixed.

Both methods boost from the base's scores, so that the trees are a residual like every other method's. A list's gains
are divided by the objective's ideal DCG@k there, so that each objective's NDCG counts alike whatever its labels' scale.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, Interrupted
from hyperdpo.metrics import ideal_dcg
from hyperdpo.rank.batches import RankBatches
from hyperdpo.rank.lists import ListSet
from hyperdpo.rank.model import Answerer
from hyperdpo.training import FitResult, listening, rng_for

LEVELS = 1000  # LightGBM's ranking labels are whole numbers; gains are linear in them


@dataclass(frozen=True)
class TreesConfig:
    """Boosting of the LambdaMART methods.

    Attributes:
        rounds: at most this many trees a model.
        patience: stop after this many rounds without a better validation NDCG.
        learning_rate: shrinkage.
        leaves: leaves a tree.
        min_leaf: items a leaf holds at least.
    """

    rounds: int = 300
    patience: int = 30
    learning_rate: float = 0.05
    leaves: int = 15
    min_leaf: int = 50

    def __post_init__(self) -> None:
        whole = {"rounds": 1, "patience": 1, "leaves": 2, "min_leaf": 1}
        wrong = [
            f"{name} is {least} or more; got {getattr(self, name)!r}."
            for name, least in whole.items()
            if getattr(self, name) < least
        ]
        if not self.learning_rate > 0:
            wrong.append(f"learning_rate is above 0; got {self.learning_rate!r}.")
        if wrong:
            raise ConfigError(wrong)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TreeRanker(Answerer):
    """Trees with a network's interface: the residual delta of padded lists, for the one w they were grown for."""

    def __init__(self, m: int, text: str) -> None:
        super().__init__()
        import lightgbm

        self.m = m
        self.text = text
        self.booster = lightgbm.Booster(model_str=text)

    @property
    def parameters_used(self) -> int:
        """Numbers that the trees hold: a threshold a split, a value a leaf."""
        trees = self.booster.dump_model()["tree_info"]
        return sum(2 * tree["num_leaves"] - 1 for tree in trees)

    def decode(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """delta (b, n), 0 on pads; `weights` chose this model and changes nothing in it."""
        residual = torch.zeros(mask.shape, device=mask.device)
        if mask.any():
            rows = encoded[mask].cpu().numpy()
            grown = self.booster.predict(rows, raw_score=True, num_threads=torch.get_num_threads())
            residual[mask] = torch.from_numpy(np.asarray(grown, dtype=np.float32)).to(mask.device)
        return residual


def item_gains(batches: RankBatches, k: int) -> Tensor:
    """gain / IDCG@k of each item and objective, (N, m), in 0..1; 0 in lists without a positive label."""
    lists = batches.lists
    mask = lists.mask()
    columns = []
    for j, objective in enumerate(batches.objectives):
        gains = objective.gains(lists.pad(lists.labels[:, 1 + j]), mask)
        ideal = ideal_dcg(gains, k)
        columns.append(lists.unpad((gains / ideal.clamp(min=1e-12)[:, None]).masked_fill(ideal[:, None] <= 0, 0.0)))
    return torch.stack(columns, 1)


def mixed_labels(
    gains: Tensor, sizes: np.ndarray, weights: Tensor, method: str, rng: np.random.Generator
) -> np.ndarray:
    """Whole-number labels (N,) in 0..LEVELS for one w.

    `lambdamart` weighs: sum_j w_j gain_j. `label-aggregation` draws: each list takes the labels of one objective,
    chosen with probability w_j (Carmel et al. 2020, stochastic label aggregation).
    """
    if method == "lambdamart":
        mixed = (gains * weights).sum(1)
    else:
        drawn = rng.choice(gains.shape[1], size=len(sizes), p=weights.double().numpy() / float(weights.double().sum()))
        mixed = gains[torch.arange(len(gains)), torch.from_numpy(np.repeat(drawn, sizes))]
    labels: np.ndarray = np.rint(mixed.numpy() * LEVELS).astype(np.int32)
    return labels


class TreeTraining:
    """The lists of a training, binned once for the boosters of every w.

    Args:
        method: `lambdamart` or `label-aggregation`.
        train, validation: with scaled features and the base's scores.
        config: the boosting.
        k: cut-off of the NDCG that is optimised and validated.
    """

    def __init__(
        self, method: str, train: RankBatches, validation: RankBatches, config: TreesConfig, *, k: int
    ) -> None:
        self.method, self.config, self.k = method, config, k
        self.sizes = [batches.lists.sizes.numpy() for batches in (train, validation)]
        self.gains = [item_gains(batches, k) for batches in (train, validation)]
        self.data: list[Any] = []
        for batches in (train, validation):
            self.data.append(dataset(batches.features, batches.lists, self.data[0] if self.data else None))
            self.data[-1].set_init_score(batches.base.cpu().numpy().astype(np.float64))

    def fit(
        self, weights: Tensor, *, seed: int, tick: Callable[[int, int, float], None] = lambda done, total, loss: None
    ) -> tuple[str, FitResult]:
        """LightGBM's own text for the trees of one w (m,), and what their fit reports. Raises Interrupted."""
        # Validation weighs in both methods: a draw there would only blur the figure that stops the boosting.
        for part, how in enumerate((self.method, "lambdamart")):
            labels = mixed_labels(self.gains[part], self.sizes[part], weights, how, rng_for(seed, part))
            self.data[part].set_label(labels)
        trees, result = boost(self.data[0], self.data[1], LEVELS, self.config, k=self.k, seed=seed, tick=tick)
        return trees.model_to_string(num_iteration=result.best_epoch + 1), result


def dataset(features: Tensor, lists: ListSet, reference: Any = None) -> Any:
    """Lists as LightGBM takes them, without labels; `reference` gives the bins of an earlier one."""
    import lightgbm

    return lightgbm.Dataset(
        features.cpu().numpy(),
        group=lists.sizes.numpy(),
        params={"verbose": -1, "feature_pre_filter": False},
        reference=reference,
    )


def boost(
    train: Any,
    validation: Any,
    top: int,
    config: TreesConfig,
    *,
    k: int,
    seed: int,
    tick: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> tuple[Any, FitResult]:
    """LambdaMART on labels 0..`top` with linear gains, ended by the validation NDCG@k; its loss is 1 - NDCG.

    The same seed gives the same trees. Raises Interrupted after Ctrl-C or SIGTERM: a booster keeps no state, it is
    grown again.
    """
    import lightgbm

    started, cpu_started = time.monotonic(), time.process_time()
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [k],
        "label_gain": list(range(top + 1)),
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_leaf,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbose": -1,
    }
    history: list[dict[str, float]] = []

    def after_each(env: Any) -> None:
        loss = 1.0 - float(env.evaluation_result_list[0][2])
        history.append({"epoch": env.iteration, "validation": loss, "seconds": time.monotonic() - started})
        tick(env.iteration + 1, config.rounds, loss)
        if stop.asked is not None:
            raise Interrupted(
                f"Training was stopped ({stop.asked}) at tree {env.iteration + 1}. The models that were finished are "
                "kept; the same command with --resume goes on."
            )

    with listening(1) as stop:
        trees = lightgbm.train(
            parameters,
            train,
            num_boost_round=config.rounds,
            valid_sets=[validation],
            callbacks=[after_each, lightgbm.early_stopping(config.patience, verbose=False)],
        )
    best = max(trees.best_iteration, 1) - 1
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    return trees, FitResult(best, history[best]["validation"], len(history), seconds, history, cpu_seconds)
