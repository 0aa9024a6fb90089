"""Do the texts follow? Sample at many w, score with the objectives' real scorers, and correlate with w.

Every w answers the same prompts with the same random numbers, the base too, so differences between rows of the table
are differences of w.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata  # type: ignore[import-untyped]

from hyperdpo.errors import ConfigError
from hyperdpo.files import without_nan
from hyperdpo.intervals import BOOTSTRAP_DRAWS, bootstrap_counts, bootstrap_means
from hyperdpo.tables import table
from hyperdpo.text.data import Preferences
from hyperdpo.text.formats import Prompt
from hyperdpo.text.generate import Row, Sampling, generate, prompt_ids
from hyperdpo.text.run import TextRun
from hyperdpo.text.sample import ROWS
from hyperdpo.text.scorers import Scorer, find_scorer
from hyperdpo.text.tokens import encode_response, pad_token, pad_tokens
from hyperdpo.weights import grid

SAMPLING = Sampling(max_new_tokens=48, temperature=1.0, top_p=0.95)
MEASURES = ("distinct-2", "base perplexity")


@dataclass(frozen=True)
class Followed:
    """What was sampled and measured.

    Attributes:
        weights: (p, m).
        objectives: the m names.
        texts: p + 1 lists of one text a prompt; the last is the base's.
        scores: (p + 1, q, m) by the objectives' scorers; NaN where a text has no word.
        distinct: (p + 1,) distinct word pairs over all word pairs of a row.
        nats: (p + 1, q, 2) the base's negative log-probability of each text, and its number of tokens.
    """

    weights: np.ndarray
    objectives: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    scores: np.ndarray
    distinct: np.ndarray
    nats: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """(p + 1, m) mean score at each w, the base last."""
        return np.asarray(np.nanmean(self.scores, 1))

    @property
    def perplexity(self) -> np.ndarray:
        """(p + 1,) of the texts under the base, a token."""
        return np.asarray(np.exp(self.nats[..., 0].sum(1) / self.nats[..., 1].sum(1)))

    def rank_correlation(self) -> np.ndarray:
        """(m, 3): Spearman's correlation between w_j and the mean score over the p weights, with a 95 % interval.

        The interval is a bootstrap over prompts.
        """
        counts = bootstrap_counts(self.scores.shape[1])
        found = []
        for j in range(len(self.objectives)):
            drawn = np.stack([bootstrap_means(self.scores[i, :, j : j + 1], counts)[:, 0] for i in range(self._p)], 1)
            each = [spearman(self.weights[:, j], row) for row in drawn]
            known = [v for v in each if not math.isnan(v)]  # undefined where all w have the same mean
            low, high = np.percentile(known, [2.5, 97.5]) if known else (math.nan, math.nan)
            found.append([spearman(self.weights[:, j], self.means[:-1, j]), low, high])
        return np.array(found)

    @property
    def _p(self) -> int:
        return len(self.weights)

    def intervals(self) -> np.ndarray:
        """(p + 1, m, 2) 95 % bootstrap intervals over prompts of the mean scores."""
        counts = bootstrap_counts(self.scores.shape[1], draws=BOOTSTRAP_DRAWS)
        return np.stack(
            [np.percentile(bootstrap_means(scores, counts), [2.5, 97.5], axis=0).T for scores in self.scores]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the texts."""
        limits = self.intervals()
        rows = []
        for i, means in enumerate(self.means):
            named = dict(zip(self.objectives, self.weights[i].tolist(), strict=True)) if i < self._p else None
            rows.append(
                {
                    "weights": named,
                    "scores": {
                        name: {"mean": float(v), "low": float(low), "high": float(high)}
                        for name, v, (low, high) in zip(self.objectives, means, limits[i], strict=True)
                    },
                    "distinct_2": float(self.distinct[i]),
                    "base_perplexity": float(self.perplexity[i]),
                }
            )
        correlation = {
            name: {"spearman": float(r), "low": float(low), "high": float(high)}
            for name, (r, low, high) in zip(self.objectives, self.rank_correlation(), strict=True)
        }
        document = {"prompts": self.scores.shape[1], "rank_correlation": correlation, "rows": rows}
        plain: dict[str, Any] = without_nan(document)
        return plain

    def text(self) -> str:
        """A table for people, the base in its last row."""
        limits = self.intervals()
        rows = []
        for i, means in enumerate(self.means):
            at = ", ".join(f"{v:.2f}" for v in self.weights[i]) if i < self._p else "base"
            shown = [f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, (low, high) in zip(means, limits[i], strict=True)]
            rows.append([at, *shown, f"{self.distinct[i]:.3f}", f"{self.perplexity[i]:.2f}"])
        told = ", ".join(
            f"{name} {r:.2f} [{low:.2f}, {high:.2f}]"
            for name, (r, low, high) in zip(self.objectives, self.rank_correlation(), strict=True)
        )
        headers = [f"w ({', '.join(self.objectives)})", *self.objectives, *MEASURES]
        head = f"Do the texts follow? {self.scores.shape[1]} texts at each w, the same prompts and seeds."
        return f"{head}\n{table(headers, rows)}\nrank correlation of w and score: {told}"


