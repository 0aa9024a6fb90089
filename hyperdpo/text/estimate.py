"""What a text training would take: memory and time, without loading the model.

One training step runs on fake tensors, which have shapes and no values: what it keeps alive is counted byte by byte and
its matrix products operation by operation, so any architecture, precision and checkpointing is treated alike. A deep
model is traced at 2 and 4 of its layers, and all of them follow on the straight line. Seconds are operations over a
throughput: measured by a short probe of this machine, or that of the hardware named.
"""

from __future__ import annotations

import os
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from hyperdpo.errors import ConfigError
from hyperdpo.methods import members
from hyperdpo.tables import facts
from hyperdpo.text.data import Preferences
from hyperdpo.text.model import TextModel, blocks, load_config, load_tokenizer, token_losses
from hyperdpo.text.sharding import check_processes
from hyperdpo.text.tokens import TokenLists, tokenise
from hyperdpo.text.train import PRECISIONS, TextConfig, available_precision

GATHERED = 3  # blocks whole at once where the base is sharded: computed with, gathered ahead, and being copied there
COPIES = 7  # of the trained numbers: weight, gradient, AdamW's two, the start, the best, the ones set aside to validate
FEW, SOME = 2, 4  # layers that a deep model is traced at
PROBED = 250_000_000  # parameters of the slice of a model that a CPU probe may make
PROBE_OPERATIONS = 5e10  # about what a probe's step may take
CUDA_CONTEXT = 600 << 20
ASSUMED = (0.4 * 989e12, "assumed: 40 % of an NVIDIA H100's 989 Tflop/s in bf16")
GB = 1e9


@dataclass(frozen=True)
class Work:
    """What the forward passes of a training look like.

    Attributes:
        lists, validation: lists of the two splits.
        rows: responses in the largest pass.
        length: tokens of its longest sequence, virtual tokens left out.
        scored: of these, tokens from the first response on.
        mean_rows, mean_length, mean_scored: of all passes.
        passes: forward passes in an epoch.
    """

    lists: int
    validation: int
    rows: int
    length: int
    scored: int
    mean_rows: float
    mean_length: float
    mean_scored: float
    passes: int

    @classmethod
    def of(cls, lists: TokenLists, validation: int, size: int) -> Work:
        """`size` lists a pass."""
        lengths, sizes = lists.lengths, lists.sizes
        order = lengths.argsort(kind="stable")
        pieces = [order[i : i + size] for i in range(0, len(order), size)]
        rows = [int(sizes[p].sum()) for p in pieces]
        longest = [int(lengths[p].max()) for p in pieces]
        scored = [n - min(len(lists.prompts[i]) for i in p) for n, p in zip(longest, pieces, strict=True)]
        most = max(range(len(pieces)), key=lambda i: rows[i] * longest[i])
        means = [statistics.fmean(x) for x in (rows, longest, scored)]
        return cls(
            len(lists), validation, rows[most], longest[most], scored[most], means[0], means[1], means[2], len(pieces)
        )


