"""The command line: `hyperdpo` and `python -m hyperdpo`. Assembly only; what it prints is computed elsewhere.

Each command is a frozen dataclass whose fields are its flags and whose `execute` returns an Answer: one JSON document
for `--json`, one text for people. Flags that are not given are None, so that a preset lies between them and the
defaults. torch and the wings are imported when a command runs: `--help` and bad usage answer at once.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar, get_args

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from hyperdpo.errors import ConfigError, DataError, HyperDPOError, Interrupted, RunError, nearest
from hyperdpo.tables import facts, table

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.objectives import Objective
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.run import RankRun
    from hyperdpo.rank.train import RankConfig
    from hyperdpo.runs import RunFolder

BAD_INPUT, FAILED, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141
TRAIN_PRESETS = ("mslr", "paper")
GRAMMAR = "NAME=COLUMN[:l1|softmax[:TEMPERATURE]][:min|max]"
NUMBERED = "f"  # LETOR columns are f1, f2, ...
T = TypeVar("T")

app = tyro.extras.SubcommandApp()
data_app = tyro.extras.SubcommandApp()
train_app = tyro.extras.SubcommandApp()


@dataclass(frozen=True)
class Answer:
    """What a command found: `document` for `--json`, `text` for people."""

    document: dict[str, Any]
    text: str


class Command(Protocol):
    """What `main` needs of a parsed command."""

    @property
    def json(self) -> bool: ...

    def execute(self) -> Answer | None:
        """None where this process is not the one that prints."""


def _flag(text: str, metavar: str, default: object = None) -> object:
    """An optional flag; `default` is what holds where neither the flag nor a preset says otherwise."""
    return arg(help=text, metavar=metavar, help_behavior_hint="" if default is None else f"(default: {default})")


Json = Annotated[bool, arg(help="Print one JSON document instead of a table.", help_behavior_hint="")]
Out = Annotated[Path, arg(metavar="DIR")]
Device = Annotated[Literal["auto", "cpu", "cuda"], arg(help="Where to compute.")]
RunPath = Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
MainFlag = Annotated[str | None, _flag("Column of the main label.", "COLUMN", "the declared one, or 'label'")]
ObjectiveFlag = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(metavar=GRAMMAR, help="An auxiliary objective; once for each. Replaces those the data declares."),
]
QidFlag = Annotated[str | None, _flag("Column of the query id in tables.", "COLUMN", "found by its name")]


# --- data -----------------------------------------------------------------------------------------------------------


@data_app.command(name="convert")
@dataclass(frozen=True)
class DataConvert:
    """Read LETOR, CSV or Parquet files into a data folder.

    Lists are split by query: as --train/--validation/--test say; else by the files' names; else 60/20/20 at random.
    """

    out: Annotated[Out, arg(help="The data folder to write.")]
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE", help="Files of one kind, also .gz or .xz.")] = ()
    preset: Annotated[str | None, _flag("Column roles of a known data set.", "mslr")] = None
    main: MainFlag = None
    objective: ObjectiveFlag = ()
    base_column: Annotated[str | None, _flag("Column of ready base scores.", "COLUMN")] = None
    qid_column: QidFlag = None
    features: Annotated[int | None, _flag("LETOR only: as many columns, even if the last never occur.", "INT")] = None
    text: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="COLUMN[:REFERENCE_COLUMN]",
            help="Tables only: a text column to count features of (words, overlap ...), by itself and against another "
            "column or the list's other items; once for each.",
        ),
    ] = ()
    split_seed: Annotated[int, arg(help="Of the random split.")] = 0
    name: Annotated[str | None, _flag("What to call the data.", "NAME", "from the files' names")] = None
    train: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the training split.")] = ()
    validation: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the validation split.")] = ()
    test: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the test split.")] = ()
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.data import convert

        splits = {s: getattr(self, s) for s in ("train", "validation", "test") if getattr(self, s)}
        if splits and self.files:
            raise ConfigError("Give FILE..., or --train, --validation and --test, not both.")
        with _Bar(shown=not self.json) as bar:
            data = convert(
                None if splits else self.files,
                self.out,
                splits=splits or None,
                preset=self.preset,
                main=self.main,
                objectives=self.objective or None,
                base_column=self.base_column,
                qid_column=self.qid_column,
                n_features=self.features,
                texts=self.text,
                split_seed=self.split_seed,
                name=self.name,
                progress=lambda file, done, total: bar(f"reading {file}", done, total),
            )
        return _data_answer(data)


@data_app.command(name="demo")
@dataclass(frozen=True)
class DataDemo:
    """Make the demo data: a simulated marketplace whose best possible fronts are known."""

    out: Annotated[Out, arg(help="The data folder to write.")]
    queries: Annotated[int | None, _flag("How many lists.", "INT", "3000")] = None
    seed: Annotated[int | None, _flag("Of everything random.", "INT", "0")] = None
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.demo import make_demo

        return _data_answer(
            make_demo(self.out, **_given(self, "queries", "seed"), progress=lambda what, *counts: _say(what))
        )


@data_app.command(name="simulate")
@dataclass(frozen=True)
class DataSimulate:
    """Make simulated data of any shape whose expected labels, and so its best possible fronts, are known exactly."""

    out: Annotated[Out, arg(help="The data folder to write.")]
    queries: Annotated[int | None, _flag("How many lists; split 60/20/20.", "INT", "1000")] = None
    items: Annotated[tuple[int, int] | None, _flag("Shortest and longest list.", "FROM TO", "20 60")] = None
    features: Annotated[int | None, _flag("Features an item.", "INT", "40")] = None
    objectives: Annotated[int | None, _flag("Auxiliary objectives.", "INT", "2")] = None
    dense: Annotated[int | None, _flag("How many of them have dense labels, the last ones.", "INT", "half")] = None
    clicks: Annotated[int | None, _flag("Draws a list of a sparse label; 1 is one-hot.", "INT", "5")] = None
    conflict: Annotated[float | None, _flag("How far the objectives pull apart, 0 to 1.", "FLOAT", "0.7")] = None
    seed: Annotated[int | None, _flag("Of everything random.", "INT", "0")] = None
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.simulate import Simulation, simulate

        shape = Simulation(**{name: value for name, value in _given(self).items() if name not in ("out", "json")})
        with _Bar(shown=not self.json) as bar:
            return _data_answer(simulate(shape, self.out, bar))


def _data_answer(data: RankData) -> Answer:
    about = data.describe()
    split, notes = data.manifest["split"], data.manifest.get("notes", [])
    document = {
        "data": str(data.path),
        **about,
        "main": data.task.main.to_dict(),
        "objectives": [o.to_dict() for o in data.task.objectives],
        "base_column": data.task.base_column,
        "fingerprint": data.fingerprint,
        "split": split,
        "skipped": data.manifest["skipped"],
        "notes": notes,
    }
    skipped = [
        f"{count:,} {what.replace('_', ' ')}" for what, count in (data.manifest["skipped"] or {}).items() if count
    ]
    lists = table(
        ["split", "lists", "items", "shortest", "median", "longest", "one item"],
        [
            [name, s["queries"], s["items"], s["shortest"], s["median"], s["longest"], s["one_item_lists"]]
            for name, s in about["splits"].items()
        ],
    )
    labels = table(
        ["label", "column", "normalised", "from", "to", "train lists that say nothing"],
        [
            [o.name, o.column, _kind(o), f"{known['min']:g}", f"{known['max']:g}", known["uninformative"]["train"]]
            for o in data.task.labelled
            for known in [about["labels"][o.name]]
        ],
        left=3,
    )
    head = facts(
        [
            ("data", f"{data.name} in {data.path}"),
            ("size", f"{about['queries']:,} lists, {about['items']:,} items, {about['features']} features"),
            ("split", split["how"] + ("" if split.get("seed") is None else f", seed {split['seed']}")),
            *([("skipped", ", ".join(skipped))] if skipped else []),
            *[("note", note) for note in notes],
        ]
    )
    return Answer(document, f"{head}\n\n{lists}\n\n{labels}")


def _kind(objective: Objective) -> str:
    """How an objective's labels are normalised, in few words."""
    words: list[str] = [objective.normalisation]
    if objective.normalisation == "softmax":
        words.append(f"T {objective.temperature:g}{'' if objective.standardise else ', raw'}")
    if objective.direction == "min":
        words.append("lower is better")
    if objective.shift:
        words.append(f"shift {objective.shift:g}")
    return ", ".join(words)


