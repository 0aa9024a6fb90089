"""`hyperdpo reproduce` of a text recipe: train every method on the same preferences, and print them beside the paper.

A recipe with `kind = "text"`:

    title, about          what is shown
    [quick] / [full]      model, data, objectives, lists, more_test (so many lists beyond those, which no training sees,
                          are tested on too), beta, anchor, seeds, points, follow, and tables fit, tokens, prompt
    [[variant]]           label, method; seeds where it has fewer than the size; any option of the method; replicas;
                          distil; compared = true where every row is compared with it, as with the first HyperDPO; what
                          is its own: prompt and, by size, quick = { fit, prompt } and full = { .. }
    [published."LABEL"]   the paper's figures

Every (variant, seed) is a run folder of its own below --work; what is finished there is not trained again, and recipes
share it. With several jobs each training is a process of one thread.
"""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperdpo import figures
from hyperdpo.errors import ConfigError, nearest
from hyperdpo.files import without_nan, write_atomic, write_json
from hyperdpo.front import ParetoFront
from hyperdpo.methods import MethodConfig, members
from hyperdpo.paired import Sampled, Samples
from hyperdpo.runs import read_fronts, write_fronts
from hyperdpo.tables import table
from hyperdpo.text.data import Preferences, load_preferences, part_of_run
from hyperdpo.text.evaluate import TextTable, base_front, decoding_front, run_front
from hyperdpo.text.follow import follow, spread_prompts
from hyperdpo.text.model import PromptConfig
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TokenConfig
from hyperdpo.text.train import DEFAULT_METHOD, TextConfig, train
from hyperdpo.training import FitConfig
from hyperdpo.workers import Pace, Progress, Say, Workers, locked

_AS_GIVEN = ("precision", "micro", "checkpointing", "anchor")  # options of every training
SIZE_KEYS = (
    "model", "data", "objectives", "lists", "more_test", "beta", "seeds", "points", "follow", "fit", "tokens", "prompt",
    *_AS_GIVEN,
)  # fmt: skip
# of a variant: what is not an option of its method
_OWN = ("label", "seeds", "decoding", "replicas", "distil", "compared", "prompt", "quick", "full")
VARIANT_KEYS = (*_OWN, "method", "alpha", "draw", "penalty", "penalty_sign")
OURS = "hyperdpo"


@dataclass(frozen=True)
class Variant:
    """One row: what readers see, the method, and how many of the size's seeds it is trained with.

    `decoding`: the models of a soup are mixed at every token instead of averaged. `prompt`, `fit`: what the method has
    of its own where the recipe's settings do not serve it best. `compared`: every row is compared with this one too.
    """

    label: str
    method: MethodConfig
    seeds: int
    decoding: bool = False
    prompt: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    replicas: int = 1
    distil: int = 0
    compared: bool = False

    def config(self, common: TextConfig, seed: int) -> TextConfig:
        """The recipe's settings with the method's own."""
        prompt, fit = replace(common.prompt, **self.prompt), replace(common.fit, **self.fit)
        return replace(
            common, method=self.method, prompt=prompt, fit=fit, replicas=self.replicas, distil=self.distil, seed=seed
        )


@dataclass(frozen=True)
class TextRecipe:
    """A recipe at one size, read and checked."""

    name: str
    title: str
    about: str
    model: str
    data: tuple[str, ...]
    objectives: tuple[str, ...]
    lists: int | None
    more_test: int
    config: TextConfig
    points: int
    follow: int
    variants: tuple[Variant, ...]
    published: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Lists:
    """What a study trains on and what it tests on.

    Attributes:
        preferences: the lists that every training splits.
        more: lists with other prompts than those, tested on beside the test part; None where there are none.
    """

    preferences: Preferences
    more: Preferences | None = None

    @classmethod
    def load(cls, recipe: TextRecipe) -> Lists:
        """The first `lists` of the recipe's data, and the `more_test` after them."""
        files, objectives = list(recipe.data), list(recipe.objectives)
        preferences = load_preferences(files, objectives=objectives, limit=recipe.lists)
        if not recipe.more_test:
            return cls(preferences)
        assert recipe.lists is not None
        longer = load_preferences(files, objectives=preferences.objectives, limit=recipe.lists + recipe.more_test)
        seen = set(preferences.prompts)
        unseen = [i for i, prompt in enumerate(longer.prompts) if prompt not in seen]
        return cls(preferences, longer.subset(unseen) if unseen else None)

    def test(self, run: TextRun) -> Preferences:
        """All that a run is tested on."""
        part = part_of_run(run.config, self.preferences, "test")
        return part if self.more is None else part.joined(self.more)

    @property
    def key(self) -> str:
        """The folder inside a run that keeps its fronts on these lists; empty where they are the run's own."""
        return "" if self.more is None else f"tested-{self.more.fingerprint[:10]}"


