"""A trained ranking run: open it, score any list at any (w, c), measure its fronts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperdpo.control import scaled_scores
from hyperdpo.errors import ConfigError, DataError, RunError, WeightsError
from hyperdpo.methods import CONDITIONED, TREES, MethodConfig, members, mixing_weights, trained_weights
from hyperdpo.objectives import Objective
from hyperdpo.rank.base import Base
from hyperdpo.rank.batches import RankBatch, encode_in_chunks
from hyperdpo.rank.data import ListSet, RankData, Scaler, Task
from hyperdpo.rank.hypernetwork import HyperRanker
from hyperdpo.rank.live import ListTable
from hyperdpo.rank.model import Answerer, NetConfig, Ranker, count_parameters, multiple
from hyperdpo.rank.soup import Soup
from hyperdpo.rank.trees import TreeRanker
from hyperdpo.runs import RunFolder
from hyperdpo.weights import check_beta, check_scale, check_weights, parse_beta, parse_weights

Weights = str | Sequence[float] | Mapping[str, float] | Tensor
Temperatures = str | float | Sequence[float] | Mapping[str, float]
SAME_WEIGHTS = 1e-3  # how near a requested w must be to one a model was trained for


def build_model(config: Mapping[str, Any], d: int, m: int) -> Answerer:
    """One network as a run's config describes it, with fresh weights."""
    method, net = MethodConfig(**config["method"]), NetConfig(**config["net"])
    if method.method == "hypernetwork":
        return HyperRanker(d, m, net, hidden=method.generator_width)
    conditioned = method.method in CONDITIONED
    return Ranker(d, m, config["parametrisation"], net, tuple(config["beta"]), conditioned=conditioned)


def model_size(model: nn.Module) -> int:
    """Trained numbers of one model: a network's weights, or the trees' thresholds and leaf values."""
    return model.parameters_used if isinstance(model, TreeRanker) else count_parameters(model)


def tree_file(index: int) -> str:
    """Where a run folder keeps the trees of one model."""
    return f"trees-{index:02d}.txt"


