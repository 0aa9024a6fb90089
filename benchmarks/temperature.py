"""Any (w, beta) from one training, against models trained at each beta; and the paper's Figure 11 with seeds.

Demo data, one base a seed for everything. Units are kept in --work, so that a run that was cut off goes on where it
stopped; `--table` prints what is there.

1. Temperatures: `--vectors` beta vectors drawn log-uniformly from [1/3, 3]^m (seed 100 + m). DPO-LS (11 models) is
   trained at each of them; one mixture (implicit solution) and one temperature-conditioned network, both trained at
   beta 1, answer all of them. Hypervolume of the auxiliary NDCG@10 from 0 at the same 11 weights.
2. Figure 11: a mixture at beta 1 moved to c by eq. (15), against mixtures retrained at c * beta: the mean distance of
   points at equal w in NDCG space, and the difference in hypervolume. A mixture's training does not depend on a common
   beta at all, so that only the seed moves it; the film network, retrained likewise, is where eq. (15) can fail.

    python benchmarks/temperature.py --work runs/temperature [--data DIR] [--seeds 3] [--vectors 10] [--only m2 fig11]
    python benchmarks/temperature.py --work runs/temperature --queries 500 --points 6 --epochs 10 --seeds 1    # minutes
    python benchmarks/temperature.py --work runs/temperature --quick
    python benchmarks/temperature.py --work runs/temperature --table

`--data` names a folder made by `hyperdpo data demo`; without it one is made under --work. `--queries`, `--points` and
`--epochs` shrink all methods alike; a work folder keeps the sizes it was begun with, and the table says them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine

from hyperdpo.files import write_json
from hyperdpo.methods import MethodConfig
from hyperdpo.rank.data import RankData, open_data
from hyperdpo.rank.demo import DEFAULT_QUERIES, make_demo
from hyperdpo.rank.evaluate import oracle_fronts, run_front
from hyperdpo.rank.model import NetConfig
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import RankConfig, train
from hyperdpo.training import FitConfig
from hyperdpo.weights import DEFAULT_POINTS

OBJECTIVES: dict[str, tuple[str, ...]] = {"m2": ("clicks", "freshness"), "m5": ()}
RANGE = 3.0
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # c of Figure 11; at 1 only the seed differs: what is noise
RETRAINED = ("mixture", "film")
RETRAINED_SEED = 500  # added to a seed for the models trained at c * beta
QUICK_FIT = FitConfig(epochs=2, patience=2, batch_size=32)
QUICK_QUERIES = 120


@dataclass(frozen=True)
class Terms:
    """What every unit shares: the data, how large the trainings are, where they are kept."""

    work: Path
    data: RankData
    config: RankConfig

    def unit(self, name: str) -> Path:
        return self.work / "units" / f"{name}.json"


def beta_vectors(m: int, count: int) -> list[tuple[float, ...]]:
    """`count` temperatures, each log-uniform from [1/3, 3]; the seed is 100 + m."""
    drawn = np.exp(np.random.default_rng(100 + m).uniform(-np.log(RANGE), np.log(RANGE), (count, m)))
    return [tuple(round(float(b), 4) for b in row) for row in drawn]


def run_at(terms: Terms, name: str, **changes: Any) -> RankRun:
    """The finished run called `name`, trained if it is not there; an interrupted training goes on."""
    out = terms.work / "runs" / name
    return train(terms.data, replace(terms.config, **changes), out, resume=out.exists(), device="cpu")


def base_of(terms: Terms, case: str, seed: int) -> str:
    """The base all runs of a case and seed share: the mixture's."""
    return f"run:{terms.work / 'runs' / f'{case}-{seed}-mixture'}"


def measured(run: RankRun, data: RankData, beta: tuple[float, ...] | None, scale: float = 1.0) -> dict[str, Any]:
    """A run's test front at `beta` and c, with what answering cost: plain values."""
    table, features = run.table(data.lists("test"))
    started = time.perf_counter()
    front = run_front(
        run, table, features, split="test", data=data.fingerprint, scale=scale, beta=beta, points=run.method.points
    )
    return {
        "hypervolume": front.hypervolume,
        "main": front.main_mean,
        "ndcg": front.ndcg.tolist(),
        "train_seconds": run.config["cpu_seconds"],  # of one thread: other programs do not enter
        "answer_seconds": time.perf_counter() - started,
        "parameters": front.parameters,
    }


