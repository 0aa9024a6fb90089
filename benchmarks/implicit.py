"""How fast any (w, beta) is: the mixture's implicit solution over 2,000 lists of up to 120 items.

Prints, at m = 2 and 5 and with the largest temperature 4, 10 and 100 times the smallest: milliseconds cold and
warm-started (medians), Newton steps, lists solved again in float64, and the largest error of softmax(beta_j delta)
against the float64 solution. Two peers are measured in the same run: the plain batched solver (every list at the
longest length, nothing dropped, no chunks, torch.linalg.solve) and scipy's L-BFGS-B list by list on a sample, scaled up
to all lists. Nothing here is asserted: machines are noisy.

    python benchmarks/implicit.py [--queries 2000] [--items 120] [--repeats 20] [--spread 2] [--full]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # scipy's best: threads only slow down lists of this size

import numpy as np
import torch
from common import machine
from scipy.optimize import minimize
from torch import Tensor

from hyperdpo.implicit import ImplicitTable, implicit_residual

LIMITS = {2: 100, 5: 300}
SAMPLE = 20  # lists that scipy solves
MOVE = 0.05  # of one slider, for the warm start
TOLERANCE = 3e-5


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Median wall-clock milliseconds of `function()`, after one call that does not count."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def simulated(queries: int, items: int, m: int, spread: float, *, full: bool) -> tuple[Tensor, Tensor]:
    """log p (q, m, n) of normal logits with standard deviation `spread`, and the mask; lengths uniform from 2."""
    g = torch.Generator().manual_seed(0)
    sizes = torch.full((queries,), items) if full else torch.randint(2, items + 1, (queries,), generator=g)
    mask = torch.arange(items) < sizes[:, None]
    logits = spread * torch.randn(queries, m, items, generator=g)
    return logits.masked_fill(~mask[:, None], -1e30).log_softmax(-1).masked_fill(~mask[:, None], 0.0), mask


def plain(p: Tensor, mask: Tensor, w: Tensor, beta: Tensor) -> Tensor:
    """The obvious batched damped Newton, in float32: all lists, all items, every step."""
    unit = w @ beta
    beta = beta / unit
    a, root = w * beta, (w.sqrt() * beta)[:, None]
    target = torch.einsum("m,qmn->qn", a, p)
    count = mask.sum(1, keepdim=True)
    delta = torch.einsum("m,qmn->qn", w, p).clamp(min=1e-30).log().masked_fill(~mask, 0.0)
    u = w.sqrt() * beta / (w.sqrt() * beta).norm()

    def state(delta: Tensor) -> tuple[Tensor, Tensor]:
        z = (beta[:, None] * delta[:, None]).masked_fill(~mask[:, None], -1e30)
        level = torch.logsumexp(z, -1)
        return level @ w - (target * delta).sum(-1), (z - level[..., None]).exp()

    f, q = state(delta)
    for _ in range(60):
        g = torch.einsum("m,qmn->qn", a, q) - target
        todo = g.abs().amax(1) >= TOLERANCE
        if not todo.any():
            break
        rows = root * q
        d = torch.where(mask, torch.einsum("m,qmn->qn", w * beta**2, q).clamp(min=1e-30), 1.0)
        inner = torch.eye(len(w)) - (rows / d[:, None]) @ rows.transpose(1, 2) + u[:, None] * u
        right = (rows @ (g / d)[..., None]).squeeze(-1)
        step = -(g / d + (torch.linalg.solve(inner, right)[:, None] @ (rows / d[:, None])).squeeze(1))
        step = torch.where(mask, step - (step * mask).sum(1, keepdim=True) / count, 0.0)
        slope, t = (g * step).sum(1), torch.ones(len(p), 1)
        for _ in range(25):
            trial = delta + t * step
            trial_f, trial_q = state(trial)
            refused = todo & ~(trial_f <= f + 1e-4 * t[:, 0] * slope + 1e-6 * f.abs())
            if not refused.any():
                break
            t = torch.where(refused[:, None], t / 2, t)
        delta, f = torch.where(todo[:, None], trial, delta), torch.where(todo, trial_f, f)
        q = torch.where(todo[:, None, None], trial_q, q)
    return delta / unit


def scipy_ms(log_p: Tensor, mask: Tensor, w: Tensor, beta: Tensor) -> float:
    """Milliseconds scipy would take for all lists, from SAMPLE of them spread over the set."""
    wj, b = w.double().numpy(), (beta / (w @ beta)).double().numpy()
    chosen = range(0, len(log_p), max(1, len(log_p) // SAMPLE))
    started = time.perf_counter()
    for i in chosen:
        p = log_p[i][:, mask[i]].double().exp().numpy()

        def f(x: np.ndarray, p: np.ndarray = p) -> tuple[float, np.ndarray]:
            z = b[:, None] * x
            top = z.max(1, keepdims=True)
            e = np.exp(z - top)
            total = e.sum(1, keepdims=True)
            value = (wj * (np.log(total[:, 0]) + top[:, 0] - (p * z).sum(1))).sum()
            return float(value), ((wj * b)[:, None] * (e / total - p)).sum(0)

        minimize(f, np.log(wj @ p), jac=True, method="L-BFGS-B", options={"gtol": TOLERANCE, "maxiter": 500})
    return 1000 * (time.perf_counter() - started) * len(log_p) / len(chosen)


def error(found: Tensor, exact: Tensor, beta: Tensor, mask: Tensor) -> float:
    """The largest difference of softmax(beta_j delta) over lists, objectives and items."""
    q = [
        (beta[:, None].double() * d[:, None].double()).masked_fill(~mask[:, None], -1e30).softmax(-1)
        for d in (found, exact)
    ]
    return float((q[0] - q[1]).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--spread", type=float, default=2.0)
    parser.add_argument("--full", action="store_true", help="every list has --items items")
    options = parser.parse_args()
    length = "" if options.full else "2 to "
    print(f"{machine()}; {options.queries:,} lists of {length}{options.items} items, logits of std {options.spread:g}")
    print(f"medians of {options.repeats}; warm: one weight moved by {MOVE}; w from Dirichlet(1), seed m")
    print(
        f"{'m':>2s} {'ratio':>6s} {'cold ms':>8s} {'limit':>6s} {'warm ms':>8s} {'limit':>6s} {'steps':>6s} "
        f"{'warm':>5s} {'again':>6s} {'failed':>7s} {'error':>8s} {'plain ms':>9s} {'its error':>10s} {'scipy ms':>9s}"
    )
    for m, limit in LIMITS.items():
        log_p, mask = simulated(options.queries, options.items, m, options.spread, full=options.full)
        w = torch.from_numpy(np.random.default_rng(m).dirichlet(np.ones(m))).float()
        near = (1 - MOVE) * w + MOVE * torch.eye(m)[0]
        for ratio in (4.0, 10.0, 100.0):
            beta = torch.logspace(0, float(np.log10(ratio)), m)
            exact, _ = implicit_residual(log_p.double(), w, beta, mask)
            table = ImplicitTable(log_p, mask)
            found, report = table.solve(w, beta)
            warm = table.solve(near, beta, start=found)[1].iterations

            def cold() -> None:
                ImplicitTable(log_p, mask).solve(w, beta)  # noqa: B023 - called in this turn of the loop only

            times = [
                median_ms(cold, options.repeats),
                median_ms(lambda: table.solve(near, beta, start=found), options.repeats),  # noqa: B023
            ]
            p = log_p.exp() * mask[:, None]
            peer = median_ms(lambda: plain(p, mask, w, beta), max(1, options.repeats // 5))  # noqa: B023
            slow = scipy_ms(log_p, mask, w, beta)
            wrong = [error(d, exact, beta, mask) for d in (found, plain(p, mask, w, beta))]
            print(
                f"{m:2d} {ratio:6.0f} {times[0]:8.1f} {limit:6d} {times[1]:8.1f} {limit // 2:6d} "
                f"{report.iterations:6d} {warm:5d} {report.resolved:6d} {report.unconverged:7d} {wrong[0]:8.0e} "
                f"{peer:9.1f} {wrong[1]:10.0e} {slow:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
