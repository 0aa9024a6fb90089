"""Training a text run from preferences to run folder: base log-probabilities once, the method's models, fronts."""

from __future__ import annotations

import gc
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hyperdpo.errors import ConfigError
from hyperdpo.files import user_cache
from hyperdpo.losses import distillation_loss, objective_losses
from hyperdpo.methods import Member, MethodConfig, mean_margin_loss, members, mixing_weights, step_loss, trained_weights
from hyperdpo.resuming import TRAINING, open_folder, read_part, write_part
from hyperdpo.runs import versions, write_run
from hyperdpo.splitting import divisible
from hyperdpo.text.data import Preferences
from hyperdpo.text.evaluate import MAIN, evaluate_run
from hyperdpo.text.model import PromptConfig, TextModel, average_replicas, check_pair, load_frozen, load_tokenizer
from hyperdpo.text.run import TextRun
from hyperdpo.text.sharding import check_processes, shard
from hyperdpo.text.tokens import TextBatch, TextBatches, TokenConfig, TokenLists, tokenise
from hyperdpo.training import FitConfig, StepLoss, everywhere, fit, make_accelerator, rng_for, seed_torch
from hyperdpo.weights import check_beta, draw_weights

METHODS = ("hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
DEFAULT_FIT = FitConfig(epochs=3, patience=3, batch_size=8, learning_rate=2e-3, weight_decay=0.0, average=0.9)
# LoRA gated by w interpolates by itself: it is trained best at the corners, where an objective has its rows alone; near
# one the other rows are trained a little for the wrong objective. Who draws is served best by draws close to them.
DEFAULT_METHOD = MethodConfig(alpha=0.01, draw="split")
MIN_LISTS = 3
DISTIL_RATE = 0.13  # of the second stage, in units of the first one's learning rate: higher ones forget the corners
DISTIL_ALPHA = 0.5  # it draws w from Dirichlet(alpha)


@dataclass(frozen=True)
class TextConfig:
    """Everything that decides a text run besides its model and data; saved resolved in config.json.

    Attributes:
        method: the method and how it draws w.
        prompt: prefix and LoRA.
        fit: budget and optimiser.
        tokens: lengths and the chat template.
        beta: one temperature, or one per objective; the paper's is 0.1.
        anchor: how strongly the responses of a list are kept as likely, on the whole, as the base finds them (see
            `losses.drift`), in every method alike; 0 is the paper's loss. Texts stay fluent for it.
        precision: fp32, or bf16 for autocast in training, where a CPU does not have to emulate it (see
            `available_precision`); figures are always measured in fp32 on a CPU.
        micro: lists a forward pass takes; 0 is the whole batch. Gradients are accumulated, the step is the same.
        checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        shard: cut the frozen base over the processes (see `sharding`); needs several. What is trained is the same.
        replicas: trainings of HyperDPO, alike but for their order of the lists and LoRA's random start, whose changes
            of the weights are averaged (see `model.average_replicas`): a larger front for as many times the seconds,
            and one model all the same.
        distil: passes over the training lists of a second stage of HyperDPO, which teaches the model between the
            corners what its own corners add up to, the mean over replicas (see `losses.distillation_loss`).
        seed: of everything random but the split.
        split_seed: of the split by prompt, apart from `seed` so that seeds are compared on the same prompts.
    """

    method: MethodConfig = DEFAULT_METHOD
    prompt: PromptConfig = field(default_factory=PromptConfig)
    fit: FitConfig = DEFAULT_FIT
    tokens: TokenConfig = field(default_factory=TokenConfig)
    beta: tuple[float, ...] = (0.1,)
    anchor: float = 0.0
    precision: str = "fp32"
    micro: int = 0
    checkpointing: bool = False
    shard: bool = False
    replicas: int = 1
    distil: int = 0
    seed: int = 0
    split_seed: int = 0

    def resolve(self, m: int) -> TextConfig:
        """The config for m objectives. Raises ConfigError, all problems at once."""
        problems = []
        if self.method.method not in METHODS:
            problems.append(f"{self.method.method} is not a method for text; there are {', '.join(METHODS)}.")
        if self.precision not in PRECISIONS:
            problems.append(f"precision is fp32 or bf16; got {self.precision!r}.")
        if not 0 <= self.anchor < math.inf:
            problems.append(f"anchor is 0 or more; got {self.anchor!r}.")
        if self.micro < 0:
            problems.append(f"micro is 0 or more lists; got {self.micro}.")
        if self.replicas < 1:
            problems.append(f"replicas is 1 or more trainings; got {self.replicas}.")
        elif self.replicas > 1 and self.method.method != "hyperdpo":
            problems.append(f"replicas are of hyperdpo; got {self.replicas} of {self.method.method}: leave them out.")
        elif self.replicas > 1 and self.prompt.conditioning == "prompt":
            problems.append(
                f"Replicas are averaged where w gates LoRA; got {self.replicas} with the prompt alone: leave them out, "
                "or take --conditioning prompt+lora."
            )
        if self.distil < 0:
            problems.append(f"distil is 0 or more passes; got {self.distil}.")
        elif self.distil and self.method.method != "hyperdpo":
            problems.append(
                f"hyperdpo alone is distilled; got {self.distil} passes for {self.method.method}: leave it out."
            )
        elif self.distil and m < 2:
            problems.append(
                f"With one objective there is nothing between corners; got distil {self.distil}: leave it out."
            )
        if self.seed < 0:
            problems.append(f"A seed is a whole number of 0 or more; got {self.seed}.")
        beta = check_beta(list(self.beta), m)
        if self.method.method == "mo-dpo" and len(set(beta)) > 1:
            problems.append("mo-dpo needs one common beta; use --method dpo-ls for temperatures that differ.")
        if problems:
            raise ConfigError(problems)
        method = replace(self.method, points=max(self.method.points, m))
        members(method, m)
        return replace(self, beta=beta, method=method)

    @property
    def averaged_prompt(self) -> PromptConfig:
        """The prompt of the model that is saved: with the rows of LoRA of all replicas."""
        prompt, n = self.prompt, self.replicas
        return replace(prompt, lora_rank=n * prompt.lora_rank, lora_alpha=n * prompt.lora_alpha)


def computes_bf16() -> bool:
    """Whether this CPU has instructions for bf16; it is emulated elsewhere, many times slower than fp32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def available_precision(precision: str, device: str) -> tuple[str, str]:
    """`precision`, or fp32 in place of bf16 on a CPU that would emulate it, and a sentence that says so, or none.

    `device` is a torch device's type.
    """
    if precision != "bf16" or device != "cpu" or computes_bf16():
        return precision, ""
    return "fp32", "This CPU has no instructions for bf16, which would be many times slower: fp32 in its place."


# The paper's budgets: its LoRA and beta are the defaults, its w moves the prompt alone.
PROMPT_ALONE = PromptConfig(conditioning="prompt", rate=25.0, map_rate=25.0)
PROMPT_ALONE_METHOD = MethodConfig()  # its mask has to see w between the corners
GPT2 = TextConfig(
    method=PROMPT_ALONE_METHOD,
    prompt=PROMPT_ALONE,
    fit=replace(DEFAULT_FIT, epochs=2, patience=2, batch_size=8, learning_rate=5e-4),
)
SEVEN_B = TextConfig(
    method=PROMPT_ALONE_METHOD,
    prompt=PROMPT_ALONE,
    fit=replace(DEFAULT_FIT, epochs=1, patience=1, batch_size=32, learning_rate=2e-4),
    precision="bf16",
    micro=2,
    checkpointing=True,
)
PRESETS = {"gpt2": GPT2, "7b": SEVEN_B}


def train(
    preferences: Preferences,
    model: str,
    config: TextConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    accelerator: Accelerator | None = None,
    origin: Sequence[str] = (),
    log: Callable[[str], None] = lambda line: None,
    tick: Callable[[str, int, int, float], None] = lambda what, done, total, loss: None,
) -> TextRun:
    """Train a text run and write its folder.

    Args:
        preferences: lists of responses with scores.
        model: folder or hub name of a causal model and its tokenizer.
        config: what to train.
        out: the run folder; it keeps the training's state until it is finished.
        resume, overwrite, device, accelerator, log, tick: as for a ranking run.
        origin: files the preferences came from, noted in the run.

    With `config.shard` a process holds its share of the base in the training's precision; after it, to measure the
    front, its share in float32. See `sharding.shard` for what is whole at times.

    Raises ConfigError, DataError, RunError; Interrupted with the state saved.
    """
    config = config.resolve(len(preferences.objectives))
    accelerator = accelerator or make_accelerator(device)
    if config.shard:
        check_processes(accelerator.num_processes)
    main_process = accelerator.is_main_process
    precision, replaced = available_precision(config.precision, accelerator.device.type)
    config = replace(config, precision=precision)
    finished = open_folder(out, plan(preferences, model, config), accelerator, resume=resume, overwrite=overwrite)
    quiet = log if main_process else (lambda line: None)
    if not finished:
        if replaced:
            quiet(replaced)
        trainer = _Trainer(preferences, model, config, out / TRAINING, accelerator, quiet, tick)
        states, results = trainer.fit_members()
        if main_process:
            write_run(out, trainer.final_config(states, results, origin), models=states, scaler={})
        del trainer
        gc.collect()  # its hooks are cycles: without this the base would be there twice while the front is measured
    else:
        quiet(f"{out} is already trained")
    accelerator.wait_for_everyone()  # until the run is written
    if (out / TRAINING).is_dir():
        _measure(out, preferences, config, accelerator, quiet)
    accelerator.wait_for_everyone()
    return TextRun(out)


def _measure(
    out: Path, preferences: Preferences, config: TextConfig, accelerator: Accelerator, log: Callable[[str], None]
) -> None:
    """The fronts of a trained run, by the main process alone or, where no process holds the base, by all together."""
    main_process = accelerator.is_main_process
    if main_process or config.shard:
        log("measuring the front on the test split")
        run = TextRun(out, device=str(accelerator.device), sharded=config.shard)
        evaluate_run(run, preferences, points=config.method.points, save=main_process)
    if main_process:
        shutil.rmtree(out / TRAINING, ignore_errors=True)


def plan(preferences: Preferences, model: str, config: TextConfig) -> dict[str, Any]:
    """What must be the same for a training to be resumed; not how it is spread over processes."""
    return {
        "data": preferences.fingerprint,
        "task": {"objectives": [o.to_dict() for o in preferences.objectives]},
        "model": str(model),
        "method": config.method.to_dict(),
        "prompt": config.prompt.to_dict(),
        "fit": vars(config.fit),
        "tokens": config.tokens.to_dict(),
        "beta": list(config.beta),
        "anchor": config.anchor,
        "precision": config.precision,
        "micro": config.micro,
        "checkpointing": config.checkpointing,
        "replicas": config.replicas,
        "distil": config.distil,
        "seed": config.seed,
        "split_seed": config.split_seed,
    }


class _Trainer:
    """One training: what its members share."""

    def __init__(
        self,
        preferences: Preferences,
        model: str,
        config: TextConfig,
        state: Path,
        accelerator: Accelerator,
        log: Callable[[str], None],
        tick: Callable[[str, int, int, float], None],
    ) -> None:
        self.preferences, self.name, self.config, self.state = preferences, model, config, state
        self.accelerator, self.log, self.tick = accelerator, log, tick
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(model)
        self.m = len(preferences.objectives)
        self.beta = torch.tensor(config.beta, device=accelerator.device)
        self.split = preferences.split(config.split_seed)
        self.lists: dict[str, TokenLists] = {}
        self.batches: dict[str, TextBatches] = {}
        for name in ("train", "validation"):
            part = self.split[name]
            if len(part.prompts) < (MIN_LISTS if name == "train" else 1):
                raise ConfigError(f"The {name} split has {len(part.prompts)} prompts; training needs more.")
        self.backbone_fingerprint = ""
        self.model = self._build(config.prompt, conditioned=config.method.method == "hyperdpo")
        limit = self.model.context
        for name in ("train", "validation"):
            self.lists[name] = tokenise(
                self.split[name], self.tokenizer, config.tokens, context=limit and limit - config.prompt.tokens
            )
            for line in self.lists[name].notes:
                self.log(f"{name}: {line}")
            self.batches[name] = TextBatches(
                self.lists[name], batch_size=config.fit.batch_size, device=accelerator.device, micro=config.micro
            )
        self.base_seconds = self._base_scores()

    def _build(self, prompt: PromptConfig, *, conditioned: bool) -> TextModel:
        half = self.config.precision == "bf16" and self.accelerator.device.type == "cuda"
        backbone, self.backbone_fingerprint = load_frozen(self.name, half=half)
        check_pair(backbone, self.tokenizer)
        seed_torch(self.config.seed, 23)
        model = TextModel(backbone, self.m, prompt, conditioned=conditioned, seed=self.config.seed)
        if self.config.checkpointing:
            model.recompute_activations()
        model.autocast = PRECISIONS[self.config.precision]
        self.start = {name: value.clone() for name, value in model.trained().items()}
        device = self.accelerator.device
        return shard(model, device) if self.config.shard else model.to(device)

    def _base_scores(self) -> float:
        """Give the batches the base's log-probabilities, from the cache where these very tokens were scored before."""
        digest = hashlib.sha256(f"{self.backbone_fingerprint} {self.config.precision}".encode())
        for lists in self.lists.values():
            digest.update(lists.fingerprint.encode())
        file = user_cache() / "text" / f"base-{digest.hexdigest()[:32]}.safetensors"
        if everywhere(file.exists(), self.accelerator):  # a cache may be one machine's own, or be written just now
            kept, header = read_part(file)
            self.log(f"base log-probabilities: taken from {file}")
        else:
            self.log("base log-probabilities: computed once")
            kept, header = base_log_probabilities(self.model, self.batches, self.tick)
            if self.accelerator.is_main_process:
                write_part(file, kept, header)
        for name, batches in self.batches.items():
            batches.base = batches.lists.per_list(kept[name])
        return float(header["seconds"])

    def fit_members(self) -> tuple[list[dict[str, Tensor]], list[dict[str, Any]]]:
        """The trained tensors of every model of the method, in order, with what each fit reported."""
        config, method = self.config, self.config.method
        for objective, share in zip(self.preferences.objectives, self.batches["train"].coverage.tolist(), strict=True):
            if share < 1:
                count = len(self.lists["train"])
                self.log(
                    f"{objective.name}: {round((1 - share) * count)} of {count} training lists carry no information"
                )
        lists = self.lists["train"]
        judging = lists.informative.sum(1).numpy()  # objectives a list says something of
        short = int(((judging > 1) & ~divisible(lists.sizes, judging)).sum())
        if short and method.method == "hyperdpo" and method.draw == "split":
            self.log(
                f"{short} of {len(lists)} training lists are too short to be split over their objectives, which take "
                f"turns with them; --draw corners shows every list to all, for up to {self.m} times the seconds a pass"
            )
        states: list[dict[str, Tensor]] = []
        results: list[dict[str, Any]] = []
        found = config.replicas * members(method, self.m)
        count = len(found) + (config.distil > 0)
        for index, member in enumerate(found):
            if method.method == "mo-dpo" and not member.part and self.batches["train"].rewards is None:
                self._set_rewards((j, state, None) for j, state in enumerate(states))
            self.log(f"model {index + 1} of {count}: {method.method}, {member.label}")
            state, result = self._fit_member(index, member)
            states.append(state)
            results.append({**result, "model": member.label, "part": member.part})
        each = states
        if config.replicas > 1:
            states = [average_replicas(each, groups=self.m)]
        if config.distil:
            self.log(f"model {count} of {count}: {method.method}, what its corners add up to")
            state, result = self._distil(len(found), each, states[0])
            states = [state]
            results.append({**result, "model": "what its corners add up to", "part": False})
        return states, results

    def _fit_member(self, index: int, member: Member) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self._finished(index).exists():
            return read_part(self._finished(index))
        config = self.config
        self.model.load_trained(self.start)
        if index and config.replicas > 1:
            seed_torch(config.seed, 23, index)
            self.model.redraw_lora()
        coverage = self.batches["train"].coverage
        loss = step_loss(
            config.method, member, beta=self.beta, coverage=coverage, separable=False, anchor=config.anchor
        )
        return self._fit(index, loss, self._validate(member), config.fit)

    def _distil(
        self, index: int, teachers: Sequence[dict[str, Tensor]], start: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The model that starts as `start`, trained towards the w-weighted sums of the teachers' corners."""
        if self._finished(index).exists():
            return read_part(self._finished(index))
        config, beta, m = self.config, self.beta, self.m
        started, cpu = time.monotonic(), time.process_time()
        self._set_rewards((j, state, w) for state in teachers for j, w in enumerate(torch.eye(m)))
        spent = time.monotonic() - started, time.process_time() - cpu
        if config.replicas > 1:
            del self.model
            gc.collect()
            self.model = self._build(config.averaged_prompt, conditioned=True)
        self.model.load_trained(start)

        def losses(model: nn.Module, batch: TextBatch, w: Tensor) -> Tensor:
            assert batch.rewards is not None
            w = w.to(beta.device)
            return distillation_loss(model(*batch.inputs, w), batch.rewards, batch.mask, w, beta)

        def loss(model: nn.Module, batch: TextBatch, rng: np.random.Generator) -> Tensor:
            w = draw_weights(DISTIL_ALPHA, batch.total, m, rng)[batch.share]
            return losses(model, batch, w).sum() / batch.total

        validation = self.batches["validation"]
        weights = draw_weights(DISTIL_ALPHA, len(validation.lists), m, rng_for(config.seed, 47))

        @torch.no_grad()
        def validate(model: nn.Module) -> float:
            found = [losses(model, batch, weights[batch.lists]) for batch in validation.once()]
            return float(torch.cat(found).mean())

        rate = DISTIL_RATE * config.fit.learning_rate
        fit = replace(config.fit, epochs=config.distil, patience=config.distil, learning_rate=rate)
        return self._fit(index, loss, validate, fit, spent)

    def _finished(self, index: int) -> Path:
        return self.state / f"model-{index:02d}.safetensors"

    def _fit(
        self,
        index: int,
        loss: StepLoss,
        validate: Callable[[nn.Module], float],
        config: FitConfig,
        spent: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Train the model as it is and keep it as number `index`; `spent` are seconds, and the CPU's, before it."""
        state, label = self.state / f"model-{index:02d}.state", f"model {index + 1}"
        result = fit(
            self.model,
            loss,
            self.batches["train"],
            validate,
            config,
            seed=self.config.seed + 1000 * (index + 1),
            accelerator=self.accelerator,
            state=state,
            sharded=self.config.shard,
            log=self.log,
            tick=lambda done, total, loss: self.tick(label, done, total, loss),
        ).to_dict()
        result["seconds"] += spent[0]
        result["cpu_seconds"] += spent[1]
        tensors = {name: value.detach().cpu().clone() for name, value in self.model.trained().items()}
        if self.accelerator.is_main_process:
            write_part(self._finished(index), tensors, result)
            state.unlink(missing_ok=True)
        return tensors, result

    def _validate(self, member: Member) -> Callable[[nn.Module], float]:
        """The mean of w . L: at a member's own w, or at one w drawn for each list, the same after every epoch."""
        validation, beta = self.batches["validation"], self.beta
        count = len(validation.lists)
        if member.weights is None:
            weights = draw_weights(1.0, count, self.m, rng_for(self.config.seed, 43))
        else:
            weights = member.weights.expand(count, self.m)
        weights = weights.to(self.accelerator.device)

        @torch.no_grad()
        def scalarised(model: nn.Module) -> float:
            total = 0.0
            for batch in validation.once():
                w = weights[batch.lists.to(weights.device)]
                losses = objective_losses(model(*batch.inputs, w), batch.targets, batch.judged, beta)
                total += float((w * losses / validation.coverage).sum())
            return total / count

        def margin(model: nn.Module) -> float:
            return mean_margin_loss(model, validation.once(), weights[0], beta)

        return margin if self.config.method.method == "mo-dpo" and not member.part else scalarised

    @torch.no_grad()
    def _set_rewards(self, teachers: Iterable[tuple[int, dict[str, Tensor], Tensor | None]]) -> None:
        """r_j = beta_j delta_j on every response of both splits, the mean over the models of objective j.

        `teachers` are (j, a model's tensors, the w it is asked at).
        """
        found: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(self.m)] for name in self.batches}
        for j, state, w in teachers:
            self.model.load_trained(state)
            self.model.eval()
            at = None if w is None else w.to(self.accelerator.device)

            def residual(batch: TextBatch, at: Tensor | None = at) -> Tensor:
                return cast(Tensor, self.model(*batch.inputs, at))

            for name, batches in self.batches.items():
                found[name][j].append(self.config.beta[j] * batches.each(residual))
        for name, batches in self.batches.items():
            means = [torch.stack(each).mean(0) for each in found[name]]
            batches.rewards = batches.lists.per_list(torch.stack(means, -1))

    def final_config(
        self, states: Sequence[dict[str, Tensor]], results: list[dict[str, Any]], origin: Sequence[str]
    ) -> dict[str, Any]:
        """config.json of the finished run; `prompt` is the saved model's."""
        config, device = self.config, self.accelerator.device
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        )
        weights = trained_weights(config.method, self.m)
        trained = sum(value.numel() for state in states for value in state.values())
        return {
            "kind": "text",
            **{k: v for k, v in plan(self.preferences, self.name, config).items() if k not in ("data", "model")},
            "prompt": config.averaged_prompt.to_dict(),
            "main": MAIN,
            "objectives": [o.name for o in self.preferences.objectives],
            "base": {
                "kind": "causal-lm",
                "name": str(self.name),
                "architecture": type(self.model.backbone.get_base_model()).__name__,
                "fingerprint": self.backbone_fingerprint,
                "parameters": sum(p.numel() for n, p in self.model.backbone.named_parameters() if "lora_" not in n),
            },
            "data": {
                "name": self.preferences.name,
                "fingerprint": self.preferences.fingerprint,
                "origin": list(origin),
                "limit": self.preferences.limit,
                "lists": {split: len(part.prompts) for split, part in self.split.items()},
                "skipped": dict(self.preferences.skipped),
                "notes": {split: list(lists.notes) for split, lists in self.lists.items()},
            },
            "weights": None if weights is None else weights.tolist(),
            "models": len(states),
            "parameters": trained + mixing_weights(config.method, self.m),
            "seconds": sum(r["seconds"] for r in results),
            "cpu_seconds": sum(r["cpu_seconds"] for r in results),
            "base_seconds": self.base_seconds,
            "training": [
                {
                    k: r[k]
                    for k in ("model", "part", "best_epoch", "best_validation", "epochs", "seconds", "cpu_seconds")
                }
                for r in results
            ],
            "history": results[0]["history"],
            "device": name,
            "processes": self.accelerator.num_processes,
            "sharded": config.shard,
            "versions": versions(),
        }


@torch.no_grad()
def base_log_probabilities(
    model: TextModel,
    batches: dict[str, TextBatches],
    tick: Callable[[str, int, int, float], None] = lambda what, done, total, loss: None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The frozen base's log-probability of every response of each split, (items,) in order, and the seconds it took."""
    started, model_was = time.monotonic(), model.training
    model.eval()
    kept: dict[str, Tensor] = {}
    for name, part in batches.items():
        done = 0

        def scores(batch: TextBatch, name: str = name, part: TextBatches = part) -> Tensor:
            nonlocal done
            done += int(batch.mask.sum())
            tick(f"base, {name}", done, part.lists.items, float("nan"))
            return model.base_scores(batch.tokens, batch.mask)

        kept[name] = part.each(scores)
    model.train(model_was)
    return kept, {"seconds": time.monotonic() - started}