@dataclass(frozen=True)
class Trace:
    """One step: bytes alive at its peak beside the model, and floating-point operations forward and in all."""

    peak: float
    forward: float
    operations: float

    def through(self, other: Trace, steps: float) -> Trace:
        """The point `steps` times as far on the line from self to other."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Trace(*(a + steps * (b - a) for a, b in pairs))


@dataclass(frozen=True)
class Estimate:
    """What a training would take on one process, or on each of several that share the base.

    Attributes:
        architecture, parameters, trained: the base, and how many numbers are trained on top.
        device, precision: what it would run on.
        work: see Work.
        weights, state, activations, program: bytes of the frozen base; of what is trained with its gradients, moments
            and copies; at the peak of a step; of Python and torch themselves.
        free: bytes free now on the device, or None where it is not known.
        models, epochs: trained one after another, and at most so many passes each.
        epoch_operations, base_operations: of one epoch with its validation; of the base's log-probabilities.
        distil_operations: of the second stage, its passes and what it is trained towards.
        throughput, source: operations a second, and where that is from.
        processes: that hold the base together; 1 where it is not sharded.
        gathered: bytes of the base that are whole at a step's peak where it is sharded, beside this process's share.
        note: a sentence on what differs from what was asked for, or none.
    """

    architecture: str
    parameters: int
    trained: int
    device: str
    precision: str
    work: Work
    weights: int
    state: int
    activations: int
    program: int
    free: int | None
    models: int
    epochs: int
    epoch_operations: float
    base_operations: float
    distil_operations: float
    throughput: float
    source: str
    processes: int = 1
    gathered: int = 0
    note: str = ""

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.weights + self.gathered + self.state + self.activations + self.program

    @property
    def epoch_seconds(self) -> float:
        """Of one model's epoch."""
        return self.epoch_operations / self.throughput

    @property
    def base_seconds(self) -> float:
        """Of the base's log-probabilities, once."""
        return self.base_operations / self.throughput

    @property
    def distil_seconds(self) -> float:
        """Of the second stage."""
        return self.distil_operations / self.throughput

    @property
    def seconds(self) -> float:
        """Of the whole training, if no model stops early."""
        return self.base_seconds + self.models * self.epochs * self.epoch_seconds + self.distil_seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: bytes and seconds."""
        derived = ("memory", "base_seconds", "epoch_seconds", "distil_seconds", "seconds")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    def text(self) -> str:
        """Readable lines."""
        free = "" if self.free is None else f" of {_gb(self.free)} free"
        alone = self.processes == 1
        how = "one process" if alone else f"each of {self.processes} processes, the base sharded"
        whole = "" if alone else f", and {_gb(self.gathered)} gathered at a time"
        also = ", distilling and the base" if self.distil_operations else ", and the base"
        lines = [
            ("model", f"{self.architecture}, {self.parameters:,} parameters, {self.trained:,} trained"),
            ("device", f"{self.device}, {self.precision}, {how}"),
            ("memory", f"{_gb(self.memory)}{free}"),
            ("  base", f"{_gb(self.weights)}{whole}"),
            ("  trained", f"{_gb(self.state)}: weights, gradients, AdamW's moments, copies"),
            ("  activations", f"{_gb(self.activations)}: {self.work.rows} responses of {self.work.length} tokens"),
            ("  program", _gb(self.program)),
            ("time", f"at most {_duration(self.seconds)}: {self.models} x {self.epochs} epochs{also}"),
            ("  base scores", f"{_duration(self.base_seconds)}, once"),
            ("  epoch", f"{_duration(self.epoch_seconds)}: {self.work.passes:,} passes{'' if alone else ' in all'}"),
            ("  throughput", f"{self.throughput / 1e9:,.1f} Gflop/s, {self.source}"),
        ]
        if self.distil_operations:
            lines.insert(-1, ("  distilling", f"{_duration(self.distil_seconds)}, once"))
        if self.note:
            lines.insert(2, ("  precision", self.note))
        if self.device == "cpu":
            lines.append(
                (
                    "allocator",
                    "may hold more than as much again of what was freed; MALLOC_MMAP_THRESHOLD_=1000000 prevents it",
                )
            )
        if self.free is not None and self.memory > self.free:
            lines.append(
                (
                    "too large",
                    "lower --micro or --max-response; --checkpointing True; --precision bf16 on a GPU, "
                    "--shard True on several",
                )
            )
        return facts(lines)


def estimate_training(model: str, preferences: Preferences, config: TextConfig) -> Estimate:
    """What training on these preferences would take here, on the GPU if there is one.

    With `config.shard`: in each of the processes of this launch or, without one, one for each GPU here.

    Args:
        model: folder or hub name; only its configuration and tokenizer are read.
        preferences: lists of responses.
        config: what to train.

    Raises ConfigError for a model that is not found or of an unknown architecture, for a config out of range, and
    where the base is to be sharded over one process.
    """
    processes = int(os.environ.get("WORLD_SIZE", torch.cuda.device_count() or 1)) if config.shard else 1
    if config.shard:
        check_processes(processes)
    shape, tokenizer = load_config(model), load_tokenizer(model)
    config = config.resolve(len(preferences.objectives))
    split = preferences.split(config.split_seed)
    context = getattr(shape, "max_position_embeddings", None)
    lists = tokenise(split["train"], tokenizer, config.tokens, context=context and context - config.prompt.tokens)
    if not len(lists):
        raise ConfigError("The train split has 0 prompts; training needs more.")
    work = Work.of(lists, len(split["validation"].prompts), config.micro or -(-config.fit.batch_size // processes))
    return estimate_shape(shape, work, config, len(preferences.objectives), processes=processes)


def estimate_shape(
    shape: PreTrainedConfig,
    work: Work,
    config: TextConfig,
    m: int,
    *,
    device: str | None = None,
    assumed: tuple[float, str] | None = None,
    processes: int = 1,
) -> Estimate:
    """The estimate for a model of this shape.

    Args:
        shape: the model's configuration.
        work: what its passes look like.
        config: resolved.
        m: objectives.
        device: cpu or cuda; None takes a GPU if there is one.
        assumed: (operations a second, its source) of hardware that is not here, instead of a probe.
        processes: with `config.shard`, that share the base and the training lists; each passes all others.

    Raises ConfigError for an architecture without a causal language model.
    """
    processes = processes if config.shard else 1
    visits = m if config.method.method == "hyperdpo" and config.method.draw == "corners" else 1
    work = replace(work, rows=visits * work.rows, mean_rows=visits * work.mean_rows)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    note = ""
    if assumed is None:  # the hardware is this machine's
        precision, note = available_precision(config.precision, device)
        config = replace(config, precision=precision)
    if config.distil:  # the second stage has the rows of LoRA of all replicas
        config = replace(config, prompt=config.averaged_prompt)
    program = CUDA_CONTEXT if device == "cuda" else resident()
    build = _Builder(shape, config, m, half=config.precision == "bf16" and device == "cuda")
    meta = build.model(None)
    base = [p for n, p in meta.backbone.named_parameters() if "lora_" not in n]
    weights = _bytes(base)
    trained = [p for p in meta.parameters() if p.requires_grad]
    largest, mean = build.traces((work.rows, work.length, work.scored), _rounded(work))
    throughput, source = assumed or _throughput(build, work, device) or ASSUMED
    per_list = mean.operations * work.passes / work.lists
    forward = mean.forward / visits * work.passes / work.lists  # at one w
    step = per_list / visits
    rewards = config.replicas * m * forward * (work.lists + work.validation) if config.distil else 0.0
    copies = COPIES + bool(config.fit.average)
    free = None if assumed else _free(device)
    if free is not None and device == "cpu":
        free //= processes
    return Estimate(
        architecture=type(meta.backbone.get_base_model()).__name__,
        parameters=sum(p.numel() for p in base),
        trained=sum(p.numel() for p in trained),
        device=device,
        precision=config.precision,
        work=work,
        weights=-(-weights // processes),
        state=copies * _bytes(trained),
        activations=round(largest.peak),
        program=program,
        free=free,
        models=config.replicas * len(members(config.method, m)),
        epochs=config.fit.epochs,
        epoch_operations=per_list * work.lists / processes + forward * work.validation,
        base_operations=forward * (work.lists + work.validation),
        distil_operations=config.distil * (step * work.lists / processes + forward * work.validation) + rewards,
        throughput=throughput,
        source=source,
        processes=processes,
        gathered=0 if processes == 1 else _gathered(meta, weights),
        note=note,
    )


def _gathered(model: TextModel, weights: int) -> int:
    """Bytes of a sharded base of `weights` that are whole at once: all that is in no block, and a few blocks."""
    sizes = [_bytes(p for n, p in block.named_parameters() if "lora_" not in n) for block in blocks(model.backbone)]
    return weights - sum(sizes) + sum(sorted(sizes)[-GATHERED:])


def _bytes(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


class _Builder:
    """Models of one shape, with all layers or the first few, without values or with random ones."""

    def __init__(self, shape: PreTrainedConfig, config: TextConfig, m: int, *, half: bool) -> None:
        self.shape, self.config, self.m = shape, config, m
        self.dtype = torch.bfloat16 if half else torch.float32
        self.layers = len(blocks(self._backbone()))

    def _backbone(self) -> PreTrainedModel:
        try:
            with torch.device("meta"):
                found: PreTrainedModel = AutoModelForCausalLM.from_config(self.shape, dtype=self.dtype)  # type: ignore[no-untyped-call]
                return found
        except (ValueError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"transformers makes no causal language model of type {self.shape.model_type!r} ({reason}); take one "
                "that AutoModelForCausalLM knows, such as gpt2, llama or qwen2."
            ) from None

    def model(self, layers: int | None, *, device: str = "meta") -> TextModel:
        """With the first `layers` layers; on another device than meta with random values."""
        backbone = self._backbone()
        found = blocks(backbone)
        del found[len(found) if layers is None else layers :]
        conditioned = self.config.method.method == "hyperdpo"
        with torch.device("meta"):
            model = TextModel(backbone, self.m, self.config.prompt, conditioned=conditioned)
        if self.config.checkpointing:
            model.recompute_activations()
        model.autocast = PRECISIONS[self.config.precision]
        if device != "meta":
            _replace(model, lambda x: _random(x, device))
        return model.train()

    def traces(self, *shapes: tuple[int, int, int]) -> list[Trace]:
        """A trace for each (rows, length, scored)."""
        if self.layers <= SOME + FEW:
            model = self.model(None)
            return [trace(model, *shape) for shape in shapes]
        few, some = self.model(FEW), self.model(SOME)
        steps = (self.layers - FEW) / (SOME - FEW)
        return [trace(few, *shape).through(trace(some, *shape), steps) for shape in shapes]


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, while they live, and floating-point operations.

    Views of the model's own tensors are none of them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak, self.operations = 0, 0, 0
        self._own = [x.untyped_storage() for x in (*model.parameters(), *model.buffers())]
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(self._own)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        cost = _COSTS.get(func._overloadpacket)
        if cost:
            self.operations += cost(*args, **(kwargs or {}), out_val=result)
        return result

    def _count(self, storage: Any) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def trace(model: TextModel, rows: int, length: int, scored: int) -> Trace:
    """A training step of `rows` sequences of `length` tokens on fake tensors, `scored` of them to be predicted.

    `model` is on the meta device; it is left as it was.
    """
    with FakeTensorMode():
        undo = _replace(model, lambda x: torch.empty(x.shape, dtype=x.dtype, device="cpu"))
        meter = _Meter(model)
        try:
            with meter:
                loss = _step(model, rows, length, scored)
                forward = meter.operations
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            undo()
    return Trace(meter.peak, forward, meter.operations)


def _step(model: TextModel, rows: int, length: int, scored: int) -> Tensor:
    device = model.device
    ids = torch.zeros(rows, length, dtype=torch.long, device=device)
    weights = torch.ones(rows, model.m, device=device) / model.m
    with model._precision(device):
        seen = torch.ones(rows, length, dtype=torch.bool, device=device)
        embedded, seen = model.conditioned_input(ids, seen, weights)
        return token_losses(model._logits(embedded, seen, scored), ids[:, length - scored :]).sum()


def _replace(model: nn.Module, make: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Put `make(x)` in the place of every parameter and buffer, tied ones together; returns what undoes it."""
    found: dict[int, Tensor] = {}
    slots = [
        (place, name, value)
        for module in model.modules()
        for place in (module._parameters, module._buffers)
        for name, value in place.items()
        if value is not None
    ]
    for place, name, value in slots:
        if id(value) not in found:
            new = make(value)
            found[id(value)] = nn.Parameter(new, value.requires_grad) if isinstance(value, nn.Parameter) else new
        place[name] = found[id(value)]  # type: ignore[assignment]

    def undo() -> None:
        for place, name, value in slots:
            place[name] = value  # type: ignore[assignment]

    return undo


