"""`hyperdpo export`: one trade-off of a run as a model that needs nothing of this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from hyperdpo.commands.shared import Answer, Json, RunPath, flag
from hyperdpo.errors import ConfigError

Format = Literal["onnx", "peft", "merged"]


@dataclass(frozen=True)
class Export:
    """Write one trade-off of a run as a model that needs nothing of this package: ONNX for ranking, PEFT for text."""

    run: RunPath
    weights: Annotated[str, arg(metavar=".5,.5|clicks=.5,quality=.5", help="Importance weights, which sum to 1.")]
    out: Annotated[Path, arg(metavar="FILE|DIR", help="The .onnx file, or the folder of a text model, to write.")]
    format: Annotated[
        Format | None,
        flag(
            "onnx for ranking runs; for text ones a PEFT adapter on a plain base, or one merged model.",
            "onnx|peft|merged",
            "onnx; text peft",
        ),
    ] = None
    scale: Annotated[float, arg(help="c; a text run can only be exported at 1.")] = 1.0
    beta: Annotated[
        str | None,
        flag("Other temperatures, if the run can answer them.", "b1,b2,..|clicks=.5,..", "the training ones"),
    ] = None
    base: Annotated[
        str | None, flag("Where a text run's base model is.", "NAME_OR_PATH", "where it was trained from")
    ] = None
    json: Json = False

    def execute(self) -> Answer:
        from hyperdpo.runs import RunFolder

        kind = RunFolder(self.run).config["kind"]
        problems = []
        if kind == "text":
            if self.format == "onnx":
                problems.append("--format onnx is for ranking runs; a text run is written as peft or merged.")
            if self.beta is not None:
                problems.append("--beta is for ranking runs; train a text run at the temperatures it shall have.")
        else:
            if self.format in ("peft", "merged"):
                problems.append(f"--format {self.format} is for text runs; a ranking run is written as onnx.")
            if self.base is not None:
                problems.append("--base is for text runs; a ranking run holds its base.")
        if problems:
            raise ConfigError(problems)
        return self._text() if kind == "text" else self._rank()

    def _rank(self) -> Answer:
        from hyperdpo.rank.export import export_rank
        from hyperdpo.rank.run import RankRun

        run = RankRun(self.run)
        weights = run.weights(self.weights)
        files = export_rank(run, weights, self.out, scale=self.scale, beta=self.beta)
        return self._answer("onnx", [o.name for o in run.objectives], weights.tolist(), list(map(str, files)))

    def _text(self) -> Answer:
        from hyperdpo.text.export import export_text
        from hyperdpo.text.run import TextRun

        run = TextRun(self.run, device="cpu", base=self.base)
        weights, kind = run.weights(self.weights), self.format or "peft"
        export_text(run, weights, self.out, kind=kind, scale=self.scale)
        files = sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*") if p.is_file())
        return self._answer(kind, run.names, weights.tolist(), files)

    def _answer(self, kind: str, names: list[str] | tuple[str, ...], weights: list[float], files: list[str]) -> Answer:
        document = {
            "run": str(self.run),
            "out": str(self.out),
            "format": kind,
            "weights": {name: round(w, 7) for name, w in zip(names, weights, strict=True)},
            "scale": self.scale,
            "files": files,
        }
        return Answer(document, f"{self.out}: {', '.join(files)}")
