"""`hyperdpo train`: from flags and presets to a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from tyro.conf import UseAppendAction, arg

from hyperdpo.commands.shared import (
    GRAMMAR,
    Answer,
    Bar,
    Device,
    Json,
    MainFlag,
    ObjectiveFlag,
    ProgressFlag,
    QidFlag,
    flag,
    fronts_table,
    given,
    label_kind,
    version,
)
from hyperdpo.errors import ConfigError, Interrupted, nearest

if TYPE_CHECKING:
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.run import RankRun
    from hyperdpo.rank.train import RankConfig

TRAIN_PRESETS = ("mslr", "paper")
T = TypeVar("T")

# As in methods.MethodName, spelled again because that module takes torch with it and --help should not wait.
MethodName = Literal["hyperdpo", "dpo-ls", "dpo-soup", "mo-dpo", "hypernetwork", "lambdamart", "label-aggregation"]


@dataclass(frozen=True)
class MethodFlags:
    """The method and how it draws weights."""

    method: Annotated[MethodName | None, flag("The method.", "|".join(get_args(MethodName)), "hyperdpo")] = None
    alpha: Annotated[float | None, flag("Concentration of the Dirichlet.", "FLOAT", "0.5")] = None
    draw: Annotated[
        Literal["list", "step", "balanced"] | None,
        flag("A draw of w per this; balanced: per list, objectives alike.", "list|step|balanced", "list"),
    ] = None
    penalty: Annotated[float | None, flag("Lambda of the alignment penalty.", "FLOAT", "0.0")] = None
    penalty_sign: Annotated[Literal["toward", "away"] | None, flag("Its sign.", "toward|away", "toward")] = None
    points: Annotated[int | None, flag("Weights on the grid; most baselines train a model at each.", "INT", "11")] = (
        None
    )
    beta_range: Annotated[
        float | None, flag("A temperature network draws each beta from 1/R to R times --beta.", "R", "4.0")
    ] = None
    generator_width: Annotated[int | None, flag("Of the MLP that makes a hypernetwork's weights.", "INT", "64")] = None


@dataclass(frozen=True)
class NetFlags:
    """Size of the trained network."""

    width: Annotated[int | None, flag("Hidden width.", "INT", "128; baselines 64")] = None
    layers: Annotated[int | None, flag("Blocks.", "INT", "1; baselines 2")] = None
    heads: Annotated[int | None, flag("Attention heads; 0 judges items one by one.", "INT", "0; baselines 4")] = None
    dropout: Annotated[float | None, flag("On block outputs.", "FLOAT", "0.2")] = None
    use_base: Annotated[bool | None, flag("Whether the base score is one more input.", "True|False", "False")] = None


@dataclass(frozen=True)
class FitFlags:
    """Budget and optimiser."""

    epochs: Annotated[int | None, flag("At most this many passes over the training lists.", "INT", "15; text 3")] = None
    patience: Annotated[
        int | None, flag("Stop after as many epochs without a better validation.", "INT", "6; text 3")
    ] = None
    batch_size: Annotated[int | None, flag("Lists a step, over all processes together.", "INT", "32; text 8")] = None
    learning_rate: Annotated[float | None, flag("Peak of the schedule.", "FLOAT", "0.002")] = None
    warmup: Annotated[float | None, flag("Share of the steps that warm up.", "FLOAT", "0.05")] = None
    weight_decay: Annotated[float | None, flag("AdamW's, on matrices.", "FLOAT", "0.01; text 0.0")] = None
    clip: Annotated[float | None, flag("Largest gradient norm; 0 is none.", "FLOAT", "1.0")] = None
    average: Annotated[
        float | None, flag("Decay of the weights' moving average; 0 is none.", "FLOAT", "0.98; text 0.9")
    ] = None


@dataclass(frozen=True)
class TreeFlags:
    """Boosting of lambdamart and label-aggregation."""

    tree_rounds: Annotated[int | None, flag("Trees: at most this many a model.", "INT", "300")] = None
    tree_patience: Annotated[int | None, flag("Rounds without a better validation NDCG.", "INT", "30")] = None
    tree_learning_rate: Annotated[float | None, flag("Shrinkage.", "FLOAT", "0.05")] = None
    tree_leaves: Annotated[int | None, flag("Leaves of a tree.", "INT", "15")] = None
    tree_min_leaf: Annotated[int | None, flag("Items in a leaf, at least.", "INT", "50")] = None


@dataclass(frozen=True)
class BaseFitFlags:
    """Budget of a transformer base."""

    base_epochs: Annotated[int | None, flag("A transformer base: at most this many passes.", "INT", "40")] = None
    base_patience: Annotated[int | None, flag("The base's patience.", "INT", "6")] = None
    base_batch_size: Annotated[int | None, flag("The base's lists a step.", "INT", "32")] = None
    base_learning_rate: Annotated[float | None, flag("Peak of the base's schedule.", "FLOAT", "0.001")] = None


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
        str | None, flag("The frozen base.", "transformer|lightgbm|column:NAME|run:PATH", "transformer")
    ] = None
    parametrisation: Annotated[
        Literal["mixture", "geometric", "augmentation", "scratch", "film", "temperature"] | None,
        flag("How the network takes w.", "mixture|geometric|augmentation|scratch|film|temperature", "mixture"),
    ] = None
    beta: Annotated[str | None, flag("One temperature, or one per objective.", "B|b1,b2,..", "1.0")] = None
    scaling: Annotated[
        Literal["auto", "standard", "none"] | None, flag("Of the features.", "auto|standard|none", "auto")
    ] = None
    seed: Annotated[int | None, flag("Of everything random.", "INT", "0")] = None
    k: Annotated[int | None, flag("NDCG cut-off of the fronts.", "INT", "10")] = None
    device: Device = "auto"
    resume: Annotated[bool, arg(help="Go on with an interrupted training.", help_behavior_hint="")] = False
    overwrite: Annotated[bool, arg(help="Replace the run that --out holds.", help_behavior_hint="")] = False
    method: Annotated[MethodFlags, arg(name="")] = field(default_factory=MethodFlags)
    net: Annotated[NetFlags, arg(name="")] = field(default_factory=NetFlags)
    fit: Annotated[FitFlags, arg(name="")] = field(default_factory=FitFlags)
    trees: Annotated[TreeFlags, arg(name="")] = field(default_factory=TreeFlags)
    base_fit: Annotated[BaseFitFlags, arg(name="")] = field(default_factory=BaseFitFlags)
    progress: ProgressFlag = None
    json: Json = False

    def execute(self) -> Answer | None:
        with resumable(self.out):
            return self._train()

    def _train(self) -> Answer | None:
        presets = read_presets(self.preset)
        config = self.config(presets)
        from hyperdpo.rank.train import train
        from hyperdpo.training import make_accelerator

        accelerator = make_accelerator(self.device)
        main = accelerator.is_main_process
        with Bar(shown=not self.json and main, file=self.progress if main else None) as bar:
            log = RunLog(self.out / "train.log", bar) if main else None
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
        return _trained_answer(run) if main else None

    def config(self, presets: Sequence[str] = ()) -> RankConfig:
        """What the flags ask for, from the defaults or, with `paper`, from the paper's network, draws and fit.

        Raises ConfigError with all that is out of range at once.
        """
        from hyperdpo.rank.train import PAPER, RankConfig, default_net

        start = PAPER if "paper" in presets else RankConfig()
        asked = Asked()

        base_given = {name.removeprefix("base_"): value for name, value in given(self.base_fit).items()}
        trees_given = {name.removeprefix("tree_"): value for name, value in given(self.trees).items()}
        own = given(self, "parametrisation", "base", "scaling", "seed", "k")
        parts: dict[str, Any] = {
            "method": asked.changed(start.method, given(self.method)),
            "fit": asked.changed(start.fit, given(self.fit)),
            "trees": asked.changed(start.trees, trees_given),
            "base_fit": asked.changed(start.base_fit, base_given),
        }
        if start.net or given(self.net):
            parts["net"] = asked.changed(start.net or default_net(parts["method"].method), given(self.net))
        if self.beta is not None:
            own["beta"] = asked.numbers(self.beta, "--beta")
        asked.raise_any()
        return replace(start, **parts, **own)

    def _open(self, presets: Sequence[str], bar: Bar) -> RankData:
        """The data with its roles, checked for training. Raises what `load_any` and `check_task` raise."""
        from hyperdpo.rank.data import check_task, load_any

        data = load_any(
            self.data,
            preset="mslr" if "mslr" in presets else None,
            main=self.main,
            objectives=self.objective or None,
            base_column=self._base_column(),
            progress=lambda file, done, total: bar(f"reading {file}", done, total),
            **given(self, "qid_column"),
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


def read_presets(given: Sequence[str]) -> list[str]:
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
        *[f"objective {o.name}: column {o.column}, {label_kind(o)}" for o in data.task.objectives],
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
    return Answer(document, f"{run.folder.path}\n\n{fronts_table(fronts)}")


def _few(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Ctrl-C in the block as a sentence on how to go on, where a training in `out` has begun."""
    try:
        yield
    except KeyboardInterrupt:
        if (out / "training").is_dir():
            raise Interrupted(
                f"Stopped. What was finished is kept in {out}; the same command with --resume goes on."
            ) from None
        raise


class Asked:
    """What flags change, with every problem kept until all are known."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def changed(self, part: T, values: Mapping[str, Any]) -> T:
        """A config with these values, or as it was where they are out of range."""
        try:
            return replace(part, **values)  # type: ignore[type-var]
        except ConfigError as error:
            self.problems.extend(error.problems)
            return part

    def numbers(self, text: str, name: str) -> tuple[float, ...]:
        """Numbers between commas."""
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            self.problems.append(f"{name} is a number, or several between commas; got {text!r}.")
            return ()

    def raise_any(self) -> None:
        """Raises ConfigError with all problems, if there are any."""
        if self.problems:
            raise ConfigError(self.problems)


class RunLog:
    """Readable lines to stderr and to train.log, which appears with the first line of training itself.

    Lines before that are kept back: a folder that training refuses, or is about to empty, is not written to.
    """

    def __init__(self, file: Path, bar: Bar) -> None:
        self._file, self._bar, self._broken = file, bar, False
        self._kept = [f"--- {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} hyperdpo {version()}"]

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
