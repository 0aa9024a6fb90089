"""Numbers that say something about the texts of a list, for rankers that read numbers only.

Everything here is deterministic, needs no model and no network, and looks at one list at a time: the features of a list
do not depend on the other lists of the file, so the same list scored alone later has the same numbers.

A text is compared with a reference (the article behind a summary, the query behind a title) or, where there is none,
with the other items of its list. The columns are called COLUMN.NAME, `summary.words`; `DESCRIPTIONS` says what each
holds. A text or reference that is empty gives 0 wherever there is nothing to count.

Words are runs of letters and digits, in lower case; an apostrophe inside belongs to the word.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer

from hyperdpo.errors import ConfigError

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?…]+(?=[\s\"'”’)\]]|$)|[。！？]+")
GRAMMAR = "COLUMN[:REFERENCE_COLUMN]"

OWN = {
    "characters": "characters",
    "words": "words",
    "sentences": "sentences; a text with words has at least one",
    "word_length": "mean length of its words, in characters",
    "sentence_length": "mean length of its sentences, in words",
    "type_token_ratio": "share of its words that are different words",
    "punctuation_share": "share of its characters that are neither letters, digits nor spaces",
    "digit_share": "share of its characters that are digits",
    "capital_share": "share of its letters that are capitals",
    "repeated_bigrams": "share of its pairs of neighbouring words that came before in it",
    "repeated_trigrams": "the same of triples",
    "compressed_share": "its bytes after zlib over its bytes before: low for repetitive texts",
    "length_rank": "0 for the fewest words of the list to 1 for the most; equal lengths share a rank",
}
COMPARED = {
    "unigram_precision": "share of its words that the reference has too, each as often as it has it",
    "unigram_recall": "share of the reference's words that it has",
    "unigram_f": "the harmonic mean of the two",
    "bigram_precision": "as unigram_precision, of pairs of neighbouring words",
    "bigram_recall": "as unigram_recall, of pairs",
    "bigram_f": "the harmonic mean of the two",
    "tfidf_cosine": "cosine of the tf-idf vectors (scikit-learn; idf over this list), or its mean over the other items",
    "novelty": "share of its different words that the reference does not have",
    "relative_length": "its words over the reference's",
}
COPIED = {
    "copied_share": "share of its words that stand in runs of two or more words copied from the reference",
    "longest_copy": "the longest such run over its words",
    "copied_position": "where the copied runs stand in the reference on average: 0 its beginning, 1 its end",
}
DESCRIPTIONS = OWN | COMPARED | COPIED
"""What each feature holds. COPIED are there only where a reference column is given."""

Array = npt.NDArray[np.float32]
Gram = TypeVar("Gram")


@dataclass(frozen=True)
class TextColumn:
    """A text column to be described, and the column it is compared with; None compares it with the list's others."""

    column: str
    reference: str | None = None

    @classmethod
    def parse(cls, text: str) -> TextColumn:
        """Read COLUMN[:REFERENCE_COLUMN]. Raises ConfigError on anything else."""
        column, colon, reference = text.partition(":")
        if not column or (colon and not reference) or column == reference:
            raise ConfigError(f"A text column is written {GRAMMAR}, with two different columns; got {text!r}.")
        return cls(column, reference or None)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the feature columns."""
        names = [*OWN, *COMPARED, *(COPIED if self.reference else ())]
        return tuple(f"{self.column}.{name}" for name in names)

    def __str__(self) -> str:
        return self.column if self.reference is None else f"{self.column}:{self.reference}"


def text_features(texts: Sequence[str], references: Sequence[str] | None, sizes: Sequence[int]) -> Array:
    """(N, k) float32: OWN and COMPARED, and COPIED where `references` (N) are given, of N texts in lists of `sizes`."""
    rows: list[list[float]] = []
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        rows += _list_features(texts[part], None if references is None else references[part])
        start += size
    return np.array(rows, np.float32).reshape(len(texts), -1)


@dataclass(frozen=True)
class _Words:
    """A text's words in order, and how often each of its words and pairs occurs."""

    words: tuple[str, ...]
    unigrams: Counter[str]
    bigrams: Counter[tuple[str, ...]]

    @classmethod
    def of(cls, text: str) -> _Words:
        words = tuple(WORD.findall(text.lower()))
        return cls(words, Counter(words), Counter(_grams(words, 2)))

    @classmethod
    def sum(cls, texts: Sequence[_Words]) -> _Words:
        """The counts of all texts added up, without an order of words."""
        total = cls((), Counter(), Counter())
        for text in texts:
            total.unigrams.update(text.unigrams)
            total.bigrams.update(text.bigrams)
        return total


_reference_words = lru_cache(maxsize=4)(_Words.of)
"""The items of a list mostly share one reference, which is far longer than they are."""