@dataclass
class Row:
    """What one variant gave: its fronts, one per seed, and what they cost."""

    variant: Variant
    runs: list[TextRun]
    fronts: list[ParetoFront]
    correlation: list[dict[str, Any]] = field(default_factory=list)


def read_text_recipe(
    file: Path,
    size: str,
    *,
    data: Mapping[str, str] | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    lists: int | None = None,
) -> TextRecipe:
    """Read a recipe's size; `data` replaces its files (`data`) or its model (`model`), `seeds` those of every variant.

    Raises ConfigError with every unknown or wrong key at once.
    """
    raw = tomllib.loads(file.read_text("utf-8"))
    problems = _unknown(raw, ("kind", "title", "about", "quick", "full", "variant", "published"), str(file))
    given = dict(raw.get(size, {}))
    problems += _unknown(given, SIZE_KEYS, f"{file}, [{size}]")
    for key in ("model", "data", "objectives"):
        if key not in given:
            problems.append(f"{file}, [{size}] lacks {key}.")
    if "more_test" in given and "lists" not in given:
        problems.append(
            f"{file}, [{size}] has more_test, lists beyond `lists`, and no lists; say how many are trained on."
        )
    for i, variant in enumerate(raw.get("variant", [])):
        problems += _unknown(variant, VARIANT_KEYS, f"{file}, variant {i + 1}")
        problems += [f"{file}, variant {i + 1} lacks {key}." for key in ("label", "method") if key not in variant]
        problems += _unknown(variant.get("prompt", {}), _names(PromptConfig), f"{file}, variant {i + 1}, prompt")
        for one in ("quick", "full"):
            where, own = f"{file}, variant {i + 1}, {one}", variant.get(one, {})
            problems += _unknown(own, ("prompt", "fit"), where)
            problems += _unknown(own.get("prompt", {}), _names(PromptConfig), f"{where}, prompt")
            problems += _unknown(own.get("fit", {}), _names(FitConfig), f"{where}, fit")
    if problems:
        raise ConfigError(problems)
    count = seeds or int(given.get("seeds", 1))
    points = int(given.get("points", 11))
    fit = FitConfig(**{**_defaults(TextConfig().fit), **given.get("fit", {}), **({"epochs": epochs} if epochs else {})})
    own = {k: given[k] for k in _AS_GIVEN if k in given}
    config = TextConfig(
        prompt=PromptConfig(**given.get("prompt", {})),
        fit=fit,
        tokens=TokenConfig(**given.get("tokens", {})),
        beta=(float(given.get("beta", 0.1)),),
        **own,
    )
    variants = []
    for variant in raw.get("variant", []):
        options = {k: v for k, v in variant.items() if k not in _OWN}
        method = replace(DEFAULT_METHOD, **options, points=points)
        own_seeds = seeds or min(count, int(variant.get("seeds", count)))
        own = variant.get(size, {})
        prompt, changed = {**variant.get("prompt", {}), **own.get("prompt", {})}, dict(own.get("fit", {}))
        if epochs:
            changed.pop("epochs", None)
        made = Variant(
            variant["label"],
            method,
            own_seeds,
            bool(variant.get("decoding", False)),
            prompt,
            changed,
            int(variant.get("replicas", 1)),
            int(variant.get("distil", 0)),
            bool(variant.get("compared", False)),
        )
        made.config(config, 0).resolve(len(given["objectives"]))  # wrong values are said now
        variants.append(made)
    replaced = data or {}
    return TextRecipe(
        file.stem,
        str(raw.get("title", file.stem)),
        str(raw.get("about", "")),
        replaced.get("model", str(given["model"])),
        tuple([replaced["data"]] if "data" in replaced else given["data"]),
        tuple(given["objectives"]),
        lists or given.get("lists"),
        int(given.get("more_test", 0)),
        config,
        points,
        int(given.get("follow", 0)),
        tuple(variants),
        raw.get("published", {}),
    )


def _unknown(values: Mapping[str, Any], known: Sequence[str], where: str) -> list[str]:
    return [f"{where} has no key {key!r}{nearest(key, known)}." for key in values if key not in known]


def _names(config: type[Any]) -> list[str]:
    return [f.name for f in fields(config)]


def _defaults(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)}


