"""The simplex of importance weights: checking, parsing, drawing, grids, projection, and moving one weight at a time.

A weight vector w has shape (m,), entries >= 0 and sum 1; a batch of them has shape (b, m).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from hyperdpo.errors import WeightsError, nearest

SUM_TOLERANCE = 1e-3
DIRECTIONS_SEED = 1  # of pymoo's energy method; the stored 11-point sets were drawn with it
DEFAULT_POINTS = 11


def check_weights(weights: Sequence[float] | Tensor, m: int) -> Tensor:
    """`weights` as a float32 tensor (m,) that sums to 1 exactly up to rounding.

    Raises WeightsError where the length is wrong, an entry is negative or not finite, or the sum is further than 1e-3
    from 1.
    """
    w = torch.as_tensor(weights, dtype=torch.float64).flatten()
    values = [round(v, 6) for v in w.tolist()]
    if len(w) != m:
        raise WeightsError(f"One weight per objective is needed, {m} in all; got {len(w)}: {values}.")
    if not torch.isfinite(w).all() or (w < 0).any():
        raise WeightsError(f"Weights are finite and not negative; got {values}.")
    total = float(w.sum())
    if abs(total - 1) > SUM_TOLERANCE:
        hint = f"; divided by their sum they are {[round(v / total, 4) for v in values]}" if total > 0 else ""
        raise WeightsError(f"Weights sum to 1; got {values}, which sum to {total:.6g}{hint}.")
    return (w / total).float()


def parse_weights(text: str, names: Sequence[str]) -> Tensor:
    """Read `.3,.7` (in the objectives' order) or `clicks=.3,quality=.7` (others 0) into a tensor (m,).

    Raises WeightsError with the nearest name for an unknown objective, and as `check_weights` does.
    """
    given = _parse(text, names, "weight")
    if isinstance(given, list):
        return check_weights(given, len(names))
    return check_weights([given.get(name, 0.0) for name in names], len(names))


def parse_beta(text: str, names: Sequence[str], training: Sequence[float]) -> tuple[float, ...]:
    """Read `.5`, `.5,2` (in the objectives' order) or `clicks=.5,quality=2` (others as in `training`).

    Raises WeightsError with the nearest name for an unknown objective, and as `check_beta` does.
    """
    given = _parse(text, names, "temperature")
    if isinstance(given, list):
        return check_beta(given, len(names))
    return check_beta([given.get(name, b) for name, b in zip(names, training, strict=True)], len(names))


def _parse(text: str, names: Sequence[str], what: str) -> list[float] | dict[str, float]:
    """Numbers by position, or by an objective's name where any is named. Raises WeightsError, all problems at once."""
    parts = [p.strip() for p in text.split(",") if p.strip()]
    if not any("=" in p for p in parts):
        return [_number(p, text, what) for p in parts]
    given: dict[str, float] = {}
    problems = []
    for part in parts:
        name, equals, value = part.rpartition("=")
        name = name.strip()
        if not equals:
            problems.append(f"Either every {what} is named or none is; got {part!r} in {text!r}.")
        elif name not in names:
            problems.append(f"No objective is called {name!r}{nearest(name, names)}; there are {', '.join(names)}.")
        elif name in given:
            problems.append(f"Each objective has one {what}; got {name!r} twice in {text!r}.")
        else:
            given[name] = _number(value, text, what)
    if problems:
        raise WeightsError(problems)
    return given


def check_scale(c: float) -> float:
    """`c` of eq. (15) as a float. Raises WeightsError unless it is finite and above 0."""
    if not (math.isfinite(c) and c > 0):
        raise WeightsError(f"The scale c is a finite number above 0 (1 is the trained model); got {c!r}.")
    return float(c)


def check_beta(beta: Sequence[float] | float, m: int) -> tuple[float, ...]:
    """One temperature per objective; a single number stands for all m. Raises WeightsError unless each is above 0."""
    values = [float(b) for b in (beta if isinstance(beta, Sequence) else [beta])]
    if len(values) == 1:
        values = values * m
    if len(values) != m or not all(math.isfinite(b) and b > 0 for b in values):
        raise WeightsError(f"beta is one number above 0, or {m} of them, one per objective; got {values}.")
    return tuple(values)


def draw_weights(alpha: float, count: int, m: int, rng: np.random.Generator) -> Tensor:
    """`count` draws from the symmetric Dirichlet(alpha), shape (count, m)."""
    draws = rng.dirichlet([alpha] * m, size=count)
    # For tiny alpha numpy may return a row of NaN (every gamma draw underflowed): such a row is a corner.
    bad = ~np.isfinite(draws).all(1)
    draws[bad] = np.eye(m)[rng.integers(m, size=int(bad.sum()))]
    return torch.from_numpy(draws).float()


def balanced_weights(alpha: float, count: int, m: int, rng: np.random.Generator) -> Tensor:
    """`count` draws (count, m) as `draw_weights` gives, of which every m in a row are one with its entries moved round.

    Each row has the same distribution, and the objectives share every m rows alike: less noise in a small batch.
    """
    drawn = draw_weights(alpha, -(-count // m), m, rng)
    return torch.stack([drawn.roll(i, 1) for i in range(m)], 1).flatten(0, 1)[:count]


def draw_beta(beta: Tensor, reach: float, count: int, rng: np.random.Generator) -> Tensor:
    """`count` temperatures (count, m): each entry of `beta` (m,) times a log-uniform draw from [1/reach, reach]."""
    factors = np.exp(rng.uniform(-math.log(reach), math.log(reach), (count, len(beta))))
    return torch.from_numpy(factors).to(beta) * beta


@cache
def _stored() -> dict[str, list[list[float]]]:
    text = resources.files("hyperdpo").joinpath("reference_directions.json").read_text("utf-8")
    directions: dict[str, list[list[float]]] = json.loads(text)["directions"]
    return directions


@cache
def _made(m: int, points: int) -> list[list[float]]:
    """Made once a process: the method takes seconds, and a training asks for its grid many times."""
    found: list[list[float]] = energy_directions(m, points).tolist()
    return found


def grid(m: int, points: int = DEFAULT_POINTS) -> Tensor:
    """The `points` weights at which a front is sampled, shape (points, m); every corner is among them.

    m = 2: evenly spaced. m > 2: pymoo's energy-method reference directions; for 11 points (m = 3 to 8) the set stored
    in the package, so that figures do not move with pymoo's version. Raises WeightsError for fewer points than corners.
    """
    if m < 1 or points < m:
        raise WeightsError(f"A front over {m} objectives needs at least {m} points, one per corner; got {points}.")
    if m == 1:
        return torch.ones(1, 1)
    if m == 2:
        first = torch.linspace(1, 0, points)
        return torch.stack([first, 1 - first], 1)
    stored = _stored().get(f"{m}x{points}")
    if stored is None:
        stored = _made(m, points)
    return torch.tensor(stored, dtype=torch.float32)


def lattice_size(m: int, steps: int) -> int:
    """Points of the lattice whose entries are multiples of 1/steps: C(steps + m - 1, m - 1)."""
    return math.comb(steps + m - 1, m - 1)


def lattice(m: int, steps: int) -> Tensor:
    """Every weight vector whose entries are multiples of 1/steps, shape (lattice_size(m, steps), m).

    Raises WeightsError for fewer than one objective or one step.
    """
    if m < 1 or steps < 1:
        raise WeightsError(f"A lattice has at least 1 objective and 1 step; got {m} and {steps}.")
    # Stars and bars: m - 1 bars among steps + m - 1 places; what lies between two bars is an entry.
    bars = np.array(list(itertools.combinations(range(steps + m - 1), m - 1)), dtype=int)
    bars = bars.reshape(lattice_size(m, steps), m - 1)
    ends = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + m - 1)))
    return torch.from_numpy((np.diff(ends, axis=1) - 1) / steps).float()


def energy_directions(m: int, points: int) -> np.ndarray:
    """pymoo's energy-method reference directions (points, m), corners first snapped exactly, rows sorted."""
    if points == m:
        return np.eye(m)
    from pymoo.util.ref_dirs import get_reference_directions

    found = np.asarray(get_reference_directions("energy", m, points, seed=DIRECTIONS_SEED))
    found = np.round(found / found.sum(1, keepdims=True), 6)
    for j in range(m):  # the method fixes the corners up to rounding; make them exact
        found[found[:, j].argmax()] = np.eye(m)[j]
    found /= found.sum(1, keepdims=True)
    order = np.lexsort(found.T[::-1])[::-1]
    ordered: np.ndarray = found[order]
    return ordered


def project(v: Tensor) -> Tensor:
    """The Euclidean projection of `v` (..., m) onto the simplex, shape (..., m)."""
    ordered = v.sort(-1, descending=True).values
    count = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    excess = (ordered.cumsum(-1) - 1) / count
    last = (ordered > excess).sum(-1, keepdim=True) - 1
    return (v - excess.gather(-1, last)).clamp(min=0)


def rebalance(percent: Sequence[int], index: int, value: int, locked: Collection[int] = ()) -> list[int]:
    """Whole percentages after weight `index` is set to `value`; they sum to 100.

    The others share what is left in proportion to what they had (equally, if they had nothing); weights in `locked`
    keep still, so that `value` is cut to what they leave free. Rounding goes to the largest remainders.
    """
    still = {i for i in locked if i != index}
    free = [i for i in range(len(percent)) if i not in still and i != index]
    room = 100 - sum(percent[i] for i in still)
    value = room if not free else max(0, min(value, room))
    had = sum(percent[i] for i in free)
    shares = [(percent[i] / had if had else 1 / len(free)) * (room - value) for i in free]
    whole = [math.floor(s) for s in shares]
    by_remainder = sorted(range(len(free)), key=lambda i: (whole[i] - shares[i], i))
    for i in by_remainder[: room - value - sum(whole)]:
        whole[i] += 1
    result = list(percent)
    result[index] = value
    for i, v in zip(free, whole, strict=True):
        result[i] = v
    return result


def _number(text: str, whole: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WeightsError(f"A {what} is a number; got {text!r} in {whole!r}.") from None
