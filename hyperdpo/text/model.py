"""A causal language model with LoRA and a prefix, answering every list of responses at the w of its own row.

PEFT cannot register a prompt of ours, and LoRA with its own prompt tuning on one model does not generate with both. So
this is a module over a LoRA PeftModel that feeds `inputs_embeds`; the frozen base is the same weights with the adapter
switched off and no prefix.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from hyperdpo.errors import ConfigError, DataError, RunError
from hyperdpo.text.prompt import HyperPrompt, PlainPrompt, gates
from hyperdpo.text.shared_prompts import SharedPrompts, cache_argument, caches_keys, share_prompts, to_the_right
from hyperdpo.text.tokens import Tokens
from hyperdpo.training import rng_for

Conditioning = Literal["prompt", "prompt+lora"]
CONDITIONINGS: tuple[str, ...] = get_args(Conditioning)
SAMPLES = 257  # values of each tensor that the fingerprint of a base looks at


@dataclass(frozen=True)
class PromptConfig:
    """What is trained on top of a frozen language model; the paper's values are the defaults.

    Attributes:
        tokens: k virtual tokens.
        rank: r of the mask; a baseline's plain prefix has none.
        lora_rank, lora_alpha, lora_dropout: of the adapter. Where w gates LoRA each objective has `lora_rank` rows of
            its own, and `lora_alpha` is in proportion.
        lora_targets: names of the adapted modules, or `all-linear`.
        conditioning: what depends on w: the `prompt` alone, as in the paper, or LoRA too (see `prompt.gates`).
        rate, map_rate: learning rates of the prefix, and of the MLPs that map w to its mask, in units of LoRA's own.
            With the prompt alone w hardly moves the front unless both are high; with LoRA gated a high `map_rate` is
            noise.
    """

    tokens: int = 8
    rank: int = 4
    lora_rank: int = 4
    lora_alpha: float = 8.0
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("all-linear",)
    rate: float = 5.0
    map_rate: float = 1.0
    conditioning: Conditioning = "prompt+lora"

    def __post_init__(self) -> None:
        rules = {
            "tokens": self.tokens >= 1,
            "rank": self.rank >= 1,
            "lora_rank": self.lora_rank >= 1,
            "lora_alpha": self.lora_alpha > 0,
            "lora_dropout": 0 <= self.lora_dropout < 1,
            "lora_targets": bool(self.lora_targets),
            "rate": self.rate > 0,
            "map_rate": self.map_rate > 0,
            "conditioning": self.conditioning in CONDITIONINGS,
        }
        wrong = [f"{name} = {getattr(self, name)!r} is out of range." for name, fine in rules.items() if not fine]
        if wrong:
            raise ConfigError(wrong)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "lora_targets": list(self.lora_targets)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PromptConfig:
        """Raises RunError for an adapter whose dependence on w this version does not compute."""
        fields = {"conditioning": "prompt", **fields, "lora_targets": tuple(fields["lora_targets"])}
        if fields.pop("core_rate", None) and fields["conditioning"] != "prompt":
            raise RunError("LoRA with a learned core (core_rate) is not read any more; train the run again.")
        return cls(**{"map_rate": fields["rate"], **fields})


class TextModel(nn.Module):
    """A frozen causal language model, LoRA on its linear layers, and a prefix of virtual tokens.

    Args:
        backbone: a Hugging Face causal model; it is wrapped in place.
        m: objectives.
        config: what is trained.
        conditioned: whether the prefix depends on w.
        seed: of the virtual tokens' start, which are embeddings of tokens drawn from the vocabulary.

    Raises ConfigError where the architecture has no layer that LoRA can adapt, or no input embeddings.
    """

    separable, tempered = False, False

    def __init__(
        self, backbone: PreTrainedModel, m: int, config: PromptConfig | None = None, *, conditioned: bool, seed: int = 0
    ) -> None:
        super().__init__()
        self.m, self.prompt_config, self.conditioned = m, config or PromptConfig(), conditioned
        self.autocast: torch.dtype | None = None
        self.shares_prompts, self.recomputes = caches_keys(backbone), False
        self.cached_as = cache_argument(backbone)
        backbone.config.use_cache = False
        _without_dropout(backbone)
        embedding = _embedding(backbone)
        rows = torch.from_numpy(rng_for(seed, 41).integers(len(embedding.weight), size=self.prompt_config.tokens))
        start = embedding.weight.detach()[rows.to(embedding.weight.device)]
        self.gated = conditioned and self.prompt_config.conditioning == "prompt+lora"
        self.backbone = _with_lora(backbone, self.prompt_config, adapters=m if self.gated else 1)
        self.prompt: HyperPrompt | PlainPrompt = (
            HyperPrompt(m, self.prompt_config.rank, start) if conditioned else PlainPrompt(start)
        )
        self._gates: Tensor | None = None
        if self.gated:
            for factor in lora_factors(self.backbone):
                factor.register_forward_hook(self._gate)

    def _gate(self, factor: nn.Module, inputs: tuple[Tensor, ...], given: Tensor) -> Tensor:
        assert self._gates is not None, "condition() comes before a forward pass"
        return given * self._gates.to(given.dtype)

    def condition(self, weights: Tensor | None) -> None:
        """Gate LoRA by `weights`, (m,) or (rows, m), in the forward passes that follow; the base is as it was.

        It stays so until the next call: recomputed activations need it in the backward pass.
        """
        if self.gated:
            assert weights is not None, "a conditioned adapter needs w"
            self._gates = gates(weights.view(-1, 1, self.m).to(self.prompt.prefix), self.prompt_config.lora_rank)

    @torch.no_grad()
    def lora_at(self, weights: Tensor) -> list[Tensor]:
        """The first factor of every adapted layer at one w (m,), each (rows of LoRA, inputs): diag(g) A, or A."""
        factors = [factor.weight.detach() for factor in lora_factors(self.backbone)]
        if not self.gated:
            return factors
        gate = gates(weights.to(factors[0]), self.prompt_config.lora_rank)
        return [gate.unsqueeze(-1) * factor for factor in factors]

    @torch.no_grad()
    def redraw_lora(self) -> None:
        """Another random start for the first factor of every adapted layer, as PEFT draws it, from torch's seed."""
        for factor in lora_factors(self.backbone):
            drawn = torch.empty(factor.weight.shape)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
            factor.weight.copy_(drawn)

    def rate_of(self, name: str) -> float:
        """Factor on the learning rate of a parameter."""
        if name.startswith("prompt."):
            return self.prompt_config.rate if name == "prompt.prefix" else self.prompt_config.map_rate
        return 1.0

    @property
    def device(self) -> torch.device:
        return self.prompt.prefix.device

    @property
    def context(self) -> int | None:
        """Positions the base has, or None where it states no limit."""
        found = getattr(self.backbone.config, "max_position_embeddings", None)
        return int(found) if found else None

    def recompute_activations(self) -> None:
        """Keep no activations inside the blocks but compute them again in the backward pass."""
        base = self.backbone.get_base_model()
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        self.recomputes = True  # which leaves no keys to share in training

    def trained(self) -> dict[str, Tensor]:
        """The tensors that training changes: what a run folder keeps."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trained(self, tensors: dict[str, Tensor]) -> None:
        """Put `trained()` tensors back. Raises ConfigError where names or shapes are another model's."""
        own = {name: p for name, p in self.named_parameters() if p.requires_grad}
        wrong = sorted(set(own) ^ set(tensors)) or [n for n, p in own.items() if p.shape != tensors[n].shape]
        if wrong:
            raise ConfigError(f"These weights are of another model: {len(wrong)} tensors differ, first {wrong[0]!r}.")
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(tensors[name])

    def embed(self, ids: Tensor) -> Tensor:
        """(..., t, d_model) embeddings of token ids (..., t)."""
        embedded: Tensor = self.backbone.get_input_embeddings()(ids)
        return embedded

    def conditioned_input(self, ids: Tensor, attention: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """LoRA gated by `weights`, and what the next forward pass takes: ids (rows, t) with each row's prefix."""
        self.condition(weights)
        return self.with_prefix(self.embed(ids), attention, weights)

    def with_prefix(self, embedded: Tensor, attention: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prepend each row's prefix: embeddings (rows, k + t, d_model) and attention (rows, k + t).

        `weights` is (m,), or (rows, m) with a w for each row.
        """
        prefix = self.prompt(weights).to(embedded.dtype)
        if prefix.dim() == 2:
            prefix = prefix.expand(len(embedded), -1, -1)
        ones = attention.new_ones(len(attention), prefix.shape[1])
        return torch.cat([prefix, embedded], 1), torch.cat([ones, attention], 1)

    def sequence_scores(self, tokens: Tokens, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """(b, n): the sum of each response's token log-probabilities, 0 on pads.

        `weights` is (m,) or (b, m). Rows of pads are not computed, but for one where there is nothing else.
        """
        return _scatter(_scores(*self.response_logits(tokens, mask, weights)), mask)

    @torch.no_grad()
    def base_scores(self, tokens: Tokens, mask: Tensor) -> Tensor:
        """(b, n): what the frozen base gives the responses: no adapter, no prefix."""
        with self.as_base():
            return _scatter(_scores(*self.response_logits(tokens, mask, base=True)), mask)

    def response_logits(
        self, tokens: Tokens, mask: Tensor, weights: Tensor | None = None, *, base: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What predicts the responses, in rows (r, t): logits (r, t, vocabulary), the tokens, and which are scored.

        `weights` as for `sequence_scores`, none of them with `base`, for which the caller switches adapters off. A
        prompt is computed once for all its responses where that saves something (see `shared_prompts`).
        """
        apart = None
        if self.shares_prompts and not (self.training and self.recomputes):
            apart = share_prompts(tokens, mask, 0 if base else self.prompt_config.tokens)
        with self._precision(mask.device):
            if apart is not None:
                per_list = weights is not None and weights.dim() == 2
                return self._after_prompts(apart, weights[mask.any(1)] if per_list else weights, base)  # type: ignore[index]
            real = _computed(mask)
            ids, attention, scored = (x.flatten(0, 1)[real] for x in tokens)
            if weights is not None and weights.dim() == 2:
                weights = weights.repeat_interleave(mask.shape[1], 0)[real]
            if base:
                embedded, seen = self.embed(ids), attention
            else:
                embedded, seen = self.conditioned_input(ids, attention, weights)
            first = first_scored(scored)
            return self._logits(embedded, seen, ids.shape[1] - first), ids[:, first:], scored[:, first:]

    def _after_prompts(self, apart: SharedPrompts, weights: Tensor | None, base: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As `response_logits`, in two passes; `weights` is (m,) or one for each of the prompts."""
        embedded, lengths = self.embed(apart.prompts), apart.lengths
        if not base:
            ones = torch.ones_like(apart.prompts, dtype=torch.bool)
            self.condition(weights)
            embedded, _ = self.with_prefix(embedded, ones, weights)
            lengths = lengths + self.prompt_config.tokens
        embedded, seen = to_the_right(embedded, lengths)
        cache: Any = DynamicCache()
        call: dict[str, Any] = {self.cached_as: cache, "use_cache": True}
        self.backbone(
            inputs_embeds=embedded, attention_mask=seen.long(), position_ids=positions(seen), logits_to_keep=1, **call
        )
        cache.batch_select_indices(apart.lists)
        if weights is not None and weights.dim() == 2:
            self.condition(weights[apart.lists])
        attention = torch.cat([seen[apart.lists], apart.scored], 1)
        logits = self.backbone(
            inputs_embeds=self.embed(apart.ids),
            attention_mask=attention.long(),
            position_ids=positions(attention)[:, -apart.ids.shape[1] :],
            **call,
        ).logits
        return logits, apart.targets, apart.scored

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """The adapter switched off for the time of the block."""
        with self.backbone.disable_adapter():
            yield

    def _precision(self, device: torch.device) -> Any:
        return torch.autocast(device.type, self.autocast) if self.autocast else nullcontext()

    def _logits(self, embedded: Tensor, attention: Tensor, t: int) -> Tensor:
        """(rows, t, vocabulary): what predicts the last t tokens, each at the position before it."""
        length = embedded.shape[1]
        if t >= length:
            raise DataError("A response begins at the first token: a base without a prefix needs a prompt before it.")
        logits: Tensor = self.backbone(
            inputs_embeds=embedded,
            attention_mask=attention.long(),
            position_ids=positions(attention),
            logits_to_keep=torch.arange(length - t - 1, length - 1, device=embedded.device),
        ).logits
        return logits

    def encode(self, tokens: Tokens, base: Tensor, mask: Tensor) -> Tokens:
        """Nothing can be shared between weights: the tokens themselves."""
        return tokens

    def decode(self, encoded: Tokens, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """delta = s - s_base, (b, n), 0 on pads, for one w (m,) or one per list (b, m)."""
        return (self.sequence_scores(encoded, mask, weights) - base).masked_fill(~mask, 0.0)

    def forward(self, tokens: Tokens, base: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        return self.decode(tokens, weights, base, mask)


def first_scored(scored: Tensor) -> int:
    """Where the first response of `scored` (rows, t) begins: t if there is none."""
    columns = scored.any(0)
    return int(columns.float().argmax()) if bool(columns.any()) else len(columns)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows, t) cross-entropy of `targets` under logits (rows, t, vocabulary), in float32."""
    losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


def _scores(logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """(rows,) log-probability of the `targets` (rows, t) that are `scored`, under logits (rows, t, vocabulary)."""
    return -(token_losses(logits, targets) * scored).sum(-1)


def positions(attention: Tensor) -> Tensor:
    """(rows, t) position of each token among the attended ones, wherever the pads are."""
    return (attention.long().cumsum(-1) - 1).clamp(min=0)


def _computed(mask: Tensor) -> Tensor:
    """(b * n,) the rows of `mask` (b, n) to compute: the real ones, or the first where none is.

    A process without lists in a step must make the same pass and have gradients, of 0, or the others wait for it.
    """
    real = mask.flatten()
    if not real.any():
        real = torch.arange(len(real), device=real.device) == 0
    return real


def _scatter(scores: Tensor, mask: Tensor) -> Tensor:
    """(b, n) from the values of its real items, in order, 0 on pads; values beyond them are not used."""
    spread = scores.new_zeros(mask.numel())
    return spread.masked_scatter(mask.flatten(), scores).view(mask.shape)


def _embedding(backbone: PreTrainedModel) -> nn.Embedding:
    try:
        embedding = backbone.get_input_embeddings()
        if isinstance(embedding, nn.Embedding):
            return embedding
    except (AttributeError, NotImplementedError):
        pass
    raise ConfigError(f"{type(backbone).__name__} has no token embeddings to put a prefix before; use a causal model.")


def _without_dropout(backbone: nn.Module) -> None:
    """Switch the base's own dropout off: tuned and base scores then differ by what is trained alone."""
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _with_lora(backbone: PreTrainedModel, config: PromptConfig, adapters: int) -> Any:
    """The backbone with one adapter that has the rows of so many."""
    from peft import LoraConfig, get_peft_model

    targets = config.lora_targets
    lora = LoraConfig(
        r=adapters * config.lora_rank,
        lora_alpha=adapters * config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=targets[0] if targets == ("all-linear",) else list(targets),
        fan_in_fan_out=any(type(x).__name__ == "Conv1D" for x in backbone.modules()),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for a property by its old name
            return get_peft_model(backbone, lora)
    except ValueError as error:
        raise ConfigError(
            f"LoRA cannot adapt {type(backbone).__name__} at {', '.join(targets)} ({error}); name the model's own "
            "linear layers with --lora-targets."
        ) from None


def blocks(model: nn.Module) -> nn.ModuleList:
    """The stack of blocks: the longest list of modules that stands in no other list (of a block's experts, say)."""
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = module
    return max(lists.values(), key=len, default=nn.ModuleList())


def lora_factors(backbone: nn.Module) -> list[nn.Linear]:
    """The first LoRA factor, A, of every adapted layer, in order."""
    return [x for name, x in backbone.named_modules() if name.endswith("lora_A.default") and isinstance(x, nn.Linear)]


def average_replicas(states: Sequence[dict[str, Tensor]], groups: int) -> dict[str, Tensor]:
    """One model's trained tensors whose change of every weight matrix is the mean over those of `states` (ours).

    The factors stand side by side, so LoRA has as many times the rows, those of each of `groups` objectives together;
    the prefix and its maps are averaged, which have had the same start. Other means of networks: Izmailov et al. 2018,
    Wortsman et al. 2022.
    """
    found = {}
    for name, first in states[0].items():
        each = [state[name] for state in states]
        if ".lora_A." in name:  # (groups r, inputs)
            found[name] = torch.cat([x.view(groups, -1, x.shape[1]) for x in each], 1).flatten(0, 1)
        elif ".lora_B." in name:  # (outputs, groups r)
            found[name] = torch.cat([x.view(len(x), groups, -1) for x in each], 2).flatten(1, 2) / len(each)
        else:
            found[name] = torch.stack(each).mean(0).to(first.dtype)
    return found


def fingerprint(backbone: nn.Module) -> str:
    """A hash of a base's weights: names, shapes and a sample of the values of every tensor, in float32.

    The same for a model in memory and after saving in the same precision; adapters saved for another base differ.
    """
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        flat = value.detach().flatten()
        where = torch.linspace(0, max(0, len(flat) - 1), min(SAMPLES, len(flat))).long()
        sample = flat[where.to(flat.device)].to("cpu", torch.float32)
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def load_frozen(name: str | Path, *, half: bool) -> tuple[PreTrainedModel, str]:
    """A causal model to train over, in bfloat16 with `half` or in float32, and its fingerprint.

    The fingerprint is of the weights as they were saved, which a run is opened with, not of rounded ones. Raises
    ConfigError as `load_backbone` does.
    """
    backbone = load_backbone(name, dtype="auto" if half else torch.float32)
    found = fingerprint(backbone)
    if half:
        for p in backbone.parameters():  # not Module.to, which would round the buffers of rotary positions too
            p.data = p.data.to(torch.bfloat16)
    return backbone, found


def load_backbone(name: str | Path, *, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """A causal model from a folder or, where there is a network, by its hub name; `auto` leaves its own precision.

    Raises ConfigError where neither is found or the architecture is not a causal language model's.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # the program shows its own
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(name), dtype=dtype)
        model.train(False)
        return model
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(_not_found("model", name, error)) from None


def load_config(name: str | Path) -> PreTrainedConfig:
    """The shape of a model, without its weights. Raises ConfigError where there is none, or no such architecture."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(name))
        return config
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(_not_found("model", name, error)) from None


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model. Raises ConfigError where there is none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(name))
        return tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(_not_found("tokenizer", name, error)) from None


def check_pair(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ConfigError where the tokenizer has more tokens than the model has embeddings."""
    rows = len(_embedding(backbone).weight)
    if len(tokenizer) > rows:
        raise ConfigError(
            f"The tokenizer has {len(tokenizer):,} tokens and the model {rows:,} embeddings: they do not belong "
            "together; use the tokenizer that was saved with the model."
        )


def _not_found(what: str, name: str | Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if Path(name).exists():
        return f"{name} holds no causal language {what} that transformers can read ({reason})."
    return (
        f"No {what} was found for {str(name)!r}: it is not a folder here, and the hub did not give it ({reason}). "
        "Without a network, give --model the path of a downloaded model."
    )
