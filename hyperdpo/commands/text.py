"""The text wing's commands: `train text`, `generate`, `export`, `sample`, and `evaluate` of a text run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from tyro.conf import Positional, UseAppendAction, arg

from hyperdpo.commands.shared import (
    Answer,
    Bar,
    Device,
    Json,
    ProgressFlag,
    RunPath,
    device_of,
    flag,
    fronts_table,
    given,
    label_kind,
)
from hyperdpo.commands.train import Asked, FitFlags, RunLog, resumable
from hyperdpo.errors import ConfigError, DataError
from hyperdpo.files import without_nan
from hyperdpo.tables import facts, table

if TYPE_CHECKING:
    from hyperdpo.commands.measure import Evaluate
    from hyperdpo.front import ParetoFront
    from hyperdpo.runs import RunFolder
    from hyperdpo.text.data import Preferences
    from hyperdpo.text.follow import Followed
    from hyperdpo.text.labels import Labels
    from hyperdpo.text.run import TextRun
    from hyperdpo.text.train import TextConfig

GRAMMAR = "NAME[=COLUMN][:l1|softmax[:TEMPERATURE]][:min|max]"
T = TypeVar("T")

TextMethod = Literal["hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo"]
DataFlag = Annotated[
    tuple[str, ...],
    arg(metavar="FILE|NAME=FILE|HUB/NAME", help="JSON lines of preferences; NAME= where a file is one objective."),
]


@dataclass(frozen=True)
class TextMethodFlags:
    """The method and how it draws weights."""

    method: Annotated[TextMethod | None, flag("The method.", "hyperdpo|dpo-ls|dpo-soup|mo-dpo", "hyperdpo")] = None
    alpha: Annotated[float | None, flag("Concentration of the Dirichlet of draws.", "FLOAT", "0.01")] = None
    draw: Annotated[
        Literal["list", "step", "balanced", "split", "corners"] | None,
        flag(
            "A draw of w per this, or a list's responses split over the corners, or all of them at all corners.",
            "list|step|balanced|split|corners",
            "split; with the prompt alone list, alpha 0.5",
        ),
    ] = None
    penalty: Annotated[float | None, flag("Lambda of the alignment penalty.", "FLOAT", "0.0")] = None
    points: Annotated[int | None, flag("Weights on the grid.", "INT", "11")] = None


@dataclass(frozen=True)
class PromptFlags:
    """What is trained on top of the frozen model."""

    tokens: Annotated[int | None, flag("Virtual tokens.", "INT", "8")] = None
    rank: Annotated[int | None, flag("Rank of the prefix's mask.", "INT", "4")] = None
    conditioning: Annotated[
        Literal["prompt", "prompt+lora"] | None,
        flag("What depends on w; the paper's is the prompt alone.", "prompt|prompt+lora", "prompt+lora"),
    ] = None
    rate: Annotated[float | None, flag("Learning rate of the prefix, in units of LoRA's.", "FLOAT", "5")] = None
    map_rate: Annotated[float | None, flag("Learning rate of the maps from w, likewise.", "FLOAT", "1")] = None
    lora_rank: Annotated[int | None, flag("Of the adapter; of each objective's where w gates it.", "INT", "4")] = None
    lora_alpha: Annotated[float | None, flag("Of the adapter, likewise.", "FLOAT", "8.0")] = None
    lora_targets: Annotated[str | None, flag("Modules the adapter is put on.", "a,b,..", "all-linear")] = None


@dataclass(frozen=True)
class TrainText:
    """Fine-tune a causal language model on preferences and write its run folder.

    Ctrl-C keeps what was done; the same command with --resume goes on. For several processes:
    `accelerate launch -m hyperdpo train text ...`; with --shard True each holds a part of the base.
    """

    model: Annotated[str, arg(metavar="NAME_OR_PATH", help="A causal model and its tokenizer.")]
    data: DataFlag
    out: Annotated[Path, arg(metavar="RUN", help="The run folder to write.")]
    preset: Annotated[Literal["gpt2", "7b"] | None, flag("The paper's budgets.", "gpt2|7b")] = None
    objective: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar=GRAMMAR, help="A score to train on; once for each. All that the data has by default."),
    ] = ()
    beta: Annotated[str | None, flag("One temperature, or one per objective.", "0.1|b1,b2,..", "0.1")] = None
    anchor: Annotated[
        float | None, flag("How strongly lists are kept as likely as the base finds them.", "FLOAT", "0.0")
    ] = None
    max_prompt: Annotated[int | None, flag("Tokens of a prompt; more are cut on the left.", "INT")] = None
    max_response: Annotated[int | None, flag("Tokens of a response; more are cut on the right.", "INT")] = None
    end: Annotated[bool | None, flag("Whether responses are whole, and end.", "True|False", "True")] = None
    precision: Annotated[Literal["fp32", "bf16"] | None, flag("Of training.", "fp32|bf16", "fp32")] = None
    micro: Annotated[int | None, flag("Lists a forward pass; gradients add up.", "INT", "the batch")] = None
    checkpointing: Annotated[bool | None, flag("Recompute activations to save memory.", "True|False", "False")] = None
    shard: Annotated[bool | None, flag("Cut the frozen base over the processes.", "True|False", "False")] = None
    replicas: Annotated[int | None, flag("Trainings of HyperDPO that are averaged.", "INT", "1")] = None
    distil: Annotated[int | None, flag("Passes that teach what the corners add up to.", "INT", "0")] = None
    seed: Annotated[int | None, flag("Of everything random but the split.", "INT", "0")] = None
    split_seed: Annotated[int | None, flag("Of the split by prompt.", "INT", "0")] = None
    limit: Annotated[int | None, flag("Use only so many lists, the first.", "INT")] = None
    device: Device = "auto"
    resume: Annotated[bool, arg(help="Go on with an interrupted training.", help_behavior_hint="")] = False
    overwrite: Annotated[bool, arg(help="Replace the run that --out holds.", help_behavior_hint="")] = False
    dry_run: Annotated[bool, arg(help="Only estimate memory and time.", help_behavior_hint="")] = False
    method: Annotated[TextMethodFlags, arg(name="")] = field(default_factory=TextMethodFlags)
    prompt: Annotated[PromptFlags, arg(name="")] = field(default_factory=PromptFlags)
    fit: Annotated[FitFlags, arg(name="")] = field(default_factory=FitFlags)
    progress: ProgressFlag = None
    json: Json = False

    def execute(self) -> Answer | None:
        with resumable(self.out):
            return self._train()

    def _train(self) -> Answer | None:
        config = self.config()
        from hyperdpo.text.data import load_preferences
        from hyperdpo.text.train import train
        from hyperdpo.training import make_accelerator

        preferences = load_preferences(self.data, objectives=self.objective or None, limit=self.limit)
        if self.dry_run:
            return dry_run(self.model, preferences, config)
        accelerator = make_accelerator(self.device)
        main = accelerator.is_main_process
        with Bar(shown=not self.json and main, file=self.progress if main else None) as bar:
            log = RunLog(self.out / "train.log", bar) if main else None
            if log:
                for line in data_lines(preferences):
                    log.note(line)
            run = train(
                preferences,
                self.model,
                config,
                self.out,
                resume=self.resume,
                overwrite=self.overwrite,
                accelerator=accelerator,
                origin=self.data,
                log=log.log if log else lambda line: None,
                tick=lambda what, done, total, loss: bar(what, done, total, f"loss {loss:.4f}"),
            )
        if not main:
            return None
        fronts = run.folder.fronts()
        document = {"run": str(run.folder.path), "config": run.config, "fronts": [f.to_dict() for f in fronts]}
        return Answer(document, f"{run.folder.path}\n\n{fronts_table(fronts)}")

    def config(self) -> TextConfig:
        """What the flags ask for. Raises ConfigError with all that is out of range at once."""
        from hyperdpo.methods import AT_CORNERS
        from hyperdpo.text.train import PRESETS, PROMPT_ALONE_METHOD, TextConfig

        start = PRESETS[self.preset] if self.preset else TextConfig()
        asked = Asked()

        prompt = given(self.prompt)
        if prompt.get("conditioning") == "prompt":
            start = replace(start, method=PROMPT_ALONE_METHOD)
        if "lora_targets" in prompt:
            prompt["lora_targets"] = tuple(prompt["lora_targets"].split(","))
        own = given(
            self, "anchor", "precision", "micro", "checkpointing", "shard", "replicas", "distil", "seed", "split_seed"
        )
        if self.beta is not None:
            own["beta"] = asked.numbers(self.beta, "--beta")
        parts: dict[str, Any] = {
            "method": asked.changed(start.method, given(self.method)),
            "prompt": asked.changed(start.prompt, prompt),
            "fit": asked.changed(start.fit, given(self.fit)),
            "tokens": asked.changed(start.tokens, given(self, "max_prompt", "max_response", "end")),
        }
        if self.method.alpha is not None and parts["method"].draw in AT_CORNERS:
            asked.problems.append(
                f"--alpha is of draws of w, and lists trained at the corners draw none; got {self.method.alpha:g}: "
                "leave it out, or take --draw balanced."
            )
        asked.raise_any()
        return replace(start, **parts, **own)


def data_lines(preferences: Preferences) -> list[str]:
    """What was read, skipped and how objectives become targets, in readable lines."""
    lines = [
        f"data: {preferences.name}, {len(preferences):,} lists, {sum(map(len, preferences.responses)):,} responses",
        *[f"objective {o.name}: {o.normalisation}" for o in preferences.objectives],
    ]
    return [*lines, *[f"skipped: {count:,} {reason}" for reason, count in preferences.skipped.items() if count]]


def dry_run(model: str, preferences: Preferences, config: TextConfig) -> Answer | None:
    """What a training would take, without it; of several processes the first alone tells."""
    if os.environ.get("RANK", "0") != "0":
        return None
    from hyperdpo.text.estimate import estimate_training

    found = estimate_training(model, preferences, config)
    return Answer(found.to_dict(), found.text())


def text_info(folder: RunFolder) -> Answer:
    """`hyperdpo info` of a text run."""
    from hyperdpo.objectives import Objective
    from hyperdpo.text.card import made_of

    config, fronts = folder.config, folder.fronts()
    base, data, prompt = config["base"], config["data"], config["prompt"]
    conditioned = config["method"]["method"] == "hyperdpo"
    lists = ", ".join(f"{count:,} {split}" for split, count in data["lists"].items())
    objectives = [Objective.from_dict(o) for o in config["task"]["objectives"]]
    document = {
        "run": str(folder.path),
        **{k: v for k, v in config.items() if k not in ("version", "history")},
        "fronts": [{key: f.to_dict()[key] for key in ("name", "method", "split", "hypervolume")} for f in fronts],
    }
    text = facts(
        [
            ("run", folder.path),
            ("method", config["method"]["method"]),
            ("objectives", "\n".join(f"{o.name} ({label_kind(o)})" for o in objectives)),
            ("beta", ", ".join(f"{b:g}" for b in config["beta"])),
            ("base", f"{base['name']} ({base['architecture']}, {base['parameters']:,} parameters)"),
            ("prefix", f"{prompt['tokens']} tokens, mask of rank {prompt['rank']}"),
            (
                "LoRA",
                f"rank {prompt['lora_rank']}, alpha {prompt['lora_alpha']:g}, {', '.join(prompt['lora_targets'])}"
                + (
                    ", for each objective, gated by w"
                    if prompt.get("conditioning") == "prompt+lora" and conditioned
                    else ""
                ),
            ),
            ("parameters", f"{config['parameters']:,} in {config['models']} model{'s' * (config['models'] > 1)}"),
            (
                "training",
                f"{config['seconds']:.1f} s on {config['device']}, base scores {config['base_seconds']:.1f} s"
                + made_of(config),
            ),
            ("data", f"{data['name']} ({lists} prompts)"),
            ("seed", str(config["seed"])),
        ]
    )
    return Answer(without_nan(document), f"{text}\n\n{fronts_table(fronts)}")


@dataclass(frozen=True)
class Generate:
    """Answer a prompt at one w and c, beside the base model; or a strip of answers over all trade-offs."""

    run: RunPath
    prompt: Annotated[str, arg(metavar="TEXT", help="What to go on from.")]
    weights: Annotated[
        str | None, flag("Importance weights, which sum to 1.", ".5,.5|helpful=.5,brief=.5", "all alike")
    ] = None
    scale: Annotated[float, arg(help="c from 0.5 to 10: 1 is as trained, more is closer to the base.")] = 1.0
    strip: Annotated[int | None, flag("Answer at so many weights instead.", "INT")] = None
    decoding: Annotated[
        bool,
        arg(
            help="Mix a soup's single-objective models at every token (multi-objective decoding).",
            help_behavior_hint="",
        ),
    ] = False
    max_new_tokens: Annotated[int, arg(help="At most so many tokens.")] = 64
    temperature: Annotated[float, arg(help="Of sampling; 0 takes the most likely token.")] = 0.8
    top_p: Annotated[float, arg(help="Draw from the smallest set with this much probability.")] = 0.95
    seed: Annotated[int, arg(help="Of the draws.")] = 0
    base: Annotated[str | None, flag("Where the base model is.", "NAME_OR_PATH", "where it was trained from")] = None
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.text.generate import Sampling, answers, check_decoding_scale, strip
        from hyperdpo.text.run import TextRun

        check_decoding_scale(self.scale)
        sampling = Sampling(self.max_new_tokens, self.temperature, self.top_p, self.seed)
        run = TextRun(self.run, device=str(device_of(self.device)), base=self.base)
        if self.strip is not None:
            if self.strip < 2:
                raise ConfigError(f"A strip has 2 answers or more; got {self.strip}.")
            if self.weights is not None:
                raise ConfigError("--strip answers at many weights, --weights at one: give one of them.")
            weights = strip(run.m, self.strip)
        else:
            weights = [run.weights(self.weights if self.weights is not None else [1 / run.m] * run.m)]
        [base] = answers(run, self.prompt, [None], sampling=sampling)
        found = answers(run, self.prompt, weights, scale=self.scale, sampling=sampling, decoding=self.decoding)
        told: list[dict[str, Any]] = [
            {"weights": _named(run.names, w.tolist()), "scale": self.scale, "text": answer.text}
            for w, answer in zip(weights, found, strict=True)
        ]
        document = {"prompt": self.prompt, "base": base.text, "answers": told}
        blocks = [f"base\n{self.prompt}{base.text}"]
        for one in told:
            at = ", ".join(f"{name} {w:g}" for name, w in one["weights"].items())
            blocks.append(f"{at}; c = {self.scale:g}\n{self.prompt}{one['text']}")
        return Answer(document, "\n\n".join(blocks))


def _named(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    return {name: round(v, 7) for name, v in zip(names, values, strict=True)}


@dataclass(frozen=True)
class Sample:
    """Continue every prompt several times with a plain causal model, or with a text run at one w."""

    model: Annotated[Positional[str], arg(metavar="MODEL", help="A model's folder or name, or a text run.")]
    prompts: Annotated[Path, arg(metavar="FILE", help="A prompt a line, or JSON lines with `prompt`.")]
    out: Annotated[Path, arg(metavar="FILE", help="Lists of responses, JSON lines (.gz and .xz too).")]
    n: Annotated[int, arg(help="Responses to a prompt.")] = 4
    weights: Annotated[str | None, flag("Of a run; the base answers without.", ".5,.5|a=.5,b=.5")] = None
    max_new_tokens: Annotated[int, arg(help="At most so many tokens.")] = 64
    temperature: Annotated[float, arg(help="Of sampling.")] = 1.0
    top_p: Annotated[float, arg(help="Draw from the smallest set with this much probability.")] = 0.95
    seed: Annotated[int, arg(help="Of the draws.")] = 0
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.text.data import read_prompts, write_lists
        from hyperdpo.text.generate import Sampling
        from hyperdpo.text.sample import open_any, sample_lists

        sampling = Sampling(self.max_new_tokens, self.temperature, self.top_p, self.seed)
        prompts = read_prompts(self.prompts)
        source = open_any(self.model, weights=self.weights, device=str(device_of(self.device)))
        with Bar(shown=not self.json) as bar:
            found = sample_lists(source, prompts, n=self.n, sampling=sampling, tick=lambda d, t: bar("sampling", d, t))
        if not found.kept:
            raise DataError("No prompt got two different responses; raise --temperature or --max-new-tokens.")
        write_lists(self.out, [prompts[i] for i in found.kept], found.responses)
        count = sum(map(len, found.responses))
        document = {
            "out": str(self.out),
            "prompts": len(found.kept),
            "responses": count,
            "given_up": found.given_up,
            "prompts_left_out": len(prompts) - len(found.kept),
            "sampling": asdict(sampling),
        }
        lost = f"; {found.given_up:,} draws were empty or repeated and given up" if found.given_up else ""
        return Answer(document, f"{count:,} responses to {len(found.kept):,} prompts in {self.out}{lost}")


def run_data(run: TextRun, files: Sequence[str]) -> Preferences:
    """The preferences named, those inside the run folder, or those the run was trained on, cut to its --limit.

    Raises DataError where the run's own are not there any more.
    """
    from hyperdpo.text.data import files_of_run, load_preferences

    sources, limit = (list(files), None) if files else files_of_run(run.folder.path, run.config)
    if not sources:
        raise DataError(f"{run.folder.path} does not say where its data was; name it with --data.")
    return load_preferences(sources, objectives=run.objectives, limit=limit)


def evaluate_text(command: Evaluate) -> Answer:
    """`hyperdpo evaluate` of a text run: cross-entropy front, hypervolume beside chance, accuracy, distance."""
    from hyperdpo.files import write_json
    from hyperdpo.text.data import part_of_run
    from hyperdpo.text.evaluate import evaluate_run
    from hyperdpo.text.labels import Labels
    from hyperdpo.text.run import TextRun

    _refuse_rank_flags(command)
    device = str(device_of(command.device))
    run = TextRun(command.run, device=device)
    others = [TextRun(path, device=device) for path in command.baseline]
    preferences = run_data(run, [str(path) for path in command.data])
    with Bar(shown=not command.json) as bar:
        fronts = evaluate_run(
            run,
            preferences,
            split=command.split,
            points=command.points,
            scale=command.scale,
            baselines=others,
            save=command.save,
            tick=bar,
        )
    part = part_of_run(run.config, preferences, command.split)
    summary = Labels(part, run.beta)
    about = {
        "run": str(run.folder.path),
        "lists": len(part),
        "chance": {"cross_entropy": summary.chance, "hypervolume": fronts[-1].hypervolume},
        "reference": summary.reference,
        "floor": _named(run.names, summary.floor.tolist()),
        "accuracy": accuracies(fronts, summary),
    }
    text = _text(run, summary, fronts, command, len(part))
    if command.follow:
        found = followed(run, part, command)
        about["follow"] = found.to_dict()
        text += f"\n\n{found.text()}"
    document = without_nan({**about, "fronts": [front.to_dict() for front in fronts]})
    if command.out is not None:
        write_json(command.out, document)
    return Answer(document, text)


def followed(run: TextRun, part: Preferences, command: Evaluate) -> Followed:
    """`command.follow` texts at each w, on the split's prompts, several a prompt where there are fewer."""
    from hyperdpo.text.follow import follow, spread_prompts

    if command.follow < 2:
        raise ConfigError(f"--follow is 2 texts a weight or more; got {command.follow}.")
    with Bar(shown=not command.json) as bar:
        return follow(run, spread_prompts(part, command.follow), points=command.points, tick=bar)


