"""The Text view in a real browser: answers that stream, the strip, sliders by key, downloads, the address."""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import opening
import pytest
import torch
from driver import PATIENCE, App, live_point, parameters
from text_helpers import load_exported

from hyperdpo.text.generate import Sampling, answers, prompt_ids
from hyperdpo.text.run import TextRun

pytestmark = pytest.mark.browser
OPENING = "Once upon a time there was"
NASTY = "<script>window.broken = 1</script> **bold** \u202eevil \x07 <img src=x onerror='window.broken=1'>"


WRITTEN = """() => {
  const all = [...document.querySelectorAll('.hx-answer, .hx-row')];
  return all.length > 1 && all.every((a) => a.querySelector('.hx-score') && !a.querySelector('.hx-caret'));
}"""
# Stop is pressed as soon as it is there: a small model is quick.
PRESS_STOP = """() => {
  const watch = new MutationObserver(() => {
    const stop = document.querySelector('.st-key-text-stop button');
    if (stop && !window.stopPressed) {
      window.stopPressed = true;
      watch.disconnect();
      stop.click();
    }
  });
  watch.observe(document.body, { childList: true, subtree: true });
}"""


def open_text(page: Any, app: App, said: str = "") -> None:
    """Open the view and wait until its answers are written and its live point is measured."""
    page.goto(f"{app.url}/text?run=small-text{said}")
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    written(page)


def written(page: Any) -> None:
    """Wait until nothing grows any more and every text of the page is measured."""
    page.wait_for_function(WRITTEN, timeout=PATIENCE, polling=100)


def answer(page: Any) -> str:
    """The text with the sliders' weights, prompt included."""
    return str(page.locator(".hx-answer .hx-told").first.inner_text())


def wait_for_url(page: Any, key: str, value: str) -> None:
    page.wait_for_function(
        "([k, v]) => new URLSearchParams(location.search).get(k) === v", arg=[key, value], timeout=PATIENCE, polling=50
    )


def test_answers_stream_beside_the_base_and_follow_the_sliders_by_key(page: Any, text_app: App) -> None:
    open_text(page, text_app, "&w=80,10,10")
    assert page.locator(".hx-answer").count() == 2
    assert page.locator(".hx-answer h3").all_inner_texts() == ["With these sliders", "Base model"]
    assert page.locator(".hx-row").count() == 11
    assert page.locator(".hx-row .hx-score").count() == 33
    page.locator(".hx-exact circle").wait_for(timeout=PATIENCE)
    before = live_point(page)
    first = answer(page)
    page.evaluate(
        """() => {
          window.seen = new Set();
          const look = () => {
            const told = document.querySelector('.hx-answer .hx-told');
            if (told) window.seen.add(told.textContent);
            requestAnimationFrame(look);
          };
          look();
        }"""
    )
    page.get_by_role("button", name="Another draw").press("Enter")
    began = time.monotonic()
    page.locator(".hx-answer .hx-caret").first.wait_for(timeout=PATIENCE)
    wait_for_url(page, "seed", "1")
    written(page)
    assert time.monotonic() - began < PATIENCE / 1000
    assert page.evaluate("window.seen.size") > 3, "the answer must grow before the reader's eyes"
    assert answer(page) != first
    slider = page.locator("input.slider").nth(0)
    slider.focus()
    page.keyboard.press("Home")
    wait_for_url(page, "w", "0,50,50")
    page.locator("#scale").focus()
    page.keyboard.press("PageUp")
    wait_for_url(page, "c", "1.58")
    page.get_by_text("c = 1.58").first.wait_for(timeout=PATIENCE)
    assert page.get_by_text("extrapolation").count() == 0 or not page.get_by_text("extrapolation").first.is_visible()
    for _ in range(2):
        page.keyboard.press("PageDown")
    wait_for_url(page, "c", "0.631")
    page.get_by_text("Below c = 1 is extrapolation").wait_for(timeout=PATIENCE)
    page.get_by_text("c = 0.631 (extrapolated)").wait_for(timeout=PATIENCE)
    page.keyboard.press("Home")
    wait_for_url(page, "c", "0.501")
    written(page)
    page.get_by_text("On all 12 test lists").wait_for(timeout=PATIENCE)
    assert live_point(page) != before


def test_a_prompt_is_text_and_nothing_else(page: Any, text_app: App) -> None:
    open_text(page, text_app, f"&prompt={quote(NASTY)}&n=16&strip=0")
    shown = answer(page)
    assert shown.startswith("<script>window.broken = 1</script> **bold** ⟨U+202E⟩evil ␇ <img")
    assert page.locator(".hx-told script, .hx-told img, .hx-told strong").count() == 0
    assert page.evaluate("window.broken") is None
    assert page.locator(".hx-row").count() == 0
    box = page.get_by_role("textbox", name="Beginning of the text")
    box.fill("")
    box.press("Control+Enter")
    page.get_by_text("The prompt is empty").wait_for(timeout=PATIENCE)
    box.fill("word " * 300)
    box.press("Control+Enter")
    page.get_by_text("shorten it").wait_for(timeout=PATIENCE)
    box.fill("The dog")
    page.get_by_role("button", name="Write").click()
    wait_for_url(page, "prompt", "The dog")
    written(page)
    assert answer(page).startswith("The dog")


