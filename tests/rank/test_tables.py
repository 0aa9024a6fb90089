"""CSV and Parquet: named columns, texts to show, and what is said about cells that are not numbers."""

from __future__ import annotations

import gzip
import lzma
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.rank import tables
from hyperdpo.rank.data import RankData, convert

CSV = """query_id,label,price,clicks,title
q1,2,9.5,1,red shoes
q1,0,3,0,"blue, shoes"
q2,1,-4e2,0,007
"""


def write(folder: Path, text: str | bytes, name: str = "some.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def read(folder: Path, text: str | bytes, name: str = "some.csv", **options: object) -> RankData:
    return convert(write(folder, text, name), folder / "out", **options)  # type: ignore[arg-type]


def problems(folder: Path, text: str | bytes, name: str = "some.csv") -> list[str]:
    with pytest.raises(DataError) as caught:
        read(folder, text, name)
    assert not (folder / "out").exists()
    return caught.value.problems


def parquet(folder: Path, columns: dict[str, object], name: str = "some.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def test_csv(tmp_path: Path) -> None:
    data = read(tmp_path, CSV)
    assert data.columns == ("label", "price", "clicks")
    assert data.task.main.column == "label"
    assert data.task.features == ("price", "clicks")
    assert data.column("price").tolist() == [9.5, 3, -400]
    assert data.qids == ["q1", "q2"]
    titles = data.text("title")
    assert titles is not None
    assert titles.to_pylist() == ["red shoes", "blue, shoes", "007"]
    assert data.text("label") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv.gz", gzip.compress(CSV.encode())),
        ("a.csv.xz", lzma.compress(CSV.encode())),
        ("a.CSV", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("a.tsv", CSV.replace('"blue, shoes"', "blue shoes").replace(",", "\t").encode()),
    ],
)
def test_forms_of_csv(tmp_path: Path, name: str, text: bytes) -> None:
    data = read(tmp_path, text, name)
    assert data.column("price").tolist() == [9.5, 3, -400]
    assert data.qids == ["q1", "q2"]


def test_parquet_of_many_types(tmp_path: Path) -> None:
    columns: dict[str, object] = {
        "qid": pa.array([3, 3, 4]),
        "label": pa.array([1, 0, 2], pa.int8()),
        "share": pa.array([0.5, 0.25, 1], pa.float64()),
        "new": pa.array([True, False, True]),
        "cost": pa.array(["1.5", "2", "3"]).cast(pa.decimal128(5, 2)),
        "title": pa.array(["a", None, "c"]).dictionary_encode(),
    }
    data = convert(parquet(tmp_path, columns), tmp_path / "out")
    assert data.columns == ("label", "share", "new", "cost")
    assert data.column("new").tolist() == [1, 0, 1]
    assert data.column("cost").tolist() == [1.5, 2, 3]
    assert data.qids == ["3", "4"]
    assert data.text("title").to_pylist() == ["a", "", "c"]  # type: ignore[union-attr]


def test_many_blocks_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CELLS_AT_ONCE", 1)
    rows = [f"{i // 7},{i % 3},{i},t{i}" for i in range(2_500)]
    data = read(tmp_path, "qid,label,x,title\n" + "\n".join(rows) + "\n")
    assert data.column("x").tolist() == list(range(2_500))
    assert data.sizes.tolist() == [7] * 357 + [1]
    assert data.text("title").to_pylist() == [f"t{i}" for i in range(2_500)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("qid,query", "qid"),
        ("query,session_id", "session_id"),
        ("user_id,query", "query"),
        ("x,search_id", "search_id"),
    ],
)
def test_the_query_id_is_found_by_name(tmp_path: Path, header: str, expected: str) -> None:
    text = f"{header},label,z\n1,2,0,5\n1,2,1,6\n"
    assert read(tmp_path, text).qids == [text.splitlines()[1].split(",")[header.split(",").index(expected)]]


