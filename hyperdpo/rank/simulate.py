"""Simulated ranking data of any shape whose expected label distributions are known exactly.

Features are drawn first. Random smooth functions of them, `utility_j` of objective j, then decide everything:
``p_j = softmax(SHARPNESS * utility_j)`` within the list, and each objective's labels are drawn so that the
L1-normalised label has the expectation p_j, not nearly but exactly:

- sparse (as clicks): `clicks` draws of an item from p_j, counted. Shares of a multinomial have the expectation p_j.
- dense (as quality scores): independent Gamma(c p_ji) with c = DENSE_SHAPE * n. Their shares are Dirichlet(c p_j), with
  the expectation p_j.

The main label is a grade 0 to 4: `utility_main` plus normal noise, cut at four thresholds. `truth.arrow` keeps the
utilities as labels were drawn from them, so that the oracle reads them back without error (`SimulatedTruth`).

The objectives pull apart by `conflict`: each utility is sqrt(1 - conflict) times a part that all share plus
sqrt(conflict) times its own part, and the own parts are the corners of a simplex, so that two utilities correlate by
``1 - conflict - conflict / (m - 1)``: from 1 (no conflict) to -1 at m = 2.

Lists are made and written a chunk at a time: memory does not grow with the data, and the shape of MSLR-WEB10K takes
seconds, most of them for writing. The numbers in this file are frozen: whoever changes one raises GENERATOR_VERSION.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.random import PCG64, Generator, SeedSequence
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from hyperdpo.errors import ConfigError
from hyperdpo.objectives import Objective
from hyperdpo.rank.conversion import random_split
from hyperdpo.rank.data import RankData, Task
from hyperdpo.rank.reading import MAX_COLUMNS, Progress
from hyperdpo.rank.writer import FolderWriter

GENERATOR_VERSION = 1
KIND = "simulated"
TRUTH_FILE = "truth.arrow"
MIN_QUERIES = 10
"""Fewer cannot be split 60/20/20 into usable parts."""
MIN_FEATURES = 4

SHARPNESS = 1.5
"""Of p_j: utilities have a standard deviation of 1 within a list, so the best of 100 has some 15 times its share."""
DENSE_SHAPE = 2.0
"""Mean shape of a dense label's Gamma: its relative noise is about 0.7 on an average item."""
GRADE_NOISE = 0.5
GRADE_SHARES = (0.52, 0.32, 0.13, 0.02, 0.01)
"""Of the grades 0 to 4, about as in MSLR-WEB10K."""
MAIN_SHARED = 0.5
"""The share of the main utility's variance that it has in common with the objectives."""

