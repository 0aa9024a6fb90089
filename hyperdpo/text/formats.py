"""The shapes of preference records, one JSON object a line, and how each becomes a prompt, responses and scores.

| format | keys of a record |
|---|---|
| `pku` | prompt, response_0, response_1, better_response_id, safer_response_id (PKU-SafeRLHF) |
| `pku-safety` | prompt, safer, less_safe |
| `trl` | prompt, chosen, rejected (strings or message lists); or chosen and rejected as message lists alone |
| `hh` | chosen, rejected: whole dialogues of `\\n\\nHuman: ..` and `\\n\\nAssistant: ..` turns (HH-RLHF) |
| `lists` | prompt, responses, scores: {objective: [number or null, ..]}; or responses: [{text, scores: {..}}, ..] |
| `ratings` | prompt or mr or src; response or summary; scores: {objective: number}: one response a record |
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from hyperdpo.errors import ConfigError, DataError, nearest

NAN = float("nan")
PREFERRED = "preferred"  # the objective of chosen over rejected in a file that was given no name
ALIKE = "lists with fewer than two different responses"
PARTED = "dialogues that part before the last answer"
EMPTY = "dialogues with an empty answer"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPOKEN = {"user": "Human", "assistant": "Assistant"}


class Message(NamedTuple):
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""Text that a response continues, or the turns of a chat that it answers."""


@dataclass(frozen=True)
class Row:
    """One record, understood.

    Attributes:
        prompt: what is answered.
        responses: as in the record, possibly with repeats.
        scores: per objective one number a response, NaN where it is missing.
        grouped: the record holds one item of a list: records that share the prompt belong together.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    grouped: bool = False


class Skip(Exception):  # noqa: N818 - a record that published files are known to contain; counted by its reason
    """A record that cannot be used and is no one's mistake."""


class Bad(Exception):  # noqa: N818 - becomes a DataError with file and line
    """What is wrong with a record, as the end of a sentence that starts with file and line."""


@dataclass(frozen=True)
class Format:
    """How records of one shape are read.

    Attributes:
        keys: what every record has (of a tuple, one).
        read: (record, objective of the file) -> Row. Raises Bad or Skip.
        single: it holds one objective, which NAME=FILE names.
        pairs: labels are 1 for the better response and 0 for the other: distributions by l1.
    """

    keys: tuple[str | tuple[str, ...], ...]
    read: Callable[[Mapping[str, Any], str], Row]
    single: bool = False
    pairs: bool = True

    def lacks(self, record: Mapping[str, Any]) -> list[str]:
        """The keys that `record` does not have."""
        wanted = [(k,) if isinstance(k, str) else k for k in self.keys]
        return [" or ".join(names) for names in wanted if not any(name in record for name in names)]


def detect(record: Mapping[str, Any]) -> str | None:
    """The name of the first format whose keys `record` has."""
    for name, known in FORMATS.items():
        if not known.lacks(record) and not (name == "hh" and isinstance(record["chosen"], list)):
            return name
    return "trl" if {"chosen", "rejected"} <= set(record) else None


def checked_format(name: str) -> str:
    """`name`, or ConfigError where no format is called so."""
    if name != "auto" and name not in FORMATS:
        raise ConfigError(
            f"No format is called {name!r}{nearest(name, FORMATS)}; there are auto, {', '.join(FORMATS)}."
        )
    return name


def supported() -> str:
    """One line naming every format and its keys, for messages."""
    shown = {n: ", ".join(k if isinstance(k, str) else "|".join(k) for k in f.keys) for n, f in FORMATS.items()}
    return "; ".join(f"{name} ({keys})" for name, keys in shown.items())


def plain_text(prompt: Prompt) -> str:
    """The prompt as text without a chat template: `\\n\\nHuman: ..\\n\\nAssistant:` turns, as in HH-RLHF.

    A system message comes first as it is. An answer follows after a space.
    """
    if isinstance(prompt, str):
        return prompt
    turns = [m.content if m.role == "system" else f"\n\n{_SPOKEN[m.role]}: {m.content}" for m in prompt]
    return "".join(turns) + "\n\nAssistant:"


def read_prompt(value: Any, key: str = "prompt") -> Prompt:
    """A string or a list of messages. Raises Bad."""
    if isinstance(value, list):
        return read_messages(value, key)
    return _text(value, key)


