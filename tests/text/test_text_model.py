"""The prefix, LoRA, and scores of sequences: one batch with many w equals single runs, on three architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperdpo.errors import ConfigError, RunError
from hyperdpo.text.model import (
    PromptConfig,
    TextModel,
    check_pair,
    fingerprint,
    load_backbone,
    load_frozen,
    load_tokenizer,
    positions,
)
from hyperdpo.text.prompt import HyperPrompt, PlainPrompt, gates
from hyperdpo.text.tokens import TextBatch, TextBatches, tokenise
from hyperdpo.training import FitConfig, _adamw, _weights
from tests.text.conftest import TOKENS, toy_preferences
from tests.text_helpers import CONTEXT, tiny_model, tiny_tokenizer

PAPER = PromptConfig(conditioning="prompt")
KINDS = ("gpt2", "llama", "qwen2")


def shaken(model: TextModel, seed: int = 3) -> TextModel:
    """The model with every trained number moved, as training would: LoRA's own start changes nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def a_batch(lists: int = 4) -> TextBatch:
    return next(iter(TextBatches(tokenise(toy_preferences(lists), tiny_tokenizer(), TOKENS), batch_size=lists).once()))


def test_the_mask_is_the_product_of_two_mlps_and_near_one_before_training() -> None:
    start = torch.randn(8, 16)
    prompt = HyperPrompt(3, 4, start)
    w = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    for row, mask in zip(w, prompt.mask(w), strict=True):
        left, right = prompt.left(row).view(8, 4), prompt.right(row).view(4, 16)
        torch.testing.assert_close(mask, left @ right)
    assert (prompt.mask(w) - 1).abs().max() < 0.3
    torch.testing.assert_close(prompt(w), start * prompt.mask(w))
    torch.testing.assert_close(PlainPrompt(start)(w), start)


def test_trained_parameters_are_those_of_the_paper_s_layout() -> None:
    model = TextModel(tiny_model(), 2, PAPER, conditioned=True)
    named = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    assert named["prompt.prefix"] == (8, 32)
    assert named["prompt.left.2.bias"] == (8 * 4,)
    assert named["prompt.right.2.bias"] == (4 * 32,)
    assert {shape[0] for name, shape in named.items() if "lora_A" in name} == {4}
    assert all(name.startswith("prompt.") or "lora_" in name for name in named)


def test_each_objective_has_rows_of_lora_gated_by_its_weight_and_nothing_changes_before_training() -> None:
    found = gates(torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.2, 0.3, 0.3, 0.5, 0.5], [1, 1, 0, 0, 0, 0]]))
    model, plain = (TextModel(tiny_model(), 2, c, conditioned=True) for c in (PromptConfig(), PAPER))
    with torch.no_grad():
        for own, other in zip(model.prompt.parameters(), plain.prompt.parameters(), strict=True):
            other.copy_(own)
    batch, at = a_batch(), torch.tensor([0.3, 0.7])
    torch.testing.assert_close(*(x.sequence_scores(batch.tokens, batch.mask, at) for x in (model, plain)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_layer_gives_x_a_g_b_and_the_base_none_of_it(kind: str) -> None:
    model = shaken(TextModel(tiny_model(kind), 2, conditioned=True))
    assert model.gated
    name, layer = next((n, x) for n, x in model.backbone.named_modules() if hasattr(x, "lora_A"))
    x, w = torch.randn(3, 6, layer.in_features), torch.tensor([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]])
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        model.condition(w)
        whole, plain = layer(x), layer.base_layer(x)
        assert len(a) == 8, "4 rows for each of 2 objectives"
        for row, given, base, (first, second) in zip(x, whole, plain, w, strict=True):
            own = first * (row @ a[:4].T @ b[:, :4].T) + second * (row @ a[4:].T @ b[:, 4:].T)
            torch.testing.assert_close(given - base, 2.0 * own, atol=1e-4, rtol=1e-4)
        with model.as_base():
            torch.testing.assert_close(layer(x), plain)
        model.condition(w[1])
        torch.testing.assert_close(layer(x)[1], whole[1], atol=1e-5, rtol=1e-4)
        assert (layer(x)[0] - whole[0]).abs().max() > 1e-2
        turned = model.lora_at(w[1])[0]
        torch.testing.assert_close(2.0 * x[1] @ turned.T @ b.T, (whole - plain)[1], atol=1e-4, rtol=1e-4)
    assert name


def test_gradients_are_the_same_where_activations_are_computed_again() -> None:
    batch, w = a_batch(), torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [1.0, 0.0]])
    found = []
    for again in (False, True):
        model = shaken(TextModel(tiny_model(), 2, conditioned=True)).train()
        if again:
            model.recompute_activations()
        model.sequence_scores(batch.tokens, batch.mask, w).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4, rtol=1e-3)


