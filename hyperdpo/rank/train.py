"""Training a ranking run from data to run folder: scaler, base, the method's models, fronts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.files import write_atomic
from hyperdpo.methods import (
    TREES,
    Member,
    MethodConfig,
    mean_losses,
    mean_margin_loss,
    members,
    mixing_weights,
    step_loss,
    trained_weights,
    validation_beta,
    validation_weights,
)
from hyperdpo.rank.base import BASE_FIT, Base, check_kind, fit_base
from hyperdpo.rank.batches import RankBatch, RankBatches, encode_in_chunks
from hyperdpo.rank.data import ListSet, RankData, Scaler, Task
from hyperdpo.rank.evaluate import evaluate_run
from hyperdpo.rank.model import Answerer, NetConfig, Ranker
from hyperdpo.rank.run import RankRun, build_model, model_size, tree_file
from hyperdpo.rank.trees import TreeRanker, TreesConfig, TreeTraining
from hyperdpo.resuming import TRAINING, open_folder, read_part, write_part
from hyperdpo.runs import versions, write_run
from hyperdpo.training import FitConfig, fit, make_accelerator, seed_torch
from hyperdpo.weights import check_beta

# Chosen on validation, see benchmarks/NOTES.md: items judged one by one for HyperDPO, the paper's layout elsewhere.
DEFAULT_NET = NetConfig(width=128, layers=1, heads=0, dropout=0.2)
BASELINE_NET = NetConfig(dropout=0.2)
DEFAULT_FIT = FitConfig(epochs=15, patience=6)
MIN_LISTS = 3
# Of each fit, in config.json.
TOLD = ("model", "part", "best_epoch", "best_validation", "epochs", "seconds", "cpu_seconds")


@dataclass(frozen=True)
class RankConfig:
    """Everything that decides a ranking run besides its data; saved resolved in config.json.

    Attributes:
        method: the method and how it draws w.
        parametrisation: see `model.Ranker`; the baselines' models are unconditioned and output a residual.
        net: size of the trained networks; None for the method's default.
        fit: budget and optimiser of the trained networks.
        trees: boosting of the LightGBM methods.
        base: transformer, lightgbm, column:NAME, or run:PATH for the base of another run on the same data.
        base_fit: budget of a transformer base.
        beta: one temperature, or one per objective.
        scaling: auto, standard or none.
        seed: of everything random.
        k: NDCG cut-off of the fronts.
    """

    method: MethodConfig = field(default_factory=MethodConfig)
    parametrisation: str = "mixture"
    net: NetConfig | None = None
    fit: FitConfig = DEFAULT_FIT
    trees: TreesConfig = field(default_factory=TreesConfig)
    base: str = "transformer"
    base_fit: FitConfig = BASE_FIT
    beta: tuple[float, ...] = (1.0,)
    scaling: str = "auto"
    seed: int = 0
    k: int = 10

    def resolve(self, m: int) -> RankConfig:
        """The config for m objectives: beta spelled out, baselines on a residual.

        Raises ConfigError, all problems at once.
        """
        check_kind(self.base)
        if self.seed < 0:
            raise ConfigError(f"A seed is a whole number of 0 or more; got {self.seed}.")
        if self.k < 1:
            raise ConfigError(f"NDCG@k needs k of 1 or more; got {self.k}.")
        beta = check_beta(list(self.beta), m)
        method = replace(self.method, points=max(self.method.points, m))
        parametrisation = self.parametrisation
        if method.method in RESIDUAL or (method.method != "hyperdpo" and parametrisation != "scratch"):
            parametrisation = "augmentation"
        if method.method == "hypernetwork":
            method = replace(method, draw="step")  # each list's own w would need its own network
        members(method, m)
        self._check_method(beta)
        net = self.net or default_net(method.method)
        # Building the network on the spot reports a combination that cannot work before any data is read.
        Ranker(1, m, parametrisation, net, beta)
        return replace(self, beta=beta, parametrisation=parametrisation, method=method, net=net)

    def _check_method(self, beta: tuple[float, ...]) -> None:
        """Raises ConfigError for temperatures or options that mean nothing to the method."""
        method, problems = self.method.method, []
        if method == "mo-dpo" and len(set(beta)) > 1:
            problems.append(
                "mo-dpo needs one common beta, or its optimum would depend on whose labels it is trained on; got "
                f"{', '.join(f'{b:g}' for b in beta)}; use --method dpo-ls for temperatures that differ."
            )
        if method not in TREES and self.trees != TreesConfig():
            problems.append(f"{method} grows no trees; options of trees are for {' and '.join(TREES)}: leave them out.")
        if self.method.draw == "split":
            problems.append("draw split is for texts, whose every response costs a pass; take list, step or balanced.")
        if problems:
            raise ConfigError(problems)


RESIDUAL = ("hypernetwork", *TREES)  # they have no other output


def default_net(method: str) -> NetConfig:
    """The network a method has where none is asked for."""
    return DEFAULT_NET if method == "hyperdpo" else BASELINE_NET


# The paper's own settings. Its dense labels are the raw softmax: see `paper_task`.
PAPER = RankConfig(MethodConfig(draw="step"), "scratch", NetConfig(), FitConfig(average=0.0))


def paper_task(data: RankData) -> RankData:
    """The same data with the paper's softmax of labels that are not standardised within the list."""
    raw = [replace(o, standardise=False) if o.normalisation == "softmax" else o for o in data.task.objectives]
    return data.with_exact_task(replace(data.task, objectives=tuple(raw)))


