"""A trained text run: open it, bring its weights to any w, measure lists of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hyperdpo.errors import ConfigError, RunError, WeightsError
from hyperdpo.methods import MethodConfig, members, trained_weights
from hyperdpo.objectives import Objective
from hyperdpo.runs import RunFolder
from hyperdpo.text.model import PromptConfig, TextModel, check_pair, fingerprint, load_backbone, load_tokenizer
from hyperdpo.text.sharding import shard
from hyperdpo.text.tokens import TokenConfig
from hyperdpo.weights import check_weights, parse_weights

Weights = str | Sequence[float] | Mapping[str, float] | Tensor
SAME_WEIGHTS = 1e-3  # how near a requested w must be to one a model was trained for
BASE = "base"  # a base that ships inside its run folder


class TextRun:
    """A text run opened from its folder; the language model is loaded when it is first needed.

    Attributes:
        folder: the run folder.
        objectives: what the responses were scored by.
        method: the method and its options.
        trained: (p, m) the w its models were trained for, or None where every w is answered.

    With `sharded` the processes of a launch hold the model together, and all must ask it the same.

    Raises RunError with everything that is wrong with the folder, and, when the model is loaded, where its base is
    missing or is not the base the adapter was trained on.
    """

    def __init__(
        self,
        path: str | Path | RunFolder,
        *,
        device: str = "auto",
        base: str | Path | None = None,
        sharded: bool = False,
    ) -> None:
        self.folder = path if isinstance(path, RunFolder) else RunFolder(path)
        config = self.folder.config
        if config["kind"] != "text":
            raise RunError(f"{self.folder.path} is a {config['kind']!r} run, not a text run.")
        self.objectives = tuple(Objective.from_dict(o) for o in config["task"]["objectives"])
        self.method = MethodConfig(**config["method"])
        self.prompt_config = PromptConfig.from_dict(config["prompt"])
        self.tokens = TokenConfig.from_dict(config["tokens"])
        self.beta = tuple(config["beta"])
        self.trained = trained_weights(self.method, self.m)
        self._device, self._base, self._sharded = device, base, sharded
        self._at: Tensor | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> dict[str, Any]:
        return self.folder.config

    @property
    def m(self) -> int:
        return len(self.objectives)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.objectives)

    @property
    def conditioned(self) -> bool:
        """Whether one model takes w, so that rows of a batch may differ in it."""
        return self.method.method == "hyperdpo"

    @property
    def base_path(self) -> str:
        """Where the base is: asked for, inside the run folder, or by the name it was trained from."""
        inside = self.folder.path / BASE
        return str(self._base or (inside if inside.is_dir() else self.config["base"]["name"]))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.base_path)

    @cached_property
    def model(self) -> TextModel:
        """The model on its device, in eval mode, with the weights of its first member."""
        backbone = load_backbone(self.base_path)
        check_pair(backbone, self.tokenizer)
        found, wanted = fingerprint(backbone), self.config["base"]["fingerprint"]
        if found != wanted:
            raise RunError(
                f"{self.folder.path} was trained on another base than {self.base_path} (hash {found[:12]}, not "
                f"{wanted[:12]}): give the model it was trained on."
            )
        model = TextModel(backbone, self.m, self.prompt_config, conditioned=self.conditioned)
        try:
            model.load_trained(self._states[0])
        except ConfigError as error:
            raise RunError(f"{self.folder.path}: {error}") from None
        where = "cuda" if self._device == "auto" and torch.cuda.is_available() else self._device
        device = torch.device("cpu" if where == "auto" else where)
        return (shard(model, device) if self._sharded else model.to(device)).eval()

    @cached_property
    def _states(self) -> list[dict[str, Tensor]]:
        return self.folder.models()

    def weights(self, given: Weights) -> Tensor:
        """(m,) on the simplex. Raises WeightsError."""
        if isinstance(given, str):
            return parse_weights(given, self.names)
        if isinstance(given, Mapping):
            given = [float(given.get(name, 0.0)) for name in self.names]
        return check_weights(given, self.m)

    def nearest(self, weights: Tensor) -> tuple[int, bool]:
        """Which of `trained` comes nearest to `weights` (m,), and whether it is as good as the same."""
        assert self.trained is not None
        distance = (self.trained - weights).abs().amax(1)
        found = int(distance.argmin())
        return found, float(distance[found]) <= SAME_WEIGHTS

    def at(self, weights: Tensor) -> TextModel:
        """The model, answering `weights` (m,): a soup is averaged, one model per w is looked up.

        Raises WeightsError where no model was trained for this w.
        """
        model = self.model
        if self.conditioned or (self._at is not None and torch.equal(self._at, weights)):
            return model
        model.load_trained(self._state(weights))
        self._at = weights.clone()
        return model

    def _state(self, weights: Tensor) -> dict[str, Tensor]:
        if self.method.method == "dpo-soup":
            states = self._states
            return {name: sum(w * s[name] for w, s in zip(weights, states, strict=True)) for name in states[0]}  # type: ignore[misc]
        assert self.trained is not None
        nearest, same = self.nearest(weights)
        if not same:
            near = ", ".join(f"{v:.2f}" for v in self.trained[nearest].tolist())
            raise WeightsError(
                f"{self.name} has a model only at the {len(self.trained)} weights it was trained for; the nearest is "
                f"({near})."
            )
        parts = sum(member.part for member in members(self.method, self.m))
        return self._states[parts + nearest]
