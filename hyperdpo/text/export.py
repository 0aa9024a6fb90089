"""Taking one trade-off away: a plain base with a stock PEFT prompt adapter, or a merged model with a short loader.

At a fixed w the prefix is a constant, and LoRA can be merged into the base: what is left needs nothing of ours. Only
c = 1 can be written: any other c needs the base's logits beside the tuned model's.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hyperdpo.errors import ConfigError, RunError
from hyperdpo.files import write_json
from hyperdpo.text.model import TextModel, lora_factors
from hyperdpo.text.run import TextRun

FORMATS = ("peft", "merged")
LIMITS = """
PEFT takes no position ids beside a prompt: in a left-padded batch it counts pads as positions. Answer prompts of one
length together, or one at a time. PEFT 0.21 does not find the cache that transformers 5.24 calls by a new name, and
would put the prefix before every token: `base/generation_config.json` leaves the cache out, which is right and slower.
With transformers before 5.24 `generate(.., use_cache=True)` is right, too. `--format merged` has neither limit.
"""
LOADER = """import torch, transformers
from safetensors.torch import load_file
tokenizer = transformers.AutoTokenizer.from_pretrained("base")
model = transformers.AutoModelForCausalLM.from_pretrained("base")
prefix = load_file("prefix.safetensors")["prefix"]
embedded = torch.cat([prefix, model.get_input_embeddings()(tokenizer(PROMPT, return_tensors="pt").input_ids)[0]])[None]
print(tokenizer.decode(model.generate(inputs_embeds=embedded, max_new_tokens=64)[0]))"""


def export_text(run: TextRun, weights: Tensor, out: Path, *, kind: str = "peft", scale: float = 1.0) -> Path:
    """Write the model at one w (m,) into the new folder `out`.

    `peft`: `out/base` is a plain transformers model with LoRA merged, `out/adapter` a stock PEFT prompt-tuning adapter
    for it. `merged`: the same base, and the prefix as one tensor with a loader in the card.

    Raises ConfigError for c other than 1 or an unknown format; RunError where `out` exists or cannot be written.
    """
    problems = []
    if kind not in FORMATS:
        problems.append(f"--format is {' or '.join(FORMATS)}; got {kind!r}.")
    if scale != 1.0:
        problems.append(
            f"Only c = 1 can be exported; got c = {scale:g}: another c mixes the logits of two models at every token. "
            "Train at c times beta instead, or generate with this package."
        )
    if problems:
        raise ConfigError(problems)
    if out.exists():
        raise RunError(f"{out} exists; choose another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            _write(run, weights, made, kind)
            made.chmod(0o755)
            made.rename(out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{out} could not be written ({error.strerror or error}); choose another --out.") from None
    return out


def _write(run: TextRun, weights: Tensor, out: Path, kind: str) -> None:
    model = run.at(weights)
    with torch.no_grad():
        prefix = model.prompt(weights.to(model.device)).detach().cpu().contiguous()
    merged = merged_backbone(model, weights)
    merged.generation_config.use_cache = kind != "peft"  # see LIMITS
    merged.save_pretrained(out / "base")
    run.tokenizer.save_pretrained(out / "base")
    if kind == "peft":
        _write_adapter(prefix, out / "adapter", merged)
    else:
        save_file({"prefix": prefix}, out / "prefix.safetensors")
    (out / "README.md").write_text(_card(run, weights, kind), "utf-8")


def merged_backbone(model: TextModel, weights: Tensor) -> Any:
    """A copy of the base with the LoRA of one w (m,) merged into its weights; the model itself stays as it is."""
    merged = copy.deepcopy(model.backbone).cpu()
    for factor, turned in zip(lora_factors(merged), model.lora_at(weights), strict=True):
        factor._forward_hooks.clear()
        factor.weight.data = turned.cpu()
    merged = merged.merge_and_unload()
    merged.config.use_cache = True
    return merged


def _write_adapter(prefix: Tensor, out: Path, base: Any) -> None:
    """A prompt-tuning adapter as PEFT itself writes it."""
    out.mkdir()
    save_file({"prompt_embeddings": prefix}, out / "adapter_model.safetensors")
    write_json(
        out / "adapter_config.json",
        {
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "../base",
            "inference_mode": True,
            "num_virtual_tokens": len(prefix),
            "token_dim": prefix.shape[1],
            "num_transformer_submodules": 1,
            "num_attention_heads": base.config.num_attention_heads,
            "num_layers": base.config.num_hidden_layers,
            "prompt_tuning_init": "RANDOM",
        },
    )


def _card(run: TextRun, weights: Tensor, kind: str) -> str:
    at = ", ".join(f"{name} {w:.2f}" for name, w in zip(run.names, weights.tolist(), strict=True))
    if kind == "peft":
        use = (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
            'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")\n'
            'tokenizer = AutoTokenizer.from_pretrained("base")'
        )
    else:
        use = LOADER
    kept = "a PEFT adapter, `adapter`" if kind == "peft" else "one tensor, `prefix.safetensors`"
    note = LIMITS if kind == "peft" else ""
    return f"""# {run.name} at {at}

One trade-off of a model trained by HyperDPO on {run.config["base"]["name"]}: w = ({at}), c = 1. LoRA is merged into
`base`; the prefix of {run.prompt_config.tokens} virtual tokens is {kept}.

```python
{use}
```
{note}"""
