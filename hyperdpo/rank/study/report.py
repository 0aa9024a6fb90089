"""What a study leaves: the table as text, CSV and JSON, the resolved recipe, a figure in the style of the paper's."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hyperdpo.figures import NEUTRAL, ORACLE, Curve, Figure, Series, bar_figure, front_figure, sweep_figure
from hyperdpo.rank.study import across
from hyperdpo.rank.study.recipe import Recipe
from hyperdpo.rank.study.rows import FACTS, REACH, CaseTable, parameters_at
from hyperdpo.tables import table

SMALL = 0.01  # a hypervolume below shows significant digits
FLAT = ("case", "label", "series", "method", "x")
FACT_COLOURS = {"base": NEUTRAL, "oracle": ORACLE}
COSTS = (
    "seconds",
    "cpu_seconds",
    "base_seconds",
    "tuning_seconds",
    "models",
    "parameters",
    "features",
    "queries",
    "device",
)


def document(recipe: Recipe, tables: Sequence[CaseTable], notes: Sequence[str]) -> dict[str, Any]:
    """Everything a study found, for JSON."""
    rows = [row for t in tables for row in t.rows()]
    return {
        "recipe": recipe.name,
        "title": recipe.title,
        "size": recipe.size,
        "rows": rows,
        "reach": {t.case.name: t.reach() for t in tables if t.reach()},
        "distances": [d for t in tables for d in t.distances()] if recipe.report == "distance" else [],
        "across": across_document(recipe, tables) if recipe.report == "across" else None,
        "published": published(recipe, rows),
        "draws": recipe.draws,
        "notes": list(notes),
    }


def across_document(recipe: Recipe, tables: Sequence[CaseTable]) -> dict[str, Any]:
    """What a report across cases adds."""
    found = across.rows(recipe, tables)
    return {"x": recipe.x, "rows": found, "claims": across.claims(recipe, found)}


def published(recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ours beside the paper's: each figure of each row that the recipe quotes, with their ratio.

    Parameters are counted from models built at the paper's size, whatever the data at hand.
    """
    out = []
    for row in rows:
        quoted = recipe.published.get(row["label"])
        if not quoted:
            continue
        variant = next(v for v in recipe.variants if v.label == row["label"])
        figures: dict[str, Any] = {}
        for name, theirs in quoted.items():
            ours = row[name]["value"] if isinstance(row[name], dict) else row[name]
            if name == "parameters" and recipe.published_size:
                at = recipe.published_size
                ours = parameters_at(variant.config, int(at["features"]), int(at["objectives"]))
            ratio = ours / theirs if ours is not None and theirs else None
            figures[name] = {"ours": ours, "paper": theirs, "ratio": ratio}
        out.append({"case": row["case"], "label": row["label"], "figures": figures})
    return out


# --- text


def text(recipe: Recipe, found: Mapping[str, Any], tables: Sequence[CaseTable]) -> str:
    """The study for people."""
    parts = [recipe.title + (f"\n{recipe.about.strip()}" if recipe.about else "")]
    for t in tables:
        parts.append(_case_text(recipe, t, [r for r in found["rows"] if r["case"] == t.case.name]))
        if found["reach"].get(t.case.name):
            parts[-1] += "\n" + _reach_text(found["reach"][t.case.name])
    if found["distances"]:
        parts.append(_distance_text(recipe, found["distances"]))
    if found["across"]:
        parts.append(across.text(recipe, found["across"]["rows"]))
    if found["published"]:
        parts.append(_published_text(recipe, found["published"]))
    parts += [f"Note: {note}." for note in found["notes"]]
    return "\n\n".join(parts)


def _case_text(recipe: Recipe, t: CaseTable, rows: Sequence[Mapping[str, Any]]) -> str:
    first = t.cells[0]
    head = (
        f"{t.case.name}: {', '.join(first.names[1:])}; {first.about['queries']} "
        f"{'validation' if recipe.report == 'tuning' else 'test'} queries; "
        f"seeds {', '.join(map(str, t.seeds))}; NDCG@{first.about['k']}; 95 % intervals over queries and seeds"
    )
    headers = ["", "hypervolume", f"{first.names[0]} mean", "std", "sparsity", "s", "CPU s", "base s", "tuning CPU s",
               "models", "parameters"]  # fmt: skip
    ours = t.ours is not None
    if ours:
        headers += [f"{recipe.ours} /", "p better"]
    equal = bool(t.curves) and ours
    headers += ["at equal main"] if equal else []
    shown = []
    for row in rows:
        cells: list[object] = [
            row["label"], _estimate(row["hypervolume"]), _estimate(row["main"]), row["main_std"],
            f"{row['sparsity']['value']:.6f}", _seconds(row.get("seconds")), _seconds(row.get("cpu_seconds") or None),
            _seconds(row.get("base_seconds")), _seconds(row.get("tuning_seconds")), row.get("models"),
            row.get("parameters"),
        ]  # fmt: skip
        if ours:
            test = (row["against"] or {}).get("hypervolume")
            cells += [_ratio(test), f"{test['p']:.3f}"] if test else [None, None]
        if equal:
            at = row.get("equal_main")
            cells.append(f"{at['ratio']:.3f} (c {at['scale']:.2g})" if at else None)
        shown.append(cells)
    return f"{head}\n{table(headers, shown)}"


