"""The model card of a ranking run: what it is, what it was trained on, what it reaches, and how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperdpo.front import ParetoFront
from hyperdpo.objectives import Objective


def model_card(name: str, config: dict[str, Any], fronts: Sequence[ParetoFront]) -> str:
    """Markdown from a run's config and its measured fronts; every figure in it stands in front.json or config.json."""
    data, method = config["data"], config["method"]["method"]
    lists = data["lists"]
    lines = [
        f"# {name}",
        "",
        f"A ranking run by HyperDPO Explorer: method `{method}`, parametrisation `{config['parametrisation']}`, "
        f"{config['models']} model{'s' if config['models'] != 1 else ''}, {config['parameters']:,} parameters, "
        f"trained in {config['seconds']:.0f} s on {config['device']} (seed {config['seed']}).",
        "",
        f"- Data: {data['name']} (fingerprint `{data['fingerprint'][:12]}`), split {data['split'].get('how', '')}: "
        f"{lists['train']:,} training, {lists['validation']:,} validation and {lists['test']:,} test lists.",
        f"- Main objective: {config['main']}; base: {config['base']['kind']}, one common scale; beta "
        f"{', '.join(f'{b:g}' for b in config['beta'])}.",
        "- Objectives: " + "; ".join(map(_objective, config["task"]["objectives"])) + ".",
        "",
    ]
    if fronts:
        first = fronts[0]
        lines += [
            f"## Measured on the {first.split} split, NDCG@{first.k}, c = {first.scale:g}",
            "",
            f"| front | models | hypervolume | {first.main} mean (std over points) | seconds |",
            "|---|---|---|---|---|",
            *(
                f"| {f.name} | {f.models or '-'} | {f.hypervolume:.4f} | {f.main_mean:.4f} ({f.main_std:.4f}) | "
                f"{f'{f.seconds:.0f}' if f.seconds else '-'} |"
                for f in fronts
            ),
            "",
            "Hypervolume is over the objectives' NDCG from 0. The best possible fronts know the simulation that made "
            "the labels; no model can.",
            "",
        ]
    lines += [
        "## Use",
        "",
        "```python",
        "import hyperdpo",
        f'run = hyperdpo.load("{name}")',
        f"scores = run.score(features, {_example(config['objectives'], config.get('weights'))}, scale=1.0)  "
        f"# features: (items, {len(config['task']['features'])}) of one list",
        "```",
        "",
        *([_only_at(config["weights"])] if config.get("weights") else []),
        "Below c = 1 the model is bolder than it was trained to be, above it is closer to the base.",
        "",
    ]
    return "\n".join(lines)


def _only_at(weights: Sequence[Sequence[float]]) -> str:
    listed = "; ".join(", ".join(f"{v:.3g}" for v in w) for w in weights)
    return f"There is one model for each of {len(weights)} weights, and none for others: {listed}.\n"


def _objective(fields: dict[str, Any]) -> str:
    o = Objective.from_dict(fields)
    how = "L1" if o.normalisation == "l1" else f"softmax, label temperature {o.temperature:g}"
    return f"{o.name} (column `{o.column}`, {how}{', lower is better' if o.direction == 'min' else ''})"


def _example(names: Sequence[str], trained: Sequence[Sequence[float]] | None) -> str:
    """Even weights, or the most even of those that a model was trained for."""
    share = round(1 / len(names), 4)
    weights = [*[share] * (len(names) - 1), round(1 - share * (len(names) - 1), 4)]
    if trained:
        weights = [round(w, 6) for w in min(trained, key=max)]
    return "{" + ", ".join(f'"{n}": {w:g}' for n, w in zip(names, weights, strict=True)) + "}"