def temperature_unit(terms: Terms, case: str, seed: int, beta: tuple[float, ...], number: int) -> dict[str, Any]:
    """One beta vector: both one-training answers, DPO-LS trained there, and the best possible."""
    base = base_of(terms, case, seed)
    mixture = run_at(terms, f"{case}-{seed}-mixture", seed=seed)
    network = run_at(terms, f"{case}-{seed}-temperature", seed=seed, base=base, parametrisation="temperature")
    name = f"{case}-{seed}-ls-{number}"
    points = terms.config.method.points
    separate = run_at(terms, name, seed=seed, base=base, beta=beta, method=MethodConfig(method="dpo-ls", points=points))
    found = {
        "beta": list(beta),
        "implicit": measured(mixture, terms.data, beta),
        "temperature": measured(network, terms.data, beta),
        "dpo-ls": measured(separate, terms.data, None),
    }
    table, _ = mixture.table(terms.data.lists("test"))
    oracle = oracle_fronts(terms.data, table, split="test", points=separate.method.points, beta=beta)
    if oracle:
        found["oracle"] = {"hypervolume": oracle[0].hypervolume, "main": oracle[0].main_mean}
    shutil.rmtree(separate.folder.path)
    return found


def figure_unit(terms: Terms, case: str, seed: int, parametrisation: str) -> dict[str, Any]:
    """Figure 11: eq. (15) at every c against a model retrained at c * beta with another seed of its own."""
    base = base_of(terms, case, seed)
    run_at(terms, f"{case}-{seed}-mixture", seed=seed)
    shared: dict[str, Any] = {"base": base, "parametrisation": parametrisation}
    name = f"{case}-{seed}-{parametrisation}"
    trained = run_at(terms, f"{name}-moved", seed=seed, **shared)
    rows = []
    for c in SCALES:
        moved = measured(trained, terms.data, None, scale=c)
        again = measured(
            run_at(terms, f"{name}-c{c:g}", seed=seed + RETRAINED_SEED, beta=(c,), **shared), terms.data, None
        )
        difference = np.array(moved["ndcg"]) - np.array(again["ndcg"])
        rows.append(
            {
                "c": c,
                "distance": float(np.linalg.norm(difference, axis=1).mean()),
                "moved": moved["hypervolume"],
                "retrained": again["hypervolume"],
            }
        )
    return {"rows": rows}


