"""Measuring a text run on a split: cross-entropies, front, hypervolume, accuracy, and how far it went from its base."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.front import CROSS_ENTROPY, ParetoFront
from hyperdpo.losses import objective_losses
from hyperdpo.text.card import text_card
from hyperdpo.text.data import Preferences
from hyperdpo.text.model import first_scored, scatter, token_losses
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TextBatch, TextBatches, TokenLists, tokenise
from hyperdpo.weights import grid

MAIN = "closeness"  # minus the mean absolute change of the responses' log-likelihood from the base, in nats
BATCH = 16
METHOD_NAMES = {"hyperdpo": "HyperDPO", "dpo-ls": "DPO-LS", "dpo-soup": "DPO Soup", "mo-dpo": "MO-DPO"}


@dataclass(frozen=True)
class Measured:
    """One w on one split.

    Attributes:
        losses: (q, m) cross-entropy of each list, on the pairs' scale where lengths differ; NaN where uninformative.
        correct: (q, m) whether the highest-ranked response is a best-labelled one; NaN where uninformative.
        residuals: (items,) delta of each response in order.
    """

    losses: np.ndarray
    correct: np.ndarray
    residuals: np.ndarray

    @property
    def cross_entropy(self) -> np.ndarray:
        """(m,) mean over informative lists."""
        return np.asarray(np.nanmean(self.losses, 0))

    @property
    def accuracy(self) -> np.ndarray:
        """(m,) mean over informative lists."""
        return np.asarray(np.nanmean(self.correct, 0))

    @property
    def spread(self) -> float:
        """Inter-quartile range of the log-likelihood's change from the base, in nats (the paper's Figure 4 inset)."""
        low, high = np.percentile(self.residuals, [25, 75])
        return float(high - low)


class TextTable:
    """A split of preferences, tokenised, with the base's log-probabilities: what every w is measured on.

    Args:
        run: the run, whose tokenizer, lengths and temperatures are used.
        preferences: the lists.
        limit: measure only so many of them, the first.
    """

    def __init__(self, run: TextRun, preferences: Preferences, *, limit: int | None = None) -> None:
        model = run.model
        if limit is not None:
            preferences = preferences.subset(range(min(limit, len(preferences))))
        self.preferences = preferences
        context = model.context and model.context - run.prompt_config.tokens
        self.lists: TokenLists = tokenise(preferences, run.tokenizer, run.tokens, context=context)
        self.batches = TextBatches(self.lists, batch_size=BATCH, device=model.device)
        self.beta = torch.tensor(run.beta, device=model.device)
        base = self.batches.each(lambda batch: model.base_scores(batch.tokens, batch.mask))
        self.batches.base = self.lists.per_list(base)
        self.sizes = self.lists.sizes
        self._targets = pad_sequence(list(self.lists.targets), batch_first=True)
        self._mask = torch.arange(int(self.sizes.max())) < torch.from_numpy(self.sizes).unsqueeze(1)
        self.m = run.m

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def scale(self) -> np.ndarray:
        """(q,) ln 2 / ln n where lists differ in length, so that chance is ln 2 in all of them; 1 where they do not."""
        if len(set(self.sizes.tolist())) == 1:
            return np.ones(len(self.sizes))
        return math.log(2) / np.log(self.sizes)

    @property
    def chance(self) -> float:
        """Cross-entropy of an untouched model: ln n, or ln 2 on the common scale."""
        lengths = set(self.sizes.tolist())
        return math.log(lengths.pop()) if len(lengths) == 1 else math.log(2)

    @property
    def reference(self) -> float:
        """1.1 ln n / ln 2: what hypervolume is measured from, on every axis."""
        return 1.1 * self.chance / math.log(2)

    @property
    def floor(self) -> np.ndarray:
        """(m,) the labels' own mean entropy: no model can have a lower cross-entropy."""
        t = self._targets.double().numpy()
        entropy = -(t * np.log(np.where(t > 0, t, 1.0))).sum(1) * self.scale[:, None]
        return np.asarray(np.nanmean(np.where(self.lists.informative.numpy(), entropy, np.nan), 0))

    @torch.no_grad()
    def measure(
        self,
        run: TextRun,
        weights: Tensor,
        *,
        scale: float = 1.0,
        tick: Callable[[int, int], None] = lambda done, total: None,
    ) -> Measured:
        """The run at one w (m,), with the residual divided by `scale` (c of eq. 15)."""
        model, done = run.at(weights), 0

        def residual(batch: TextBatch) -> Tensor:
            nonlocal done
            done += int(batch.mask.sum())
            tick(done, self.lists.items)
            answer: Tensor = model(*batch.inputs, weights.to(model.device))
            return answer

        return self.from_residuals(self.batches.each(residual).numpy(), scale=scale)

    def from_residuals(self, residuals: np.ndarray, *, scale: float = 1.0) -> Measured:
        """The figures of known residuals (items,) at c = `scale`: no forward pass."""
        flat = torch.as_tensor(np.asarray(residuals) / scale, dtype=torch.float32)
        delta = pad_sequence(self.lists.per_list(flat), batch_first=True)
        losses = objective_losses(delta, self._targets, self._mask, self.beta.cpu())
        correct = _correct(delta, self._targets, self._mask)
        informative = self.lists.informative
        return Measured(
            losses.where(informative, torch.nan).numpy() * self.scale[:, None],
            correct.where(informative, torch.nan).numpy(),
            flat.numpy(),
        )

    def closeness(self, residuals: np.ndarray) -> np.ndarray:
        """(q,) minus the mean absolute residual of each list, in nats: 0 is the base."""
        flat = torch.as_tensor(residuals, dtype=torch.float32).abs()
        return np.array([-float(row.mean()) for row in self.lists.per_list(flat)])

    def base(self) -> Measured:
        """The untouched base: delta is 0 everywhere."""
        return self.from_residuals(np.zeros(self.lists.items))