def train(
    data: RankData,
    config: RankConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    accelerator: Accelerator | None = None,
    log: Callable[[str], None] = lambda line: None,
    tick: Callable[[str, int, int, float], None] = lambda what, done, total, loss: None,
) -> RankRun:
    """Train a run and write its folder.

    Args:
        data: with its roles declared.
        config: what to train.
        out: the run folder; it keeps the training's state until it is finished.
        resume: go on with what an interrupted training left in `out`; a finished run is returned as it is.
        overwrite: replace whatever run `out` holds.
        device: auto, cpu or cuda.
        accelerator: Accelerate's handle, if the caller has made one.
        log: takes readable lines.
        tick: (what is being trained, steps done, steps in all, loss).

    Raises ConfigError, DataError, RunError; Interrupted with the state saved.
    """
    config = config.resolve(data.task.m)
    _check_measurable(data)
    accelerator = accelerator or make_accelerator(device)
    main_process = accelerator.is_main_process
    if open_folder(out, plan(data, config), accelerator, resume=resume, overwrite=overwrite):
        if main_process:
            log(f"{out} is already trained")
            _finish(RankRun(out), data, accelerator, log)
        accelerator.wait_for_everyone()
        return RankRun(out)
    trainer = _Trainer(data, config, out / TRAINING, accelerator, log if main_process else (lambda line: None), tick)
    base = trainer.fit_base()
    models, results = trainer.fit_members(base)
    if main_process:
        write_run(
            out,
            _final_config(data, config, base, models, results, accelerator),
            models=[m.state_dict() for m in models if not isinstance(m, TreeRanker)],
            scaler=trainer.scaler.state(),
            base=base.state()[1],
            texts=_texts(base, models),
        )
        _finish(RankRun(out), data, accelerator, log)
    accelerator.wait_for_everyone()
    return RankRun(out)


def _finish(run: RankRun, data: RankData, accelerator: Accelerator, log: Callable[[str], None]) -> None:
    """Measure a trained run's fronts, unless that was done

    The training's state goes last, so a kill here is mended.
    """
    training = run.folder.path / TRAINING
    if training.is_dir():
        log("measuring the fronts on the test split")
        evaluate_run(run, data, points=run.method.points, device=accelerator.device, save=True)
        shutil.rmtree(training, ignore_errors=True)


