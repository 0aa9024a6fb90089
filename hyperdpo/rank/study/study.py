"""`hyperdpo reproduce`: recipes into units, units into tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyperdpo import figures
from hyperdpo.errors import ConfigError, HyperDPOError
from hyperdpo.files import without_nan, write_atomic, write_json
from hyperdpo.methods import EVERY_WEIGHT, members
from hyperdpo.rank.data import check_task
from hyperdpo.rank.study import report, tuning
from hyperdpo.rank.study.recipe import Case, Overrides, Recipe, Size, Variant, find_recipe, is_recipe, read_recipe
from hyperdpo.rank.study.rows import CaseTable, Cell, check_same_queries, make_cell, make_curve
from hyperdpo.rank.study.runner import execute
from hyperdpo.rank.study.sources import Fold, how_to_give, parse_given, prepare
from hyperdpo.rank.study.units import Measure, Measured, Store, Unit, base_unit, measure, method_unit
from hyperdpo.runs import versions
from hyperdpo.weights import lattice_size
from hyperdpo.workers import Say

MOST_POINTS = 1001  # at which a front is measured: exact hypervolume takes minutes for the 3,003 of m = 6
TUNING = "tuning"  # the recipe that all others may rest on; it is not one of "all recipes"


@dataclass(frozen=True)
class Asked:
    """A front that a study needs: of which variant, case, fold and seed, and which unit and measure give it."""

    case: Case
    variant: Variant
    seed: int
    fold: int
    unit: Unit
    measure: Measure


@dataclass
class Outcome:
    """What became of one recipe. `document` is None where it was skipped; `problems` are failed units."""

    recipe: Recipe
    document: dict[str, Any] | None
    text: str
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def recipe_folders() -> list[Path]:
    """Where recipes lie: `recipes/` here, and the repository's."""
    return [Path("recipes"), Path(__file__).resolve().parents[3] / "recipes"]


def reproduce(
    names: Sequence[str],
    *,
    size: Size,
    work: Path,
    data: Sequence[str] = (),
    jobs: int = 1,
    device: str = "cpu",
    overrides: Overrides | None = None,
    folders: Sequence[Path] | None = None,
    images: bool = True,
    say: Say = lambda line: None,
) -> list[Outcome]:
    """Run recipes (all but the tuning, if none is named) and write their tables and figures below `work`.

    What was finished before, by any recipe in the same `work`, is not trained again.

    Args:
        names: recipes or files.
        size: quick or full.
        work: keeps data, runs, figures of units, and the results in NAME-SIZE/.
        data: NAME=PATH of data that is not made here.
        jobs: processes, each with one thread.
        device: cpu or cuda.
        overrides: what a person changes in every recipe.
        folders: where recipes lie.
        images: whether PNG and PDF are tried.
        say: takes progress lines.

    Raises ConfigError with everything that is wrong with the recipes, before anything is trained; Interrupted with the
    trainings' state kept.
    """
    recipes = _read(names, size, work, list(folders or recipe_folders()), overrides)
    given = parse_given(data, {case.data for recipe in recipes for case in recipe.cases})
    store = Store(work, device)
    prepared: dict[Case, list[Fold] | None] = {}
    asked = [_asked(recipe, given, store, prepared, say) for recipe in recipes]
    failed = execute(_merged([a for entry in asked for a in entry]), store, jobs=jobs, say=say)
    return [_finish(r, entry, prepared, store, failed, images, say) for r, entry in zip(recipes, asked, strict=True)]


