"""How the defaults were chosen: each choice changed alone, measured on the validation split at c = 1.

    python benchmarks/choices.py --work runs/front_quality [--cases ml2 demo5] [--seeds 1] [--only NAME ..]

Uses the data folders that front_quality.py made in --work. One thread a process.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import machine
from front_quality import CASES

from hyperdpo.methods import MethodConfig
from hyperdpo.rank.data import open_data
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.train import BASELINE_NET, DEFAULT_NET, RankConfig, train

DEFAULT = RankConfig()
CHOICES: dict[str, RankConfig] = {
    "default (mixture)": DEFAULT,
    "geometric": replace(DEFAULT, parametrisation="geometric"),
    "film": replace(DEFAULT, parametrisation="film"),
    "augmentation": replace(DEFAULT, parametrisation="augmentation"),
    "scratch": replace(DEFAULT, parametrisation="scratch"),
    "film, corner-heavy alpha 0.2": replace(DEFAULT, parametrisation="film", method=MethodConfig(alpha=0.2)),
    "augmentation, a draw per step": replace(DEFAULT, parametrisation="augmentation", method=MethodConfig(draw="step")),
    "no dropout": replace(DEFAULT, net=replace(DEFAULT_NET, dropout=0.0)),
    "dropout 0.3": replace(DEFAULT, net=replace(DEFAULT_NET, dropout=0.3)),
    "attention, the paper's layout": replace(DEFAULT, net=BASELINE_NET),
    "width 64": replace(DEFAULT, net=replace(DEFAULT_NET, width=64)),
    "one layer": replace(DEFAULT, net=replace(DEFAULT_NET, layers=1)),
    "base score as an input": replace(DEFAULT, net=replace(DEFAULT_NET, use_base=True)),
    "40 epochs": replace(DEFAULT, fit=replace(DEFAULT.fit, epochs=40, patience=8)),
    "no weight averaging": replace(DEFAULT, fit=replace(DEFAULT.fit, average=0.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", default=["ml2", "demo5"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CHOICES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; seeds 0 to {options.seeds - 1}; validation split, NDCG@10, c = 1, beta 1")
    for case in CASES:
        if case.name not in options.cases or case.folds:
            continue
        data = open_data(options.work / "data" / case.data)
        if case.objectives:
            data = data.with_task(objectives=list(case.objectives))
        print(f"\n{case.name}\n  {'':32s} {'hypervolume':>12s} {'main':>8s} {'seconds':>8s} {'best epoch':>11s}")
        for name in options.only:
            rows = []
            for seed in range(options.seeds):
                bases = options.work / "choices" / f"{case.name}-{seed}"
                if not (bases / "manifest.json").exists():
                    train(data, replace(DEFAULT, seed=seed), bases, overwrite=True, device="cpu")
                out = options.work / "choices" / "current"
                config = replace(CHOICES[name], seed=seed, base=f"run:{bases}")
                run = train(data, config, out, overwrite=True, device="cpu")
                front = evaluate_run(run, data, split="validation")[0]
                rows.append(
                    (front.hypervolume, front.main_mean, front.seconds, run.config["training"][0]["best_epoch"])
                )
                shutil.rmtree(out)
            volume, main_score, seconds, epoch = np.mean(rows, axis=0)
            print(f"  {name:32s} {volume:12.4f} {main_score:8.4f} {seconds:8.1f} {epoch:11.1f}", flush=True)


if __name__ == "__main__":
    main()