def _check_measurable(data: RankData) -> None:
    """Raises DataError, before any training, for objectives without a positive label in the test split."""
    lists = data.lists("test", features=())
    mask = lists.mask()
    gains = {o.name: o.gains(lists.pad(lists.labels[:, j]), mask) for j, o in enumerate(data.task.labelled)}
    empty = [name for name, values in gains.items() if not (values > 0).any()]
    if empty:
        raise DataError(
            f"The test split ({len(lists)} lists) has no positive label for {', '.join(map(repr, empty))}, so NDCG "
            "cannot be measured; give a larger test split, split with another seed, or leave the objective out."
        )


def plan(data: RankData, config: RankConfig) -> dict[str, Any]:
    """What must be the same for a training to be resumed."""
    return {
        "data": data.fingerprint,
        "task": data.task.to_dict(),
        "method": config.method.to_dict(),
        "parametrisation": config.parametrisation,
        "net": config.net.to_dict() if config.net else None,
        "fit": vars(config.fit),
        **({"trees": config.trees.to_dict()} if config.method.method in TREES else {}),
        "base": config.base,
        "base_fit": vars(config.base_fit),
        "beta": list(config.beta),
        "scaling": config.scaling,
        "seed": config.seed,
        "k": config.k,
    }


class _Trainer:
    """One training: what its base and its members share."""

    def __init__(
        self,
        data: RankData,
        config: RankConfig,
        state: Path,
        accelerator: Accelerator,
        log: Callable[[str], None],
        tick: Callable[[str, int, int, float], None],
    ) -> None:
        self.config, self.state, self.accelerator, self.log, self.tick = config, state, accelerator, log, tick
        self.data = data
        self.task: Task = data.task
        self.lists: dict[str, ListSet] = {name: data.lists(name) for name in ("train", "validation")}
        for name, lists in self.lists.items():
            if len(lists) < (MIN_LISTS if name == "train" else 1):
                raise ConfigError(f"The {name} split has {len(lists)} lists; training needs more.")
        self.scaler = Scaler.fit(self.lists["train"].features, self.task.features, config.scaling)  # type: ignore[arg-type]
        self.features = {name: self.scaler(lists.features) for name, lists in self.lists.items()}

    def _batches(self, name: str, base: Tensor | None, fit_config: FitConfig) -> RankBatches:
        lists = self.lists[name]
        return RankBatches(
            lists,
            self.features[name],
            torch.zeros(len(lists.labels)) if base is None else base,
            (self.task.main,) if base is None else self.task.objectives,
            batch_size=fit_config.batch_size,
            first_label=0 if base is None else 1,
            device=self.accelerator.device,
        )

    def fit_base(self) -> Base:
        """The base, fitted or taken from an interrupted training."""
        finished = self.state / "base.safetensors"
        text_file = self.state / "base.txt"
        if finished.exists():
            tensors, header = read_part(finished)
            text = text_file.read_text("utf-8") if text_file.exists() else None
            return Base.from_state(header, tensors, text, len(self.task.features))
        if self.config.base.startswith("run:"):
            return self._base_of_run(Path(self.config.base[4:]))
        self.log(f"base: {self.config.base}, on {self.task.main.name}")
        base = fit_base(
            self.config.base,
            self._batches("train", None, self.config.base_fit),
            self._batches("validation", None, self.config.base_fit),
            seed=self.config.seed,
            accelerator=self.accelerator,
            config=self.config.base_fit,
            state=self.state / "base.state",
            log=self.log,
            tick=lambda done, total, loss: self.tick("base", done, total, loss),
        )
        if self.accelerator.is_main_process:
            header, tensors, text = base.state()
            if text is not None:
                write_atomic(text_file, text)
            write_part(finished, tensors, header)
            (self.state / "base.state").unlink(missing_ok=True)
        return base

    def _base_of_run(self, path: Path) -> Base:
        """The base of another run, so that methods are compared on the very same one.

        Raises ConfigError if it differs.
        """
        run = RankRun(path)
        theirs, ours = run.config["data"]["fingerprint"], self.data.fingerprint
        if run.task.features != self.task.features or theirs != ours or run.task.main != self.task.main:
            raise ConfigError(
                f"The base of {path} was trained on other data, features or main label; train a base of this run's own "
                "(--base transformer)."
            )
        self.log(f"base: the one of {path}")
        return run.base

    def fit_members(self, base: Base) -> tuple[list[Answerer], list[dict[str, Any]]]:
        """Every model of the method, in order, with what each fit reported."""
        scores = {name: base.scores(self.lists[name], self.features[name]) for name in self.lists}
        train = self._batches("train", scores["train"], self.config.fit)
        validation = self._batches("validation", scores["validation"], self.config.fit)
        for objective, share in zip(self.task.objectives, train.coverage.tolist(), strict=True):
            if share < 1:
                skipped = round((1 - share) * len(train.lists))
                self.log(f"{objective.name}: {skipped} of {len(train.lists)} training lists carry no information")
        method = self.config.method.method
        found = members(self.config.method, self.task.m)
        models: list[Answerer] = []
        results = []
        grow = TreeTraining(method, train, validation, self.config.trees, k=self.config.k) if method in TREES else None
        for index, member in enumerate(found):
            if method == "mo-dpo" and not member.part and train.rewards is None:
                for batches in (train, validation):
                    batches.rewards = self._rewards(models, batches)
            self.log(f"model {index + 1} of {len(found)}: {method}, {member.label}")
            if grow:
                model, result = self._fit_trees(index, member, grow)
            else:
                model, result = self._fit_member(index, member, train, validation)
            models.append(model)
            results.append({**result, "model": member.label, "part": member.part})
        return models, results

    def _rewards(self, models: Sequence[Answerer], batches: RankBatches) -> Tensor:
        """r_j = beta_j delta_j of the single-objective models on every item, (N, m)."""
        corners = torch.eye(self.task.m)
        columns = []
        for j, model in enumerate(models):
            model.to(self.accelerator.device).eval()
            answer = partial(_residual, model, corners[j].to(self.accelerator.device))
            residual = encode_in_chunks(answer, batches.lists, batches.features, batches.base)
            columns.append(self.config.beta[j] * residual)
            model.cpu()
        return torch.stack(columns, 1).to(batches.device)

    def _fit_trees(self, index: int, member: Member, grow: TreeTraining) -> tuple[Answerer, dict[str, Any]]:
        """One booster; an interrupted one is grown again, to the same trees."""
        finished = self.state / f"model-{index:02d}.safetensors"
        text_file = self.state / tree_file(index)
        if finished.exists():
            return TreeRanker(self.task.m, text_file.read_text("utf-8")), read_part(finished)[1]
        assert member.weights is not None
        label = f"model {index + 1}"
        text, result = grow.fit(
            member.weights,
            seed=self.config.seed + 1000 * (index + 1),
            tick=lambda done, total, loss: self.tick(label, done, total, loss),
        )
        self.log(f"{result.best_epoch + 1} trees, validation {result.best_validation:.4f}, {result.seconds:.1f} s")
        if self.accelerator.is_main_process:
            write_atomic(text_file, text)
            write_part(finished, {}, result.to_dict())
        return TreeRanker(self.task.m, text), result.to_dict()

    def _fit_member(
        self, index: int, member: Member, train: RankBatches, validation: RankBatches
    ) -> tuple[Answerer, dict[str, Any]]:
        config = self.config
        # A soup's models share their initial weights: averages of unrelated networks are no networks at all.
        seed_torch(config.seed, 23, 0 if config.method.method == "dpo-soup" else index)
        model = build_model(plan_of_model(config), len(self.task.features), self.task.m)
        finished = self.state / f"model-{index:02d}.safetensors"
        if finished.exists():
            tensors, header = read_part(finished)
            model.load_state_dict(tensors)
            return model, header
        state = self.state / f"model-{index:02d}.state"
        label = f"model {index + 1}"
        beta = torch.tensor(config.beta, device=self.accelerator.device)
        result = fit(
            model,
            step_loss(
                config.method,
                member,
                beta=beta,
                coverage=train.coverage,
                separable=model.separable,
                tempered=model.tempered,
            ),
            train,
            self._validate(member, validation, beta, tempered=model.tempered),
            config.fit,
            seed=config.seed + 1000 * (index + 1),
            accelerator=self.accelerator,
            state=state,
            log=self.log,
            tick=lambda done, total, loss: self.tick(label, done, total, loss),
        ).to_dict()
        model.cpu()
        if self.accelerator.is_main_process:
            write_part(finished, dict(model.state_dict()), result)
            state.unlink(missing_ok=True)
        return model, result

    def _validate(
        self, member: Member, validation: RankBatches, beta: Tensor, *, tempered: bool
    ) -> Callable[[nn.Module], float]:
        """What a member is judged by: the mean of w . L over its weights; MO-DPO's own loss where that is trained."""
        weights = validation_weights(self.config.method, member, self.task.m)
        judged = beta
        if tempered:
            weights, judged = validation_beta(self.config.method, weights, beta)

        def scalarised(net: nn.Module) -> float:
            losses = mean_losses(net, validation.once(), weights, judged)
            return float((losses * weights).sum(1).mean())

        def margin(net: nn.Module) -> float:
            return mean_margin_loss(net, validation.once(), weights[0], beta)

        return margin if self.config.method.method == "mo-dpo" and not member.part else scalarised


