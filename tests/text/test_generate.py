"""Decoding: cached equals uncached, a strip equals single answers, c mixes with the base, and w is really used."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperdpo.text.generate as generating
from hyperdpo.errors import ConfigError, DataError
from hyperdpo.text.generate import Row, Sampling, answers, generate, pick, stream, strip
from hyperdpo.text.model import TextModel
from hyperdpo.text.run import TextRun
from tests.text.test_text_model import KINDS, shaken
from tests.text_helpers import tiny_model, tiny_tokenizer

PROMPT = (5, 9, 33, 71)
GREEDY = Sampling(max_new_tokens=12, temperature=0.0)


def decode(model: TextModel, rows: list[Row], sampling: Sampling = GREEDY) -> list[list[int]]:
    *_, last = generate(model, tiny_tokenizer(end=True), rows, sampling)
    return [answer.ids for answer in last]


def slowly(model: TextModel, row: Row, count: int) -> list[int]:
    """Greedy tokens without a cache, by eq. (15) on two separate full forward passes."""
    ids = list(row.ids)
    for _ in range(count):
        tokens = torch.tensor([ids])
        ones = torch.ones_like(tokens, dtype=torch.bool)
        with torch.no_grad():
            with model.as_base():
                base = model.backbone(inputs_embeds=model.embed(tokens)).logits[0, -1]
            embedded, _ = model.with_prefix(model.embed(tokens), ones, row.weights)
            tuned = model.backbone(inputs_embeds=embedded).logits[0, -1]
        token = int(((1 - 1 / row.scale) * base + tuned / row.scale).argmax())
        if token == 0:
            break
        ids.append(token)
    return ids[len(row.ids) :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_cached_decoding_equals_full_forward_passes(kind: str, scale: float) -> None:
    model = shaken(TextModel(tiny_model(kind), 2, conditioned=True))
    row = Row(PROMPT, torch.tensor([0.3, 0.7]), scale)
    assert decode(model, [row]) == [slowly(model, row, 12)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_strip_of_unequal_rows_equals_single_answers(kind: str) -> None:
    model = shaken(TextModel(tiny_model(kind), 2, conditioned=True)).double()  # else rounding may move a draw
    rows = [Row(PROMPT[: 1 + i % 4], w, [1.0, 3.0][i % 2], stream=i) for i, w in enumerate(strip(2, 11))]
    rows.append(Row(PROMPT, None, stream=11))
    drawn = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=4)
    assert decode(model, rows, drawn) == [decode(model, [row], drawn)[0] for row in rows]
    assert len({tuple(ids) for ids in decode(model, [Row(PROMPT, w) for w in strip(2, 11)])}) > 1


@pytest.mark.parametrize("weights", [torch.tensor([0.3, 0.7]), None])
def test_no_answer_is_empty(weights: torch.Tensor | None) -> None:
    model = shaken(TextModel(tiny_model(), 2, conditioned=True))
    rows = [Row(PROMPT, weights, stream=i) for i in range(24)]
    hot = Sampling(max_new_tokens=3, temperature=50.0, top_p=1.0, seed=1)
    tokenizer = tiny_tokenizer(end=True)
    tokenizer.eos_token_id = int(np.bincount([ids[0] for ids in decode(model, rows, hot)]).argmax())
    *_, last = generate(model, tokenizer, rows, hot)
    assert all(len(answer.ids) >= 1 for answer in last)
    assert any(answer.ended == "length" for answer in last)


def test_a_row_without_weights_is_the_base_and_large_c_comes_near_it() -> None:
    model = shaken(TextModel(tiny_model(), 2, conditioned=True))
    plain = tiny_model().generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=12, pad_token_id=1)
    expected = [t for t in plain[0, len(PROMPT) :].tolist() if t != 0]
    assert decode(model, [Row(PROMPT, None)]) == [expected]
    assert decode(model, [Row(PROMPT, torch.tensor([1.0, 0.0]), 1e6)]) == [expected]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.0), st.floats(0.2, 2.0))
def test_draws_stay_inside_the_nucleus_and_follow_its_probabilities(
    seed: int, top_p: float, temperature: float
) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=12)).float()
    draws = (torch.arange(4000) + 0.5) / 4000
    found = pick(logits.expand(4000, -1), draws, Sampling(temperature=temperature, top_p=top_p))
    p = torch.softmax(logits / temperature, -1)
    kept, mass = [], 0.0
    for token in p.argsort(descending=True).tolist():
        if mass >= top_p:
            break
        kept.append(token)
        mass += float(p[token])
    share = torch.bincount(found, minlength=12) / 4000
    for token in range(12):
        expected = float(p[token]) / mass if token in kept else 0.0
        assert abs(float(share[token]) - expected) < 2e-3


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("steps", [0.0, 0.5], ids=["all differ", "many are equal"])
def test_drawing_from_the_likeliest_equals_sorting_the_whole_vocabulary(spread: float, steps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for top_p in (0.3, 0.95, 1.0):
        logits = spread * torch.randn(40, 1500, generator=generator)
        logits = (logits / steps).round() * steps if steps else logits
        draws, sampling = torch.rand(40, generator=generator), Sampling(temperature=1.0, top_p=top_p)
        for row, draw, found in zip(logits, draws, pick(logits, draws, sampling), strict=True):
            probabilities, order = row.double().softmax(-1).sort(descending=True, stable=True)
            before = probabilities.cumsum(0) - probabilities
            nucleus = probabilities * (before < top_p - 1e-9)
            at = int((nucleus.cumsum(0) < draw * nucleus.sum() - 1e-6).sum())
            near = order[max(0, at - 1) : at + 3]  # a draw that falls on an edge may round to either side
            assert found in near


def test_answers_stream_and_end(run: TextRun) -> None:
    seen = [[a.text for a in step] for step in stream(run, "Story 3:", [None, torch.tensor([0.5, 0.5])])]
    assert len(seen) > 1
    assert all(later[0].startswith(earlier[0].rstrip("\ufffd")) for earlier, later in itertools.pairwise(seen))
    last = answers(run, "Story 3:", [None, torch.tensor([0.5, 0.5])])
    assert [a.text for a in last] == seen[-1]
    assert {a.ended for a in last} <= {"stop", "length", "context"}


@pytest.mark.parametrize(("worth", "inside"), [(1e9, {1}), (1.0, {2})])
def test_small_passes_use_one_thread_and_give_the_others_back(
    monkeypatch: pytest.MonkeyPatch, worth: float, inside: set[int]
) -> None:
    model, seen = TextModel(tiny_model("gpt2"), 2, conditioned=True), set()
    model.backbone.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    monkeypatch.setattr(generating, "WORTH_A_THREAD", worth)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in generate(model, tiny_tokenizer(end=True), [Row(PROMPT, torch.tensor([0.3, 0.7]))], GREEDY):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == inside


def test_the_context_ends_an_answer(run: TextRun) -> None:
    [answer] = answers(run, "x" * 60, [torch.tensor([1.0, 0.0])], sampling=Sampling(400, temperature=1.0, seed=1))
    assert answer.ended in ("context", "stop")
    assert len(answer.ids) < 128


def test_bad_input_is_refused(run: TextRun) -> None:
    w = [torch.tensor([1.0, 0.0])]
    with pytest.raises(DataError, match="The prompt is empty"):
        answers(run, "  ", w)
    with pytest.raises(DataError, match=r"The prompt has \d+ tokens and the model room for \d+: shorten it"):
        answers(run, "word " * 200, w)
    for scale in (0.2, 11.0):
        with pytest.raises(ConfigError, match=r"c is from 0\.5 to 10"):
            answers(run, "Story", w, scale=scale)
    with pytest.raises(ConfigError, match="top_p = 0 is out of range"):
        Sampling(top_p=0)