def interval(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    from scipy.stats import t

    v = np.array(values)
    if len(v) < 2:
        return f"{v.mean():.4f}"
    half = t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return f"{v.mean():.4f} +- {half:.4f}"


def temperature_table(units: dict[str, dict[str, Any]], case: str) -> None:
    """One block: methods as rows, over all vectors and seeds of a case."""
    kept = {name: u for name, u in units.items() if name.startswith(f"{case}-beta-")}
    if not kept:
        return
    seeds = sorted({name.split("-")[-2] for name in kept})
    vectors = {tuple(u["beta"]) for u in kept.values()}
    names = ", ".join(OBJECTIVES[case]) or "all five objectives"
    print(f"\n{case}: {names}; {len(vectors)} beta vectors from [1/3, 3], seeds {', '.join(seeds)}; over all units")
    print(f"  {'':34s} {'hypervolume':>18s} {'ratio to DPO-LS':>18s} {'least':>6s} {'main':>7s} {'train s':>8s} "
          f"{'answer s':>8s} {'parameters':>11s}")  # fmt: skip
    labels = {
        "implicit": "mixture, implicit solution",
        "temperature": "temperature-conditioned network",
        "dpo-ls": "DPO-LS trained at each beta",
        "oracle": "best possible at each beta",
    }
    for key, label in labels.items():
        rows = [u[key] for u in kept.values() if key in u]
        if not rows:
            continue
        ratios = [u[key]["hypervolume"] / u["dpo-ls"]["hypervolume"] for u in kept.values() if key in u]
        volume = np.mean([r["hypervolume"] for r in rows])
        cost = [np.mean([r.get(what, np.nan) for r in rows]) for what in ("train_seconds", "answer_seconds")]
        print(f"  {label:34s} {volume:18.5f} {interval(ratios):>18s} {min(ratios):6.3f} "
              f"{np.mean([r['main'] for r in rows]):7.4f} {cost[0]:8.1f} {cost[1]:8.2f} "
              f"{rows[0].get('parameters', 0):11,d}")  # fmt: skip


def figure_table(units: dict[str, dict[str, Any]]) -> None:
    """Figure 11 as numbers: one line for each parametrisation and c."""
    kept = {name: u for name, u in units.items() if name.startswith("fig11-")}
    for parametrisation in RETRAINED:
        found = [u["rows"] for name, u in kept.items() if name.split("-")[1] == parametrisation]
        if not found:
            continue
        print(f"\nFigure 11, {parametrisation}, clicks and freshness, {len(found)} seeds")
        print(
            f"  {'c':>5s} {'distance of points':>20s} {'HV of eq. (15)':>18s} {'HV retrained':>18s} {'difference':>20s}"
        )
        for i, c in enumerate(SCALES):
            rows = [rows[i] for rows in found]
            distance, moved, again = ([r[key] for r in rows] for key in ("distance", "moved", "retrained"))
            difference = [a - b for a, b in zip(moved, again, strict=True)]
            print(f"  {c:5g} {interval(distance):>20s} {interval(moved):>18s} {interval(again):>18s} "
                  f"{interval(difference):>20s}")  # fmt: skip


def keep_sizes(work: Path, sizes: dict[str, int]) -> None:
    """Note the sizes of a work folder; ends the program where it was begun with others."""
    file = work / "sizes.json"
    if file.exists() and json.loads(file.read_text("utf-8")) != sizes:
        sys.exit(f"{work} was begun with {file.read_text('utf-8')}; got {json.dumps(sizes)}: choose another --work.")
    write_json(file, sizes)


def table(work: Path) -> None:
    """Print what `work` holds."""
    files = sorted((work / "units").glob("*.json"))
    units = {file.stem: json.loads(file.read_text("utf-8")) for file in files}
    sizes = json.loads((work / "sizes.json").read_text("utf-8"))
    print(f"{machine()}; {len(units)} units; {', '.join(f'{value:,} {name}' for name, value in sizes.items())}")
    print("Seconds are CPU seconds of training and wall-clock seconds of answering all weights.")
    for case in OBJECTIVES:
        temperature_table(units, case)
    figure_table(units)


def units(options: argparse.Namespace, data: RankData, config: RankConfig) -> list[tuple[str, Any]]:
    """(name, what computes it) in order: every seed of one thing before the next."""
    found: list[tuple[str, Any]] = []
    for seed in range(options.seeds):
        for case, objectives in OBJECTIVES.items():
            declared = data.with_task(objectives=list(objectives)) if objectives else data
            terms = Terms(options.work, declared, config)
            for i, beta in enumerate(beta_vectors(declared.task.m, options.vectors)):
                if case in options.only:
                    found.append(
                        (
                            f"{case}-beta-{seed}-{i}",
                            lambda t=terms, c=case, s=seed, b=beta, n=i: temperature_unit(t, c, s, b, n),
                        )
                    )
            if case == "m2" and "fig11" in options.only:
                for name in RETRAINED:
                    found.append((f"fig11-{name}-{seed}", lambda t=terms, s=seed, p=name: figure_unit(t, "m2", s, p)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--queries", type=int, default=DEFAULT_QUERIES, help="lists of the demo that is made")
    parser.add_argument("--points", type=int, default=DEFAULT_POINTS)
    parser.add_argument("--epochs", type=int, default=RankConfig().fit.epochs, help="at most, for every model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=[*OBJECTIVES, "fig11"], choices=[*OBJECTIVES, "fig11"])
    parser.add_argument("--quick", action="store_true", help="tiny data, trainings and counts: does it run?")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        return table(options.work)
    torch.set_num_threads(1)
    if options.quick:
        options.seeds, options.vectors, options.queries, options.points = 1, 1, QUICK_QUERIES, 5
        config = RankConfig(net=NetConfig(16, 1, 2), fit=QUICK_FIT, base_fit=QUICK_FIT)
    else:
        config = RankConfig(fit=replace(RankConfig().fit, epochs=options.epochs))
    config = replace(config, method=MethodConfig(points=options.points))
    (options.work / "units").mkdir(parents=True, exist_ok=True)
    folder = options.data or options.work / "data"
    if not folder.exists():
        make_demo(folder, queries=options.queries)
    data = open_data(folder)
    keep_sizes(options.work, {"lists": data.n_queries, "points": options.points, "epochs at most": config.fit.epochs})
    todo = units(options, data, config)
    for done, (name, compute) in enumerate(todo):
        file = options.work / "units" / f"{name}.json"
        if not file.exists():
            started = time.perf_counter()
            write_json(file, compute())
            print(
                f"{done + 1} of {len(todo)}: {name}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
            )
    return table(options.work)


if __name__ == "__main__":
    main()
