"""A base cut over two processes: the same training as with whole copies and as in one process, and what is refused.

One launch trains everything that needs two processes, since starting them takes longer than all of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hyperdpo
from hyperdpo.cli import leave
from hyperdpo.errors import ConfigError, Interrupted
from hyperdpo.methods import MethodConfig
from hyperdpo.text import model as text_model
from hyperdpo.text import train as training
from hyperdpo.text.model import TextModel, blocks
from hyperdpo.text.run import TextRun
from hyperdpo.text.sharding import check_processes
from hyperdpo.text.tokens import TextBatches, tokenise
from hyperdpo.text.train import TextConfig, plan, train
from hyperdpo.training import make_accelerator
from tests.text.conftest import QUICK, TOKENS, toy_preferences
from tests.text_helpers import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.timeout(600)  # 20 s where nothing else runs, minutes where more programs run than cores
PLAIN = TextConfig(fit=replace(QUICK, average=0.5), tokens=TOKENS)
# 12 training lists: the second step of an epoch has one, and one of two processes none
PARTS = replace(PLAIN, fit=replace(QUICK, batch_size=11), micro=4, checkpointing=True)
REWARDS = replace(PLAIN, fit=replace(QUICK, epochs=1), method=MethodConfig(method="mo-dpo", points=2))
TAUGHT = replace(PLAIN, fit=replace(PLAIN.fit, epochs=1), replicas=2, distil=1)
CONFIGS = {
    "gpt2": PLAIN,
    "llama": PARTS,
    "mo-dpo": REWARDS,
    "taught": TAUGHT,
    "half": replace(PARTS, precision="bf16"),
}
BASES = {"gpt2": "gpt2", "llama": "llama", "mo-dpo": "gpt2", "taught": "gpt2", "half": "llama"}
STOPPED_AT = 4


def toys() -> Any:
    return toy_preferences(20)


class Launched:
    """What each of two processes does, in `folder`; a result is a run folder there, or notes of this process."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.accelerator = make_accelerator("cpu")
        self.rank = self.accelerator.process_index
        # Each process has a cache of its own, as on two machines, and one process alone fills it.
        os.environ["HYPERDPO_CACHE"] = str(folder / f"cache-{self.rank}")
        self.notes: dict[str, Any] = {"shares": []}
        self.shard, training.shard = training.shard, self.noted_shard
        self.load = training.load_frozen
        training.computes_bf16 = lambda: True  # emulated if need be
        # Shares compute each prompt with each response, to rounding errors of bfloat16: whole copies the same here.
        text_model.caches_keys = lambda backbone: False

    def noted_shard(self, model: TextModel, device: torch.device) -> TextModel:
        """The training's own, noting (name, numbers held here, numbers in all) of what is frozen."""
        found = self.shard(model, device)
        frozen = [(name, p) for name, p in found.named_parameters() if not p.requires_grad]
        self.notes["shares"].append([(name, p.to_local().numel(), p.numel()) for name, p in frozen])  # type: ignore[operator]
        return found

    def train(self, name: str, out: str, *, shard: bool = True, stop: bool = False, **options: Any) -> None:
        def tick(what: str, done: int, total: int, loss: float) -> None:
            if stop and what == "model 1" and done == STOPPED_AT and self.rank == 1:
                os.kill(os.getpid(), signal.SIGINT)

        config = replace(CONFIGS[name], shard=shard)
        # a base in bfloat16, as on a GPU
        training.load_frozen = (lambda base, half: self.load(base, half=True)) if name == "half" else self.load
        train(
            toys(), str(self.folder / BASES[name]), config, self.folder / out, tick=tick,
            accelerator=self.accelerator, **options,
        )  # fmt: skip

    def stop(self, name: str, out: str) -> None:
        try:
            self.train(name, out, stop=True)
        except Interrupted as error:
            self.notes[out] = str(error)

    def all(self) -> None:
        for name in ("gpt2", "llama", "half"):
            self.train(name, f"{name}-sharded")
            self.train(name, f"{name}-whole", shard=False)
        self.train("mo-dpo", "mo-dpo-sharded")
        self.train("taught", "taught-sharded")
        self.stop("gpt2", "resumed")
        self.train("gpt2", "resumed", resume=True)
        self.stop("gpt2", "left")
        (self.folder / f"notes-{self.rank}.json").write_text(json.dumps(self.notes))
        leave(0)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    for kind in ("gpt2", "llama"):
        tiny_model(kind).save_pretrained(folder / kind)  # type: ignore[arg-type]
        tiny_tokenizer(front=True).save_pretrained(folder / kind)
    script = folder / "launch.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.text.test_sharding import Launched\n"
        "Launched(Path(__file__).parent).all()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    root = str(Path(hyperdpo.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as launch:
        try:
            _, errors = launch.communicate(timeout=500)
        except subprocess.TimeoutExpired:
            launch.terminate()  # and not kill(): the launcher ends its processes, which wait for each other
            errors = "They wait for each other.\n" + launch.communicate()[1]
    assert launch.returncode == 0, errors[-6000:]
    return folder


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"notes-{rank}.json").read_text()) for rank in (0, 1)]