def _correct(delta: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """(b, m): the share of the top-ranked responses (ties count together) that have the highest label."""
    floor = torch.finfo(delta.dtype).min
    scores = delta.masked_fill(~mask, floor)
    top = (scores == scores.amax(-1, keepdim=True)) & mask
    best = (targets == targets.amax(1, keepdim=True)) & mask.unsqueeze(-1)
    return (top.unsqueeze(-1) & best).sum(1) / top.sum(-1, keepdim=True).clamp(min=1)


def measured_front(table: TextTable, found: Sequence[Measured], weights: np.ndarray, **fields: Any) -> ParetoFront:
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
        objectives=run.names,
        beta=run.beta,
        models=run.config["models"],
        parameters=run.config["parameters"],
        seconds=run.config["seconds"],
        device=run.config["device"],
        run=run.name,
        data=table.preferences.fingerprint,
    )


def decoding_front(soup: TextRun, table: TextTable, *, split: str, points: int = 11) -> ParetoFront:
    """Multi-objective decoding (Shi et al. 2024): the single-objective models' logits mixed with w at every token.

    The models are a soup's; nothing more is trained, and every token costs m forward passes.
    """
    weights = grid(soup.m, max(points, soup.m))
    corners = torch.eye(soup.m)
    columns = []
    for w in weights:

        def mixed(batch: TextBatch, w: Tensor = w) -> Tensor:
            chosen = [j for j in range(soup.m) if w[j] > 0]
            parts = [w[j] * soup.at(corners[j]).response_logits(batch.tokens, batch.mask) for j in chosen]
            ids, _, scored = (x.flatten(0, 1)[batch.mask.flatten()] for x in batch.tokens)
            first = first_scored(scored)
            losses = token_losses(torch.stack(parts).sum(0), ids[:, first:])
            return scatter(-(losses * scored[:, first:]).sum(-1), batch.mask) - batch.inputs[1]

        with torch.no_grad():
            columns.append(table.from_residuals(table.batches.each(mixed).numpy()))
    return measured_front(
        table,
        columns,
        weights.numpy().astype(float),
        name="Multi-objective decoding",
        method="mod",
        scale=1.0,
        split=split,
        objectives=soup.names,
        beta=soup.beta,
        models=soup.m,
        parameters=soup.config["parameters"],
        seconds=soup.config["seconds"],
        device=soup.config["device"],
        run=soup.name,
        data=table.preferences.fingerprint,
    )


def base_front(run: TextRun, table: TextTable, *, split: str) -> ParetoFront:
    """The untouched base: the chance point."""
    return measured_front(
        table,
        [table.base()],
        np.zeros((1, 0)),
        name="Base",
        method="base",
        scale=1.0,
        split=split,
        objectives=run.names,
        run=run.name,
        data=table.preferences.fingerprint,
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
    part = preferences if split == "all" else _part(preferences, run.config["split_seed"], split)
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


def _part(preferences: Preferences, seed: int, split: str) -> Preferences:
    parts = preferences.split(seed)
    if split not in parts:
        raise ConfigError(f"--split is {', '.join(parts)} or all; got {split!r}.")
    return parts[split]


def check_objectives(run: TextRun, preferences: Preferences) -> None:
    """Raises ConfigError where the data's objectives are not the run's."""
    theirs = tuple(o.name for o in preferences.objectives)
    if theirs != run.names:
        raise ConfigError(
            f"{run.name} was trained on {', '.join(run.names)}; the data has {', '.join(theirs) or 'no objective'}: "
            "name the same objectives, in the same order."
        )
