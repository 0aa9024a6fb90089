"""`hyperdpo data`: make data folders, from files or simulated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from hyperdpo.commands.shared import (
    Answer,
    Bar,
    Json,
    MainFlag,
    ObjectiveFlag,
    Out,
    QidFlag,
    flag,
    given,
    label_kind,
    say,
)
from hyperdpo.errors import ConfigError
from hyperdpo.tables import facts, table

if TYPE_CHECKING:
    from hyperdpo.rank.data import RankData


@dataclass(frozen=True)
class DataConvert:
    """Read LETOR, CSV or Parquet files into a data folder.

    Lists are split by query: as --train/--validation/--test say; else by the files' names; else 60/20/20 at random.
    """

    out: Annotated[Out, arg(help="The data folder to write.")]
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE", help="Files of one kind, also .gz or .xz.")] = ()
    preset: Annotated[str | None, flag("Column roles of a known data set.", "mslr")] = None
    main: MainFlag = None
    objective: ObjectiveFlag = ()
    base_column: Annotated[str | None, flag("Column of ready base scores.", "COLUMN")] = None
    qid_column: QidFlag = None
    features: Annotated[int | None, flag("LETOR only: as many columns, even if the last never occur.", "INT")] = None
    text: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="COLUMN[:REFERENCE_COLUMN]",
            help="Tables only: a text column to count features of (words, overlap ...), by itself and against another "
            "column or the list's other items; once for each.",
        ),
    ] = ()
    split_seed: Annotated[int, arg(help="Of the random split.")] = 0
    name: Annotated[str | None, flag("What to call the data.", "NAME", "from the files' names")] = None
    train: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the training split.")] = ()
    validation: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the validation split.")] = ()
    test: Annotated[tuple[Path, ...], arg(metavar="FILE", help="Files of the test split.")] = ()
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.data import convert

        splits = {s: getattr(self, s) for s in ("train", "validation", "test") if getattr(self, s)}
        if splits and self.files:
            raise ConfigError("Give FILE..., or --train, --validation and --test, not both.")
        with Bar(shown=not self.json) as bar:
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


@dataclass(frozen=True)
class DataDemo:
    """Make the demo data: a simulated marketplace whose best possible fronts are known."""

    out: Annotated[Out, arg(help="The data folder to write.")]
    queries: Annotated[int | None, flag("How many lists.", "INT", "3000")] = None
    seed: Annotated[int | None, flag("Of everything random.", "INT", "0")] = None
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.demo import make_demo

        return _data_answer(
            make_demo(self.out, **given(self, "queries", "seed"), progress=lambda what, *counts: say(what))
        )


@dataclass(frozen=True)
class DataSimulate:
    """Make simulated data of any shape whose expected labels, and so its best possible fronts, are known exactly."""

    out: Annotated[Out, arg(help="The data folder to write.")]
    queries: Annotated[int | None, flag("How many lists; split 60/20/20.", "INT", "1000")] = None
    items: Annotated[tuple[int, int] | None, flag("Shortest and longest list.", "FROM TO", "20 60")] = None
    features: Annotated[int | None, flag("Features an item.", "INT", "40")] = None
    objectives: Annotated[int | None, flag("Auxiliary objectives.", "INT", "2")] = None
    dense: Annotated[int | None, flag("How many of them have dense labels, the last ones.", "INT", "half")] = None
    clicks: Annotated[int | None, flag("Draws a list of a sparse label; 1 is one-hot.", "INT", "5")] = None
    conflict: Annotated[float | None, flag("How far the objectives pull apart, 0 to 1.", "FLOAT", "0.7")] = None
    seed: Annotated[int | None, flag("Of everything random.", "INT", "0")] = None
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.rank.simulate import Simulation, simulate

        shape = Simulation(**{name: value for name, value in given(self).items() if name not in ("out", "json")})
        with Bar(shown=not self.json) as bar:
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
            [o.name, o.column, label_kind(o), f"{known['min']:g}", f"{known['max']:g}", known["uninformative"]["train"]]
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
            *([("skipped", ", ".join(data.skipped))] if data.skipped else []),
            *[("note", note) for note in notes],
        ]
    )
    return Answer(document, f"{head}\n\n{lists}\n\n{labels}")