UNITS = 24
READS = 3
"""Hidden units of the random functions (more for many objectives), and how many features each unit reads."""
DECIMALS = 4
"""Features and utilities are rounded: what is stored is the same on every machine."""
PILOT_LISTS, PILOT_ITEMS = 64, 64
CHUNK_CELLS = 8_000_000

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Simulation:
    """The shape of a simulated data set; the same numbers give the same data.

    Attributes:
        queries: lists in all, split 60/20/20.
        items: shortest and longest list, both included; lengths are uniform between them.
        features: d. A fifth of them describes the query and is the same for all items of a list.
        objectives: m.
        dense: how many of the objectives, the last ones, have dense labels; None is half of them, rounded down.
        clicks: draws a list for every sparse objective; 1 gives one-hot labels.
        conflict: 0 (all objectives want the same) to 1 (they pull apart as far as m objectives can).
        seed: of everything random.

    Raises ConfigError listing every number that cannot be.
    """

    queries: int = 1000
    items: tuple[int, int] = (20, 60)
    features: int = 40
    objectives: int = 2
    dense: int | None = None
    clicks: int = 5
    conflict: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.items
        problems = []
        if self.queries < MIN_QUERIES:
            problems.append(f"At least {MIN_QUERIES} queries can be split 60/20/20; got {self.queries}.")
        if not 2 <= low <= high:
            problems.append(f"Lists have at least 2 items, and the shorter length comes first; got {low} and {high}.")
        if not MIN_FEATURES <= self.features < MAX_COLUMNS - self.objectives:
            problems.append(f"The simulation has from {MIN_FEATURES} features up; got {self.features}.")
        if self.objectives < 1:
            problems.append(f"At least 1 auxiliary objective is needed; got {self.objectives}.")
        if self.dense is not None and not 0 <= self.dense <= self.objectives:
            problems.append(f"From 0 to all {self.objectives} objectives can be dense; got {self.dense}.")
        if self.clicks < 1:
            problems.append(f"A sparse label has at least 1 draw a list; got {self.clicks}.")
        if not 0 <= self.conflict <= 1:
            problems.append(f"Conflict runs from 0 to 1; got {self.conflict}.")
        if self.seed < 0:
            problems.append(f"A seed is a whole number from 0; got {self.seed}.")
        if problems:
            raise ConfigError(problems)

    @property
    def dense_count(self) -> int:
        return self.objectives // 2 if self.dense is None else self.dense

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives' names and label columns: sparse ones first."""
        sparse = self.objectives - self.dense_count
        return (*(f"clicks{i + 1}" for i in range(sparse)), *(f"quality{i + 1}" for i in range(self.dense_count)))

    @property
    def task(self) -> Task:
        """Every objective is declared with L1 normalisation, under which p_j is exact."""
        chosen = tuple(Objective(name, name, "l1") for name in self.names)
        return Task(Objective("grade", "grade"), chosen, tuple(f"f{i + 1}" for i in range(self.features)))

    @property
    def origin(self) -> dict[str, Any]:
        """What the data folder and its runs say about where the data came from."""
        return {"kind": KIND, **asdict(self), "items": list(self.items), "generator_version": GENERATOR_VERSION}

    @classmethod
    def from_origin(cls, origin: dict[str, Any]) -> Simulation:
        """The inverse of `origin`. Raises ConfigError where it lacks a number or has a wrong one."""
        names = [f.name for f in fields(cls)]
        missing = [name for name in names if name not in origin]
        if missing:
            raise ConfigError(f"A simulated origin has the fields {', '.join(names)}; got none for {missing}.")
        return cls(**{**{name: origin[name] for name in names}, "items": tuple(origin["items"])})


def simulate(simulation: Simulation, out: str | Path, progress: Progress | None = None) -> RankData:
    """Write the data set to the folder `out` and open it. Raises DataError where `out` cannot be written.

    `progress` is called with what is done, lists done, and lists in all.
    """
    shape_rng, split_rng, *_ = _generators(simulation, 2)
    low, high = simulation.items
    sizes = shape_rng.integers(low, high + 1, simulation.queries)
    task = simulation.task
    truths: list[Array] = []
    with FolderWriter(out) as writer:
        columns = [*task.features, task.main.column, *simulation.names]
        writer.write_items(columns, _batches(simulation, sizes, truths, progress))
        truth = np.concatenate(truths, 1)
        return writer.finish(
            sizes=sizes,
            qids=[f"q{i + 1}" for i in range(simulation.queries)],
            split=random_split(simulation.queries, int(split_rng.integers(2**31))),
            task=task,
            name=f"simulated-m{simulation.objectives}",
            origin=simulation.origin,
            split_how={"how": "random 60/20/20", "seed": simulation.seed},
            tables={TRUTH_FILE: pa.table(dict(zip(truth_names(simulation), truth, strict=True)))},
        )


def truth_names(simulation: Simulation) -> tuple[str, ...]:
    """The columns of truth.arrow: float32 utilities, the main label's first."""
    return tuple(f"{name}_utility" for name in ("grade", *simulation.names))


def _generators(simulation: Simulation, count: int) -> list[Generator]:
    """One independent generator a purpose: shape, split, functions, pilot, and one a chunk of lists."""
    return [Generator(PCG64(s)) for s in SeedSequence([GENERATOR_VERSION, simulation.seed]).spawn(count)]


