"""Decoding at any w and c: one batched forward a token for all rows, tuned and base, with a key-value cache.

A row with c = 1 is the tuned model, a row without weights the base. Any other c is eq. (15) token by token,
(1 - 1/c) logits_base + (1/c) logits_tuned: exact at c = 1 and as c grows, an extrapolation below 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.text.formats import Prompt
from hyperdpo.text.model import TextModel, positions
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TokenConfig, encode_prompt
from hyperdpo.weights import check_scale, grid

MIN_SCALE, MAX_SCALE = 0.5, 10.0
MOST_TOKENS = 1 << 30
LIKELIEST = 256  # tokens that are sorted before the whole vocabulary is
WORTH_A_THREAD = 1e9  # multiplications of a forward pass, below which another thread is woken for longer than it helps


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        max_new_tokens: at most this many.
        temperature: of the drawn distribution; 0 takes the most likely token.
        top_p: the smallest set of tokens with this much probability is drawn from.
        seed: of the draws. Rows with the same seed share their random numbers: answers at near weights stay alike.
    """

    max_new_tokens: int = 64
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "temperature": self.temperature >= 0,
            "top_p": 0 < self.top_p <= 1,
            "seed": self.seed >= 0,
        }
        wrong = [f"{name} = {getattr(self, name)!r} is out of range." for name, fine in rules.items() if not fine]
        if wrong:
            raise ConfigError(wrong)


@dataclass(frozen=True)
class Row:
    """One answer to make: the prompt's token ids, w (m,) or None for the base, c, and which stream of draws."""

    ids: tuple[int, ...]
    weights: Tensor | None
    scale: float = 1.0
    stream: int = 0


@dataclass
class Answer:
    """A row's text so far, and why it ended: `stop` (end token), `length`, `context`, or `` while it grows."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended: str = ""


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, tokens: TokenConfig, room: int | None
) -> tuple[int, ...]:
    """Token ids of a prompt, as training made them.

    Raises DataError for an empty prompt, and for one that leaves no room for an answer: nothing is cut in silence.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise DataError("The prompt is empty; write the beginning of a text.")
    ids, _ = encode_prompt(tokenizer, prompt, replace(tokens, max_prompt=MOST_TOKENS))
    if room is not None and len(ids) >= room:
        raise DataError(f"The prompt has {len(ids)} tokens and the model room for {room - 1}: shorten it.")
    return tuple(int(i) for i in ids)


@contextmanager
def _few_threads(multiplications: float, device: torch.device) -> Iterator[None]:
    """One thread in place of several for what is too small to share, on a CPU."""
    before = torch.get_num_threads()
    if before == 1 or device.type != "cpu" or multiplications / before >= WORTH_A_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def generate(
    model: TextModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], sampling: Sampling
) -> Iterator[list[Answer]]:
    """Yield all answers after every token, the last time when each has ended.

    Each row's answer depends on its own prompt, w, c and stream alone, not on the rows beside it.
    """
    yield from _drawn(_Decoder(model, rows, sampling), tokenizer, sampling)


def generate_mixed(run: TextRun, rows: Sequence[Row], sampling: Sampling) -> Iterator[list[Answer]]:
    """As `generate`, by multi-objective decoding (Shi et al. 2024).

    The single-objective models of a soup have their logits mixed with each row's w at every token, in m passes. Raises
    ConfigError for a run of another method.
    """
    if run.method.method != "dpo-soup":
        raise ConfigError(
            f"Multi-objective decoding mixes single-objective models, as --method dpo-soup trains them; {run.name} "
            f"was trained by {run.method.method}."
        )
    yield from _drawn(_Mixture(run, rows, sampling), run.tokenizer, sampling)


def _drawn(
    decoder: _Decoder | _Mixture, tokenizer: PreTrainedTokenizerBase, sampling: Sampling
) -> Iterator[list[Answer]]:
    answers = [Answer() for _ in decoder.rows]
    draws = torch.tensor(
        np.stack(
            [np.random.default_rng([sampling.seed, row.stream]).random(sampling.max_new_tokens) for row in decoder.rows]
        ),
        dtype=torch.float32,
        device=decoder.model.device,
    )
    while True:
        with _few_threads(decoder.work, draws.device):
            logits = decoder.mixed()
            if decoder.done == 0 and tokenizer.eos_token_id is not None:
                logits[:, tokenizer.eos_token_id] = -torch.inf  # an answer has a token at least
            tokens = pick(logits, draws[:, decoder.done], sampling)
            decoder.advance(tokens)
        for answer, token in zip(answers, tokens.tolist(), strict=True):
            if answer.ended:
                continue
            if token == tokenizer.eos_token_id:
                answer.ended = "stop"
                continue
            answer.ids.append(token)
            answer.text = str(tokenizer.decode(answer.ids, skip_special_tokens=True))
            if len(answer.ids) >= sampling.max_new_tokens:
                answer.ended = "length"
        if decoder.full:
            for answer in answers:
                answer.ended = answer.ended or "context"
        yield answers
        if all(answer.ended for answer in answers):
            return


