"""Origins of data that can be made again and know their own expectations: the demo and the simulation of any shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperdpo.rank.folder import RankData
    from hyperdpo.rank.oracle import Oracle


@dataclass(frozen=True)
class Source:
    """What a simulated origin offers.

    Attributes:
        labels: the label columns of a data set whose expectations are known.
        oracle: called as oracle(data, split, objectives=..., k=...), see `oracle.Oracle`.
        ensure: the data folder of an origin in the user's cache, made first if it is not there.
    """

    labels: Callable[[RankData], tuple[str, ...]]
    oracle: Callable[..., Oracle]
    ensure: Callable[[dict[str, Any]], Path]


def source_of(origin: Mapping[str, Any]) -> Source | None:
    """The source of data with this origin (a manifest's or a run's), or None where the data was read from files."""
    if origin.get("kind") == "demo":
        from hyperdpo.rank.demo import LABELS, ensure_demo, oracle

        return Source(lambda data: LABELS, oracle, ensure_demo)
    if origin.get("kind") == "simulated":
        from hyperdpo.rank import simulate_oracle

        return Source(simulate_oracle.labels, simulate_oracle.oracle, simulate_oracle.ensure_simulated)
    return None
