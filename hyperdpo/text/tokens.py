"""Preferences as token ids, and padded batches of them.

Prompt and response are tokenised apart and joined, so that generation continues exactly what was trained on. A prompt
that is too long loses its beginning, a response its end; both are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.objectives import Objective
from hyperdpo.splitting import Parts
from hyperdpo.text.data import Preferences
from hyperdpo.text.formats import Message, Prompt, plain_text

Ids = npt.NDArray[np.int64]
WHOLE = slice(None)
POOL = 16  # batches within which lists are sorted by length, so that few pads are computed and order stays random


@dataclass(frozen=True)
class TokenConfig:
    """How texts become token ids.

    Attributes:
        max_prompt: longest prompt in tokens; a longer one loses its beginning.
        max_response: longest response in tokens, its end token included; a longer one loses its end.
        chat: `auto` applies the tokenizer's chat template where it has one (a prompt that is plain text becomes one
            user turn), `always` insists on one, `never` writes text as it is and chats as HH-RLHF does.
        end: a whole response is followed by the end-of-text token. False for responses that were cut when sampled.
    """

    max_prompt: int = 512
    max_response: int = 256
    chat: Literal["auto", "always", "never"] = "auto"
    end: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.max_prompt < 1:
            problems.append(f"max_prompt is 1 token or more; got {self.max_prompt!r}.")
        if self.max_response < 2:
            problems.append(f"max_response is 2 tokens or more; got {self.max_response!r}.")
        if self.chat not in ("auto", "always", "never"):
            problems.append(f"chat is 'auto', 'always' or 'never'; got {self.chat!r}.")
        if problems:
            raise ConfigError(problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TokenConfig:
        """The inverse of `to_dict`."""
        return cls(**fields)


class Tokens(NamedTuple):
    """b lists of n right-padded sequences of t tokens: prompt, then response.

    `attention` is True on real tokens; a padded sequence has one, so that no row attends to nothing. `scored` is True
    on the tokens of the response.
    """

    ids: Tensor
    attention: Tensor
    scored: Tensor


@dataclass(frozen=True, eq=False)
class TokenLists:
    """Tokenised lists.

    Attributes:
        prompts: ids of the prompt, one array a list.
        responses: ids of each response; a whole one ends with the end token.
        targets: t(z), (n_i, m) a list.
        judged: (n_i, m) bool a list: whether the response has a score of the objective.
        informative: (lists, m) bool.
        objectives: the m objectives.
        pad: the id that fills rows up.
        counts: what had to be cut: `prompts`, `responses`, `responses_alike` (lists in which two responses became
            equal by it).
        notes: sentences for people.
    """

    prompts: tuple[Ids, ...]
    responses: tuple[tuple[Ids, ...], ...]
    targets: tuple[Tensor, ...]
    judged: tuple[Tensor, ...]
    informative: Tensor
    objectives: tuple[Objective, ...]
    pad: int
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def sizes(self) -> Ids:
        """Responses of each list."""
        return np.array([len(r) for r in self.responses], dtype=np.int64)

    @property
    def items(self) -> int:
        """Responses of all lists."""
        return int(self.sizes.sum())

    def per_list(self, flat: Tensor) -> list[Tensor]:
        """Values of every response in order, (items, ...), as one tensor a list."""
        return list(torch.split(flat, self.sizes.tolist()))

    @property
    def lengths(self) -> Ids:
        """Tokens of each list's longest sequence."""
        longest = [max(map(len, responses)) for responses in self.responses]
        return np.array([len(p) + n for p, n in zip(self.prompts, longest, strict=True)], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of every token id: what base log-probabilities depend on beside the model."""
        digest = hashlib.sha256()
        for prompt, responses in zip(self.prompts, self.responses, strict=True):
            for ids in (prompt, *responses):
                digest.update(len(ids).to_bytes(4, "little") + ids.astype("<i8").tobytes())
            digest.update(b"|")
        return digest.hexdigest()


def pad_token(tokenizer: PreTrainedTokenizerBase) -> tuple[int, str | None]:
    """The id that pads, and a note where the end-of-text token has to stand in. ConfigError where there is neither."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id), None
    if tokenizer.eos_token_id is not None:
        note = f"The tokenizer has no pad token; its end token {tokenizer.eos_token!r} pads, masked out."
        return int(tokenizer.eos_token_id), note
    raise ConfigError(
        "The tokenizer has neither a pad token nor an end-of-text token; got pad_token=None and eos_token=None: set "
        "one in its tokenizer_config.json."
    )


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends a text. Raises ConfigError where there is none."""
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "The tokenizer has no end-of-text token, so that no answer could end; got eos_token=None: set one in its "
            "tokenizer_config.json."
        )
    return int(tokenizer.eos_token_id)


def uses_template(tokenizer: PreTrainedTokenizerBase, config: TokenConfig) -> bool:
    """Whether prompts go through the tokenizer's chat template. ConfigError where one is insisted on in vain."""
    has = bool(getattr(tokenizer, "chat_template", None))
    if config.chat == "always" and not has:
        raise ConfigError("chat='always' needs a tokenizer with a chat template, which this one lacks; use 'auto'.")
    return has and config.chat != "never"


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, config: TokenConfig) -> str:
    """What stands before the response, as text: by the chat template or as it is."""
    if not uses_template(tokenizer, config):
        return plain_text(prompt)
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    try:
        text = tokenizer.apply_chat_template(
            [m._asdict() for m in messages], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates raise what they like, jinja2.TemplateError among others
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            f"The tokenizer's chat template refuses a prompt ({error}); its roles are {roles}. Use chat='never', or "
            "mend the prompt."
        ) from error
    return str(text)


