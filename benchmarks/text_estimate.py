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
import time
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


def measure(size: str, checkpointing: bool) -> dict[str, float]:
    """Estimate, then train; in this process, whose peak memory is taken. The estimate's own probe comes first."""
    width, layers, heads, vocabulary = MEASURED[size]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        gpt2(width, layers, heads, vocabulary).save_pretrained(model)
        words(vocabulary).save_pretrained(model)
        preferences, config = random_preferences(40, 4, 2), configured(checkpointing)
        os.environ["HYPERDPO_CACHE"] = folder
        if os.environ.get("ESTIMATE"):
            return estimate_training(str(model), preferences, config).to_dict()
        started = time.process_time()
        run = train(preferences, str(model), config, Path(folder) / "run", device="cpu")
        return {
            "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "seconds": run.config["seconds"] + run.config["base_seconds"],
            "cpu_seconds": run.config["cpu_seconds"],
            "process_seconds": time.process_time() - started,
        }


def fresh(size: str, checkpointing: bool, threads: int, *, estimate: bool) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", size, "--threads", str(threads)]
    environment = {**os.environ, **({"ESTIMATE": "1"} if estimate else {})}
    done = subprocess.run(
        [*command, *(["--checkpointing"] if checkpointing else [])],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def the_check(sizes: list[str], threads: int) -> str:
    rows = []
    for size in sizes:
        for checkpointing in (False, True):
            guess = fresh(size, checkpointing, threads, estimate=True)
            found = fresh(size, checkpointing, threads, estimate=False)
            memory = [f"{x['memory'] / 1e6:.0f}" for x in (guess, found)]
            seconds = [f"{x['seconds']:.1f}" for x in (guess, found)]
            ratios = [f"{guess[k] / found[k]:.2f}" for k in ("memory", "seconds")]
            how = "yes" if checkpointing else "no"
            rows.append([size, how, *memory, ratios[0], *seconds, ratios[1]])
    headers = ["model", "checkpointing", "memory MB", "measured", "ratio", "seconds", "measured", "ratio"]
    return table(headers, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="*", default=list(MEASURED), choices=list(MEASURED))
    parser.add_argument("--no-table", action="store_true")
    parser.add_argument("--one", choices=list(MEASURED), help="measure one size in this process")
    parser.add_argument("--checkpointing", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measure(options.one, options.checkpointing)))
        return
    if not options.no_table:
        speed = f"{ASSUMED[0] / 1e12:.0f} Tflop/s ({ASSUMED[1]})"
        print(f"One process, bf16, {PAIRS:,} pairs of {TOKENS} tokens, 2 a forward pass, one epoch, {speed}")
        print(the_table(), flush=True)
    print(f"\n{machine()}; lists of 4, 40 prompts, batch of 8, fp32, one epoch: estimated and measured")
    print(the_check(options.sizes, options.threads))


if __name__ == "__main__":
    main()
