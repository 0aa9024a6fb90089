"""Recipes: TOML files that say which methods are compared on which data, at a quick and at a full size.

    title = "..."                 what the study shows
    report = "table"              table, sweep (figures against x), distance (between fronts at the same x) or
                                  across (cases against x, which is objectives or train_queries)
    spacing = 0.1                 an across report also counts what every weight at this spacing costs
    ours = "HyperDPO"             the row that the others are tested against
    tuned = "tuned.toml"          settings chosen by `hyperdpo reproduce tuning`, if the file is there
    [[variant]]                   label, any option of MethodConfig or RankConfig; net, fit, base_fit, trees as tables;
                                  `lambda` is the signed penalty; `scale` and `at_beta` are asked of a trained run
    sweep = { alpha = [.1, 1] }   in a variant: one row for each value, which becomes its x
    [published.LABEL]             the paper's figures
    [quick] and [full]            seeds, preset, points, fit ..., only = [labels], draws
    [[quick.case]]                data, objectives, folds, queries, train_queries, simulation

Options are validated by the dataclasses they end up in, so that a recipe can use whatever these can.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from hyperdpo.errors import ConfigError, HyperDPOError, nearest
from hyperdpo.methods import TREES, MethodConfig
from hyperdpo.rank.base import BASE_FIT
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.simulate import Simulation
from hyperdpo.rank.train import PAPER, RankConfig, default_net
from hyperdpo.rank.trees import TreesConfig
from hyperdpo.training import FitConfig
from hyperdpo.weights import check_scale

Size = Literal["quick", "full"]
SIZES: tuple[Size, ...] = ("quick", "full")
REPORTS = ("table", "sweep", "distance", "across", "tuning")
ACROSS = ("objectives", "train_queries")
PRESETS = ("default", "paper")
BOOTSTRAP = 1000
SPACING_SLACK = 1e-6

TOP = ("title", "about", "report", "ours", "x", "tuned", "points", "spacing", "variant", "published", *SIZES)
SIZE = ("seeds", "preset", "fit", "base_fit", "trees", "only", "draws", "case", "base", "tuned", "points")
MEASURING = ("scale", "at_beta")
VARIANT = ("label", "preset", "tuned", "sweep", "reference", *MEASURING)
PUBLISHED = ("hypervolume", "main", "main_std", "seconds", "parameters")
PUBLISHED_SIZE = ("features", "objectives", "source")
TABLES: dict[str, Any] = {"net": NetConfig, "fit": FitConfig, "base_fit": FitConfig, "trees": TreesConfig}
METHOD_OPTIONS = tuple(f.name for f in fields(MethodConfig))
# Seeds belong to the study, and every method of a case stands on one base.
RANK_OPTIONS = tuple(f.name for f in fields(RankConfig) if f.name not in ("method", "seed", "base", *TABLES))
OPTIONS = (*METHOD_OPTIONS, "lambda", *RANK_OPTIONS, *TABLES)


@dataclass(frozen=True)
class Case:
    """One data set with its objectives: every variant is trained and measured on it.

    Attributes:
        name: how the case is called in tables; the data's name unless given.
        data: `demo`, `simulated`, or a name that `--data NAME=PATH` gives.
        objectives: names of the objectives, in order; all that are declared if empty.
        folds: rotate as many folds, so that each query is scored by the models that did not train on it; 0 keeps the
            data's own split.
        queries: lists of the demo; 0 is its frozen size.
        train_queries: train on as many lists only; 0 is all.
        simulation: the shape of simulated data, see `simulate.Simulation`.
        seeds: as many seeds on this case; 0 is the size's own number.
    """

    name: str
    data: str
    objectives: tuple[str, ...] = ()
    folds: int = 0
    queries: int = 0
    train_queries: int = 0
    simulation: Simulation | None = None
    seeds: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{what} is a whole number of {least} or more{or_none}; got {value!r}."
            for what, value, least, or_none in (
                ("folds", self.folds, 3, ", or 0"),
                ("queries", self.queries, 0, ""),
                ("train_queries", self.train_queries, 0, ""),
                ("seeds", self.seeds, 0, ""),
            )
            if not isinstance(value, int) or (value != 0 and value < least)
        ]
        if (self.data == "simulated") != (self.simulation is not None):
            problems.append("simulation gives the shape of data = 'simulated', and of nothing else.")
        if self.queries and self.data != "demo":
            problems.append(f"queries is the size of the demo; got it for data = {self.data!r}.")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Variant:
    """One row of a table: how a run is trained, and how it is asked.

    Attributes:
        label: the row's name.
        series: the variant it was expanded from; rows of one series form a curve over x.
        x: the swept value, or None.
        config: what is trained; the seed and the base are the study's.
        preset: `paper` also keeps the paper's raw softmax of dense labels.
        scale: c of eq. (15) at which it is measured.
        at_beta: temperatures it is asked to answer, or None for those it was trained at.
        tuning_seconds: what the choice of its settings cost, or None where they were not tuned.
        options: what the recipe itself says of this row.
        reference: the series whose fronts at the same x it is measured from, in a distance report.
    """

    label: str
    series: str
    config: RankConfig
    x: float | None = None
    preset: str = "default"
    scale: float = 1.0
    at_beta: tuple[float, ...] | None = None
    tuning_seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A study at one size, resolved."""

    name: str
    title: str
    size: Size
    report: str
    cases: tuple[Case, ...]
    variants: tuple[Variant, ...]
    seeds: int
    about: str = ""
    ours: str | None = None
    x: str = ""
    steps: int = 0
    """1 / spacing, of an across report's lattice; 0 where none is asked for."""
    draws: int = BOOTSTRAP
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    published_size: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overrides:
    """What a person's flags change in every recipe."""

    seeds: int | None = None
    epochs: int | None = None
    queries: int | None = None