def response_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str, config: TokenConfig) -> str:
    """A response as it is written behind `prompt_text`.

    After a template's turn without leading space, after `Assistant:` with one, after plain text as it stands.
    """
    if uses_template(tokenizer, config):
        return response.lstrip()
    return response if isinstance(prompt, str) else " " + response.lstrip()


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, config: TokenConfig, *, room: int | None = None
) -> tuple[Ids, bool]:
    """Ids of a prompt, (t,) with t >= 1, and whether its beginning was cut to `max_prompt` or `room` tokens.

    Special tokens that the tokenizer puts in front stay there, also over a cut; those it puts behind are left out, as
    are all of them where a chat template has written its own. Raises DataError where nothing is left of the prompt.
    """
    body = _ids(tokenizer, [prompt_text(tokenizer, prompt, config)])[0]
    return _fit_prompt(_front(tokenizer, config), body, config, room)


def encode_response(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str, config: TokenConfig
) -> tuple[Ids, bool]:
    """Ids of a response, (t,) with t >= 1, and whether its end was cut; a cut one has no end token."""
    ids = _ids(tokenizer, [response_text(tokenizer, prompt, response, config)])[0]
    return _fit_response(ids, [end_token(tokenizer)] if config.end else [], config)


def _fit_prompt(front: list[int], body: list[int], config: TokenConfig, room: int | None) -> tuple[Ids, bool]:
    if not front and not body:
        raise DataError("A prompt came out as no token at all; give one with visible text.")
    allowed = max(1, config.max_prompt if room is None else min(config.max_prompt, room))
    if len(front) + len(body) <= allowed:
        return np.array(front + body, dtype=np.int64), False
    front = front[: allowed - 1]
    return np.array(front + body[len(body) - (allowed - len(front)) :], dtype=np.int64), True


def _fit_response(body: list[int], end: list[int], config: TokenConfig) -> tuple[Ids, bool]:
    if not body:
        raise DataError("A response came out as no token at all; give one with visible text.")
    ids = body + end
    return np.array(ids[: config.max_response], dtype=np.int64), len(ids) > config.max_response


def tokenise(
    preferences: Preferences,
    tokenizer: PreTrainedTokenizerBase,
    config: TokenConfig | None = None,
    *,
    context: int | None = None,
) -> TokenLists:
    """Every prompt and response as ids.

    `context` is how many positions the model has for prompt and response together (its own, less virtual tokens):
    prompts are cut further where a list's longest response needs the room. Raises ConfigError where the context leaves
    none, or the tokenizer has no token to end with; DataError where a text has no token.
    """
    config = config or TokenConfig()
    if context is not None and context <= config.max_response:
        raise ConfigError(
            f"A response of max_response = {config.max_response} tokens leaves no room for a prompt in a context of "
            f"{context}; set max_response to {max(2, context // 2)} or less, or take a model with a longer context."
        )
    pad, note = pad_token(tokenizer)
    front, end = _front(tokenizer, config), [end_token(tokenizer)] if config.end else []
    lists = list(zip(preferences.prompts, preferences.responses, strict=True))
    bodies = _ids(tokenizer, [prompt_text(tokenizer, prompt, config) for prompt, _ in lists])
    written = iter(_ids(tokenizer, [response_text(tokenizer, p, text, config) for p, texts in lists for text in texts]))
    counts = {"prompts": 0, "responses": 0, "responses_alike": 0}
    prompts, responses = [], []
    for (_, texts), body in zip(lists, bodies, strict=True):
        answers = [_fit_response(next(written), end, config) for _ in texts]
        longest = max(len(ids) for ids, _ in answers)
        ids, cut = _fit_prompt(front, body, config, None if context is None else context - longest)
        prompts.append(ids)
        responses.append(tuple(answer for answer, _ in answers))
        counts["prompts"] += cut
        counts["responses"] += sum(short for _, short in answers)
        counts["responses_alike"] += len({answer.tobytes() for answer, _ in answers}) < len(answers)
    targets, informative = preferences.target_distributions()
    total = sum(map(len, responses))
    notes = [note, *_cut_notes(counts, len(prompts), total, config)]
    return TokenLists(
        tuple(prompts),
        tuple(responses),
        tuple(targets),
        tuple(preferences.judged),
        informative,
        preferences.objectives,
        pad,
        counts,
        tuple(n for n in notes if n),
    )