def _refuse_rank_flags(command: Evaluate) -> None:
    problems = []
    if command.k is not None:
        problems.append("--k is NDCG's cut-off: a text run has none.")
    if command.beta is not None:
        problems.append("--beta is for ranking runs; a text run moves by --scale alone.")
    if problems:
        raise ConfigError(problems)


def accuracies(fronts: Sequence[ParetoFront], summary: Labels) -> dict[str, list[dict[str, float]]]:
    """Accuracy per objective at every point of every front."""
    return {
        front.name: [
            _named(front.objectives, summary.from_residuals(residual).accuracy.tolist()) for residual in front.residuals
        ]
        for front in fronts
        if front.residuals is not None
    }


def _text(run: TextRun, summary: Labels, fronts: Sequence[ParetoFront], command: Evaluate, lists: int) -> str:
    from hyperdpo.intervals import bootstrap_counts, intervals

    head = (
        f"{run.name}, split {command.split}, {lists:,} prompts, c = {command.scale:g}. Chance: cross-entropy "
        f"{summary.chance:.4f}, hypervolume {fronts[-1].hypervolume:.5f} from {summary.reference:.3f}. Entropy of the "
        f"labels: {', '.join(f'{n} {v:.4f}' for n, v in zip(run.names, summary.floor, strict=True))}."
    )
    parts = [head, fronts_table(fronts)]
    for front in fronts:
        assert front.per_query is not None
        assert front.residuals is not None
        counts = bootstrap_counts(front.per_query.shape[1])
        rows = []
        for i in range(len(front.ndcg)):
            found = intervals(-front.per_query[i, :, 1:], counts)
            shown = [f"{x.mean:.4f} [{x.low:.4f}, {x.high:.4f}]" for x in found]
            at_point = summary.from_residuals(front.residuals[i])
            correct = [f"{x.mean:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in intervals(at_point.correct, counts)]
            at = ", ".join(f"{v:.2f}" for v in front.weights[i]) or "-"
            rows.append([at, *shown, *correct, f"{at_point.spread:.2f}"])
        headers = [f"w ({', '.join(front.objectives)})", *front.objectives]
        headers += [f"{name}, accuracy" for name in front.objectives] + ["IQR, nats"]
        title = f"{front.name}: {command.split} cross-entropy and accuracy with 95 % bootstrap intervals over prompts"
        parts.append(f"{title}\n{table(headers, rows)}")
    return "\n\n".join(parts)