# --- train ----------------------------------------------------------------------------------------------------------


# As in methods.MethodName, spelled again because that module takes torch with it and --help should not wait.
MethodName = Literal["hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo", "hypernetwork", "lambdamart", "label-aggregation"]


@dataclass(frozen=True)
class MethodFlags:
    """The method and how it draws weights."""

    method: Annotated[MethodName | None, _flag("The method.", "|".join(get_args(MethodName)), "hyperdpo")] = None
    alpha: Annotated[float | None, _flag("Concentration of the Dirichlet.", "FLOAT", "0.5")] = None
    draw: Annotated[Literal["list", "step"] | None, _flag("A draw of w per this.", "list|step", "list")] = None
    penalty: Annotated[float | None, _flag("Lambda of the alignment penalty.", "FLOAT", "0.0")] = None
    penalty_sign: Annotated[Literal["toward", "away"] | None, _flag("Its sign.", "toward|away", "toward")] = None
    points: Annotated[int | None, _flag("Weights on the grid; most baselines train a model at each.", "INT", "11")] = (
        None
    )
    beta_range: Annotated[
        float | None, _flag("A temperature network draws each beta from 1/R to R times --beta.", "R", "4.0")
    ] = None
    generator_width: Annotated[int | None, _flag("Of the MLP that makes a hypernetwork's weights.", "INT", "64")] = None


@dataclass(frozen=True)
class NetFlags:
    """Size of the trained network."""

    width: Annotated[int | None, _flag("Hidden width.", "INT", "128; baselines 64")] = None
    layers: Annotated[int | None, _flag("Blocks.", "INT", "2")] = None
    heads: Annotated[int | None, _flag("Attention heads; 0 judges items one by one.", "INT", "0; baselines 4")] = None
    dropout: Annotated[float | None, _flag("On block outputs.", "FLOAT", "0.2")] = None
    use_base: Annotated[bool | None, _flag("Whether the base score is one more input.", "True|False", "False")] = None


@dataclass(frozen=True)
class FitFlags:
    """Budget and optimiser."""

    epochs: Annotated[int | None, _flag("At most this many passes over the training lists.", "INT", "15")] = None
    patience: Annotated[int | None, _flag("Stop after as many epochs without a better validation.", "INT", "6")] = None
    batch_size: Annotated[int | None, _flag("Lists a step, over all processes together.", "INT", "32")] = None
    learning_rate: Annotated[float | None, _flag("Peak of the schedule.", "FLOAT", "0.002")] = None
    warmup: Annotated[float | None, _flag("Share of the steps that warm up.", "FLOAT", "0.05")] = None
    weight_decay: Annotated[float | None, _flag("AdamW's, on matrices.", "FLOAT", "0.01")] = None
    clip: Annotated[float | None, _flag("Largest gradient norm; 0 is none.", "FLOAT", "1.0")] = None
    average: Annotated[float | None, _flag("Decay of the weights' moving average; 0 is none.", "FLOAT", "0.98")] = None


@dataclass(frozen=True)
class TreeFlags:
    """Boosting of lambdamart and label-aggregation."""

    tree_rounds: Annotated[int | None, _flag("Trees: at most this many a model.", "INT", "300")] = None
    tree_patience: Annotated[int | None, _flag("Rounds without a better validation NDCG.", "INT", "30")] = None
    tree_learning_rate: Annotated[float | None, _flag("Shrinkage.", "FLOAT", "0.05")] = None
    tree_leaves: Annotated[int | None, _flag("Leaves of a tree.", "INT", "15")] = None
    tree_min_leaf: Annotated[int | None, _flag("Items in a leaf, at least.", "INT", "50")] = None