def follow(
    run: TextRun,
    prompts: Sequence[Prompt],
    *,
    points: int = 11,
    sampling: Sampling = SAMPLING,
    scorers: Sequence[Scorer] | None = None,
    tick: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Followed:
    """Sample one text a prompt at each of `points` weights and from the base, and score them all.

    `scorers` are the objectives' own by default, found by their column's name. Raises ConfigError where an objective
    has no scorer.
    """
    scorers = list(scorers) if scorers is not None else scorers_of(run)
    weights = grid(run.m, max(points, run.m)) if run.trained is None else run.trained
    room = run.model.context and run.model.context - run.prompt_config.tokens
    ids = [prompt_ids(run.tokenizer, prompt, run.tokens, room) for prompt in prompts]
    rows = [Row(p, w, stream=i) for w in weights for i, p in enumerate(ids)]
    rows += [Row(p, None, stream=i) for i, p in enumerate(ids)]
    texts = _sampled(run, rows, len(ids), sampling, tick)
    q = len(prompts)
    answers = tuple(tuple(texts[i : i + q]) for i in range(0, len(texts), q))
    scores = np.stack([np.stack([scorer(row) for scorer in scorers], 1) for row in answers])
    nats = np.stack([base_nats(run, prompts, row) for row in answers])
    return Followed(
        weights.numpy().astype(float), run.names, answers, scores, np.array([distinct_2(row) for row in answers]), nats
    )


def spread_prompts(preferences: Preferences, count: int) -> list[Prompt]:
    """`count` prompts: the different ones in turn, several times where there are fewer."""
    distinct = list(dict.fromkeys(preferences.prompts))
    return [distinct[i % len(distinct)] for i in range(count)]


def scorers_of(run: TextRun) -> list[Scorer]:
    """The scorer of each objective, by its column's name. Raises ConfigError naming those without one."""
    found, problems = [], []
    for objective in run.objectives:
        try:
            found.append(find_scorer(objective.column))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _sampled(
    run: TextRun, rows: Sequence[Row], q: int, sampling: Sampling, tick: Callable[[str, int, int], None]
) -> list[str]:
    """One text a row. A run of many models is brought to each w in turn: `q` rows share one."""
    texts: list[str] = []
    step = ROWS if run.conditioned else q
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        first = piece[0].weights
        if not run.conditioned and first is not None:
            run.at(first)
        for begin in range(0, len(piece), ROWS):
            *_, last = generate(run.model, run.tokenizer, piece[begin : begin + ROWS], sampling)
            texts += [answer.text for answer in last]
            tick("sampling", len(texts), len(rows))
    return texts


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words over all of them (Li et al. 2016); NaN without any."""
    pairs = [pair for text in texts for pair in _pairs(text.lower().split())]
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(words))


@torch.no_grad()
def base_nats(run: TextRun, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
    """(q, 2): the base's negative log-probability of each text after its prompt, and its number of tokens."""
    pad = pad_token(run.tokenizer)[0]
    found = []
    for start in range(0, len(texts), ROWS):
        pairs = []
        for prompt, text in zip(prompts[start : start + ROWS], texts[start : start + ROWS], strict=True):
            before = np.array(prompt_ids(run.tokenizer, prompt, run.tokens, None))
            after = encode_response(run.tokenizer, prompt, text, run.tokens)[0] if text else before[:0]
            pairs.append((before, [after]))
        longest = max(len(before) + len(after) for before, [after] in pairs)
        tokens = pad_tokens(pairs, pad, 1, longest, device=run.model.device)
        nll = -run.model.base_scores(tokens, torch.ones(len(pairs), 1, dtype=torch.bool, device=run.model.device))
        found += [[float(v), len(after)] for v, (_, [after]) in zip(nll[:, 0], pairs, strict=True)]
    return np.array(found)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation with averaged ties; NaN where one of them is constant, of which scipy's own would warn."""
    ranks = [rankdata(x) - (len(x) + 1) / 2 for x in (a, b)]
    size = math.sqrt(float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / size if size else math.nan
