"""`hyperdpo evaluate` and `hyperdpo score`: what a run is worth, and what it says of each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from hyperdpo.commands.reading import read_for
from hyperdpo.commands.shared import (
    Answer,
    Device,
    Json,
    RunPath,
    device_of,
    flag,
    fronts_table,
    label_kind,
)
from hyperdpo.commands.text import evaluate_text
from hyperdpo.errors import ConfigError, DataError
from hyperdpo.files import without_nan
from hyperdpo.tables import table

if TYPE_CHECKING:
    from hyperdpo.front import ParetoFront
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.run import RankRun


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
        flag("Other temperatures, if the run can answer them.", "b1,b2,..|clicks=.5,..", "the training ones"),
    ] = None
    scale: Annotated[float, arg(help="c: how far to go from the base; 1 is as trained.")] = 1.0
    k: Annotated[int | None, flag("NDCG cut-off.", "INT", "the run's, 10 unless trained otherwise")] = None
    out: Annotated[Path | None, flag("Also write the fronts to this file.", "front.json")] = None
    baseline: Annotated[tuple[Path, ...], arg(metavar="RUN", help="Other runs of the same objectives.")] = ()
    follow: Annotated[int, arg(help="Text: also sample so many texts at each weight and score them.")] = 0
    save: Annotated[bool, arg(help="Keep these fronts in the run folder.", help_behavior_hint="")] = False
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.files import write_json
        from hyperdpo.rank.evaluate import evaluate_run
        from hyperdpo.rank.run import RankRun
        from hyperdpo.runs import RunFolder
        from hyperdpo.weights import check_scale

        check_scale(self.scale)
        if RunFolder(self.run).config["kind"] == "text":
            return evaluate_text(self)
        if self.follow:
            raise ConfigError("--follow samples texts: it is for text runs.")
        _check_k(self.k)
        run = RankRun(self.run)
        others = [RankRun(path) for path in self.baseline]
        _check_baselines(run, others, same_beta=self.beta is None)
        run.temperatures(self.beta)  # before the data is read: it may be large
        data = read_for(run, self.data, shown=not self.json)
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
            device=device_of(self.device),
            save=self.save,
        )
        about = {"run": str(run.folder.path), "measured_on": str(data.path), "lists": len(data.queries(self.split))}
        document = {**_fronts_document(fronts), **about}
        if self.out is not None:
            write_json(self.out, document)
        return Answer(document, self._text(run, data, document, fronts))

    def _text(self, run: RankRun, data: RankData, document: dict[str, Any], fronts: list[ParetoFront]) -> str:
        k = fronts[0].k
        lists = len(data.queries(self.split))
        head = f"{run.name} on {data.name}, split {self.split}, {lists:,} lists, c = {self.scale:g}"
        parts = [f"{head}\n\n{fronts_table(fronts)}"]
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
    clean: dict[str, Any] = without_nan(document)
    return clean


def _interval(value: float | None, interval: Mapping[str, float | None]) -> str:
    low, high = interval["low"], interval["high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


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
    return f"{value.name}={value.column} ({label_kind(value)})" if hasattr(value, "normalisation") else repr(value)


def _check_k(k: int | None) -> None:
    if k is not None and k < 1:
        raise ConfigError(f"NDCG@k needs k of 1 or more; got {k}.")


@dataclass(frozen=True)
class Score:
    """Score every item of a data set at one (w, c): one score a line, in input order; higher ranks first."""

    run: RunPath
    data: Annotated[tuple[Path, ...], arg(metavar="DIR|FILE", help="What to score; label columns are not needed.")]
    weights: Annotated[str, arg(metavar=".3,.7|clicks=.3,quality=.7", help="Importance weights, which sum to 1.")]
    out: Annotated[Path, arg(metavar="FILE", help="The file to write.")]
    beta: Annotated[
        str | None,
        flag("Other temperatures, if the run can answer them.", "b1,b2,..|clicks=.5,..", "the training ones"),
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
        data = read_for(run, self.data, labels=False, shown=not self.json)
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