class _Decoder:
    """The batch being decoded: a tuned and, where c is not 1, a base lane for each row."""

    def __init__(self, model: TextModel, rows: Sequence[Row], sampling: Sampling) -> None:
        self.model, self.rows, self.sampling = model, rows, sampling
        for row in rows:
            check_scale(row.scale)
        self.tuned = [i for i, row in enumerate(rows) if row.weights is not None]
        self.base = [i for i, row in enumerate(rows) if row.weights is None or row.scale != 1.0]
        device = model.device
        given = [row.weights for row in rows if row.weights is not None]
        self.weights = torch.stack(given).to(device) if given else None
        share = torch.tensor([0.0 if row.weights is None else 1.0 / row.scale for row in rows], device=device)
        self.share = share.unsqueeze(1)
        self.done = 0
        self.cache: Any = DynamicCache()
        lanes = len(self.tuned) + len(self.base)
        # Multiplications of a token in every lane, about.
        self.work: int = lanes * sum(p.numel() for p in model.backbone.parameters())
        longest = max(len(row.ids) for row in rows) + model.prompt_config.tokens
        with torch.no_grad(), _few_threads(self.work * longest, device):
            self.attention, embedded = self._lanes(rows)
            self.logits = self._forward(embedded, positions(self.attention))

    def _lanes(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Attention (lanes, t) and embeddings (lanes, t, d_model), padded on the left."""
        device, found = self.model.device, []
        for i in self.tuned:
            ids = torch.tensor([rows[i].ids], device=device)
            weights = rows[i].weights
            assert weights is not None
            ones = torch.ones_like(ids, dtype=torch.bool)
            found.append(self.model.with_prefix(self.model.embed(ids), ones, weights.to(device))[0][0])
        found += [self.model.embed(torch.tensor(rows[i].ids, device=device)) for i in self.base]
        longest = max(map(len, found))
        attention = torch.zeros(len(found), longest, dtype=torch.bool, device=device)
        embedded = found[0].new_zeros(len(found), longest, found[0].shape[1])
        for lane, vectors in enumerate(found):
            attention[lane, longest - len(vectors) :] = True
            embedded[lane, longest - len(vectors) :] = vectors
        return attention, embedded

    def _forward(self, embedded: Tensor, where: Tensor) -> Tensor:
        """Next-token logits of every lane, (lanes, vocabulary)."""
        call: dict[str, Any] = {
            "inputs_embeds": embedded,
            "attention_mask": self.attention.long(),
            "position_ids": where,
            self.model.cached_as: self.cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        if not self.tuned:
            with self.model.as_base():
                return self.model.backbone(**call).logits[:, -1].float()  # type: ignore[no-any-return]
        if self.base:
            adapter = self.model.backbone.active_adapter
            call["adapter_names"] = [adapter] * len(self.tuned) + ["__base__"] * len(self.base)
        self.model.condition(self.weights)  # every time: others may decode with the same model in between
        logits: Tensor = self.model.backbone(**call).logits[:, -1].float()
        return logits

    @property
    def full(self) -> bool:
        """Whether the context has no room for another token, or no token is left to draw."""
        context = self.model.context
        longest = int(self.attention.sum(1).max())
        return (context is not None and longest >= context) or self.done >= self.sampling.max_new_tokens

    def parts(self) -> tuple[Tensor, Tensor]:
        """Next-token logits of the base and of the tuned model, each (rows, vocabulary); 0 where a row needs none."""
        tuned = self.logits.new_zeros(len(self.share), self.logits.shape[1])
        base = torch.zeros_like(tuned)
        tuned[self.tuned] = self.logits[: len(self.tuned)]
        base[self.base] = self.logits[len(self.tuned) :]
        return base, tuned

    def mixed(self) -> Tensor:
        """Next-token logits of every row, (rows, vocabulary): eq. (15)."""
        base, tuned = self.parts()
        return base * (1 - self.share) + tuned * self.share

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> None:
        """Take the next token of every row (rows,), and compute the logits after it unless the end is reached."""
        self.done += 1
        if not self.full:
            lanes = torch.cat([tokens[self.tuned], tokens[self.base]])
            self.attention = torch.cat([self.attention, self.attention.new_ones(len(lanes), 1)], 1)
            where = self.attention.long().sum(1, keepdim=True) - 1
            self.logits = self._forward(self.model.embed(lanes.unsqueeze(1)), where)


class _Mixture:
    """One decoder for each single-objective model of a soup, in step with one another; the first one has the base."""

    def __init__(self, soup: TextRun, rows: Sequence[Row], sampling: Sampling) -> None:
        self.soup, self.rows, self.model = soup, rows, soup.model
        self.corners = torch.eye(soup.m)
        given = [torch.zeros(soup.m) if row.weights is None else row.weights for row in rows]
        self.weights = torch.stack(given).to(self.model.device)
        alone = [row if row.weights is None else replace(row, scale=1.0) for row in rows]
        self.voices = [_Decoder(soup.at(w), alone if j else rows, sampling) for j, w in enumerate(self.corners)]

    @property
    def work(self) -> int:
        return self.voices[0].work

    @property
    def done(self) -> int:
        return self.voices[0].done

    @property
    def full(self) -> bool:
        return self.voices[0].full

    def mixed(self) -> Tensor:
        """Next-token logits of every row, (rows, vocabulary): the models' mixed by w, and by eq. (15) with the base."""
        tuned = torch.stack([voice.parts()[1] for voice in self.voices])
        share = self.voices[0].share
        mean = torch.einsum("rm,mrv->rv", self.weights, tuned)
        return self.voices[0].parts()[0] * (1 - share) + mean * share

    def advance(self, tokens: Tensor) -> None:
        """As a decoder's, in every model."""
        for corner, voice in zip(self.corners, self.voices, strict=True):
            self.soup.at(corner)
            voice.advance(tokens)


def _likeliest(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """`probabilities` (rows, vocabulary) from the largest down, equal ones in order, and their tokens.

    Only the first of them where these surely hold the nucleus of every row: sorting a whole vocabulary is the larger
    part of drawing a token.
    """
    found, tokens = probabilities.topk(min(LIKELIEST, probabilities.shape[1]), sorted=False)
    above = found > found.amin(-1, keepdim=True)  # what is as small as the least may go on beyond these
    if ((found * above).sum(-1) <= top_p).any():
        found, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        return found, tokens
    tokens = tokens.sort(dim=-1).values
    found, order = probabilities.gather(-1, tokens).sort(dim=-1, descending=True, stable=True)
    return found, tokens.gather(-1, order)


def pick(logits: Tensor, draws: Tensor, sampling: Sampling) -> Tensor:
    """A token for each row of `logits` (rows, vocabulary): uniform `draws` (rows,) through the nucleus' inverse cdf."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities, order = _likeliest(torch.softmax(logits / sampling.temperature, -1), sampling.top_p)
    total = probabilities.cumsum(-1)
    kept = probabilities * (total - probabilities < sampling.top_p)  # the token that passes top_p is the last kept
    cdf = kept.cumsum(-1)
    index = (cdf < draws.unsqueeze(1) * cdf[:, -1:]).sum(-1).clamp(max=cdf.shape[1] - 1)
    chosen: Tensor = order.gather(1, index.unsqueeze(1)).squeeze(1)
    return chosen


def stream(
    run: TextRun,
    prompt: Prompt,
    weights: Sequence[Tensor | None],
    *,
    scale: float = 1.0,
    sampling: Sampling | None = None,
    decoding: bool = False,
) -> Iterator[list[Answer]]:
    """Answers to one prompt at several w (None is the base), after every token.

    A run with one model for every w makes them in one batch; a baseline, whose weights differ with w, one after the
    other. With `decoding` a soup's models are mixed at every token instead of averaged. Raises DataError for a prompt
    that does not fit, WeightsError for a w the run cannot answer, ConfigError as `generate_mixed`.
    """
    scale, model = check_decoding_scale(scale), run.model
    sampling = sampling or Sampling()
    room = model.context and model.context - run.prompt_config.tokens
    ids = prompt_ids(run.tokenizer, prompt, run.tokens, room)
    rows = [Row(ids, w, scale) for w in weights]
    if decoding:
        yield from generate_mixed(run, rows, sampling)
        return
    if run.conditioned:
        yield from generate(model, run.tokenizer, rows, sampling)
        return
    finished: list[Answer] = []
    for i, row in enumerate(rows):
        if row.weights is not None:
            run.at(row.weights)
        for [answer] in generate(model, run.tokenizer, [row], sampling):
            yield [*finished, answer, *(Answer() for _ in rows[i + 1 :])]
        finished.append(answer)


def answers(
    run: TextRun,
    prompt: Prompt,
    weights: Sequence[Tensor | None],
    *,
    scale: float = 1.0,
    sampling: Sampling | None = None,
    decoding: bool = False,
) -> list[Answer]:
    """The finished answers of `stream`."""
    *_, last = stream(run, prompt, weights, scale=scale, sampling=sampling, decoding=decoding)
    return last


def strip(m: int, count: int) -> list[Tensor]:
    """The w of a strip: `count` points from one corner to the other; for m > 2 the grid, which holds every corner."""
    return list(grid(m, max(count, m)))


def check_decoding_scale(scale: float) -> float:
    """Raises ConfigError outside [0.5, 10]: further below 1 the base is subtracted more than the tuned model weighs."""
    scale = check_scale(scale)
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise ConfigError(f"At decoding c is from {MIN_SCALE:g} to {MAX_SCALE:g}; got {scale:g}.")
    return scale
