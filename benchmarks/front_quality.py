"""Front quality at c = 1 and one common beta: HyperDPO's default against DPO-LS with the same budget per model.

Every unit (data, objectives, fold, seed) trains both methods on the same base through the same `train()`; both are
measured on
the test split at the same 11 weights. Units are kept in --work, so that a run that was cut off goes on where it
stopped, and `--table` prints what is there.

    python benchmarks/front_quality.py --work runs/front_quality [--real DIR] [--seeds 5] [--jobs 2] [--only demo5 ml2]
    python benchmarks/front_quality.py --work runs/front_quality --table

`--real` names a folder with movielens100k.txt.xz and mslr_{train,vali,test}.txt.xz; cases whose files are missing are
left out
and named. Hypervolume is measured from 0 over the auxiliary NDCG@10. MSLR has 90 queries: five folds rotate (3 train, 1
validation, 1 test), so that each query is scored by the fold that did not train on it, and one hypervolume is taken
over all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import machine

POINTS, K, FOLDS = 11, 10, 5
METHODS = ("hyperdpo", "dpo-ls")
CLICKS = ("query_url_clicks", "url_clicks")
QUALITY = ("quality", "quality2")


@dataclass(frozen=True)
class Case:
    """One table row: which data, which objectives, how many folds."""

    name: str
    data: str
    objectives: tuple[str, ...] = ()
    folds: int = 0


CASES = (
    Case("ml2", "movielens", ("loved", "long_tail")),
    Case("demo5", "demo"),
    Case("ml4", "movielens"),
    Case("mslr5", "mslr", folds=FOLDS),
    Case("mslr-clicks", "mslr", CLICKS, folds=FOLDS),
    Case("mslr-quality", "mslr", QUALITY, folds=FOLDS),
    Case("demo2", "demo", ("clicks", "freshness")),
)


def prepare(work: Path, real: Path | None) -> dict[str, Path]:
    """Data folders for what can be had."""
    from hyperdpo.rank.data import convert
    from hyperdpo.rank.demo import make_demo

    folders = {name: work / "data" / name for name in ("demo", "movielens", "mslr")}
    if not folders["demo"].exists():
        make_demo(folders["demo"])
    if real is not None and not folders["movielens"].exists():
        objectives = ["loved=f53:l1", "long_tail=f54", "fresh=f55", "acclaim=f56"]
        convert([real / "movielens100k.txt.xz"], folders["movielens"], main="label", objectives=objectives)
    if real is not None and not folders["mslr"].exists():
        files = [real / f"mslr_{part}.txt.xz" for part in ("train", "vali", "test")]
        convert(files, folders["mslr"], preset="mslr")
    return {name: path for name, path in folders.items() if path.exists()}


def unit(case: Case, data_folder: Path, fold: int, seed: int, out: Path) -> str:
    """Train both methods for one fold and seed; keep per-query NDCG, seconds and queries in `out` (npz)."""
    import torch

    from hyperdpo.methods import MethodConfig
    from hyperdpo.rank.data import open_data
    from hyperdpo.rank.train import RankConfig, train

    torch.set_num_threads(1)
    data = open_data(data_folder)
    if case.folds:
        order = np.random.default_rng(0).permutation(data.n_queries)
        part = np.empty(data.n_queries, dtype=int)
        part[order] = np.arange(data.n_queries) % case.folds
        split = np.where(part == fold, 2, np.where(part == (fold + 1) % case.folds, 1, 0)).astype(np.uint8)
        data = data.with_split(split)
    if case.objectives:
        data = data.with_task(objectives=list(case.objectives))
    kept: dict[str, np.ndarray] = {"queries": data.queries("test")}
    folders = {method: out.with_suffix(f".{method}") for method in METHODS}
    for method, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        base = "transformer" if method == "hyperdpo" else f"run:{folders['hyperdpo']}"
        config = RankConfig(method=MethodConfig(method=method), base=base, seed=seed)
        run = train(data, config, folder, device="cpu")
        fronts = {front.method: front for front in run.folder.fronts()}
        kept[f"{method}/ndcg"] = fronts[method].per_query
        kept[f"{method}/seconds"] = np.array(run.config["seconds"])
        kept[f"{method}/parameters"] = np.array(run.parameters)
        kept["base/ndcg"] = fronts["base"].per_query
        if "oracle" in fronts:
            kept["oracle/ndcg"] = fronts["oracle"].per_query
    temporary = out.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **kept)
    os.replace(temporary, out)
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    return f"{case.name} fold {fold} seed {seed}: " + ", ".join(
        f"{m} {float(kept[f'{m}/seconds']):.0f} s" for m in METHODS
    )


def _run(task: tuple[Case, Path, int, int, Path]) -> str:
    return unit(*task)


def hv(per_query: np.ndarray) -> float:
    """Hypervolume of the mean auxiliary NDCG of p points, per_query (p, q, 1 + m)."""
    from hyperdpo.front import hypervolume

    return hypervolume(np.nanmean(per_query, axis=1)[:, 1:])


def load(work: Path, case: Case) -> dict[int, dict[str, np.ndarray]]:
    """Per seed: arrays with all folds' queries side by side; seeds that lack a fold are left out."""
    seeds: dict[int, dict[str, np.ndarray]] = {}
    for seed in range(100):
        files = [work / "units" / f"{case.name}-{fold}-{seed}.npz" for fold in range(max(case.folds, 1))]
        if not all(file.exists() for file in files):
            continue
        parts = [dict(np.load(file)) for file in files]
        order = np.argsort(np.concatenate([p["queries"] for p in parts]))
        joined: dict[str, np.ndarray] = {}
        for key in parts[0]:
            if key.endswith("/ndcg"):
                joined[key] = np.concatenate([p[key] for p in parts], axis=1)[:, order]
            elif key.endswith("/seconds"):
                joined[key] = np.array(sum(float(p[key]) for p in parts))
            else:
                joined[key] = parts[0][key]
        seeds[seed] = joined
    return seeds


