"""How far the preview of the live point lies from what is measured, as a share of the axes' ranges.

    python benchmarks/preview_error.py [--run RUN] [--mixes 40] [--seed 0]

Mixes are drawn from a Dirichlet distribution and c evenly in log c; each preview starts, as on the page, from a
measured point (the equal mix at c = 1) and is moved by what the sketch says that the sliders' move changes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dashboard import store
from dashboard.state import Choice, clean_scale, equal_choice, whole_percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="marketplace", help="name of a run, as the dashboard lists it")
    parser.add_argument("--mixes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = store.saved(next(e for e in store.list_runs() if e.label == asked.run))
    live = store.LiveRun(folder, store.find_data(folder.config, None, print), "cpu", lambda _: None)
    began = time.perf_counter()
    sketch = store.sketch(live, folder.k, wait=True)
    if sketch is None:
        raise SystemExit(f"{asked.run} has no preview: it was trained for some weights only.")
    print(f"measured {len(sketch.powers)} mixes at 9 values of c in {time.perf_counter() - began:.2f} s")
    m, random = len(folder.objectives), np.random.default_rng(asked.seed)
    size = np.ptp(live.ranges(folder.k), axis=1)
    start = equal_choice(m)
    origin = live.reading(start, folder.k).ndcg - sketch.at(np.array([start.weights]), start.scale)[0]
    for name, scales in (("c = 1", [1.0] * asked.mixes), ("any c", 10 ** random.uniform(-1, 1, asked.mixes))):
        errors = []
        for mix, scale in zip(random.dirichlet(np.full(m, 0.7), asked.mixes), scales, strict=True):
            choice = Choice(whole_percent(mix.tolist()), clean_scale(float(scale)))
            there = sketch.at(np.array([choice.weights]), choice.scale)[0]
            exact = live.reading(choice, folder.k).ndcg
            errors.append(np.stack([np.abs(there - exact), np.abs(there + origin - exact)]) / size)
        plain, moved = np.array(errors).transpose(1, 0, 2)
        for what, part in (("sketch alone", plain), ("moved from a measured point", moved)):
            print(f"{name}, {what}: mean {100 * part.mean():.2f} %, max {100 * part.max():.2f} % of the range")


if __name__ == "__main__":
    main()
