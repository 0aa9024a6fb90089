"""Scorers: what a text is like, as one number that is higher the more it is so.

A sentence ends at `.`, `!` or `?` (with closing quotes and brackets) before white space or the end of the text; a word
is a run of letters or digits, with inner apostrophes and hyphens. A text without a word has no score (NaN).
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperdpo.errors import ConfigError, nearest

Values = npt.NDArray[np.float64]
WINDOW = 25  # words of a moving window of lexical variety; short enough for answers of a few sentences
DIGITS = 6  # of scores in files
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s|$)""")
_SPOKEN = re.compile(r'"([^"]*)(?:"|$)|“([^”]*)(?:”|$)')
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT_E = re.compile(r"(?<![^aeiouy]l)(?<!e)e$")  # whale and ate, but not little or tree


@dataclass(frozen=True)
class Scorer:
    """One quality of texts.

    Attributes:
        name: what people read, and the objective that `hyperdpo label` writes.
        description: one sentence.
        unit: of the score.
        function: texts -> (n,) scores, NaN where a text has none.
    """

    name: str
    description: str
    unit: str
    function: Callable[[Sequence[str]], Any]

    def __call__(self, texts: Sequence[str]) -> Values:
        """(n,) scores. Raises ConfigError where the function returns anything but one number a text."""
        values = np.asarray(self.function(list(texts)))
        if values.shape != (len(texts),) or not np.issubdtype(values.dtype, np.number) or np.isinf(values).any():
            shown = f"{values.dtype} of shape {values.shape}"
            raise ConfigError(
                f"The scorer {self.name!r} must return one finite number (or NaN) a text; for {len(texts)} texts it "
                f"returned {shown}."
            )
        return values.astype(np.float64)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def sentences(text: str) -> int:
    """How many sentences a text has; what follows the last full stop counts as one if it has a word."""
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return sum(bool(_WORD.search(piece)) for piece in pieces)


def _each(score: Callable[[str, list[str]], float]) -> Callable[[Sequence[str]], Values]:
    """A function of one text and its words, made one of many texts; NaN for those without a word."""

    def scores(texts: Sequence[str]) -> Values:
        found = [(text, words(text)) for text in texts]
        return np.array([score(text, ws) if ws else np.nan for text, ws in found], dtype=np.float64)

    return scores


def _upbeat(text: str, ws: list[str]) -> float:
    return float(_vader().polarity_scores(text)["compound"])


@cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def _concise(text: str, ws: list[str]) -> float:
    return -len(ws) / max(1, sentences(text))


def _vivid(text: str, ws: list[str]) -> float:
    starts = range(max(1, len(ws) - WINDOW + 1))
    return float(np.mean([len(set(ws[i : i + WINDOW])) / min(len(ws), WINDOW) for i in starts]))


def _talkative(text: str, ws: list[str]) -> float:
    spoken = sum(len(words(a or b)) for a, b in _SPOKEN.findall(text))
    return min(1.0, spoken / len(ws))


def _easy(text: str, ws: list[str]) -> float:
    syllables = sum(_syllables(w) for w in ws)
    return 206.835 - 1.015 * len(ws) / max(1, sentences(text)) - 84.6 * syllables / len(ws)


def _syllables(word: str) -> int:
    groups = len(_VOWELS.findall(word))
    silent = groups > 1 and _SILENT_E.search(word) is not None
    return max(1, groups - silent)


SCORERS: dict[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("upbeat", "How positive the words are: the compound score of VADER.", "-1 to 1", _each(_upbeat)),
        Scorer("concise", "Short sentences: minus the mean number of words in one.", "-words", _each(_concise)),
        Scorer("brief", "A short text: minus its number of words.", "-words", _each(lambda text, ws: -float(len(ws)))),
        Scorer(
            "vivid",
            f"Varied words: the share of different ones within {WINDOW} words in a row, averaged over the text.",
            "0 to 1",
            _each(_vivid),
        ),
        Scorer("talkative", "Dialogue: the share of words that stand in double quotes.", "0 to 1", _each(_talkative)),
        Scorer("easy", "Easy to read: Flesch reading ease, syllables counted by rule.", "about 0 to 120", _each(_easy)),
    )
}
"""`vivid` is the moving-average type-token ratio (Covington and McFall, 2010), which a text's length does not change;
`easy` is Flesch (1948); `upbeat` is VADER (Hutto and Gilbert, 2014)."""


