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
TRIES = 4


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


@dataclass(frozen=True)
class Sampled:
    """Lists of different, non-empty responses, and how many draws were empty or repeated and given up.

    `kept` are the numbers of the prompts that have two responses or more.
    """

    kept: tuple[int, ...]
    responses: tuple[tuple[str, ...], ...]
    given_up: int


def sample_lists(
    source: Source,
    prompts: Sequence[Prompt],
    *,
    n: int,
    sampling: Sampling,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Sampled:
    """`n` responses to every prompt, whose draws depend on the seed, the prompt's place and their own alone.

    An empty or repeated response is drawn again, at most `TRIES` times. Raises ConfigError for n below 2, DataError for
    a prompt that does not fit.
    """
    if n < 2:
        raise ConfigError(f"A list has 2 responses or more; got --n {n}.")
    ids = [prompt_ids(source.tokenizer, prompt, source.tokens, source.room) for prompt in prompts]
    found: list[list[str]] = [[] for _ in prompts]
    total = len(prompts) * n
    for attempt in range(TRIES):
        wanted = [(i, j) for i in range(len(prompts)) for j in range(len(found[i]), n)]
        rows = [Row(ids[i], source.weights, stream=(attempt * len(prompts) + i) * n + j) for i, j in wanted]
        for (i, _), text in zip(wanted, _texts(source, rows, sampling, tick, total), strict=True):
            if text.strip() and text not in found[i]:
                found[i].append(text)
    kept = tuple(i for i, texts in enumerate(found) if len(texts) > 1)
    return Sampled(kept, tuple(tuple(found[i]) for i in kept), total - sum(len(found[i]) for i in kept))


def _texts(
    source: Source, rows: Sequence[Row], sampling: Sampling, tick: Callable[[int, int], None], total: int
) -> list[str]:
    texts = [""] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))  # alike lengths side by side: fewer pads
    for start in range(0, len(order), ROWS):
        chosen = order[start : start + ROWS]
        *_, last = generate(source.model, source.tokenizer, [rows[i] for i in chosen], sampling)
        for i, answer in zip(chosen, last, strict=True):
            texts[i] = answer.text
        tick(total - len(rows) + min(start + ROWS, len(order)), total)
    return texts
