"""Sampling responses in bulk: from a plain causal model, or from a run at one w."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hyperdpo.errors import ConfigError
from hyperdpo.text.formats import Prompt
from hyperdpo.text.generate import Row, Sampling, generate, prompt_ids
from hyperdpo.text.model import TextModel, check_pair, load_backbone, load_tokenizer
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TokenConfig

ROWS = 64  # answers made side by side


@dataclass(frozen=True)
class Source:
    """What answers: a model, its tokenizer, and w (None is the base)."""

    model: TextModel
    tokenizer: PreTrainedTokenizerBase
    weights: Tensor | None
    tokens: TokenConfig = field(default_factory=TokenConfig)

    @property
    def room(self) -> int | None:
        return self.model.context and self.model.context - self.model.prompt_config.tokens


def open_any(name: str, *, weights: str | None = None, device: str = "cpu") -> Source:
    """A text run at `weights` or, without them, its base; or a plain causal model. Raises ConfigError, RunError."""
    if (Path(name) / "manifest.json").exists():
        run = TextRun(name, device=device)
        w = None if weights is None else run.weights(weights)
        return Source(run.model if w is None else run.at(w), run.tokenizer, w, run.tokens)
    if weights is not None:
        raise ConfigError(f"--weights are a text run's; {name} is a plain model: leave them out.")
    backbone, tokenizer = load_backbone(name), load_tokenizer(name)
    check_pair(backbone, tokenizer)
    return Source(TextModel(backbone, 1, conditioned=False).to(device).eval(), tokenizer, None)


def sample_lists(
    source: Source,
    prompts: Sequence[Prompt],
    *,
    n: int,
    sampling: Sampling,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[str]]:
    """`n` responses to every prompt, whose draws depend on the seed, the prompt's place and their own alone.

    Raises ConfigError for n below 1, DataError for a prompt that does not fit.
    """
    if n < 1:
        raise ConfigError(f"n is 1 response or more a prompt; got {n}.")
    rows = [
        Row(prompt_ids(source.tokenizer, prompt, source.tokens, source.room), source.weights, stream=i * n + j)
        for i, prompt in enumerate(prompts)
        for j in range(n)
    ]
    texts = [""] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))  # alike lengths side by side: fewer pads
    for start in range(0, len(order), ROWS):
        chosen = order[start : start + ROWS]
        *_, last = generate(source.model, source.tokenizer, [rows[i] for i in chosen], sampling)
        for i, answer in zip(chosen, last, strict=True):
            texts[i] = answer.text
        tick(min(start + ROWS, len(order)), len(order))
    return [texts[i : i + n] for i in range(0, len(texts), n)]
