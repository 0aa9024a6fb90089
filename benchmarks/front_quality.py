"""Front quality at c = 1 and one common beta: HyperDPO's default against every baseline.

Every unit (data, objectives, fold, seed, variant) goes through the same `train()`, all variants on the same base; all
are measured on the test split at the same 11 weights. Units are kept in --work, so that a run that was cut off goes on
where it stopped, and `--table` prints what is there.

    python benchmarks/front_quality.py --work DIR [--real DIR] [--seeds 5] [--jobs 2] [--only demo5 ml2] [--variants ..]
    python benchmarks/front_quality.py --work DIR --table

`--real` names a folder with movielens100k.txt.xz and mslr_{train,vali,test}.txt.xz; cases whose files are missing are
left out and named. Hypervolume is measured from 0 over the auxiliary NDCG@10. MSLR has 90 queries: five folds rotate (3
train, 1 validation, 1 test), so that each query is scored by the fold that did not train on it, and one hypervolume is
taken over all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import machine

from hyperdpo.front import hypervolume
from hyperdpo.methods import METHOD_NAMES, METHODS, MethodConfig
from hyperdpo.rank.data import RankData, convert, open_data
from hyperdpo.rank.demo import make_demo
from hyperdpo.rank.evaluate import run_residuals
from hyperdpo.rank.live import front_ndcg
from hyperdpo.rank.run import RankRun
from hyperdpo.rank.train import DEFAULT_NET, RankConfig, train

POINTS, K, FOLDS = 11, 10, 5
SCALES = (0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
FIRST = "hyperdpo"
VARIANTS = {
    FIRST: RankConfig(),
    **{name: RankConfig(method=MethodConfig(method=name)) for name in METHODS if name != FIRST},
    "dpo-ls-same-net": RankConfig(method=MethodConfig(method="dpo-ls"), net=DEFAULT_NET),
}
LABELS = {
    FIRST: "HyperDPO (default)",
    **{name: METHOD_NAMES[name] for name in METHODS if name != FIRST},
    "dpo-ls-same-net": "DPO-LS, HyperDPO's network",
}
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
    Case("demo3", "demo", ("clicks", "quality", "freshness")),
)


def prepare(work: Path, real: Path | None) -> dict[str, Path]:
    """Data folders for what can be had."""
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


def task_data(case: Case, data_folder: Path, fold: int) -> RankData:
    """The case's objectives and, for rotated folds, the split of one fold."""
    data = open_data(data_folder)
    if case.folds:
        order = np.random.default_rng(0).permutation(data.n_queries)
        part = np.empty(data.n_queries, dtype=int)
        part[order] = np.arange(data.n_queries) % case.folds
        split = np.where(part == fold, 2, np.where(part == (fold + 1) % case.folds, 1, 0)).astype(np.uint8)
        data = data.with_split(split)
    return data.with_task(objectives=list(case.objectives)) if case.objectives else data


def keep(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, out)


def measured(run: RankRun, data: RankData) -> dict[str, np.ndarray]:
    """NDCG per query at c = 1 and, for the curve over c, its sum and count over queries; seconds and parameters."""
    table, features = run.table(data.lists("test"))
    _, residuals = run_residuals(run, table, features, POINTS)
    curve = [front_ndcg(table, residuals, scale=c, k=K).numpy() for c in SCALES]
    return {
        "ndcg": curve[SCALES.index(1.0)],
        "sum": np.stack([np.nansum(x, axis=1, dtype=float) for x in curve]),
        "count": (~np.isnan(curve[0][0])).sum(0),
        "seconds": np.array(run.config["cpu_seconds"]),  # one thread: what a quiet machine would have taken
        "parameters": np.array(run.parameters),
    }


def unit(case: Case, data_folder: Path, fold: int, seed: int, variant: str, work: Path) -> str:
    """Train one variant for one fold and seed on the base that all variants of it share, and keep what was measured."""
    torch.set_num_threads(1)
    data = task_data(case, data_folder, fold)
    name = f"{case.name}-{fold}-{seed}"
    shared, folder = work / "bases" / name, work / "current" / f"{name}-{variant}"
    config = replace(VARIANTS[variant], seed=seed)
    if variant != FIRST:
        config = replace(config, base=f"run:{shared}")
    run = train(data, config, shared if variant == FIRST else folder, overwrite=True, device="cpu")
    arrays = {"queries": data.queries("test"), **measured(run, data)}
    if variant == FIRST:
        others = {front.method: front for front in run.folder.fronts()}
        arrays["base/ndcg"] = others["base"].per_query
        if "oracle" in others:
            arrays["oracle/ndcg"] = others["oracle"].per_query
    keep(unit_file(work, case, fold, seed, variant), arrays)
    shutil.rmtree(folder, ignore_errors=True)
    return f"{name} {variant}: {float(arrays['seconds']):.0f} s"


def unit_file(work: Path, case: Case, fold: int, seed: int, variant: str) -> Path:
    return work / "units" / f"{case.name}-{fold}-{seed}-{variant}.npz"


def _seed(tasks: list[tuple[Case, Path, int, int, str, Path]]) -> list[str]:
    """The variants of one fold and seed, in order: the first trains the base."""
    lines = []
    for task in tasks:
        lines.append(unit(*task))
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def hv(per_query: np.ndarray) -> float:
    """Hypervolume of the mean auxiliary NDCG of p points, per_query (p, q, 1 + m)."""
    return hypervolume(np.nanmean(per_query, axis=1)[:, 1:])