def read_messages(value: Any, key: str) -> tuple[Message, ...]:
    """[{"role": .., "content": ..}, ..]. Raises Bad."""
    if not isinstance(value, list) or not value:
        raise Bad(f"{key!r} must be a string or a list of messages; got {short(value)}")
    messages = []
    for item in value:
        if not isinstance(item, Mapping) or item.get("role") not in ("system", "user", "assistant"):
            raise Bad(f"a message in {key!r} needs a role (system, user or assistant) and a content; got {short(item)}")
        messages.append(Message(item["role"], _text(item.get("content"), f"content of {key}")))
    return tuple(messages)


def short(value: object) -> str:
    """`value` as Python writes it, cut to a line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise Bad(f"{key!r} must be a string; got {short(value)}")
    if not value.strip():
        raise Bad(f"{key!r} is empty; remove the record or write its text")
    return value


def _number(value: Any, where: str) -> float:
    if value is None:
        return NAN
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Bad(f"{where} must be a number or null; got {short(value)}")
    if not math.isfinite(value):
        raise Bad(f"{where} must be finite; got {value!r}; write null for a missing score")
    return float(value)


def _answering(prompt: Prompt) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _pku(record: Mapping[str, Any], name: str) -> Row:
    responses = tuple(_text(record[key], key) for key in ("response_0", "response_1"))
    ids = {"helpful": "better_response_id", "safe": "safer_response_id"}
    scores = {objective: _winner(record.get(key), key) for objective, key in ids.items()}
    return Row(_answering(read_prompt(record["prompt"])), responses, scores)


def _winner(value: Any, key: str) -> tuple[float, float]:
    if value is None:
        return (NAN, NAN)
    if isinstance(value, bool) or value not in (0, 1):
        raise Bad(f"{key!r} must be 0 or 1 (or null); got {short(value)}")
    return (1.0 - value, float(value))


def _pku_safety(record: Mapping[str, Any], name: str) -> Row:
    responses = (_text(record["safer"], "safer"), _text(record["less_safe"], "less_safe"))
    return Row(_answering(read_prompt(record["prompt"])), responses, {"safe": (1.0, 0.0)})


def _trl(record: Mapping[str, Any], name: str) -> Row:
    chosen, rejected = record["chosen"], record["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        responses = (_text(chosen, "chosen"), _text(rejected, "rejected"))
        return Row(read_prompt(record.get("prompt")), responses, {name: (1.0, 0.0)})
    first, second = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
    if first[-1].role != "assistant" or second[-1].role != "assistant":
        raise Bad("'chosen' and 'rejected' must end with an assistant message")
    if first[:-1] != second[:-1]:
        raise Skip(PARTED)
    before = _answering(read_prompt(record["prompt"])) if "prompt" in record else ()
    prompt = (*before, *first[:-1])
    if not prompt:
        raise Bad("there is no prompt: give 'prompt', or whole chats in 'chosen' and 'rejected'")
    return Row(prompt, (first[-1].content, second[-1].content), {name: (1.0, 0.0)})


def _hh(record: Mapping[str, Any], name: str) -> Row:
    """Split where the dialogues part, behind the last `Assistant:` they share."""
    dialogues = [record["chosen"], record["rejected"]]
    for key, text in zip(("chosen", "rejected"), dialogues, strict=True):
        if not isinstance(text, str) or not text.startswith("\n\nHuman:") or "\n\nAssistant:" not in text:
            raise Bad(
                f"{key!r} must be a dialogue of '\\n\\nHuman: ..' and '\\n\\nAssistant: ..' turns, or come with a "
                f"'prompt'; got {short(text)}"
            )
    if dialogues[0] == dialogues[1]:
        raise Skip(ALIKE)
    shared = os.path.commonprefix(dialogues)  # noqa: RUF071 - common characters are meant
    cut = shared.rfind("\n\nAssistant:") + len("\n\nAssistant:")
    answers = [text[cut:] for text in dialogues]
    if cut < len("\n\nAssistant:") or any(_TURN.search(answer) for answer in answers):
        raise Skip(PARTED)
    if not all(answer.strip() for answer in answers):
        raise Skip(EMPTY)  # published HH-RLHF files contain some
    return Row(dialogue(shared[:cut]), tuple(a.strip() for a in answers), {name: (1.0, 0.0)})


def dialogue(text: str) -> tuple[Message, ...]:
    """The turns of HH-RLHF text that ends with an open `Assistant:`; neighbours of one speaker become one turn."""
    pieces = _TURN.split(text)[1:-2]
    messages: list[Message] = []
    for speaker, content in zip(pieces[::2], pieces[1::2], strict=True):
        role, content = _ROLES[speaker], content.strip()
        if messages and messages[-1].role == role:
            messages[-1] = Message(role, f"{messages[-1].content}\n\n{content}")
        else:
            messages.append(Message(role, content))
    return tuple(messages)


def _lists(record: Mapping[str, Any], name: str) -> Row:
    prompt, responses = read_prompt(record["prompt"]), record["responses"]
    if not isinstance(responses, list) or not responses:
        raise Bad(f"'responses' must be a list; got {short(responses)}")
    if all(isinstance(r, Mapping) for r in responses):
        texts = tuple(_text(r.get("text"), f"text of response {i}") for i, r in enumerate(responses))
        return Row(prompt, texts, _item_scores([_mapping(r.get("scores", {}), "scores") for r in responses]))
    texts = tuple(_text(r, f"response {i}") for i, r in enumerate(responses))
    scores = {}
    for objective, values in _mapping(record.get("scores", {}), "scores").items():
        if not isinstance(values, list) or len(values) != len(texts):
            raise Bad(f"'scores' of {objective!r} must be a list of {len(texts)}, one a response; got {short(values)}")
        scores[objective] = tuple(_number(v, f"score {objective!r} of response {i}") for i, v in enumerate(values))
    return Row(prompt, texts, scores)


def _item_scores(items: list[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    names: Iterable[str] = dict.fromkeys(name for scores in items for name in scores)
    return {
        n: tuple(_number(scores.get(n), f"score {n!r} of response {i}") for i, scores in enumerate(items))
        for n in names
    }


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Bad(f"{key!r} must map objectives to numbers; got {short(value)}")
    return value


def _ratings(record: Mapping[str, Any], name: str) -> Row:
    """An article and its summary are joined by `TL;DR:`, a meaning representation and its sentence by a line break."""
    if "src" in record:
        prompt: Prompt = _text(record["src"], "src") + "\nTL;DR:"
    elif "mr" in record:
        prompt = _text(record["mr"], "mr") + "\n"
    else:
        prompt = read_prompt(record["prompt"])
    key = "summary" if "summary" in record else "response"
    text = _text(record[key], key)
    scores = _item_scores([_mapping(record["scores"], "scores")])
    return Row(prompt, (" " + text if "src" in record else text,), scores, grouped=True)


FORMATS: dict[str, Format] = {
    "pku": Format(("prompt", "response_0", "response_1", ("better_response_id", "safer_response_id")), _pku),
    "pku-safety": Format(("prompt", "safer", "less_safe"), _pku_safety),
    "lists": Format(("prompt", "responses"), _lists, pairs=False),
    "ratings": Format((("prompt", "mr", "src"), ("response", "summary"), "scores"), _ratings, pairs=False),
    "trl": Format(("prompt", "chosen", "rejected"), _trl, single=True),
    "hh": Format(("chosen", "rejected"), _hh, single=True),
}


def understand(record: Any, name: str, objective: str) -> Row:
    """The Row of one parsed line in format `name`. Raises Bad (also for missing keys) or Skip."""
    if not isinstance(record, Mapping):
        raise Bad(f"a record is a JSON object; got {short(record)}")
    known = FORMATS[name]
    missing = known.lacks(record)
    if name == "trl" and isinstance(record.get("chosen"), list):
        missing = [key for key in missing if key != "prompt"]
    if missing:
        raise Bad(f"the record lacks {', '.join(map(repr, missing))}, which the {name} format needs")
    return known.read(record, objective)


def unknown_shape(record: Any, place: str) -> DataError:
    """The error for a first record that no format knows."""
    keys = ", ".join(map(str, record)) if isinstance(record, Mapping) else short(record)
    return DataError(f"{place}: no supported format has these keys: {keys}. Supported: {supported()}.")
