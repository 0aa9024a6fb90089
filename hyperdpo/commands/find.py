"""`hyperdpo find`: the (w, c) of a ranking run that gives most of something under limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from hyperdpo.commands.reading import read_for
from hyperdpo.commands.shared import Answer, Device, Json, RunPath, device_of, flag
from hyperdpo.errors import ConfigError, HyperDPOError
from hyperdpo.files import without_nan
from hyperdpo.tables import table

if TYPE_CHECKING:
    from hyperdpo.finding import Limit, Question
    from hyperdpo.rank.find import Finder, Found, Told, Verdict

LIMIT = "NAME=99%|+2%|0.45"


@dataclass(frozen=True)
class Find:
    """Find the (w, c) that gives most of a goal under limits: chosen on validation lists, told of on test lists."""

    run: RunPath
    goal: Annotated[
        str | None, flag("What there is to be as much of as possible: an objective, the main one, or all.", "NAME|all")
    ] = None
    at_least: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar=LIMIT, help="A limit: percent of the base, percent more than it, or NDCG. Once for each."),
    ] = ()
    near: Annotated[
        str | None, flag("Instead of a goal: the point nearest to these NDCG values on test.", "clicks=.4,quality=.5")
    ] = None
    sure: Annotated[float, arg(help="How probable each limit is to hold on other lists; 0.5 leaves no margin.")] = 0.5
    data: Annotated[
        tuple[Path, ...], arg(metavar="DIR|FILE", help="Data to find on.", help_behavior_hint="(default: the run's)")
    ] = ()
    k: Annotated[int | None, flag("NDCG cut-off.", "INT", "the run's, 10 unless trained otherwise")] = None
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.find import open_finder
        from hyperdpo.rank.run import RankRun
        from hyperdpo.runs import RunFolder

        if RunFolder(self.run).config["kind"] == "text":
            raise ConfigError("find is for ranking runs: a text run's objectives are measured on written answers.")
        asked = self._asked()
        run = RankRun(self.run)
        if not isinstance(asked, dict):
            asked.checked((run.task.main.name, *(o.name for o in run.objectives)))  # before the data is read
        data = read_for(run, self.data, shown=not self.json)
        finder = open_finder(run, data, device=device_of(self.device))
        k = int(run.config["k"]) if self.k is None else self.k
        if isinstance(asked, dict):
            return _nearest_answer(finder, asked, k)
        return _answer(finder, finder.find(asked, k))

    def _asked(self) -> Question | dict[str, float]:
        """The question, or the target of --near. Raises ConfigError with all that is wrong with either."""
        from hyperdpo.finding import Question, parse_limit

        problems: list[str] = []
        if (self.goal is None) == (self.near is None):
            problems.append("Give --goal NAME (and --at-least limits), or --near NAME=VALUE,..: one of the two.")
        if self.near is not None and self.at_least:
            problems.append("--near takes no limits; leave --at-least out.")
        if self.k is not None and self.k < 1:
            problems.append(f"NDCG@k needs k of 1 or more; got {self.k}.")
        limits: list[Limit] = []
        for text in self.at_least:
            try:
                limits.append(parse_limit(text))
            except HyperDPOError as error:
                problems += error.problems
        target = _target(self.near, problems) if self.near is not None else {}
        if problems:
            raise ConfigError(problems)
        return target if self.goal is None else Question(self.goal, tuple(limits), self.sure)


def _target(text: str, problems: list[str]) -> dict[str, float]:
    """`clicks=.4,quality=.5` as a mapping; what cannot be read is added to `problems`."""
    out: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        try:
            out[name.strip()] = float(value)
        except ValueError:
            problems.append(f"--near takes NAME=VALUE,..; got {part!r} in {text!r}.")
    return out


def _answer(finder: Finder, found: Found) -> Answer:
    from hyperdpo.rank.find import CHOSEN_ON, TOLD_ON

    question = found.question
    document = {
        "run": str(finder.run.folder.path),
        "goal": question.goal,
        "at_least": [str(limit) for limit in question.limits],
        "sure": question.sure,
        "k": found.k,
        "fits": found.fits,
        "chosen_on": CHOSEN_ON,
        "told_on": TOLD_ON,
        **_told_document(finder, found.answer, found.k),
        "limits": [_verdict_document(v) for v in found.verdicts],
        "points_measured": found.measured,
    }
    head = f"As much of {question.goal} as possible" + "".join(f", {limit}" for limit in question.limits)
    if not found.fits:
        head += f"\nNo (w, c) keeps every limit on the {CHOSEN_ON} lists; this one misses them least:"
    parts = [head + "\n\n" + _told_text(finder, found.answer, found.k)]
    if found.verdicts:
        parts.append(_limits_text(found))
    return Answer(_clean(document), "\n\n".join(parts))


def _nearest_answer(finder: Finder, target: dict[str, float], k: int) -> Answer:
    told = finder.told_of(finder.nearest(target, k), k)
    document = {"run": str(finder.run.folder.path), "near": target, "k": k, **_told_document(finder, told, k)}
    wanted = ", ".join(f"{name} {value:g}" for name, value in target.items())
    return Answer(_clean(document), f"Nearest to {wanted}\n\n{_told_text(finder, told, k)}")


def _clean(document: dict[str, Any]) -> dict[str, Any]:
    clean: dict[str, Any] = without_nan(document)
    return clean


def _told_document(finder: Finder, told: Told, k: int) -> dict[str, Any]:
    base = finder.told.base(k).ndcg
    figures = {}
    for i, (name, change) in enumerate(zip(finder.names, told.change, strict=True)):
        figures[name] = {
            "validation": float(told.chosen.ndcg[i]),
            "test": float(told.told.ndcg[i]),
            "base": float(base[i]),
            "change": {"mean": change.mean, "low": change.low, "high": change.high},
            "queries": change.queries,
            "skipped": change.skipped,
        }
    weights = dict(zip(finder.names[1:], told.weights, strict=True))
    return {"weights": weights, "scale": told.spot.scale, "ndcg": figures}


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": verdict.limit.name,
        "at_least": verdict.limit.value,
        "of_base": verdict.limit.relative,
        "validation": verdict.chosen,
        "test": verdict.told,
        "interval": [verdict.low, verdict.high],
        "probability": verdict.probability,
        "held_on_validation": verdict.held,
    }
    if verdict.gain_told is not None and verdict.relaxed is not None and verdict.there is not None:
        out["one_percent_less"] = {
            "at_least": verdict.relaxed.value,
            "goal_gain_validation": verdict.gain,
            "goal_gain_test": verdict.gain_told.mean,
            "interval": [verdict.gain_told.low, verdict.gain_told.high],
            "weights": verdict.there.weights.tolist(),
            "scale": verdict.there.scale,
        }
    return out


def _told_text(finder: Finder, told: Told, k: int) -> str:
    weights = ",".join(f"{name}={w:g}" for name, w in zip(finder.names[1:], told.weights, strict=True))
    base = [side.base(k).ndcg for side in (finder.chosen, finder.told)]
    rows = []
    for i, (name, change) in enumerate(zip(finder.names, told.change, strict=True)):
        origin = float(base[1][i])
        between = f"{_percent(origin + change.low, origin)} to {_percent(origin + change.high, origin)}"
        rows.append(
            [
                name,
                float(told.chosen.ndcg[i]),
                _percent(float(told.chosen.ndcg[i]), float(base[0][i])),
                float(told.told.ndcg[i]),
                _percent(float(told.told.ndcg[i]), origin),
                between,
                change.queries,
            ]
        )
    head = [f"NDCG@{k}", "validation", "of the base", "test", "of the base", "95 %", "test lists"]
    return f"--weights {weights} --scale {told.spot.scale:g}\n\n{table(head, rows)}"


def _limits_text(found: Found) -> str:
    rows = []
    for v in found.verdicts:
        gain = v.gain_told
        price = "-" if gain is None else f"{100 * gain.mean:+.1f} % ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        rows.append([str(v.limit), "yes" if v.held else "no", f"{v.probability:.3f}", price])
    goal = found.question.goal
    head = ["limit", "kept on validation", "probability on test", f"{goal}, if it were one percent less"]
    return table(head, rows)


def _percent(value: float, origin: float) -> str:
    return f"{100 * value / origin:.1f} %" if origin > 0 and math.isfinite(value) else "-"