def test_an_answer_can_be_stopped_and_a_reload_brings_the_same_back(page: Any, text_app: App) -> None:
    open_text(page, text_app, f"&w=10,20,70&c=2&seed=7&n=32&prompt={quote('My friend was')}&strip=0")
    text, address = answer(page), parameters(page)
    assert (address["w"], address["c"], address["seed"], address["n"]) == ("10,20,70", "2", "7", "32")
    page.locator(".hx-exact circle").wait_for(timeout=PATIENCE)
    page.reload()
    page.get_by_text("Computed on").wait_for(state="attached", timeout=PATIENCE)
    written(page)
    assert answer(page) == text
    assert parameters(page) == address
    page.goto(f"{text_app.url}/text?run=small-text&w=1,2,3&c=0.1&seed=x")
    page.get_by_text("outside 0.5 to 10").wait_for(timeout=PATIENCE)
    page.get_by_text("not a whole number").wait_for(timeout=PATIENCE)
    wait_for_url(page, "c", "0.5")
    written(page)
    page.evaluate(PRESS_STOP)
    page.get_by_role("button", name="Another draw").press("Enter")
    page.wait_for_function("() => window.stopPressed", timeout=PATIENCE, polling=50)
    page.wait_for_function(f"() => document.body.innerText.includes('Stopped. Write begins again.') || ({WRITTEN})()",
                           timeout=PATIENCE, polling=50)  # fmt: skip
    page.get_by_role("button", name="Write", exact=True).press("Enter")
    written(page)
    page.get_by_role("button", name="Another draw").press("Enter")
    page.locator("input.slider").nth(0).focus()
    page.keyboard.press("End")
    wait_for_url(page, "w", "100,0,0")  # the slider is heard while answers are being written
    written(page)


def test_downloads_open_and_the_adapter_writes_what_the_page_would(page: Any, text_app: App, tmp_path: Path) -> None:
    open_text(page, text_app, "&w=70,20,10")
    page.locator(".hx-exact circle").wait_for(timeout=PATIENCE)
    page.get_by_test_id("stMain").get_by_role("button", name="Download", exact=True).click()

    def saved(button: str) -> bytes:
        with page.expect_download(timeout=PATIENCE) as caught:
            page.get_by_role("button", name=button).click()
        path = tmp_path / caught.value.suggested_filename
        caught.value.save_as(path)
        return path.read_bytes()

    rows = list(csv.DictReader(io.StringIO(saved("The texts, CSV").decode())))
    assert {"tuned", "base"} == {r["model"] for r in rows}
    assert len(rows) == 13
    assert all(r["text"] and r["measured.upbeat"] for r in rows)
    points = json.loads(saved("The fronts, JSON"))
    assert {p["front"] for p in points} == {"HyperDPO", "Base", "live point"}
    live = next(p for p in points if p["front"] == "live point")
    assert live["low.upbeat"] < live["cross_entropy.upbeat"] < live["high.upbeat"]
    assert len(opening.csv_rows(saved("The fronts, CSV"))) == len(points)
    assert len(opening.json_rows(saved("The texts, JSON"))) == len(rows)
    for kind in ("SVG", "PNG", "PDF", "HTML", "Python"):
        page.get_by_text(kind, exact=True).click()
        opening.check(kind, saved(f"Save {kind}"), tmp_path)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export").click()
    packed = zipfile.ZipFile(io.BytesIO(saved("Save the zip")))
    names = packed.namelist()
    assert any(n.endswith("adapter/adapter_config.json") for n in names), names
    assert packed.testzip() is None
    packed.extractall(tmp_path / "export")
    run = TextRun(text_app.folder / "runs" / "small-text", device="cpu")
    [expected] = answers(run, OPENING, [torch.tensor([0.7, 0.2, 0.1])], sampling=Sampling(12, temperature=0.0))
    assert by_peft(tmp_path / "export", run) == expected.ids


def by_peft(export: Path, run: TextRun) -> list[int]:
    """Greedy tokens of what was exported, with transformers and PEFT alone."""
    [config] = export.rglob("adapter_config.json")
    model = load_exported(config.parents[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that PEFT ignores the position ids it is given
        ids = torch.tensor([prompt_ids(run.tokenizer, OPENING, run.tokens, None)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return made[0, ids.shape[1] :].tolist()


def test_only_c_1_is_exported_and_each_kind_of_run_has_its_view(page: Any, text_app: App) -> None:
    open_text(page, text_app, "&c=2&strip=0")
    page.get_by_role("button", name="Export").click()
    page.get_by_text("Only c = 1 can be exported").wait_for(timeout=PATIENCE)
    page.goto(f"{text_app.url}/runs")
    link = page.get_by_role("link", name="small-text")
    link.wait_for(timeout=PATIENCE)
    link.click()
    page.locator(".hx-answer").first.wait_for(timeout=PATIENCE)
    page.goto(f"{text_app.url}/?run=small-text")
    page.get_by_text("small-text is a text run; the Text view shows it.").wait_for(timeout=PATIENCE)
    page.goto(f"{text_app.url}/text?run=marketplace")
    page.get_by_text("marketplace is a ranking run; the Explore view shows it.").wait_for(timeout=PATIENCE)


def test_a_phone_shows_it_all_without_scrolling_sideways(browser: Any, text_app: App) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    open_text(page, text_app)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    wide = "(all) => all.filter((e) => e.getBoundingClientRect().right > 391).length"
    assert page.locator(".hx-answer, .hx-row, .hx-card").evaluate_all(wide) == 0
    page.get_by_test_id("stExpandSidebarButton").click()
    page.locator("input.slider").first.wait_for(timeout=PATIENCE)
    context.close()