def _cut_notes(counts: dict[str, int], lists: int, responses: int, config: TokenConfig) -> list[str]:
    notes = []
    if counts["prompts"]:
        notes.append(f"{counts['prompts']:,} of {lists:,} prompts lost their beginning (max_prompt or the context).")
    if counts["responses"]:
        notes.append(
            f"{counts['responses']:,} of {responses:,} responses lost their end (max_response {config.max_response})."
        )
    if counts["responses_alike"]:
        notes.append(f"In {counts['responses_alike']:,} lists two responses are the same tokens.")
    return notes


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []  # which tokenizers do not take
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def _front(tokenizer: PreTrainedTokenizerBase, config: TokenConfig) -> list[int]:
    """The special tokens the tokenizer puts before a text; none where a chat template writes its own."""
    if uses_template(tokenizer, config):
        return []
    probe = _ids(tokenizer, ["a"])[0]
    whole = list(tokenizer("a")["input_ids"])
    starts = (i for i in range(len(whole) - len(probe) + 1) if whole[i : i + len(probe)] == probe)
    return whole[: next(starts, 0)]


def pad_tokens(
    pairs: Sequence[tuple[Ids, Sequence[Ids]]], pad: int, n: int, t: int, *, device: torch.device | str = "cpu"
) -> Tokens:
    """Prompts and the responses to each as (b, n, t), each prompt before each of its responses."""
    ids = np.full((len(pairs), n, t), pad, dtype=np.int64)
    attention, scored = np.zeros(ids.shape, dtype=bool), np.zeros(ids.shape, dtype=bool)
    attention[..., 0] = True
    for row, (prompt, responses) in enumerate(pairs):
        for item, response in enumerate(responses):
            stop = len(prompt) + len(response)
            ids[row, item, : len(prompt)] = prompt
            ids[row, item, len(prompt) : stop] = response
            attention[row, item, :stop] = True
            scored[row, item, len(prompt) : stop] = True
    return Tokens(*(torch.from_numpy(a).to(device) for a in (ids, attention, scored)))


@dataclass
class TextBatch:
    """b padded lists of n sequences of t tokens; see methods.ListwiseBatch.

    Attributes:
        tokens: see Tokens.
        mask: (b, n) bool, True means a real item.
        targets: t(z), (b, n, m).
        judged: (b, n, m) bool, True where an objective has scored a response; its softmax is over those.
        total: lists in the step over all processes.
        share: which of those these are.
        lists: (b,) numbers of the lists in their TokenLists.
        base: (b, n) base log-probabilities of the responses, or None while they are not known.
        rewards: (b, n, m) of the single-objective models, or None.
    """

    tokens: Tokens
    mask: Tensor
    targets: Tensor
    judged: Tensor
    total: int
    share: slice
    lists: Tensor
    base: Tensor | None = None
    rewards: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tokens, Tensor, Tensor]:
        """(tokens, base, mask); base is zeros while it is not known."""
        base = self.mask.new_zeros(self.mask.shape, dtype=torch.float32) if self.base is None else self.base
        return self.tokens, base, self.mask

    def sublists(self, parts: Parts) -> TextBatch:
        """Parts of these lists as lists of their own, their labels' distributions over the part."""
        rows, items = parts.lists.unsqueeze(1), parts.items
        targets = self.targets[rows, items] * parts.mask.unsqueeze(-1)
        return TextBatch(
            Tokens(*(x[rows, items] for x in self.tokens)),
            self.mask[rows, items] & parts.mask,
            targets / targets.sum(1, keepdim=True).clamp(min=torch.finfo(targets.dtype).tiny),
            self.judged[rows, items] & parts.mask.unsqueeze(-1),
            self.total,
            self.share,
            self.lists[parts.lists.cpu()],
            None if self.base is None else self.base[rows, items],
            None if self.rewards is None else self.rewards[rows, items],
        )


