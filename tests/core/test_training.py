"""fit(): resumed equals uninterrupted, two processes equal one, the same seed gives the same bytes, and bad states."""

from __future__ import annotations

import errno
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from hyperdpo import training
from hyperdpo.errors import ConfigError, Interrupted, RunError
from hyperdpo.training import FitConfig, FitResult, fit, learning_rate_at, make_accelerator, rng_for, seed_torch

ROWS, STEPS, EPOCHS = 18, 5, 4
CONFIG = FitConfig(epochs=EPOCHS, patience=EPOCHS, batch_size=4, learning_rate=0.02, average=0.9)


class Rows:
    """18 rows in batches of 4: five steps an epoch, the last one short."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(ROWS, 3, generator=g)
        self.y = self.x.sum(1) + 0.1 * torch.randn(ROWS, generator=g)

    def __len__(self) -> int:
        return STEPS

    def epoch(self, order: np.random.Generator, start: int, rank: int, world: int) -> Iterator[Any]:
        index = order.permutation(ROWS)
        for step in range(start, STEPS):
            whole = index[step * 4 : step * 4 + 4]
            share = torch.from_numpy(whole[rank::world])
            yield self.x[share], self.y[share], len(whole)


def net() -> nn.Module:
    seed_torch(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))


def step_loss(model: nn.Module, batch: Any, rng: np.random.Generator) -> Tensor:
    x, y, total = batch
    wanted = y + 0.3 * rng.standard_normal()  # so that the step's own generator matters too
    return (model(x).squeeze(-1) - wanted).square().sum() / total


def validate(model: nn.Module) -> float:
    rows = Rows()
    with torch.no_grad():
        return float((model(rows.x).squeeze(-1) - rows.y).square().mean())


def run(
    *,
    config: FitConfig = CONFIG,
    seed: int = 1,
    state: Path | None = None,
    tick: Callable[[int, int, float], None] = lambda done, total, loss: None,
    validate: Callable[[nn.Module], float] = validate,
    loss: Any = step_loss,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[bytes, FitResult]:
    model = net()
    result = fit(model, loss, Rows(), validate, config, seed=seed, state=state, tick=tick, log=log)
    return save(model.state_dict()), result


def without_seconds(result: FitResult) -> list[dict[str, float]]:
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in result.history]


def interrupt_at(step: int, signum: int = signal.SIGINT) -> Callable[[int, int, float], None]:
    def tick(done: int, total: int, loss: float) -> None:
        if done == step:
            os.kill(os.getpid(), signum)

    return tick


# --- equivalences ----------------------------------------------------------------------------------------------------


def test_it_learns_and_reports() -> None:
    lines: list[str] = []
    seen: list[tuple[int, int]] = []
    before = validate(net().eval())
    config = replace(CONFIG, epochs=30, patience=30)
    _, result = run(config=config, log=lines.append, tick=lambda done, total, loss: seen.append((done, total)))
    assert result.best_validation < before / 2
    assert result.epochs == 30 == len(result.history) == len(lines)
    assert seen == [(i + 1, 150) for i in range(150)]
    assert "validation" in lines[0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, result = run()
    again, repeated = run()
    other, _ = run(seed=2)
    assert first == again
    assert without_seconds(result) == without_seconds(repeated)
    assert first != other


def test_the_global_generators_do_not_matter() -> None:
    first, _ = run()
    torch.manual_seed(99)
    np.random.seed(99)
    model = net()
    torch.rand(17)
    fit(model, step_loss, Rows(), validate, CONFIG, seed=1)
    assert save(model.state_dict()) == first


@pytest.mark.parametrize("step", [1, 3, STEPS, STEPS + 1, 2 * STEPS + 2, EPOCHS * STEPS])
@pytest.mark.parametrize("average", [0.9, 0.0])
def test_resumed_after_ctrl_c_equals_uninterrupted(tmp_path: Path, step: int, average: float) -> None:
    config = replace(CONFIG, average=average)
    whole, result = run(config=config)
    state = tmp_path / "fit.state"
    with pytest.raises(Interrupted, match=r"stopped \(SIGINT\) at epoch \d, step \d\. Its state is saved; .*--resume"):
        run(config=config, state=state, tick=interrupt_at(step))
    lines: list[str] = []
    resumed, again = run(config=config, state=state, log=lines.append)
    assert resumed == whole
    assert without_seconds(again) == without_seconds(result)
    assert lines[0].startswith("resumed from epoch")


def test_interrupted_at_every_single_step_equals_uninterrupted(tmp_path: Path) -> None:
    whole, result = run()
    state = tmp_path / "fit.state"
    for step in range(1, EPOCHS * STEPS + 1):
        with pytest.raises(Interrupted):
            run(state=state, tick=interrupt_at(step, signal.SIGTERM))
    resumed, again = run(state=state)
    assert resumed == whole
    assert without_seconds(again) == without_seconds(result)


@pytest.mark.parametrize("step", [2, STEPS, STEPS + 3, 3 * STEPS + 4])
def test_resumed_after_a_kill_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """What a kill leaves is the last state on disk: a copy taken midway."""
    whole, _ = run()
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", -1.0)
    state, copy = tmp_path / "fit.state", tmp_path / "copy.state"

    def tick(done: int, total: int, loss: float) -> None:
        if done == step:
            shutil.copy(state, copy)

    untouched, _ = run(state=state, tick=tick)
    assert untouched == whole, "saving changes nothing"
    resumed, _ = run(state=copy)
    assert resumed == whole


def test_a_finished_state_is_not_trained_again(tmp_path: Path) -> None:
    state = tmp_path / "fit.state"
    whole, result = run(state=state)
    steps: list[int] = []
    again, repeated = run(state=state, tick=lambda done, total, loss: steps.append(done))
    assert again == whole
    assert steps == []
    assert repeated.history == result.history


def test_ctrl_c_without_a_state_file_promises_nothing() -> None:
    with pytest.raises(Interrupted) as caught:
        run(tick=interrupt_at(2))
    assert "--resume" not in str(caught.value)


@pytest.mark.parametrize("epoch", [1, EPOCHS])
def test_ctrl_c_during_a_validation_is_not_forgotten(tmp_path: Path, epoch: int) -> None:
    """Also after the last epoch: otherwise the next model of a method would simply start."""
    whole, _ = run()
    state, calls = tmp_path / "fit.state", []

    def interrupted(model: nn.Module) -> float:
        calls.append(1)
        if len(calls) == epoch:
            os.kill(os.getpid(), signal.SIGINT)
        return validate(model)

    with pytest.raises(Interrupted):
        run(state=state, validate=interrupted)
    assert len(calls) == epoch
    assert run(state=state)[0] == whole


def test_a_second_ctrl_c_means_now_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def twice(done: int, total: int, loss: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tick=twice)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_fit_works_outside_the_main_thread() -> None:
    """A dashboard trains in a thread, where signals cannot be caught."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(run()[0]))
    thread.start()
    thread.join()
    assert found == [run()[0]]