def _batches(simulation: Simulation, sizes: Array, truths: list[Array], progress: Progress | None) -> Iterator[Array]:
    """(rows, d + 1 + m) float32 of whole lists, as many at once as CHUNK_CELLS allows; appends their utilities."""
    mean_cells = sizes.mean() * (simulation.features + 1 + simulation.objectives)
    step = max(1, int(CHUNK_CELLS / mean_cells))
    starts = range(0, len(sizes), step)
    _, _, function_rng, pilot_rng, *rngs = _generators(simulation, 4 + len(starts))
    functions = _Functions.draw(function_rng, pilot_rng, simulation)
    for start, rng in zip(starts, rngs, strict=True):
        part = sizes[start : start + step]
        features = draw_features(rng, part, simulation.features)
        utilities = functions(features)
        truths.append(utilities)
        batch = np.empty((len(features), simulation.features + 1 + simulation.objectives), np.float32)
        batch[:, : simulation.features] = features
        batch[:, simulation.features :] = draw_labels(rng, Truth.of(simulation, utilities, part), 1)[0]
        yield batch
        if progress:
            progress("simulating", start + len(part), len(sizes))


def draw_features(rng: Generator, sizes: Array, features: int) -> Array:
    """(N, d) float32 standard normal, the first fifth of the columns the same for all items of a list."""
    of_query = features // 5
    values = np.empty((int(sizes.sum()), features), np.float32)
    values[:, of_query:] = rng.standard_normal((len(values), features - of_query), dtype=np.float32)
    values[:, :of_query] = np.repeat(rng.standard_normal((len(sizes), of_query), dtype=np.float32), sizes, 0)
    return np.round(values, DECIMALS, out=values)


