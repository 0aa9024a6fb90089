"""Text features of CSV columns: each by hand, compared with a reference or with the list's other items."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.rank.data import RankData, convert, load_any
from hyperdpo.rank.text_features import COMPARED, COPIED, DESCRIPTIONS, OWN, TextColumn, text_features

ARTICLE = "The cat sat on the mat. The dog ran off, and the cat slept."
TEXTS = ["The cat sat on the mat.", "A DOG ran off! It's 12 o'clock. 12?", "", "the dog the dog the dog"]


def named(texts: list[str], references: list[str] | None, sizes: list[int]) -> list[dict[str, float]]:
    names = [*OWN, *COMPARED, *(COPIED if references is not None else ())]
    values = text_features(texts, references, sizes)
    assert values.shape == (len(texts), len(names))
    assert values.dtype == np.float32
    return [dict(zip(names, map(float, row), strict=True)) for row in values]


def expect(found: dict[str, float], **known: float) -> None:
    assert {name: found[name] for name in known} == pytest.approx(known, rel=1e-5, abs=1e-7)


def test_what_a_text_is_by_itself() -> None:
    plain, loud, empty, repeated = named(TEXTS, [ARTICLE] * 4, [4])
    expect(plain, characters=23, words=6, sentences=1, word_length=17 / 6, sentence_length=6, type_token_ratio=5 / 6,
           punctuation_share=1 / 23, digit_share=0, capital_share=1 / 17, repeated_bigrams=0, repeated_trigrams=0,
           compressed_share=len(zlib.compress(TEXTS[0].encode(), 9)) / 23)  # fmt: skip
    # a, dog, ran, off | it's, 12, o'clock | 12
    expect(loud, characters=35, words=8, sentences=3, sentence_length=8 / 3, type_token_ratio=7 / 8,
           word_length=(1 + 3 + 3 + 3 + 4 + 2 + 7 + 2) / 8, punctuation_share=5 / 35, digit_share=4 / 35,
           capital_share=5 / 19)  # fmt: skip
    assert set(empty.values()) == {0.0}
    expect(repeated, words=6, sentences=1, type_token_ratio=2 / 6, repeated_bigrams=3 / 5, repeated_trigrams=2 / 4)


def test_lengths_are_ranked_within_the_list() -> None:
    ranks = [row["length_rank"] for row in named(["a b", "a", "a b c", "b a", "x", "one"], None, [4, 1, 1])]
    assert ranks == pytest.approx([0.5, 0, 1, 0.5, 0, 0])


def test_overlap_with_a_reference() -> None:
    """The article: the x4, cat x2, and sat on mat dog ran off and slept once each: 14 words, 13 pairs."""
    plain, loud, _, repeated = named(TEXTS, [ARTICLE] * 4, [4])
    expect(plain, unigram_precision=1, unigram_recall=6 / 14, unigram_f=12 / 20, bigram_precision=1,
           bigram_recall=5 / 13, bigram_f=10 / 18, novelty=0, relative_length=6 / 14)  # fmt: skip
    expect(loud, unigram_precision=3 / 8, unigram_recall=3 / 14, bigram_precision=2 / 7, bigram_recall=2 / 13,
           novelty=4 / 7)  # fmt: skip
    # the dog the dog the dog: the x3 of 4, dog x1 of 1; "the dog" once of once, "dog the" never
    expect(repeated, unigram_precision=4 / 6, unigram_recall=4 / 14, bigram_precision=1 / 5, bigram_recall=1 / 13)


def test_copied_runs_and_where_they_stand() -> None:
    plain, loud, _, repeated = named(TEXTS, [ARTICLE] * 4, [4])
    expect(plain, copied_share=1, longest_copy=1, copied_position=2.5 / 13)
    # "dog ran off" is words 7 to 9 of 0 to 13
    expect(loud, copied_share=3 / 8, longest_copy=3 / 8, copied_position=8 / 13)
    # three times "the dog", words 6 and 7
    expect(repeated, copied_share=1, longest_copy=2 / 6, copied_position=6.5 / 13)
    (two,) = named(["cat slept. The dog, however, ran off"], [ARTICLE], [1])
    # cat slept (12, 13), the dog (6, 7), ran off (8, 9)
    expect(two, copied_share=6 / 7, longest_copy=2 / 7, copied_position=(12.5 + 6.5 + 8.5) / 3 / 13)
    (earliest,) = named(["the cat"], [ARTICLE], [1])
    expect(earliest, copied_position=0.5 / 13)
    (ends,) = named(["the mat"], ["off the mat"], [1])
    expect(ends, copied_share=1, copied_position=1.5 / 2)


def test_without_a_reference_a_text_is_compared_with_the_others_of_its_list() -> None:
    rows = named(["red shoes", "red shoes cheap", "blue hat", "red shoes"], None, [3, 1])
    # the others of the first have red shoes cheap blue hat
    expect(rows[0], unigram_precision=1, unigram_recall=2 / 5, bigram_precision=1, bigram_recall=1 / 3, novelty=0,
           relative_length=2 / 5)  # fmt: skip
    expect(rows[1], unigram_precision=2 / 3, unigram_recall=2 / 4, bigram_precision=1 / 2, novelty=1 / 3)
    expect(rows[2], unigram_precision=0, unigram_f=0, novelty=1, tfidf_cosine=0)
    # alone in its list there is nothing to compare with, and other lists do not matter
    expect(rows[3], unigram_precision=0, unigram_recall=0, novelty=1, tfidf_cosine=0, relative_length=0)
    assert named(["red shoes"], None, [1])[0] == rows[3]


def test_cosines_are_scikit_learn_s() -> None:
    texts = ["cat sat", "dog ran dog", "cat cat dog"]
    article = "the cat and the dog ran"
    rows = named([*texts, *texts], [article] * 3 + ["bird"] * 3, [3, 3])
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([*texts, article]).toarray()
    assert [r["tfidf_cosine"] for r in rows[:3]] == pytest.approx((vectors[:3] @ vectors[3]).tolist(), rel=1e-5)
    assert [r["tfidf_cosine"] for r in rows[3:]] == [0, 0, 0]
    alone = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    similar = alone @ alone.T
    means = (similar.sum(1) - 1) / 2
    assert [r["tfidf_cosine"] for r in named(texts, None, [3])] == pytest.approx(means.tolist(), rel=1e-5)


def test_each_item_may_have_its_own_reference_and_the_order_of_lists_does_not_matter() -> None:
    texts, references = ["cat sat", "dog ran", "cat ran"], ["cat sat", "bird", "dog ran"]
    rows = named(texts, references, [2, 1])
    assert [r["unigram_precision"] for r in rows] == [1, 0, 0.5]
    turned = named([texts[2], *texts[:2]], [references[2], *references[:2]], [1, 2])
    assert [turned[1], turned[2], turned[0]] == rows


def test_texts_of_other_scripts_and_blank_ones() -> None:
    chinese, accents, blank, signs = named(["猫坐着。狗跑了！", "Été à Nîmes…", " \n", "?!"], None, [4])
    expect(chinese, words=2, sentences=2, capital_share=0)
    expect(accents, words=3, capital_share=2 / 9, sentences=1)
    expect(blank, characters=2, words=0, sentences=0, punctuation_share=0)
    expect(signs, words=0, sentences=0, punctuation_share=1)
    assert all(np.isfinite(list(row.values())).all() for row in (chinese, accents, blank, signs))


def test_names_are_described_and_columns_parsed() -> None:
    assert set(DESCRIPTIONS) == {*OWN, *COMPARED, *COPIED}
    assert TextColumn.parse("summary").features[:2] == ("summary.characters", "summary.words")
    assert len(TextColumn.parse("summary:article").features) == len(DESCRIPTIONS) == len(TextColumn("a").features) + 3
    assert str(TextColumn.parse("summary:article")) == "summary:article"
    for wrong in ("", ":article", "summary:", "same:same"):
        with pytest.raises(ConfigError, match=r"COLUMN\[:REFERENCE_COLUMN\]"):
            TextColumn.parse(wrong)


# Through a file


def table(folder: Path, rows: list[list[Any]], header: list[str], name: str = "some.csv") -> Path:
    with open(folder / name, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return folder / name


HEADER = ["qid", "label", "summary", "article", "x"]
ROWS = [
    ["a", 2, "The cat sat", ARTICLE, 0.5],
    ["a", 0, "A bird", ARTICLE, 1],
    ["a", 1, "The dog ran off", ARTICLE, 1],
    ["b", 1, "007", "dogs, and more dogs", 2],
    ["b", 0, "", "dogs, and more dogs", 3],
]


def read(folder: Path, texts: list[str], header: list[str] = HEADER, **options: Any) -> RankData:
    return convert(table(folder, ROWS, header), folder / "out", texts=texts, **options)


def test_features_join_the_numbers_of_the_file(tmp_path: Path) -> None:
    data = read(tmp_path, ["summary:article"])
    made = TextColumn.parse("summary:article").features
    assert data.columns == ("label", "x", *made)
    assert data.task.features == ("x", *made)
    expected = text_features([r[2] for r in ROWS], [r[3] for r in ROWS], [3, 2])
    for i, name in enumerate(made):
        assert data.column(name).tolist() == expected[:, i].tolist()
    assert data.column("summary.words").tolist() == [3, 2, 4, 1, 0]
    summaries = data.text("summary")
    assert summaries is not None
    assert summaries.to_pylist() == ["The cat sat", "A bird", "The dog ran off", "007", ""]
    assert data.text("article") is None, "a reference is read, not shown"
    said = "1 of 5 items have no text in column 'summary'; what cannot be counted there is 0."
    assert data.manifest["notes"][1:] == [said]
    assert data.manifest["origin"]["texts"] == ["summary:article"]


def test_blocks_and_files_may_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path, ["summary:article"])
    many = [[f"q{i // 7}", i % 3, f"word{i % 5} and {i}", "word1 and word2", i] for i in range(1400)]
    one = convert(table(tmp_path, many, HEADER, "many.csv"), tmp_path / "one", texts=["summary:article"])
    monkeypatch.setattr("hyperdpo.rank.tables.CELLS_AT_ONCE", 1)
    monkeypatch.setattr("hyperdpo.rank.writer.CELLS_AT_ONCE", 1)
    cut = convert(tmp_path / "many.csv", tmp_path / "cut", texts=["summary:article"])
    assert cut.fingerprint == one.fingerprint
    parts = [table(tmp_path, ROWS[:3], HEADER, "p1.csv"), table(tmp_path, ROWS[3:], HEADER, "p2.csv")]
    split = convert(parts, tmp_path / "split", texts=["summary:article"])
    assert split.column("summary.bigram_f").tolist() == whole.column("summary.bigram_f").tolist()


def test_the_query_may_be_the_reference_and_text_may_be_called_text(tmp_path: Path) -> None:
    rows = [["red shoes", 1, "red shoes, new", 3], ["red shoes", 0, "hats", 4]]
    data = convert(
        table(tmp_path, rows, ["query", "label", "text", "x"]), tmp_path / "out", texts=["text:query"], main="label"
    )
    assert data.qids == ["red shoes"]
    assert data.column("text.unigram_recall").tolist() == [1, 0]
    texts = data.text("text")
    assert texts is not None
    assert texts.to_pylist() == ["red shoes, new", "hats"]
    assert "text" not in data.columns
    numbers = [["q", 1, "007", "0x"], ["q", 0, 12, "00"]]
    header = ["qid", "label", "code", "note"]
    coded = convert(table(tmp_path, numbers, header, "b.csv"), tmp_path / "b", texts=["code:note", "note"])
    assert coded.column("code.characters").tolist() == [3, 2]
    assert coded.column("code.digit_share").tolist() == [1, 1]
    assert coded.manifest["item_texts"] == ["code", "note"]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["sumary"], DataError, r"no text column 'sumary' \(did you mean 'summary'\?\); its columns are 'qid'"),
        (["summary:artikel"], DataError, r"no text column 'artikel' \(did you mean 'article'"),
        (["summary", "summary:article"], ConfigError, "'summary' is given twice"),
        (["qid"], DataError, "'qid' is the query id"),
        (["summary:"], ConfigError, "COLUMN"),
    ],
)
def test_columns_that_cannot_be_described(
    tmp_path: Path, texts: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(tmp_path, texts)
    assert not (tmp_path / "out").exists()


def test_names_that_are_taken_and_columns_without_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has a column 'summary.words'(.|\n)*rename it"):
        read(tmp_path, ["summary"], ["qid", "label", "summary", "title", "summary.words"])
    empty = table(tmp_path, [["a", 1, "", 2], ["a", 0, " ", 3]], ["qid", "label", "summary", "x"], "empty.csv")
    with pytest.raises(DataError, match="'summary' is empty in all 2 rows"):
        convert(empty, tmp_path / "out", texts=["summary"])
    (tmp_path / "l.txt").write_text("1 qid:1 1:2\n0 qid:1 1:3\n")
    with pytest.raises(ConfigError, match="LETOR text has numbers only; got summary:article"):
        convert(tmp_path / "l.txt", tmp_path / "out", texts=["summary:article"])


def test_load_any_keeps_texts_apart_and_refuses_them_for_folders(tmp_path: Path) -> None:
    file = table(tmp_path, ROWS, HEADER)
    described = load_any(file, tmp_path / "cache", main="label", texts=["summary:article"])
    other = load_any(file, tmp_path / "cache", main="label", texts=["summary", "article"])
    assert "summary.words" in described.columns
    assert other.path != described.path
    assert "article.words" in other.columns
    with pytest.raises(ConfigError, match="texts: only for files"):
        load_any(described.path, texts=["summary"])
