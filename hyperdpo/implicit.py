"""The implicit solution: a mixture's residual at any importance weights and any temperature of each objective.

Derived in this project (issue 3, "Temperature control"): for a list's distributions p_j the residual of every (w, beta)
minimises the convex

    F(delta) = sum_j w_j [ logsumexp_i(beta_j delta_i) - sum_i p_ji beta_j delta_i ],

whose gradient is sum_j w_j beta_j (q_j - p_j) with q_j = softmax(beta_j delta), and whose Hessian is
diag(D) - sum_j h_j q_j q_j^T with h_j = w_j beta_j^2 and D = sum_j h_j q_j. Since delta(w, c beta) = delta(w, beta) / c
(eq. 15), everything is solved at w . beta = 1 and divided by w . beta at the end.

Shapes: q lists of n padded items, m objectives; a chunk has b lists of about one length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hyperdpo.control import mixture_residual

LOG_FLOOR = -15.0  # of log p within a list: F then has one minimum, and float32 still resolves it
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-8}  # of max |gradient| at w . beta = 1
SLACK = {torch.float32: 1e-6, torch.float64: 1e-14}  # of |F|: what rounding may add to a step that is accepted
STEPS = {torch.float32: 40, torch.float64: 400}
HALVINGS = {torch.float32: 12, torch.float64: 40}
ARMIJO = 1e-4
PAD = -1e30  # a pad's delta: its exponential is 0 at any temperature, and 0 * PAD is 0 where 0 * -inf would be NaN
TINY = 1e-30
CHUNK_VALUES = 400_000  # b * m * n of a chunk; 30,000 is three times slower (calls), 2,000,000 a third (cache)
CHUNK_VALUES_GPU = 32_000_000


@dataclass(frozen=True)
class ImplicitReport:
    """How a solution was found.

    Attributes:
        iterations: the most Newton steps any list took, in the precision that was asked for; 0 for a closed form.
        resolved: lists that did not converge and were solved again in float64.
        unconverged: lists that did not converge in float64 either; their residual is the best that was found.
    """

    iterations: int = 0
    resolved: int = 0
    unconverged: int = 0


def implicit_residual(
    log_p: Tensor,
    weights: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    *,
    start: Tensor | None = None,
) -> tuple[Tensor, ImplicitReport]:
    """The residual delta (q, n) that minimises w . L at temperatures `beta`, 0 on pads, and how it was found.

    Of the residuals that differ by a constant in a list it is the one with sum_j w_j logsumexp_i(beta_j delta_i) = 0,
    as `control.mixture_residual` has it, which it equals for one common beta. A list of one item gets 0.

    Args:
        log_p: log p_j = log E[t(z^j) | list], (q, m, n), float32 or float64; what stands on pads is ignored.
        weights: (m,) on the simplex; objectives of weight 0 drop out.
        beta: (m,) temperatures above 0.
        mask: (q, n), True on real items; all are real by default.
        start: (q, n) where to begin, such as the solution of a nearby (w, beta); log sum_j w_j p_j / w . beta by
            default.
    """
    return ImplicitTable(log_p, mask).solve(weights, beta, start=start)


class ImplicitTable:
    """The distributions of many lists, made ready once for solutions at many (w, beta).

    Lists are sorted by length and cut into chunks, so that short ones are not computed at the length of the longest and
    a chunk's numbers stay in the cache.

    Args:
        log_p: (q, m, n) as for `implicit_residual`.
        mask: (q, n) bool.
    """

    def __init__(self, log_p: Tensor, mask: Tensor | None = None) -> None:
        self.log_p = log_p
        self.mask = torch.ones_like(log_p[:, 0], dtype=torch.bool) if mask is None else mask
        self._chunks = list(_chunks(log_p, self.mask))

    def solve(self, weights: Tensor, beta: Tensor, *, start: Tensor | None = None) -> tuple[Tensor, ImplicitReport]:
        """delta (q, n) and its report; see `implicit_residual`."""
        weights, beta = weights.double().cpu(), beta.double().cpu()
        used = weights > 0
        if bool((beta[used] == beta[used][0]).all()):
            w = weights.to(self.log_p)
            closed = mixture_residual(self.log_p, w, float(beta[used][0]))
            return closed.masked_fill(~self.mask, 0.0), ImplicitReport()
        unit = float(weights @ beta)
        problem = _Problem(weights, beta / unit, used, self.log_p)
        out = torch.zeros_like(self.log_p[:, 0])
        start = None if start is None else start * unit
        steps = 0
        left: list[Tensor] = []
        for chunk in self._chunks:
            taken, failed = _solve(problem, chunk, None if start is None else chunk.take(start), out)
            steps = max(steps, taken)
            left.append(failed)
        rows = torch.cat(left) if left else torch.zeros(0, dtype=torch.long)
        unconverged = self._again(problem, rows, out) if len(rows) else 0
        return out.div_(unit), ImplicitReport(steps, len(rows), unconverged)

    def _again(self, problem: _Problem, rows: Tensor, out: Tensor) -> int:
        """Solve the lists `rows` in float64 from the default start; the number that still does not converge."""
        log_p, mask = self.log_p[rows].double(), self.mask[rows]
        exact = torch.zeros_like(log_p[:, 0])
        failed = 0
        for chunk in _chunks(log_p, mask):
            failed += len(_solve(problem.to(log_p), chunk, None, exact)[1])
        out[rows] = exact.to(out)
        return failed


@dataclass(frozen=True)
class _Chunk:
    """b lists of at most n items: their places among all lists, p (b, m, n), pads (b, n) or None, items (b, 1)."""

    rows: Tensor
    p: Tensor
    pads: Tensor | None
    count: Tensor

    def take(self, padded: Tensor) -> Tensor:
        """This chunk's part (b, n) of (q, n)."""
        return padded[self.rows, : self.p.shape[-1]].to(self.p)