TWO_PROCESSES = """
    import sys
    sys.path.insert(0, {folder!r})
    import os
    import signal
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from safetensors.torch import save_file
    from test_training import CONFIG, Rows, net, step_loss, validate
    from hyperdpo.cli import leave
    from hyperdpo.errors import Interrupted
    from hyperdpo.training import fit, make_accelerator

    accelerator = make_accelerator("cpu")
    assert accelerator.num_processes == 2
    model = net()
    model[2].p = 0.0
    out, state = Path(sys.argv[1]), Path(sys.argv[2])

    def tick(done, total, loss):
        if done == 7 and accelerator.process_index == 1 and sys.argv[3] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)  # launchers repeat a signal

    def measured(model):
        return validate(model) if accelerator.is_main_process else float("nan")  # the main process decides for all

    try:
        fit(model, step_loss, Rows(), measured, CONFIG, seed=1, accelerator=accelerator, state=state, tick=tick)
    except Interrupted as error:
        out.with_suffix(f".{{accelerator.process_index}}").write_text(str(error))
    else:
        if accelerator.is_main_process:
            save_file(model.state_dict(), out)
    accelerator.wait_for_everyone()  # gloo aborts where one takes the group down while another still talks
    leave(0)
"""


def two_processes(tmp_path: Path, what: str) -> None:
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES.format(folder=str(Path(__file__).parent))))
    # torchrun, because `accelerate launch --cpu` starts several processes under mpirun only.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(training.__file__).parents[1])}
    done = subprocess.run(
        [*command, str(tmp_path / "out"), str(tmp_path / "fit.state"), what],
        capture_output=True, text=True, env=environment, timeout=240, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def assert_equals_one_process(path: Path) -> None:
    model = net()
    model[2].p = 0.0  # dropout cannot be the same on other shares
    fit(model, step_loss, Rows(), validate, CONFIG, seed=1)
    for name, value in load_file(path).items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-5), name


