"""One fit() for every method and both wings: AdamW, early stopping on validation, exact resume, several processes.

What is random in a step is derived from (seed, epoch, step), never from a running generator. A resumed run therefore
repeats exactly what an uninterrupted one would have done, and only tensors and counters need saving.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hyperdpo.errors import ConfigError, Interrupted, RunError
from hyperdpo.files import write_atomic

STATE_VERSION = 1
SAVE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class FitConfig:
    """How a model is trained, for every method alike.

    Attributes:
        epochs: at most this many passes over the training lists.
        patience: stop after this many epochs without a better validation loss.
        batch_size: lists per step, over all processes together.
        learning_rate: peak of the schedule: a linear warm-up over `warmup` of the steps, then a cosine to 0.
        weight_decay: AdamW's, on matrices only.
        clip: largest gradient norm; 0 switches it off.
        average: decay of the exponential moving average of the weights that is validated and kept; 0 switches it off.
    """

    epochs: int = 40
    patience: int = 8
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.98

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "patience": self.patience >= 1,
            "batch_size": self.batch_size >= 1,
            "learning_rate": self.learning_rate > 0,
            "warmup": 0 <= self.warmup < 1,
            "weight_decay": self.weight_decay >= 0,
            "clip": self.clip >= 0,
            "average": 0 <= self.average < 1,
        }
        wrong = [f"{name} = {getattr(self, name)!r} is out of range." for name, fine in rules.items() if not fine]
        if wrong:
            raise ConfigError(wrong)


class Batches(Protocol):
    """What fit() needs of a training set."""

    def __len__(self) -> int:
        """Steps in an epoch."""

    def epoch(self, order: np.random.Generator, start: int, rank: int, world: int) -> Iterator[Any]:
        """This process's share of each batch from step `start` on, in an order drawn from `order` alone.

        A list is a share in parts, whose gradients are accumulated: the same step with less memory.
        """


StepLoss = Callable[[nn.Module, Any, np.random.Generator], Tensor]
"""(model, batch, generator) -> this share's part of the loss, so that the sum over processes is the batch's loss."""
Validate = Callable[[nn.Module], float]
Log = Callable[[str], None]


@dataclass
class FitResult:
    """What one fit() did. `history` has one dict an epoch: epoch, train, validation, seconds.

    `cpu_seconds` is what this process computed: with one thread it is the time a quiet machine would have taken.
    """

    best_epoch: int
    best_validation: float
    epochs: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Stop:
    """Set by Ctrl-C or SIGTERM; fit() then saves at the next step and raises Interrupted."""

    def __init__(self, world: int) -> None:
        self.asked: str | None = None
        self.alone = world == 1

    def ask(self, signum: int, frame: object) -> None:
        if self.asked and self.alone:  # a second Ctrl-C means now; a launcher of several processes repeats the first
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(signum).name


@contextmanager
def listening(world: int) -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM as a wish to stop for the time of a training, in the main thread."""
    stop = Stop(world)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, stop.ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def make_accelerator(device: str = "auto") -> Accelerator:
    """Accelerate's handle on devices and processes. `device` is auto, cpu or cuda.

    Raises ConfigError where CUDA is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is auto, cpu or cuda; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda was asked for, but torch sees no CUDA device; use --device auto or cpu.")
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())


def rng_for(*key: int) -> np.random.Generator:
    """A generator that depends on `key` alone, such as (seed, epoch, step)."""
    return np.random.default_rng(list(key))


def seed_torch(*key: int) -> None:
    """Seed torch's global generators from `key` alone (initial weights, dropout)."""
    torch.manual_seed(int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> 1))


def learning_rate_at(step: int, total: int, config: FitConfig) -> float:
    """Linear warm-up, then a cosine to 0 at `total` steps."""
    warm = max(1, int(config.warmup * total))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