def _residual(model: Answerer, weights: Tensor, batch: RankBatch) -> Tensor:
    residual: Tensor = model(*batch.inputs, weights)
    return residual


def plan_of_model(config: RankConfig) -> dict[str, Any]:
    """What `build_model` needs of a resolved config, as a run's config.json has it."""
    assert config.net is not None
    return {
        "method": config.method.to_dict(),
        "parametrisation": config.parametrisation,
        "net": config.net.to_dict(),
        "beta": list(config.beta),
    }


def _texts(base: Base, models: Sequence[Answerer]) -> dict[str, str]:
    """LightGBM's own texts: the base's and the models'."""
    text = base.state()[2]
    grown = {tree_file(i): model.text for i, model in enumerate(models) if isinstance(model, TreeRanker)}
    return grown if text is None else {"base.txt": text, **grown}


def _final_config(
    data: RankData,
    config: RankConfig,
    base: Base,
    models: list[Answerer],
    results: list[dict[str, Any]],
    accelerator: Accelerator,
) -> dict[str, Any]:
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    weights = trained_weights(config.method, data.task.m)
    return {
        "kind": "rank",
        **{k: v for k, v in plan(data, config).items() if k not in ("data", "base")},
        "main": data.task.main.name,
        "objectives": [o.name for o in data.task.objectives],
        "base": base.state()[0],
        "data": {
            "name": data.manifest["name"],
            "path": str(data.path),
            "fingerprint": data.fingerprint,
            "origin": data.manifest["origin"],
            "split": data.manifest["split"],
            "sources": data.manifest["sources"],
            "lists": {split: len(data.queries(split)) for split in ("train", "validation", "test")},
        },
        "weights": None if weights is None else weights.tolist(),
        "parameters": sum(map(model_size, models)) + mixing_weights(config.method, data.task.m),
        "models": len(models),
        "seconds": sum(r["seconds"] for r in results),
        "cpu_seconds": sum(r.get("cpu_seconds", 0.0) for r in results),
        "training": [{k: r[k] for k in TOLD if k in r} for r in results],  # a state of before may lack some
        "history": results[0]["history"],
        "device": name,
        "processes": accelerator.num_processes,
        "versions": versions(),
    }