@dataclass(frozen=True)
class BaseFitFlags:
    """Budget of a transformer base."""

    base_epochs: Annotated[int | None, _flag("A transformer base: at most this many passes.", "INT", "40")] = None
    base_patience: Annotated[int | None, _flag("The base's patience.", "INT", "6")] = None
    base_batch_size: Annotated[int | None, _flag("The base's lists a step.", "INT", "32")] = None
    base_learning_rate: Annotated[float | None, _flag("Peak of the base's schedule.", "FLOAT", "0.001")] = None


@train_app.command(name="rank")
@dataclass(frozen=True)
class TrainRank:
    """Train a ranking run and write its folder.

    Ctrl-C keeps what was done; the same command with --resume goes on. For several processes:
    `accelerate launch -m hyperdpo train rank ...`.
    """

    data: Annotated[tuple[Path, ...], arg(metavar="DIR|FILE", help="A data folder, or files of one kind.")]
    out: Annotated[Path, arg(metavar="RUN", help="The run folder to write.")]
    preset: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="mslr|paper", help="Column roles of MSLR files; the paper's own settings. Both may be given."),
    ] = ()
    main: MainFlag = None
    objective: ObjectiveFlag = ()
    qid_column: QidFlag = None
    base: Annotated[
        str | None, _flag("The frozen base.", "transformer|lightgbm|column:NAME|run:PATH", "transformer")
    ] = None
    parametrisation: Annotated[
        Literal["mixture", "geometric", "augmentation", "scratch", "film", "temperature"] | None,
        _flag("How the network takes w.", "mixture|geometric|augmentation|scratch|film|temperature", "mixture"),
    ] = None
    beta: Annotated[str | None, _flag("One temperature, or one per objective.", "B|b1,b2,..", "1.0")] = None
    scaling: Annotated[
        Literal["auto", "standard", "none"] | None, _flag("Of the features.", "auto|standard|none", "auto")
    ] = None
    seed: Annotated[int | None, _flag("Of everything random.", "INT", "0")] = None
    k: Annotated[int | None, _flag("NDCG cut-off of the fronts.", "INT", "10")] = None
    device: Device = "auto"
    resume: Annotated[bool, arg(help="Go on with an interrupted training.", help_behavior_hint="")] = False
    overwrite: Annotated[bool, arg(help="Replace the run that --out holds.", help_behavior_hint="")] = False
    method: Annotated[MethodFlags, arg(name="")] = field(default_factory=MethodFlags)
    net: Annotated[NetFlags, arg(name="")] = field(default_factory=NetFlags)
    fit: Annotated[FitFlags, arg(name="")] = field(default_factory=FitFlags)
    trees: Annotated[TreeFlags, arg(name="")] = field(default_factory=TreeFlags)
    base_fit: Annotated[BaseFitFlags, arg(name="")] = field(default_factory=BaseFitFlags)
    json: Json = False

    def execute(self) -> Answer | None:
        try:
            return self._train()
        except KeyboardInterrupt:
            if (self.out / "training").is_dir():
                raise Interrupted(
                    f"Stopped. What was finished is kept in {self.out}; the same command with --resume goes on."
                ) from None
            raise

    def _train(self) -> Answer | None:
        presets = _presets(self.preset)
        config = self.config(presets)
        from hyperdpo.rank.train import train
        from hyperdpo.training import make_accelerator

        accelerator = make_accelerator(self.device)
        with _Bar(shown=not self.json and accelerator.is_main_process) as bar:
            log = _RunLog(self.out / "train.log", bar) if accelerator.is_main_process else None
            with accelerator.main_process_first():  # one process converts files, the others find them converted
                data = self._open(presets, bar)
            if log:
                for line in _task_lines(data):
                    log.note(line)
            run = train(
                data,
                config,
                self.out,
                resume=self.resume,
                overwrite=self.overwrite,
                device=self.device,
                accelerator=accelerator,
                log=log.log if log else lambda line: None,
                tick=lambda what, done, total, loss: bar(what, done, total, f"loss {loss:.4f}"),
            )
        return _trained_answer(run) if accelerator.is_main_process else None

    def config(self, presets: Sequence[str] = ()) -> RankConfig:
        """What the flags ask for, from the defaults or, with `paper`, from the paper's network, draws and fit.

        Raises ConfigError with all that is out of range at once.
        """
        from hyperdpo.rank.train import PAPER, RankConfig, default_net

        start = PAPER if "paper" in presets else RankConfig()
        problems: list[str] = []

        def changed(part: T, given: Mapping[str, Any]) -> T:
            try:
                return replace(part, **given)  # type: ignore[type-var]
            except ConfigError as error:
                problems.extend(error.problems)
                return part

        base_given = {name.removeprefix("base_"): value for name, value in _given(self.base_fit).items()}
        trees_given = {name.removeprefix("tree_"): value for name, value in _given(self.trees).items()}
        own = _given(self, "parametrisation", "base", "scaling", "seed", "k")
        parts: dict[str, Any] = {
            "method": changed(start.method, _given(self.method)),
            "fit": changed(start.fit, _given(self.fit)),
            "trees": changed(start.trees, trees_given),
            "base_fit": changed(start.base_fit, base_given),
        }
        if start.net or _given(self.net):
            parts["net"] = changed(start.net or default_net(parts["method"].method), _given(self.net))
        if self.beta is not None:
            own["beta"] = _numbers(self.beta, "--beta", problems)
        if problems:
            raise ConfigError(problems)
        return replace(start, **parts, **own)

    def _open(self, presets: Sequence[str], bar: _Bar) -> RankData:
        """The data with its roles, checked for training. Raises what `load_any` and `check_task` raise."""
        from hyperdpo.rank.data import check_task, load_any

        data = load_any(
            self.data,
            preset="mslr" if "mslr" in presets else None,
            main=self.main,
            objectives=self.objective or None,
            base_column=self._base_column(),
            progress=lambda file, done, total: bar(f"reading {file}", done, total),
            **_given(self, "qid_column"),
        )
        if not data.task.m:
            raise ConfigError(
                f"{data.name!r} declares no auxiliary objective; add --objective {GRAMMAR}, once for each. "
                f"The columns are {_few(data.columns)}."
            )
        if "paper" in presets:
            from hyperdpo.rank.train import paper_task

            data = paper_task(data)
        check_task(data)
        return data

    def _base_column(self) -> str | None:
        """The column of a base that is one, or that the base of another run is."""
        kind, _, rest = (self.base or "").partition(":")
        if kind == "column" and rest:
            return rest
        if kind == "run" and rest:
            from hyperdpo.runs import RunFolder

            column: str | None = RunFolder(rest).config["task"].get("base_column")
            return column
        return None