def _random(x: Tensor, device: str) -> Tensor:
    """Values of no meaning and no great size."""
    new = torch.empty(x.shape, dtype=x.dtype, device=device)
    return new.normal_(0, 0.02) if x.is_floating_point() else new.zero_()


def _throughput(build: _Builder, work: Work, device: str) -> tuple[float, str] | None:
    """(operations a second, source) of a few steps here with as many layers as fit; None where two do not."""
    room = _free(device)
    for layers in dict.fromkeys((build.layers, SOME, FEW)):
        size = _bytes(build.model(layers).parameters())
        if layers <= build.layers and (device == "cuda" or size <= 4 * PROBED) and (room is None or 4 * size <= room):
            return _probed(build, work, layers, device)
    return None


def _probed(build: _Builder, work: Work, layers: int, device: str) -> tuple[float, str]:
    _, length, scored = _rounded(work)
    one = trace(build.model(layers), 1, length, scored).operations
    rows = max(1, min(round(work.mean_rows), int(PROBE_OPERATIONS / one)))
    model = build.model(layers, device=device)
    times = []
    for _ in range(4):
        _synchronise(device)
        started = time.perf_counter()
        _step(model, rows, length, scored).backward()  # type: ignore[no-untyped-call]
        _synchronise(device)
        times.append(time.perf_counter() - started)
    where = torch.cuda.get_device_name() if device == "cuda" else f"this CPU, {torch.get_num_threads()} threads"
    share = "" if layers == build.layers else f" with {layers} of {build.layers} layers"
    return rows * one / statistics.median(times[1:]), f"measured on {where}{share}"


def _rounded(work: Work) -> tuple[int, int, int]:
    return max(1, round(work.mean_rows)), max(2, round(work.mean_length)), max(1, round(work.mean_scored))


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _free(device: str) -> int | None:
    """Bytes free for a program now."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024 + resident()
    except (OSError, KeyError):
        return None


def resident() -> int:
    """Bytes of main memory this process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _attention_back(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


_COSTS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # which torch's own table leaves out
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back,
}


def _gb(size: float) -> str:
    return f"{size / GB:,.1f} GB" if size >= GB / 10 else f"{size / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