def find_scorer(text: str) -> Scorer:
    """A scorer by its name, or one's own as `module:function` or `NAME=module:function`.

    The function takes a list of texts and returns as many numbers. Modules are also looked for in the current folder.
    Raises ConfigError where there is no such scorer.
    """
    if text in SCORERS:
        return SCORERS[text]
    head, equals, tail = text.partition("=")
    module, colon, function = (tail if equals else head).partition(":")
    if not (colon and module and function):
        raise ConfigError(
            f"No scorer is called {text!r}{nearest(text, SCORERS)}; there are {', '.join(SCORERS)}, and your own as "
            "module:function."
        )
    name = head if equals else function
    if any(c in name for c in "=,:") or not name.strip():
        raise ConfigError(f"A scorer's name may not be empty or contain '=', ',' or ':'; got {name!r}.")
    own = _imported(module, function, text)
    sentence = (own.__doc__ or f"{function} of {module}.").strip().splitlines()[0]
    return Scorer(name, sentence, "", own)


def find_scorers(texts: Sequence[str]) -> list[Scorer]:
    """`find_scorer` of each, all problems at once; two may not have one name."""
    found, problems = [], []
    for text in texts:
        try:
            found.append(find_scorer(text))
        except ConfigError as error:
            problems += error.problems
    names = [scorer.name for scorer in found]
    problems += [
        f"Two scorers are called {n!r}; write NAME=module:function." for n in {n for n in names if names.count(n) > 1}
    ]
    if problems or not texts:
        raise ConfigError(problems or f"Name at least one scorer; there are {', '.join(SCORERS)}.")
    return found


def _imported(module: str, function: str, text: str) -> Callable[[Sequence[str]], Any]:
    try:
        with _current_folder():
            found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(
            f"The scorer {text!r} could not be loaded ({error}); write it as module:function, with the module in this "
            "folder or installed."
        ) from error
    if not callable(found):
        raise ConfigError(f"The scorer {text!r} is no function; got {type(found).__name__}.")
    return found  # type: ignore[no-any-return]


@contextmanager
def _current_folder() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


@dataclass(frozen=True)
class Labelled:
    """What `label_records` did: the records, and per scorer how many scores were added, kept and could not be."""

    records: list[dict[str, Any]]
    counts: dict[str, dict[str, int]]


def label_records(records: Sequence[Mapping[str, Any]], scorers: Sequence[Scorer]) -> Labelled:
    """Records of our lists format with the scores of `scorers` added; the input stays as it is.

    A number that is there already is kept, a null filled. Responses of the shape {text, scores} become plain ones,
    with their scores in the record's.
    """
    flat = [_flat(record) for record in records]
    texts = [text for record in flat for text in record["responses"]]
    counts = {}
    for scorer in scorers:
        values = iter(scorer(texts).tolist())
        counts[scorer.name] = {"added": 0, "kept": 0, "missing": 0}
        for record in flat:
            old = record["scores"].get(scorer.name) or [None] * len(record["responses"])
            record["scores"][scorer.name] = [_merged(o, next(values), counts[scorer.name]) for o in old]
    return Labelled(flat, counts)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    responses = record["responses"]
    if not isinstance(responses[0], Mapping):
        return {**record, "scores": dict(record.get("scores", {}))}
    names = dict.fromkeys(name for r in responses for name in r.get("scores", {}))
    scores = {name: [r.get("scores", {}).get(name) for r in responses] for name in names}
    return {**record, "responses": [r["text"] for r in responses], "scores": scores}


def _merged(old: float | None, new: float, counts: dict[str, int]) -> float | None:
    if old is not None:
        counts["kept"] += 1
        return old
    counts["missing" if np.isnan(new) else "added"] += 1
    return None if np.isnan(new) else round(new, DIGITS)
