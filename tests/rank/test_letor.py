"""LETOR text: what is read, and what is said about text that cannot be."""

from __future__ import annotations

import gzip
import lzma
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.rank import letor
from hyperdpo.rank.data import RankData, convert
from hyperdpo.rank.reading import MAX_COLUMNS
from hyperdpo.streams import Problems

GOOD = "2 qid:1 1:0.5 2:1 3:-7\n0 qid:1 1:1.5 2:2 3:0\n1 qid:2 1:1e3 2:3 3:.25\n"
finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def write(folder: Path, text: str | bytes, name: str = "some.txt") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def read(folder: Path, text: str | bytes, name: str = "some.txt", **options: object) -> RankData:
    return convert(write(folder, text, name), folder / "out", **options)  # type: ignore[arg-type]


def problems(folder: Path, text: str | bytes, name: str = "some.txt") -> list[str]:
    with pytest.raises(DataError) as caught:
        read(folder, text, name)
    assert not (folder / "out").exists()
    assert not list(folder.glob(".*")), "a temporary folder is left over"
    return caught.value.problems


def test_values_labels_and_queries(tmp_path: Path) -> None:
    data = read(tmp_path, GOOD)
    assert data.columns == ("label", "f1", "f2", "f3")
    assert data.column("label").tolist() == [2, 0, 1]
    assert data.column("f1").tolist() == [0.5, 1.5, 1000]
    assert data.column("f3").tolist() == [-7, 0, 0.25]
    assert data.qids == ["1", "2"]
    assert data.sizes.tolist() == [2, 1]
    assert data.task.main.column == "label"
    assert data.task.features == ("f1", "f2", "f3")


def test_comments_blank_lines_and_line_ends(tmp_path: Path) -> None:
    text = "\ufeff# head_er\r\n\r\n" + GOOD.replace("\n", " # doc_id = 3:4 é\r\n") + "   \n# end"
    data = read(tmp_path, text)
    assert data.column("f2").tolist() == [1, 2, 3]
    assert data.manifest["skipped"]["lines_without_data"] == 4


def test_sparse_lines_hold_zeros(tmp_path: Path) -> None:
    data = read(tmp_path, "1 qid:1 3:5\n0 qid:1\n2 qid:1 1:4\n", n_features=5)
    assert data.columns == ("label", "f1", "f2", "f3", "f4", "f5")
    assert data.column("f1").tolist() == [0, 0, 4]
    assert data.column("f3").tolist() == [5, 0, 0]
    assert data.column("f5").tolist() == [0, 0, 0]


def test_n_features_below_the_files_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n_features is 2, but the files have the feature index 3"):
        read(tmp_path, GOOD, n_features=2)


@pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed(tmp_path: Path, suffix: str, packed: object) -> None:
    data = read(tmp_path, packed(GOOD.encode()), f"some.letor{suffix}")  # type: ignore[operator]
    assert data.column("f1").tolist() == [0.5, 1.5, 1000]


def test_query_ids_need_not_be_numbers(tmp_path: Path) -> None:
    data = read(tmp_path, "1 qid:red_shoes 1:2\n0 qid:red_shoes 1:3\n1 qid:007 1:4\n")
    assert data.qids == ["red_shoes", "7"]
    assert data.column("f1").tolist() == [2, 3, 4]


def test_large_counts_are_exact(tmp_path: Path) -> None:
    assert read(tmp_path, "0 qid:1 1:576694 2:16777215\n").column("f1").tolist() == [576694.0]


def test_duplicate_rows_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "1 qid:1 1:2\n1 qid:1 1:2\n0 qid:1 1:2\n").n_items == 3


def test_lists_of_five_thousand_items(tmp_path: Path) -> None:
    text = "".join(f"{i % 3} qid:{i // 5000} 1:{i} 2:1\n" for i in range(15_000))
    data = read(tmp_path, text)
    assert data.sizes.tolist() == [5000, 5000, 5000]
    lists = data.lists()
    assert lists.pad(lists.features).shape == (3, 5000, 2)