def test_two_processes_equal_one(tmp_path: Path) -> None:
    two_processes(tmp_path, "whole")
    assert_equals_one_process(tmp_path / "out")


def test_one_of_two_processes_is_asked_to_stop(tmp_path: Path) -> None:
    """Both stop at the same step, the state is saved, and both go on from it."""
    two_processes(tmp_path, "interrupt")
    assert "stopped (in another process) at epoch 1, step 2" in (tmp_path / "out.0").read_text()
    assert "stopped (SIGINT) at epoch 1, step 2" in (tmp_path / "out.1").read_text()
    two_processes(tmp_path, "whole")
    assert_equals_one_process(tmp_path / "out")


# --- early stopping and averaging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_early_stopping_restores_the_best_weights(average: float) -> None:
    script = [3.0, 1.0, 2.0, 1.5, 0.5, 0.4]
    seen: list[bytes] = []

    def scripted(model: nn.Module) -> float:
        seen.append(save(model.state_dict()))
        return script[len(seen) - 1]

    config = replace(CONFIG, epochs=6, patience=2, average=average)
    weights, result = run(config=config, validate=scripted)
    assert len(seen) == 4, "stopped two epochs after the best"
    assert (result.best_epoch, result.best_validation, result.epochs) == (1, 1.0, 4)
    assert weights == seen[1]


def test_a_tie_is_not_an_improvement() -> None:
    _, result = run(config=replace(CONFIG, epochs=4, patience=2), validate=lambda model: 1.0)
    assert (result.best_epoch, result.epochs) == (0, 3)


def test_a_validation_that_is_never_a_number_is_told() -> None:
    with pytest.raises(ConfigError, match="validation loss was never a number; check the labels of the validation"):
        run(validate=lambda model: math.nan)


def test_the_average_is_validated_and_the_training_goes_on_from_the_raw_weights() -> None:
    seen: dict[float, list[bytes]] = {0.0: [], 0.9: []}
    losses: dict[float, list[float]] = {0.0: [], 0.9: []}
    for average in seen:

        def keep(model: nn.Module, average: float = average) -> float:
            seen[average].append(save(model.state_dict()))
            return -float(len(seen[average]))

        def tick(done: int, total: int, loss: float, average: float = average) -> None:
            losses[average].append(loss)

        run(config=replace(CONFIG, average=average), validate=keep, tick=tick)
    assert losses[0.0] == losses[0.9]
    assert seen[0.0][0] != seen[0.9][0]