def assert_same(found: TextRun, wanted: TextRun, *, atol: float) -> None:
    for a, b in zip(found.folder.models(), wanted.folder.models(), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0)
    for front, other in zip(found.folder.fronts(), wanted.folder.fronts(), strict=True):
        np.testing.assert_allclose(front.ndcg, other.ndcg, atol=10 * atol)
    for ours, theirs in zip(found.config["training"], wanted.config["training"], strict=True):
        assert ours["best_epoch"] == theirs["best_epoch"]
        assert ours["best_validation"] == pytest.approx(theirs["best_validation"], abs=1e-5)
    assert found.config["base"] == wanted.config["base"], "its fingerprint and size are the whole base's"


@pytest.mark.parametrize("name", ["gpt2", "llama", "mo-dpo", "taught"])
def test_two_processes_with_shares_do_what_one_does(name: str, launched: Path, tmp_path: Path) -> None:
    """With whole or partial steps, a moving average, checkpointing and parts of a step, rewards, and a second stage."""
    config = replace(CONFIGS[name], checkpointing=False)
    one = train(toys(), str(launched / BASES[name]), config, tmp_path / "one", device="cpu")
    assert_same(TextRun(launched / f"{name}-sharded"), one, atol=5e-4 if name == "taught" else 2e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "half"])
def test_shares_and_whole_copies_train_the_same(name: str, launched: Path) -> None:
    sharded, whole = (TextRun(launched / f"{name}-{how}") for how in ("sharded", "whole"))
    assert_same(sharded, whole, atol=2e-4)
    assert [run.config["sharded"] for run in (sharded, whole)] == [True, False]
    assert [run.config["processes"] for run in (sharded, whole)] == [2, 2]


def test_each_process_holds_about_half_of_what_is_frozen(launched: Path) -> None:
    first, second = (note["shares"] for note in notes(launched))
    assert len(first) == len(second) == 9, (
        "one for each sharded training, whether begun or resumed; two of a second stage"
    )
    for here, there in zip(first, second, strict=True):
        for (name, mine, total), (_, theirs, _) in zip(here, there, strict=True):
            assert mine + theirs == total, name
        for held in (here, there):
            assert sum(mine for _, mine, _ in held) == pytest.approx(sum(total for *_, total in held) / 2, rel=0.05)


def test_interrupted_and_resumed_equals_uninterrupted(launched: Path) -> None:
    here, there = (note["resumed"] for note in notes(launched))
    assert "stopped (in another process) at epoch 1, step 1" in here
    assert "stopped (SIGINT) at epoch 1, step 1" in there
    resumed, whole = (TextRun(launched / name) for name in ("resumed", "gpt2-sharded"))
    for a, b in zip(resumed.folder.models(), whole.folder.models(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_one_process_goes_on_with_what_two_have_begun(launched: Path) -> None:
    assert not (launched / "left" / "manifest.json").exists()
    assert plan(toys(), "m", PLAIN) == plan(toys(), "m", replace(PLAIN, shard=True))
    run = train(toys(), str(launched / "gpt2"), PLAIN, launched / "left", device="cpu", resume=True)
    assert_same(run, TextRun(launched / "gpt2-sharded"), atol=2e-4)
    assert run.config["sharded"] is False


def test_one_process_is_told_how_to_start_several(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"over several processes; got 1: .*accelerate launch.* on GPUs, `torchrun"):
        train(toys(), str(tmp_path), replace(PLAIN, shard=True), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_torch_that_cannot_leave_parameters_whole_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed import fsdp

    monkeypatch.setattr(fsdp, "fully_shard", lambda module, *, mesh: module)
    with pytest.raises(
        ConfigError, match=rf"needs torch 2\.7 or later.* this is {torch.__version__}".replace("+", r"\+")
    ):
        check_processes(2)


def test_a_process_without_lists_makes_a_pass_and_has_gradients_of_zero() -> None:
    model = TextModel(tiny_model(), 2, conditioned=True)
    batches = TextBatches(tokenise(toys(), tiny_tokenizer(), TOKENS), batch_size=3)
    batch = batches._nothing(np.array([0, 1]), total=2)
    passes: list[object] = []
    model.backbone.register_forward_hook(lambda *given: passes.append(given))
    scores = model(*batch.inputs, torch.tensor([[0.5, 0.5]]))
    assert scores.tolist() == [[0.0] * 3]
    scores.sum().backward()
    assert len(passes) == 1
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and not g.any() for g in gradients)


def test_the_blocks_are_the_outermost_list_and_not_a_block_s_experts() -> None:
    inner = [nn.ModuleList(nn.Linear(1, 1) for _ in range(5)) for _ in range(3)]
    outer = nn.ModuleList(nn.Sequential(experts) for experts in inner)
    assert blocks(nn.ModuleDict({"short": nn.ModuleList([nn.Identity()]), "layers": outer})) is outer
    assert len(blocks(nn.Linear(1, 1))) == 0
    assert len(blocks(tiny_model("llama"))) == 2
