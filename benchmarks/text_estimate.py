"""What training a language model takes: the table for 0.1B to 70B, and the estimate against what was measured here.

The table is the estimate of `hyperdpo train text --preset 7b --dry-run` (bf16, forward passes of 2 lists) for shapes
written out below, on one GPU of the speed assumed: 10,000 pairs, prompts and responses of 128 tokens, one epoch. A 70B
model needs several such GPUs; the sums are the same. The check trains random GPT-2s, each in a process of its own, and
compares the estimate, made before in another, with the process' peak memory and with the seconds of the training.

    python benchmarks/text_estimate.py [--threads 1] [--sizes 3M 30M] [--no-table]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch

import torch
from common import machine
from text_models import gpt2, random_preferences, words
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from hyperdpo.tables import table
from hyperdpo.text.estimate import ASSUMED, Work, estimate_shape, estimate_training
from hyperdpo.text.tokens import TokenConfig
from hyperdpo.text.train import SEVEN_B, TextConfig, train
from hyperdpo.training import FitConfig


def llama(width: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        vocab_size=vocabulary,
    )


SHAPES: dict[str, PreTrainedConfig] = {
    "0.1B (GPT-2)": GPT2Config(),
    "1B (Llama)": llama(2048, 5632, 22, 32, 4, 32_000),
    "7B (Llama)": llama(4096, 11_008, 32, 32, 32, 32_000),
    "70B (Llama)": llama(8192, 28_672, 80, 64, 8, 32_000),
}
PAIRS, TOKENS = 10_000, 256
MEASURED = {"3M": (160, 6, 5, 4096), "30M": (448, 11, 7, 8192)}  # width, layers, heads, vocabulary
LEAN = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}


def the_table() -> str:
    rows = []
    for name, shape in SHAPES.items():
        for checkpointing in (False, True):
            config = replace(SEVEN_B, checkpointing=checkpointing).resolve(2)
            lists = 2 * config.micro
            work = Work(
                PAIRS, PAIRS // 10, lists, TOKENS, TOKENS // 2, lists, TOKENS, TOKENS // 2, PAIRS // config.micro
            )
            e = estimate_shape(shape, work, config, 2, device="cuda", assumed=ASSUMED)
            gigabytes = (x / 1e9 for x in (e.weights, e.state, e.activations, e.memory))
            hours = (f"{s / 3600:.2f}" for s in (e.base_seconds, e.seconds))
            how = "yes" if checkpointing else "no"
            rows.append([name, how, e.parameters, e.trained, *(f"{x:.1f}" for x in gigabytes), *hours])
    headers = [
        "model",
        "checkpointing",
        "parameters",
        "trained",
        "base GB",
        "trained GB",
        "activations GB",
        "in all GB",
    ]
    return table([*headers, "base scores h", "training h"], rows)


def configured(checkpointing: bool) -> TextConfig:
    fit = FitConfig(epochs=1, patience=1, batch_size=8, learning_rate=1e-3, weight_decay=0.0, average=0.9)
    tokens = TokenConfig(max_prompt=32, max_response=64)
    return TextConfig(fit=fit, tokens=tokens, checkpointing=checkpointing)


def measure(model: str, checkpointing: bool, *, estimate: bool) -> dict[str, float]:
    """The estimate, or a training in this process with its peak memory and seconds."""
    preferences, config = random_preferences(24, 4, 2), configured(checkpointing)
    if estimate:
        return estimate_training(model, preferences, config).to_dict()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HYPERDPO_CACHE"] = folder
        run = train(preferences, model, config, Path(folder) / "run", device="cpu")
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory": memory, "seconds": run.config["seconds"] + run.config["base_seconds"]}


def fresh(
    model: str, checkpointing: bool, threads: int, *, estimate: bool = False, lean: bool = False
) -> dict[str, float]:
    """`measure` in a process of its own; `lean` has the allocator give back what is freed."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", model, "--threads", str(threads)]
    flags = {"--checkpointing": checkpointing, "--estimate": estimate}
    command += [flag for flag, given in flags.items() if given]
    environment = {**os.environ, **(LEAN if lean else {})}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def the_check(sizes: list[str], threads: int) -> str:
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            width, layers, heads, vocabulary = MEASURED[size]
            gpt2(width, layers, heads, vocabulary).save_pretrained(folder)
            words(vocabulary).save_pretrained(folder)
            for checkpointing in (False, True):
                guess = fresh(folder, checkpointing, threads, estimate=True)
                found = fresh(folder, checkpointing, threads)
                lean = fresh(folder, checkpointing, threads, lean=True)
                memory = [guess["memory"], lean["memory"], found["memory"]]
                ratios = [f"{memory[0] / x:.2f}" for x in memory[1:]]
                shown = [f"{x / 1e6:.0f}" for x in memory]
                seconds = [f"{x['seconds']:.1f}" for x in (guess, found)]
                time_ratio = f"{guess['seconds'] / found['seconds']:.2f}"
                how = "yes" if checkpointing else "no"
                rows.append([size, how, shown[0], shown[1], ratios[0], shown[2], ratios[1], *seconds, time_ratio])
    headers = ["model", "checkpointing", "MB", "measured, lean", "ratio", "measured", "ratio"]
    return table([*headers, "seconds", "measured", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="*", default=list(MEASURED), choices=list(MEASURED))
    parser.add_argument("--no-table", action="store_true")
    parser.add_argument("--one", metavar="MODEL", help="measure one training in this process")
    parser.add_argument("--estimate", action="store_true", help="with --one: estimate it")
    parser.add_argument("--checkpointing", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measure(options.one, options.checkpointing, estimate=options.estimate)))
        return
    if not options.no_table:
        speed = f"{ASSUMED[0] / 1e12:.0f} Tflop/s ({ASSUMED[1]})"
        print(f"One process, bf16, {PAIRS:,} pairs of {TOKENS} tokens, 2 a forward pass, one epoch, {speed}")
        print(the_table(), flush=True)
    print(f"\n{machine()}; lists of 4, 24 prompts, batch of 8, fp32, one epoch: estimated and measured")
    print("Lean: the C allocator gives back what is freed (MALLOC_MMAP_THRESHOLD_).")
    print(the_check(options.sizes, options.threads))


if __name__ == "__main__":
    main()
