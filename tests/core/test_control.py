"""Post-training control: eq. (15), and the closed forms against numerical minimisers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyperdpo.control import geometric_residual, mixture_residual, oracle_residual, scaled_scores
from hyperdpo.losses import objective_losses, scalarised_loss

SCALES = st.floats(0.1, 10)


def pair(seed: int, n: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, dtype=torch.float64, generator=g), torch.randn(n, dtype=torch.float64, generator=g)


def probabilities(seed: int, b: int = 4, m: int = 3, n: int = 6) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(b, m, n, dtype=torch.float64, generator=g), -1)


def simplex(seed: int, m: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(seed + 1000)
    return torch.softmax(torch.randn(m, dtype=torch.float64, generator=g), -1)


# --- eq. (15) --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), SCALES)
def test_eq_15_as_printed(seed: int, c: float) -> None:
    base, residual = pair(seed)
    tuned = base + residual
    printed = (1 - 1 / c) * base + (1 / c) * tuned
    assert torch.allclose(scaled_scores(base, residual, c), printed, atol=1e-9)


def test_c_of_one_is_the_trained_model_and_large_c_is_the_base() -> None:
    base, residual = pair(0)
    assert torch.equal(scaled_scores(base, residual, 1.0), base + residual)
    assert torch.allclose(scaled_scores(base, residual, 1e12), base, atol=1e-9)
    assert torch.allclose(scaled_scores(base, residual, 0.1), 10 * (base + residual) - 9 * base, atol=1e-9)


@given(st.integers(0, 99), SCALES, SCALES)
def test_scales_compose(seed: int, c1: float, c2: float) -> None:
    base, residual = pair(seed)
    once = scaled_scores(base, residual, c1) - base
    assert torch.allclose(scaled_scores(base, once, c2), scaled_scores(base, residual, c1 * c2), atol=1e-9)


@given(st.integers(0, 99), SCALES, st.floats(0.1, 5))
def test_the_closed_form_at_c_beta_is_eq_15_of_the_closed_form_at_beta(seed: int, c: float, beta: float) -> None:
    base, _ = pair(seed)
    log_p, w = probabilities(seed, b=1)[0].log(), simplex(seed)
    for closed in (mixture_residual, geometric_residual):
        at_c = base + closed(log_p, w, c * beta)
        assert torch.allclose(at_c, scaled_scores(base, closed(log_p, w, beta), c), atol=1e-9)


# --- the mixture is the minimiser of w . L ---------------------------------------------------------------------------


def minimise(p: Tensor, w: Tensor, beta: float) -> Tensor:
    """w . L minimised over delta itself, list by list, from random starts. `p` (b, m, n)."""
    b, m, n = p.shape
    delta = torch.randn(b, n, dtype=torch.float64, generator=torch.Generator().manual_seed(9)).requires_grad_()
    targets, mask = p.transpose(1, 2), torch.ones(b, n, dtype=torch.bool)
    temperatures = torch.full((m,), beta, dtype=torch.float64)
    solver = torch.optim.LBFGS(
        [delta], max_iter=2000, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = scalarised_loss(objective_losses(delta, targets, mask, temperatures), w).sum()
        loss.backward()
        return loss

    solver.step(closure)
    assert delta.grad is not None
    assert delta.grad.abs().max() < 1e-6, "the oracle itself must have converged"
    return delta.detach()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_mixture_is_the_numerical_minimiser_on_fully_informative_lists(seed: int, beta: float) -> None:
    p, w = probabilities(seed), simplex(seed)
    numerical = torch.softmax(beta * minimise(p, w, beta), -1)
    closed = torch.softmax(beta * mixture_residual(p.log(), w, beta), -1)
    assert (numerical - closed).abs().max() < 1e-5
    assert torch.allclose(closed, torch.einsum("m,bmn->bn", w, p), atol=1e-12)
    assert torch.allclose(oracle_residual(p, w, beta), mixture_residual(p.log(), w, beta))


def test_mixture_at_a_corner_is_that_head_alone() -> None:
    log_p = probabilities(3).log()
    for j in range(3):
        assert torch.allclose(mixture_residual(log_p, torch.eye(3).double()[j], 0.5), log_p[:, j] / 0.5, atol=1e-12)


def test_mixture_of_batched_weights_is_row_by_row() -> None:
    log_p = probabilities(4).log()
    w = torch.stack([simplex(s) for s in range(4)])
    for closed in (mixture_residual, geometric_residual):
        rows = torch.stack([closed(log_p[i], w[i], 0.7) for i in range(4)])
        assert torch.allclose(closed(log_p, w, 0.7), rows, atol=1e-12)


def test_mixture_has_finite_gradients_at_a_corner() -> None:
    log_p = probabilities(5).log().requires_grad_()
    mixture_residual(log_p, torch.tensor([0.0, 1.0, 0.0]).double(), 1.0).sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.isfinite().all()
    assert not log_p.grad[:, 0].any()


def test_mixture_survives_vanishing_probabilities() -> None:
    """In float32 exp(-200) is 0: the logarithm of a plain sum would be -inf."""
    log_p = torch.tensor([[-200.0, 0.0, -200.0], [0.0, -200.0, -200.0]])
    residual = mixture_residual(log_p, torch.tensor([0.5, 0.5]), 1.0)
    assert residual.tolist() == pytest.approx([-math.log(2), -math.log(2), -200.0], abs=1e-5)


def test_oracle_floors_a_probability_of_zero() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    residual = oracle_residual(p, torch.tensor([0.5, 0.5]), 2.0)
    assert residual.isfinite().all()
    assert residual[0] > residual[1]


# --- the geometric mixture is MO-DPO's population optimum ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_geometric_is_the_population_optimum_of_mo_dpo(seed: int) -> None:
    """-sum p_k log softmax((beta delta - sum_{j != k} w_j r_j) / w_k) with r_j = log p_j, minimised over delta."""
    beta, w, p = 0.5, simplex(seed), probabilities(seed, b=1)[0]
    for k in range(3):
        margin = sum(w[j] * p[j].log() for j in range(3) if j != k)
        delta = torch.zeros(p.shape[-1], dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [delta], max_iter=1000, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure(k: int = k, margin: Tensor = margin, delta: Tensor = delta, solver=solver) -> Tensor:
            solver.zero_grad()
            loss = -(p[k] * torch.log_softmax((beta * delta - margin) / w[k], -1)).sum()
            loss.backward()
            return loss

        solver.step(closure)
        closed = geometric_residual(p.log(), w, beta)
        difference = torch.softmax(beta * delta.detach(), -1) - torch.softmax(beta * closed, -1)
        assert difference.abs().max() < 1e-5, f"k = {k}: the optimum is the same for every k"


def test_geometric_is_not_the_mixture() -> None:
    log_p, w = probabilities(6).log(), simplex(6)
    a = torch.softmax(geometric_residual(log_p, w, 1.0), -1)
    b = torch.softmax(mixture_residual(log_p, w, 1.0), -1)
    assert (a - b).abs().max() > 0.02
