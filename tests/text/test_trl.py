"""TRL's DPOTrainer as an oracle: the same base, LoRA weights and pairs give the same scores, loss and gradients."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperdpo.losses import dpo_loss
from hyperdpo.methods import MethodConfig, members, step_loss
from hyperdpo.objectives import Objective
from hyperdpo.text.model import TextModel
from hyperdpo.text.tokens import TextBatch, TextBatches, TokenLists, tokenise
from hyperdpo.training import rng_for
from tests.text.conftest import TOKENS, toy_preferences
from tests.text_helpers import tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl", reason="trl is not installed; requirements-dev.txt names it")
datasets = pytest.importorskip("datasets", reason="TRL needs datasets")

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")  # TRL's own calls of transformers
KINDS = ("gpt2", "llama", "qwen2")
BETA = 0.3
LISTS = 6


@pytest.fixture(scope="module")
def pairs() -> TokenLists:
    """Pairs with labels (1, 0) or (0, 1), of unequal lengths."""
    preferences = toy_preferences(LISTS, n=2, m=1)
    scores = tuple((s.argsort(0) if s.std() else s * 0 + [[0], [1]]).astype(float) for s in preferences.scores)
    objective = Objective("upbeat", "upbeat", normalisation="l1")
    chosen = type(preferences)(preferences.prompts, preferences.responses, scores, (objective,), name="pairs")
    return tokenise(chosen, tiny_tokenizer(), TOKENS)


def without_prefix(kind: str) -> TextModel:
    """Our model with LoRA weights that differ from their start, and its prefix left out: TRL knows none."""
    model = TextModel(tiny_model(kind), 1, conditioned=False)  # type: ignore[arg-type]
    torch.manual_seed(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.add_(0.2 * torch.randn_like(p))
    model.with_prefix = lambda embedded, attention, weights: (embedded, attention)  # type: ignore[method-assign]
    return model.eval()


class OnTokenIds(trl.DPOTrainer):  # type: ignore[misc]
    """DPOTrainer that is given token ids, so that both see the same ones."""

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset


def trainer_of(model: TextModel, kind: str, pairs: TokenLists, folder: Path, **options: Any) -> Any:
    """DPOTrainer over a base of its own with the same LoRA weights, given our token ids."""
    rows = []
    for prompt, responses, target in zip(pairs.prompts, pairs.responses, pairs.targets, strict=True):
        better = int(target[:, 0].argmax())
        ids = {"chosen_ids": responses[better].tolist(), "rejected_ids": responses[1 - better].tolist()}
        rows.append({"prompt_ids": prompt.tolist(), **ids})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = OnTokenIds(
            tiny_model(kind),  # type: ignore[arg-type]
            args=trl.DPOConfig(
                str(folder),
                beta=BETA,
                per_device_train_batch_size=LISTS,
                use_cpu=True,
                bf16=False,
                report_to=[],
                gradient_checkpointing=False,
                max_length=None,
                disable_tqdm=True,
                **options,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tiny_tokenizer(),
            peft_config=copy.deepcopy(model.backbone.peft_config["default"]),
        )
    theirs = dict(trainer.model.named_parameters())
    with torch.no_grad():
        for name, p in lora(model).items():
            theirs[name].copy_(p)
    return trainer


def lora(model: TextModel) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.backbone.named_parameters() if "lora_" in name}


def our_batch(pairs: TokenLists, model: TextModel) -> TextBatch:
    batch = TextBatches(pairs, batch_size=LISTS).batch(torch.arange(LISTS).numpy(), total=LISTS)
    batch.base = model.base_scores(batch.tokens, batch.mask)
    return batch


def chosen_first(values: Tensor, batch: TextBatch) -> tuple[Tensor, Tensor]:
    """(b,) of the preferred response and (b,) of the other, from (b, 2)."""
    better = batch.targets[..., 0].argmax(1, keepdim=True)
    return values.gather(1, better)[:, 0], values.gather(1, 1 - better)[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_on_pairs_equal_trl(kind: str, pairs: TokenLists, tmp_path: Path) -> None:
    model = without_prefix(kind)
    batch = our_batch(pairs, model)
    trainer = trainer_of(model, kind, pairs, tmp_path)
    theirs = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    theirs.backward()

    config, w = MethodConfig(method="dpo-ls", points=1), torch.ones(1)
    member = members(config, 1)[0]
    loss = step_loss(config, member, beta=BETA * w, coverage=w, separable=False)(model, batch, rng_for(0))
    loss.backward()
    assert abs(loss.item() - 0.6931) > 1e-3  # not the loss of two equal models
    torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=0)
    others = dict(trainer.model.named_parameters())
    for name, p in lora(model).items():
        torch.testing.assert_close(p.grad, others[name].grad, atol=1e-5, rtol=1e-3)

    scores = model.sequence_scores(batch.tokens, batch.mask)
    assert batch.base is not None
    by_pairs = dpo_loss(*chosen_first(scores, batch), *chosen_first(batch.base, batch), beta=BETA).mean()
    torch.testing.assert_close(by_pairs, theirs, atol=1e-5, rtol=0)


def test_reference_log_probabilities_equal_trl(pairs: TokenLists, tmp_path: Path) -> None:
    model = without_prefix("gpt2")
    batch = our_batch(pairs, model)
    assert batch.base is not None
    trainer = trainer_of(model, "gpt2", pairs, tmp_path, precompute_ref_log_probs=True)
    found = trainer.train_dataset.with_format("torch")
    chosen, rejected = chosen_first(batch.base, batch)
    torch.testing.assert_close(found["ref_chosen_logps"][:], chosen, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found["ref_rejected_logps"][:], rejected, atol=1e-4, rtol=1e-5)
