"""`hyperdpo reproduce`: run recipes."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from hyperdpo.commands.shared import (
    Answer,
    Device,
    Json,
    device_of,
    flag,
    print_text,
    say,
)
from hyperdpo.errors import ConfigError
from hyperdpo.files import without_nan

TEXT_DATA = ("model=", "data=")  # of --data, for recipes of text


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
    seeds: Annotated[int | None, flag("As many seeds, of every method alike.", "N", "the recipe's")] = None
    epochs: Annotated[int | None, flag("At most this many passes, for every model and base.", "N", "as tuned")] = None
    queries: Annotated[int | None, flag("Lists of the demo data.", "N", "the recipe's")] = None
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
        from hyperdpo.rank.study.study import reproduce

        ranked, texts = self._sorted()
        told = [self._text_recipe(file) for file in texts]
        if self.names and texts and not ranked:
            documents = {name: document for name, document, _ in told}
            return Answer(without_nan({"recipes": documents}), "\n\n".join(text for _, _, text in told))
        outcomes = reproduce(
            ranked,
            size="quick" if self.quick else "full",
            work=self.work,
            data=[text for text in self.data if not text.startswith(TEXT_DATA)],
            jobs=self.jobs,
            device=device_of(self.device).type,
            overrides=Overrides(self.seeds, self.epochs, self.queries),
            images=not self.no_images,
            say=say,
        )
        documents = {
            o.recipe.name: {
                **(o.document or {"skipped": o.text}),
                "files": list(map(str, o.files)),
                "problems": o.problems,
            }
            for o in outcomes
        }
        documents |= {name: document for name, document, _ in told}
        text = "\n\n".join(
            o.text + ("\n" + "\n".join(f"wrote {file}" for file in o.files) if o.files else "") for o in outcomes
        )
        text = "\n\n".join([text, *(shown for _, _, shown in told)])
        problems = list(dict.fromkeys(p for o in outcomes for p in o.problems))
        if problems:
            print_text(text if not self.json else json.dumps(without_nan({"recipes": documents})))
            raise ConfigError([f"{len(problems)} units failed; the same command tries them again:", *problems])
        return Answer(without_nan({"recipes": documents}), text)

    def _sorted(self) -> tuple[tuple[str, ...], list[Path]]:
        """Ranking recipes by name, and files of text recipes; without names the text ones come with all others."""
        from hyperdpo.rank.study.recipe import find_recipe, is_recipe
        from hyperdpo.rank.study.study import recipe_folders

        if not self.names:
            found = {f.stem: f for folder in reversed(recipe_folders()) for f in sorted(folder.glob("*.toml"))}
            return (), [file for file in found.values() if is_recipe(file, kind="text")]
        texts: dict[str, Path] = {}
        for name in self.names:
            with suppress(ConfigError):  # a name nobody knows is told about together with what else is wrong
                file = find_recipe(name, recipe_folders())
                if is_recipe(file, kind="text"):
                    texts[name] = file
        return tuple(name for name in self.names if name not in texts), list(texts.values())

    def _text_recipe(self, file: Path) -> tuple[str, dict[str, Any], str]:
        """(name, document, text) of one recipe of text."""
        from hyperdpo.text.study import read_text_recipe, reproduce_text

        size = "quick" if self.quick else "full"
        given = dict(text.partition("=")[::2] for text in self.data if text.startswith(TEXT_DATA))
        recipe = read_text_recipe(file, size, data=given, seeds=self.seeds, epochs=self.epochs, lists=self.queries)
        document, text, files = reproduce_text(
            recipe, size, self.work, jobs=self.jobs, device=self.device, images=not self.no_images, say=say
        )
        shown = "\n".join([text, *(f"wrote {file}" for file in files)])
        return recipe.name, {**document, "files": list(map(str, files))}, shown