def find_recipe(name: str, folders: Iterable[Path]) -> Path:
    """The file of a recipe: a path, or NAME.toml in one of `folders`. Raises ConfigError with the nearest name."""
    known = {file.stem: file for folder in reversed(list(folders)) for file in sorted(folder.glob("*.toml"))}
    known = {stem: file for stem, file in known.items() if is_recipe(file)}
    if name in known:
        return known[name]
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    have = ", ".join(sorted(known)) or "none: run it where the folder recipes/ is, or give a file"
    raise ConfigError(f"There is no recipe {name!r}{nearest(name, known)}; there are {have}.")


def is_recipe(file: Path, *, kind: str | None = None) -> bool:
    """Whether a TOML file of a recipes folder is a recipe (of a `kind`: rank or text), not, say, tuned settings."""
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return kind in (None, "rank")  # reading it as one will say what is wrong
    return "variant" in document and kind in (None, document.get("kind", "rank"))


def read_recipe(
    file: Path, size: Size, *, tuned_folders: Sequence[Path] = (), overrides: Overrides | None = None
) -> Recipe:
    """Read and resolve a recipe.

    Raises ConfigError with everything that is wrong: keys nobody knows (with the nearest name), values out of range,
    missing parts.
    """
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as TOML ({error}).") from None
    reader = _Reader(file.name)
    recipe = reader.recipe(file.stem, document, size, [*tuned_folders, file.parent], overrides or Overrides())
    if reader.problems or recipe is None:
        raise ConfigError(reader.problems)
    return recipe