class RankRun:
    """A ranking run opened from its folder.

    Attributes:
        folder: the run folder.
        task: main label, objectives, feature columns, base column.
        base: the frozen base ranker.
        rankers: the models that answer, in eval mode: one that takes every w (a soup counts as one), or one per w.
        trained: (p, m) the w each of them was trained for, or None where one serves every w.

    Raises RunError with everything that is wrong with the folder.
    """

    def __init__(self, path: str | Path | RunFolder) -> None:
        self.folder = path if isinstance(path, RunFolder) else RunFolder(path)
        config = self.folder.config
        if config["kind"] != "rank":
            raise RunError(f"{self.folder.path} is a {config['kind']!r} run, not a ranking run.")
        self.task = Task.from_dict(config["task"])
        self.scaler = Scaler.from_state(self.folder.tensors("scaler.safetensors"))
        d = len(self.task.features)
        try:
            self.base = Base.from_state(
                config["base"], self.folder.tensors("base.safetensors"), self.folder.text("base.txt"), d
            )
            self.method = MethodConfig(**config["method"])
            self._models = self._load(d)
        except (RuntimeError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.folder.path}: its weights do not fit its config.json ({error}); copy the run again."
            ) from None
        self.trained = trained_weights(self.method, self.task.m)
        self.rankers: list[Answerer] = self._answering()

    def _load(self, d: int) -> list[Answerer]:
        """Every model the run trained, in order."""
        m = self.task.m
        if self.method.method in TREES:
            texts = [self.folder.text(tree_file(i)) for i in range(len(members(self.method, m)))]
            missing = [tree_file(i) for i, text in enumerate(texts) if not text]
            if missing:
                raise RunError(f"{self.folder.path} lacks {', '.join(missing)}; copy the run again.")
            return [TreeRanker(m, text).eval() for text in texts if text]
        loaded: list[Answerer] = []
        for state in self.folder.models():
            model = build_model(self.folder.config, d, m)
            model.load_state_dict(state)
            loaded.append(model.eval())
        return loaded

    def _answering(self) -> list[Answerer]:
        if self.method.method == "dpo-soup":
            return [Soup([x for x in self._models if isinstance(x, Ranker)]).eval()]
        parts = sum(member.part for member in members(self.method, self.task.m))
        return list(self._models[parts:])

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> dict[str, Any]:
        return self.folder.config

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.task.objectives

    @property
    def beta(self) -> tuple[float, ...]:
        return tuple(self.config["beta"])

    @property
    def parameters(self) -> int:
        """Trained numbers of all models, and a soup's mixing weights; without the base."""
        return sum(map(model_size, self._models)) + mixing_weights(self.method, self.task.m)

    @property
    def models(self) -> int:
        """How many models were trained."""
        return len(self._models)

    def weights(self, weights: Weights) -> Tensor:
        """(m,) from a text (`.3,.7` or `clicks=.3,quality=.7`), a mapping or a sequence. Raises WeightsError."""
        names = [o.name for o in self.objectives]
        if isinstance(weights, str):
            return parse_weights(weights, names)
        if isinstance(weights, Mapping):
            return parse_weights(",".join(f"{k}={v}" for k, v in weights.items()), names)
        return check_weights(weights, len(names))

    def temperatures(self, beta: Temperatures | None) -> tuple[float, ...] | None:
        """(m,) from one number, a text (`.5,2` or `clicks=.5`, others as trained), a mapping or a sequence; None stays.

        Raises WeightsError.
        """
        if beta is None:
            return None
        names = [o.name for o in self.objectives]
        if isinstance(beta, Mapping):
            beta = ",".join(f"{k}={v}" for k, v in beta.items())
        if isinstance(beta, str):
            return parse_beta(beta, names, self.beta)
        return check_beta(beta if isinstance(beta, float | int) else list(beta), len(names))

    def ranker_for(self, weights: Tensor) -> Answerer:
        """The model that answers `weights` (m,). Raises WeightsError where a method has none for it."""
        if self.trained is None:
            return self.rankers[0]
        distance = (self.trained - weights).abs().amax(1)
        nearest = int(distance.argmin())
        if distance[nearest] > SAME_WEIGHTS:
            have = "; ".join(",".join(f"{v:.3g}" for v in w) for w in self.trained.tolist())
            raise WeightsError(
                f"This {self.method.method} run has one model per weight and none for {_short(weights)}; the nearest is"
                f" {_short(self.trained[nearest])}. It was trained at: {have}. A hyperdpo run answers any weight."
            )
        return self.rankers[nearest]

    def answer(self, weights: Tensor, beta: Temperatures | None = None) -> Callable[[RankBatch], Tensor]:
        """What gives delta (b, n) of a batch at `weights` (m,) and `beta`, the training temperatures by default.

        Raises WeightsError, and ConfigError for temperatures this run cannot answer.
        """
        ranker, wanted = self.ranker_for(weights), self.temperatures(beta)
        if wanted is None:
            return lambda batch: ranker(*batch.inputs, weights)
        at = torch.tensor(wanted)
        if ranker.any_beta:
            return lambda batch: ranker(*batch.inputs, weights, at)
        c = multiple(ranker, at, torch.tensor(self.beta))
        return lambda batch: ranker(*batch.inputs, weights) / c

    def score(
        self,
        features: np.ndarray | Tensor,
        weights: Weights,
        *,
        beta: Temperatures | None = None,
        scale: float = 1.0,
        base: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores (n,) of one list of raw features (n, d) at (w, beta, c); higher ranks first.

        `beta` asks for other temperatures than the training ones (see `temperatures`). `base` (n,) gives the base
        column's values where the run's base is a column. Raises WeightsError, and ConfigError for features of another
        width or temperatures this run cannot answer.
        """
        x = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        one_list = ListSet(
            x,
            torch.zeros(len(x), 1 + self.task.m),
            None if base is None else torch.as_tensor(np.asarray(base), dtype=torch.float32),
            torch.tensor([0, len(x)]),
            torch.tensor([0]),
        )
        return self.score_lists(one_list, weights, beta=beta, scale=scale).numpy()

    def score_lists(
        self, lists: ListSet, weights: Weights, *, beta: Temperatures | None = None, scale: float = 1.0
    ) -> Tensor:
        """Scores (N,) of every item of `lists` at (w, beta, c), in input order; raises as `score` does."""
        w = self.weights(weights)
        answer = self.answer(w, beta)
        check_scale(scale)
        scaled = self.scale_features(lists)
        base = self.base.scores(lists, scaled)
        residual = encode_in_chunks(answer, lists, scaled, base)
        return scaled_scores(base, residual, scale)

    def scale_features(self, lists: ListSet) -> Tensor:
        """The run's scaling of `lists.features` (N, d). Raises ConfigError for another number of features."""
        d = len(self.task.features)
        if lists.features.shape[1] != d:
            raise ConfigError(
                f"This run takes {d} features an item ({', '.join(self.task.features[:5])} ...); got "
                f"{lists.features.shape[1]}."
            )
        return self.scaler(lists.features)

    def read(self, data: RankData, *, labels: bool = True) -> RankData:
        """`data` with this run's roles, so that the same columns mean the same things.

        Scoring needs no label columns: `labels=False` does not ask for them. Raises DataError for what is missing.
        """
        wanted = [*self.task.features, *(o.column for o in self.task.labelled if labels)]
        if self.task.base_column:
            wanted.append(self.task.base_column)
        missing = [c for c in wanted if c not in data.columns]
        if missing:
            raise DataError(
                f"{data.path} lacks {len(missing)} of the {len(wanted)} columns the run needs: {', '.join(missing[:8])}"
                f"{' ...' if len(missing) > 8 else ''}; it has {', '.join(list(data.columns)[:8])} ..."
            )
        return data.with_exact_task(self.task)

    def table(self, lists: ListSet, *, device: torch.device | str = "cpu") -> tuple[ListTable, Tensor]:
        """A split padded for measuring, and its scaled features (N, d)."""
        scaled = self.scale_features(lists)
        base = self.base.scores(lists, scaled)
        return ListTable(lists, self.task, base, self.beta, device=device), scaled


def _short(weights: Tensor) -> str:
    return ",".join(f"{v:.3g}" for v in weights.tolist())