def test_a_given_query_id(tmp_path: Path) -> None:
    data = read(tmp_path, CSV.replace("query_id", "user_id").replace("clicks", "visit"), qid_column="visit")
    assert data.qids == ["1", "0"]
    assert data.task.features == ("price",)
    assert data.text("user_id").to_pylist() == ["q1", "q1", "q2"]  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"no column 'click' for the query id \(did you mean 'clicks'\?\)"):
        read(tmp_path, CSV, qid_column="click")


def test_no_query_id(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, "a,label\n1,2\n")
    assert message.startswith("some.csv has no query id column (qid, query_id, ")
    assert message.endswith("name one of its columns with qid_column: 'a', 'label'.")


def test_query_texts_are_kept(tmp_path: Path) -> None:
    data = read(tmp_path, "qid,query,label,x\n1,red shoes,1,2\n1,red shoes,0,3\n2,hats,1,4\n")
    assert data.query_texts == ["red shoes", "hats"]
    assert data.columns == ("label", "x")


def test_the_main_label_must_be_named_or_known(tmp_path: Path) -> None:
    text = CSV.replace("label", "stars")
    with pytest.raises(
        ConfigError, match=r"the main label must be named .*; the columns are 'stars', 'price', 'clicks'"
    ):
        read(tmp_path, text)
    data = read(tmp_path, text, main="stars", objectives=["clicks:l1"])
    assert data.task.main.column == "stars"
    assert data.task.features == ("price",)
    assert read(tmp_path, CSV.replace("label", "relevance")).task.main.column == "relevance"


def test_another_label_is_never_a_feature(tmp_path: Path) -> None:
    assert read(tmp_path, CSV, main="clicks").task.features == ("price",)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("abc", "'abc' is not a number; put a number, leave the column out, or count features of its texts (--text)."),
        ("1_000", "'1_000' is not a number"),
        ("", "the cell is empty; put a number."),
        ("nan", "got 'nan'; values must be finite"),
        ("-inf", "got '-inf'; values must be finite"),
        ("NA", "got 'NA'; values must be finite"),
        ("1e39", "beyond the range of a 32-bit float"),
    ],
)
@pytest.mark.parametrize("row", [1, 2, 3])
def test_cells_that_are_not_numbers(tmp_path: Path, cell: str, why: str, row: int) -> None:
    lines = CSV.splitlines()
    cells = lines[row].rsplit(",", 2) if row != 2 else ["q1,0,3", "0", '"blue, shoes"']
    lines[row] = ",".join([cells[0], cell, cells[2]])
    (message,) = problems(tmp_path, "\n".join(lines) + "\n")
    assert message.startswith(f"some.csv, row {row}, column 'clicks': ")
    assert why in message


def test_cells_in_later_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CELLS_AT_ONCE", 1)
    text = "qid,label,x\n" + "1,0,2\n" * 1_500 + "1,0,x\n1,,3\n"
    found = problems(tmp_path, text)
    assert [p.partition(": ")[0] for p in found] == [
        "some.csv, row 1502, column 'label'",
        "some.csv, row 1501, column 'x'",
    ]


def test_parquet_cells(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"qid": ["a", None], "label": [1.0, None], "x": [float("nan"), 2.0], "y": ["1", "two"]})
    with pytest.raises(DataError) as caught:
        convert(file, tmp_path / "out")
    assert [p.partition(": ")[0] for p in caught.value.problems] == [
        "some.parquet, row 2, column 'label'",
        "some.parquet, row 1, column 'x'",
        "some.parquet, row 2, column 'y'",
        "some.parquet, row 2, column 'qid'",
    ]


def test_parquet_columns_of_other_types(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"qid": ["a"], "label": [1], "day": [date(2020, 1, 1)], "tags": [["x"]]})
    with pytest.raises(DataError, match="column 'day' is of the type date32") as caught:
        convert(file, tmp_path / "out")
    assert len(caught.value.problems) == 2


def test_a_missing_query_id(tmp_path: Path) -> None:
    assert problems(tmp_path, CSV.replace("q2", " ")) == [
        "some.csv, row 3, column 'query_id': the query id is missing."
    ]