def _reach_text(reach: Mapping[str, Any]) -> str:
    parts = []
    if "ratio" in reach:
        parts.append(f"{_ratio(reach['ratio'])} times the best other method's hypervolume ({reach['best_baseline']})")
    if "equal_main" in reach:
        at = reach["equal_main"]
        parts.append(
            f"{at['ratio']:.3f} times the best other's where c gives it the same main score ({at['best_baseline']} at "
            f"c {at['scale']:.2g})"
        )
    if "oracle_share" in reach:
        parts.append(f"{_ratio(reach['oracle_share'])} of the best possible at this beta")
    if reach.get("time_ratio") is not None:
        parts.append(f"{reach['time_ratio']:.2f} times the training of one DPO-LS model")
    wanted = f"{REACH['baseline']:g} times or {REACH['oracle']:g}, whichever is less, within {REACH['time']:g} times"
    return f"{reach['ours']} reaches {'; '.join(parts)}. Wanted: {wanted}." if parts else ""


def _distance_text(recipe: Recipe, distances: Sequence[Mapping[str, Any]]) -> str:
    headers = ["", "from", recipe.x or "x", "at the same w", "between the fronts", "between seeds",
               "hypervolume ratio", "s", "s of the other"]  # fmt: skip
    rows = [
        [
            f"{d['case']}: {d['series']}", d["reference"], f"{d['x']:g}", _estimate(d["same_w"]), _estimate(d["front"]),
            d["floor"]["same_w"] if d["floor"] else None, _ratio(d["hypervolume"]), _seconds(d["seconds"]),
            _seconds(d["reference_seconds"]),
        ]
        for d in distances
    ]  # fmt: skip
    return "Distances between fronts, in NDCG\n" + table(headers, rows, left=2)


def _published_text(recipe: Recipe, found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"{entry['case']}: {entry['label']}", name.replace("_", " "), _plain(f["ours"]), _plain(f["paper"]),
         "-" if f["ratio"] is None else f"{f['ratio']:.3f}"]
        for entry in found
        for name, f in entry["figures"].items()
    ]  # fmt: skip
    size = recipe.published_size
    at = ""
    if size:
        at = f" (parameters are counted from models of {size['features']} features and m = {size['objectives']})"
    source = f", {size['source']}" if size.get("source") else ""
    return f"Beside the paper's{source}{at}\n" + table(
        ["", "figure", "ours", "paper's", "ours / paper's"], rows, left=2
    )


def _estimate(found: Mapping[str, Any]) -> str:
    value, interval = found["value"], found["interval"]
    shown = f"{value:.4f}" if abs(value) >= SMALL else f"{value:.3e}"
    if interval is None:
        return shown
    low, high = (f"{v:.4f}" if abs(value) >= SMALL else f"{v:.3e}" for v in interval)
    return f"{shown} [{low}, {high}]"


def _ratio(test: Mapping[str, Any]) -> str:
    low, high = test["ratio_interval"]
    return f"{test['ratio']:.3f} [{low:.3f}, {high:.3f}]"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"


