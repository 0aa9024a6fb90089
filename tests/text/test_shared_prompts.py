"""A prompt computed once for all its responses: the same scores and gradients as of whole sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from hyperdpo.text import shared_prompts
from hyperdpo.text.model import PromptConfig, TextModel
from hyperdpo.text.shared_prompts import caches_keys, share_prompts, to_the_right, worth_sharing
from hyperdpo.text.tokens import Tokens, pad_tokens
from tests.text.test_text_model import KINDS, PAPER, shaken
from tests.text_helpers import CONTEXT, VOCABULARY, WIDTH, tiny_model

SHAPES = [(5, [3, 6]), (12, [2, 9, 4, 1]), (2, [7]), (20, [1, 1])]  # tokens of a prompt, and of its responses


def a_batch(shapes: list[tuple[int, list[int]]], seed: int = 0, wider: int = 0) -> tuple[Tokens, Tensor]:
    """Random lists of these lengths, and the mask (b, n) of their responses."""
    rng = np.random.default_rng(seed)
    pairs = [
        (rng.integers(2, VOCABULARY, size=p), [rng.integers(2, VOCABULARY, size=r) for r in responses])
        for p, responses in shapes
    ]
    n = max(len(responses) for _, responses in pairs)
    t = max(p + max(responses) for p, responses in shapes) + wider
    mask = torch.tensor([[i < len(responses) for i in range(n)] for _, responses in pairs])
    return pad_tokens(pairs, 1, n, t), mask


def many_weights(count: int) -> Tensor:
    first = torch.linspace(0, 1, count)
    return torch.stack([first, 1 - first], 1)


@contextmanager
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sharing wherever it is possible; the list counts how often."""
    shared: list[int] = []
    before = shared_prompts.share_prompts

    def counted(*args: object) -> object:
        found = before(*args)  # type: ignore[arg-type]
        shared.append(found is not None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(shared_prompts, "WORTH", 99.0)
        patch.setattr(shared_prompts, "WORTH_TRAINING", 99.0)
        patch.setattr("hyperdpo.text.model.share_prompts", counted)
        yield shared


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [PAPER, PromptConfig()], ids=["prompt", "prompt+lora"])
@pytest.mark.parametrize("each", [False, True], ids=["one w", "a w for each list"])
def test_scores_and_gradients_are_those_of_whole_sequences(
    kind: str, config: PromptConfig, each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, mask = a_batch(SHAPES, wider=3)
    mask[3] = False  # a list that is masked out, as the last of an uneven step
    w = many_weights(len(mask)) if each else torch.tensor([0.3, 0.7])
    upstream = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    model = shaken(TextModel(tiny_model(kind), 2, config, conditioned=True))
    found = []
    for share in (False, True):
        model.shares_prompts = share
        model.zero_grad()
        with always(monkeypatch) as shared:
            scores = model.sequence_scores(tokens, mask, w)
            (scores * upstream).sum().backward()
            base = model.base_scores(tokens, mask)
        assert shared == ([1, 1] if share else [])
        found.append((scores, base, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    (whole, base, gradients), (apart, other, others) = found
    torch.testing.assert_close(apart, whole, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(other, base, atol=1e-4, rtol=1e-5)
    assert (apart[~mask] == 0).all()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=2e-3, rtol=2e-3, msg=name)


def windowed(kind: str) -> PreTrainedModel:
    """Architectures that look no further back than a few tokens, in some layer."""
    torch.manual_seed(0)
    shared = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    deep = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
    model: PreTrainedModel
    if kind == "mistral":
        model = MistralForCausalLM(MistralConfig(**shared, **deep, sliding_window=6))  # type: ignore[arg-type]
    elif kind == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(**shared, **deep, head_dim=8, sliding_window=6))  # type: ignore[arg-type]
    else:
        kinds = [[["global", "local"], 1]]
        model = GPTNeoForCausalLM(
            GPTNeoConfig(
                **shared,
                num_layers=2,
                num_heads=4,
                attention_types=kinds,
                window_size=6,
                max_position_embeddings=CONTEXT,
            )  # type: ignore[arg-type]
        )
    return model.eval()


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gpt-neo"])
def test_sliding_windows_reach_as_far_back_as_in_whole_sequences(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, mask = a_batch(SHAPES)
    model = shaken(TextModel(windowed(kind), 2, conditioned=True))
    assert model.shares_prompts
    found = []
    for model.shares_prompts in (False, True):
        with torch.no_grad(), always(monkeypatch) as shared:
            found.append((model.sequence_scores(tokens, mask, many_weights(4)), model.base_scores(tokens, mask)))
    assert shared == [1, 1]
    for whole, apart in zip(*found, strict=True):
        torch.testing.assert_close(apart, whole, atol=1e-4, rtol=1e-4)


def test_recurrent_layers_keep_no_keys_and_their_prompts_are_computed_with_each_response() -> None:
    assert not caches_keys(MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1)))


def test_recomputed_activations_keep_no_keys_in_training_and_do_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, mask = a_batch(SHAPES)
    model = shaken(TextModel(tiny_model(), 2, conditioned=True))
    model.recompute_activations()
    with always(monkeypatch) as shared:
        model.train()
        model.sequence_scores(tokens, mask, torch.tensor([0.3, 0.7]))
        assert shared == []
        model.eval()
        with torch.no_grad():
            model.sequence_scores(tokens, mask, torch.tensor([0.3, 0.7]))
        assert shared == [1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1, max_size=4)), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 99),
)
def test_parts_hold_every_token_once_and_what_predicts_it(
    shapes: list[tuple[int, list[int]]], prefix: int, wider: int, seed: int
) -> None:
    tokens, mask = a_batch(shapes, seed, wider)
    mask[seed % len(mask)] &= seed % 3 > 0  # now and then a list is masked out
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_prompts, "WORTH", 99.0)
        apart = share_prompts(tokens, mask, prefix)
    kept = [i for i in range(len(mask)) if mask[i].any()]
    if mask.shape[1] < 2 or not kept or min(shapes[i][0] for i in kept) < 2:
        assert apart is None
        return
    assert apart is not None
    row = 0
    for i, list_ in enumerate(kept):
        assert int(apart.lengths[i]) == shapes[list_][0] - 1
        for j in range(len(shapes[list_][1])):
            if not mask[list_, j]:
                continue
            whole = tokens.ids[list_, j][tokens.attention[list_, j]].tolist()
            before = apart.prompts[i, : apart.lengths[i]].tolist()
            inputs, targets = (x[row][apart.scored[row]].tolist() for x in (apart.ids, apart.targets))
            assert int(apart.lists[row]) == i
            assert before + inputs == whole[:-1]
            assert targets == whole[len(whole) - shapes[list_][1][j] :]
            row += 1
    assert row == len(apart.ids)


