"""Preferences over texts: prompts, the responses to each, and a score per objective where there is one."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.files import write_atomic
from hyperdpo.objectives import Objective
from hyperdpo.streams import COMPRESSED, Problems, opened
from hyperdpo.text.formats import (
    ALIKE,
    FORMATS,
    PREFERRED,
    Bad,
    Message,
    Prompt,
    Row,
    Skip,
    checked_format,
    detect,
    read_prompt,
    short,
    understand,
    unknown_shape,
)

SPLITS = ("train", "validation", "test")
SHIPPED_LISTS = ("lists.jsonl.xz", "lists.jsonl.gz", "lists.jsonl")  # preferences that lie inside a run folder
FRACTIONS = (0.6, 0.2, 0.2)
REPEATED = "repeated responses"
MERGED = "repeated records (merged)"
SINGLE = "prompts with a single response"
UNSCORED_ITEMS = "responses without a score"
UNSCORED = "lists without two scores for any objective"
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.-]+))?")

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Preferences:
    """Lists of responses with m objectives' scores.

    Attributes:
        prompts: one a list; lists may share a prompt.
        responses: n_i >= 2 different texts a list.
        scores: (n_i, m) a list, NaN where a score is missing.
        objectives: the m columns of `scores`, and how they become target distributions.
        name: what people read.
        skipped: how many records were left out or merged, by reason.
        limit: how many lists of the files were to be kept at most; None is all.
    """

    prompts: tuple[Prompt, ...]
    responses: tuple[tuple[str, ...], ...]
    scores: tuple[Scores, ...]
    objectives: tuple[Objective, ...]
    name: str = "preferences"
    skipped: Mapping[str, int] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if not len(self.prompts) == len(self.responses) == len(self.scores):
            problems.append(
                "Prompts, responses and scores are one a list; got "
                f"{len(self.prompts)}, {len(self.responses)} and {len(self.scores)}."
            )
        for i, (texts, values) in enumerate(zip(self.responses, self.scores, strict=False)):
            if len(texts) < 2 or values.shape != (len(texts), len(self.objectives)):
                problems.append(
                    f"List {i} needs 2 responses or more and scores of shape (responses, {len(self.objectives)}); got "
                    f"{len(texts)} responses and scores of shape {values.shape}."
                )
        if problems:
            raise DataError(problems)

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of prompts, responses, scores and objectives; the same content has the same one anywhere."""
        digest = hashlib.sha256(json.dumps([o.to_dict() for o in self.objectives]).encode())
        for prompt, texts, values in zip(self.prompts, self.responses, self.scores, strict=True):
            digest.update(json.dumps([prompt, texts], ensure_ascii=False).encode("utf-8", "surrogatepass"))
            digest.update(np.ascontiguousarray(np.where(np.isnan(values), np.nan, values), "<f8").tobytes())
        return digest.hexdigest()

    def subset(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Preferences:
        """The lists at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in chosen),
            responses=tuple(self.responses[i] for i in chosen),
            scores=tuple(self.scores[i] for i in chosen),
        )

    def joined(self, other: Preferences) -> Preferences:
        """These lists, then those of `other`, which has the same objectives. Raises DataError where it has not."""
        if other.objectives != self.objectives:
            raise DataError(
                f"Lists with the objectives {', '.join(o.name for o in other.objectives)} cannot join those with "
                f"{', '.join(o.name for o in self.objectives)}."
            )
        return replace(
            self,
            prompts=self.prompts + other.prompts,
            responses=self.responses + other.responses,
            scores=self.scores + other.scores,
        )

    def split(self, seed: int, fractions: Sequence[float] = FRACTIONS) -> dict[str, Preferences]:
        """Train, validation and test by prompt: lists that share a prompt are never in two of them.

        Prompts are ordered by a hash of (seed, prompt) and cut at `fractions` of their number, so the parts depend on
        neither the order of the lists nor the platform. Raises ConfigError for fractions that are not three numbers
        of 0 or more with sum 1, DataError where too few prompts leave a part empty.
        """
        if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
            raise ConfigError(f"A split takes three fractions of 0 or more that sum to 1; got {tuple(fractions)!r}.")
        order = sorted(dict.fromkeys(self.prompts), key=lambda p: _hash(seed, p))
        cuts = [0, *(round(len(order) * c) for c in np.cumsum(fractions))]
        part = {p: i for i in range(3) for p in order[cuts[i] : cuts[i + 1]]}
        members = np.array([part[p] for p in self.prompts], dtype=np.int64)
        found = {name: np.flatnonzero(members == i) for i, name in enumerate(SPLITS)}
        empty = [name for name, share in zip(SPLITS, fractions, strict=True) if share and not len(found[name])]
        if empty:
            raise DataError(
                f"{len(order)} different prompts are too few to split {tuple(fractions)}: nothing is left for "
                f"{' and '.join(empty)}; give more prompts or other fractions."
            )
        return {name: self.subset(index) for name, index in found.items()}

    def targets(self, i: int) -> Tensor:
        """t(z) of list i, (n_i, m); see `target_distributions`."""
        return self.subset([i]).target_distributions()[0][0]

    @property
    def judged(self) -> list[Tensor]:
        """(n_i, m) bool a list: whether a response has a score of each objective."""
        return [torch.from_numpy(~np.isnan(values)) for values in self.scores]

    def target_distributions(self) -> tuple[list[Tensor], Tensor]:
        """t(z) of eq. (9), (n_i, m) a list, and which lists are informative for which objective, (lists, m) bool.

        Each objective's distribution is over the responses that it has scored (`judged`): the others get 0. With fewer
        than two of them the list is uninformative for it and the whole column 0.
        """
        sizes = [len(texts) for texts in self.responses]
        labels = torch.full((len(self), max(sizes, default=0), len(self.objectives)), torch.nan)
        for row, values in zip(labels, self.scores, strict=True):
            row[: len(values)] = torch.from_numpy(values)
        scored = ~labels.isnan()
        scored &= scored.sum(1, keepdim=True) >= 2
        targets, informative = torch.zeros_like(labels), torch.zeros(len(self), len(self.objectives), dtype=torch.bool)
        for j, objective in enumerate(self.objectives):
            mask = scored[..., j]
            targets[..., j], informative[:, j] = objective.targets(labels[..., j].where(mask, 0.0), mask)
        return [t[:n].clone() for t, n in zip(targets, sizes, strict=True)], informative

    def describe(self) -> dict[str, Any]:
        """What people want to know first, as plain values."""
        informative = self.target_distributions()[1].sum(0).tolist()
        sizes = [len(texts) for texts in self.responses]
        return {
            "name": self.name,
            "lists": len(self),
            "prompts": len(set(self.prompts)),
            "responses": sum(sizes),
            "shortest": min(sizes, default=0),
            "longest": max(sizes, default=0),
            "informative": dict(zip((o.name for o in self.objectives), informative, strict=True)),
            "skipped": dict(self.skipped),
        }


def part_of_run(config: Mapping[str, Any], preferences: Preferences, split: str) -> Preferences:
    """The lists a run calls `split`: train, validation or test by the seed in its config.json, or all.

    Raises ConfigError for another split.
    """
    if split == "all":
        return preferences
    parts = preferences.split(config["split_seed"])
    if split not in parts:
        raise ConfigError(f"--split is {', '.join(parts)} or all; got {split!r}.")
    return parts[split]


def files_of_run(folder: Path, config: Mapping[str, Any]) -> tuple[list[str], int | None]:
    """Where the preferences of a run are, and how many lists of them it used at most, None for all.

    Those that lie in its folder, else those it was trained on; maybe no file.
    """
    inside = [str(folder / name) for name in SHIPPED_LISTS if (folder / name).is_file()]
    if inside:
        return inside[:1], None
    recorded = config["data"]
    return [str(file) for file in recorded.get("origin") or ()], recorded.get("limit")


def load_preferences(
    files: str | Path | Sequence[str | Path],
    *,
    objectives: Sequence[str | Objective] | None = None,
    format: str = "auto",
    name: str | None = None,
    limit: int | None = None,
) -> Preferences:
    """Read preferences from JSON lines (plain, .gz or .xz) or from the Hugging Face hub.

    Args:
        files: each `FILE`, `NAME=FILE` (a file of one objective, chosen over rejected, called NAME) or a hub name
            `USER/DATASET[:SPLIT]`. A list that stands in several files has its scores merged.
        objectives: `Objective.parse` strings or objectives; by default every one found: by l1 where all its labels
            come from pairs, else by softmax.
        format: one of `formats.FORMATS`, or `auto`: by the keys of each file's first record.
        name: what to call the data; by default from the files' names.
        limit: keep so many lists, the first of each source in turn, so that no file is left out for standing last.

    A list that comes again has the mean of its scores. Raises DataError with up to 19 problems at once, each naming
    file and line; ConfigError for an unknown format or objectives that cannot be.
    """
    checked_format(format)
    if limit is not None and limit < 1:
        raise ConfigError(f"The limit is a number of lists, 1 or more; got {limit!r}.")
    given = [files] if isinstance(files, str | Path) else list(files)
    if not given:
        raise ConfigError("Name at least one file of preferences.")
    collector, problems = _Collector(), Problems()
    sources = [_Source.of(spec) for spec in given]
    for source in sources:
        collector.read(source, format, problems)
    problems.raise_any()
    shown = name or "+".join(dict.fromkeys(s.stem for s in sources))
    return collector.preferences(objectives, shown, limit)


def read_prompts(file: str | Path) -> tuple[Prompt, ...]:
    """Prompts, one a line of text, or JSON lines with `prompt` (a string or messages). Raises DataError."""
    path, problems, prompts = Path(file), Problems(), []
    json_lines: bool | None = None
    for line, text in _lines(path, problems):
        if json_lines is None:
            json_lines = text.lstrip().startswith("{")
        place = f"{path.name}, line {line}"
        try:
            prompts.append(_prompt_of(_parsed(text)) if json_lines else text)
        except Bad as error:
            problems.add(f"{place}: {error}.")
        if problems.full:
            break
    problems.raise_any()
    if not prompts:
        raise DataError(f"{path.name} holds no prompts; write one a line.")
    return tuple(prompts)


def write_lists(
    path: Path,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    scores: Sequence[Mapping[str, Sequence[float | None]]] | None = None,
) -> None:
    """Write lists in our own format, one JSON object a line, atomically; .gz and .xz are compressed.

    `scores` has, for each list, one number a response and objective; NaN and None are written as null.
    """
    records: list[dict[str, Any]] = []
    for i, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
        record: dict[str, Any] = {"prompt": jsonable(prompt), "responses": list(texts)}
        if scores is not None:
            record["scores"] = {name: [_or_null(v) for v in values] for name, values in scores[i].items()}
        records.append(record)
    write_records(path, records)


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """JSON lines, atomically; compressed as the suffix says."""
    text = "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records).encode()
    write_atomic(path, _packed(text, path.suffix.lower()))


def read_records(path: Path) -> list[tuple[dict[str, Any], Row]]:
    """Every record of a file in our lists format, as it stands and understood. Raises DataError."""
    problems, found = Problems(), []
    for place, record in _file_records(path, problems):
        try:
            found.append((record, understand(record, "lists", PREFERRED)))
        except Bad as error:
            problems.add(f"{place}: {error}.")
    problems.raise_any()
    if not found:
        raise DataError(f"{path.name} holds no records; give one JSON object a line.")
    return found


def jsonable(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as JSON holds it: a string, or a list of {"role", "content"}."""
    return prompt if isinstance(prompt, str) else [m._asdict() for m in prompt]


@dataclass(frozen=True)
class _Source:
    """One argument of `load_preferences`: a file or a hub name, and the objective it was given."""

    spec: str
    path: Path | None
    objective: str | None

    @classmethod
    def of(cls, spec: str | Path) -> _Source:
        text = str(spec)
        if Path(text).exists():
            return cls(text, Path(text), None)
        head, equals, tail = text.partition("=")
        named = bool(equals) and "/" not in head
        place, objective = (tail, head) if named else (text, None)
        if named and not (head.strip() and tail.strip()):
            raise ConfigError(f"Name a file as FILE or NAME=FILE; got {text!r}.")
        if Path(place).exists() or not _looks_like_hub(place):
            return cls(text, Path(place), objective)
        return cls(place, None, objective)

    @property
    def stem(self) -> str:
        return self.spec if self.path is None else self.path.name.split(".")[0]

    def records(self, problems: Problems) -> Iterator[tuple[str, Any]]:
        """(place for messages, parsed record) of each record; what cannot be parsed goes to the problems."""
        return _hub_records(self.spec) if self.path is None else _file_records(self.path, problems)


class _Collector:
    """Rows of all files, put together into lists."""

    def __init__(self) -> None:
        self.lists: dict[Any, _List] = {}
        self.read_so_far = 0
        self.pairs: dict[str, bool] = {}
        self.skipped: Counter[str] = Counter()

    def read(self, source: _Source, format: str, problems: Problems) -> None:
        known = None if format == "auto" else format
        self.read_so_far += 1
        any_record = False
        for place, record in source.records(problems):
            any_record = True
            if known is None:
                known = detect(record) if isinstance(record, Mapping) else None
                if known is None:
                    problems.add(str(unknown_shape(record, place)))
                    return
                if source.objective and not FORMATS[known].single:
                    problems.add(
                        f"{source.spec}: NAME=FILE names the one objective of chosen over rejected, but records of the "
                        f"{known} format bring their objectives; give the file without a name."
                    )
                    return
            try:
                self.add(understand(record, known, source.objective or PREFERRED), known, source)
            except Skip as reason:
                self.skipped[str(reason)] += 1
            except Bad as error:
                problems.add(f"{place}: {error}.")
            if problems.full:
                return
        if not any_record and not problems.messages:
            problems.add(f"{source.stem} holds no records; give one JSON object a line.")

    def add(self, row: Row, format: str, source: _Source) -> None:
        texts = dict.fromkeys(row.responses)
        self.skipped[REPEATED] += len(row.responses) - len(texts)
        if len(texts) < 2 and not row.grouped:
            self.skipped[ALIKE] += 1
            return
        key = (row.prompt, source.spec if row.grouped else frozenset(texts))
        there = key in self.lists
        found = self.lists.setdefault(key, _List(row.prompt, self.read_so_far))
        self.skipped[MERGED] += there and not row.grouped
        self.skipped[REPEATED] += row.grouped and row.responses[0] in found.items
        for column in row.scores:
            self.pairs[column] = self.pairs.get(column, True) and FORMATS[format].pairs
        for i, text in enumerate(row.responses):
            item = found.items.setdefault(text, {})
            for column, values in row.scores.items():
                if not math.isnan(values[i]):
                    item.setdefault(column, []).append(values[i])

    def preferences(self, given: Sequence[str | Objective] | None, name: str, limit: int | None) -> Preferences:
        """The lists with scores of the objectives, at most `limit`. Raises DataError, ConfigError."""
        objectives = self.objectives(given, name)
        columns = [o.column for o in objectives]
        prompts, responses, scores = [], [], []
        sources: list[int] = []
        for found in self.lists.values():
            values = found.scores(columns)
            if len(values) < 2:
                self.skipped[SINGLE] += 1
                continue
            kept: npt.NDArray[np.bool_] = np.asarray(~np.isnan(values).all(1))
            self.skipped[UNSCORED_ITEMS] += int((~kept).sum())
            values = values[kept]
            if not ((~np.isnan(values)).sum(0) >= 2).any():
                self.skipped[UNSCORED] += 1
                continue
            prompts.append(found.prompt)
            responses.append(tuple(text for text, keep in zip(found.items, kept.tolist(), strict=True) if keep))
            scores.append(values)
            sources.append(found.source)
        _check_scores(scores, objectives, prompts, name)
        skipped = {reason: count for reason, count in self.skipped.items() if count}
        everything = Preferences(tuple(prompts), tuple(responses), tuple(scores), objectives, name, skipped)
        return everything if limit is None else replace(everything.subset(_in_turn(sources, limit)), limit=limit)

    def objectives(self, given: Sequence[str | Objective] | None, name: str) -> tuple[Objective, ...]:
        known = list(self.pairs)
        if not known:
            raise DataError(f"{name}: no record has a score; add some with `hyperdpo label`, or give pairs.")
        if given is None:
            return tuple(self._declared(column) for column in known)
        problems, chosen = [], []
        for item in given:
            objective = self._declared(item) if isinstance(item, str) else item
            chosen.append(objective)
            if objective.column not in known:
                problems.append(
                    f"{name} has no scores called {objective.column!r}{nearest(objective.column, known)}; "
                    f"there are {', '.join(known)}."
                )
        names = Counter(o.name for o in chosen)
        problems += [f"Two objectives are called {n!r}; names must differ." for n, count in names.items() if count > 1]
        if problems or not chosen:
            raise ConfigError(problems or "Name at least one objective.")
        return tuple(chosen)

    def _declared(self, text: str) -> Objective:
        """`Objective.parse`, with l1 where neither the text nor the kind of data says softmax."""
        objective = Objective.parse(text)
        said = any(part in ("l1", "softmax") for part in text.split(":")[1:])
        return objective if said or not self.pairs.get(objective.column) else replace(objective, normalisation="l1")


@dataclass
class _List:
    """A list being put together: for each response, the scores of each objective so far."""

    prompt: Prompt
    source: int
    items: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def scores(self, columns: Sequence[str]) -> Scores:
        """(n, m) means, NaN where there is none."""
        rows = [[np.mean(item[c]) if c in item else np.nan for c in columns] for item in self.items.values()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))


