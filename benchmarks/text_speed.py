"""How fast the text wing trains and answers: ratios within one run, on a random model of the shipped size.

(a) A HyperDPO training step against one of a plain prompt and one objective (limit 1.05). (b) A strip of 11 answers
against one answer (limit 2.5), and the time to the first token (limit 1 s), of the shipped model itself: a random one
spreads its tokens as no language model does, and drawing from a whole vocabulary takes longer. (c) Training throughput
against TRL's DPOTrainer on the same pairs with the same LoRA, batch, lengths and threads, its reference
log-probabilities precomputed and no evaluation, logging or saving on either side (at least 1); ours carries its prefix
of 8 tokens besides. What is compared takes turns, ratios are medians over the turns; nothing is asserted: machines are
noisy.

    python benchmarks/text_speed.py [--threads 2] [--repeats 5] [--steps 12] [--profile]
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
FIT = FitConfig(**{**vars(DEFAULT_FIT), "epochs": 1, "batch_size": BATCH})


def now() -> Seconds:
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


class OurTraining:
    """fit() on lists of n responses: HyperDPO on m objectives, or a plain prompt on one."""

    def __init__(self, steps: int, n: int, m: int, *, conditioned: bool) -> None:
        self.steps = steps
        self.model = TextModel(gpt2(), m, conditioned=conditioned)
        self.batches = TextBatches(random_lists(BATCH * (WARM + steps), n, m), batch_size=BATCH)
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


def throughput(options: argparse.Namespace) -> str:
    ours = OurTraining(options.steps, 2, 2, conditioned=True)
    plain = OurTraining(options.steps, 2, 1, conditioned=False)
    with tempfile.TemporaryDirectory() as folder:
        theirs = TheirTraining(plain, folder)
        a, b, c = turns([ours.run, plain.run, theirs.run], options.repeats)
    responses = 2 * BATCH
    rows = []
    for name, x in (("HyperDPO, m = 2", a), ("plain prompt, one objective", b), ("TRL's DPOTrainer", c)):
        wall, cpu = ratio(c, x)
        per_second = [f"{responses / median(x, i):.1f}" for i in (0, 1)]
        rows.append([name, *per_second, f"{wall:.2f}", f"{cpu:.2f}"])
    items = ours.batches.lists.items
    cached = f"Our base log-probabilities: {items / ours.base_seconds:.0f} responses a second, once for all methods."
    headers = ["", "responses / s", "/ CPU s", "/ TRL's, wall", "/ TRL's, CPU"]
    return f"(c) training on {BATCH} pairs a step (at least 1)\n{table(headers, rows)}\n{cached}"


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


PARTS = {"a": step_cost, "b": answering, "c": throughput}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--parts", default="abc")
    parser.add_argument("--profile", action="store_true", help="where a step and a strip spend their time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"{machine()}; GPT-2 of 6 layers of width 224, 4,096 tokens; prompts of 16 tokens, responses of 64")
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
