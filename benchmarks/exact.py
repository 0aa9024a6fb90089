"""What must hold exactly, as figures: parameter counts, loss identities, the mixture's optimality, NDCG, hypervolume.

python benchmarks/exact.py
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from common import machine
from sklearn.metrics import ndcg_score

from hyperdpo.control import mixture_residual, scaled_scores
from hyperdpo.front import hypervolume
from hyperdpo.losses import dpo_loss, listwise_loss, objective_losses, scalarised_loss
from hyperdpo.methods import MethodConfig, members, mixing_weights
from hyperdpo.metrics import ndcg
from hyperdpo.rank.hypernetwork import HyperRanker
from hyperdpo.rank.model import NetConfig, Ranker, count_parameters

PAPER = {
    "one unconditioned model": 50_112,
    "HyperDPO (w concatenated)": 50_432,
    "DPO-LS, 11 models": 551_232,
    "DPO Soup, 5 models and 11 x 5 weights": 250_615,
    "MO-DPO, 5 reward models and 11 models": 801_792,
}


def parameters() -> dict[str, int]:
    """Counts at m = 5, d = 131 under the `paper` preset, from our own models."""
    beta = (1.0,) * 5
    soup = MethodConfig("dpo-soup")
    single = count_parameters(Ranker(131, 5, "augmentation", NetConfig(), beta, conditioned=False))
    return {
        "one unconditioned model": single,
        "HyperDPO (w concatenated)": count_parameters(Ranker(131, 5, "scratch", NetConfig(), beta)),
        "DPO-LS, 11 models": len(members(MethodConfig("dpo-ls"), 5)) * single,
        "DPO Soup, 5 models and 11 x 5 weights": len(members(soup, 5)) * single + mixing_weights(soup, 5),
        "MO-DPO, 5 reward models and 11 models": len(members(MethodConfig("mo-dpo"), 5)) * single,
        "Pareto hypernetwork": count_parameters(HyperRanker(131, 5, NetConfig())),
        "HyperDPO mixture (ours)": count_parameters(Ranker(131, 5, "mixture", NetConfig(), beta)),
    }


def dpo_gap(generator: torch.Generator) -> float:
    """Largest difference between eq. (4) and eq. (10) for pairs with labels (1, 0)."""
    s, base = (torch.randn(1000, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1000, 2)
    mask = torch.ones(1000, 2, dtype=torch.bool)
    ours = listwise_loss(s - base, targets, mask, beta=0.7)
    pairs = dpo_loss(s[:, 0], s[:, 1], base[:, 0], base[:, 1], beta=0.7)
    return float((ours - pairs).abs().max())


def scale_gap(generator: torch.Generator) -> float:
    """Eq. (15) against the loss: at c * beta the transformed scores cost what the trained ones cost at beta."""
    base, residual = (torch.randn(100, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.softmax(torch.randn(100, 8, generator=generator, dtype=torch.float64), -1)
    mask = torch.ones(100, 8, dtype=torch.bool)
    worst = 0.0
    for c in (0.1, 0.5, 2.0, 10.0):
        moved = scaled_scores(base, residual, c) - base
        difference = listwise_loss(moved, targets, mask, beta=0.8 * c) - listwise_loss(
            residual, targets, mask, beta=0.8
        )
        worst = max(worst, float(difference.abs().max()))
    return worst


def mixture_gap(generator: torch.Generator) -> tuple[float, float]:
    """The mixture against a numerical minimiser of w . L: largest difference of softmaxes, and of the losses."""
    b, n, m, beta = 20, 12, 4, 0.6
    p = torch.softmax(2 * torch.randn(b, m, n, generator=generator, dtype=torch.float64), -1)
    w = torch.softmax(torch.randn(b, m, generator=generator, dtype=torch.float64), -1)
    mask = torch.ones(b, n, dtype=torch.bool)
    betas = torch.full((m,), beta, dtype=torch.float64)
    delta = torch.zeros(b, n, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([delta], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss(residual: torch.Tensor) -> torch.Tensor:
        return scalarised_loss(objective_losses(residual, p.transpose(1, 2), mask, betas), w).sum()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(delta)
        value.backward()
        return value

    optimiser.step(closure)
    closed = mixture_residual(p.log(), w, beta)
    with torch.no_grad():
        gap = torch.softmax(beta * closed, -1) - torch.softmax(beta * delta, -1)
        return float(gap.abs().max()), float((loss(closed) - loss(delta)).abs() / b)


def ndcg_gap(generator: torch.Generator) -> float:
    """Against scikit-learn on untied scores."""
    scores = torch.randn(300, 25, generator=generator)
    gains = torch.randint(0, 5, (300, 25), generator=generator).float()
    ours = ndcg(scores, gains, torch.ones(300, 25, dtype=torch.bool), k=10).numpy()
    theirs = [ndcg_score([g], [s], k=10) for g, s in zip(gains.numpy(), scores.numpy(), strict=True)]
    return float(np.abs(ours - np.array(theirs)).max())


def hypervolume_gap() -> float:
    """Against inclusion-exclusion over boxes, m = 2, 3, 4."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for m, _ in itertools.product((2, 3, 4), range(20)):
        points = rng.random((6, m))
        exact = sum(
            (-1) ** (size + 1) * np.prod(np.min(points[list(chosen)], axis=0))
            for size in range(1, 7)
            for chosen in itertools.combinations(range(6), size)
        )
        worst = max(worst, abs(hypervolume(points) - exact))
    return worst


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    print(f"{machine()}; seed 0")
    for name, count in parameters().items():
        paper = f"paper {PAPER[name]:,}" if name in PAPER else "not in the paper"
        print(f"{name:52s} {count:>12,d}   {paper}")
    probability, value = mixture_gap(generator)
    for name, gap in {
        "listwise loss - DPO loss, n = 2, L1": dpo_gap(generator),
        "eq. (15), loss at c * beta - loss at beta": scale_gap(generator),
        "mixture - numerical minimiser, softmax": probability,
        "mixture - numerical minimiser, loss": value,
        "NDCG@10 - scikit-learn, untied": ndcg_gap(generator),
        "hypervolume - inclusion-exclusion, m = 2, 3, 4": hypervolume_gap(),
    }.items():
        print(f"{name:52s} {gap:12.1e}   largest difference")


if __name__ == "__main__":
    main()