def test_runs_of_before_lora_was_gated_are_read_without_gates_or_refused() -> None:
    fields = PAPER.to_dict()
    del fields["conditioning"], fields["map_rate"]
    assert PromptConfig.from_dict({**fields, "core_rate": 10.0}) == replace(PAPER, map_rate=PAPER.rate)
    with pytest.raises(RunError, match=r"learned core \(core_rate\) is not read any more; train the run again"):
        PromptConfig.from_dict({**fields, "conditioning": "prompt+lora", "core_rate": 10.0})
    with pytest.raises(ConfigError, match="conditioning = 'lora' is out of range"):
        PromptConfig(conditioning="lora")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [PAPER, PromptConfig()], ids=["prompt", "prompt+lora"])
def test_a_batch_with_a_w_for_each_list_equals_single_runs(kind: str, config: PromptConfig) -> None:
    model = shaken(TextModel(tiny_model(kind), 2, config, conditioned=True))
    batch = a_batch(11)
    w = torch.stack([torch.linspace(0, 1, 11), 1 - torch.linspace(0, 1, 11)], 1)
    with torch.no_grad():
        together = model.sequence_scores(batch.tokens, batch.mask, w)
        for i in range(11):
            alone = TextBatches(tokenise(toy_preferences(11), tiny_tokenizer(), TOKENS), batch_size=1)
            one = alone.batch(batch.lists[i : i + 1].numpy(), total=1)
            single = model.sequence_scores(one.tokens, one.mask, w[i])
            torch.testing.assert_close(together[i : i + 1, : single.shape[1]], single, atol=1e-4, rtol=1e-4)
    assert (together[0] - model.sequence_scores(batch.tokens, batch.mask, w[5])[0]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_sums_of_token_log_probabilities_by_the_plain_model(kind: str) -> None:
    backbone = tiny_model(kind)
    model = shaken(TextModel(tiny_model(kind), 2, conditioned=True))
    batch = a_batch()
    base = model.base_scores(batch.tokens, batch.mask)
    for i in range(len(batch.mask)):
        for j in range(int(batch.mask[i].sum())):
            real = batch.tokens.attention[i, j]
            ids, scored = batch.tokens.ids[i, j][real], batch.tokens.scored[i, j][real]
            with torch.no_grad():
                log_p = backbone(input_ids=ids[None]).logits[0].log_softmax(-1)
            slow = sum(log_p[t - 1, ids[t]] for t in range(1, len(ids)) if scored[t])
            torch.testing.assert_close(base[i, j], torch.as_tensor(slow), atol=1e-4, rtol=1e-4)


def test_more_padding_changes_nothing() -> None:
    model = shaken(TextModel(tiny_model(), 2, conditioned=True))
    batch, w = a_batch(), torch.tensor([0.4, 0.6])
    wider = type(batch.tokens)(*(torch.nn.functional.pad(x, (0, 7), value=0) for x in batch.tokens))
    with torch.no_grad():
        one = model.sequence_scores(batch.tokens, batch.mask, w)
        torch.testing.assert_close(model.sequence_scores(wider, batch.mask, w), one, atol=1e-5, rtol=1e-5)
    assert (one[~batch.mask] == 0).all()


def test_left_padding_keeps_positions() -> None:
    attention = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert positions(attention).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_trained_tensors_come_back_bit_exact(tmp_path: Path) -> None:
    model = shaken(TextModel(tiny_model(), 2, conditioned=True))
    save_file(model.trained(), tmp_path / "a.safetensors")
    other = TextModel(tiny_model(), 2, conditioned=True)
    other.load_trained(load_file(tmp_path / "a.safetensors"))
    for name, value in model.trained().items():
        assert torch.equal(other.trained()[name], value)
    with pytest.raises(ConfigError, match="another model"):
        TextModel(tiny_model(), 3, conditioned=True).load_trained(model.trained())


def test_the_fingerprint_tells_bases_apart_and_survives_saving(tmp_path: Path) -> None:
    model = tiny_model(seed=0)
    before = fingerprint(model)
    model.save_pretrained(tmp_path)
    assert fingerprint(load_backbone(tmp_path)) == before
    assert fingerprint(tiny_model(seed=1)) != before


@pytest.mark.parametrize("saved", [torch.float32, torch.float16, torch.bfloat16])
def test_a_base_in_half_precision_has_the_fingerprint_of_what_was_saved(saved: torch.dtype, tmp_path: Path) -> None:
    """A run trained over rounded weights is opened with those that were saved."""
    tiny_model("llama").to(saved).save_pretrained(tmp_path)
    half, found = load_frozen(tmp_path, half=True)
    assert found == load_frozen(tmp_path, half=False)[1] == fingerprint(load_backbone(tmp_path))
    rounded = load_backbone(tmp_path, dtype=torch.bfloat16)
    torch.testing.assert_close(dict(half.named_parameters()), dict(rounded.named_parameters()), atol=0, rtol=0)
    buffers = dict(half.named_buffers())
    assert {b.dtype for b in buffers.values()} == {torch.float32}, "angles of rotary positions are not rounded"
    torch.testing.assert_close(buffers, dict(load_backbone(tmp_path).named_buffers()), atol=0, rtol=0)


def test_a_training_keeps_no_frozen_tensor_also_where_two_are_tied() -> None:
    model = TextModel(tiny_model(), 2, conditioned=True)
    assert any("lm_head.weight" in name for name in model.state_dict())
    assert not [name for name in _weights(model) if "wte" in name or "lm_head" in name]
    assert set(model.trained()) <= set(_weights(model))


def test_prefix_maps_and_lora_learn_at_rates_of_their_own() -> None:
    model = TextModel(tiny_model(), 2, PromptConfig(rate=7.0, map_rate=3.0), conditioned=True)
    groups = _adamw(model, FitConfig(weight_decay=0.1)).param_groups
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert named.pop("prompt.prefix") == 7.0
    assert {rate for name, rate in named.items() if name.startswith("prompt.")} == {3.0}
    assert {rate for name, rate in named.items() if "lora_" in name} == {1.0}
    assert len(rates) == len(named) + 1


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder here"):
        load_backbone(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no causal language model"):
        load_backbone(tmp_path)
    with pytest.raises(ConfigError, match="holds no causal language tokenizer"):
        load_tokenizer(tmp_path)
    small = tiny_model()
    small.resize_token_embeddings(100)
    with pytest.raises(ConfigError, match=r"320 tokens and the model 100 embeddings"):
        check_pair(small, tiny_tokenizer())
    with pytest.raises(ConfigError, match="tokens = 0 is out of range"):
        PromptConfig(tokens=0)
    with pytest.raises(ConfigError, match="name the model's own linear layers"):
        TextModel(tiny_model(), 2, PromptConfig(lora_targets=("nothing",)), conditioned=True)
    assert TextModel(tiny_model(), 2, conditioned=False).context == CONTEXT
