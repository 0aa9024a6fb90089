"""One trade-off taken away: read by transformers and PEFT alone, with the same logits; generate uses the prefix."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperdpo.errors import ConfigError, RunError
from hyperdpo.text.export import LOADER, export_text, merged_backbone
from hyperdpo.text.generate import Row, Sampling, generate
from hyperdpo.text.model import TextModel, positions
from hyperdpo.text.run import TextRun
from tests.text.test_text_model import KINDS, shaken
from tests.text_helpers import load_exported, tiny_model, tiny_tokenizer

W = torch.tensor([0.25, 0.75])
IDS = torch.tensor([[5, 9, 33, 71, 20], [1, 1, 40, 8, 77]])
LEFT_PADDED = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])


@pytest.fixture(params=KINDS)
def moved(run: TextRun, request: pytest.FixtureRequest) -> TextRun:
    """A run whose trained numbers are far from where training leaves a tiny model, on each architecture."""
    fresh = TextRun(run.folder.path)
    fresh.__dict__["model"] = shaken(TextModel(tiny_model(request.param), 2, conditioned=True))
    return fresh


def ours(model: TextModel, ids: torch.Tensor, attention: torch.Tensor, *, counted: bool = False) -> torch.Tensor:
    with torch.no_grad():
        model.condition(W)
        embedded, seen = model.with_prefix(model.embed(ids), attention.bool(), W)
        where = positions(torch.ones_like(seen) if counted else seen)
        return model.backbone(inputs_embeds=embedded, attention_mask=seen.long(), position_ids=where).logits[:, 8:]


def test_peft_gives_the_same_logits_unpadded_and_left_padded(moved: TextRun, tmp_path: Path) -> None:
    export_text(moved, W, tmp_path / "out")
    peft = load_exported(tmp_path / "out")
    with torch.no_grad():
        plain = peft(input_ids=IDS[:1], attention_mask=LEFT_PADDED[:1]).logits[:, 8:]
        padded = peft(input_ids=IDS, attention_mask=LEFT_PADDED).logits[:, 8:]
    # PEFT takes no position ids beside a prompt, so it counts pads: the card says so.
    expected = ours(moved.model, IDS, LEFT_PADDED, counted=True)
    assert "counts pads" in (tmp_path / "out" / "README.md").read_text()
    torch.testing.assert_close(plain[0], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(padded[0], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(padded[1, 2:], expected[1, 2:], atol=1e-4, rtol=1e-4)


def test_generate_writes_what_the_run_does(moved: TextRun, tmp_path: Path) -> None:
    """With what stands in generation_config.json: PEFT and transformers do not agree on the cache's name."""
    export_text(moved, W, tmp_path / "out")
    *_, [expected] = generate(
        moved.model, tiny_tokenizer(), [Row((5, 9, 33, 71, 20), W)], Sampling(12, temperature=0.0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = load_exported(tmp_path / "out").generate(
            input_ids=IDS[:1], attention_mask=LEFT_PADDED[:1], max_new_tokens=12, do_sample=False, eos_token_id=None
        )
    assert made[0, 5:].tolist()[: len(expected.ids)] == expected.ids
    assert len(expected.ids) > 1


def test_generate_uses_the_prefix(moved: TextRun, tmp_path: Path) -> None:
    export_text(moved, W, tmp_path / "out")
    file = tmp_path / "out" / "adapter" / "adapter_model.safetensors"

    def text() -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that PEFT ignores the position ids it is given
            made = load_exported(tmp_path / "out").generate(
                input_ids=IDS[:1], attention_mask=LEFT_PADDED[:1], do_sample=False, max_new_tokens=12, pad_token_id=1
            )
        return made[0].tolist()  # type: ignore[no-any-return]

    before = text()
    prefix = load_file(file)["prompt_embeddings"]
    save_file({"prompt_embeddings": torch.randn_like(prefix) * 3}, file)
    assert text() != before


def test_the_loader_of_the_card_runs_as_it_stands(
    moved: TextRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export_text(moved, W, tmp_path / "out", kind="merged")
    code = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), flags=re.S)[0]
    assert code.strip() == LOADER.strip()
    monkeypatch.chdir(out)
    tokenizer = AutoTokenizer.from_pretrained("base")
    scope = {"PROMPT": "Story 3:"}
    exec(code, scope)
    embedded, ids = scope["embedded"], tokenizer("Story 3:", return_tensors="pt").input_ids  # type: ignore[assignment]
    with torch.no_grad():
        logits = scope["model"](inputs_embeds=embedded).logits[:, 8:]  # type: ignore[operator]
    torch.testing.assert_close(logits, ours(moved.model, ids, torch.ones_like(ids)), atol=1e-4, rtol=1e-4)


def test_the_merged_model_answers_left_padded_batches_as_we_do(moved: TextRun, tmp_path: Path) -> None:
    out = export_text(moved, W, tmp_path / "out", kind="merged")
    base, prefix = AutoModelForCausalLM.from_pretrained(out / "base"), load_file(out / "prefix.safetensors")["prefix"]
    embedded = torch.cat([prefix.expand(2, -1, -1), base.get_input_embeddings()(IDS)], 1)
    seen = torch.cat([torch.ones(2, 8, dtype=torch.long), LEFT_PADDED], 1)
    with torch.no_grad():
        logits = base(inputs_embeds=embedded, attention_mask=seen, position_ids=positions(seen)).logits[:, 8:]
    torch.testing.assert_close(logits, ours(moved.model, IDS, LEFT_PADDED), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_leaves_the_model_as_it_was(kind: str) -> None:
    model = shaken(TextModel(tiny_model(kind), 2, conditioned=True))  # type: ignore[arg-type]
    before = ours(model, IDS, LEFT_PADDED)
    merged = merged_backbone(model, W)
    torch.testing.assert_close(ours(model, IDS, LEFT_PADDED), before)
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, model.backbone(ids).logits, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_exported_is_refused(moved: TextRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Only c = 1 can be exported; got c = 2: another c mixes the logits of two"):
        export_text(moved, W, tmp_path / "out", scale=2.0)
    with pytest.raises(ConfigError, match="peft or merged; got 'onnx'"):
        export_text(moved, W, tmp_path / "out", kind="onnx")
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="exists; choose another"):
        export_text(moved, W, tmp_path / "there")
    assert not list(tmp_path.glob(".out*"))