def test_it_is_done_where_it_saves_a_tenth_of_the_tokens_and_in_training_three_tenths() -> None:
    short, long = a_batch([(8, [8, 8])]), a_batch([(40, [8, 8])])
    # whole 2 (4 + 16) = 40, apart 4 + 7 + 16 = 27; a list of one response shares with no other
    assert worth_sharing(1, 2, 7, 8, 16, 4, 27 / 40)
    assert not worth_sharing(1, 2, 7, 8, 16, 4, 26.9 / 40)
    with torch.no_grad():
        assert share_prompts(*short, 4) is not None
        assert share_prompts(*a_batch([(1, [8, 8])]), 4) is None
        assert share_prompts(*a_batch([(40, [8])]), 4) is None
        assert share_prompts(*a_batch([(3, [40, 40])]), 0) is None
    assert share_prompts(*a_batch([(8, [16, 16])]), 4) is None  # 43 of 56: enough for evaluation alone
    assert share_prompts(*long, 4) is not None


def test_sequences_are_moved_to_the_right_with_their_attention() -> None:
    sequences = torch.arange(1.0, 7).view(2, 3, 1)
    moved, seen = to_the_right(sequences, torch.tensor([3, 1]))
    assert moved[0, :, 0].tolist() == [1, 2, 3]
    assert moved[1, 2, 0] == 4
    assert seen.tolist() == [[True] * 3, [False, False, True]]