def _presets(given: Sequence[str]) -> list[str]:
    """`--preset a --preset b` and `--preset a,b` alike. Raises ConfigError for one there is not."""
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    unknown = [
        f"There is no preset {name!r}{nearest(name, TRAIN_PRESETS)}; there are {', '.join(TRAIN_PRESETS)}."
        for name in names
        if name not in TRAIN_PRESETS
    ]
    if unknown:
        raise ConfigError(unknown)
    return names


def _task_lines(data: RankData) -> list[str]:
    sizes = ", ".join(f"{len(data.queries(s)):,} {s}" for s in ("train", "validation", "test"))
    return [
        f"data: {data.name}, {data.n_items:,} items in {data.n_queries:,} lists ({sizes}), "
        f"{len(data.task.features)} features",
        *[f"objective {o.name}: column {o.column}, {_kind(o)}" for o in data.task.objectives],
    ]


def _trained_answer(run: RankRun) -> Answer:
    config, fronts = run.config, run.folder.fronts()
    document = {
        "run": str(run.folder.path),
        **{key: config[key] for key in ("main", "objectives", "parametrisation", "models", "parameters", "seconds")},
        "method": config["method"]["method"],
        "device": config["device"],
        "data": config["data"],
        "fronts": [front.to_dict() for front in fronts],
    }
    return Answer(document, f"{run.folder.path}\n\n{_fronts_table(fronts)}")


# --- evaluate -------------------------------------------------------------------------------------------------------


@app.command(name="evaluate")
@dataclass(frozen=True)
class Evaluate:
    """Measure a run's front, its baselines', the base's, and the best possible ones where the data knows them."""

    run: RunPath
    data: Annotated[
        tuple[Path, ...], arg(metavar="DIR|FILE", help="Data to measure on.", help_behavior_hint="(default: the run's)")
    ] = ()
    split: Annotated[Literal["train", "validation", "test", "all"], arg(help="Which lists.")] = "test"
    points: Annotated[int, arg(help="Weights on the front.")] = 11
    beta: Annotated[
        str | None,
        _flag("Other temperatures, if the run can answer them.", "b1,b2,..|clicks=.5,..", "the training ones"),
    ] = None
    scale: Annotated[float, arg(help="c: how far to go from the base; 1 is as trained.")] = 1.0
    k: Annotated[int | None, _flag("NDCG cut-off.", "INT", "the run's, 10 unless trained otherwise")] = None
    out: Annotated[Path | None, _flag("Also write the fronts to this file.", "front.json")] = None
    baseline: Annotated[tuple[Path, ...], arg(metavar="RUN", help="Other runs of the same objectives.")] = ()
    save: Annotated[bool, arg(help="Keep these fronts in the run folder.", help_behavior_hint="")] = False
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.evaluate import evaluate_run
        from hyperdpo.rank.run import RankRun
        from hyperdpo.weights import check_scale

        check_scale(self.scale)
        _check_k(self.k)
        run = RankRun(self.run)
        others = [RankRun(path) for path in self.baseline]
        _check_baselines(run, others, same_beta=self.beta is None)
        run.temperatures(self.beta)  # before the data is read: it may be large
        data = _read_for(run, self.data, shown=not self.json)
        if not len(data.queries(self.split)):
            raise DataError(f"{data.path} has no list in the split {self.split!r}; choose another --split.")
        fronts = evaluate_run(
            run,
            data,
            split=self.split,
            points=self.points,
            scale=self.scale,
            k=self.k,
            beta=self.beta,
            baselines=others,
            device=_device(self.device),
            save=self.save,
        )
        document = _fronts_document(fronts)
        if self.out is not None:
            _write_json(self.out, document)
        about = {"run": str(run.folder.path), "measured_on": str(data.path), "lists": len(data.queries(self.split))}
        return Answer({**document, **about}, self._text(run, data, document, fronts))

    def _text(self, run: RankRun, data: RankData, document: dict[str, Any], fronts: list[ParetoFront]) -> str:
        k = fronts[0].k
        lists = len(data.queries(self.split))
        head = f"{run.name} on {data.name}, split {self.split}, {lists:,} lists, c = {self.scale:g}"
        parts = [f"{head}\n\n{_fronts_table(fronts)}"]
        for front in document["fronts"]:
            names = [front["main"], *front["objectives"]]
            rows = [
                [", ".join(f"{v:.2f}" for v in point["weights"].values()) or "-"]
                + [_interval(point["ndcg"][name], point["intervals"][name]) for name in names]
                for point in front["points"]
            ]
            weights = f"w ({', '.join(front['objectives'])})"
            parts.append(f"{front['name']}: NDCG@{k} with 95 % bootstrap intervals\n{table([weights, *names], rows)}")
        return "\n\n".join(parts)


def _fronts_document(fronts: Sequence[ParetoFront]) -> dict[str, Any]:
    """The fronts as front.json has them, with an interval beside each figure."""
    from hyperdpo.intervals import bootstrap_counts, intervals
    from hyperdpo.runs import FRONTS_FORMAT, VERSION

    listed = []
    for front in fronts:
        described = front.to_dict()
        if front.per_query is not None:
            counts = bootstrap_counts(front.per_query.shape[1])  # seeded: the same queries for every point and front
            for point, per_query in zip(described["points"], front.per_query, strict=True):
                found = intervals(per_query, counts)
                point["intervals"] = {
                    name: {"low": i.low, "high": i.high, "queries": i.queries, "skipped": i.skipped}
                    for name, i in zip(point["ndcg"], found, strict=True)
                }
        listed.append(described)
    document = {"format": FRONTS_FORMAT, "version": VERSION, "arrays_sha256": None, "fronts": listed}
    clean: dict[str, Any] = _without_nan(document)
    return clean