def test_interleaved_queries_name_both_rows(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, CSV + "q1,1,2,3,again\n")
    assert message.startswith("Query 'q1' starts at some.csv, row 1 and comes again at some.csv, row 4; sort the file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"some\.csv is empty \(0 bytes\)"),
        ("qid,label,x\n", "some.csv has a header but no rows"),
        ("qid,x,x\n1,2,3\n", "column 'x' is named twice"),
        ("qid,,x\n1,2,3\n", "the header has an empty column name"),
        (b"\0" * 200_000, "the first line cannot be read as column names"),
        ("qid;label;x\n1;2;3\n", "has one column; separate columns by commas"),
        ("qid,label,x\n1,2,3,4\n", "is not a regular table"),
        ("qid,label,x\n1,2,3\n1,2,3,4\n", r"is not a regular table \(.*Expected 3 fields in line 3, saw 4"),
        ("qid,label,x\n1,2,3\n1,2,\"3\n", "is not a regular table .* the file is cut"),
        (b"qid,label,title\n1,2,\xff\xfe\n", "some.csv is not UTF-8 text"),
    ],
)  # fmt: skip
def test_irregular_tables(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_csv_cut_in_a_line(tmp_path: Path) -> None:
    found = problems(tmp_path, "qid,label,x,y\n1,0,2,3\n1,1,4")
    assert found == [
        "some.csv, row 2, column 'y': the cell is empty; put a number.",
        "some.csv seems cut: its last line has no newline and 3 of 4 cells. Copy the file again.",
    ]
    assert len(problems(tmp_path, "qid,label,x,y\n1,0,2,3\n1,1,4\n")) == 1, "a short line that ends is not a cut"


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"qid": ["a"] * 99, "label": [1] * 99})
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"some\.parquet is not a sound Parquet file .*cut, damaged or another format"):
        convert(file, tmp_path / "out")
    file.write_text(CSV)
    with pytest.raises(DataError, match=r"some\.parquet is not a sound Parquet file"):
        convert(file, tmp_path / "out")


def test_files_may_order_their_columns_differently(tmp_path: Path) -> None:
    one = write(tmp_path, "qid,label,x,y\n1,0,10,20\n", "one.csv")
    two = write(tmp_path, "y,x,qid,label\n40,30,2,1\n", "two.csv")
    data = convert([one, two], tmp_path / "out")
    assert data.columns == ("label", "x", "y")
    assert data.column("x").tolist() == [10, 30]
    assert data.column("y").tolist() == [20, 40]


def test_files_with_other_columns(tmp_path: Path) -> None:
    one = write(tmp_path, "qid,label,x,title\n1,0,10,a\n", "one.csv")
    two = write(tmp_path, "qid,label,y,title\n2,0,10,b\n", "two.csv")
    with pytest.raises(DataError) as caught:
        convert([one, two], tmp_path / "out")
    assert caught.value.problems == [
        "Column 'x' is in one.csv but not in two.csv; give both files the same columns.",
        "Column 'y' is in two.csv but not in one.csv; give both files the same columns.",
    ]


def test_the_same_table_three_ways(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    values[:, 0] = rng.integers(0, 5, 300)
    qids = np.repeat(np.arange(30), 10)
    table = {"qid": qids, "label": values[:, 0], **{f"f{i}": values[:, i] for i in (1, 2, 3)}}
    lines = [f"{q},{','.join(repr(float(v)) for v in row)}" for q, row in zip(qids, values, strict=True)]
    letor = [f"{r[0]} qid:{q} 1:{r[1]!r} 2:{r[2]!r} 3:{r[3]!r}" for q, r in zip(qids, values.tolist(), strict=True)]
    made = [
        convert(parquet(tmp_path, table), tmp_path / "1"),
        convert(write(tmp_path, "qid,label,f1,f2,f3\n" + "\n".join(lines), "b.csv"), tmp_path / "2"),
        convert(write(tmp_path, "\n".join(letor), "c.txt"), tmp_path / "3"),
    ]
    assert len({data.fingerprint for data in made}) == 1
    np.testing.assert_array_equal(made[0].lists().features.numpy(), values[:, 1:])


def test_n_features_is_for_letor(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n_features is for LETOR text"):
        read(tmp_path, CSV, n_features=3)
