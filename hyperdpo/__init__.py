"""HyperDPO: one model for every trade-off.

Shapes in every docstring: b lists or rows in a batch, n items in a list (padded, with a bool mask that is True on real
items), m auxiliary objectives, d item features, k virtual tokens, r mask rank. `w` lies on the simplex, (m,); `beta` is
one temperature per objective, (m,); `c` is the scale of eq. (15).

Names are imported when first used, so that `import hyperdpo` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperdpo.control import mixture_residual, scaled_scores
    from hyperdpo.errors import ConfigError, DataError, HyperDPOError, Interrupted, RunError, WeightsError
    from hyperdpo.front import ParetoFront, hypervolume
    from hyperdpo.losses import alignment_penalty, icos_loss, listwise_loss
    from hyperdpo.metrics import ndcg
    from hyperdpo.objectives import Objective
    from hyperdpo.rank.data import RankData, convert, open_data
    from hyperdpo.rank.demo import make_demo
    from hyperdpo.rank.run import RankRun
    from hyperdpo.rank.train import RankConfig, train
    from hyperdpo.weights import grid

_HOMES = {
    "alignment_penalty": "losses",
    "ConfigError": "errors",
    "convert": "rank.data",
    "DataError": "errors",
    "grid": "weights",
    "HyperDPOError": "errors",
    "hypervolume": "front",
    "icos_loss": "losses",
    "Interrupted": "errors",
    "listwise_loss": "losses",
    "make_demo": "rank.demo",
    "mixture_residual": "control",
    "ndcg": "metrics",
    "Objective": "objectives",
    "open_data": "rank.data",
    "ParetoFront": "front",
    "RankConfig": "rank.train",
    "RankData": "rank.data",
    "RankRun": "rank.run",
    "RunError": "errors",
    "scaled_scores": "control",
    "train": "rank.train",
    "WeightsError": "errors",
}

__all__ = [*_HOMES, "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hyperdpo' has no attribute {name!r}")
    return getattr(import_module(f"hyperdpo.{_HOMES[name]}"), name)


def load(path: Any) -> RankRun:
    """Open a run folder: a ranking run can `score(features, weights, scale=c)` one list at any (w, c).

    Raises RunError with everything that is wrong with the folder.
    """
    from hyperdpo.rank.run import RankRun

    return RankRun(path)