def _interval(value: float | None, interval: Mapping[str, float | None]) -> str:
    low, high = interval["low"], interval["high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _fronts_table(fronts: Sequence[ParetoFront]) -> str:
    k = fronts[0].k
    headers = ["front", "hypervolume", f"{fronts[0].main} NDCG@{k} mean", "std", "sparsity", "points", "models"]
    rows = [
        [f.name, f"{f.hypervolume:.5f}", f.main_mean, f.main_std, f"{f.sparsity:.6f}", len(f.ndcg), f.models]
        for f in fronts
    ]
    return table(headers, rows)


def _check_baselines(run: RankRun, others: Sequence[RankRun], *, same_beta: bool) -> None:
    """Raises ConfigError naming every difference between what the runs were asked for."""
    problems = []
    for other in others:
        pairs = {
            "main label": (run.task.main, other.task.main),
            "objectives": (run.objectives, other.objectives),
            "beta": (run.beta, other.beta if same_beta else run.beta),
            "features": (run.task.features, other.task.features),
            "base column": (run.task.base_column, other.task.base_column),
            "training data": (run.config["data"]["fingerprint"][:12], other.config["data"]["fingerprint"][:12]),
        }
        for what, (ours, theirs) in pairs.items():
            if ours != theirs:
                shown = "" if what == "features" else f": {_brief(ours)} and {_brief(theirs)}"
                problems.append(f"{run.folder.path} and the baseline {other.folder.path} differ in {what}{shown}.")
    if problems:
        raise ConfigError([*problems, "Only runs trained on the same terms stand on one chart."])


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    return f"{value.name}={value.column} ({_kind(value)})" if hasattr(value, "normalisation") else repr(value)


# --- score ----------------------------------------------------------------------------------------------------------


@app.command(name="score")
@dataclass(frozen=True)
class Score:
    """Score every item of a data set at one (w, c): one score a line, in input order; higher ranks first."""

    run: RunPath
    data: Annotated[tuple[Path, ...], arg(metavar="DIR|FILE", help="What to score; label columns are not needed.")]
    weights: Annotated[str, arg(metavar=".3,.7|clicks=.3,quality=.7", help="Importance weights, which sum to 1.")]
    out: Annotated[Path, arg(metavar="FILE", help="The file to write.")]
    beta: Annotated[
        str | None,
        _flag("Other temperatures, if the run can answer them.", "b1,b2,..|clicks=.5,..", "the training ones"),
    ] = None
    scale: Annotated[float, arg(help="c: how far to go from the base; 1 is as trained.")] = 1.0
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.files import write_atomic
        from hyperdpo.rank.run import RankRun
        from hyperdpo.weights import check_scale

        scale = check_scale(self.scale)
        run = RankRun(self.run)
        w = run.weights(self.weights)
        run.answer(w, self.beta)  # before the data is read: it may be large
        data = _read_for(run, self.data, labels=False, shown=not self.json)
        lists = data.lists("all", features=run.task.features, labels=False)
        scores = run.score_lists(lists, w, beta=self.beta, scale=scale).tolist()
        write_atomic(self.out, "".join(f"{score!r}\n" for score in scores))
        weights = {o.name: round(v, 7) for o, v in zip(run.objectives, w.tolist(), strict=True)}
        document = {
            "run": str(run.folder.path),
            "data": str(data.path),
            "out": str(self.out),
            "items": len(scores),
            "lists": len(lists),
            "weights": weights,
            "beta": list(run.temperatures(self.beta) or run.beta),
            "scale": scale,
        }
        at = ", ".join(f"{name} {v:g}" for name, v in weights.items())
        return Answer(document, f"{len(scores):,} scores of {len(lists):,} lists at {at}; c = {scale:g} in {self.out}")


# --- compare and info -----------------------------------------------------------------------------------------------


@app.command(name="compare")
@dataclass(frozen=True)
class Compare:
    """Compare runs by the fronts they hold, with intervals and a paired test of the first run against each other.

    Refuses runs that were not measured on the same terms.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN", help="Run folders, two or more.")]
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.front import comparable
        from hyperdpo.runs import RunFolder

        if len(self.runs) < 2:
            raise ConfigError(f"A comparison needs two runs or more; got {len(self.runs)}.")
        folders = [RunFolder(path) for path in _all_runs(self.runs)]
        fronts = [replace(_own_front(folder), run=str(folder.path)) for folder in folders]
        try:
            comparable(fronts)
        except ConfigError as error:
            raise ConfigError([*error.problems, _evaluate_hint(fronts)]) from None
        measured = _measured_together(fronts)
        rows = [
            {**_compared(folder, front), **statistics}
            for folder, front, statistics in zip(folders, fronts, measured, strict=True)
        ]
        first = fronts[0]
        terms = {
            "main": first.main,
            "objectives": list(first.objectives),
            "k": first.k,
            "split": first.split,
            "scale": first.scale,
            "beta": list(first.beta),
            "data": first.data,
            "reference": list(first.reference_point),
        }
        notes = _differences(rows)
        return Answer({**terms, "runs": rows, "notes": notes}, self._text(first, rows, notes))

    @staticmethod
    def _text(first: ParetoFront, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
        head = f"{', '.join(first.objectives)}; split {first.split}, c = {first.scale:g}, data {first.data[:12]}"
        headers = ["run", "front", "hypervolume", f"{first.main} NDCG@{first.k} mean", "std", "sparsity", "seconds"]
        headers += ["base s", "parameters", "models", "points", "first / this", "p first is better"]
        shown = []
        for r in rows:
            test = r["against_first"]
            shown.append([
                r["run"], r["front"], _with_interval(r["hypervolume"], r["hypervolume_interval"], 5),
                _with_interval(r["main_mean"], r["main_interval"], 4), r["main_std"], f"{r['sparsity']:.6f}",
                f"{r['seconds']:.1f}", f"{r['base_seconds']:.1f}", r["parameters"], r["models"], r["points"],
                _with_interval(test["ratio"], test["ratio_interval"], 3) if test else None,
                f"{test['p']:.3f}" if test else None,
            ])  # fmt: skip
        lines = [head, "", table(headers, shown, left=2)]
        lines += [
            "",
            "95 % intervals by bootstrap over queries; the same samples for every run, so that tests are paired.",
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in notes)])


def _measured_together(fronts: Sequence[ParetoFront]) -> list[dict[str, Any]]:
    """Intervals of each front, and the paired test of the first against it.

    None where a front was stored without its per-query figures.
    """
    from hyperdpo.paired import Sampled, Samples

    nothing = {"hypervolume_interval": None, "main_interval": None, "sparsity_interval": None, "against_first": None}
    stored = [front.per_query for front in fronts if front.per_query is not None]
    if not stored:
        return [nothing for _ in fronts]
    samples = Samples.draw(stored[0].shape[1], 1)
    each = [None if f.per_query is None else Sampled(f.per_query[None], samples, f.reference_point) for f in fronts]
    first = each[0]
    out = []
    for sampled in each:
        found: dict[str, Any] = dict(nothing)
        if sampled is not None:
            for name, figure in (("hypervolume", "hypervolume"), ("main", "main"), ("sparsity", "sparsity")):
                found[f"{name}_interval"] = sampled.estimate(figure).interval
            if first is not None and sampled is not first:
                found["against_first"] = first.against(sampled).to_dict()
        out.append(found)
    return out


def _with_interval(value: float, interval: Sequence[float] | None, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    return shown if interval is None else f"{shown} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _all_runs(paths: Sequence[Path]) -> list[Path]:
    """The paths, once all of them open. Raises RunError with the problems of every one that does not."""
    from hyperdpo.runs import RunFolder

    problems = []
    for path in paths:
        try:
            RunFolder(path)
        except RunError as error:
            problems += error.problems
    if problems:
        raise RunError(problems)
    return list(paths)


def _own_front(folder: RunFolder) -> ParetoFront:
    """The front of the run itself among those its folder holds. Raises RunError where it holds none."""
    method = folder.config["method"]["method"]
    for front in folder.fronts():
        if front.method == method:
            return front
    raise RunError(f"{folder.path} holds no front of its own; measure it: hyperdpo evaluate {folder.path} --save")


def _evaluate_hint(fronts: Sequence[ParetoFront]) -> str:
    first = fronts[0]
    terms = f"--split {first.split} --k {first.k} --scale {first.scale:g} --save"
    return (
        "Where only split, k or scale differ, measure each run alike: "
        + " ; ".join(f"hyperdpo evaluate {shlex.quote(front.run)} {terms}" for front in fronts)
        + ". Runs of other data, objectives or beta answer other questions."
    )


def _compared(folder: RunFolder, front: ParetoFront) -> dict[str, Any]:
    config = folder.config
    return {
        "run": str(folder.path),
        "front": front.name,
        "method": front.method,
        "hypervolume": front.hypervolume,
        "main_mean": front.main_mean,
        "main_std": front.main_std,
        "sparsity": front.sparsity,
        "seconds": config["seconds"],
        "base_seconds": config["base"].get("seconds", 0.0),
        "parameters": config["parameters"],
        "models": config["models"],
        "points": len(front.ndcg),
        "base": config["base"]["kind"],
        "device": config["device"],
        "seed": config["seed"],
    }


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What does not forbid a comparison but should be known to who reads it."""
    why = {
        "points": "a front of more points covers more",
        "base": "the fronts start from different bases",
        "device": "seconds on different devices are not comparable",
    }
    return [
        f"the runs differ in {key} ({', '.join(str(r[key]) for r in rows)}): {reason}."
        for key, reason in why.items()
        if len({str(r[key]) for r in rows}) > 1
    ]


# --- reproduce ------------------------------------------------------------------------------------------------------


@app.command(name="reproduce")
@dataclass(frozen=True)
class Reproduce:
    """Run a recipe: one table or figure of the paper, or a comparison, with intervals and costs.

    A recipe is recipes/NAME.toml, or a file; without a name all of them are run. What --work holds already is not
    trained again: the same command goes on after a stop.
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME", help="Recipes; all if none is named.")] = ()
    quick: Annotated[bool, arg(help="The small size: minutes on two cores.", help_behavior_hint="")] = False
    work: Annotated[Path, arg(metavar="DIR", help="Keeps data, trained units and results.")] = Path("runs/study")
    data: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=PATH", help="Data that is not made here, such as mslr=MSLR-WEB10K; once for each."),
    ] = ()
    seeds: Annotated[int | None, _flag("As many seeds.", "N", "the recipe's")] = None
    epochs: Annotated[int | None, _flag("At most this many passes, for every model and base.", "N", "as tuned")] = None
    queries: Annotated[int | None, _flag("Lists of the demo data.", "N", "the recipe's")] = None
    jobs: Annotated[int, arg(metavar="J", help="Processes, each with one thread.")] = 1
    device: Device = "auto"
    no_images: Annotated[bool, arg(help="Figures as HTML only, not as PNG and PDF.", help_behavior_hint="")] = False
    json: Json = False

    def execute(self) -> Answer:
        wrong = [
            f"--{name} is a whole number of 1 or more; got {value}."
            for name, value in (("seeds", self.seeds), ("epochs", self.epochs), ("jobs", self.jobs))
            if value is not None and value < 1
        ]
        if wrong:
            raise ConfigError(wrong)
        from hyperdpo.rank.study.recipe import Overrides
        from hyperdpo.rank.study.study import clean, reproduce

        outcomes = reproduce(
            self.names,
            size="quick" if self.quick else "full",
            work=self.work,
            data=self.data,
            jobs=self.jobs,
            device=_device(self.device).type,
            overrides=Overrides(self.seeds, self.epochs, self.queries),
            images=not self.no_images,
            say=_say,
        )
        documents = {
            o.recipe.name: {
                **(o.document or {"skipped": o.text}),
                "files": list(map(str, o.files)),
                "problems": o.problems,
            }
            for o in outcomes
        }
        text = "\n\n".join(
            o.text + ("\n" + "\n".join(f"wrote {file}" for file in o.files) if o.files else "") for o in outcomes
        )
        problems = list(dict.fromkeys(p for o in outcomes for p in o.problems))
        if problems:
            _print(text if not self.json else json.dumps(clean({"recipes": documents})))
            raise ConfigError([f"{len(problems)} units failed; the same command tries them again:", *problems])
        return Answer(clean({"recipes": documents}), text)


@app.command(name="info")
@dataclass(frozen=True)
class Info:
    """What a run is: method, objectives, parameters, base, data, seeds, versions."""

    run: RunPath
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.runs import RunFolder

        folder = RunFolder(self.run)
        config, fronts = folder.config, folder.fronts()
        task = config["task"]
        summary = [
            {key: front.to_dict()[key] for key in ("name", "method", "split", "k", "scale", "hypervolume", "main_mean")}
            for front in fronts
        ]
        document = {
            "run": str(folder.path),
            **{k: v for k, v in config.items() if k not in ("format", "version", "task", "history")},
            "format": config.get("version"),
            "base": {**config["base"], "parameters": _base_parameters(folder)},
            "task": {**task, "features": len(task["features"])},
            "fronts": summary,
        }
        return Answer(_without_nan(document), self._text(folder, document, fronts))

    @staticmethod
    def _text(folder: RunFolder, about: Mapping[str, Any], fronts: Sequence[ParetoFront]) -> str:
        from hyperdpo.objectives import Objective

        method, data, base = about["method"], about["data"], about["base"]
        objectives = [Objective.from_dict(o) for o in about["task"]["objectives"]]
        main = Objective.from_dict(about["task"]["main"])
        lists = ", ".join(f"{count:,} {split}" for split, count in data["lists"].items())
        rounds = sum(t["epochs"] for t in about["training"])
        trees = about.get("trees")
        trained = f"{about['seconds']:.1f} s on {about['device']}, {rounds} {'rounds' if trees else 'epochs'}"
        if method["method"] == "mo-dpo":
            trained += (
                f", {sum(t['seconds'] for t in about['training'] if t['part']):.1f} s of it for the reward models"
            )
        pairs: list[tuple[str, object]] = [
            ("run", folder.path),
            ("method", f"{method['method']}, {about['parametrisation']}; {_options(method, 'method')}"),
            ("main", f"{main.name} (column {main.column}, {_kind(main)})"),
            ("objectives", "\n".join(f"{o.name} (column {o.column}, {_kind(o)})" for o in objectives)),
            ("beta", ", ".join(f"{b:g}" for b in about["beta"])),
            ("trees", _options(trees)) if trees else ("network", _options(about["net"])),
            ("parameters", f"{about['parameters']:,} in {about['models']} model{'s' * (about['models'] > 1)}"),
            ("base", f"{base['kind']}, {base['parameters']:,} parameters, {base.get('seconds', 0):.1f} s"),
            ("training", f"{trained}, processes: {about['processes']}"),
            *([] if trees else [("fit", _options(about["fit"]))]),
            ("data", f"{data['name']} ({lists} lists, {about['task']['features']} features)\n{data['path']}"),
            ("fingerprint", data["fingerprint"]),
            ("split", data["split"]["how"]),
            ("seed", str(about["seed"])),
            ("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
        ]
        return facts(pairs) + (f"\n\n{_fronts_table(fronts)}" if fronts else "")


def _options(values: Mapping[str, Any], *without: str) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in values.items() if k not in without)


def _base_parameters(folder: RunFolder) -> int:
    """Numbers in the base's network, from the file's header; 0 for trees and columns."""
    from safetensors import safe_open

    file = folder.path / "base.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, "np") as tensors:
        return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118


app.command(data_app, name="data", help="Make data folders: from files, or the demo.")
app.command(train_app, name="train", help="Train a run.")


# --- reading data for a run -----------------------------------------------------------------------------------------


def _read_for(run: RankRun, paths: Sequence[Path], *, labels: bool = True, shown: bool = True) -> RankData:
    """The data at `paths`, or the run's own, under the run's roles. Without `labels`, label columns may be missing.

    Raises DataError naming the columns that are missing.
    """
    data = _own_data(run) if not paths else _given_data(run, paths, labels=labels, shown=shown)
    if labels:
        data = run.read(data)
        if data.fingerprint != run.config["data"]["fingerprint"]:
            _say(
                f"note: {data.path} is not the data this run was trained on; its split is its own "
                "(--split all measures every list)"
            )
        return data
    return run.read(data, labels=False)


def _given_data(run: RankRun, paths: Sequence[Path], *, labels: bool, shown: bool) -> RankData:
    """A data folder as it is; files with as many columns as the run needs. Raises what `load_any` raises."""
    from hyperdpo.rank.conversion import checked_inputs, kind_of
    from hyperdpo.rank.data import load_any, open_data

    if len(paths) == 1 and paths[0].is_dir():
        return open_data(paths[0])
    files, _ = checked_inputs(paths, None)
    with _Bar(shown=shown) as bar:
        options: dict[str, Any] = {"progress": lambda file, done, total: bar(f"reading {file}", done, total)}
        if kind_of(files[0]) == "table":
            # A table's main label must be named; where none is needed any column stands in for it.
            main = run.task.main.column if labels else run.task.features[0]
            return load_any(files, main=main, texts=run.config["data"]["origin"].get("texts", []), **options)
        data = load_any(files, **options)
        width = _letor_width(run)
        if width and f"{NUMBERED}{width}" not in data.columns:  # a sparse file whose last columns never occur
            data = load_any(files, n_features=width, **options)
    return data


def _letor_width(run: RankRun) -> int:
    """The highest column number the run reads from LETOR text, or 0 where its columns are not numbered."""
    names = [*run.task.features, *(o.column for o in run.task.labelled)]
    numbers = [int(name[1:]) for name in names if name.startswith(NUMBERED) and name[1:].isdigit()]
    return max(numbers, default=0)


def _own_data(run: RankRun) -> RankData:
    """The data the run was trained on, made again where it is simulated. Raises RunError where it is not to be had."""
    from hyperdpo.rank.data import open_data
    from hyperdpo.rank.sources import source_of

    recorded = run.config["data"]
    path, wanted = Path(recorded["path"]), recorded["fingerprint"]
    give = f"give it with --data (fingerprint {wanted[:12]})"
    if path.is_dir():
        data = open_data(path)
        if data.fingerprint == wanted:
            return data
    source = source_of(recorded["origin"])
    if source is not None:
        data = open_data(source.ensure(recorded["origin"]))
        if data.fingerprint == wanted:
            return data
        raise RunError(f"The simulated data made now is not what {run.folder.path} was trained on; {give}.")
    if path.is_dir():
        raise RunError(f"The data in {path} has changed since {run.folder.path} was trained on it; {give}.")
    raise RunError(f"The data of {run.folder.path} was in {path}, where it is no more; {give}.")


# --- small helpers --------------------------------------------------------------------------------------------------


def _given(flags: Any, *names: str) -> dict[str, Any]:
    """The flags (all fields, or `names`) that were given."""
    listed = names or tuple(f.name for f in fields(flags))
    return {name: value for name in listed if (value := getattr(flags, name)) is not None}


def _numbers(text: str, flag: str, problems: list[str]) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        problems.append(f"{flag} is a number, or several between commas; got {text!r}.")
        return ()


def _check_k(k: int | None) -> None:
    if k is not None and k < 1:
        raise ConfigError(f"NDCG@k needs k of 1 or more; got {k}.")


def _few(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _device(name: str) -> Any:
    from hyperdpo.training import make_accelerator

    return make_accelerator(name).device


def _without_nan(value: Any) -> Any:
    """The same value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    from hyperdpo.files import write_json

    write_json(path, document)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Bar:
    """A progress bar on stderr where a person sees it: on a terminal, and not with --json."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of `what`; another `what` begins another bar."""
        if not self._shown:
            return
        if what != self._what or self._bar is None:
            from tqdm import tqdm

            self._close()
            self._bar, self._what = tqdm(total=total, desc=what, leave=False, dynamic_ncols=True), what
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close()

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            _say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _RunLog:
    """Readable lines to stderr and to train.log, which appears with the first line of training itself.

    Lines before that are kept back: a folder that training refuses, or is about to empty, is not written to.
    """

    def __init__(self, file: Path, bar: _Bar) -> None:
        self._file, self._bar, self._broken = file, bar, False
        self._kept = [f"--- {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} hyperdpo {_version()}"]

    def note(self, line: str) -> None:
        """A line before training has begun."""
        self._bar.say(line)
        self._kept.append(line)

    def log(self, line: str) -> None:
        """A line of training."""
        self.note(line)
        if self._broken:
            return
        try:
            with open(self._file, "a", encoding="utf-8") as file:
                file.writelines(f"{kept}\n" for kept in self._kept)
            self._kept.clear()
        except OSError as error:  # a log is not worth a training
            self._broken = True
            self._bar.say(f"note: {self._file} cannot be written ({error.strerror}); the log goes to the screen only")


# --- the program ----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (the program's own arguments by default) and return its exit status.

    0 done; 2 bad usage or bad input, with the message on stderr; 130 interrupted; 1 a fault of the program.
    """
    # Before torch is imported: threads that spin while they wait slow small networks a hundredfold on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"hyperdpo {_version()}")
        return 0
    try:
        command: Command = app.cli(
            prog="hyperdpo",
            description="One model for every trade-off: train, measure and use conditioned rankers.",
            args=arguments,
            config=(FlagCreatePairsOff,),
        )
    except SystemExit as stop:  # tyro has printed help or what is wrong
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    if _rank() and not isinstance(command, TrainRank):
        return 0  # under `accelerate launch` one process answers; only training has work for the others
    return _answered(command)


def _answered(command: Command) -> int:
    """Execute, print, and turn what went wrong into a message and a status."""
    try:
        answer = command.execute()
        if answer is not None:
            _print(json.dumps(_without_nan(answer.document), allow_nan=False) if command.json else answer.text)
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        return _failed(str(stop) or "Stopped; nothing was written.", INTERRUPTED)
    except HyperDPOError as error:
        return _failed(str(error), BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at exit
        return BROKEN_PIPE
    except OSError as error:
        return _failed(_os_sentence(error), BAD_INPUT)
    except Exception as error:
        return _failed(f"{_fault(error)}", FAILED)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def _failed(message: str, status: int) -> int:
    """Say `message` on stderr, with the traceback under HYPERDPO_DEBUG=1, and return `status`."""
    if os.environ.get("HYPERDPO_DEBUG") == "1":
        traceback.print_exc()
    if not (_rank() and status == INTERRUPTED):
        _say(f"hyperdpo: {message}" if not _rank() else f"hyperdpo (process {_rank()}): {message}")
    return status


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full ({reason}); free some space, then run the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission ({reason}); choose a place you may read or write."
    return f"{where}{reason}; check the path and run the same command again."


def _fault(error: Exception) -> str:
    name = type(error).__name__
    if name in ("OutOfMemoryError", "MemoryError"):
        return "Memory ran out; use --device cpu, a smaller --batch-size, or a smaller --split."
    return f"{name}: {error}\nThis is a fault of the program; HYPERDPO_DEBUG=1 shows where."


def _version() -> str:
    return metadata.version("hyperdpo")


def _rank() -> int:
    """Number of this process under `accelerate launch`; 0 alone."""
    return int(os.environ.get("RANK", "0") or 0)