def _chunks(log_p: Tensor, mask: Tensor) -> Iterator[_Chunk]:
    """The lists by rising length; empty ones and those of one item are left out, their residual being 0."""
    sizes = mask.sum(-1)
    order = sizes.argsort(stable=True)
    order = order[int((sizes < 2).sum()) :]
    lengths = sizes[order].tolist()
    limit = CHUNK_VALUES if log_p.device.type == "cpu" else CHUNK_VALUES_GPU
    begin = 0
    while begin < len(lengths):
        end = begin + 1
        while end < len(lengths) and (end + 1 - begin) * lengths[end] * log_p.shape[1] <= limit:
            end += 1
        yield _chunk(log_p, mask, order[begin:end], lengths[end - 1], lengths[begin] < lengths[end - 1])
        begin = end


def _chunk(log_p: Tensor, mask: Tensor, rows: Tensor, n: int, padded: bool) -> _Chunk:
    part, real = log_p[rows, :, :n], mask[rows, :n]
    part = part.clamp(min=LOG_FLOOR)
    if padded:
        part = part.masked_fill(~real.unsqueeze(1), PAD)
    return _Chunk(rows, part.softmax(-1), ~real if padded else None, real.sum(-1, keepdim=True).to(log_p.dtype))


class _Problem:
    """One (w, beta) with w . beta = 1, and the formulas of F at it, in one precision on one device."""

    def __init__(self, weights: Tensor, beta: Tensor, used: Tensor, like: Tensor) -> None:
        self.weights, self.all_beta, self.used = weights, beta, used
        self.dtype = like.dtype
        w, b = weights[used], beta[used]
        self.w, self.b = w.to(like), b.to(like).unsqueeze(-1)
        self.h = (w * b * b).to(like)
        self.from_p = torch.stack([weights * beta, weights]).to(like)  # p -> sum_j w_j beta_j p_j, sum_j w_j p_j
        self.from_w = torch.stack([torch.ones_like(b), 1 / b]).to(like)  # h_j q_j -> D, sum_j w_j beta_j q_j

    def to(self, like: Tensor) -> _Problem:
        return _Problem(self.weights, self.all_beta, self.used, like)

    def value(self, delta: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F (b,), sum_j w_j logsumexp_j (b,) and h_j q_j (b, m, n) of `delta` (b, n), whose largest entry is 0."""
        e = (self.b * delta.unsqueeze(1)).exp_()
        total = e.sum(-1)
        level = total.log() @ self.w
        f = level - (target * delta).sum(-1)
        return f, level, e.mul_((self.h / total).unsqueeze(-1))


@dataclass
class _State:
    """Lists still being solved: where they stand (`delta`, F, level, h_j q_j) and what they aim at."""

    rows: Tensor
    target: Tensor
    pads: Tensor | None
    count: Tensor
    delta: Tensor
    f: Tensor
    level: Tensor
    hq: Tensor
    stuck: Tensor

    def select(self, kept: Tensor) -> _State:
        """The lists at the positions `kept`."""
        parts: dict[str, Any] = {name: None if v is None else v[kept] for name, v in vars(self).items()}
        return _State(**parts)


def _begin(problem: _Problem, chunk: _Chunk, start: Tensor | None) -> _State:
    target, mixed = (problem.from_p @ chunk.p).unbind(1)
    delta = mixed.clamp(min=TINY).log_() if start is None else start
    delta = _topped(delta if chunk.pads is None else delta.masked_fill(chunk.pads, PAD))
    stuck = torch.zeros_like(chunk.rows, dtype=torch.bool)
    return _State(chunk.rows, target, chunk.pads, chunk.count, delta, *problem.value(delta, target), stuck)


def _topped(delta: Tensor) -> Tensor:
    """`delta` with 0 as each list's largest entry, so that no exponential overflows; F does not see the constant."""
    return delta - delta.amax(-1, keepdim=True)


def _solve(problem: _Problem, chunk: _Chunk, start: Tensor | None, out: Tensor) -> tuple[int, Tensor]:
    """Damped Newton steps on every list of a chunk; what is found goes to `out` (q, n).

    Lists that have converged are dropped from later steps. Returns the most steps taken, and which lists (rows of
    `out`) did not converge.
    """
    state = _begin(problem, chunk, start)
    failed = []
    for step in range(STEPS[problem.dtype] + 1):
        scale, share = (problem.from_w @ state.hq).unbind(1)
        gradient = share - state.target
        done = gradient.abs().amax(-1) < TOLERANCE[problem.dtype]
        stopped = done | state.stuck | (step == STEPS[problem.dtype])
        if stopped.any():
            ended = stopped.nonzero().squeeze(-1)
            _write(state.select(ended), scale[ended], share[ended], done[ended], out)
            failed.append(state.rows[stopped & ~done])
            kept = (~stopped).nonzero().squeeze(-1)
            if not len(kept):
                break
            state, scale, gradient = state.select(kept), scale[kept], gradient[kept]
        _move(problem, state, _newton_step(state, scale, -gradient), gradient)
    return step, torch.cat(failed)


def _write(state: _State, scale: Tensor, share: Tensor, done: Tensor, out: Tensor) -> None:
    """Put the solutions in their rows, with the constant at which sum_j w_j logsumexp_j is 0 (w . beta is 1 here)."""
    delta = state.delta - state.level.unsqueeze(-1) + _last_step(state, scale, share).masked_fill(~done[:, None], 0.0)
    out[state.rows, : delta.shape[-1]] = delta if state.pads is None else delta.masked_fill(state.pads, 0.0)


def _last_step(state: _State, scale: Tensor, share: Tensor) -> Tensor:
    """One more Newton step (b, n), on the logarithm of the condition sum_j w_j beta_j q_j = sum_j w_j beta_j p_j.

    Items of small probability meet the stopping rule while their delta is still off by 1: a gradient of 3e-5 is all
    they have. The logarithm sees them. Both conditions have one Jacobian at the solution, so that the others gain, too.
    """
    ratio = share.clamp(min=TINY).log_().sub_(state.target.clamp(min=TINY).log_())
    weight = share / share.sum(-1, keepdim=True)
    step = _newton_step(state, scale, share * ((weight * ratio).sum(-1, keepdim=True) - ratio))
    return step - (weight * step).sum(-1, keepdim=True)  # so that sum_j w_j logsumexp_j stays, to first order


def _newton_step(state: _State, scale: Tensor, right: Tensor) -> Tensor:
    """H^-1 `right` (b, n) for right-hand sides of sum 0, centred over the real items, 0 on pads.

    H = diag(D) - A^T A with A_j = sqrt(h_j) q_j and D = `scale`. By Woodbury only the m x m matrix I - A D^-1 A^T is
    inverted, which is singular along sqrt(h_j). Scaled by sqrt(h) on both sides it is the Laplacian of a graph over the
    objectives with edges sum_i (h_j q_ji) (h_k q_ki) / D_i: so its diagonal is summed without cancellation, and holding
    one objective at 0 removes the singular direction, which shifts delta by a constant only.
    """
    scale = scale.clamp(min=TINY) if state.pads is None else scale.clamp(min=TINY).masked_fill(state.pads, 1.0)
    per_scale = state.hq / scale.unsqueeze(1)
    edges = per_scale @ state.hq.transpose(1, 2)
    pull = (per_scale @ right.unsqueeze(-1)).squeeze(-1)
    potentials = _grounded_solve(edges, pull)
    step = (potentials.unsqueeze(1) @ per_scale).squeeze(1).add_(right / scale)
    if state.pads is None:
        return step - step.mean(-1, keepdim=True)
    step = step.masked_fill(state.pads, 0.0)
    return (step - step.sum(-1, keepdim=True) / state.count).masked_fill(state.pads, 0.0)


def _grounded_solve(edges: Tensor, pull: Tensor) -> Tensor:
    """y (b, m) with L y = `pull` and y_m = 0, L the graph Laplacian of `edges` (b, m, m); L's null space is 1.

    Elimination without pivots is stable for such matrices, and over a whole batch faster than a call a matrix.
    """
    m = pull.shape[-1]
    diagonal = edges.sum(-1) - edges.diagonal(dim1=1, dim2=2)
    rows = [[diagonal[:, j] if j == k else -edges[:, j, k] for k in range(m - 1)] for j in range(m - 1)]
    right = [pull[:, j] for j in range(m - 1)]
    for k in range(m - 1):
        rows[k][k] = rows[k][k].clamp(min=TINY)
        for j in range(k + 1, m - 1):
            factor = rows[j][k] / rows[k][k]
            right[j] = right[j] - factor * right[k]
            for i in range(k + 1, m - 1):
                rows[j][i] = rows[j][i] - factor * rows[k][i]
    for k in reversed(range(m - 1)):
        for i in range(k + 1, m - 1):
            right[k] = right[k] - rows[k][i] * right[i]
        right[k] = right[k] / rows[k][k]
    return torch.stack([*right, torch.zeros_like(pull[:, 0])], -1)


def _move(problem: _Problem, state: _State, step: Tensor, gradient: Tensor) -> None:
    """Take the step in place, halved per list until it passes Armijo's rule; lists where none passes are stuck."""
    slope = (gradient * step).sum(-1)
    slack = SLACK[problem.dtype] * state.f.abs()
    delta = _topped(state.delta + step)
    f, level, hq = problem.value(delta, state.target)
    refused = (~(f <= state.f + ARMIJO * slope + slack)).nonzero().squeeze(-1)
    for halving in range(1, HALVINGS[problem.dtype] + 1):
        if not len(refused):
            break
        length = 0.5**halving
        shorter = _topped(state.delta[refused] + length * step[refused])
        values = problem.value(shorter, state.target[refused])
        fine = values[0] <= (state.f + ARMIJO * length * slope + slack)[refused]
        rows = refused[fine]
        delta[rows], f[rows], level[rows], hq[rows] = shorter[fine], *(v[fine] for v in values)
        refused = refused[~fine]
    if len(refused):
        state.stuck[refused] = True
        for new, old in ((delta, state.delta), (f, state.f), (level, state.level), (hq, state.hq)):
            new[refused] = old[refused]
    state.delta, state.f, state.level, state.hq = delta, f, level, hq