def load(work: Path, case: Case, variant: str) -> dict[int, dict[str, np.ndarray]]:
    """Per seed: arrays with all folds' queries side by side; seeds that lack a fold are left out."""
    seeds: dict[int, dict[str, np.ndarray]] = {}
    for seed in range(100):
        files = [unit_file(work, case, fold, seed, variant) for fold in range(max(case.folds, 1))]
        if not all(file.exists() for file in files):
            continue
        parts = [dict(np.load(file)) for file in files]
        order = np.argsort(np.concatenate([p["queries"] for p in parts]))
        joined: dict[str, np.ndarray] = {"parameters": parts[0]["parameters"]}
        for key in [key for key in parts[0] if key.endswith("ndcg")]:
            joined[key] = np.concatenate([p[key] for p in parts], axis=1)[:, order]
        joined["seconds"] = np.array(sum(float(p["seconds"]) for p in parts))
        joined["curve"] = sum(p["sum"] for p in parts) / sum(p["count"] for p in parts)
        seeds[seed] = joined
    return seeds


def at_main(curve: np.ndarray, main: float) -> float:
    """Hypervolume where c makes the mean main NDCG equal `main`; `curve` (S, p, 1 + m). NaN outside the range of c."""
    mains = curve[:, :, 0].mean(1)
    volumes = np.array([hypervolume(points[:, 1:]) for points in curve])
    order = np.argsort(mains)
    return float(np.interp(main, mains[order], volumes[order], left=np.nan, right=np.nan))


def interval(values: np.ndarray) -> str:
    """Mean and 95 % t-interval over seeds."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values.mean():.4f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.4f} +- {half:.4f}"


def bootstrap_ratio(ours: list[np.ndarray], theirs: list[np.ndarray], draws: int = 1000) -> tuple[float, float]:
    """95 % interval of mean_seeds HV(ours) / mean_seeds HV(theirs) by a paired bootstrap over queries."""
    rng = np.random.default_rng(0)
    queries = ours[0].shape[1]
    ratios = []
    for _ in range(draws):
        pick = rng.integers(queries, size=queries)
        ratios.append(np.mean([hv(x[:, pick]) for x in ours]) / np.mean([hv(x[:, pick]) for x in theirs]))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def table(work: Path) -> None:
    """Print one block per case from what `--work` holds."""
    print(machine(), "; one thread a process; seeds 0, 1, ..., CPU seconds of the trained models, without the base")
    print(
        "Ratios are to HyperDPO's hypervolume over the row's, on the seeds both have: at c = 1 with a 95 % interval by"
    )
    print("a paired bootstrap over queries and one by t over seeds; and where c gives the row the main score of ours.")
    for case in CASES:
        kept = {variant: load(work, case, variant) for variant in VARIANTS}
        first = kept[FIRST]
        if not first:
            print(f"\n{case.name}: no finished seed")
            continue
        some = next(iter(first.values()))
        print(f"\n{case.name}: {', '.join(case.objectives) or 'all objectives'}; {some['ndcg'].shape[1]} test queries; "
              f"seeds {', '.join(map(str, first))}")  # fmt: skip
        print(f"  {'':26s} {'hypervolume':>18s} {'main NDCG@10':>18s} {'seconds':>8s} {'parameters':>10s}  "
              f"{'ratio':>6s} {'queries':>16s} {'seeds':>18s} {'same main':>9s}")  # fmt: skip
        rows = {LABELS[v]: {s: (x["ndcg"], x) for s, x in kept[v].items()} for v in VARIANTS if kept[v]}
        for key, label in (("base/ndcg", "base"), ("oracle/ndcg", "oracle, same beta")):
            if key in some:
                rows[label] = {s: (x[key], {}) for s, x in first.items()}
        for label, row in rows.items():
            volume = {s: hv(ndcg) for s, (ndcg, _) in row.items()}
            main = np.array([np.nanmean(ndcg[..., 0]) for ndcg, _ in row.values()])
            line = f"  {label:26s} {interval(np.array(list(volume.values()))):>18s} {interval(main):>18s}"
            extra = next(iter(row.values()))[1]
            if extra:
                seconds = np.nanmean([float(x["seconds"]) for _, x in row.values()])
                line += f" {seconds:8.1f} {int(extra['parameters']):10,d} "
            else:
                line += f" {'':8s} {'':10s} "
            both = [s for s in row if s in first]
            if label not in (LABELS[FIRST], "base") and both:
                ours = [first[s]["ndcg"] for s in both]
                each = np.array([hv(x) / volume[s] for x, s in zip(ours, both, strict=True)])
                ratio = np.mean([hv(x) for x in ours]) / np.mean([volume[s] for s in both])
                low, high = bootstrap_ratio(ours, [row[s][0] for s in both])
                line += f" {ratio:6.4f} {f'[{low:.3f}, {high:.3f}]':>16s} {interval(each):>18s}"
                if extra:
                    wanted = [float(np.nanmean(x[..., 0])) for x in ours]
                    theirs = [at_main(row[s][1]["curve"], w) for s, w in zip(both, wanted, strict=True)]
                    line += f" {np.mean([hv(x) for x in ours]) / np.mean(theirs):9.4f}"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        return table(options.work)
    folders = prepare(options.work, options.real)
    for case in CASES:
        if case.data not in folders:
            print(f"{case.name} is left out: no {case.data} data", file=sys.stderr)
    tasks = []
    for seed in range(options.seeds):
        for name in options.only:
            case = next(c for c in CASES if c.name == name)
            for fold in range(max(case.folds, 1)) if case.data in folders else ():
                wanted = [FIRST, *(v for v in options.variants if v != FIRST)]
                left = [v for v in wanted if not unit_file(options.work, case, fold, seed, v).exists()]
                if left:
                    tasks.append([(case, folders[case.data], fold, seed, v, options.work) for v in left])
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=4) as pool:
        for _ in pool.imap_unordered(_seed, tasks):
            pass
    return table(options.work)


if __name__ == "__main__":
    main()
