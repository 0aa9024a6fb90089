"""The best any model of the demo data's features could do, simulated from the truth its labels were drawn with."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.random import PCG64, Generator, SeedSequence

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.objectives import Objective
from hyperdpo.rank.data import RankData
from hyperdpo.rank.demo_items import GENERATOR_VERSION, LIST_SIZES
from hyperdpo.rank.demo_labels import DENSE, LABELS, TRUTH, Lists, count_rates, draw_dense
from hyperdpo.rank.demo_words import Array, Columns
from hyperdpo.rank.oracle import ORACLE_CHUNK, ORACLE_SEED, Oracle, expected_gain, expected_targets

DEFAULT_DRAWS = 256
TRUTH_FILE = "truth.arrow"


def oracle(
    data: RankData,
    split: str = "test",
    draws: int = DEFAULT_DRAWS,
    seed: int = ORACLE_SEED,
    objectives: Sequence[Objective] | None = None,
    k: int = 10,
) -> Oracle:
    """The true expectations on one split of demo data, by simulating its labels `draws` times from `truth.arrow`.

    `objectives` (default: the task's) may have any normalisation, temperature, direction and shift over the six labels.
    Raises DataError for data that was not simulated, ConfigError for a column that is no simulated label.

    Monte Carlo error at the default 256 draws, measured between two seeds on the default test split, as the root mean
    square of one item's relative error: p 3.3 % for l1 counts (their draws are integrated out exactly, only the places
    are averaged) and 4.2 to 4.7 % for the dense objectives, which is 0.001 to 0.003 nats a list; gain 4 to 6 %. It
    falls with the square root of `draws`; the time grows in proportion.
    """
    chosen = tuple(data.task.objectives if objectives is None else objectives)
    truth = read_truth(data)
    _check_oracle(chosen, data.task.main, draws, k)
    lists = data.lists(split)
    starts = data.offsets[lists.query_index.numpy()]
    sizes = lists.sizes.numpy()
    p, gain = np.zeros((2, int(sizes.sum()), len(chosen)), dtype=np.float32)
    main_gain = np.zeros(len(p), dtype=np.float32)
    rho = np.zeros((len(sizes), len(chosen)), dtype=np.float32)
    first = np.cumsum(sizes) - sizes
    for number, chunk in enumerate(_chunks(sizes, draws)):
        padded = Lists.pad(truth, starts[chunk], sizes[chunk])
        rows = (first[chunk, None] + np.arange(padded.mask.shape[1]))[padded.mask]
        for j, objective in enumerate(chosen):
            known = _expect(objective, padded, draws, k, (seed, number))
            p[rows, j], rho[chunk, j], gain[rows, j] = known.p[padded.mask], known.rho, known.gain[padded.mask]
        main_gain[rows] = _expect(data.task.main, padded, draws, k, (seed, number), targets=False).gain[padded.mask]
    return Oracle.of(chosen, lists, p=p, rho=rho, gain=gain, main_gain=main_gain, k=k, draws=draws)


def read_truth(data: RankData) -> Columns:
    """The truth of all items, float32 (N,) each. Raises DataError where there is none, or it is damaged."""
    file = data.path / TRUTH_FILE
    origin = data.manifest.get("origin", {})
    if origin.get("kind") != "demo" or not file.exists():
        raise DataError(
            f"{data.path} holds no {TRUTH_FILE}: only simulated data has an oracle. "
            "Make some with `hyperdpo data demo --out DIR`, or leave the oracle out."
        )
    if origin.get("generator_version") != GENERATOR_VERSION:
        raise DataError(
            f"{data.path} was made by generator version {origin.get('generator_version')!r}; this package's oracle "
            f"is for version {GENERATOR_VERSION}. Make the data again with `hyperdpo data demo`."
        )
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        truth = {name: table.column(name).to_numpy() for name in TRUTH}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{file} is damaged ({error}); make the data again with `hyperdpo data demo`.") from error
    if table.num_rows != data.n_items:
        raise DataError(f"{file} has {table.num_rows} rows for {data.n_items} items; make the data again.")
    return truth


@dataclass(frozen=True)
class _Expected:
    """`p` and `gain` (q, n), `rho` (q,) of one objective on some padded lists."""

    p: Array
    rho: Array
    gain: Array


def _expect(
    objective: Objective, lists: Lists, draws: int, k: int, seed: tuple[int, int], targets: bool = True
) -> _Expected:
    """Simulate one column's labels. The draws depend on seed and column alone, not on what else is asked."""
    rng = Generator(PCG64(SeedSequence([*seed, zlib.crc32(objective.column.encode())])))
    mask = torch.from_numpy(lists.mask).expand(draws, *lists.mask.shape)
    counts = objective.column not in DENSE and objective.direction == "max" and objective.shift == 0
    p, rho = np.empty(0), np.empty(0)
    if objective.column in DENSE:
        labels = torch.from_numpy(draw_dense(rng, lists, objective.column, draws))
    else:
        rates = count_rates(rng, lists, objective.column, draws)
        labels = torch.from_numpy(rng.poisson(rates).astype(np.float32))
        if targets and counts and objective.normalisation == "l1":
            p, rho = _expected_counts(rates, lists.mask)
    gain = expected_gain(objective.gains(labels, mask), k, torch.from_numpy(rates) if counts else None)
    if targets and not len(p):
        p, rho = expected_targets(objective, labels, mask)
    return _Expected(p, rho, gain)


def _expected_counts(rates: Array, mask: Array) -> tuple[Array, Array]:
    """p (q, n) and rho (q,) of l1-normalised Poisson counts with rates (draws, q, n).

    Given its rates, a list is informative with chance 1 - exp(-sum), and given that it is, its expected share of counts
    is exactly rate / sum. So only the places are averaged over, each weighted by its chance of being informative.
    """
    total = rates.sum(-1)
    weight = -np.expm1(-total)
    share = (weight / total)[..., None] * rates
    p = share.sum(0, dtype=np.float64) / weight.sum(0, dtype=np.float64)[:, None]
    return np.where(mask, p, 0.0), weight.mean(0)


def _chunks(sizes: Array, draws: int) -> Iterator[Array]:
    """Positions of lists of like length, as many at a time as ORACLE_CHUNK values allow."""
    order = np.argsort(sizes, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, ORACLE_CHUNK // (draws * LIST_SIZES[1]))
        yield order[start : start + width]
        start += width


def _check_oracle(objectives: Sequence[Objective], main: Objective, draws: int, k: int) -> None:
    problems = [
        f"{o.column!r} is not a simulated label{nearest(o.column, LABELS)}; the oracle knows {', '.join(LABELS)}."
        for o in (main, *objectives)
        if o.column not in LABELS
    ]
    if draws < 1:
        problems.append(f"The oracle needs at least 1 draw; got {draws}.")
    if k < 1:
        problems.append(f"NDCG@k needs k of at least 1; got {k}.")
    if problems:
        raise ConfigError(problems)
