"""Small lists, tasks and data folders that several tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hyperdpo.objectives import Objective
from hyperdpo.rank.data import ListSet, RankData, Task, write_folder

MAIN = Objective("relevance", "label", "softmax")
CLICKS = Objective("clicks", "clicks", "l1")
QUALITY = Objective("quality", "quality", "softmax")
FRESH = Objective("fresh", "age", "softmax", direction="min")
D = 4


def task(objectives: Sequence[Objective] = (CLICKS, QUALITY), base_column: str | None = None) -> Task:
    return Task(MAIN, tuple(objectives), tuple(f"x{i}" for i in range(D)), base_column)


def lists(sizes: Sequence[int] = (5, 1, 3, 7, 2, 4), m: int = 2, seed: int = 0, *, informative: bool = True) -> ListSet:
    """Lists with labels that depend on the features: main graded, objective 0 sparse, the others dense.

    `informative=False` leaves every second list without a click.
    """
    g = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    x = torch.randn(n, D, generator=g)
    offsets = torch.tensor([0, *np.cumsum(sizes)])
    labels = torch.empty(n, 1 + m)
    labels[:, 0] = (x[:, 0] + x[:, 1] + 2).round().clamp(0, 4)
    labels[:, 1] = (x[:, 1] + 0.5 * torch.randn(n, generator=g) > 0.3).float()
    for j in range(2, m + 1):
        labels[:, j] = (x[:, j % D] - 0.5 * x[:, 0] + 0.2 * torch.randn(n, generator=g)).abs()
    for q in range(len(sizes)):
        labels[offsets[q], 1] = 1.0 if informative or q % 2 == 0 else 0.0
        if not informative and q % 2:
            labels[offsets[q] : offsets[q + 1], 1] = 0.0
    return ListSet(x, labels, x[:, 0] + 0.1 * x[:, 2], offsets, torch.arange(len(sizes)))


def data(path: Path, queries: int = 40, seed: int = 0, *, base_column: str | None = None) -> RankData:
    """A data folder of `queries` lists with three objectives' columns; split 60/20/20 in order."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, queries)
    rolled = lists(sizes.tolist(), 2, seed)
    columns = {f"x{i}": rolled.features[:, i].numpy() for i in range(D)}
    columns |= {"label": rolled.labels[:, 0].numpy(), "clicks": rolled.labels[:, 1].numpy()}
    columns |= {"quality": rolled.labels[:, 2].numpy()}
    if base_column:
        columns[base_column] = (rolled.features[:, 0] * 5).numpy()
    split = np.repeat([0, 1, 2], [queries - 2 * (queries // 5), queries // 5, queries // 5]).astype(np.uint8)
    return write_folder(
        path,
        columns=columns,
        sizes=sizes,
        qids=[f"q{i}" for i in range(queries)],
        split=split,
        task=task(base_column=base_column),
        name="toy",
        origin={"kind": "files"},
    )


def padded(rolled: ListSet) -> tuple[Tensor, Tensor, Tensor]:
    """(features, base, mask) of all lists, zero padded."""
    assert rolled.base is not None
    return rolled.pad(rolled.features), rolled.pad(rolled.base), rolled.mask()