@dataclass
class _Progress:
    """The counters of a fit; saved with the tensors."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = -1
    best_validation: float = math.inf
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    train_sum: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: nn.Module,
    step_loss: StepLoss,
    batches: Batches,
    validate: Validate,
    config: FitConfig,
    *,
    seed: int,
    accelerator: Accelerator | None = None,
    state: Path | None = None,
    sharded: bool = False,
    log: Log = lambda line: None,
    tick: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> FitResult:
    """Train `model` in place and leave it with the weights that validated best.

    Args:
        model: its forward computes what `step_loss` asks for, so that several processes can share gradients.
        step_loss: see StepLoss.
        batches: the training lists.
        validate: a number to be made small, measured on the validation split after every epoch.
        config: the budget and the optimiser.
        seed: the source of everything random here.
        accelerator: device and processes; a CPU one by default.
        state: file in which progress is kept while training runs; an existing one is resumed, a finished one deleted.
        sharded: whether each process holds a share of every frozen parameter, on its device already. The trained ones
            are whole, and their gradients are averaged here: DDP takes no model that is sharded in part.
        log: takes one readable line an epoch.
        tick: called after each step with (steps done, steps in all, loss), for a progress bar.

    Raises Interrupted after Ctrl-C or SIGTERM, once the state is saved; RunError for a state that does not fit the
    model; ConfigError where a loss is not finite, naming the step.
    """
    accelerator = accelerator or make_accelerator("cpu")
    if not sharded:
        model.to(accelerator.device)
    optimizer = _adamw(model, config)
    progress = _Progress()
    average = {name: p.detach().clone() for name, p in trained_parameters(model)} if config.average else {}
    best = _weights(model)
    if state is not None and state.exists():
        best, average = _load_state(state, model, optimizer, progress, average, config, seed)
        log(f"resumed from epoch {progress.epoch}, step {progress.step}")
    wrapped, optimizer = (model, accelerator.prepare(optimizer)) if sharded else accelerator.prepare(model, optimizer)
    total = len(batches) * config.epochs
    world = accelerator.num_processes

    def save_state() -> None:
        if state is not None and accelerator.is_main_process:
            _save_state(state, model, optimizer, progress, average, best, config, seed)

    def stopping() -> bool:
        """Whether any process was asked to stop: all must agree, or the others would wait for its gradients forever."""
        asked = stop.asked is not None
        if world == 1:
            return asked
        return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum") > 0)

    def interrupted() -> Interrupted:
        accelerator.wait_for_everyone()  # a launcher ends the others once one process has ended: not before the save
        return Interrupted(
            f"Training was stopped ({stop.asked or 'in another process'}) at epoch {progress.epoch}, step "
            f"{progress.step}. " + ("Its state is saved; the same command with --resume goes on." if state else "")
        )

    with listening(world) as stop:
        saved = started = time.monotonic()
        before, cpu_before, cpu_started = progress.seconds, progress.cpu_seconds, time.process_time()
        while progress.epoch < config.epochs and progress.epoch - progress.best_epoch <= config.patience:
            model.train()
            order = rng_for(seed, progress.epoch)
            for batch in batches.epoch(order, progress.step, accelerator.process_index, world):
                done = progress.epoch * len(batches) + progress.step
                seed_torch(seed, progress.epoch, progress.step, accelerator.process_index)
                for group in optimizer.param_groups:
                    group["lr"] = group["rate"] * learning_rate_at(done, total, config)
                parts = batch if isinstance(batch, list) else [batch]
                found = torch.zeros((), device=accelerator.device)
                for i, part in enumerate(parts):
                    with nullcontext() if i + 1 == len(parts) else accelerator.no_sync(wrapped):
                        loss = step_loss(wrapped, part, rng_for(seed, progress.epoch, progress.step, 1))
                        found += loss.detach()
                        accelerator.backward(loss * world)  # processes average their gradients; parts are to be summed
                if sharded:
                    _average_gradients(model, accelerator)
                value = float(accelerator.reduce(found, "sum") if world > 1 else found)
                if not math.isfinite(value):
                    raise ConfigError(
                        f"The loss became {value} at epoch {progress.epoch}, step {progress.step}; lower the learning "
                        f"rate (now {config.learning_rate:g}) or raise beta."
                    )
                if config.clip:
                    accelerator.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                optimizer.zero_grad()
                _update_average(average, model, config.average, done)
                progress.step += 1
                progress.train_sum += value
                progress.seconds = before + time.monotonic() - started
                progress.cpu_seconds = cpu_before + time.process_time() - cpu_started
                tick(done + 1, total, value)
                if stopping():
                    save_state()
                    raise interrupted()
                if state is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    save_state()
                    saved = time.monotonic()
            with _averaged(model, average):
                model.eval()
                validation = _of_main_process(validate(model), accelerator)
                improved = validation < progress.best_validation
                if improved:
                    best = _weights(model)
                    progress.best_epoch, progress.best_validation = progress.epoch, validation
            progress.seconds = before + time.monotonic() - started
            progress.cpu_seconds = cpu_before + time.process_time() - cpu_started
            train = progress.train_sum / len(batches)
            progress.history.append(
                {"epoch": progress.epoch, "train": train, "validation": validation, "seconds": progress.seconds}
            )
            log(
                f"epoch {progress.epoch:3d}  train {train:.4f}  validation {validation:.4f}"
                f"{' *' if improved else '  '} {progress.seconds:6.1f} s"
            )
            progress.epoch, progress.step, progress.train_sum = progress.epoch + 1, 0, 0.0
            save_state()
            if stopping():  # asked during the validation, perhaps the last one: the next model must not simply start
                raise interrupted()
    if progress.best_epoch < 0:
        raise ConfigError("The validation loss was never a number; check the labels of the validation split.")
    _load_weights(model, best)
    model.eval()
    return FitResult(
        progress.best_epoch,
        progress.best_validation,
        progress.epoch,
        progress.seconds,
        progress.history,
        progress.cpu_seconds,
    )


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that training changes; a frozen backbone's are left out."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _average_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """The mean over processes of the trained parameters' gradients, in one collective, in place of DDP.

    A parameter without a gradient here takes part with zeros, since all processes must hand in as many numbers.
    """
    parameters = [p for _, p in trained_parameters(model)]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    mean = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for p, part in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)


def everywhere(flag: bool, accelerator: Accelerator) -> bool:
    """Whether `flag` is true in every process, so that all go the same way where each looks for itself, at files say.

    Every process must call it.
    """
    if accelerator.num_processes == 1:
        return flag
    yes = accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum")
    return bool(yes == accelerator.num_processes)


def _of_main_process(value: float, accelerator: Accelerator) -> float:
    """The main process's `value`: a last digit that differs between GPUs must not stop one and not the other."""
    if accelerator.num_processes == 1:
        return value
    own = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(broadcast(own, from_process=0))