def interval(values: np.ndarray) -> str:
    """Mean and 95 % t-interval over seeds."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values.mean():.4f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.4f} +- {half:.4f}"


def bootstrap_ratio(seeds: dict[int, dict[str, np.ndarray]], draws: int = 1000) -> tuple[float, float]:
    """95 % interval of mean_seeds HV(ours) / mean_seeds HV(DPO-LS) by a paired bootstrap over queries."""
    rng = np.random.default_rng(0)
    queries = next(iter(seeds.values()))["hyperdpo/ndcg"].shape[1]
    ratios = []
    for _ in range(draws):
        pick = rng.integers(queries, size=queries)
        ours, theirs = (np.mean([hv(s[f"{m}/ndcg"][:, pick]) for s in seeds.values()]) for m in METHODS)
        ratios.append(ours / theirs)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def table(work: Path) -> None:
    """Print one block per case from what `--work` holds."""
    print(machine(), "; one thread a process; seeds 0, 1, ..., seconds of the trained models without the base")
    for case in CASES:
        seeds = load(work, case)
        if not seeds:
            print(f"\n{case.name}: no finished seed")
            continue
        some = next(iter(seeds.values()))
        print(f"\n{case.name}: {', '.join(case.objectives) or 'all objectives'}; {some['hyperdpo/ndcg'].shape[1]} test "
              f"queries; seeds {', '.join(map(str, seeds))}")  # fmt: skip
        volumes = {m: np.array([hv(s[f"{m}/ndcg"]) for s in seeds.values()]) for m in METHODS}
        print(f"  {'':22s} {'hypervolume':>20s} {'main NDCG@10':>20s} {'seconds':>9s} {'parameters':>11s}")
        rows = [("HyperDPO (default)", "hyperdpo"), ("DPO-LS, 11 models", "dpo-ls"), ("base", "base")]
        for label, key in [*rows, *([("oracle, same beta", "oracle")] if "oracle/ndcg" in some else [])]:
            volume = np.array([hv(s[f"{key}/ndcg"]) for s in seeds.values()])
            main = np.array([np.nanmean(s[f"{key}/ndcg"][..., 0]) for s in seeds.values()])
            seconds = np.array([float(s.get(f"{key}/seconds", 0)) for s in seeds.values()]).mean()
            parameters = int(some.get(f"{key}/parameters", 0))
            print(f"  {label:22s} {interval(volume):>20s} {interval(main):>20s} {seconds:9.1f} {parameters:11,d}")
        low, high = bootstrap_ratio(seeds)
        ratio = volumes["hyperdpo"].mean() / volumes["dpo-ls"].mean()
        spent = [np.mean([float(s[f"{m}/seconds"]) for s in seeds.values()]) for m in METHODS]
        print(
            f"  ratio to DPO-LS {ratio:.4f}, 95 % over queries [{low:.4f}, {high:.4f}], "
            f"over seeds {interval(volumes['hyperdpo'] / volumes['dpo-ls'])}; time ratio {spent[0] / spent[1]:.3f}"
        )
        if "oracle/ndcg" in some:
            best = np.array([hv(s["oracle/ndcg"]) for s in seeds.values()])
            print(f"  share of the same-beta oracle {interval(volumes['hyperdpo'] / best)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        return table(options.work)
    folders = prepare(options.work, options.real)
    for case in CASES:
        if case.data not in folders:
            print(f"{case.name} is left out: no {case.data} data", file=sys.stderr)
    (options.work / "units").mkdir(parents=True, exist_ok=True)
    tasks = []
    for seed in range(options.seeds):
        for name in options.only:
            case = next(c for c in CASES if c.name == name)
            for fold in range(max(case.folds, 1)):
                out = options.work / "units" / f"{case.name}-{fold}-{seed}.npz"
                if case.data in folders and not out.exists():
                    tasks.append((case, folders[case.data], fold, seed, out))
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for line in pool.imap_unordered(_run, tasks):
            print(line, file=sys.stderr, flush=True)
    print(json.dumps({"units": len(tasks)}), file=sys.stderr)
    return table(options.work)


if __name__ == "__main__":
    main()
