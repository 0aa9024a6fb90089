"""Measuring a text run on a split: cross-entropies, front, hypervolume, accuracy, and how far it went from its base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.front import CROSS_ENTROPY, ParetoFront
from hyperdpo.methods import METHOD_NAMES
from hyperdpo.text.card import text_card
from hyperdpo.text.data import Preferences, part_of_run
from hyperdpo.text.labels import Labels, Measured
from hyperdpo.text.model import token_losses
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TextBatch, TextBatches, TokenLists, tokenise
from hyperdpo.weights import grid

MAIN = "closeness"  # minus the mean absolute change of the responses' log-likelihood from the base, in nats
BATCH = 16


class TextTable(Labels):
    """A split of preferences, tokenised, with the base's log-probabilities: what every w is measured on.

    Args:
        run: the run, whose tokenizer, lengths and temperatures are used.
        preferences: the lists.
    """

    def __init__(self, run: TextRun, preferences: Preferences) -> None:
        super().__init__(preferences, run.beta)
        model = run.model
        context = model.context and model.context - run.prompt_config.tokens
        self.lists: TokenLists = tokenise(preferences, run.tokenizer, run.tokens, context=context)
        self.batches = TextBatches(self.lists, batch_size=BATCH, device=model.device)
        with torch.no_grad():
            base = self.batches.each(lambda batch: model.base_scores(batch.tokens, batch.mask))
        self.batches.base = self.lists.per_list(base)

    @torch.no_grad()
    def measure(self, run: TextRun, weights: Tensor, *, scale: float = 1.0) -> Measured:
        """The run at one w (m,), with the residual divided by `scale` (c of eq. 15)."""
        model = run.at(weights)
        at = weights.to(model.device)
        return self.from_residuals(self.batches.each(lambda batch: model(*batch.inputs, at)).numpy(), scale=scale)


def measured_front(table: Labels, found: Sequence[Measured], weights: np.ndarray, **fields: Any) -> ParetoFront:
    """A front of minus cross-entropies from what was measured at each of `weights` (p, m) or (p, 0)."""
    entropies = np.stack([x.cross_entropy for x in found])
    near = np.stack([table.closeness(x.residuals) for x in found])
    values = np.column_stack([near.mean(1), -entropies])
    per_query = np.stack([np.column_stack([row, -x.losses]) for row, x in zip(near, found, strict=True)])
    if np.isnan(entropies).any():
        raise DataError("An objective has no informative list in this split; give more prompts or leave it out.")
    return ParetoFront(
        weights=weights,
        main=MAIN,
        k=0,
        ndcg=values,
        cross_entropy=entropies,
        per_query=per_query,
        residuals=np.stack([x.residuals for x in found]),
        reference=(-table.reference,) * entropies.shape[1],
        metric=CROSS_ENTROPY,
        objectives=tuple(o.name for o in table.preferences.objectives),
        data=table.preferences.fingerprint,
        **fields,
    )


def run_front(
    run: TextRun,
    table: TextTable,
    *,
    split: str,
    points: int = 11,
    scale: float = 1.0,
    tick: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> ParetoFront:
    """The front of one run on one table, at c = `scale`."""
    weights = grid(run.m, max(points, run.m)) if run.trained is None else run.trained
    found = []
    for i, w in enumerate(weights):
        found.append(table.measure(run, w, scale=scale))
        tick(f"measuring {run.name}", i + 1, len(weights))
    return measured_front(
        table,
        found,
        weights.numpy().astype(float),
        name=METHOD_NAMES[run.method.method],
        method=run.method.method,
        scale=scale,
        split=split,
        models=run.config["models"],
        **_of_run(run),
    )


def decoding_front(soup: TextRun, table: TextTable, *, split: str, points: int = 11) -> ParetoFront:
    """Multi-objective decoding (Shi et al. 2024): the single-objective models' logits mixed with w at every token.

    The models are a soup's; nothing more is trained, and every token costs m forward passes.
    """
    weights = grid(soup.m, max(points, soup.m))

    def mixed(batch: TextBatch) -> Tensor:
        """(b, n, p): the residual of every response at every w; the models' logits are made once for all."""
        found = [soup.at(w).response_logits(batch.tokens, batch.mask) for w in torch.eye(soup.m)]
        _, targets, scored = found[0]
        logits = torch.stack([x.float() for x, _, _ in found], -1)
        each = [token_losses(logits @ w.to(logits.device), targets) for w in weights]
        scores = batch.inputs[1].new_zeros(*batch.mask.shape, len(weights))
        scores[batch.mask] = -torch.stack([(x * scored).sum(-1) for x in each], -1)
        return scores - batch.inputs[1].unsqueeze(-1)

    with torch.no_grad():
        residuals = table.batches.each(mixed).numpy()
    columns = [table.from_residuals(column) for column in residuals.T]
    return measured_front(
        table,
        columns,
        weights.numpy().astype(float),
        name="Multi-objective decoding",
        method="mod",
        scale=1.0,
        split=split,
        models=soup.m,
        **_of_run(soup),
    )