def _read(
    names: Sequence[str], size: Size, work: Path, folders: Sequence[Path], overrides: Overrides | None
) -> list[Recipe]:
    """All recipes, or ConfigError with the problems of all."""
    if not names:
        files = {
            f.stem: f
            for folder in reversed(folders)
            for f in sorted(folder.glob("*.toml"))
            if is_recipe(f, kind="rank")
        }
        names = sorted(name for name in files if name != TUNING)
        if not names:
            raise ConfigError("There are no recipes here: run this where the folder recipes/ is, or name a file.")
    problems: list[str] = []
    found = []
    for name in names:
        try:
            file = find_recipe(name, folders)
            found.append(read_recipe(file, size, tuned_folders=[work], overrides=overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _asked(
    recipe: Recipe, given: Mapping[str, Path], store: Store, prepared: dict[Case, list[Fold] | None], say: Say
) -> list[Asked]:
    """The fronts a recipe needs of the data that was given.

    Raises ConfigError naming every variant that cannot be trained on a case.
    """
    split = "validation" if recipe.report == TUNING else "test"
    problems: list[str] = []
    out: list[Asked] = []
    for case in recipe.cases:
        if case not in prepared:
            prepared[case] = prepare(case, given, store.work / "data", say)
        for number, fold in enumerate(prepared[case] or []):
            plain = fold.open(case)
            check_task(plain)
            for variant in recipe.variants:
                data = fold.open(case, variant.preset) if variant.preset != "default" else plain
                try:
                    members(variant.config.resolve(data.task.m).method, data.task.m)
                except HyperDPOError as error:
                    problems += [f"{recipe.name}, {case.name}, {variant.label}: {p}" for p in error.problems]
                    continue
                for seed in range(case.seeds or recipe.seeds):
                    config = replace(variant.config, seed=seed)
                    base = base_unit(case, fold, plain, config, store.device)
                    unit = method_unit(
                        case, fold, data, config, base, label=variant.label, preset=variant.preset, device=store.device
                    )
                    for more in _measures(recipe, variant, data.task.m):
                        wanted = measure(unit, scale=variant.scale, at_beta=variant.at_beta, split=split, **more)
                        out.append(Asked(case, variant, seed, number, replace(unit, measures=(wanted,)), wanted))
                    out.append(Asked(case, variant, seed, number, base, base.measures[0]))
    if problems:
        raise ConfigError(problems)
    return out


def _measures(recipe: Recipe, variant: Variant, m: int) -> list[dict[str, Any]]:
    """What is measured of a variant: its front; at a spacing, if it answers any w; as c moves, where ours is named."""
    found: list[dict[str, Any]] = [{}]
    if recipe.steps and variant.config.method.method in EVERY_WEIGHT and lattice_size(m, recipe.steps) <= MOST_POINTS:
        found.append({"steps": recipe.steps})
    if recipe.report == "table" and recipe.ours is not None and (variant.scale, variant.at_beta) == (1.0, None):
        found.append({"curve": True})
    return found


def _merged(asked: Sequence[Asked]) -> list[Unit]:
    """Each unit once, with all that is measured of it; seeds before variants, so that early tables are whole."""
    units: dict[str, Unit] = {}
    for a in asked:
        known = units.get(a.unit.key)
        measures = dict.fromkeys([*(known.measures if known else ()), *a.unit.measures])
        units[a.unit.key] = replace(known or a.unit, measures=tuple(measures))
    return sorted(units.values(), key=lambda u: u.config.seed)


def _finish(
    recipe: Recipe, asked: Sequence[Asked], prepared: Mapping[Case, Sequence[Fold] | None], store: Store,
    failed: Sequence[str], images: bool, say: Say,
) -> Outcome:  # fmt: skip
    """The tables and files of one recipe from what its units kept."""
    skipped = [
        f"{case.name} is left out, because its data was not given: {how_to_give(case.data)}"
        for case in recipe.cases
        if prepared[case] is None
    ]
    tables = _tables(recipe, asked, prepared, store)
    own = {a.unit.label for a in asked}
    problems = [f for f in failed if any(f.startswith(label + ":") for label in own)]
    notes = [*recipe.notes, *skipped]
    if not tables:
        why = problems or [f"{line}." for line in skipped]
        return Outcome(recipe, None, f"{recipe.name} was skipped.\n" + "\n".join(why), problems=problems)
    found = report.document(recipe, tables, notes)
    text = report.text(recipe, found, tables)
    out = store.work / f"{recipe.name}-{recipe.size}"
    files = _write(out, recipe, tables, found, text, images, say)
    if recipe.report == TUNING:
        chosen = tuning.chosen(recipe, tables)
        write_atomic(store.work / tuning.FILE, tuning.to_toml(chosen, recipe))
        found["chosen"] = chosen
        files.append(store.work / tuning.FILE)
        text += "\n\n" + "\n".join(f"{m}: {c['setting']} ({c['seconds']:,.0f} s for {c['settings']} settings)"
                                   for m, c in chosen.items())  # fmt: skip
    return Outcome(recipe, found, text, files, problems)


def _tables(
    recipe: Recipe, asked: Sequence[Asked], prepared: Mapping[Case, Sequence[Fold] | None], store: Store
) -> list[CaseTable]:
    """A table for each case; variants with no finished seed are left out of it."""
    tables = []
    for case in recipe.cases:
        folds = len(prepared[case] or [])
        own = [a for a in asked if a.case == case and a.unit.base is not None]
        plain = [a for a in own if not (a.measure.steps or a.measure.curve)]
        cells = _cells(recipe, case, plain, folds, store)
        dense = _cells(recipe, case, [a for a in own if a.measure.steps], folds, store)
        curves = _finished(recipe, [a for a in own if a.measure.curve], folds, store)
        if cells and set.intersection(*(set(c.seeds) for c in cells)):
            check_same_queries(cells)
            curve_of = {variant.label: make_curve(found) for variant, found in curves}
            tables.append(CaseTable(recipe, case, cells, dense, curve_of))
    return tables


def _cells(recipe: Recipe, case: Case, asked: Sequence[Asked], folds: int, store: Store) -> list[Cell]:
    return [make_cell(case, variant, found) for variant, found in _finished(recipe, asked, folds, store)]


def _finished(
    recipe: Recipe, asked: Sequence[Asked], folds: int, store: Store
) -> Iterator[tuple[Variant, dict[int, list[Measured]]]]:
    """Each variant that has a seed of which every fold is measured, with {seed: what each fold measured}."""
    for variant in recipe.variants:
        keys: dict[int, dict[int, str]] = {}
        for a in asked:
            if a.variant is variant:
                keys.setdefault(a.seed, {})[a.fold] = a.measure.key
        whole = {
            seed: [store.load(found[i]) for i in sorted(found)]
            for seed, found in keys.items()
            if len(found) == folds and all(store.file(k).exists() for k in found.values())
        }
        if whole:
            yield variant, whole


def _write(
    out: Path, recipe: Recipe, tables: Sequence[CaseTable], found: dict[str, Any], text: str, images: bool, say: Say
) -> list[Path]:
    """table.txt, table.csv, result.json, recipe.json and a figure for each case."""
    write_atomic(out / "table.txt", text + "\n")
    write_atomic(out / "table.csv", report.csv_text(found["rows"]))
    write_json(out / "result.json", without_nan({**found, "versions": versions()}))
    write_json(out / "recipe.json", without_nan(json.loads(json.dumps(report.resolved(recipe, tables), default=str))))
    files = [out / name for name in ("table.txt", "table.csv", "result.json", "recipe.json")]
    sentence = None
    for name, figure in report.figures(recipe, tables).items():
        written, sentence = figures.save(figure, out / f"figure-{name}", images=images)
        files += written
    if sentence:
        say(f"{recipe.name}: {sentence}")
    return files
