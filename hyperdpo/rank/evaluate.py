"""Measuring a run on a split: its own front, the base, and the oracles where the data is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyperdpo.errors import ConfigError
from hyperdpo.front import ParetoFront
from hyperdpo.implicit import ImplicitTable
from hyperdpo.methods import METHOD_NAMES
from hyperdpo.rank.card import model_card
from hyperdpo.rank.data import RankData
from hyperdpo.rank.live import ListTable, LiveModel, base_front, measured_front
from hyperdpo.rank.run import RankRun, Temperatures
from hyperdpo.rank.sources import source_of
from hyperdpo.runs import RunFolder
from hyperdpo.weights import grid

TRUTH_FLOOR = 1e-12  # of a true probability: its logarithm is then finite


def front_name(config: dict[str, Any]) -> str:
    """What people read on a curve: the method, and for HyperDPO its parametrisation."""
    method = config["method"]["method"]
    name = METHOD_NAMES.get(method, method)
    return f"{name} ({config['parametrisation']})" if method == "hyperdpo" else name


def run_residuals(
    run: RankRun, table: ListTable, features: Tensor, points: int | Tensor, beta: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """(weights (p, m), residuals (p, q, n)) over the grid, or over the weights a method has models for.

    `points` is the grid's size, or weights (p, m) of one's own. Raises ConfigError for temperatures `beta` that the run
    cannot answer, and for weights of one's own where it has a model for each of some others.
    """
    if run.trained is None:
        live = LiveModel(run.rankers[0], table, features)
        if isinstance(points, Tensor):
            return points, torch.stack([live.residual(w, beta) for w in points])
        return grid(run.task.m, points), live.grid_residuals(points, beta)
    if isinstance(points, Tensor):
        raise ConfigError(f"{run.name} answers the {len(run.trained)} weights it was trained for; got {len(points)}.")
    each = [LiveModel(r, table, features).residual(w, beta) for r, w in zip(run.rankers, run.trained, strict=True)]
    return run.trained, torch.stack(each)


def run_front(
    run: RankRun,
    table: ListTable,
    features: Tensor,
    *,
    split: str,
    data: str,
    points: int | Tensor = 11,
    scale: float = 1.0,
    k: int = 10,
    beta: Sequence[float] | None = None,
    keep_residuals: bool = False,
) -> ParetoFront:
    """The front of one run on one table, at temperatures `beta` if it can answer them; `points` as in run_residuals."""
    weights, residuals = run_residuals(run, table, features, points, beta)
    return measured_front(
        table,
        residuals,
        weights.numpy(),
        name=front_name(run.config),
        method=run.method.method,
        scale=scale,
        k=k,
        beta=beta,
        keep_residuals=keep_residuals,
        models=run.models,
        parameters=run.parameters,
        seconds=run.config["seconds"],
        device=run.config["device"],
        run=run.name,
        split=split,
        data=data,
    )


def oracle_fronts(
    data: RankData,
    table: ListTable,
    *,
    split: str,
    points: int | Tensor = 11,
    scale: float = 1.0,
    k: int = 10,
    beta: Sequence[float] | None = None,
) -> list[ParetoFront]:
    """The best any model of these features could do: at this beta, and without a base to stay near to.

    `beta` (m,) is the table's by default; where temperatures differ, the best is the implicit solution of the true p_j.

    Only simulated data knows E[t(z) | features]; for other data the list is empty.
    """
    source = source_of(data.manifest["origin"])
    if source is None or not {o.column for o in data.task.labelled} <= set(source.labels(data)):
        return []  # read from files; or a feature was declared an objective, and the simulation draws labels only
    known = source.oracle(data, split, objectives=data.task.objectives, k=k)
    lists = table.lists
    log_p = lists.pad(known.p).transpose(1, 2).clamp(min=TRUTH_FLOOR).log().to(table.device)
    gain = lists.pad(known.gain)
    weights = points if isinstance(points, Tensor) else grid(data.task.m, points)
    at = table.beta if beta is None else torch.tensor(beta)
    truth = ImplicitTable(log_p, table.mask)
    same = torch.stack([truth.solve(w, at)[0] for w in weights])
    free = torch.stack([(gain * w).sum(-1) for w in weights]).to(table.device) - table.base
    common: dict[str, Any] = {"split": split, "data": data.fingerprint, "k": k}
    return [
        measured_front(
            table, same, weights.numpy(), name="Best possible at this beta", method="oracle", scale=scale,
            keep_residuals=True, beta=beta, **common,
        ),
        measured_front(
            table, free, weights.numpy(), name="Best possible", method="oracle-unconstrained", beta=beta,
            **common,
        ),
    ]  # fmt: skip


def evaluate_run(
    run: RankRun,
    data: RankData,
    *,
    split: str = "test",
    points: int | Tensor = 11,
    scale: float = 1.0,
    k: int | None = None,
    beta: Temperatures | None = None,
    baselines: Sequence[RankRun] = (),
    device: torch.device | str = "cpu",
    save: bool = False,
) -> list[ParetoFront]:
    """All fronts of a run on a split: its own, its baselines', the base's, the oracles'.

    `beta` asks for other temperatures than the training ones, of the run and its baselines alike: raises ConfigError
    where one of them cannot answer. `points` may be weights (p, m) instead of the grid's size. With `save` they replace
    the run's front.json; fronts of baselines measured earlier on the same terms are kept.
    """
    data = run.read(data)
    lists = data.lists(split)
    k = k or int(run.config["k"])
    table, features = run.table(lists, device=device)
    wanted = run.temperatures(beta)
    terms: dict[str, Any] = {"split": split, "points": points, "scale": scale, "k": k, "beta": wanted}
    fronts = [run_front(run, table, features, data=data.fingerprint, **terms)]
    for other in baselines:
        own_table, own_features = other.table(lists, device=device)
        fronts.append(run_front(other, own_table, own_features, data=data.fingerprint, keep_residuals=True, **terms))
    fronts += _kept(run.folder, fronts) if save else []
    fronts.append(base_front(table, k=k, split=split, data=data.fingerprint, run=run.name, scale=scale, beta=wanted))
    fronts += oracle_fronts(data, table, **terms)
    if save:
        run.folder.save_fronts(fronts, model_card(run.name, run.config, fronts))
    return fronts


def _kept(folder: RunFolder, fresh: list[ParetoFront]) -> list[ParetoFront]:
    """Baselines' fronts that stand in the folder already, were measured on the same terms and not measured again
    now.
    """
    own = fresh[0]
    terms = (own.data, own.split, own.k, own.scale, own.beta)
    names = {front.name for front in fresh}
    return [
        front
        for front in folder.fronts()
        if front.name not in names
        and front.method not in ("base", "oracle", "oracle-unconstrained", own.method)
        and (front.data, front.split, front.k, front.scale, front.beta) == terms
    ]
