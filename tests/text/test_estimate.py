"""The estimate of memory and time: against numbers counted otherwise, and where it must refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from hyperdpo import cli
from hyperdpo.commands.text import dry_run
from hyperdpo.errors import ConfigError
from hyperdpo.methods import Draw, MethodConfig
from hyperdpo.text import estimate
from hyperdpo.text.estimate import Estimate, Work, estimate_shape, estimate_training, trace
from hyperdpo.text.model import TextModel
from hyperdpo.text.tokens import tokenise
from hyperdpo.text.train import TextConfig
from tests.text.conftest import QUICK, TOKENS, toy_preferences
from tests.text_helpers import tiny_model, tiny_tokenizer

CONFIG = TextConfig(fit=QUICK, tokens=TOKENS)
WORK = Work(100, 10, 8, 24, 16, 8, 24, 16, 25)
SPEED = (1e9, "said")
TINY = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0}


def deep(layers: int) -> PreTrainedConfig:
    return GPT2Config(n_embd=32, n_layer=layers, n_head=4, n_positions=128, **TINY)  # type: ignore[arg-type]


def on_meta(**options: object) -> TextModel:
    return estimate._Builder(deep(2), replace(CONFIG, **options).resolve(2), 2, half=False).model(None)  # type: ignore[arg-type]


def test_bytes_and_operations_of_a_step_are_those_of_hand_counted_layers() -> None:
    """Logits, their softmax and its gradient are alive together; a matrix costs 2 operations an entry and row."""
    small, large = (trace(on_meta(), rows, 24, 16) for rows in (8, 16))
    logits = 8 * 16 * 320 * 4
    kept = 2 * 8 * 32 * 32 * 4 * 20  # two layers of width 32, about 20 numbers of that width a token
    assert 2 * logits + kept / 2 <= small.peak <= 4 * logits + 2 * kept
    assert large.peak / small.peak == pytest.approx(2, rel=0.05)  # all but the trained numbers' gradients
    rows, layer = 8 * (24 + 8), 12 * 32 * 32
    lora = 2 * 4 * (1 + 3 + 1 + 1 + 1 + 4 + 4 + 1) * 32  # 4 rows for each of 2 objectives, at both ends of four layers
    gradients = 2 * rows * 2 * lora
    matrices = 2 * (rows * 2 * layer + 8 * 16 * 32 * 320) + gradients
    assert matrices <= small.forward <= 1.15 * matrices  # attention and the prompt's maps on top
    assert 1.9 * small.forward <= small.operations - gradients <= 2.3 * small.forward  # frozen matrices have none


def test_the_model_s_own_tensors_are_no_activations() -> None:
    wide = GPT2Config(n_embd=256, n_layer=2, n_head=4, n_positions=128, **TINY)  # type: ignore[arg-type]
    build = estimate._Builder(wide, CONFIG.resolve(2), 2, half=False)
    [step] = build.traces((1, 2, 1))
    model = build.model(None)
    frozen, trained = (sum(4 * p.numel() for p in model.parameters() if p.requires_grad is t) for t in (False, True))
    assert frozen > 6e6
    assert step.peak < trained + 1e6


def test_checkpointing_saves_memory_and_costs_operations() -> None:
    shapes = [
        estimate._Builder(deep(6), replace(CONFIG, checkpointing=c).resolve(2), 2, half=False) for c in (False, True)
    ]
    plain, saved = (build.traces((8, 100, 10))[0] for build in shapes)
    assert saved.peak < 0.6 * plain.peak
    assert 1.2 * plain.operations < saved.operations < 1.7 * plain.operations


def test_a_deep_model_is_extrapolated_to_what_all_its_layers_give(monkeypatch: pytest.MonkeyPatch) -> None:
    build = estimate._Builder(deep(9), CONFIG.resolve(2), 2, half=False)
    [straight] = build.traces((4, 24, 16))
    monkeypatch.setattr(estimate, "SOME", 99)
    [whole] = build.traces((4, 24, 16))
    assert straight.operations == pytest.approx(whole.operations, rel=1e-6)
    assert straight.peak == pytest.approx(whole.peak, rel=0.02)


def test_parameters_equal_those_of_a_model_that_was_built() -> None:
    backbone = tiny_model("llama")
    found = estimate_shape(backbone.config, WORK, CONFIG.resolve(2), 2, device="cpu", assumed=SPEED)
    assert found.parameters == sum(p.numel() for p in backbone.parameters())
    built = TextModel(backbone, 2, conditioned=True)
    assert found.trained == sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert found.weights == 4 * found.parameters
    assert found.state == 7 * 4 * found.trained  # QUICK keeps no average
    assert found.memory == found.weights + found.state + found.activations + found.program


def test_seconds_are_operations_of_all_passes_over_the_speed() -> None:
    config = replace(CONFIG, method=MethodConfig(method="mo-dpo", points=3)).resolve(2)
    found = estimate_shape(deep(2), WORK, config, 2, device="cpu", assumed=SPEED)
    step = trace(on_meta(method=config.method), 8, 24, 16)
    assert found.epoch_operations == pytest.approx(25 * step.operations + 2.5 * step.forward)
    assert found.base_operations == pytest.approx(27.5 * step.forward)
    assert found.models == 5
    assert found.seconds == pytest.approx((found.base_operations + 5 * 2 * found.epoch_operations) / 1e9)
    assert "said" in found.text()


def test_whole_lists_at_every_corner_are_as_many_rows_in_training_alone() -> None:
    one, each = (
        estimate_shape(
            deep(2), WORK, replace(CONFIG, method=MethodConfig(draw=draw)).resolve(3), 3, device="cpu", assumed=SPEED
        )
        for draw in ("balanced", "corners")
    )
    assert each.work.rows == 3 * one.work.rows
    assert each.activations > 2 * one.activations
    assert each.base_operations == pytest.approx(one.base_operations, rel=1e-6)
    validation = one.base_operations / 27.5 * 2.5
    assert each.epoch_operations - validation == pytest.approx(3 * (one.epoch_operations - validation), rel=1e-6)
    twice = estimate_shape(deep(2), WORK, replace(CONFIG, replicas=2).resolve(3), 3, device="cpu", assumed=SPEED)
    assert twice.models == 2
    assert twice.distil_operations == 0


def test_distilling_takes_its_passes_at_one_w_and_every_corner_of_every_replica_once() -> None:
    def found(draw: Draw = "corners", **options: int) -> Estimate:
        config = replace(CONFIG, method=MethodConfig(draw=draw), **options).resolve(3)  # type: ignore[arg-type]
        return estimate_shape(deep(2), WORK, config, 3, device="cpu", assumed=SPEED)

    plain, taught, at_one_w = found(), found(distil=3), found("balanced")
    expected = 3 * at_one_w.epoch_operations + 3 * plain.base_operations
    assert taught.distil_operations == pytest.approx(expected, rel=1e-6)
    assert taught.seconds == pytest.approx(plain.seconds + taught.distil_operations / 1e9, rel=1e-6)
    assert "distilling" in taught.text()
    assert "distilling" not in plain.text()
    both = found(distil=3, replicas=2)
    assert both.trained > plain.trained, "the second stage has the rows of LoRA of both"
    wider = found("balanced", distil=1, replicas=2)
    assert both.distil_operations == pytest.approx(3 * wider.epoch_operations + 2 * 3 * both.base_operations, rel=1e-6)


def test_half_precision_halves_the_base_on_a_gpu() -> None:
    half = replace(CONFIG, precision="bf16").resolve(2)
    gpu, cpu = (estimate_shape(deep(2), WORK, half, 2, device=d, assumed=SPEED) for d in ("cuda", "cpu"))
    assert 2 * gpu.weights == cpu.weights
    assert gpu.state == cpu.state
    assert (
        gpu.activations < estimate_shape(deep(2), WORK, CONFIG.resolve(2), 2, device="cpu", assumed=SPEED).activations
    )


def test_seventy_billion_parameters_take_no_memory_here() -> None:
    shape = LlamaConfig(
        hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8
    )
    before = estimate.resident()
    config = replace(CONFIG, precision="bf16", checkpointing=True).resolve(2)
    found = estimate_shape(shape, WORK, config, 2, device="cuda", assumed=SPEED)
    assert found.parameters == pytest.approx(69e9, rel=0.01)
    assert estimate.resident() - before < 5e8


def test_the_largest_pass_is_the_one_that_is_remembered() -> None:
    lists = tokenise(toy_preferences(9), tiny_tokenizer(), TOKENS)
    work = Work.of(lists, 3, 2)
    assert (work.lists, work.validation, work.passes, work.rows) == (9, 3, 5, 6)
    assert work.length >= work.mean_length >= work.mean_scored
    assert work.length <= max(lists.lengths)
    assert Work.of(lists, 3, 9).length == max(lists.lengths)


def test_a_dry_run_of_a_folder_measures_this_machine(model_folder: Path) -> None:
    found = estimate_training(str(model_folder), toy_preferences(), CONFIG)
    assert found.throughput > 0
    if not torch.cuda.is_available():
        assert found.source.startswith("measured on this CPU")
    assert json.loads(json.dumps(found.to_dict()))["memory"] == found.memory
    assert "GPT2LMHeadModel" in found.text()


def test_what_does_not_fit_says_what_to_lower() -> None:
    found = estimate_shape(deep(2), WORK, CONFIG.resolve(2), 2, device="cpu", assumed=SPEED)
    assert "--checkpointing True" in replace(found, free=1).text()
    assert "too large" not in found.text()


@pytest.mark.parametrize("native", [True, False])
def test_bf16_that_this_cpu_would_emulate_is_estimated_as_fp32(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperdpo.text.train.computes_bf16", lambda: native)
    monkeypatch.setattr(estimate, "_throughput", lambda *args: SPEED)
    half = replace(CONFIG, precision="bf16").resolve(2)
    found = estimate_shape(deep(2), WORK, half, 2, device="cpu")
    assert found.precision == ("bf16" if native else "fp32")
    assert ("no instructions for bf16" in found.text()) != native
    assert estimate_shape(deep(2), WORK, half, 2, device="cpu", assumed=SPEED).precision == "bf16"


def test_a_slice_too_large_to_probe_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "PROBED", 10)
    assert estimate_shape(deep(2), WORK, CONFIG.resolve(2), 2, device="cpu").source.startswith("assumed")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_training_without_memory_says_what_to_lower(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(self: cli.TrainText) -> None:
        raise error

    monkeypatch.setattr(cli.TrainText, "execute", fail)
    status = cli.main(["train", "text", "--model", "m", "--data", "d.jsonl", "--out", str(tmp_path)])
    message = capsys.readouterr().err
    assert status == 1
    assert all(flag in message for flag in ("--micro", "--checkpointing True", "--precision bf16", "--max-response"))


def test_tied_parameters_stay_tied_and_come_back() -> None:
    model = on_meta()
    before = dict(model.named_parameters())
    undo = estimate._replace(model, lambda x: torch.zeros(x.shape))
    base = model.backbone.get_base_model()
    assert base.get_input_embeddings().weight is base.get_output_embeddings().weight
    assert isinstance(base.get_input_embeddings().weight, nn.Parameter)
    undo()
    assert all(before[name] is p for name, p in model.named_parameters())


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder here"):
        estimate_training(str(tmp_path / "none"), toy_preferences(), CONFIG)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(ConfigError, match="holds no causal language model"):
        estimate_training(str(tmp_path), toy_preferences(), CONFIG)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ConfigError, match="AutoModelForCausalLM knows"):
        estimate_training(str(tmp_path), toy_preferences(), CONFIG)


def test_a_sharded_base_is_divided_by_the_processes_and_gathered_in_part() -> None:
    shape = deep(4)
    config = replace(CONFIG, shard=True).resolve(2)
    one, four = (
        estimate_shape(shape, WORK, config, 2, device="cpu", assumed=SPEED, processes=count) for count in (1, 4)
    )
    block = 4 * 12_704  # bytes: two norms, and matrices of 3 x 32, 32, 4 x 32 and 32 columns with their biases
    assert (one.gathered, four.gathered) == (0, one.weights - block)  # three of four blocks, and what is in none
    assert four.weights == one.weights / 4
    assert four.memory == four.weights + four.gathered + four.state + four.activations + four.program
    assert one.epoch_operations - four.epoch_operations == pytest.approx(
        0.75 * (one.epoch_operations - ten_forward(one))
    )
    assert four.base_operations == one.base_operations
    assert "each of 4 processes, the base sharded" in four.text()
    assert "one process" in one.text()
    whole = estimate_shape(shape, WORK, CONFIG.resolve(2), 2, device="cpu", assumed=SPEED, processes=4)
    assert whole.weights == one.weights, "without --shard each process has a whole copy"


def ten_forward(found: estimate.Estimate) -> float:
    """Operations of the 10 validation lists, from those of all 110."""
    return found.base_operations / 11


def test_a_dry_run_counts_the_processes_of_its_launch(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, shard=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="over several processes; got 1"):
        estimate_training(str(model_folder), toy_preferences(), config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = estimate_training(str(model_folder), toy_preferences(), config)
    assert (found.processes, found.work.rows) == (2, 6), "of a batch of 4 lists of 3, half"
    monkeypatch.setenv("RANK", "1")
    assert dry_run(str(model_folder), toy_preferences(), config) is None