def _in_turn(sources: Sequence[int], limit: int) -> list[int]:
    """Positions of at most `limit` lists, in order: the first of each source, the second of each, and so on."""
    seen: Counter[int] = Counter()
    turn = []
    for i, source in enumerate(sources):
        turn.append((seen[source], source, i))
        seen[source] += 1
    return sorted(i for _, _, i in sorted(turn)[:limit])


def _check_scores(
    scores: Sequence[Scores], objectives: Sequence[Objective], prompts: Sequence[Prompt], name: str
) -> None:
    problems = []
    for j, objective in enumerate(objectives):
        if not any((~np.isnan(values[:, j])).sum() >= 2 for values in scores):
            problems.append(
                f"{name}: no list has two responses with a score for {objective.name!r}; remove the objective or add "
                "scores."
            )
        if objective.normalisation == "l1" and objective.direction == "max":
            low = next((i for i, v in enumerate(scores) if np.nanmin([*v[:, j], np.inf]) + objective.shift < 0), None)
            if low is not None:
                problems.append(
                    f"{name}: l1 needs scores of 0 or more, but {objective.name!r} has a negative one (prompt "
                    f"{short(prompts[low])}); use softmax, or declare a shift."
                )
    if problems:
        raise DataError(problems)


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank. A file that cannot be read becomes a problem."""
    number = 0
    try:
        with opened(path) as stream:
            for number, raw in enumerate(stream.content, 1):
                text = _decoded(raw, f"{path.name}, line {number}", problems)
                if text is None:
                    return
                if text.strip():
                    yield number, text
    except DataError as error:
        after = f" (line {number:,} was the last whole one)" if number else ""
        for message in error.problems:
            problems.add(message + after)


def _decoded(raw: bytes, place: str, problems: Problems) -> str | None:
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        problems.add(
            f"{place}: this is not UTF-8 text ({error.reason}); save the file as UTF-8, or name it .gz or .xz if it "
            "is compressed."
        )
        return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise Bad(f"this is not JSON ({reason}): {short(text)}; give one JSON object a line") from None


def _prompt_of(record: Any) -> Prompt:
    if not isinstance(record, Mapping) or "prompt" not in record:
        raise Bad(f"a record needs a 'prompt'; got {short(record)}")
    return read_prompt(record["prompt"])


def _file_records(path: Path, problems: Problems) -> Iterator[tuple[str, Any]]:
    for line, text in _lines(path, problems):
        place = f"{path.name}, line {line}"
        try:
            record = _parsed(text)
        except Bad as error:
            problems.add(f"{place}: {error}.")
            if problems.full:
                return
            continue
        yield place, record


def _looks_like_hub(text: str) -> bool:
    match = _HUB_NAME.fullmatch(text)
    endings = (".json", ".jsonl", ".txt", ".csv", ".parquet", *COMPRESSED)
    return match is not None and not text.startswith(".") and not text.lower().endswith(endings)


def _hub_records(spec: str) -> Iterator[tuple[str, Any]]:
    match = _HUB_NAME.fullmatch(spec)
    assert match is not None
    name, split = match["name"], match["split"] or "train"
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise DataError(
            f"{spec} is no file here, and reading it from the Hugging Face hub needs the package datasets: "
            "pip install 'hyperdpo[hub]', or give a file."
        ) from None
    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:  # whatever a network, a hub or a split that is not there raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name} (split {split}) is no file here and could not be read from the Hugging Face hub ({reason}). "
            "Check the name and the network, or download the data and give the file."
        ) from error
    for number, record in enumerate(rows, 1):
        yield f"{name}, record {number}", record


def _hash(seed: int, prompt: Prompt) -> bytes:
    text = json.dumps([seed, prompt], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _packed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    return lzma.compress(data) if suffix == ".xz" else data


def _or_null(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


__all__ = [
    "Message",
    "Preferences",
    "Prompt",
    "jsonable",
    "load_preferences",
    "read_prompts",
    "read_records",
    "write_lists",
    "write_records",
]
