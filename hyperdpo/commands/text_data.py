"""`hyperdpo label`: scores for lists of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hyperdpo.commands.shared import Answer, Json
from hyperdpo.tables import facts, table


@dataclass(frozen=True)
class Label:
    """Score the responses of a lists file: one JSON object a line with `prompt` and `responses`.

    Scores that are there already are kept.
    """

    file: Annotated[Positional[Path], arg(metavar="FILE", help="Lists as JSON lines, also .gz or .xz.")]
    scorers: Annotated[
        str,
        arg(
            metavar="NAME,..",
            help="Scorers, with commas between: upbeat, concise, brief, vivid, talkative, easy, or your own as "
            "module:function or NAME=module:function.",
        ),
    ]
    out: Annotated[Path, arg(metavar="FILE", help="The file to write; the same one adds to it.")]
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.text.data import read_records, write_records
        from hyperdpo.text.scorers import find_scorers, label_records

        scorers = find_scorers([name.strip() for name in self.scorers.split(",") if name.strip()])
        records = [record for record, _ in read_records(self.file)]
        done = label_records(records, scorers)
        write_records(self.out, done.records)
        responses = sum(len(record["responses"]) for record in done.records)
        document = {"out": str(self.out), "lists": len(records), "responses": responses, "scorers": done.counts}
        rows = [[s.name, s.description, s.unit or "-", *done.counts[s.name].values()] for s in scorers]
        head = facts([("lists", len(records)), ("responses", responses), ("written", self.out)])
        return Answer(document, f"{head}\n\n{table(['scorer', 'what', 'unit', 'added', 'kept', 'none'], rows, left=3)}")
