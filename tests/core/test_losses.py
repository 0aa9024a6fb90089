"""Losses of eq. (4) and (9)-(14): by hand, against loops, and their edge cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperdpo.control import geometric_residual
from hyperdpo.losses import (
    alignment_penalty,
    distillation_loss,
    dpo_loss,
    drift,
    icos_loss,
    listwise_loss,
    masked_log_softmax,
    mo_dpo_loss,
    objective_losses,
    scalarised_loss,
)
from hyperdpo.objectives import Objective

SCORES = st.floats(-20, 20, width=32)


def loss_by_loops(residual: list[float], labels: list[float], beta: float) -> float:
    total = sum(labels)
    scores = [beta * r for r in residual]
    norm = math.log(sum(math.exp(s) for s in scores))
    return -sum(z / total * (s - norm) for z, s in zip(labels, scores, strict=True))


def real(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


# --- drift -----------------------------------------------------------------------------------------------------------


@given(st.lists(SCORES, min_size=1, max_size=5), st.floats(-9, 9), st.integers(0, 2))
def test_drift_is_what_the_listwise_loss_does_not_see(scores, shift, pads) -> None:
    residual = torch.tensor([[*scores, *[7.0] * pads]], dtype=torch.float64)
    mask = torch.tensor([[True] * len(scores) + [False] * pads])
    labels = [*range(1, len(scores) + 1), *[0] * pads]
    t, _ = Objective("a", "a", "l1").targets(torch.tensor([labels], dtype=torch.float64), mask)
    assert float(drift(residual, mask)) == pytest.approx(-sum(scores) / len(scores), abs=1e-9)
    assert float(drift(residual + shift, mask)) == pytest.approx(float(drift(residual, mask)) - shift, abs=1e-9)
    before, after = (listwise_loss(x, t, mask) for x in (residual, residual + shift))
    assert float(after) == pytest.approx(float(before), abs=1e-6)


# --- listwise = DPO for pairs ----------------------------------------------------------------------------------------


@given(st.tuples(SCORES, SCORES, SCORES, SCORES), st.floats(0.05, 5))
def test_listwise_loss_is_the_dpo_loss_for_pairs_under_l1(scores, beta) -> None:
    s = torch.tensor(scores, dtype=torch.float64)
    residual = torch.stack([s[0] - s[2], s[1] - s[3]])[None]
    t, _ = Objective("a", "a", "l1").targets(torch.tensor([[1.0, 0.0]], dtype=torch.float64), real(residual))
    ours = listwise_loss(residual, t, real(residual), beta=beta)
    theirs = dpo_loss(s[0], s[1], s[2], s[3], beta=beta)
    margin = beta * ((scores[0] - scores[2]) - (scores[1] - scores[3]))
    by_hand = math.log1p(math.exp(-margin)) if margin > 0 else -margin + math.log1p(math.exp(margin))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert float(theirs) == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.parametrize("standardise", [True, False])
def test_listwise_loss_is_not_the_dpo_loss_under_softmax(standardise: bool) -> None:
    residual = torch.tensor([[1.5, -0.5]])
    t, _ = Objective("a", "a", "softmax", standardise=standardise).targets(torch.tensor([[1.0, 0.0]]), real(residual))
    ours = float(listwise_loss(residual, t, real(residual)))
    theirs = float(dpo_loss(*residual[0], torch.tensor(0.0), torch.tensor(0.0)))
    assert abs(ours - theirs) > 0.1


# --- listwise --------------------------------------------------------------------------------------------------------


def test_uniform_scores_cost_log_n() -> None:
    residual = torch.full((1, 4), 3.0)
    t = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert float(listwise_loss(residual, t, real(t))) == pytest.approx(math.log(4))


@given(st.lists(st.tuples(SCORES, st.floats(0.0, 5, width=32)), min_size=1, max_size=7), st.floats(0.05, 2))
def test_listwise_loss_against_loops(items, beta) -> None:
    residual = torch.tensor([[r for r, _ in items]], dtype=torch.float64)
    labels = [z + 0.125 for _, z in items]
    t, _ = Objective("a", "a", "l1").targets(torch.tensor([labels], dtype=torch.float64), real(residual))
    expected = loss_by_loops(residual[0].tolist(), labels, beta)
    assert float(listwise_loss(residual, t, real(residual), beta=beta)) == pytest.approx(expected, abs=1e-8)


@given(st.lists(SCORES, min_size=2, max_size=6), st.integers(1, 4), SCORES, st.randoms(use_true_random=False))
def test_permutation_shift_and_pads_change_nothing(scores, pads, shift, rnd) -> None:
    residual = torch.tensor([scores], dtype=torch.float64)
    t = torch.softmax(residual.flip(-1), -1)
    loss = listwise_loss(residual, t, real(t))
    order = list(range(len(scores)))
    rnd.shuffle(order)
    assert torch.allclose(listwise_loss(residual[:, order], t[:, order], real(t)), loss)
    assert torch.allclose(listwise_loss(residual + shift, t, real(t)), loss)
    wide = torch.cat([residual, torch.full((1, pads), 99.0, dtype=torch.float64)], 1)
    padded_t = torch.cat([t, torch.zeros(1, pads, dtype=torch.float64)], 1)
    mask = torch.arange(wide.shape[1])[None] < len(scores)
    assert torch.allclose(listwise_loss(wide, padded_t, mask), loss)


def test_the_entropy_of_the_target_is_the_least_loss() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    least = float(listwise_loss(p.log() / 0.3, p, real(p), beta=0.3))
    assert least == pytest.approx(-float((p * p.log()).sum()))
    for _ in range(50):
        other = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(_))
        assert float(listwise_loss(other, p, real(p), beta=0.3)) >= least


def test_gradient_is_beta_times_softmax_minus_target() -> None:
    residual = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    t = torch.tensor([[0.2, 0.5, 0.3]])
    listwise_loss(residual, t, real(t), beta=2.0).sum().backward()
    assert residual.grad is not None
    assert torch.allclose(residual.grad, 2.0 * (torch.softmax(2.0 * residual.detach(), -1) - t), atol=1e-6)


def test_a_fully_masked_list_gives_zero_with_a_live_gradient() -> None:
    residual = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True, True, False]])
    loss = listwise_loss(residual, torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), mask)
    assert loss[0].item() == 0.0
    loss.sum().backward()
    assert residual.grad is not None
    assert residual.grad.isfinite().all()
    assert not residual.grad[0].any()
    assert residual.grad[1, :2].any()
    assert residual.grad[1, 2] == 0


def test_nan_on_a_real_item_stays_nan_and_on_a_pad_does_no_harm() -> None:
    residual = torch.tensor([[math.nan, 1.0], [1.0, math.nan]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    loss = listwise_loss(residual, torch.tensor([[0.5, 0.5], [1.0, 0.0]]), mask)
    assert loss[0].isnan()
    assert loss[1].item() == 0.0
    loss[1].backward()
    assert residual.grad is not None
    assert residual.grad[1].isfinite().all()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_scores_stay_finite(size: float) -> None:
    residual = torch.tensor([[size, -size, 0.0]])
    t = torch.tensor([[1.0, 0.0, 0.0]])
    assert float(listwise_loss(residual, t, real(t))) == 0.0
    mask = torch.tensor([[True, True, False]])
    assert masked_log_softmax(residual, mask)[0].tolist() == pytest.approx([0.0, -2 * size, 0.0], rel=1e-6)


def test_objective_losses_against_loops() -> None:
    g = torch.Generator().manual_seed(0)
    residual = torch.randn(4, 5, generator=g)
    targets = torch.softmax(torch.randn(4, 5, 3, generator=g), 1)
    mask = torch.arange(5)[None] < torch.tensor([5, 3, 1, 2])[:, None]
    targets = targets * mask[..., None]
    beta = torch.tensor([0.5, 1.0, 3.0])
    losses = objective_losses(residual, targets, mask, beta)
    assert losses.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            alone = listwise_loss(residual[i], targets[i, :, j], mask[i], beta=float(beta[j]))
            assert float(losses[i, j]) == pytest.approx(float(alone), abs=1e-6)
    per_objective = residual[..., None] * torch.tensor([1.0, 2.0, 3.0])
    own = objective_losses(per_objective, targets, mask, beta)
    for j in range(3):
        assert torch.allclose(own[:, j], objective_losses(per_objective[..., j], targets, mask, beta)[:, j], atol=1e-6)


# --- scalarisation, penalty, ICOS ------------------------------------------------------------------------------------


def test_penalty_by_hand() -> None:
    losses, w = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
    assert float(alignment_penalty(losses, w)) == pytest.approx(-0.6)
    assert float(alignment_penalty(losses, w, sign="away")) == pytest.approx(0.6)
    assert float(alignment_penalty(losses, losses)) == pytest.approx(-1.0)


def test_printed_formula_is_away() -> None:
    """-cos(w, -L), read literally, is +cos(w, L)."""
    losses, w = torch.rand(3, generator=torch.Generator().manual_seed(1)), torch.tensor([0.2, 0.3, 0.5])
    literal = -torch.cosine_similarity(w, -losses, dim=0)
    assert float(alignment_penalty(losses, w, sign="away")) == pytest.approx(float(literal))


def test_penalty_of_no_loss_is_zero_and_finite() -> None:
    losses = torch.zeros(2, 3, requires_grad=True)
    value = alignment_penalty(losses, torch.tensor([0.2, 0.3, 0.5]))
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert losses.grad is not None
    assert losses.grad.isfinite().all()


def descend(sign: str) -> tuple[float, float]:
    """cos(w, L) before and after descending the penalty alone on a free loss vector."""
    w = torch.tensor([0.8, 0.2])
    losses = torch.tensor([0.5, 0.5], requires_grad=True)
    before = float(torch.cosine_similarity(w, losses.detach(), dim=0))
    for _ in range(20):
        value = alignment_penalty(losses, w, sign=sign)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(value, losses)
        losses = (losses - 0.05 * gradient).detach().requires_grad_()
    return before, float(torch.cosine_similarity(w, losses.detach(), dim=0))


def test_descent_of_away_pushes_the_loss_vector_away_from_w() -> None:
    """The trap of method.md: the printed formula does the opposite of what the text says."""
    before, after = descend("away")
    assert after < before - 0.05
    before, after = descend("toward")
    assert after > before + 0.05


def test_icos_by_hand() -> None:
    losses, w = torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.4])
    cosine = (1.8 + 1.6) / (5 * math.sqrt(0.52))
    assert float(scalarised_loss(losses, w)) == pytest.approx(3.4)
    assert float(icos_loss(losses, w)) == pytest.approx(3.4)
    assert float(icos_loss(losses, w, penalty=0.5)) == pytest.approx(3.4 - 0.5 * cosine, abs=1e-6)
    assert float(icos_loss(losses, w, penalty=0.5, sign="away")) == pytest.approx(3.4 + 0.5 * cosine, abs=1e-6)


def test_icos_per_list_against_loops() -> None:
    g = torch.Generator().manual_seed(2)
    losses, w = torch.rand(6, 3, generator=g), torch.softmax(torch.randn(6, 3, generator=g), -1)
    got = icos_loss(losses, w, penalty=2.0)
    for i in range(6):
        a, b = losses[i].tolist(), w[i].tolist()
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        cosine = dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        assert float(got[i]) == pytest.approx(dot - 2.0 * cosine, abs=1e-5)


def test_icos_leaves_what_has_no_weight_out_of_the_cosine() -> None:
    losses, w = torch.tensor([3.0, 0.0]), torch.tensor([0.6, 0.8])
    informative = torch.tensor([1.0, 0.0])
    assert float(icos_loss(losses, w, penalty=1.0)) == pytest.approx(1.8 - 0.6, abs=1e-6)
    assert float(icos_loss(losses, w * informative, penalty=1.0)) == pytest.approx(1.8 - 1.0, abs=1e-6)


# --- MO-DPO ----------------------------------------------------------------------------------------------------------


@given(
    st.tuples(SCORES, SCORES),
    st.lists(st.tuples(SCORES, SCORES), min_size=3, max_size=3),
    st.lists(st.floats(0.05, 1), min_size=3, max_size=3),
    st.integers(0, 2),
    st.floats(0.05, 5),
)
def test_mo_dpo_is_modpo_s_loss_for_pairs(scores, rewards, weights, k, beta) -> None:
    """-log sigmoid((beta (delta_w - delta_l) - sum_{j != k} w_j (r_jw - r_jl)) / w_k)"""
    w = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    residual = torch.tensor([scores], dtype=torch.float64)
    r = torch.tensor(rewards, dtype=torch.float64).T[None]
    margin = sum(float(w[j]) * (rewards[j][0] - rewards[j][1]) for j in range(3) if j != k)
    z = (beta * (scores[0] - scores[1]) - margin) / float(w[k])
    expected = math.log1p(math.exp(-abs(z))) + max(-z, 0.0)
    t = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert mo_dpo_loss(residual, t, real(residual), r, w, k, beta=beta).item() == pytest.approx(expected, abs=1e-9)


def test_mo_dpo_against_loops() -> None:
    g = torch.Generator().manual_seed(5)
    sizes, w, beta = (4, 1, 3), torch.tensor([0.5, 0.2, 0.3]), 0.7
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    residual, rewards = torch.randn(3, 4, generator=g), torch.randn(3, 4, 3, generator=g)
    labels = torch.rand(3, 4, generator=g) * mask
    targets = labels / labels.sum(1, keepdim=True)
    targets[2] = 0.0  # uninformative
    got = mo_dpo_loss(residual, targets, mask, rewards, w, 0, beta=beta)
    for i, n in enumerate(sizes[:2]):
        moved = [
            (beta * float(residual[i, a]) - 0.2 * float(rewards[i, a, 1]) - 0.3 * float(rewards[i, a, 2])) / 0.5
            for a in range(n)
        ]
        assert float(got[i]) == pytest.approx(loss_by_loops(moved, labels[i, :n].tolist(), 1.0), abs=1e-5)
    assert float(got[2]) == 0.0


def test_mo_dpo_at_a_corner_is_the_single_objective_loss() -> None:
    g = torch.Generator().manual_seed(6)
    residual, rewards = torch.randn(5, 4, generator=g), torch.randn(5, 4, 3, generator=g)
    targets = torch.softmax(torch.randn(5, 4, generator=g), -1)
    for k, w in enumerate(torch.eye(3)):
        ours = mo_dpo_loss(residual, targets, real(residual), rewards, w, k, beta=0.7)
        assert torch.equal(ours, listwise_loss(residual, targets, real(residual), beta=0.7))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_optimum_of_mo_dpo_is_the_geometric_mixture_whatever_k_is(k: int) -> None:
    """With exact p_j and r_j = log p_j, which is what the single-objective models' beta delta_j converge to."""
    g = torch.Generator().manual_seed(7)
    log_p = torch.log_softmax(torch.randn(4, 3, 5, generator=g, dtype=torch.float64), -1)
    w, beta = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), 0.6
    delta = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([delta], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        rewards = log_p.transpose(1, 2)
        value = mo_dpo_loss(delta, log_p[:, k].exp(), real(delta), rewards, w, k, beta=beta).sum()
        value.backward()
        return value

    optimiser.step(closure)
    geometric = torch.softmax(beta * geometric_residual(log_p, w, beta), -1)
    assert torch.allclose(torch.softmax(beta * delta.detach(), -1), geometric, atol=1e-6)
    arithmetic = (w[:, None] * log_p.exp()).sum(1)
    assert (arithmetic - geometric).abs().max() > 0.01, "the case tells the two mixtures apart"


# --- distillation ----------------------------------------------------------------------------------------------------


def test_distillation_by_hand() -> None:
    """w = (1/4, 3/4), beta = (2, 4): beta_w = 3.5; errors 3.5 delta - w . r = (2.5, -1.5, -1), less their mean 0."""
    residual = torch.tensor([[1.0, 0.0, -0.5, 9.0]])
    rewards = torch.tensor([[[1.0, 1.0], [0.0, 2.0], [0.0, -1.0], [50.0, 50.0]]])
    mask = torch.tensor([[True, True, True, False]])
    got = distillation_loss(residual, rewards, mask, torch.tensor([0.25, 0.75]), torch.tensor([2.0, 4.0]))
    assert got.tolist() == [pytest.approx((2.5**2 + 1.5**2 + 1.0**2) / 3)]


@given(st.integers(0, 2**32 - 1), st.floats(-9, 9))
def test_distillation_against_loops_whatever_is_common_to_a_list(seed, shift) -> None:
    g = torch.Generator().manual_seed(seed)
    sizes = (4, 1, 3)
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    residual, rewards = torch.randn(3, 4, generator=g).double(), torch.randn(3, 4, 2, generator=g).double()
    w, beta = torch.softmax(torch.randn(3, 2, generator=g), -1).double(), torch.tensor([0.5, 2.0]).double()
    got = distillation_loss(residual + shift, rewards, mask, w, beta)
    for i, n in enumerate(sizes):
        errors = [
            sum(float(w[i, j]) * (float(beta[j]) * float(residual[i, a]) - float(rewards[i, a, j])) for j in range(2))
            for a in range(n)
        ]
        mean = sum(errors) / n
        assert float(got[i]) == pytest.approx(sum((e - mean) ** 2 for e in errors) / n, abs=1e-9)


def test_distillation_is_zero_at_the_geometric_mixture_and_at_the_corners() -> None:
    g = torch.Generator().manual_seed(8)
    log_p = torch.log_softmax(torch.randn(4, 3, 5, generator=g, dtype=torch.float64), -1)
    beta = torch.full((3,), 0.6, dtype=torch.float64)
    rewards = log_p.transpose(1, 2)
    for w in (torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), *torch.eye(3, dtype=torch.float64)):
        mixture = geometric_residual(log_p, w, 0.6)
        none = distillation_loss(mixture, rewards, real(mixture), w, beta)
        assert float(none.abs().max()) < 1e-20
        assert float(distillation_loss(1.1 * mixture, rewards, real(mixture), w, beta).min()) > 1e-6


def test_distillation_of_no_list_is_zero_with_a_gradient() -> None:
    residual = torch.randn(1, 3, requires_grad=True)
    mask = torch.zeros(1, 3, dtype=torch.bool)
    value = distillation_loss(residual, torch.randn(1, 3, 2), mask, torch.tensor([0.5, 0.5]), torch.ones(2))
    value.sum().backward()
    assert value.tolist() == [0.0]
    assert residual.grad is not None
    assert residual.grad.abs().sum() == 0