@dataclass(frozen=True)
class Unit:
    """One training of a recipe, and where its run lies.

    Attributes:
        label: what a person reads in the progress.
        config: the training, seed included.
        out: the run folder.
        m: objectives.
        follow: texts sampled at each weight afterwards; 0 samples none.
        tested: `Lists.key` of what it is tested on.
    """

    label: str
    config: TextConfig
    out: Path
    m: int
    follow: int
    tested: str

    @property
    def key(self) -> str:
        return self.out.name

    @property
    def kind(self) -> tuple[str, str]:
        return (_tag(self.config), self.config.method.method)

    @property
    def weight(self) -> float:
        models = self.config.replicas * len(members(self.config.method, self.m))
        return float(models * self.config.fit.epochs + self.config.distil)

    @property
    def followed(self) -> Path:
        """What the sampled texts said."""
        return self.out / f"follow-{self.follow}.json"

    @property
    def missing(self) -> bool:
        wanted = [self.out / "manifest.json", self.out / self.tested / "front.json"]
        return not all(file.exists() for file in (*wanted, *([self.followed] if self.follow else [])))


@dataclass(frozen=True)
class _Training:
    """Trains a unit, follows its texts, and gives the seconds it took; it can be sent to another process."""

    recipe: TextRecipe
    lists: Lists
    device: str
    say: Say | None

    def __call__(self, unit: Unit) -> float:
        started = time.monotonic()
        run = train(
            self.lists.preferences, self.recipe.model, unit.config, unit.out, resume=True, device=self.device,
            origin=self.recipe.data, log=self._log,
        )  # fmt: skip
        if unit.follow and not unit.followed.exists():
            prompts = spread_prompts(part_of_run(run.config, self.lists.preferences, "test"), unit.follow)
            write_json(unit.followed, follow(run, prompts, points=self.recipe.points).to_dict())
        _fronts(self.recipe, run, self.lists)
        return time.monotonic() - started

    def _log(self, line: str) -> None:
        if self.say is not None and line.startswith("model "):
            self.say(f"    {line}")


def reproduce_text(
    recipe: TextRecipe,
    size: str,
    work: Path,
    *,
    jobs: int = 1,
    device: str = "auto",
    images: bool = True,
    say: Say = lambda line: None,
) -> tuple[dict[str, Any], str, list[Path]]:
    """Run a text recipe in `jobs` processes: its document, its table for people, and the files written below
    `work`/NAME-SIZE.

    Raises ConfigError or DataError where the model or the data cannot be had or trainings failed, RunError where
    another study runs in `work`; Interrupted with everything kept.
    """
    lists = Lists.load(recipe)
    units = [[_unit(recipe, v, seed, lists, work) for seed in range(v.seeds)] for v in recipe.variants]
    with locked(work):
        _train_all([unit for each in units for unit in each], recipe, lists, jobs, device, say)
        rows: list[Row] = []
        bases: list[ParetoFront] = []
        for variant, each in zip(recipe.variants, units, strict=True):
            runs = [TextRun(unit.out) for unit in each]
            fronts, found = zip(*[_fronts(recipe, r, lists, decoding=variant.decoding) for r in runs], strict=True)
            rows.append(Row(variant, runs, list(fronts), [_followed(unit) for unit in each if unit.follow]))
            bases += found
    chance = bases[0]
    document = _document(recipe, size, lists.preferences, rows, chance)
    text = _text(recipe, document, chance)
    return document, text, _write(recipe, work / f"{recipe.name}-{size}", document, text, rows, chance, images=images)


def _unit(recipe: TextRecipe, variant: Variant, seed: int, lists: Lists, work: Path) -> Unit:
    config, method, preferences = variant.config(recipe.config, seed), variant.method.method, lists.preferences
    out = work / "text" / f"{preferences.fingerprint[:10]}-{method}-{_tag(config)}-{seed}"
    label = f"{recipe.name}: {variant.label}, seed {seed}"
    follow = recipe.follow if method == OURS else 0
    return Unit(label, config, out, len(preferences.objectives), follow, lists.key)


def _train_all(units: Sequence[Unit], recipe: TextRecipe, lists: Lists, jobs: int, device: str, say: Say) -> None:
    """Train what is not there yet, the longest first. Raises ConfigError with every failure once all have ended."""
    unique = {unit.key: unit for unit in reversed(units)}  # the first label of a training that two rows share
    todo = sorted((unit for unit in unique.values() if unit.missing), key=lambda unit: -unit.weight)
    pace = Pace()
    for unit in unique.values():
        if not unit.missing:
            pace.add(unit, float(TextRun(unit.out).config["seconds"]))
    jobs = min(jobs, max(1, len(todo)))
    progress = Progress(len(unique), todo, pace, jobs, say)
    work = _Training(recipe, lists, device, say if jobs == 1 else None)
    failed = []
    with Workers(jobs, alone=False) as workers:
        for unit, outcome in workers.run(work, todo):
            progress.ended(unit, None if isinstance(outcome, str) else outcome)
            if isinstance(outcome, str):
                failed.append(f"{unit.label}: {outcome}")
    if failed:
        raise ConfigError([f"{len(failed)} trainings failed; the same command tries them again:", *failed])