class TextBatches:
    """Tokenised lists ready for training; see training.Batches.

    Args:
        lists: a split.
        batch_size: lists a step, over all processes.
        micro: with micro > 0 a step is a list of TextBatches of at most so many lists, for gradient accumulation: as
            many on each process, the last ones possibly with a masked-out list in place of none.
        device: where batches are put.

    Attributes:
        base: (n_i,) base log-probabilities a list, or None; set by whoever computes them.
        rewards: (n_i, m) a list, or None; set where a method needs other models' residuals (MO-DPO).
        coverage: (m,) the share of lists that are informative for each objective.

    Raises DataError where no list is informative for an objective, or there is no list.
    """

    def __init__(
        self, lists: TokenLists, *, batch_size: int, micro: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if batch_size < 1 or micro < 0:
            raise ConfigError(f"batch_size is 1 or more and micro 0 or more; got {batch_size!r} and {micro!r}.")
        if not len(lists):
            raise DataError("There is no list to batch; give data with at least one.")
        self.lists = lists
        self.objectives = lists.objectives
        self.batch_size = batch_size
        self.micro = micro
        self.device = torch.device(device)
        self.coverage = lists.informative.float().mean(0).to(self.device)
        empty = [o.name for o, share in zip(lists.objectives, self.coverage.tolist(), strict=True) if share == 0]
        if empty:
            raise DataError(
                f"No list is informative for {', '.join(map(repr, empty))} in this split: fewer than two scores, or "
                "all of them 0; remove the objective, or choose another split."
            )
        self.base: Sequence[Tensor] | None = None
        self.rewards: Sequence[Tensor] | None = None
        self._lengths = lists.lengths

    def __len__(self) -> int:
        return -(-len(self.lists) // self.batch_size)

    def epoch(
        self, order: np.random.Generator, start: int, rank: int, world: int
    ) -> Iterator[TextBatch | list[TextBatch]]:
        """This process's share of each step from `start` on; every list is seen once an epoch.

        Lists of similar length stand together within shuffled windows; all of it is derived from `order` alone.
        """
        shuffled = order.permutation(len(self.lists))
        pool = POOL * self.batch_size
        pieces = [shuffled[i : i + pool] for i in range(0, len(shuffled), pool)]
        by_length = np.concatenate([p[np.argsort(self._lengths[p], kind="stable")] for p in pieces])
        steps = [by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)]
        for index in order.permutation(len(steps))[start:]:
            yield self._step(steps[index], rank, world)

    def once(self) -> Iterator[TextBatch]:
        """Every list once, by rising length."""
        order = np.argsort(self._lengths, kind="stable")
        size = self.micro or self.batch_size
        for i in range(0, len(order), size):
            piece = order[i : i + size]
            yield self.batch(piece, total=len(piece))

    def each(self, answer: Callable[[TextBatch], Tensor]) -> Tensor:
        """(items, ...) float32 on the CPU: `answer`'s (b, n, ...) for every response, in the order of the lists."""
        found: list[Tensor] = [torch.empty(0)] * len(self.lists)
        for batch in self.once():
            values = answer(batch).float().cpu()
            for row, i in enumerate(batch.lists.tolist()):
                found[i] = values[row, : len(self.lists.responses[i])]
        return torch.cat(found)

    def batch(self, index: Ids, total: int, share: slice = WHOLE) -> TextBatch:
        """The lists numbered `index`, padded to the longest of them."""
        sizes, b = self.lists.sizes[index], len(index)
        n, t, m = int(sizes.max()), int(self._lengths[index].max()), len(self.objectives)
        pairs = [(self.lists.prompts[i], self.lists.responses[i]) for i in index]
        tokens = pad_tokens(pairs, self.lists.pad, n, t, device=self.device)
        return TextBatch(
            tokens,
            torch.from_numpy(np.arange(n) < sizes[:, None]).to(self.device),
            self._padded(self.lists.targets, index, (b, n, m)),
            self._padded(self.lists.judged, index, (b, n, m)).bool(),
            total,
            share,
            torch.from_numpy(np.asarray(index, dtype=np.int64)),
            None if self.base is None else self._padded(self.base, index, (b, n)),
            None if self.rewards is None else self._padded(self.rewards, index, (b, n, m)),
        )

    def _step(self, lists: Ids, rank: int, world: int) -> TextBatch | list[TextBatch]:
        total, own = len(lists), -(-len(lists) // world)  # own: of the process with most
        size = self.micro or own
        parts = []
        for i in range(0, own, size):
            share = slice(rank + i * world, rank + (i + size) * world, world)
            part = lists[share]
            parts.append(self.batch(part, total, share) if len(part) else self._nothing(lists, total))
        return parts if self.micro else parts[0]

    def _nothing(self, lists: Ids, total: int) -> TextBatch:
        """A masked-out list, so that a process without lists takes part in the step and adds 0 to its loss."""
        batch = self.batch(lists[:1], total, slice(0, 1))
        batch.mask = torch.zeros_like(batch.mask)
        batch.targets = torch.zeros_like(batch.targets)
        batch.judged = torch.zeros_like(batch.judged)
        return batch

    def _padded(self, values: Sequence[Tensor], index: Ids, shape: tuple[int, ...]) -> Tensor:
        padded = torch.zeros(shape)
        for row, i in enumerate(index):
            padded[row, : len(values[i])] = values[i]
        return padded.to(self.device)
