"""One pass over a prompt for all the responses to it, whose tokens then attend to its keys and values.

Scores and gradients are those of whole sequences. Known for pairs as prefix sharing (Wang and Hegde 2024); the longer
the prompt beside its responses, and the more of these, the more it saves.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from hyperdpo.text.tokens import Tokens

WORTH = 0.9  # of the tokens of whole sequences, at most, for two passes to be quicker than one
WORTH_TRAINING = 0.7  # the same with a backward pass


class SharedPrompts(NamedTuple):
    """b prompts and r responses to them, each part in a pass of its own.

    `prompts` (b, p) are ids of each prompt but its last token, padded on the right, `lengths` (b,) of which are real;
    `lists` (r,) says whose response a row is; `ids` (r, t) begin with the prompt's last token, so that each predicts
    the one of `targets` (r, t); `scored` (r, t) bool is True on real ones.
    """

    prompts: Tensor
    lengths: Tensor
    lists: Tensor
    ids: Tensor
    targets: Tensor
    scored: Tensor


def worth_sharing(lists: int, rows: int, prompt: int, response: int, length: int, prefix: int, share: float) -> bool:
    """Whether two passes compute at most `share` of the tokens that one over whole sequences does.

    Of `lists` prompts padded to `prompt` tokens and `rows` responses padded to `response`, against as many sequences
    padded to `length`; a `prefix` of virtual tokens stands before each prompt.
    """
    return lists * (prefix + prompt) + rows * response <= share * rows * (prefix + length)


def share_prompts(tokens: Tokens, mask: Tensor, prefix: int) -> SharedPrompts | None:
    """The real responses of a batch apart from their prompts, or None where that saves too little.

    `tokens` are (b, n, t), each list's prompt before each of its responses; `mask` is (b, n). A prompt of one token,
    which predicts the response, leaves none to share.
    """
    real = mask.any(1)
    if mask.shape[1] < 2 or not bool(real.any()):
        return None
    ids, attention, scored = (x[real] for x in tokens)
    mask = mask[real]
    before = (attention & ~scored)[:, 0].sum(-1)  # the first response of a real list is real
    after = scored.sum(-1).masked_fill(~mask, 0)
    shortest, longest, response, rows = (int(x) for x in (before.min(), before.max(), after.max(), mask.sum()))
    worth = WORTH_TRAINING if torch.is_grad_enabled() else WORTH
    length = ids.shape[-1]
    if shortest < 2 or not response:
        return None
    if not worth_sharing(len(ids), rows, longest - 1, response, length, prefix, worth):
        return None
    steps = torch.arange(response, device=ids.device)
    first = (before - 1).view(-1, 1, 1) + steps  # of a response's inputs, the prompt's last token

    def taken(at: Tensor) -> Tensor:
        return ids.gather(2, at.clamp(max=length - 1).expand(*ids.shape[:2], -1))[mask]

    return SharedPrompts(
        ids[:, 0, : longest - 1],
        before - 1,
        mask.nonzero()[:, 0],
        taken(first),
        taken(first + 1),
        steps < after[mask].unsqueeze(1),
    )


def to_the_right(embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences (b, t, d) padded on the right, padded on the left, and their attention (b, t).

    What follows then stands next to the last token: distances of places are those of tokens, on which some
    architectures' windows rely.
    """
    t = embedded.shape[1]
    steps, pads = torch.arange(t, device=embedded.device), (t - lengths).unsqueeze(1)
    index = (steps - pads) % t
    return embedded.gather(1, index.unsqueeze(-1).expand_as(embedded)), steps >= pads


def cache_argument(backbone: nn.Module) -> str:
    """What the architecture's forward pass calls its cache: transformers gave it another name in 5.24."""
    return "cache" if "cache" in inspect.signature(backbone.forward).parameters else "past_key_values"


def caches_keys(backbone: PreTrainedModel) -> bool:
    """Whether all that layers know of what came before are keys and values in a cache, whose rows can be repeated.

    Not so with recurrent layers.
    """
    try:
        cache = DynamicCache(config=backbone.config.get_text_config(decoder=True))
        kinds = {type(layer).__name__ for layer in cache.layers}
    except (TypeError, AttributeError):  # transformers of before 4.56
        return False
    known = bool(kinds) and kinds <= {"DynamicLayer", "DynamicSlidingWindowLayer"}
    return known and not getattr(backbone, "_is_stateful", False)