class _Reader:
    """Turns a document into a Recipe and collects what is wrong on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[str] = []

    def _wrong(self, where: str, what: str) -> None:
        problem = f"{self.file}{f', {where}' if where else ''}: {what}"
        if problem not in self.problems:  # what holds for both sizes, or for each value of a sweep, is said once
            self.problems.append(problem)

    def _unknown(self, where: str, given: Iterable[str], known: Sequence[str]) -> None:
        for key in given:
            if key not in known:
                self._wrong(where, f"no key is called {key!r}{nearest(key, known)}.")

    def _tables(self, where: str, value: Any) -> list[dict[str, Any]]:
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            return value
        self._wrong(where, f"this is a list of tables ([[{where}]]); got {value!r}.")
        return []

    def _table(self, where: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._wrong(where, f"this is a table; got {value!r}.")
        return {}

    def recipe(
        self, name: str, document: dict[str, Any], size: Size, tuned_in: Sequence[Path], overrides: Overrides
    ) -> Recipe | None:
        self._unknown("", document, TOP)
        sections = {s: self._table(s, document.get(s, {})) for s in SIZES}
        for known in SIZES:  # both sizes, so that a slip in the one that is not run is found too
            self._unknown(known, sections[known], SIZE)
            for table in set(TABLES) & set(sections[known]):
                given = self._table(f"{known}.{table}", sections[known][table])
                self._unknown(f"{known}, {table}", given, [f.name for f in fields(TABLES[table])])
        report = document.get("report", "table")
        if report not in REPORTS:
            self._wrong("", f"report is one of {', '.join(REPORTS)}; got {report!r}{nearest(str(report), REPORTS)}.")
        notes: list[str] = []
        expanded: dict[Size, list[Variant]] = {}
        for known in SIZES:
            tuned, said = self._tuned(sections[known].get("tuned", document.get("tuned")), tuned_in)
            expanded[known] = self._variants(document, sections[known], tuned, overrides)
            notes += said if known == size else []
        cases = {known: self._cases(known, sections[known].get("case", []), overrides) for known in SIZES}
        if not cases[size] and not self.problems:
            self._wrong("", f"it has no [[{size}.case]]: there is nothing to run at this size.")
        section, variants = sections[size], expanded[size]
        published = self._published(document.get("published", {}), {v.label for k in SIZES for v in expanded[k]})
        self._labels("", "ours", document.get("ours"), variants)
        series = list(dict.fromkeys(v.series for v in variants))
        for v in variants:
            if v.reference is not None and v.reference not in series:
                hint = nearest(v.reference, series)
                self._wrong(f"variant {v.series!r}", f"reference names a variant; got {v.reference!r}{hint}.")
        if report == "distance" and (not any(v.reference for v in variants) or any(v.x is None for v in variants)):
            self._wrong("", "a distance report needs a sweep in every variant and a reference in some.")
        steps = self._across(report, document, cases)
        seeds = overrides.seeds or section.get("seeds", 1)
        draws = section.get("draws", BOOTSTRAP)
        for what, value in (("seeds", seeds), ("draws", draws)):
            if not isinstance(value, int) or value < 1:
                self._wrong(size, f"{what} is a whole number of 1 or more; got {value!r}.")
        if self.problems:
            return None
        return Recipe(
            name, str(document.get("title", name)), size, report, tuple(cases[size]), tuple(variants), seeds,
            about=str(document.get("about", "")), ours=document.get("ours"),
            x=str(document.get("x", "")), steps=steps, draws=draws, published=published[0], published_size=published[1],
            notes=tuple(notes),
        )  # fmt: skip

    def _across(self, report: Any, document: Mapping[str, Any], cases: Mapping[Size, Sequence[Case]]) -> int:
        """1 / spacing, after a check of what a report across cases needs."""
        spacing = document.get("spacing")
        if report != "across":
            if spacing is not None:
                self._wrong("", "spacing is for report = 'across'; leave it out.")
            return 0
        if document.get("x") not in ACROSS:
            self._wrong("", f"x of a report across cases is {' or '.join(ACROSS)}; got {document.get('x')!r}.")
        if document.get("x") == "train_queries":
            for case in (c for found in cases.values() for c in found if not c.train_queries):
                self._wrong(f"case {case.name!r}", "train_queries is its x and is missing.")
        if spacing is None:
            return 0
        steps: int = round(1 / spacing) if _number(spacing) and 0 < spacing <= 1 else 0
        if not steps or abs(1 / spacing - steps) > SPACING_SLACK:
            self._wrong("", f"spacing is 1 divided by a whole number, such as 0.1; got {spacing!r}.")
        return steps

    def _labels(self, where: str, what: str, label: Any, variants: Sequence[Variant]) -> None:
        labels = [v.label for v in variants]
        if label is not None and label not in labels:
            hint = nearest(str(label), labels)
            self._wrong(where, f"{what} names a row; got {label!r}{hint}; there are {', '.join(map(repr, labels))}.")

    def _published(self, value: Any, labels: set[str]) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
        table = self._table("published", value)
        about = {key: table[key] for key in PUBLISHED_SIZE if key in table}
        rows: dict[str, dict[str, float]] = {}
        for label, figures in table.items():
            if label in about:
                continue
            if label not in labels:
                self._wrong("published", f"no row is called {label!r}{nearest(label, labels)}.")
            rows[label] = self._table(f"published.{label}", figures)
            self._unknown(f"published.{label}", rows[label], PUBLISHED)
        return rows, about

    # --- cases

    def _cases(self, size: str, value: Any, overrides: Overrides) -> list[Case]:
        known = [f.name for f in fields(Case)]
        found: list[Case] = []
        for i, given in enumerate(self._tables(f"{size}.case", value)):
            where = f"{size}.case {i + 1}"
            self._unknown(where, given, known)
            options = {k: v for k, v in given.items() if k in known}
            if "data" not in options:
                self._wrong(where, "data is missing: demo, simulated, or a name for --data NAME=PATH.")
                continue
            options.setdefault("name", options["data"])
            options["objectives"] = tuple(options.get("objectives", ()))
            if overrides.seeds is not None:
                options["seeds"] = overrides.seeds
            if overrides.queries is not None and options["data"] == "demo":
                options["queries"] = overrides.queries
            if "simulation" in options:
                shape = self._table(where, options["simulation"])
                if "items" in shape:
                    shape = {**shape, "items": tuple(shape["items"])}
                options["simulation"] = self._made(f"{where}, simulation", Simulation, shape)
            case = self._made(where, Case, options)
            if case is not None:
                found.append(case)
        names = [case.name for case in found]
        for name in {n for n in names if names.count(n) > 1}:
            self._wrong(size, f"two cases are called {name!r}; give them names.")
        return found

    # --- variants

    def _variants(
        self, document: dict[str, Any], section: dict[str, Any], tuned: Mapping[str, Any], overrides: Overrides
    ) -> list[Variant]:
        """The rows of one size."""
        given = self._tables("variant", document.get("variant", []))
        if not given:
            self._wrong("", "it has no [[variant]]: there is nothing to compare.")
        found: list[Variant] = []
        for i, options in enumerate(given):
            found += self._expanded(
                i, options, section, tuned, overrides, section.get("points", document.get("points"))
            )
        labels = [v.label for v in found]
        for label in sorted({x for x in labels if labels.count(x) > 1}):
            self._wrong("variant", f"two rows are called {label!r}; give each its own label.")
        only = section.get("only")
        if only is None:
            return found
        series = list(dict.fromkeys(v.series for v in found))
        for label in only:
            if label not in series:
                self._wrong("only", f"no variant is called {label!r}{nearest(str(label), series)}.")
        return [v for v in found if v.series in only]

    def _expanded(
        self, index: int, given: dict[str, Any], section: dict[str, Any], tuned: Mapping[str, Any],
        overrides: Overrides, points: Any,
    ) -> list[Variant]:  # fmt: skip
        label = str(given.get("label", given.get("method", f"variant {index + 1}")))
        where = f"variant {label!r}"
        self._unknown(where, given, (*VARIANT, *OPTIONS))
        for name, cls in TABLES.items():
            if name in given:
                self._unknown(f"{where}, {name}", self._table(where, given[name]), [f.name for f in fields(cls)])
        sweep = self._table(where, given.get("sweep", {}))
        if len(sweep) > 1:
            self._wrong(where, f"a variant sweeps over one option; got {', '.join(sweep)}.")
        rows: list[tuple[str, float | None, dict[str, Any]]] = [(label, None, {})]
        for name, values in list(sweep.items())[:1]:
            self._sweepable(where, name)
            if not isinstance(values, list) or not values or not all(map(_number, values)):
                self._wrong(where, f"sweep gives a list of numbers; got {name} = {values!r}.")
                return []
            rows = [(f"{label}, {name} {value:g}", float(value), {name: value}) for value in values]
        own = {k: v for k, v in given.items() if k in (*OPTIONS, *MEASURING)}
        preset = given.get("preset", section.get("preset", "default"))
        if preset not in PRESETS:
            self._wrong(where, f"preset is {' or '.join(PRESETS)}; got {preset!r}.")
            preset = "default"
        # A size's budget is for whom it means something: a method that grows no trees refuses options of trees.
        grown = given.get("method") in TREES
        budget = ("fit", "base_fit", "base", *(("trees",) if grown else ()))
        shared: dict[str, Any] = {k: section[k] for k in budget if k in section}
        if points is not None:
            shared["points"] = points
        chosen = tuned.get(str(given.get("method", "hyperdpo")), {}) if given.get("tuned", True) else {}
        reference = None if given.get("reference") is None else str(given["reference"])
        found = []
        for row, x, swept in rows:
            options = merged(shared, chosen.get("options", {}), own, _nested(swept))
            variant = self._variant(where, row, label, options, preset, x, overrides)
            if variant is not None:
                own_options = merged(own, _nested(swept))
                found.append(
                    replace(variant, tuning_seconds=chosen.get("seconds"), options=own_options, reference=reference)
                )
        return found

    def _sweepable(self, where: str, name: str) -> None:
        table, _, key = name.partition(".")
        if key and table in TABLES:
            self._unknown(f"{where}, sweep", [key], [f.name for f in fields(TABLES[table])])
        else:
            self._unknown(f"{where}, sweep", [name], [*(o for o in OPTIONS if o not in TABLES), *MEASURING])

    def _variant(
        self, where: str, label: str, series: str, options: dict[str, Any], preset: str, x: float | None,
        overrides: Overrides,
    ) -> Variant | None:  # fmt: skip
        scale = self._made(where, lambda: check_scale(options.get("scale", 1.0)), {})
        at_beta = None if options.get("at_beta") is None else self._made(where, _floats, {"value": options["at_beta"]})
        config = self._config(where, options, preset, overrides)
        if config is None or scale is None:
            return None
        return Variant(label, series, config, x, preset, scale, at_beta)

    def _config(self, where: str, options: Mapping[str, Any], preset: str, overrides: Overrides) -> RankConfig | None:
        """The run an option table asks for, from the preset on."""
        start = PAPER if preset == "paper" else RankConfig(base_fit=BASE_FIT)
        method_options = {k: options[k] for k in METHOD_OPTIONS if k in options}
        if "lambda" in options:
            signed = options["lambda"]
            if not _number(signed):
                self._wrong(where, f"lambda is a number, below 0 for the other sign; got {signed!r}.")
                return None
            method_options |= {"penalty": abs(signed), "penalty_sign": "away" if signed < 0 else "toward"}
        method = self._made(where, lambda **o: replace(start.method, **o), method_options)
        parts: dict[str, Any] = {"method": method}
        for name in TABLES:
            given = {k: v for k, v in options.get(name, {}).items() if k in {f.name for f in fields(TABLES[name])}}
            if name in ("fit", "base_fit") and overrides.epochs is not None:
                given["epochs"] = overrides.epochs
            current = getattr(start, name)
            if given:
                current = current or default_net(method.method if method else "hyperdpo")
                parts[name] = self._made(f"{where}, {name}", _replacer(current), given)
        own = {k: options[k] for k in (*RANK_OPTIONS, "base") if k in options}
        if "beta" in own:
            own["beta"] = self._made(where, _floats, {"value": own["beta"]})
        if None in (*parts.values(), own.get("beta", ())):
            return None
        config: RankConfig | None = self._made(where, _replacer(start), {**parts, **own})
        if config is not None:
            config = self._made(where, lambda: _resolvable(config), {})
        return config

    def _made(self, where: str, make: Any, options: Mapping[str, Any]) -> Any:
        """make(**options), or None with its problems noted."""
        try:
            return make(**options)
        except HyperDPOError as error:
            for problem in error.problems:
                self._wrong(where, problem)
        except (TypeError, ValueError) as error:
            self._wrong(where, f"a value has the wrong type ({error}): {dict(options)!r}.")
        return None

    # --- tuned settings

    def _tuned(self, name: Any, folders: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
        """{method: {options, seconds}} of the first file of that name, and what to say where there is none."""
        if name is None or name is False:
            return {}, []
        for folder in folders:
            file = folder / str(name)
            if file.is_file():
                try:
                    return dict(tomllib.loads(file.read_text("utf-8"))["method"]), [f"settings are those of {file}"]
                except (OSError, ValueError, KeyError) as error:
                    self._wrong("tuned", f"{file} cannot be read ({error!r}); `hyperdpo reproduce tuning` writes it.")
                    return {}, []
        return {}, [f"no {name} was found, so defaults were used; `hyperdpo reproduce tuning` writes it"]


def _resolvable(config: RankConfig) -> RankConfig:
    """The config as it is, once it resolves for some m. Raises what `RankConfig.resolve` raises."""
    config.resolve(max(2, len(config.beta)))
    return config


def _replacer(start: Any) -> Any:
    return lambda **options: replace(start, **options)


def merged(*options: Mapping[str, Any]) -> dict[str, Any]:
    """Later options win; tables are merged key by key."""
    out: dict[str, Any] = {}
    for given in options:
        for key, value in given.items():
            out[key] = {**out[key], **value} if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"net.layers": 2} as {"net": {"layers": 2}}."""
    out: dict[str, Any] = {}
    for key, value in options.items():
        table, _, name = key.partition(".")
        out |= {table: {name: value}} if name else {key: value}
    return out


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, list | tuple) else (float(value),)