def _plain(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


# --- CSV


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row; intervals as `..._low` and `..._high`."""
    buffer = io.StringIO()
    lines = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {name: row.get(name) for name in FLAT}
    line["seeds"] = len(row["seeds"])
    for name in ("hypervolume", "main", "sparsity"):
        low, high = row[name]["interval"] or (None, None)
        line |= {name: row[name]["value"], f"{name}_low": low, f"{name}_high": high}
    line["main_std"] = row["main_std"]
    line |= {name: row.get(name) for name in COSTS}
    test = (row["against"] or {}).get("hypervolume")
    if test:
        low, high = test["ratio_interval"]
        line |= {"ours_ratio": test["ratio"], "ours_ratio_low": low, "ours_ratio_high": high, "p_better": test["p"]}
        line |= {"ours_difference": test["difference"]}
    equal = row.get("equal_main")
    if equal:
        line |= {"ours_ratio_at_equal_main": equal["ratio"], "equal_main_scale": equal["scale"]}
    return line


# --- the recipe as it was run


def resolved(recipe: Recipe, tables: Sequence[CaseTable]) -> dict[str, Any]:
    """Every option of every variant spelled out, for the objectives of each case."""
    m = {t.case.name: len(t.cells[0].names) - 1 for t in tables}
    return {
        **{k: getattr(recipe, k) for k in ("name", "title", "size", "report", "ours", "seeds", "draws")},
        "cases": [asdict(case) for case in recipe.cases],
        "variants": [
            {
                "label": v.label, "series": v.series, "x": v.x, "preset": v.preset, "scale": v.scale,
                "at_beta": v.at_beta, "reference": v.reference, "tuning_seconds": v.tuning_seconds,
                "config": {name: asdict(v.config.resolve(count)) for name, count in m.items()},
            }
            for v in recipe.variants
        ],
    }  # fmt: skip


# --- figures


def figures(recipe: Recipe, tables: Sequence[CaseTable]) -> dict[str, Figure]:
    """{case: figure}: fronts in the plane of two objectives, curves where something is swept, bars otherwise.

    A report across cases is one figure.
    """
    if recipe.report == "across":
        title = f"{recipe.title} ({recipe.size})"
        return {recipe.x: across.figure(recipe, across.rows(recipe, tables), title)}
    out = {}
    for t in tables:
        title = f"{recipe.title} ({t.case.name}, {recipe.size})"
        m = len(t.cells[0].names) - 1
        if recipe.report == "sweep":
            out[t.case.name] = sweep_figure(_sweep(t), recipe.x, title)
        elif m == 2 and recipe.report in ("table", "distance"):
            out[t.case.name] = _fronts(recipe, t, title)
        else:
            out[t.case.name] = bar_figure(_bars(t), title)
    return out


def _fronts(recipe: Recipe, t: CaseTable, title: str) -> Figure:
    names = t.cells[0].names
    xs = list(dict.fromkeys(c.variant.x for c in t.cells))
    series = list(dict.fromkeys(c.variant.series for c in t.cells))
    dashes = ("solid", "dash", "dot", "dashdot")
    curves = []
    for cell, sampled in zip(t.cells, t.sampled, strict=True):
        points = sampled.points.mean(0)
        swept = recipe.report == "distance"  # a colour for each x, a dash for each series
        curves.append(
            Curve(
                cell.variant.label, points[:, 1:], float(points[:, 0].mean()), float(points[:, 0].std()),
                group=xs.index(cell.variant.x) if swept else None,
                dash=dashes[series.index(cell.variant.series) % len(dashes)] if swept else None,
            )
        )  # fmt: skip
    for name, sampled in t.facts.items():
        points = sampled.points.mean(0)
        curves.append(Curve(FACTS[name], points[:, 1:], float(points[:, 0].mean()), float(points[:, 0].std()), name))
    k = t.cells[0].about["k"]
    return front_figure(curves, (f"NDCG@{k}, {names[1]}", f"NDCG@{k}, {names[2]}"), f"{names[0]} NDCG@{k}", title)


def _sweep(t: CaseTable) -> list[tuple[str, list[Series]]]:
    panels = []
    for figure, what in (("hypervolume", "hypervolume"), ("main", f"{t.cells[0].names[0]} NDCG, mean")):
        series = []
        for name in dict.fromkeys(c.variant.series for c in t.cells):
            found = sorted(
                ((c.variant.x, s.estimate(figure)) for c, s in zip(t.cells, t.sampled, strict=True)
                 if c.variant.series == name),
                key=lambda entry: -np.inf if entry[0] is None else entry[0],
            )  # fmt: skip
            ends = [e.interval or (None, None) for _, e in found]
            series.append(
                Series(
                    name, [x for x, _ in found], [e.value for _, e in found], [a for a, _ in ends], [b for _, b in ends]
                )
            )
        panels.append((what, series))
    return panels


def _bars(t: CaseTable) -> list[tuple[str, list[Series]]]:
    labelled = [(c.variant.label, s, None) for c, s in zip(t.cells, t.sampled, strict=True)]
    labelled += [(FACTS[n], s, FACT_COLOURS[n]) for n, s in t.facts.items()]  # type: ignore[misc]
    panels = []
    for figure, what in (("hypervolume", "hypervolume"), ("main", f"{t.cells[0].names[0]} NDCG, mean")):
        series = []
        for name, sampled, colour in labelled:
            estimate = sampled.estimate(figure)
            low, high = estimate.interval or (None, None)
            series.append(Series(name, [None], [estimate.value], [low], [high], colour))
        panels.append((what, series))
    return panels