def test_the_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = {"weight": torch.tensor([[1.0]])}
    with torch.no_grad():
        model.weight.fill_(2.0)
    training._update_average(average, model, 0.9, done=0)
    assert average["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)  # early on: decay (1 + 0) / (10 + 0)
    training._update_average(average, model, 0.9, done=10_000)
    assert average["weight"].item() == pytest.approx(0.9 * 1.9 + 0.1 * 2)


# --- optimiser and schedule ------------------------------------------------------------------------------------------


def test_learning_rate_by_hand() -> None:
    config = FitConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate_at(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate_at(0, 1, config) == 1.0


def test_weight_decay_spares_vectors() -> None:
    groups = training._adamw(net(), FitConfig(weight_decay=0.3)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert all(p.dim() > 1 for p in groups[0]["params"])
    assert [p.dim() for p in groups[1]["params"]] == [1, 1]


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        FitConfig(
            epochs=0, patience=0, batch_size=0, learning_rate=0.0, warmup=1.0, weight_decay=-1.0, clip=-1.0, average=1.0
        )
    assert len(caught.value.problems) == 8
    assert "learning_rate = 0.0 is out of range" in str(caught.value)
    with pytest.raises(ConfigError, match="learning_rate = nan"):
        FitConfig(learning_rate=math.nan)


def test_generators_depend_on_their_key_alone() -> None:
    assert rng_for(1, 2).random() == rng_for(1, 2).random()
    draws = {rng_for(*key).random() for key in ((1, 2), (2, 1), (1,), (1, 2, 3), (1, 2, 1))}
    assert len(draws) == 5


def test_devices() -> None:
    with pytest.raises(ConfigError, match="--device is auto, cpu or cuda; got 'tpu'"):
        make_accelerator("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA device; use --device auto or cpu"):
            make_accelerator("cuda")
    assert make_accelerator("cpu").device.type == "cpu"


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_step(value: float) -> None:
    calls: list[int] = []

    def loss(model: nn.Module, batch: Any, rng: np.random.Generator) -> Tensor:
        calls.append(1)
        return step_loss(model, batch, rng) * (value if len(calls) == STEPS + 3 else 1.0)

    with pytest.raises(ConfigError, match=rf"The loss became {value} at epoch 1, step 2; lower the learning rate"):
        run(loss=loss)


def saved_state(tmp_path: Path) -> Path:
    state = tmp_path / "fit.state"
    with pytest.raises(Interrupted):
        run(state=state, tick=interrupt_at(7))
    return state


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    state = saved_state(tmp_path)
    with pytest.raises(RunError, match=r"other settings \(epochs: 4 then, 9 now; learning_rate: 0.02 then, 0.5 now\)"):
        run(state=state, config=replace(CONFIG, epochs=9, learning_rate=0.5))


def test_a_state_of_another_seed_and_settings_tells_both(tmp_path: Path) -> None:
    state = saved_state(tmp_path)
    with pytest.raises(RunError) as caught:
        run(state=state, seed=3, config=replace(CONFIG, clip=2.0))
    assert len(caught.value.problems) == 2
    assert "was saved with seed 1, not 3; resume with the same seed" in str(caught.value)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    state = saved_state(tmp_path)
    with pytest.raises(RunError, match="holds a model of another shape"):
        fit(nn.Linear(3, 1), step_loss, Rows(), validate, CONFIG, seed=1, state=state)


def test_a_state_from_the_future_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STATE_VERSION", 2)
    state = saved_state(tmp_path)
    monkeypatch.undo()
    with pytest.raises(RunError, match="has state version 2; this program reads 1"):
        run(state=state)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "foreign", "headless"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    state = saved_state(tmp_path)
    content = state.read_bytes()
    if damage == "foreign":
        save_file({"x": torch.zeros(1)}, state)
    elif damage == "headless":
        save_file({"x": torch.zeros(1)}, state, {"hyperdpo": "{}"})
    else:
        state.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"hello " * 50}[damage])
    with pytest.raises(RunError, match=r"not a readable training state .*; delete it to start this model again"):
        run(state=state)


def test_a_full_disk_during_a_save_leaves_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run()
    state = saved_state(tmp_path)
    earlier = state.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"fit.state could not be written \(No space left on device\)"):
        run(state=state)
    assert state.read_bytes() == earlier
    assert [p.name for p in tmp_path.iterdir()] == ["fit.state"]
    monkeypatch.undo()
    assert run(state=state)[0] == whole
