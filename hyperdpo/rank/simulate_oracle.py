"""The best any model of simulated features could do, read from `truth.arrow`; and the data made again from its origin.

Of an objective declared as the simulation declares it (L1, higher is better, no shift) the expected label distribution
is p itself, without error. Gains E[z / IDCG@k] are p itself for one-hot labels; otherwise what is not known of them is
simulated: for counts 1 / IDCG after a click on the item, for dense labels sum(z) / IDCG and its covariance with the
item's share. Any other declaration of the same columns (softmax, `min`, a shift) is simulated as a whole.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.random import PCG64, Generator, SeedSequence
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.files import user_cache
from hyperdpo.metrics import ideal_dcg
from hyperdpo.objectives import Objective
from hyperdpo.rank.data import RankData, open_data
from hyperdpo.rank.oracle import ORACLE_CHUNK, ORACLE_SEED, Oracle, expected_gain, expected_targets
from hyperdpo.rank.reading import Progress
from hyperdpo.rank.simulate import (
    GENERATOR_VERSION,
    KIND,
    TRUTH_FILE,
    Array,
    Simulation,
    Truth,
    draw_label,
    simulate,
    truth_names,
)

DEFAULT_DRAWS = 64
"""The root mean square of one item's relative error is then 1 % for counts and 2 % for dense labels; p has none."""


def labels(data: RankData) -> tuple[str, ...]:
    """The columns whose expectations are known."""
    return ("grade", *_simulation(data).names)


