"""The model card of a text run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperdpo.front import ParetoFront
from hyperdpo.tables import table


def made_of(config: dict[str, Any]) -> str:
    """What a run's model is the mean of and how it was distilled, to stand after other words; nothing for most."""
    replicas, passes = config.get("replicas", 1), config.get("distil", 0)
    said = [f"the mean of {replicas} trainings"] if replicas > 1 else []
    if passes:
        said.append(f"distilled in {passes} pass{'es' if passes > 1 else ''} from what its corners add up to")
    return "".join(f", {part}" for part in said)


def text_card(name: str, config: dict[str, Any], fronts: Sequence[ParetoFront], floor: Sequence[float]) -> str:
    """Markdown: what was trained on what, what it cost, and the measured fronts beside chance."""
    base, data, objectives = config["base"], config["data"], config["objectives"]
    lists = ", ".join(f"{count:,} {split}" for split, count in data["lists"].items())
    sizes = table(
        ["front", "hypervolume", *(f"{o}, best" for o in objectives), "change from base, nats", "models"],
        [
            [
                f.name,
                f"{f.hypervolume:.5f}",
                *(f"{v:.4f}" for v in -f.auxiliary.max(0)),
                f"{-f.main_mean:.1f}",
                f.models,
            ]
            for f in fronts
        ],
    )
    models = f"{config['models']} model{'s' if config['models'] > 1 else ''}{made_of(config)}"
    return f"""# {name}

{config["method"]["method"]} on {base["name"]} ({base["architecture"]}, {base["parameters"]:,} parameters, frozen), for
{", ".join(objectives)}: {models}, {config["parameters"]:,} trained numbers, beta
{", ".join(f"{b:g}" for b in config["beta"])}, anchor {config.get("anchor", 0):g}, seed {config["seed"]},
{config["seconds"]:.0f} s on {config["device"]}.

Data: {data["name"]} ({lists} prompts, split by prompt).

Test cross-entropy in nats (lower is better). Chance, an untouched base: hypervolume {fronts[-1].hypervolume:.5f}, the
row *Base*. The labels' own entropy, below which no model can go:
{", ".join(f"{o} {v:.4f}" for o, v in zip(objectives, floor, strict=True))}.

```
{sizes}
```
"""
