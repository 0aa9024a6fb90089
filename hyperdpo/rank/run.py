"""A trained ranking run: open it, score any list at any (w, c), measure its fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.control import scaled_scores
from hyperdpo.errors import ConfigError, DataError, RunError, WeightsError
from hyperdpo.methods import MethodConfig, members
from hyperdpo.objectives import Objective
from hyperdpo.rank.base import Base
from hyperdpo.rank.batches import encode_in_chunks
from hyperdpo.rank.data import ListSet, RankData, Scaler, Task
from hyperdpo.rank.live import ListTable
from hyperdpo.rank.model import NetConfig, Ranker, count_parameters
from hyperdpo.runs import RunFolder
from hyperdpo.weights import check_scale, check_weights, parse_weights

Weights = str | Sequence[float] | Mapping[str, float] | Tensor
SAME_WEIGHTS = 1e-3  # how near a requested w must be to one a DPO-LS model was trained for


def build_ranker(config: Mapping[str, Any], d: int) -> Ranker:
    """The network a run's config describes, with fresh weights."""
    return Ranker(
        d,
        len(config["objectives"]),
        config["parametrisation"],
        NetConfig(**config["net"]),
        tuple(config["beta"]),
        conditioned=config["method"]["method"] == "hyperdpo",
    )


class RankRun:
    """A ranking run opened from its folder.

    Attributes:
        folder: the run folder.
        task: main label, objectives, feature columns, base column.
        base: the frozen base ranker.
        rankers: K networks in eval mode; one for HyperDPO, one per trained w for DPO-LS.
        trained: (K, m) the w each was trained for, or None where one model serves every w.

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
            self.rankers = [self._ranker(state, d) for state in self.folder.models()]
        except (RuntimeError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.folder.path}: its weights do not fit its config.json ({error}); copy the run again."
            ) from None
        self.method = MethodConfig(**config["method"])
        trained = [member.weights for member in members(self.method, self.task.m)]
        self.trained = None if trained[0] is None else torch.stack([w for w in trained if w is not None])

    def _ranker(self, state: Mapping[str, Tensor], d: int) -> Ranker:
        ranker = build_ranker(self.folder.config, d)
        ranker.load_state_dict(state)
        return ranker.eval()

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
        """Trained numbers of all K networks, without the base."""
        return sum(count_parameters(r) for r in self.rankers)

    def weights(self, weights: Weights) -> Tensor:
        """(m,) from a text (`.3,.7` or `clicks=.3,quality=.7`), a mapping or a sequence. Raises WeightsError."""
        names = [o.name for o in self.objectives]
        if isinstance(weights, str):
            return parse_weights(weights, names)
        if isinstance(weights, Mapping):
            return parse_weights(",".join(f"{k}={v}" for k, v in weights.items()), names)
        return check_weights(weights, len(names))

    def ranker_for(self, weights: Tensor) -> Ranker:
        """The network that answers `weights` (m,). Raises WeightsError where DPO-LS has none for it."""
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

    def score(
        self, features: np.ndarray | Tensor, weights: Weights, *, scale: float = 1.0, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Scores (n,) of one list of raw features (n, d) at (w, c); higher ranks first.

        `base` (n,) gives the base column's values where the run's base is a column. Raises WeightsError, and
        ConfigError for features of another width.
        """
        x = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        one_list = ListSet(
            x,
            torch.zeros(len(x), 1 + self.task.m),
            None if base is None else torch.as_tensor(np.asarray(base), dtype=torch.float32),
            torch.tensor([0, len(x)]),
            torch.tensor([0]),
        )
        return self.score_lists(one_list, weights, scale=scale).numpy()

    def score_lists(self, lists: ListSet, weights: Weights, *, scale: float = 1.0) -> Tensor:
        """Scores (N,) of every item of `lists` at (w, c), in input order."""
        w = self.weights(weights)
        check_scale(scale)
        scaled = self.scale_features(lists)
        base = self.base.scores(lists, scaled)
        ranker = self.ranker_for(w)
        residual = encode_in_chunks(lambda b: ranker(*b.inputs, w), lists, scaled, base)
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
