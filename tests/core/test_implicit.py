"""The implicit solution for any (w, beta): by hand, against slow solvers, its properties, and what breaks solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor

from hyperdpo import implicit
from hyperdpo.control import common_scale, mixture_residual
from hyperdpo.implicit import LOG_FLOOR, ImplicitReport, ImplicitTable, implicit_residual
from hyperdpo.losses import objective_losses

SEEDS = st.integers(0, 999)


def ragged(seed: int, q: int = 6, m: int = 3, n: int = 9, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """log p (q, m, n) in float64, junk on pads, and the mask; the first list is full, the second has one item."""
    g = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, n + 1, (q,), generator=g)
    sizes[0], sizes[1] = n, 1
    mask = torch.arange(n) < sizes[:, None]
    logits = spread * torch.randn(q, m, n, generator=g, dtype=torch.float64)
    log_p = logits.masked_fill(~mask[:, None], -torch.inf).log_softmax(-1)
    return log_p.masked_fill(~mask[:, None], 0.3), mask


def setting(seed: int, m: int = 3, ratio: float = 4.0) -> tuple[Tensor, Tensor]:
    """(w, beta) in float64, the largest beta `ratio` times the smallest."""
    rng = np.random.default_rng(seed)
    beta = np.exp(np.linspace(0, math.log(ratio), m)) * rng.uniform(0.3, 3)
    return torch.from_numpy(rng.dirichlet(np.ones(m))), torch.from_numpy(rng.permutation(beta))


def shares(delta: Tensor, beta: Tensor, mask: Tensor) -> Tensor:
    """softmax(beta_j delta) over real items, (q, m, n)."""
    return (beta[:, None] * delta[:, None]).masked_fill(~mask[:, None], -torch.inf).softmax(-1)


def gradient(log_p: Tensor, w: Tensor, beta: Tensor, mask: Tensor, delta: Tensor) -> Tensor:
    """sum_j w_j beta_j (q_j - p_j), 0 on pads."""
    p = log_p.exp().masked_fill(~mask[:, None], 0.0)
    return ((w * beta)[:, None] * (shares(delta, beta, mask) - p)).sum(1)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_two_items_against_a_root_finder() -> None:
    """Of two items only the difference x = delta_1 - delta_2 counts: sum_j w_j beta_j (sigmoid(beta_j x) - p_j) = 0."""
    p, w, beta = [0.9, 0.3], [0.4, 0.6], [0.5, 3.0]

    def condition(x: float) -> float:
        return sum(wj * bj * (1 / (1 + math.exp(-bj * x)) - pj) for wj, bj, pj in zip(w, beta, p, strict=True))

    x = brentq(condition, -20, 20, xtol=1e-13)
    log_p = torch.tensor([[[math.log(v), math.log(1 - v)] for v in p]], dtype=torch.float64)
    delta, report = implicit_residual(log_p, torch.tensor(w).double(), torch.tensor(beta).double())
    assert float(delta[0, 0] - delta[0, 1]) == pytest.approx(x, abs=1e-8)
    assert report.resolved == report.unconverged == 0
    assert report.iterations <= 8, "the step is Newton's, the coupling of the items included"
    level = sum(wj * math.log(sum(math.exp(bj * float(v)) for v in delta[0])) for wj, bj in zip(w, beta, strict=True))
    assert level == pytest.approx(0.0, abs=1e-7), "the constant that mixture_residual has"


def test_a_case_with_a_known_answer() -> None:
    """p_j = softmax(beta_j d) for one d: every objective agrees, so that d is the answer at every w."""
    d = torch.tensor([1.0, -0.5, 0.2, -0.7], dtype=torch.float64)
    beta = torch.tensor([0.3, 1.0, 5.0], dtype=torch.float64)
    log_p = (beta[:, None] * d).log_softmax(-1)[None]
    for w in ([0.2, 0.3, 0.5], [0.6, 0.4, 0.0]):
        delta, _ = implicit_residual(log_p, torch.tensor(w).double(), beta)
        assert torch.allclose(delta[0] - delta[0].mean(), d - d.mean(), atol=1e-7)


def test_lists_of_one_item_and_pads_are_zero() -> None:
    log_p, mask = ragged(0)
    delta, _ = implicit_residual(log_p, *setting(0), mask)
    assert delta[1].tolist() == [0.0] * 9
    assert not delta[~mask].any()
    assert delta[mask & (mask.sum(1, keepdim=True) > 1)].abs().min() > 0
    common, _ = implicit_residual(log_p, setting(0)[0], torch.ones(3), mask)
    assert common[1].abs().max() < 1e-12
    assert not common[~mask].any()


# --- slow solvers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.5, 4.0, 10.0])
@pytest.mark.parametrize("m", [2, 3, 5])
def test_against_scipy_list_by_list(m: int, ratio: float) -> None:
    log_p, mask = ragged(m, m=m)
    w, beta = setting(m, m, ratio)
    found, report = implicit_residual(log_p, w, beta, mask)
    assert report.unconverged == 0
    for i in range(len(log_p)):
        n = int(mask[i].sum())
        p = log_p[i, :, :n].exp()
        targets = p.T[None]

        def f(x: np.ndarray, targets: Tensor = targets, n: int = n) -> tuple[float, np.ndarray]:
            delta = torch.tensor(x[None], requires_grad=True)
            whole = torch.ones(1, n, dtype=torch.bool)
            loss = (objective_losses(delta, targets, whole, beta) @ w).sum()
            loss.backward()
            assert delta.grad is not None
            return float(loss.detach()), delta.grad[0].numpy()

        best = minimize(f, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
        slow, ours = torch.from_numpy(best.x), found[i, :n]
        assert torch.allclose(ours - ours.mean(), slow - slow.mean(), atol=2e-4), i
        assert f(ours.numpy())[0] <= best.fun + 1e-12


def dense_newton(p: Tensor, w: Tensor, beta: Tensor, start: Tensor) -> Tensor:
    """Damped Newton with the whole n x n Hessian and a pseudo-inverse, one list."""
    delta = start.clone()

    def f(x: Tensor) -> Tensor:
        z = beta[:, None] * x
        return (w * (torch.logsumexp(z, -1) - (p * z).sum(-1))).sum()

    for _ in range(200):
        q = (beta[:, None] * delta).softmax(-1)
        g = ((w * beta)[:, None] * (q - p)).sum(0)
        if g.abs().max() < 1e-12:
            break
        h = sum(w[j] * beta[j] ** 2 * (q[j].diag() - q[j][:, None] * q[j]) for j in range(len(w)))
        step, t = -torch.linalg.pinv(h, hermitian=True) @ g, 1.0
        while f(delta + t * step) > f(delta) + 1e-4 * t * (g @ step) + 1e-15 and t > 1e-12:
            t /= 2
        delta = delta + t * step
    return delta


@given(SEEDS, st.floats(1.2, 30), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_against_newton_with_the_dense_hessian(seed: int, ratio: float, m: int) -> None:
    log_p, mask = ragged(seed, q=3, m=m, n=5, spread=1.0)
    w, beta = setting(seed, m, ratio)
    found, _ = implicit_residual(log_p, w, beta, mask)
    n = int(mask[0].sum())
    p = log_p[0, :, :n].exp()
    slow = dense_newton(p, w, beta, torch.einsum("m,mn->n", w, p).log() / (w @ beta))
    ours = found[0, :n]
    assert torch.allclose(ours - ours.mean(), slow - slow.mean(), atol=1e-5)


# --- properties ------------------------------------------------------------------------------------------------------


@given(SEEDS, st.floats(1.01, 100))
@settings(max_examples=25, deadline=None)
def test_the_gradient_is_zero_at_the_solution(seed: int, ratio: float) -> None:
    log_p, mask = ragged(seed)
    w, beta = setting(seed, ratio=ratio)
    delta, report = implicit_residual(log_p, w, beta, mask)
    assert report.unconverged == 0
    assert gradient(log_p, w, beta, mask, delta).abs().max() < 1e-7 * float(w @ beta)


@given(SEEDS, st.floats(0.05, 20))
@settings(max_examples=25, deadline=None)
def test_scaling_beta_scales_the_residual_back(seed: int, c: float) -> None:
    log_p, mask = ragged(seed)
    w, beta = setting(seed)
    delta, at_c = (implicit_residual(log_p, w, b, mask)[0] for b in (beta, c * beta))
    assert torch.allclose(at_c, delta / c, rtol=1e-9, atol=1e-9)
    doubled = implicit_residual(log_p, w, 2 * beta, mask)[0]
    assert torch.equal(doubled, delta / 2), "exact where the scaling of numbers is"


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_permuting_items_or_objectives_or_lists(seed: int) -> None:
    log_p, _ = ragged(seed)
    log_p = log_p.log_softmax(-1)
    w, beta = setting(seed)
    delta, _ = implicit_residual(log_p, w, beta)
    g = torch.Generator().manual_seed(seed)
    items, kinds, lists = (torch.randperm(k, generator=g) for k in (9, 3, 6))
    assert torch.allclose(implicit_residual(log_p[..., items], w, beta)[0], delta[:, items], atol=1e-7)
    assert torch.allclose(implicit_residual(log_p[:, kinds], w[kinds], beta[kinds])[0], delta, atol=1e-7)
    assert torch.allclose(implicit_residual(log_p[lists], w, beta)[0], delta[lists], atol=1e-7)


@given(SEEDS, st.floats(0.1, 5))
@settings(max_examples=20, deadline=None)
def test_one_common_beta_is_the_closed_form(seed: int, beta: float) -> None:
    log_p, mask = ragged(seed)
    w, _ = setting(seed)
    common = torch.full((3,), beta, dtype=torch.float64)
    delta, report = implicit_residual(log_p, w, common, mask)
    closed = mixture_residual(log_p, w, beta).masked_fill(~mask, 0.0)
    assert torch.equal(delta, closed)
    assert report == ImplicitReport()
    nearly = common * torch.tensor([1.0, 1 + 1e-9, 1.0])
    iterated, _ = implicit_residual(log_p, w, nearly, mask)
    assert torch.allclose(iterated, closed, atol=1e-5), "the solver itself, constant included"


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_objectives_of_weight_zero_drop_out(seed: int) -> None:
    log_p, mask = ragged(seed)
    w, beta = torch.tensor([0.4, 0.0, 0.6], dtype=torch.float64), setting(seed)[1]
    two = [0, 2]
    alone = implicit_residual(log_p[:, two], w[two], beta[two], mask)[0]
    assert torch.allclose(implicit_residual(log_p, w, beta, mask)[0], alone, atol=1e-8)
    nonsense = log_p.clone()
    nonsense[:, 1] = -3.0
    absurd = torch.tensor([beta[0], 1e6, beta[2]], dtype=torch.float64)
    assert torch.allclose(implicit_residual(nonsense, w, absurd, mask)[0], alone, atol=1e-8)
    corner = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    single = implicit_residual(log_p, corner, beta, mask)[0]
    assert torch.allclose(single, (log_p[:, 2] / beta[2]).masked_fill(~mask, 0.0), atol=1e-12)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_more_padding_and_other_chunks_change_nothing(seed: int) -> None:
    log_p, mask = ragged(seed, q=12)
    w, beta = setting(seed)
    delta, _ = implicit_residual(log_p, w, beta, mask)
    wide = torch.cat([log_p, torch.full_like(log_p, 9.0)], -1), torch.cat([mask, torch.zeros_like(mask)], -1)
    assert torch.allclose(implicit_residual(wide[0], w, beta, wide[1])[0][:, :9], delta, atol=1e-7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(implicit, "CHUNK_VALUES", 60)
        assert len(ImplicitTable(log_p, mask)._chunks) > 2
        assert torch.allclose(implicit_residual(log_p, w, beta, mask)[0], delta, atol=1e-7)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_warm_start_ends_where_a_cold_one_does_in_fewer_steps(seed: int) -> None:
    log_p, mask = ragged(seed)
    w, beta = setting(seed)
    table = ImplicitTable(log_p, mask)
    cold, first = table.solve(w, beta)
    again, second = table.solve(w, beta, start=cold)
    assert second.iterations <= 1 < first.iterations
    near = 0.98 * w + 0.02 * torch.tensor([1.0, 0.0, 0.0])
    warm, cool = table.solve(near, beta, start=cold)[0], table.solve(near, beta)[0]
    assert torch.allclose(warm, cool, atol=1e-6)
    assert torch.allclose(again, cold, atol=1e-6)
    far = table.solve(w, beta, start=torch.randn(cold.shape, generator=torch.Generator().manual_seed(seed)) * 5)[0]
    assert torch.allclose(far, cold, atol=1e-6)


# --- what breaks solvers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [4.0, 10.0, 100.0])
@pytest.mark.parametrize("spread", [1.0, 3.0, 8.0])
def test_float32_against_float64(spread: float, ratio: float) -> None:
    log_p, mask = ragged(5, q=200, m=3, n=40, spread=spread)
    w, beta = setting(1, ratio=ratio)
    exact, best = implicit_residual(log_p, w, beta, mask)
    rough, report = implicit_residual(log_p.float(), w.float(), beta.float(), mask)
    assert rough.dtype == torch.float32
    assert best.unconverged == report.unconverged == 0
    assert report.iterations <= {4.0: 10, 10.0: 14, 100.0: 30}[ratio]
    floored = log_p.clamp(min=LOG_FLOOR).masked_fill(~mask[:, None], -torch.inf).log_softmax(-1)
    difference = (shares(rough.double(), beta, mask) - shares(exact, beta, mask)).abs()
    assert difference.max() < 2e-3
    residual = gradient(floored, w, beta, mask, rough.double())
    assert residual.abs().max() < 1e-4 * float(w @ beta)


def test_tails_are_right_beyond_the_stopping_rule() -> None:
    """An item of probability 1e-6 has a gradient below the tolerance wherever its delta stands."""
    log_p = torch.tensor([[[0.0, -13.0, -2.0], [0.0, -12.0, -1.0]]]).log_softmax(-1)
    w, beta = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 3.0])
    rough, _ = implicit_residual(log_p, w, beta)
    exact, _ = implicit_residual(log_p.double(), w, beta)
    assert float((rough - exact).abs().max()) < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot_and_vanishing_probabilities(dtype: torch.dtype) -> None:
    """p_1 all on item 0, p_2 all on item 3: log p is -inf elsewhere, and is floored."""
    log_p = torch.full((2, 2, 4), -torch.inf, dtype=dtype)
    log_p[:, 0, 0], log_p[:, 1, 3] = 0.0, 0.0
    log_p[1, 0, :2] = math.log(0.5)
    w, beta = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])
    delta, report = implicit_residual(log_p, w, beta)
    assert delta.isfinite().all()
    assert report.unconverged == 0
    assert delta[0, 3] > delta[0, 0] > delta[0, 1] + 1
    assert abs(float(delta[0, 1] - delta[0, 2])) < 1e-3
    assert abs(float(delta[1, 0] - delta[1, 1])) < 1e-3
    floored = log_p.clamp(min=LOG_FLOOR).log_softmax(-1)
    assert torch.allclose(delta, implicit_residual(floored, w, beta)[0], atol=1e-3)


def test_lists_that_fail_are_counted_and_solved_again_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    log_p, mask = ragged(3, q=20)
    w, beta = setting(3, ratio=10)
    exact, _ = implicit_residual(log_p, w, beta, mask)
    monkeypatch.setitem(implicit.STEPS, torch.float32, 2)
    mended, report = implicit_residual(log_p.float(), w, beta, mask)
    several = int((mask.sum(1) > 1).sum())
    assert 0 < report.resolved <= several
    assert (report.iterations, report.unconverged) == (2, 0)
    assert torch.allclose(mended.double(), exact, atol=1e-3)
    monkeypatch.setitem(implicit.STEPS, torch.float64, 1)
    rough, report = implicit_residual(log_p.float(), w, beta, mask)
    assert 0 < report.unconverged <= report.resolved
    assert rough.isfinite().all()


def test_nan_is_counted_and_stays_in_its_list() -> None:
    log_p, mask = ragged(4)
    w, beta = setting(4)
    clean, _ = implicit_residual(log_p, w, beta, mask)
    for i in (0, 5):
        broken = log_p.clone()
        broken[i, 1, 0] = torch.nan
        delta, report = implicit_residual(broken, w, beta, mask)
        assert report.unconverged == (1 if mask[i].sum() > 1 else 0)
        others = [k for k in range(6) if k != i]
        assert torch.allclose(delta[others], clean[others], atol=1e-7)
        assert report.unconverged == 0 or delta[i, 0].isnan()


def test_nothing_to_solve() -> None:
    w, beta = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])
    empty, report = implicit_residual(torch.zeros(0, 2, 4), w, beta)
    assert (tuple(empty.shape), report) == ((0, 4), ImplicitReport())
    padded, _ = implicit_residual(torch.zeros(3, 2, 4), w, beta, torch.zeros(3, 4, dtype=torch.bool))
    assert padded.tolist() == [[0.0] * 4] * 3


def test_only_multiples_have_a_common_scale() -> None:
    training = torch.tensor([0.5, 2.0])
    assert common_scale(torch.tensor([1.0, 4.0]), training) == pytest.approx(2.0)
    assert common_scale(torch.tensor([0.1, 0.4]), training) == pytest.approx(0.2)
    assert common_scale(torch.tensor([1.0, 4.01]), training) is None
