"""Every row of a table is read or reported, with the line on which it begins."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.annotations import AnnotationsError
from pipelines.annotations.tables import read_csv, read_jsonl
from tests.pipelines.annotations.conftest import Store

BROKEN = "b is not UTF-8 text; save the file as UTF-8"
cell = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd\ufeff"), max_size=8)


def test_a_quoted_field_over_several_lines_keeps_the_line_numbers(store: Store) -> None:
    url = store("a.csv", 'a,b\n1,"two\nlines"\n\n3,4\n')
    _, rows = read_csv(url, required=["a"])
    assert [(row.line, row.values) for row in rows] == [
        (2, {"a": "1", "b": "two\nlines"}),
        (5, {"a": "3", "b": "4"}),
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_quote_that_is_never_closed_costs_its_own_line_only(store: Store, ending: str) -> None:
    url = store("a.csv", ending.join(["a,b", '"1,2', "3,4", '5,"6"', "7,8"]))
    _, rows = read_csv(url, required=["a"])
    found = [(row.line, bool(row.fault), row.values.get("a")) for row in rows]
    assert found == [(2, True, None), (3, False, "3"), (4, False, "5"), (5, False, "7")]


def test_too_many_and_too_few_columns_are_faults(store: Store) -> None:
    _, rows = read_csv(store("a.csv", "a,b\n1\n1,2,3\n1,2\n"), required=[])
    assert [row.fault for row in rows] == ["1 columns, expected 2", "3 columns, expected 2", ""]


def test_bytes_that_are_not_utf8_spoil_one_row(store: Store) -> None:
    _, rows = read_csv(store("a.csv", b"\xef\xbb\xbfa,b\n1,caf\xe9\n2,ok\n"), required=["a"])
    assert [(row.line, row.fault) for row in rows] == [(2, BROKEN), (3, "")]


def test_a_missing_column_names_the_file_and_the_columns(store: Store) -> None:
    with pytest.raises(AnnotationsError, match=r"a\.csv: no column c; its columns are a, b"):
        read_csv(store("a.csv", "a,b\n"), required=["a", "c"])
    with pytest.raises(AnnotationsError, match=r"empty\.csv: the file is empty"):
        read_csv(store("empty.csv", " \n"), required=["a"])
    with pytest.raises(AnnotationsError, match="separate columns by commas, semicolons or tabs"):
        read_csv(store("bars.csv", "a|c\n"), required=["a", "c"])
    with pytest.raises(AnnotationsError, match="did you mean narration by Narations"):
        read_csv(store("misspelt.csv", "a,Narations\n"), required=["narration"])
    with pytest.raises(AnnotationsError, match="more than one column a"):
        read_csv(store("twice.csv", "a,a\n"), required=["a"])


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for url in [str(tmp_path / "none.csv"), "nosuch://x/y.csv", str(tmp_path)]:
        with pytest.raises(AnnotationsError) as raised:
            read_csv(url, required=[])
        assert url in str(raised.value) and "\n" not in str(raised.value)


def test_jsonl_lines_that_are_no_objects_are_faults(store: Store) -> None:
    url = store("a.jsonl", '{"a": 1}\n\n[1]\n{"a": \n{"a": 2}')
    rows = list(read_jsonl(url))
    assert [row.line for row in rows] == [1, 3, 4, 5]
    assert [bool(row.fault) for row in rows] == [False, True, True, False]


def test_a_compressed_table_reads_like_a_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n", mtime=0))
    _, rows = read_csv(str(path), required=["a"])
    assert [row.values for row in rows] == [{"a": "1"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(
    store: Store, encoding: str, ending: str, delimiter: str
) -> None:
    lines = ["a,b", "1,é", '"2,5","two', 'lines"', "3,4,,"]
    text = ending.join(lines).replace(",", delimiter)
    _, rows = read_csv(store("a.csv", text.encode(encoding)), required=["a", "b"])
    assert [(row.line, row.fault, row.values) for row in rows] == [
        (2, "", {"a": "1", "b": "é"}),
        (3, "", {"a": f"2{delimiter}5", "b": f"two{ending}lines"}),
        (5, "", {"a": "3", "b": "4"}),
    ]


def test_excel_may_name_the_delimiter_in_the_first_line(store: Store) -> None:
    _, rows = read_csv(store("a.csv", "sep=|\r\na|b\r\n1|2\r\n"), required=["a", "b"])
    assert [(row.line, row.values) for row in rows] == [(3, {"a": "1", "b": "2"})]


def test_a_column_without_a_name_is_left_out(store: Store) -> None:
    """Pandas writes its index into one."""
    columns, rows = read_csv(store("a.csv", ", a ,\n0,1,\n"), required=["a"])
    assert columns == ["", "a", ""]
    assert [row.values for row in rows] == [{"a": "1"}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_jsonl_is_read_in_the_encodings_of_editors(store: Store, encoding: str) -> None:
    rows = read_jsonl(store("a.jsonl", '{"a": "é"}\r\n{"a": 2}\r\n'.encode(encoding)))
    assert [(row.line, row.values) for row in rows] == [(1, {"a": "é"}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"PK\x03\x04\x14\x00", "Excel workbook .* save it as CSV"),
        (gzip.compress(b"a\n1\n", mtime=0), r"end its name in \.gz"),
        ("a\n1\n".encode("utf-16-le"), "UTF-16 without a byte order mark; save it as UTF-8"),
        (b'{"a": 1}\n', "looks like JSON, expected CSV"),
    ],
)
def test_what_is_no_csv_is_one_line_with_the_remedy(store: Store, data: bytes, hint: str) -> None:
    with pytest.raises(AnnotationsError, match=rf"^memory://data/a\.csv: [^\n]*{hint}"):
        read_csv(store("a.csv", data), required=["a", "b"])


@pytest.mark.parametrize("text", ['[{"a": 1}]', '\n[\n{"a": 1}\n]', '{\n"a": 1\n}'])
def test_json_that_is_not_one_object_a_line_is_one_line_with_the_remedy(
    store: Store, text: str
) -> None:
    with pytest.raises(AnnotationsError, match=r"a\.jsonl: a JSON .* expected one object a line"):
        list(read_jsonl(store("a.jsonl", text)))


@given(st.lists(st.tuples(cell, cell), max_size=8))
def test_what_csv_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    fs_url = _write_memory(text.getvalue().encode())
    _, found = read_csv(fs_url, required=["a", "b"])
    assert [(row.values["a"], row.values["b"]) for row in found] == rows


@given(st.lists(st.text("1,\"'é ", max_size=8).filter(str.strip), max_size=12))
def test_no_line_is_lost_however_damaged(lines: list[str]) -> None:
    """Each line is the first of a row, or inside a well-formed record over several lines."""
    url = _write_memory("\n".join(["a,b", *lines]).encode())
    _, rows = read_csv(url, required=[])
    at = 2
    for row in rows:
        assert row.line == at
        at += 1 + sum(value.count("\n") for value in row.values.values())
    assert at == len(lines) + 2


def _write_memory(data: bytes) -> str:
    fsspec.filesystem("memory").pipe_file("/property.csv", data)
    return "memory://property.csv"