def test_a_list_across_blocks_is_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letor, "BLOCK_BYTES", 40)
    text = "".join(f"0 qid:{i // 7} 1:{i}\n" for i in range(50))
    data = read(tmp_path, text)
    assert data.sizes.tolist() == [7] * 7 + [1]
    assert data.column("f1").tolist() == list(range(50))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 qid:1 1:2 junk 3:4", "'junk' is not a feature; write INDEX:VALUE"),
        ("1 qid:1 1:2 3:", "'3:' is not a feature"),
        ("1 qid:1 x:2", "'x:2' is not a feature"),
        ("1 qid:1 1:2:3", "column f1 is '2:3', which is not a number"),
        ("1 qid:1 1:1_0", "column f1 is '1_0', which is not a number"),
        ("1 qid:1 1_0:1", "'1_0:1' is not a feature"),
        ("1 qid:1 1:2 1:3", "feature index 1 occurs twice, the second time in '1:3'"),
        ("1 qid:1 2:2 1:3", "feature index 1 in '1:3' comes after 2; indices must rise"),
        ("1 qid:1 0:2", "feature index 0 in '0:2' is out of range; indices run from 1 to 10,000"),
        ("1 qid:1 -3:2", "feature index -3 in '-3:2' is out of range"),
        ("1 qid:1 10001:2", "feature index 10001 in '10001:2' is out of range"),
        ("1 qid:1 99999999999999:2", "feature index 99999999999999 in .* is out of range"),
        ("1 qid:1 1:nan", "column f1 is 'nan'; values must be finite"),
        ("1 qid:1 1:2 2:-inf", "column f2 is '-inf'; values must be finite"),
        ("1 qid:1 1:1e39", "column f1 is '1e39', beyond the range of a 32-bit float"),
        ("nan qid:1 1:2", "the label is 'nan'; values must be finite"),
        ("high qid:1 1:2", "the label is 'high', which is not a number"),
        ("1 1:2", "the query id is missing; the second field should be qid:QUERY, got '1:2'"),
        ("1 qid: 1:2", "the query id is missing"),
        ("1", "the query id is missing; .* got nothing"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_malformed_lines(tmp_path: Path, line: str, message: str, position: int) -> None:
    lines = ["# comment", "", *("0 qid:1 1:1 2:1" for _ in range(2))]
    lines.insert(position + 2, line)
    found = problems(tmp_path, "\n".join(lines) + "\n")
    assert len(found) == 1
    assert found[0].startswith(f"some.txt, line {position + 3}: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found[0])


def test_all_problems_at_once_with_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letor, "BLOCK_BYTES", 30)
    found = problems(tmp_path, GOOD + "1 qid:3 1:x 1:2\n" + GOOD.replace("qid:", "qid:9") + "1 3:4\n")
    assert [p.split(":")[0] for p in found] == ["some.txt, line 4", "some.txt, line 8"]


def test_no_more_than_twenty_problems(tmp_path: Path) -> None:
    found = problems(tmp_path, "1 1:2\n" * 100)
    assert len(found) == 20
    assert found[-1] == "Reading stopped after 19 problems; there may be more."


def test_interleaved_queries_name_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# head\n0 qid:1 1:1\n1 qid:1 1:2\n\n0 qid:2 1:1\n0 qid:1 1:3\n0 qid:2 1:4\n"
    expected = [
        "Query '1' starts at some.txt, line 2 and comes again at some.txt, line 6; sort the file so that each query's "
        "rows are adjacent.",
        "Query '2' starts at some.txt, line 5 and comes again at some.txt, line 7; sort the file so that each query's "
        "rows are adjacent.",
    ]
    assert problems(tmp_path, text) == expected
    monkeypatch.setattr(letor, "BLOCK_BYTES", 20)
    assert problems(tmp_path, text) == expected


def test_a_query_in_two_files_names_both_places(tmp_path: Path) -> None:
    train = write(tmp_path, GOOD, "train.txt")
    test = write(tmp_path, "# head\n1 qid:7 1:2\n1 qid:2 1:2\n", "test.txt")
    with pytest.raises(
        DataError, match=r"Query '2' starts at train\.txt, line 3 and comes again at test\.txt, line 3; a"
    ):
        convert([train, test], tmp_path / "out")


def test_a_query_at_the_seam_of_two_files_is_not_joined(tmp_path: Path) -> None:
    one, two = write(tmp_path, GOOD, "one.txt"), write(tmp_path, "1 qid:2 1:2\n", "two.txt")
    with pytest.raises(DataError, match=r"Query '2' starts at one\.txt, line 3 and comes again at two\.txt, line 1"):
        convert([one, two], tmp_path / "out")


def test_empty_files(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == ["some.txt is empty (0 bytes); give a file with rows."]
    for text in ("# only\n\n# comments\n", "\n\n", "  "):
        (message,) = problems(tmp_path, text)
        assert message.startswith("some.txt holds no rows, only comments or blank lines")
    assert "holds no rows" in problems(tmp_path, gzip.compress(b""), "some.txt.gz")[0]


@pytest.mark.parametrize("left", [" 3:.25", " 2:3 3:.25", "id:2 1:1e3 2:3 3:.25"])
def test_cut_in_the_middle_of_a_line(tmp_path: Path, left: str) -> None:
    (message,) = problems(tmp_path, GOOD.removesuffix("\n").removesuffix(left))
    assert message.startswith("some.txt, line 3: ")
    assert "cut here" in message
    assert "its last line has no newline" in message or "the last line has no newline" in message


def test_cut_within_a_token(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, GOOD.removesuffix(".25\n"))
    assert message == (
        "some.txt, line 3: '3:' is not a feature; write INDEX:VALUE, two numbers with a colon. The file may be cut "
        "here: its last line has no newline."
    )


def test_a_whole_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.removesuffix("\n")).n_items == 3


def test_cut_is_judged_by_all_earlier_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letor, "BLOCK_BYTES", 8)
    assert "only 2 features, where every other line has 3" in problems(tmp_path, GOOD.removesuffix(" 3:.25\n"))[0]
    sparse = "0 qid:1 1:1\n" + GOOD.replace("qid:", "qid:9")
    assert read(tmp_path, sparse.removesuffix(" 3:.25\n")).n_items == 4


@pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_cut_or_damaged_compression(tmp_path: Path, suffix: str, packed: object) -> None:
    whole: bytes = packed(GOOD.encode() * 50)  # type: ignore[operator]
    name = f"some.txt{suffix}"
    (message,) = problems(tmp_path, whole[:-10], name)
    assert message.startswith(f"{name} is cut: its compressed data ends too early, after {len(whole) - 10:,} bytes.")
    middle = len(whole) // 2
    (message,) = problems(tmp_path, whole[:middle] + b"\xff\xff\xff" + whole[middle + 3 :], name)
    assert message.startswith(f"{name} is not a sound {suffix} file")
    (message,) = problems(tmp_path, GOOD, name)
    assert message.startswith(f"{name} is not a sound {suffix} file")


def test_what_is_not_text(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, b"PK\n\x03\x04\0\0\n")
    assert message.startswith("some.txt, line 2: a zero byte; this is not text.")


def test_a_file_without_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letor, "MAX_LINE_BYTES", 100)
    (message,) = problems(tmp_path, "1 " * 100)
    assert message == "some.txt has no line end within 200 bytes; this is not LETOR text."


def test_problems_of_all_files_are_collected(tmp_path: Path) -> None:
    files = [write(tmp_path, "1 qid:1 0:1\n", "a.txt"), write(tmp_path, "", "b.txt"), write(tmp_path, "1\n", "c.txt")]
    with pytest.raises(DataError) as caught:
        convert(files, tmp_path / "out")
    assert [p[:5] for p in caught.value.problems] == ["a.txt", "b.txt", "c.txt"]


def test_qid_column_is_for_tables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="qid_column is for tables"):
        read(tmp_path, GOOD, qid_column="query")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], np.ndarray]:
    """Sizes of lists, and label and feature values (rows, 1 + d)."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    width = draw(st.integers(2, 5))
    values = draw(st.lists(st.lists(finite, min_size=width, max_size=width), min_size=sum(sizes), max_size=sum(sizes)))
    return sizes, np.array(values, np.float32)


def as_letor(sizes: list[int], values: np.ndarray, keep_zeros: bool) -> str:
    qids = np.repeat(np.arange(len(sizes)) * 3 + 1, sizes)
    lines = []
    for qid, row in zip(qids, values, strict=True):
        pairs = [f"{i}:{v!r}" for i, v in enumerate(row[1:].tolist(), 1) if keep_zeros or v != 0]
        lines.append(" ".join([repr(float(row[0])), f"qid:{qid}", *pairs]))
    return "\n".join(lines) + "\n"


@given(tables(), st.booleans(), st.sampled_from([16, 64, 1 << 20]))
def test_round_trip(table: tuple[list[int], np.ndarray], keep_zeros: bool, block: int) -> None:
    sizes, values = table
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(letor, "BLOCK_BYTES", block)
        data = read(Path(folder), as_letor(sizes, values, keep_zeros), n_features=values.shape[1] - 1)
        assert data.sizes.tolist() == sizes
        for i, name in enumerate(data.columns):
            np.testing.assert_array_equal(data.column(name), values[:, i])
        data.verify()


@given(tables(), st.booleans())
def test_fast_and_slow_reading_agree(table: tuple[list[int], np.ndarray], keep_zeros: bool) -> None:
    text = as_letor(*table, keep_zeros).encode()
    found = Problems()
    fast, slow = letor._fast(text), letor.scan(text, "a", 1, found)
    assert fast is not None
    assert slow is not None
    assert not found.messages
    np.testing.assert_array_equal(fast.labels, slow.labels)
    np.testing.assert_array_equal(fast.features.toarray(), slow.features.toarray())
    np.testing.assert_array_equal(fast.counts(), slow.counts())
    assert fast.qids.astype(str).tolist() == slow.qids.tolist()


@given(st.text(alphabet="01 :#-.\nqidn_e", max_size=60))
def test_any_text_gives_values_or_a_data_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = read(Path(folder), text)
        except DataError as error:
            said = error.problems
        else:
            said = []
            assert np.isfinite(data.lists().features.numpy()).all()
            assert len(data.columns) <= MAX_COLUMNS + 1
        assert all("some.txt" in p or p.startswith("Reading stopped") for p in said)
