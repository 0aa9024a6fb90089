"""A simulated marketplace log that the package makes itself, and the best any model of its features could do.

Every query shows 30 to 60 offers. All numbers a model may see are drawn first; then `latents` computes, from those
40 numbers alone, the parameters every label is drawn with (`truth.arrow`). What is random after that (the place the old
ranking gave an offer, clicks, purchases, raters' noise) is independent given the features. So the expected label
distribution ``p = E[t(z) | features]`` is known up to the error of a simulation, and `oracle` computes it.

The objectives pull apart as they do in a shop: clicks follow flashy, discounted, popular offers; purchases follow value
for money; quality follows many good reviews and shuns promotion; freshness wants new listings, which have no reviews
yet; margin wants expensive and own-brand offers.

Here the data folder is written. The generator is in `demo_words` (vocabulary, texts), `demo_items` (features) and
`demo_labels` (truth and labels), the oracle in `demo_oracle`. The numbers in all of them are frozen: whoever changes
one raises `GENERATOR_VERSION`, because runs name the version they were trained on. All randomness comes from NumPy's
PCG64; values are rounded where they are stored, so that the last bit of one machine's `exp` does not show. Arrays over
items have shape (N,), over queries (Q,).
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import PCG64, Generator, SeedSequence

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.files import user_cache
from hyperdpo.rank.data import RankData, Task, open_data, write_folder
from hyperdpo.rank.demo_items import FEATURES, GENERATOR_VERSION, draw_items, draw_queries
from hyperdpo.rank.demo_labels import LABELS, MAIN, OBJECTIVES, TRUTH, Lists, draw_labels, latents
from hyperdpo.rank.demo_oracle import TRUTH_FILE, oracle, read_truth
from hyperdpo.rank.demo_words import Array, Columns, read_words
from hyperdpo.rank.reading import Progress

__all__ = [
    "FEATURES",
    "GENERATOR_VERSION",
    "LABELS",
    "MAIN",
    "OBJECTIVES",
    "demo_origin",
    "ensure_demo",
    "make_demo",
    "oracle",
]

DEFAULT_QUERIES = 3000
DEFAULT_SEED = 0
MIN_QUERIES = 10
"""Fewer cannot be split 60/20/20 into usable parts."""


def make_demo(
    out: str | Path, queries: int = DEFAULT_QUERIES, seed: int = DEFAULT_SEED, progress: Progress | None = None
) -> RankData:
    """Write the demo data set to the folder `out` and open it; the same arguments give the same data.

    `progress` is called with what comes next, the steps done and the steps in all. Raises ConfigError on too few
    queries or a negative seed, and what `write_folder` raises where `out` cannot be written.
    """
    problems = []
    if queries < MIN_QUERIES:
        problems.append(f"The demo data need at least {MIN_QUERIES} queries to be split; got {queries}.")
    if seed < 0:
        problems.append(f"A seed is a whole number from 0; got {seed}.")
    if problems:
        raise ConfigError(problems)
    say = progress or (lambda *_: None)
    say(f"simulating {queries:,} queries", 0, 2)
    log = _simulate(queries, seed)
    say(f"writing {len(log.titles):,} offers", 1, 2)
    data = write_folder(
        out,
        columns=log.columns,
        sizes=log.sizes,
        qids=[f"q{i + 1}" for i in range(queries)],
        split=log.split,
        task=Task(MAIN, OBJECTIVES, FEATURES),
        name="marketplace",
        origin=demo_origin(queries, seed),
        item_texts={"title": log.titles, "price": [f"${price:,.2f}" for price in log.columns["price_usd"].tolist()]},
        query_texts=log.texts,
        split_how={"how": "random 60/20/20", "seed": seed},
        tables={TRUTH_FILE: pa.table({name: log.truth[name] for name in TRUTH})},
    )
    say("done", 2, 2)
    return data


@dataclass(frozen=True)
class _Log:
    """The simulated log in memory: float32 features and labels, truth, list sizes, split and texts."""

    columns: Columns
    truth: Columns
    sizes: Array
    split: Array
    titles: list[str]
    texts: list[str]


def _simulate(queries: int, seed: int) -> _Log:
    query_rng, item_rng, label_rng, split_rng = _generators(seed, 4)
    words = read_words()
    asked = draw_queries(query_rng, words, queries)
    drawn, titles = draw_items(item_rng, words, asked)
    columns = {name: values.astype(np.float32) for name, values in drawn.items()}
    truth = latents(columns)
    lists = Lists.pad(truth, np.cumsum(asked.sizes) - asked.sizes, asked.sizes)
    columns |= {name: values[lists.mask] for name, values in draw_labels(label_rng, lists).items()}
    return _Log(columns, truth, asked.sizes, _split(split_rng, queries), titles, asked.texts)


def demo_origin(queries: int = DEFAULT_QUERIES, seed: int = DEFAULT_SEED) -> dict[str, Any]:
    """What a data folder and the runs trained on it say about where the data came from."""
    return {"kind": "demo", "queries": queries, "seed": seed, "generator_version": GENERATOR_VERSION}


def ensure_demo(origin: dict[str, Any], cache: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The demo data folder of `origin` in the user's cache, made first if it is missing or damaged.

    `cache` is by default HYPERDPO_CACHE, or `hyperdpo` under XDG_CACHE_HOME or ~/.cache. Several processes may ask at
    once: each makes its own copy and one is kept. Raises DataError for an origin this version of the generator cannot
    make, and where the cache cannot be written.
    """
    queries, seed = _checked_origin(origin)
    root = Path(cache) if cache is not None else user_cache()
    folder = root / f"demo-v{GENERATOR_VERSION}-{queries}-queries-seed-{seed}"
    if _is_demo(folder, origin):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".demo-", dir=root) as scratch:
            make_demo(Path(scratch) / "data", queries, seed, progress)
            _put_in_place(Path(scratch), folder, origin)
    except OSError as error:
        raise DataError(
            f"The demo data could not be written to {root} ({error.strerror or error}); set HYPERDPO_CACHE to a folder "
            "you may write to."
        ) from error
    return folder