@dataclass(frozen=True)
class _Functions:
    """The utilities as functions of the features: (N, d) to (1 + m, N) float32, the main label's first.

    Hidden units tanh(reads . x + shifts) read READS features each, of the item and, every second unit, one of the
    query. They are whitened on a pilot, so that within lists every utility has a standard deviation of about 1 and any
    two correlate as `conflict` says.
    """

    reads: Array
    shifts: Array
    mean: Array
    mixing: Array

    @classmethod
    def draw(cls, rng: Generator, pilot_rng: Generator, simulation: Simulation) -> _Functions:
        d, parts = simulation.features, 2 + simulation.objectives
        count = max(UNITS, 4 * parts)
        reads = np.zeros((d, count))
        for unit in range(count):
            chosen = d // 5 + rng.choice(d - d // 5, READS, replace=False)
            if unit % 2 and d >= 5:  # what is wanted of an item depends on the query
                chosen[0] = rng.integers(d // 5)
            reads[chosen, unit] = rng.uniform(0.6, 1.2, READS) * rng.choice([-1, 1], READS)
        shifts = 0.5 * rng.standard_normal(count)
        directions = np.linalg.qr(rng.standard_normal((count, parts)))[0]
        pilot = draw_features(pilot_rng, np.full(PILOT_LISTS, PILOT_ITEMS), d)
        units = np.tanh(pilot.astype(np.float64) @ reads + shifts)
        lists = units.reshape(PILOT_LISTS, PILOT_ITEMS, count)
        within = (lists - lists.mean(1, keepdims=True)).reshape(-1, count)
        values, vectors = np.linalg.eigh(within.T @ within / len(within))
        whitening = vectors / np.sqrt(np.maximum(values, 1e-3 * values.max())) @ vectors.T
        return cls(reads, shifts, units.mean(0), whitening @ directions @ _recipe(simulation))

    def __call__(self, features: Array) -> Array:
        units = np.tanh(features.astype(np.float64) @ self.reads + self.shifts) - self.mean
        return np.round(units @ self.mixing, DECIMALS).T.astype(np.float32)


def _recipe(simulation: Simulation) -> Array:
    """(2 + m, 1 + m): each utility, main first, as a sum of uncorrelated parts (shared, main's own, m corners)."""
    m, conflict = simulation.objectives, simulation.conflict
    own = np.eye(m) if m == 1 else (np.eye(m) - 1 / m) * math.sqrt(m / (m - 1))
    recipe = np.zeros((2 + m, 1 + m))
    recipe[0, 0], recipe[1, 0] = math.sqrt(MAIN_SHARED), math.sqrt(1 - MAIN_SHARED)
    recipe[0, 1:] = math.sqrt(1 - conflict)
    recipe[2:, 1:] = math.sqrt(conflict) * own
    return recipe


# ---------------------------------------------------------------------------------------------------------------------
# Labels


@dataclass(frozen=True)
class Truth:
    """What the labels of q lists are drawn from, padded to n items.

    Attributes:
        p: (q, n) float64 by objective; E[t(z^j) | features], 0 on pads.
        grade: (q, n) float64, the main utility.
        mask: (q, n) bool.
        sizes: (q,) items.
        clicks: draws a list of the sparse objectives. sparse: their names.
    """

    p: dict[str, Array]
    grade: Array
    mask: Array
    sizes: Array
    clicks: int
    sparse: tuple[str, ...]

    @classmethod
    def of(cls, simulation: Simulation, utilities: Array, sizes: Array) -> Truth:
        """From (1 + m, N) utilities of lists that follow one another."""
        mask = np.arange(sizes.max()) < sizes[:, None]
        padded = np.full((len(utilities), *mask.shape), -np.inf)
        padded[:, mask] = utilities
        power = np.exp(SHARPNESS * (padded[1:] - padded[1:].max(-1, keepdims=True)))
        p = power / power.sum(-1, keepdims=True)
        names = simulation.names
        sparse = names[: len(names) - simulation.dense_count]
        return cls(dict(zip(names, p, strict=True)), padded[0], mask, sizes, simulation.clicks, sparse)

    @property
    def expected_grade(self) -> Array:
        """(q, n) E[grade | features], 0 on pads."""
        expected: Array = ndtr((self.grade[..., None] - _thresholds()) / GRADE_NOISE).sum(-1)
        return expected


def draw_label(rng: Generator, truth: Truth, name: str, draws: int) -> Array:
    """One label column drawn again and again: float32 (draws, q, n), 0 on pads."""
    if name == "grade":
        noisy = truth.grade + GRADE_NOISE * rng.standard_normal((draws, *truth.mask.shape))
        return np.searchsorted(_thresholds(), noisy).astype(np.float32)
    if name in truth.sparse:
        return _multinomial(rng, truth.p[name], truth.sizes, truth.clicks, draws)
    shape = DENSE_SHAPE * truth.sizes[:, None] * truth.p[name]
    return rng.standard_gamma(shape, (draws, *shape.shape)).astype(np.float32)


def draw_labels(rng: Generator, truth: Truth, draws: int) -> Array:
    """All labels of the real items, main first: float32 (draws, N, 1 + m)."""
    names = ("grade", *truth.p)
    return np.stack([draw_label(rng, truth, name, draws)[:, truth.mask] for name in names], -1)


def _multinomial(rng: Generator, p: Array, sizes: Array, count: int, draws: int) -> Array:
    """How often `count` draws from each p (q, n) name each item: float32 (draws, q, n)."""
    rows, width = p.shape
    row = np.arange(rows)[:, None]
    cumulative = p.cumsum(-1)
    cumulative /= cumulative[:, -1:]
    # One search for all lists: list q owns the numbers from q to q + 1.
    found = np.searchsorted((cumulative + row).ravel(), rng.random((draws, rows, count)) + row, side="right")
    found = np.minimum(found, row * width + sizes[:, None] - 1)  # a sum may round up to the next list's first number
    found += np.arange(draws)[:, None, None] * p.size
    return np.bincount(found.ravel(), minlength=draws * p.size).reshape(draws, rows, width).astype(np.float32)


def _thresholds() -> Array:
    """(4,) where the noisy main utility, about N(0, 1 + GRADE_NOISE^2), passes to the next grade."""
    cuts: Array = ndtri(np.cumsum(GRADE_SHARES)[:-1]) * math.sqrt(1 + GRADE_NOISE**2)
    return cuts