def _adamw(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """AdamW; a model may have `rate_of(name)`, a factor on the learning rate of a parameter."""
    rate_of: Callable[[str], float] = getattr(model, "rate_of", lambda name: 1.0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for dimensions in (True, False):
        for name, p in trained_parameters(model):
            if (p.dim() > 1) == dimensions:
                groups.setdefault((rate_of(name), config.weight_decay if dimensions else 0.0), []).append(p)
    listed = [{"params": ps, "weight_decay": decay, "rate": rate} for (rate, decay), ps in groups.items()]
    return torch.optim.AdamW(listed, lr=config.learning_rate)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """What training may change: trained parameters and buffers, not a frozen backbone."""
    frozen = _frozen(model)
    return {name: value.detach().clone() for name, value in model.state_dict().items() if name not in frozen}


def _frozen(model: nn.Module) -> set[str]:
    """Their names in state_dict(), where a tied one stands under each of its names."""
    return {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    model.load_state_dict(weights, strict=not _frozen(model))


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float, done: int) -> None:
    if not average:
        return
    decay = min(decay, (1 + done) / (10 + done))  # follow closely while there is little to average
    parameters = dict(model.named_parameters())
    torch._foreach_lerp_(list(average.values()), [parameters[name] for name in average], 1 - decay)


@contextmanager
def _averaged(model: nn.Module, average: dict[str, Tensor]) -> Iterator[None]:
    """The model with its averaged weights, for the time of a validation."""
    if not average:
        yield
        return
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in average}
    with torch.no_grad():
        for name, value in average.items():
            parameters[name].copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)


def _save_state(
    path: Path,
    model: nn.Module,
    optimizer: Any,
    progress: _Progress,
    average: dict[str, Tensor],
    best: dict[str, Tensor],
    config: FitConfig,
    seed: int,
) -> None:
    tensors = {f"model/{k}": v for k, v in _weights(model).items()}
    tensors |= {f"best/{k}": v for k, v in best.items()}
    tensors |= {f"average/{k}": v for k, v in average.items()}
    for index, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in slot.items()}
    header = {"version": STATE_VERSION, "progress": asdict(progress), "config": asdict(config), "seed": seed}
    blob = save({k: v.cpu().contiguous() for k, v in tensors.items()}, {"hyperdpo": json.dumps(header)})
    write_atomic(path, blob)


def _load_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    average: dict[str, Tensor],
    config: FitConfig,
    seed: int,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["hyperdpo"])
            missing = [key for key in ("version", "progress", "config", "seed") if key not in header]
            if missing:
                raise ValueError(f"its header lacks {', '.join(missing)}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise RunError(
            f"{path} is not a readable training state ({error}); delete it to start this model again."
        ) from None
    problems = []
    if header["version"] != STATE_VERSION:
        problems.append(f"{path} has state version {header['version']}; this program reads {STATE_VERSION}.")
    if header["config"] != asdict(config):
        theirs = header["config"]
        changed = [f"{k}: {theirs.get(k)} then, {v} now" for k, v in asdict(config).items() if theirs.get(k) != v]
        problems.append(f"{path} was saved under other settings ({'; '.join(changed)}); resume with the same ones.")
    if header["seed"] != seed:
        problems.append(f"{path} was saved with seed {header['seed']}, not {seed}; resume with the same seed.")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    shapes = {k: v.shape for k, v in _weights(model).items()}
    if {k: v.shape for k, v in parts.get("model", {}).items()} != shapes:
        problems.append(f"{path} holds a model of another shape; resume with the options it was started with.")
    if problems:
        raise RunError(problems)
    _load_weights(model, parts["model"])
    device = next(model.parameters()).device
    optimizer_state = optimizer.state_dict()
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in parts.get("optimizer", {}).items():
        index, _, name = key.partition("/")
        slots.setdefault(int(index), {})[name] = value
    optimizer_state["state"] = slots
    optimizer.load_state_dict(optimizer_state)
    for name, value in header["progress"].items():
        setattr(progress, name, value)
    average = {name: parts["average"][name].to(device) for name in average}
    return {name: value.to(device) for name, value in parts["best"].items()}, average