def _fronts(
    recipe: TextRecipe, run: TextRun, lists: Lists, *, decoding: bool = False
) -> tuple[ParetoFront, ParetoFront]:
    """The front of one run, that of multi-objective decoding if `decoding`, and the base's; measured once and kept."""
    kept = run.folder.path / lists.key
    found = read_fronts(kept / "front.json", with_arrays=True) if (kept / "front.json").exists() else []
    wanted = "mod" if decoding else run.folder.config["method"]["method"]
    if wanted not in {front.method for front in found}:
        table = TextTable(run, lists.test(run))
        if not found:
            found = [run_front(run, table, split="test", points=recipe.points), base_front(run, table, split="test")]
        if decoding:
            found.insert(1, decoding_front(run, table, split="test", points=recipe.points))
        write_fronts(kept, found)
    return next(front for front in found if front.method == wanted), found[-1]


def _tag(config: TextConfig) -> str:
    """A short name of everything but the seed."""
    described = repr(replace(config, seed=0))
    return hashlib.sha256(described.encode()).hexdigest()[:8]


def _followed(unit: Unit) -> dict[str, Any]:
    """Rank correlations of w and score, and the worst of diversity and fluency over the weights."""
    kept = json.loads(unit.followed.read_text("utf-8"))
    found = {name: each["spearman"] for name, each in kept["rank_correlation"].items()}
    base = kept["rows"][-1]
    inner = kept["rows"][:-1]
    for name, worst in (("distinct_2", min), ("base_perplexity", max)):
        if base[name] and all(r[name] is not None for r in inner):
            found[f"{name}_ratio"] = worst(r[name] / base[name] for r in inner)
    return found


def _document(
    recipe: TextRecipe, size: str, preferences: Preferences, rows: Sequence[Row], chance: ParetoFront
) -> dict[str, Any]:
    assert chance.per_query is not None
    most = max(len(row.fronts) for row in rows)
    samples = Samples.draw(chance.per_query.shape[1], most)
    sampled = [_sampled(row, samples, most) for row in rows]
    ours = next((i for i, row in enumerate(rows) if row.variant.method.method == OURS), 0)
    others = [i for i, row in enumerate(rows) if row.variant.compared and i != ours]

    def against(first: int, second: int) -> dict[str, Any] | None:
        return None if first == second else sampled[first].against(sampled[second]).to_dict()

    listed = []
    for i, row in enumerate(rows):
        estimate = sampled[i].estimate("hypervolume")
        run = row.runs[0]
        listed.append(
            {
                "label": row.variant.label,
                "method": row.variant.method.method,
                "seeds": len(row.runs),
                "hypervolume": estimate.value,
                "hypervolume_interval": estimate.interval,
                "above_chance": estimate.value - chance.hypervolume,
                "closeness": sampled[i].value("main"),
                "iqr": float(np.mean([_spread(front) for front in row.fronts])),
                "seconds": float(np.mean([r.config["seconds"] for r in row.runs])),
                "cpu_seconds": float(np.mean([r.config["cpu_seconds"] for r in row.runs])),
                "models": run.config["models"],
                "parameters": run.config["parameters"],
                "ours_minus_this": against(ours, i),
                "others_minus_this": {rows[j].variant.label: against(j, i) for j in others},
                "follow": row.correlation,
                "published": dict(recipe.published.get(row.variant.label, {})),
            }
        )
    first = rows[0].runs[0]
    return {
        "recipe": recipe.name,
        "size": size,
        "title": recipe.title,
        "model": recipe.model,
        "data": {
            "name": preferences.name,
            "fingerprint": preferences.fingerprint,
            "lists": {**first.config["data"]["lists"], "test": chance.per_query.shape[1]},
        },
        "objectives": list(first.names),
        "chance": chance.hypervolume,
        "reference": list(chance.reference_point),
        "device": first.config["device"],
        "rows": listed,
    }


def _sampled(row: Row, samples: Samples, seeds: int) -> Sampled:
    """A row's fronts; one of fewer seeds stands for the others too, so that rows are paired by prompt."""
    arrays = [front.per_query for front in row.fronts if front.per_query is not None]
    chosen = [arrays[i % len(arrays)] for i in range(seeds)]
    return Sampled(np.stack(chosen), samples, row.fronts[0].reference_point)