def oracle(
    data: RankData,
    split: str = "test",
    draws: int = DEFAULT_DRAWS,
    seed: int = ORACLE_SEED,
    objectives: Sequence[Objective] | None = None,
    k: int = 10,
) -> Oracle:
    """The true expectations on one split of simulated data; `draws` simulations stand behind what is not exact.

    Raises DataError for data of another origin or without a sound truth.arrow, ConfigError for a column that is no
    simulated label.
    """
    chosen = tuple(data.task.objectives if objectives is None else objectives)
    simulation = _simulation(data)
    _check(simulation, (data.task.main, *chosen), draws, k)
    utilities = _read_truth(data, simulation)
    lists = data.lists(split, features=(), labels=False)
    starts, sizes = data.offsets[lists.query_index.numpy()], lists.sizes.numpy()
    first = np.cumsum(sizes) - sizes
    p, gain = np.zeros((2, int(sizes.sum()), len(chosen)), np.float32)
    main_gain, rho = np.zeros(len(p), np.float32), np.zeros((len(sizes), len(chosen)), np.float32)
    order = np.argsort(sizes, kind="stable")
    step = max(1, ORACLE_CHUNK // (draws * int(sizes.max(initial=1))))
    for number, chunk in enumerate(order[i : i + step] for i in range(0, len(order), step)):
        source = np.concatenate([np.arange(s, s + n) for s, n in zip(starts[chunk], sizes[chunk], strict=True)])
        rows = np.concatenate([np.arange(s, s + n) for s, n in zip(first[chunk], sizes[chunk], strict=True)])
        truth = Truth.of(simulation, utilities[:, source], sizes[chunk])
        simulated = _Simulated(truth, draws, (seed, number))
        for j, objective in enumerate(chosen):
            expected, rho[chunk, j] = simulated.targets(objective)
            p[rows, j], gain[rows, j] = expected[truth.mask], simulated.gain(objective, k)[truth.mask]
        main_gain[rows] = simulated.gain(data.task.main, k)[truth.mask]
    return Oracle.of(chosen, lists, p=p, rho=rho, gain=gain, main_gain=main_gain, k=k, draws=draws)


@dataclass(frozen=True)
class _Simulated:
    """Some lists, and how their labels are drawn: from a seed and the column alone, whatever else is asked."""

    truth: Truth
    draws: int
    seed: tuple[int, int]

    def draw(self, column: str, clicks: int | None = None) -> Tensor:
        """Labels (draws, q, n); `clicks` replaces the number of draws of a sparse one."""
        rng = Generator(PCG64(SeedSequence([*self.seed, zlib.crc32(column.encode())])))
        truth = self.truth if clicks is None else replace(self.truth, clicks=clicks)
        return torch.from_numpy(draw_label(rng, truth, column, self.draws))

    def targets(self, objective: Objective) -> tuple[Array, Array]:
        """E[t(z) | features, informative] (q, n), and the chance of being informative (q,)."""
        p = self.truth.p.get(objective.column)
        if p is not None and objective.normalisation == "l1" and _plain(objective):
            return p, np.ones(len(p))
        labels = self.draw(objective.column)
        return expected_targets(objective, labels, self._mask(labels))

    def gain(self, objective: Objective, k: int) -> Array:
        """E[z / IDCG@k | features] (q, n)."""
        name, truth = objective.column, self.truth
        if not _plain(objective):
            labels = self.draw(name)
            return expected_gain(objective.gains(labels, self._mask(labels)), k, None)
        if name in truth.sparse:
            # E[z_i f(z)] = clicks p_i E[f(z' + e_i)] with one click less in z': exact for one-hot labels.
            rates = torch.from_numpy(truth.clicks * truth.p[name]).float()
            return expected_gain(self.draw(name, truth.clicks - 1), k, rates)
        labels = self.draw(name)
        ideal = ideal_dcg(labels, k)
        if name in truth.p:  # z / IDCG is the label's share, of the known expectation p, times sum(z) / IDCG
            whole = labels.sum(-1)
            return _mean_product(labels / whole.unsqueeze(-1), whole / ideal, truth.p[name])
        return _mean_product(labels, ideal.reciprocal().where(ideal > 0, 0.0), truth.expected_grade)

    def _mask(self, labels: Tensor) -> Tensor:
        return torch.from_numpy(self.truth.mask).expand(labels.shape)


def _mean_product(values: Tensor, factor: Tensor, mean: Array) -> Array:
    """E[values * factor] (q, n) from draws of both (draws, q, n) and (draws, q), where E[values] = `mean` is known.

    mean * E[factor] + their covariance, which is small, so that its error is far below that of a plain mean.
    """
    known, average = torch.from_numpy(mean).float(), factor.mean(0)
    covariance = torch.einsum("sqn,sq->qn", values - known, factor - average) / max(len(values) - 1, 1)
    product: Array = (known * average.unsqueeze(-1) + covariance).clamp(min=0).numpy()
    return product


def _plain(objective: Objective) -> bool:
    return objective.direction == "max" and objective.shift == 0


def _simulation(data: RankData) -> Simulation:
    return _from_origin(data.manifest.get("origin", {}), str(data.path))


def _from_origin(origin: dict[str, Any], where: str) -> Simulation:
    """Raises DataError where this version of the generator cannot have made it."""
    if origin.get("kind") != KIND:
        raise DataError(f"{where} is not simulated; make some with `hyperdpo data simulate --out DIR`.")
    if origin.get("generator_version") != GENERATOR_VERSION:
        raise DataError(
            f"{where} comes from version {origin.get('generator_version')!r} of the simulation; this package has "
            f"version {GENERATOR_VERSION}. Make the data again with `hyperdpo data simulate`."
        )
    try:
        return Simulation.from_origin(origin)
    except (ConfigError, TypeError, ValueError) as error:
        raise DataError(f"{where}: its origin cannot be read: {error}") from None


def _check(simulation: Simulation, objectives: Sequence[Objective], draws: int, k: int) -> None:
    known = ("grade", *simulation.names)
    problems = [
        f"{o.column!r} is not a simulated label{nearest(o.column, known)}; the oracle knows {', '.join(known)}."
        for o in objectives
        if o.column not in known
    ]
    if draws < 1:
        problems.append(f"The oracle needs at least 1 draw; got {draws}.")
    if k < 1:
        problems.append(f"NDCG@k needs k of at least 1; got {k}.")
    if problems:
        raise ConfigError(problems)


def _read_truth(data: RankData, simulation: Simulation) -> Array:
    """(1 + m, N) utilities. Raises DataError where they are missing or damaged."""
    file = data.path / TRUTH_FILE
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        utilities = np.stack([table.column(name).to_numpy() for name in truth_names(simulation)])
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{file} is damaged ({error}); make the data again with `hyperdpo data simulate`.") from error
    if utilities.shape[1] != data.n_items:
        raise DataError(f"{file} has {utilities.shape[1]} rows for {data.n_items} items; make the data again.")
    return utilities


def ensure_simulated(origin: dict[str, Any], cache: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The simulated data folder of `origin` in the user's cache, made first if it is missing or damaged.

    Raises DataError for an origin this version cannot make, and where the cache cannot be written.
    """
    simulation = _from_origin(origin, "This data")
    root = Path(cache) if cache is not None else user_cache()
    mark = hashlib.sha256(json.dumps(simulation.origin, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / f"simulated-v{GENERATOR_VERSION}-{mark}"
    try:
        if open_data(folder).manifest["origin"] == simulation.origin:
            return folder
    except DataError:
        pass  # not there yet, or damaged: it is made again
    return simulate(simulation, folder, progress).path