def _list_features(texts: Sequence[str], references: Sequence[str] | None) -> Iterator[list[float]]:
    parsed = [_Words.of(text) for text in texts]
    ranks = _ranks([len(p.words) for p in parsed])
    against = None if references is None else [_reference_words(r) for r in references]
    cosines = _cosines(parsed, against)
    together = _Words.sum(parsed)
    for i, (text, own) in enumerate(zip(texts, parsed, strict=True)):
        shared = [*_own(text, own), ranks[i]]
        if against is None:
            yield [*shared, *_compared(own, together, cosines[i], inside=True)]
        else:
            yield [*shared, *_compared(own, against[i], cosines[i], inside=False), *_copied(own, against[i])]


def _own(text: str, parsed: _Words) -> list[float]:
    words = parsed.words
    sentences = max(sum(bool(WORD.search(part)) for part in SENTENCE_END.split(text)), 1 if words else 0)
    letters = sum(c.isalpha() for c in text)
    plain = sum(c.isalnum() or c.isspace() for c in text)
    data = text.encode()
    return [
        len(text),
        len(words),
        sentences,
        _ratio(sum(map(len, words)), len(words)),
        _ratio(len(words), sentences),
        _ratio(len(parsed.unigrams), len(words)),
        _ratio(len(text) - plain, len(text)),
        _ratio(sum(c.isdigit() for c in text), len(text)),
        _ratio(sum(c.isupper() for c in text), letters),
        _repeated(words, 2),
        _repeated(words, 3),
        _ratio(len(zlib.compress(data, 9)), len(data)),
    ]


def _compared(own: _Words, reference: _Words, cosine: float, *, inside: bool) -> list[float]:
    """COMPARED; `inside` says that the reference's counts hold the text's own, which are then taken off."""
    found = _overlap(own.unigrams, reference.unigrams, inside) + _overlap(own.bigrams, reference.bigrams, inside)
    new = sum(reference.unigrams[word] == inside * count for word, count in own.unigrams.items())
    length = reference.unigrams.total() - inside * len(own.words)
    return [*found, cosine, _ratio(new, len(own.unigrams)), _ratio(len(own.words), length)]


def _overlap(ours: Counter[Gram], theirs: Counter[Gram], inside: bool) -> list[float]:
    """Precision, recall and their harmonic mean, each gram counting as often as both have it."""
    both = sum(min(count, theirs[gram] - inside * count) for gram, count in ours.items())
    precision, recall = _ratio(both, ours.total()), _ratio(both, theirs.total() - inside * ours.total())
    return [precision, recall, _ratio(2 * precision * recall, precision + recall)]


def _copied(own: _Words, reference: _Words) -> list[float]:
    """Greedily from the left: at each word the longest run that the reference has, the earliest of equals."""
    ours, theirs = own.words, reference.words
    places: dict[tuple[str, ...], list[int]] = {}
    for place, pair in enumerate(_grams(theirs, 2)):
        places.setdefault(pair, []).append(place)
    runs: list[tuple[int, int]] = []  # (length, where it begins in the reference)
    start = 0
    while start < len(ours):
        longest, where = 1, 0
        for place in places.get(ours[start : start + 2], ()):
            length = 2
            while ours[start + length : start + length + 1] == theirs[place + length : place + length + 1] != ():
                length += 1
            if length > longest:
                longest, where = length, place
        if longest > 1:
            runs.append((longest, where))
        start += longest
    copied = sum(length for length, _ in runs)
    middles = sum(length * (where + (length - 1) / 2) for length, where in runs)
    return [
        _ratio(copied, len(ours)),
        _ratio(max((length for length, _ in runs), default=0), len(ours)),
        _ratio(middles, copied * (len(theirs) - 1)),
    ]


def _cosines(parsed: Sequence[_Words], references: Sequence[_Words] | None) -> list[float]:
    """Of each item's tf-idf vector with its reference's, or on average with the list's other items'; 0 if empty."""
    distinct = list(dict.fromkeys(r.words for r in references or ()))
    documents = [p.words for p in parsed] + distinct
    if not any(documents):
        return [0.0] * len(parsed)
    vectors = TfidfVectorizer(analyzer=lambda words: words, sublinear_tf=True).fit_transform(documents).toarray()
    own = vectors[: len(parsed)]
    if references is None:
        others = (own.sum(0) - own) / max(len(parsed) - 1, 1)
    else:
        place = {words: len(parsed) + i for i, words in enumerate(distinct)}
        others = vectors[[place[r.words] for r in references]]
    cosines: list[float] = (own * others).sum(1).tolist()
    return cosines


def _ranks(lengths: Sequence[int]) -> list[float]:
    """(n,) 0 for the lowest to 1 for the highest, equals at the mean of their places; 0 in a list of one."""
    places = rankdata(lengths) - 1
    ranks: list[float] = (places / max(len(lengths) - 1, 1)).tolist()
    return ranks


def _repeated(words: Sequence[str], size: int) -> float:
    grams = _grams(words, size)
    return _ratio(len(grams) - len(set(grams)), len(grams))


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(size)), strict=False))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