def _of_run(run: TextRun) -> dict[str, Any]:
    """What a front says of the run it comes from."""
    config = run.config
    return {"beta": run.beta, "run": run.name, **{key: config[key] for key in ("parameters", "seconds", "device")}}


def base_front(run: TextRun, table: Labels, *, split: str) -> ParetoFront:
    """The untouched base: the chance point."""
    return measured_front(
        table,
        [table.base()],
        np.zeros((1, 0)),
        name="Base",
        method="base",
        scale=1.0,
        split=split,
        run=run.name,
    )


def evaluate_run(
    run: TextRun,
    preferences: Preferences,
    *,
    split: str = "test",
    points: int = 11,
    scale: float = 1.0,
    baselines: Sequence[TextRun] = (),
    save: bool = False,
    tick: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[ParetoFront]:
    """The run's front on a split, its baselines', and the base's chance point; with `save` they replace front.json.

    `split` is train, validation or test by the run's own seed, or `all` for data it has never seen.

    Raises ConfigError where objectives differ from the run's or another base stands under a baseline.
    """
    check_objectives(run, preferences)
    part = part_of_run(run.config, preferences, split)
    table = TextTable(run, part)
    fronts = [run_front(run, table, split=split, points=points, scale=scale, tick=tick)]
    for other in baselines:
        if other.config["base"]["fingerprint"] != run.config["base"]["fingerprint"]:
            raise ConfigError(f"{other.name} and {run.name} stand on different bases; train both on one.")
        own = TextTable(other, part)
        fronts.append(run_front(other, own, split=split, points=points, scale=scale, tick=tick))
    if save:
        fronts += _kept(run, fronts)
    fronts.append(base_front(run, table, split=split))
    if save:
        run.folder.save_fronts(fronts, text_card(run.name, run.config, fronts, table.floor.tolist()))
    return fronts


def _kept(run: TextRun, fresh: list[ParetoFront]) -> list[ParetoFront]:
    """Baselines' fronts that stand in the folder already, on the same terms, and were not measured again now."""
    own, names = fresh[0], {front.name for front in fresh}
    return [
        front
        for front in run.folder.fronts()
        if front.name not in names
        and front.method not in ("base", own.method)
        and (front.data, front.split, front.scale) == (own.data, own.split, own.scale)
    ]


def check_objectives(run: TextRun, preferences: Preferences) -> None:
    """Raises ConfigError where the data's objectives are not the run's."""
    theirs = tuple(o.name for o in preferences.objectives)
    if theirs != run.names:
        raise ConfigError(
            f"{run.name} was trained on {', '.join(run.names)}; the data has {', '.join(theirs) or 'no objective'}: "
            "name the same objectives, in the same order."
        )