def _put_in_place(scratch: Path, folder: Path, origin: dict[str, Any]) -> None:
    """Move `scratch`/data to `folder`, unless another process has put the same data there meanwhile."""
    if folder.exists() and not _is_demo(folder, origin):
        with contextlib.suppress(FileNotFoundError):  # another process cleared it away first
            folder.rename(scratch / "damaged")
    try:
        (scratch / "data").rename(folder)
    except OSError:  # a folder with files in it is never overwritten by a rename
        if not _is_demo(folder, origin):
            raise


def _is_demo(folder: Path, origin: dict[str, Any]) -> bool:
    try:
        data = open_data(folder)
        read_truth(data)
    except (DataError, ConfigError, OSError):
        return False
    return data.manifest.get("origin") == origin


def _checked_origin(origin: dict[str, Any]) -> tuple[int, int]:
    """Queries and seed of a demo origin. Raises DataError listing all that keeps it from being made again."""
    problems = []
    if origin.get("kind") != "demo":
        problems.append(f"Only demo data can be made again; this data's origin is {origin!r}; point to its folder.")
    elif origin.get("generator_version") != GENERATOR_VERSION:
        problems.append(
            f"These demo data come from generator version {origin.get('generator_version')!r}, and this package has "
            f"version {GENERATOR_VERSION}; install the package version the run was made with, or train again."
        )
    else:
        for key in ("queries", "seed"):
            if not isinstance(origin.get(key), int) or isinstance(origin[key], bool):
                problems.append(f"A demo origin has a whole number {key!r}; got {origin.get(key)!r}.")
    if problems:
        raise DataError(problems)
    return origin["queries"], origin["seed"]


def _generators(seed: int, count: int) -> list[Generator]:
    return [Generator(PCG64(child)) for child in SeedSequence([GENERATOR_VERSION, seed]).spawn(count)]


def _split(rng: Generator, queries: int) -> Array:
    """0 train, 1 validation, 2 test at 60/20/20, (Q,) uint8."""
    split = np.zeros(queries, dtype=np.uint8)
    order = rng.permutation(queries)
    fifth = queries // 5
    split[order[:fifth]] = 1
    split[order[fifth : 2 * fifth]] = 2
    return split
