"""Token ids, their cuts and counts, and padded batches in several processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_helpers import END, tiny_model, tiny_tokenizer
from torch import nn

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.losses import objective_losses
from hyperdpo.methods import MethodConfig, mean_losses, members, step_loss
from hyperdpo.objectives import Objective
from hyperdpo.text.data import Preferences
from hyperdpo.text.formats import Message
from hyperdpo.text.tokens import (
    TextBatch,
    TextBatches,
    TokenConfig,
    TokenLists,
    Tokens,
    encode_prompt,
    encode_response,
    tokenise,
)

OBJECTIVES = (Objective("x", "x"), Objective("y", "y", "l1"))
TOKENIZER = tiny_tokenizer()
CHAT = (Message("system", "Be kind."), Message("user", "Hi"))


def preferences(n: int = 12, prompts: tuple[Any, ...] = ()) -> Preferences:
    """Lists of 2 to 4 responses of different lengths; the second objective is scored in every other list."""
    rng = np.random.default_rng(0)
    sizes = [2 + i % 3 for i in range(n)]
    texts = [tuple(f"{'dog ' * int(rng.integers(1, 9))}{k}" for k in range(size)) for size in sizes]
    scores = [rng.uniform(size=(size, 2)) for size in sizes]
    for i, values in enumerate(scores):
        if i % 2:
            values[:, 1] = np.nan
    given = prompts or tuple(f"Once {'upon ' * (i % 5)}" for i in range(n))
    return Preferences(given, tuple(texts), tuple(scores), OBJECTIVES)


@pytest.fixture(scope="module")
def lists() -> TokenLists:
    return tokenise(preferences(), tiny_tokenizer())


def test_prompt_and_response_join_to_the_text() -> None:
    tokenizer, p = tiny_tokenizer(), preferences(3)
    lists = tokenise(p, tokenizer)
    for i in range(3):
        for text, ids in zip(p.responses[i], lists.responses[i], strict=True):
            assert tokenizer.decode([*lists.prompts[i], *ids]) == p.prompts[i] + text + END
    assert lists.counts == {"prompts": 0, "responses": 0, "responses_alike": 0}
    assert lists.notes == ()
    assert lists.pad == tokenizer.pad_token_id


def test_a_chat_is_written_as_hh_does_or_by_the_template() -> None:
    config, plain, chat = TokenConfig(), tiny_tokenizer(), tiny_tokenizer(chat=True)

    def written(tokenizer: Any, prompt: Any, config: TokenConfig = config) -> tuple[str, str]:
        return (
            tokenizer.decode(encode_prompt(tokenizer, prompt, config)[0]),
            tokenizer.decode(encode_response(tokenizer, prompt, " Yes", config)[0]),
        )

    assert written(plain, CHAT) == ("Be kind.\n\nHuman: Hi\n\nAssistant:", " Yes" + END)
    assert written(plain, "Hi,") == ("Hi,", " Yes" + END)
    assert written(chat, CHAT) == ("<system>Be kind.\n<user>Hi\n<assistant>", "Yes" + END)
    assert written(chat, "Hi,") == ("<user>Hi,\n<assistant>", "Yes" + END)
    assert written(chat, "Hi,", TokenConfig(chat="never")) == ("Hi,", " Yes" + END)
    assert plain.decode(encode_response(plain, CHAT, "Yes", config)[0]) == " Yes" + END
    with pytest.raises(ConfigError, match="needs a tokenizer with a chat template"):
        encode_prompt(plain, "Hi", TokenConfig(chat="always"))
    chat.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match=r"refuses a prompt \(roles must alternate\); its roles are system, user"):
        encode_prompt(chat, CHAT, config)


def test_tokens_in_front_of_a_text_stay_in_front() -> None:
    tokenizer = tiny_tokenizer(front=True)
    whole, cut = encode_prompt(tokenizer, "The cat was happy", TokenConfig())
    assert not cut
    assert tokenizer.decode(whole) == END + "The cat was happy"
    short, cut = encode_prompt(tokenizer, "The cat was happy", TokenConfig(max_prompt=3))
    assert cut
    assert short.tolist() == [whole[0], *whole[-2:]]
    assert tokenizer.decode(encode_response(tokenizer, "x", "y", TokenConfig())[0]) == "y" + END


def test_cuts_are_counted_and_leave_something_of_both() -> None:
    tokenizer, p = tiny_tokenizer(), preferences(12)
    lists = tokenise(p, tokenizer, TokenConfig(max_prompt=4, max_response=6), context=9)
    assert max(map(len, lists.prompts)) <= 4
    assert lists.lengths.max() == 9
    assert min(len(r) for rs in lists.responses for r in rs) >= 1
    full = tokenise(p, tokenizer)
    for a, b in zip(lists.prompts, full.prompts, strict=True):
        assert a.tolist() == b[len(b) - len(a) :].tolist()
    ends = Counter(r[-1] == 0 for rs in lists.responses for r in rs)
    assert ends[False] == lists.counts["responses"] == sum(len(r) > 6 for rs in full.responses for r in rs)
    assert lists.counts["prompts"] == sum(len(a) < len(b) for a, b in zip(lists.prompts, full.prompts, strict=True))
    assert lists.counts["responses_alike"] > 0
    assert len(lists.notes) == 3
    assert f"{lists.counts['prompts']} of 12 prompts lost their beginning" in lists.notes[0]


@given(
    st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=2, max_size=3, unique=True),
    st.text(min_size=1, max_size=30).filter(str.strip),
    st.integers(1, 12),
    st.integers(2, 12),
    st.integers(1, 12),
)
def test_no_cut_leaves_nothing(texts: list[str], prompt: str, most: int, longest: int, more: int) -> None:
    p = Preferences((prompt,), (tuple(texts),), (np.zeros((len(texts), 1)),), OBJECTIVES[:1])
    lists = tokenise(p, TOKENIZER, TokenConfig(max_prompt=most, max_response=longest), context=longest + more)
    assert 1 <= len(lists.prompts[0]) <= most
    assert all(1 <= len(r) <= longest for r in lists.responses[0])
    assert lists.lengths[0] <= longest + more


def test_what_a_tokenizer_lacks() -> None:
    p = preferences(2)
    lists = tokenise(p, tiny_tokenizer(pad=False))
    assert lists.pad == 0
    assert lists.notes == (f"The tokenizer has no pad token; its end token '{END}' pads, masked out.",)
    with pytest.raises(ConfigError, match="neither a pad token nor an end-of-text token"):
        tokenise(p, tiny_tokenizer(pad=False, end=False))
    with pytest.raises(ConfigError, match="no end-of-text token, so that no answer could end"):
        tokenise(p, tiny_tokenizer(end=False))
    assert tokenise(p, tiny_tokenizer(end=False), TokenConfig(end=False)).responses[0][0][-1] != 0


def test_configurations_that_cannot_be() -> None:
    with pytest.raises(ConfigError) as caught:
        TokenConfig(max_prompt=0, max_response=1, chat="yes")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match=r"max_response = 256 tokens leaves no room for a prompt in a context of 200"):
        tokenise(preferences(2), TOKENIZER, context=200)
    with pytest.raises(ConfigError, match="batch_size is 1 or more"):
        TextBatches(tokenise(preferences(2), TOKENIZER), batch_size=0)


def test_fingerprints_follow_the_tokens_alone(lists: TokenLists) -> None:
    assert tokenise(preferences(), TOKENIZER).fingerprint == lists.fingerprint
    assert tokenise(preferences(), TOKENIZER, TokenConfig(end=False)).fingerprint != lists.fingerprint


def check(batch: TextBatch, lists: TokenLists) -> None:
    """Every row of a batch is its list, and pads are pads."""
    b, n, t = batch.tokens.ids.shape
    assert batch.tokens.attention.shape == batch.tokens.scored.shape == (b, n, t)
    assert batch.mask.sum(1).tolist() == lists.sizes[batch.lists.numpy()].tolist()
    for row, i in enumerate(batch.lists.tolist()):
        prompt = lists.prompts[i]
        for item in range(n):
            ids, attention, scored = (x[row, item] for x in batch.tokens)
            if item >= lists.sizes[i]:
                assert attention.tolist() == [True] + [False] * (t - 1)
                assert not scored.any()
                assert (ids == lists.pad).all()
                assert (batch.targets[row, item] == 0).all()
                continue
            response = lists.responses[i][item]
            stop = len(prompt) + len(response)
            assert ids[attention].tolist() == [*prompt, *response]
            assert ids[scored].tolist() == response.tolist()
            assert attention[:stop].all()
            assert (ids[stop:] == lists.pad).all()
        assert torch.equal(batch.targets[row, : lists.sizes[i]], lists.targets[i])


def test_batches_hold_their_lists(lists: TokenLists) -> None:
    batches = TextBatches(lists, batch_size=5)
    assert len(batches) == 3
    assert batches.coverage.tolist() == [1, 0.5]
    batches.base = [torch.arange(n, dtype=torch.float32) + 1 for n in lists.sizes]
    batches.rewards = [torch.ones(n, 2) for n in lists.sizes]
    seen = []
    for batch in batches.once():
        check(batch, lists)
        tokens, base, mask = batch.inputs
        assert isinstance(tokens, Tokens)
        assert torch.equal(base > 0, mask)
        assert batch.rewards is not None
        assert torch.equal(batch.rewards[..., 0] > 0, mask)
        seen += batch.lists.tolist()
    assert sorted(seen) == list(range(12))
    batches.base = None
    assert not next(batches.once()).inputs[1].any()


def as_list(step: TextBatch | list[TextBatch]) -> list[TextBatch]:
    return step if isinstance(step, list) else [step]


@pytest.mark.parametrize("micro", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_and_micro_batches_share_each_step(lists: TokenLists, micro: int, world: int) -> None:
    alone = [b.lists for b in TextBatches(lists, batch_size=5).epoch(np.random.default_rng(3), 0, 0, 1)]
    batches = TextBatches(lists, batch_size=5, micro=micro)
    shares = [[as_list(s) for s in batches.epoch(np.random.default_rng(3), 0, r, world)] for r in range(world)]
    assert sorted(torch.cat(alone).tolist()) == list(range(12))
    for k, whole in enumerate(alone):
        parts = [share[k] for share in shares]
        assert len({len(p) for p in parts}) == 1  # as many passes on each process
        placed = torch.full((len(whole),), -1)
        for batch in (b for p in parts for b in p):
            assert batch.total == len(whole)
            assert len(torch.arange(batch.total)[batch.share]) == len(batch.mask)
            assert micro == 0 or len(batch.mask) <= micro
            if batch.mask.any():
                assert (placed[batch.share] == -1).all()
                placed[batch.share] = batch.lists
                check(batch, lists)
            else:
                assert not batch.targets.any()
        assert torch.equal(placed, whole)


def test_an_epoch_goes_on_where_it_stopped(lists: TokenLists) -> None:
    batches = TextBatches(lists, batch_size=2)
    whole = [b.lists.tolist() for b in batches.epoch(np.random.default_rng(1), 0, 0, 1)]  # type: ignore[union-attr]
    rest = [b.lists.tolist() for b in batches.epoch(np.random.default_rng(1), 4, 0, 1)]  # type: ignore[union-attr]
    assert rest == whole[4:]
    other = [b.lists.tolist() for b in batches.epoch(np.random.default_rng(2), 0, 0, 1)]  # type: ignore[union-attr]
    assert other != whole


def test_similar_lengths_stand_together() -> None:
    rng = np.random.default_rng(0)
    texts = tuple((f"{'dog ' * int(rng.integers(1, 60))}a", "b") for _ in range(128))
    p = Preferences(("Once",) * 128, texts, tuple(np.array([[1.0], [0.0]]) for _ in texts), OBJECTIVES[:1])
    lists = tokenise(p, TOKENIZER)
    steps = list(TextBatches(lists, batch_size=8).epoch(rng, 0, 0, 1))
    padded = sum(b.tokens.ids.shape[2] * 8 for b in steps)  # type: ignore[union-attr]
    assert padded < 1.15 * lists.lengths.sum()


class Scored(nn.Module):
    """A model of the kind that trains on these batches: the log-probability of a response less the base's."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.model = tiny_model(kind)

    def encode(self, tokens: Tokens, base: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, n, t = tokens.ids.shape
        logits = self.model(input_ids=tokens.ids.view(-1, t), attention_mask=tokens.attention.view(-1, t).long()).logits
        each = logits[:, :-1].log_softmax(-1).gather(2, tokens.ids.view(-1, t)[:, 1:, None]).squeeze(2)
        return (each * tokens.scored.view(-1, t)[:, 1:]).sum(1).view(b, n) - base

    def decode(self, encoded: torch.Tensor, w: Any, base: Any, mask: Any) -> torch.Tensor:
        return encoded

    def forward(self, tokens: Tokens, base: torch.Tensor, mask: torch.Tensor, w: Any) -> torch.Tensor:
        return self.encode(tokens, base, mask)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_the_methods_loss_takes_these_batches_whole_or_in_parts(lists: TokenLists, kind: str) -> None:
    model, beta = Scored(kind), torch.ones(2) * 0.1
    config = MethodConfig()

    def losses(micro: int, world: int) -> list[torch.Tensor]:
        batches = TextBatches(lists, batch_size=5, micro=micro)
        loss = step_loss(config, members(config, 2)[0], beta=beta, coverage=batches.coverage, separable=False)
        total = torch.zeros(len(batches))
        for rank in range(world):
            for k, step in enumerate(batches.epoch(np.random.default_rng(0), 0, rank, world)):
                for batch in as_list(step):
                    total[k] += loss(model, batch, np.random.default_rng(k)).detach()
        return list(total)

    with torch.no_grad():
        whole = losses(0, 1)
        assert torch.allclose(torch.stack(losses(2, 3)), torch.stack(whole), atol=1e-5)
        assert torch.allclose(torch.stack(losses(1, 1)), torch.stack(whole), atol=1e-5)
        means = mean_losses(model, TextBatches(lists, batch_size=4).once(), torch.eye(2), beta)
    assert torch.isfinite(means).all()
    assert means.shape == (2, 2)


def test_padding_changes_no_loss(lists: TokenLists) -> None:
    model, batches = Scored("gpt2"), TextBatches(lists, batch_size=12)
    with torch.no_grad():
        whole = next(batches.once())
        together = objective_losses(model(*whole.inputs, None), whole.targets, whole.mask, torch.ones(2))
        for row, i in enumerate(whole.lists.tolist()):
            one = batches.batch(np.array([i]), 1)
            alone = objective_losses(model(*one.inputs, None), one.targets, one.mask, torch.ones(2))
            assert torch.allclose(alone[0], together[row], atol=1e-4)


def test_an_objective_without_an_informative_list_is_refused() -> None:
    p = preferences(12).subset([1, 3])
    with pytest.raises(DataError, match="No list is informative for 'y' in this split"):
        TextBatches(tokenise(p, TOKENIZER), batch_size=2)
    with pytest.raises(DataError, match="no list to batch"):
        TextBatches(tokenise(p.subset([]), TOKENIZER), batch_size=2)
