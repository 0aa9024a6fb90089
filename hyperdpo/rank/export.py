"""Taking one trade-off of a ranking run away: a stand-alone ONNX model at a fixed w, c and beta.

Inputs: `features` (batch, items, d) float32, raw, as they stand in the data: the run's scaling is folded in; `mask`
(batch, items) bool, True means a real item; and `base_score` (batch, items) float32 where the base is LightGBM's or a
column's: its raw score. Output: `scores` (batch, items), higher ranks first, minus infinity on pads. Source: issue 5.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperdpo.control import common_scale
from hyperdpo.errors import ConfigError, RunError
from hyperdpo.files import write_atomic
from hyperdpo.rank.hypernetwork import HyperRanker
from hyperdpo.rank.model import Answerer, Ranker, ScoreNet, multiple
from hyperdpo.rank.run import RankRun, Temperatures, Weights
from hyperdpo.rank.soup import Soup
from hyperdpo.rank.trees import TreeRanker
from hyperdpo.runs import versions
from hyperdpo.weights import check_scale

OPSET = 20
TRACED = (2, 3)  # batch and items of the example the graph is recorded on; both stay free
LOADER = """import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("{file}")
features = np.zeros((1, 10, {d}), np.float32)  # one list of 10 items, raw features in the order of `features` below
inputs = {{"features": features, "mask": np.ones((1, 10), bool){base}}}
scores = session.run(["scores"], inputs)[0]  # (1, 10); higher ranks first
"""


class Frozen(nn.Module):
    """A run's scores at one (w, c, beta) as a function of raw features: what the ONNX graph computes.

    Args:
        run: the run.
        weights: (m,).
        scale: c.
        beta: temperatures, as `RankRun.temperatures` takes them; the training ones by default.

    Raises ConfigError where this trade-off is not one network: trees, and a mixture at temperatures of each objective's
    own, which takes a solver.
    """

    def __init__(self, run: RankRun, weights: Tensor, scale: float, beta: Temperatures | None = None) -> None:
        super().__init__()
        self.scale = check_scale(scale)
        self.ranker = _one_network(run.ranker_for(weights), weights)
        self.register_buffer("weights", weights.float())
        self.register_buffer("at", None)
        wanted = run.temperatures(beta)
        if wanted is not None:
            at, training = torch.tensor(wanted), torch.tensor(run.beta)
            if common_scale(at, training) is not None or not self.ranker.any_beta:
                self.scale *= multiple(self.ranker, at, training)
            elif isinstance(self.ranker, Ranker) and self.ranker.tempered:
                self.at = at
            else:
                raise ConfigError(
                    "A mixture answers temperatures that differ between objectives by a solver, which no exported "
                    "graph holds; export at one common multiple (--scale), or a run of --parametrisation temperature."
                )
        self.scaler = run.scaler
        self.factor = run.base.factor
        self.base = run.base.net

    def forward(self, features: Tensor, mask: Tensor, base_score: Tensor | None = None) -> Tensor:
        """(batch, items) scores of raw features (batch, items, d)."""
        scaled = self.scaler(features)
        raw = base_score if self.base is None else self.base(scaled, mask).squeeze(-1)
        assert raw is not None
        base = raw / self.factor
        extra = () if self.at is None else (self.at,)
        delta = self.ranker(scaled, base, mask, self.weights, *extra)
        scores: Tensor = (base + delta / self.scale).masked_fill(~mask, -torch.inf)
        return scores


class _Generated(Answerer):
    """The scorer a hypernetwork generates for one w."""

    def __init__(self, net: ScoreNet, use_base: bool) -> None:
        super().__init__()
        self.net, self.use_base = net, use_base

    def forward(self, features: Tensor, base: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        inputs = torch.cat([features, base.unsqueeze(-1)], -1) if self.use_base else features
        return self.net(inputs, mask).squeeze(-1).masked_fill(~mask, 0.0)  # type: ignore[no-any-return]


@torch.no_grad()
def _one_network(ranker: Answerer, weights: Tensor) -> Answerer:
    """What answers `weights` alone: a soup averaged, a hypernetwork's scorer generated.

    Raises ConfigError for trees.
    """
    if isinstance(ranker, TreeRanker):
        raise ConfigError(
            "This run's models are LightGBM's trees, which stand in its folder in LightGBM's own text format "
            "(trees-00.txt and so on); only networks are exported as ONNX."
        )
    if isinstance(ranker, Soup):
        averaged = copy.deepcopy(ranker.models[0])
        averaged.load_state_dict(ranker.average(weights))
        assert isinstance(averaged, Ranker)
        return averaged
    if isinstance(ranker, HyperRanker):
        net = copy.deepcopy(ranker._scorer[0])
        net.load_state_dict(ranker.generate(weights))
        return _Generated(net.eval(), ranker.use_base)
    return ranker


def to_onnx(run: RankRun, weights: Weights, *, scale: float = 1.0, beta: Temperatures | None = None) -> bytes:
    """One trade-off of `run` as an ONNX model; what it is stands in its metadata.

    Raises WeightsError for a w the run has no model for, ConfigError as `Frozen` and where the package onnx is missing.
    """
    w = run.weights(weights)
    model = Frozen(run, w, scale, beta).eval()
    batch, items = TRACED
    example = [torch.zeros(batch, items, len(run.task.features)), torch.ones(batch, items, dtype=torch.bool)]
    names = ["features", "mask"]
    if model.base is None:
        example.append(torch.zeros(batch, items))
        names.append("base_score")
    proto = _recorded(model, tuple(example), names)
    for key, value in metadata(run, w, scale, beta).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    written: bytes = proto.SerializeToString()
    return written


def _recorded(model: nn.Module, example: tuple[Tensor, ...], names: list[str]) -> Any:
    """The ONNX graph of `model`, with batch and items free."""
    try:
        import onnxscript  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Exporting to ONNX needs the packages onnx and onnxscript: pip install onnx onnxscript."
        ) from None
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("items")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            example,
            input_names=names,
            output_names=["scores"],
            dynamic_shapes=tuple(dict(free) for _ in names),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def metadata(run: RankRun, weights: Tensor, scale: float, beta: Temperatures | None) -> dict[str, str]:
    """What the exported model says of itself: texts, the lists among them as JSON."""
    config = run.config
    wanted = run.temperatures(beta) or run.beta
    return {
        "producer": f"hyperdpo {versions()['hyperdpo']}",
        "run": run.name,
        "method": run.method.method,
        "parametrisation": config["parametrisation"],
        "weights": json.dumps(dict(zip([o.name for o in run.objectives], weights.tolist(), strict=True))),
        "scale": f"{scale:g}",
        "beta": json.dumps(list(wanted)),
        "main": run.task.main.name,
        "base": run.base.kind,
        "features": json.dumps(list(run.task.features)),
        "data": config["data"]["name"],
        "data fingerprint": config["data"]["fingerprint"],
        "seed": str(config["seed"]),
    }


def export_rank(
    run: RankRun, weights: Weights, out: Path, *, scale: float = 1.0, beta: Temperatures | None = None
) -> list[Path]:
    """Write `out` (an .onnx file) and beside it a card, `out` with .md, that says how to use it; both are returned.

    Raises RunError where `out` exists or cannot be written; and as `to_onnx`.
    """
    out = out if out.suffix == ".onnx" else out.with_name(f"{out.name}.onnx")
    taken = [path for path in (out, out.with_suffix(".md")) if path.exists()]
    if taken:
        raise RunError(f"{taken[0]} exists; choose another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} could not be written ({error.strerror or error}); choose another --out.") from None
    content = to_onnx(run, weights, scale=scale, beta=beta)
    write_atomic(out, content)
    write_atomic(out.with_suffix(".md"), card(run, metadata(run, run.weights(weights), scale, beta), out.name))
    return [out, out.with_suffix(".md")]


def card(run: RankRun, about: Mapping[str, str], file: str) -> str:
    """Markdown beside the exported model: what it is, its inputs, how to score a list with it."""
    at = ", ".join(f"{name} {w:.4g}" for name, w in json.loads(about["weights"]).items())
    names = json.loads(about["features"])
    outside = run.base.net is None
    given = f"\n- `base_score` (batch, items) float32: the raw score of the base, {run.base.kind}." if outside else ""
    base = ', "base_score": np.zeros((1, 10), np.float32)' if outside else ""
    return f"""# {run.name} at {at}; c = {about["scale"]}

One trade-off of a ranking model trained by HyperDPO ({about["method"]}, {about["parametrisation"]}), as ONNX. Data:
{about["data"]} (fingerprint `{about["data fingerprint"][:12]}`), seed {about["seed"]}; main objective: {about["main"]}.

- `features` (batch, items, {len(names)}) float32, raw: scaling is part of the model.
- `mask` (batch, items) bool: True means a real item.{given}
- `scores` (batch, items) float32: higher ranks first; minus infinity on pads.

```python
{LOADER.format(file=file, d=len(names), base=base)}```

`features`, in this order: {", ".join(names)}.
"""
