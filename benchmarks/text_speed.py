"""How fast the text wing trains and answers: ratios within one run, on a random model of the shipped size.

(a) A HyperDPO training step against one of a plain prompt and one objective (limit 1.05). (b) A strip of 11 answers
against one answer (limit 2.5), and the time to the first token (limit 1 s), of the shipped model itself: a random one
spreads its tokens as no language model does, and drawing from a whole vocabulary takes longer. (c) Training throughput
against TRL's DPOTrainer on the same pairs with the same LoRA, batch, lengths and threads, its reference
log-probabilities precomputed and no evaluation, logging or saving on either side (at least 1); ours carries its prefix
of 8 tokens besides. (d) The same with prompts of 128 tokens and responses of 48, which a model attends to together,
against ours with the prompt computed anew for each response. (e) Measuring lists at one w, likewise. What is compared
takes turns, ratios are medians over the turns; nothing is asserted: machines are noisy.

    python benchmarks/text_speed.py [--threads 2] [--repeats 5] [--steps 12] [--parts abcde] [--profile]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch

import torch
from common import machine
from text_models import gpt2, random_lists, words
from torch import nn

from hyperdpo.methods import Member, step_loss
from hyperdpo.tables import table
from hyperdpo.text.generate import Row, Sampling, generate, prompt_ids, strip
from hyperdpo.text.model import TextModel
from hyperdpo.text.run import TextRun
from hyperdpo.text.tokens import TextBatches
from hyperdpo.text.train import DEFAULT_FIT, DEFAULT_METHOD, base_log_probabilities
from hyperdpo.training import FitConfig, fit, make_accelerator

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "stories"
OPENING = "Once upon a time, a little fox lived in a big green forest with"
WARM = 2  # steps at the start of a training that are not counted
BATCH = 8  # lists or pairs a step
Seconds = tuple[float, float]  # wall clock, CPU of this process
Lengths = tuple[int, int]  # tokens of a prompt and of a response
SHORT: Lengths = (16, 64)
LONG: Lengths = (128, 48)
MEASURED: tuple[tuple[Lengths, int], ...] = (((16, 48), 4), (LONG, 2), (LONG, 8))  # and responses of a list
FIT = FitConfig(**{**vars(DEFAULT_FIT), "epochs": 1, "batch_size": BATCH})


def now() -> Seconds:
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


class OurTraining:
    """fit() on lists of n responses: HyperDPO on m objectives, or a plain prompt on one."""

    def __init__(
        self, steps: int, n: int, m: int, *, conditioned: bool, lengths: Lengths = SHORT, share: bool = True
    ) -> None:
        self.steps = steps
        self.model = TextModel(gpt2(), m, conditioned=conditioned)
        self.model.shares_prompts &= share
        lists = random_lists(BATCH * (WARM + steps), n, m, prompt=lengths[0], response=lengths[1])
        self.batches = TextBatches(lists, batch_size=BATCH)
        kept, header = base_log_probabilities(self.model, {"train": self.batches})
        self.base_seconds = header["seconds"]
        self.batches.base = self.batches.lists.per_list(kept["train"])
        config = replace(DEFAULT_METHOD, method="hyperdpo" if conditioned else "dpo-ls", points=m)
        member = Member(None if conditioned else torch.ones(1), "")
        beta = torch.full((m,), 0.1)
        self.loss = step_loss(config, member, beta=beta, coverage=self.batches.coverage, separable=False)
        self.accelerator = make_accelerator("cpu")

    def run(self) -> Seconds:
        """Seconds a step."""
        started = [now()]

        def tick(done: int, total: int, loss: float) -> None:
            if done == WARM:
                started[0] = now()
            elif done == total:
                started.append(since(started[0]))

        def nothing(model: nn.Module) -> float:
            return 0.0

        fit(self.model, self.loss, self.batches, nothing, FIT, seed=0, accelerator=self.accelerator, tick=tick)
        wall, cpu = started[1]
        return wall / self.steps, cpu / self.steps


class TheirTraining:
    """TRL's DPOTrainer on the pairs of `ours`, with its LoRA."""

    def __init__(self, ours: OurTraining, folder: str) -> None:
        import datasets
        import trl
        from transformers import TrainerCallback

        class OnTokenIds(trl.DPOTrainer):  # type: ignore[misc]
            def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
                return dataset

        class Clock(TrainerCallback):  # type: ignore[misc]
            def __init__(self, last: int) -> None:
                self.last, self.started, self.found = last, now(), (0.0, 0.0)

            def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
                if state.global_step == WARM:
                    self.started = now()
                elif state.global_step == self.last:
                    self.found = since(self.started)

        datasets.disable_progress_bars()
        lists = ours.batches.lists
        rows = [
            {"prompt_ids": p.tolist(), "chosen_ids": r[0].tolist(), "rejected_ids": r[1].tolist()}
            for p, r in zip(lists.prompts, lists.responses, strict=True)
        ]
        self.clock, self.steps = Clock(WARM + ours.steps), ours.steps
        arguments = trl.DPOConfig(
            folder,
            beta=0.1,
            per_device_train_batch_size=BATCH,
            max_steps=WARM + ours.steps,
            learning_rate=DEFAULT_FIT.learning_rate,
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            max_length=None,
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        self.trainer = OnTokenIds(
            gpt2(),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=words(),
            peft_config=ours.model.backbone.peft_config["default"],
            callbacks=[self.clock],
        )

    def run(self) -> Seconds:
        """Seconds a step."""
        self.trainer.train()
        wall, cpu = self.clock.found
        return wall / self.steps, cpu / self.steps


def turns(runs: Sequence[Callable[[], Seconds]], repeats: int) -> list[list[Seconds]]:
    """The seconds of each of `runs`, which take turns; the first turn does not count."""
    found = [[run() for run in runs] for _ in range(repeats + 1)][1:]
    return [list(column) for column in zip(*found, strict=True)]


def ratio(a: Sequence[Seconds], b: Sequence[Seconds]) -> tuple[float, float]:
    """Median of a / b over the turns: wall clock, CPU."""
    wall, cpu = (statistics.median(x[i] / y[i] for x, y in zip(a, b, strict=True)) for i in (0, 1))
    return wall, cpu


def median(a: Sequence[Seconds], i: int = 0) -> float:
    return statistics.median(x[i] for x in a)


def step_cost(options: argparse.Namespace) -> str:
    ours = OurTraining(options.steps, 4, 2, conditioned=True)
    plain = OurTraining(options.steps, 4, 1, conditioned=False)
    a, b = turns([ours.run, plain.run], options.repeats)
    wall, cpu = ratio(a, b)
    rows = [
        [name, f"{1000 * median(x):.1f}", f"{1000 * median(x, 1):.1f}"]
        for name, x in (("HyperDPO, m = 2", a), ("plain prompt, one objective", b))
    ]
    rows.append(["ratio (at most 1.05)", f"{wall:.3f}", f"{cpu:.3f}"])
    return f"(a) a training step, {BATCH} lists of 4\n" + table(["", "wall ms", "CPU ms"], rows)


def against_trl(options: argparse.Namespace, lengths: Lengths, ours: dict[str, OurTraining]) -> str:
    """A table of throughputs on pairs: `ours`, of which the last has one objective, and TRL's."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = TheirTraining(list(ours.values())[-1], folder)
        found = turns([*(x.run for x in ours.values()), theirs.run], options.repeats)
    responses = 2 * BATCH
    rows = []
    for name, x in zip((*ours, "TRL's DPOTrainer"), found, strict=True):
        wall, cpu = ratio(found[-1], x)
        per_second = [f"{responses / median(x, i):.1f}" for i in (0, 1)]
        rows.append([name, *per_second, f"{wall:.2f}", f"{cpu:.2f}"])
    headers = ["", "responses / s", "/ CPU s", "/ TRL's, wall", "/ TRL's, CPU"]
    heading = (
        f"training on {BATCH} pairs a step, prompts of {lengths[0]} tokens, responses of {lengths[1]} (at least 1)"
    )
    return f"{heading}\n{table(headers, rows)}"


def throughput(options: argparse.Namespace) -> str:
    ours = {
        "HyperDPO, m = 2": OurTraining(options.steps, 2, 2, conditioned=True),
        "plain prompt, one objective": OurTraining(options.steps, 2, 1, conditioned=False),
    }
    first = next(iter(ours.values()))
    cached = f"{first.batches.lists.items / first.base_seconds:.0f} responses a second, once for all methods."
    return f"(c) {against_trl(options, SHORT, ours)}\nOur base log-probabilities: {cached}"


def long_prompts(options: argparse.Namespace) -> str:
    ours = {
        "HyperDPO, m = 2": OurTraining(options.steps, 2, 2, conditioned=True, lengths=LONG),
        "the same, a prompt with each response": OurTraining(
            options.steps, 2, 2, conditioned=True, lengths=LONG, share=False
        ),
        "plain prompt, one objective": OurTraining(options.steps, 2, 1, conditioned=False, lengths=LONG),
    }
    return f"(d) {against_trl(options, LONG, ours)}"


def measuring(options: argparse.Namespace) -> str:
    rows = []
    for (prompt, response), n in MEASURED:
        model = TextModel(gpt2(), 2, conditioned=True).eval()
        lists = random_lists(64, n, 2, prompt=prompt, response=response)
        batches, w = TextBatches(lists, batch_size=16), torch.tensor([0.5, 0.5])

        def measured(share: bool, model: TextModel = model, batches: TextBatches = batches, w: Any = w) -> Seconds:
            model.shares_prompts = share
            started = now()
            with torch.no_grad():
                batches.each(lambda batch: model(*batch.inputs, w))
            return since(started)

        a, b = turns([lambda f=measured: f(True), lambda f=measured: f(False)], options.repeats)  # type: ignore[misc]
        shape = f"{n} responses of {response}, a prompt of {prompt}"
        rows.append([shape, f"{median(a):.2f}", f"{median(b):.2f}", *(f"{x:.2f}" for x in ratio(a, b))])
    headers = ["", "once, wall s", "each, wall s", "ratio", "CPU"]
    return f"(e) measuring 64 lists at one w, a prompt computed once or with each response\n{table(headers, rows)}"


def answering(options: argparse.Namespace) -> str:
    run = TextRun(SHIPPED, device="cpu")
    model, tokenizer, middle = run.model, run.tokenizer, torch.full((run.m,), 1 / run.m)
    prompt = prompt_ids(tokenizer, OPENING, run.tokens, None)
    sampling = Sampling(max_new_tokens=64)
    rows = []
    for scale in (1.0, 2.0):
        firsts: dict[int, list[float]] = {1: [], 11: []}
        tokens: dict[int, int] = {}

        def answer(count: int, scale: float = scale, firsts: Any = firsts, tokens: Any = tokens) -> Seconds:
            batch = [Row(prompt, w, scale) for w in (strip(run.m, 11) if count == 11 else [middle])]
            started = now()
            found: list[Any] = []
            for found in generate(model, tokenizer, batch, sampling):
                if len(firsts[count]) <= len(tokens) and max(len(x.ids) for x in found) == 1:
                    firsts[count].append(since(started)[0])
            tokens[count] = sum(len(x.ids) for x in found)
            return since(started)

        def one(answer: Any = answer) -> Seconds:
            return answer(1)  # type: ignore[no-any-return]

        def eleven(answer: Any = answer) -> Seconds:
            return answer(11)  # type: ignore[no-any-return]

        a, b = turns([one, eleven], options.repeats)
        wall, cpu = ratio(b, a)
        for name, x, count in (("one answer", a, 1), ("strip of 11", b, 11)):
            first = f"{1000 * statistics.median(firsts[count]):.0f}"
            ratios = ("", "") if count == 1 else (f"{wall:.2f}", f"{cpu:.2f}")
            figures = (f"{median(x):.2f}", f"{tokens[count] / median(x):.0f}", first, *ratios)
            rows.append([f"{name}, c = {scale:g}", *figures])
    headers = ["", "wall s", "tokens / s", "first token ms", "/ one, wall (at most 2.5)", "CPU"]
    return f"(b) answers of 64 tokens by the shipped model to a prompt of {len(prompt)}\n" + table(headers, rows)


PARTS = {"a": step_cost, "b": answering, "c": throughput, "d": long_prompts, "e": measuring}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--parts", default="abcde")
    parser.add_argument("--profile", action="store_true", help="where a step and a strip spend their time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"{machine()}; GPT-2 of 6 layers of width 224, 4,096 tokens")
    if options.profile:
        with torch.profiler.profile() as found:
            OurTraining(3, 2, 2, conditioned=True).run()
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
        return
    print(f"medians of {options.repeats} turns; {options.steps} steps a turn after {WARM} that do not count")
    for part in options.parts:
        print(f"\n{PARTS[part](options)}", flush=True)


if __name__ == "__main__":
    main()