def _spread(front: ParetoFront) -> float:
    """Mean over the points of the inter-quartile range of the log-likelihood's change."""
    assert front.residuals is not None
    low, high = np.percentile(front.residuals, [25, 75], axis=1)
    return float((high - low).mean())


def _text(recipe: TextRecipe, document: Mapping[str, Any], chance: ParetoFront) -> str:
    lists = ", ".join(f"{n:,} {split}" for split, n in document["data"]["lists"].items())
    head = [
        recipe.title,
        recipe.about,
        f"{document['model']} on {document['data']['name']} ({lists} prompts), {', '.join(document['objectives'])}; "
        f"{document['device']}. Chance: {document['chance']:.5f}.",
    ]
    shown = []
    for row in document["rows"]:
        low, high = row["hypervolume_interval"]
        tests, paper = [row["ours_minus_this"], *row["others_minus_this"].values()], row["published"]
        known = [[f[name] for name in document["objectives"]] for f in row["follow"]]
        found = [min(each) for each in known if None not in each]
        worst = [
            ", ".join(f"{f[ratio]:.2f}" for f in row["follow"] if ratio in f) or None
            for ratio in ("base_perplexity_ratio", "distinct_2_ratio")
        ]
        shown.append(
            [
                row["label"],
                row["seeds"],
                f"{row['hypervolume']:.5f} [{low:.5f}, {high:.5f}]",
                f"{row['above_chance']:+.5f}",
                *(f"{test['difference']:+.5f} (p {test['p']:.3f})" if test else None for test in tests),
                f"{row['closeness']:.2f}",
                f"{row['iqr']:.2f}",
                f"{np.mean(found):.2f}" if found else None,
                *worst,
                f"{row['cpu_seconds']:.0f}",
                row["models"],
                row["parameters"],
                f"{paper['hypervolume']:.5f}" if "hypervolume" in paper else None,
                f"{paper['seconds']:,.0f}" if "seconds" in paper else None,
            ]
        )
    compared = [f"{label} - this" for label in document["rows"][0]["others_minus_this"]]
    headers = ["method", "seeds", "hypervolume", "above chance", "ours - this", *compared, "closeness", "IQR"]
    headers += ["least follow", "most perplexity", "least distinct-2"]
    headers += ["CPU s", "models", "trained numbers", "paper HV", "paper s"]
    notes = (
        "95 % intervals by bootstrap over prompts and seeds, paired between rows; IQR of the log-likelihood's change "
        "in nats; least follow: the smallest rank correlation between w_j and its scorer, over objectives. Perplexity "
        "under the base and distinct-2 of the sampled texts over those of the base's own, the worst over w, by seed."
    )
    return "\n".join([*filter(None, head), "", table(headers, shown), notes])


def _write(
    recipe: TextRecipe,
    folder: Path,
    document: dict[str, Any],
    text: str,
    rows: Sequence[Row],
    chance: ParetoFront,
    *,
    images: bool,
) -> list[Path]:
    write_atomic(folder / "table.txt", text + "\n")
    write_json(folder / "result.json", without_nan(document))
    keys = ("label", "seeds", "hypervolume", "above_chance", "closeness", "iqr", "cpu_seconds", "models", "parameters")
    lines = [",".join(keys), *(",".join(str(row[key]) for key in keys) for row in document["rows"])]
    write_atomic(folder / "table.csv", "\n".join(lines) + "\n")
    write_json(folder / "config.json", without_nan({row.variant.label: row.runs[0].config for row in rows}))
    files = [folder / name for name in ("table.txt", "result.json", "table.csv", "config.json")]
    if len(document["objectives"]) == 2:
        drawn, problem = figures.save(front_plot(recipe, rows, chance), folder / "front", images=images)
        files += drawn
        if problem:
            write_atomic(folder / "front.txt", problem + "\n")
    return files


def front_plot(recipe: TextRecipe, rows: Sequence[Row], chance: ParetoFront) -> Any:
    """The fronts of seed 0 in the plane of minus cross-entropies, as the paper's Figure 4, with the chance point."""
    curves = [
        figures.Curve(row.variant.label, front.auxiliary, front.main_mean, front.main_std)
        for row in rows
        for front in row.fronts[:1]
    ]
    curves.append(figures.Curve("Base (chance)", chance.auxiliary, chance.main_mean, 0.0, kind="base"))
    names = [f"minus cross-entropy, {name}" for name in rows[0].fronts[0].objectives]
    return figures.front_figure(curves, (names[0], names[1]), "closeness to the base, nats", recipe.title)
