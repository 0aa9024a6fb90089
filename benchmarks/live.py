"""How fast figures follow a slider: 2,000 lists x 120 documents, 6 labels, one mixture of five objectives.

Prints medians in milliseconds and, as the named peer measured in the same run, scikit-learn's `ndcg_score` for one
NDCG over the same lists. Nothing here is asserted: machines are noisy.

    python benchmarks/live.py [--queries 2000] [--items 120] [--repeats 20] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch

import numpy as np
import torch
from common import machine
from sklearn.metrics import ndcg_score

from hyperdpo.objectives import Objective
from hyperdpo.rank.data import ListSet, Task
from hyperdpo.rank.live import ListTable, LiveModel, front_ndcg
from hyperdpo.rank.model import NetConfig, Ranker
from hyperdpo.weights import grid

M, D = 5, 40


def median_ms(function: Callable[[int], object], repeats: int) -> float:
    """Median wall-clock milliseconds of `function(i)`, after two calls that do not count."""
    times = []
    for i in range(repeats + 2):
        started = time.perf_counter()
        function(i)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])


def simulated(queries: int, items: int) -> tuple[ListSet, Task]:
    """Random lists of equal length: features, graded labels, two sparse and three dense objectives."""
    rng = np.random.default_rng(0)
    total = queries * items
    labels = np.concatenate(
        [
            rng.integers(0, 5, (total, 1)),
            rng.poisson(0.1, (total, 2)),
            rng.random((total, 3)),
        ],
        axis=1,
    ).astype(np.float32)
    objectives = tuple(Objective(f"o{j}", f"o{j}", "l1" if j < 2 else "softmax") for j in range(M))
    task = Task(Objective("main", "main"), objectives, tuple(f"f{i}" for i in range(D)))
    lists = ListSet(
        torch.from_numpy(rng.standard_normal((total, D), dtype=np.float32)),
        torch.from_numpy(labels),
        None,
        torch.arange(0, total + 1, items),
        torch.arange(queries),
    )
    return lists, task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    lists, task = simulated(options.queries, options.items)
    torch.manual_seed(0)
    base = torch.randn(len(lists.labels))
    beta = (1.0,) * M
    table = ListTable(lists, task, base, beta, device=options.device)
    separable = LiveModel(Ranker(D, M, "mixture", NetConfig(), beta), table, lists.features)
    forward = LiveModel(Ranker(D, M, "film", NetConfig(), beta), table, lists.features)
    weights = torch.from_numpy(np.random.default_rng(1).dirichlet([1.0] * M, options.repeats + 2)).float()
    scales = np.geomspace(0.1, 10, options.repeats + 2)
    residuals = separable.grid_residuals(11)
    corner = grid(M)[0]
    separable.residual(corner)

    def sklearn_one(_: int) -> None:
        ndcg_score(table.gains[..., 0].cpu().numpy(), table.base.cpu().numpy(), k=10)

    def front(i: int) -> None:
        values = front_ndcg(table, residuals, scale=float(scales[i])).nanmean(1)
        from hyperdpo.front import hypervolume

        hypervolume(values[:, 1:].double().cpu().numpy())

    rows = [
        ("live point after a move of c", lambda i: separable.point(corner, scale=float(scales[i])), 50),
        ("live point after a move of w, mixture", lambda i: separable.point(weights[i]), 50),
        ("11-point hypervolume after a move of c", front, 100),
        ("live point after a move of w, film (a forward pass)", lambda i: forward.point(weights[i]), 1200),
        ("peer: scikit-learn ndcg_score, one label", sklearn_one, None),
    ]
    print(f"{machine(options.device)}; {options.queries:,} lists x {options.items} items, 6 labels, seed 0")
    print(f"{'what':54s} {'median ms':>10s} {'limit ms':>9s}")
    for name, function, floor in rows:
        repeats = options.repeats if floor != 1200 else min(5, options.repeats)
        print(f"{name:54s} {median_ms(function, repeats):10.1f} {floor or '':>9}")


if __name__ == "__main__":
    main()
