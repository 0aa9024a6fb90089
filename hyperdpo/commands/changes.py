"""`hyperdpo changes`: the lists that change most between two choices of (w, c) (issue 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from hyperdpo.commands.reading import read_for
from hyperdpo.commands.shared import Answer, Device, Json, RunPath, device_of, flag
from hyperdpo.errors import ConfigError, DataError
from hyperdpo.files import without_nan
from hyperdpo.tables import table

if TYPE_CHECKING:
    import torch

    from hyperdpo.rank.changes import Changes, Position
    from hyperdpo.rank.data import RankData
    from hyperdpo.rank.live import ListTable
    from hyperdpo.rank.run import RankRun

CHOICE = "base|.3,.7@1.5|clicks=.3,quality=.7"
LONGEST = 48  # letters of a query in the table


@dataclass(frozen=True)
class WhatChanges:
    """The lists whose order changes most between two choices, and what that does to the main score."""

    run: RunPath
    to: Annotated[str, arg(metavar=CHOICE, help="The choice after: weights, and @c where c is not 1.")]
    before: Annotated[str, arg(name="from", metavar=CHOICE, help="The choice before.")] = "base"
    data: Annotated[
        tuple[Path, ...], arg(metavar="DIR|FILE", help="Data to measure on.", help_behavior_hint="(default: the run's)")
    ] = ()
    split: Annotated[Literal["train", "validation", "test", "all"], arg(help="Which lists.")] = "test"
    only: Annotated[Literal["all", "gained", "lost"], arg(help="Lists whose main score rises, or falls.")] = "all"
    top: Annotated[int, arg(help="How many lists.")] = 20
    k: Annotated[int | None, flag("NDCG cut-off.", "INT", "the run's, 10 unless trained otherwise")] = None
    device: Device = "auto"
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.changes import compare, read_position
        from hyperdpo.rank.run import RankRun

        wrong = [f"--{n} is 1 or more; got {v}." for n, v in (("top", self.top), ("k", self.k)) if v and v < 1]
        if wrong or not self.top:
            raise ConfigError(wrong or f"--top is 1 or more; got {self.top}.")
        run = RankRun(self.run)
        pair = [read_position(text, run.weights) for text in (self.before, self.to)]
        for position in pair:
            if position is not None:
                _ask(run, position)  # before the data is read: it may be large
        data = read_for(run, self.data, shown=not self.json)
        lists = data.lists(self.split)
        if not len(lists):
            raise DataError(f"{data.path} has no list in the split {self.split!r}; choose another --split.")
        measured, features = run.table(lists, device=device_of(self.device))
        scores = [_scores(run, measured, features, position) for position in pair]
        k = self.k or int(run.config["k"])
        return self._answer(run, data, measured, compare(measured, *scores, k=k))

    def _answer(self, run: RankRun, data: RankData, measured: ListTable, found: Changes) -> Answer:
        names = [run.task.main.name, *(o.name for o in run.objectives)]
        numbers = found.most(self.only, self.top).tolist()
        index = measured.lists.query_index.tolist()
        texts, qids = data.query_texts, data.qids
        rows = [
            {
                "list": i,
                "qid": qids[index[i]],
                "query": texts[index[i]],
                "items": int(measured.lists.sizes[i]),
                "distance": float(found.distance[i]),
                "entered": int(found.entered[i]),
                "before": dict(zip(names, found.before[i].tolist(), strict=True)),
                "after": dict(zip(names, found.after[i].tolist(), strict=True)),
            }
            for i in numbers
        ]
        about: dict[str, Any] = {"run": str(run.folder.path), "measured_on": str(data.path), "split": self.split}
        about |= {"from": self.before, "to": self.to, "k": found.k, "only": self.only, "counts": found.counts()}
        return Answer(without_nan({**about, "lists": rows}), self._text(rows, found, names[0]))

    def _text(self, rows: list[dict[str, Any]], found: Changes, main: str) -> str:
        said = changed_sentence(found, f"From {self.before} to {self.to}", main)
        if not rows:
            return said if not found.counts()["changed"] else f"{said}\nNone of the changed lists has {self.only}."
        head = ["query", "list", "items", "change", f"new in top {found.k}", f"{main} before", "after", "gain"]
        body = [
            [
                row["query"][:LONGEST],
                row["list"],
                row["items"],
                row["distance"],
                row["entered"],
                row["before"][main],
                row["after"][main],
                row["after"][main] - row["before"][main],
            ]
            for row in rows
        ]
        note = (
            f"change: 0 for the same order, towards 1 the less the tops of the lists share (1 - rank-biased overlap);\n"
            f"the first ten places carry 86 % of it. {main}: NDCG@{found.k}."
        )
        return f"{said}\n\n{table(head, body)}\n\n{note}"


def changed_sentence(found: Changes, between: str, main: str) -> str:
    """How many lists change, and in which direction the main score goes."""
    counts = found.counts()
    if not counts["changed"]:
        return f"{between}, nothing changes: both rank all {counts['lists']:,} lists alike."
    level = counts["lists"] - counts["gained"] - counts["lost"] - counts["unknown"]
    rest = f"; {counts['unknown']:,} have no positive label for it" if counts["unknown"] else ""
    return (
        f"{between}, {counts['changed']:,} of {counts['lists']:,} lists change their order. {main} NDCG@{found.k} "
        f"rises for {counts['gained']:,}, falls for {counts['lost']:,} and stays for {level:,}{rest}."
    )


def _ask(run: RankRun, position: Position) -> None:
    """Raises WeightsError where the run has no model for these weights."""
    import torch

    run.answer(torch.tensor(position.weights))


def _scores(run: RankRun, measured: ListTable, features: torch.Tensor, position: Position | None) -> torch.Tensor:
    """Scores (q, n) at a choice; the base's for None."""
    import torch

    from hyperdpo.control import scaled_scores
    from hyperdpo.rank.live import LiveModel

    if position is None:
        return measured.base
    w = torch.tensor(position.weights)
    residual = LiveModel(run.ranker_for(w), measured, features).residual(w)
    return scaled_scores(measured.base, residual, position.scale)
