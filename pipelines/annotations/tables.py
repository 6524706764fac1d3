"""Rows of CSV and JSONL files with their line numbers, however damaged the file is."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import text_lines


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: where it begins in the file, from 1.
        values: by column; empty if `fault` says why the row has none.
    """

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_csv(url: str, required: Iterable[str]) -> tuple[list[str], Iterator[Row]]:
    """The columns of a CSV file, and its rows; blank lines are no rows.

    Raises:
        AnnotationsError: it cannot be read, or its header lacks a required column or repeats one.
    """
    lines = text_lines(url)
    first = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    header = next(csv.reader(lines[first : first + 1]), [])
    missing = [column for column in required if column not in header]
    if missing:
        raise AnnotationsError(
            f"{url}: no column {', '.join(missing)}; its columns are {', '.join(header) or 'none'}"
        )
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise AnnotationsError(f"{url}: more than one column {', '.join(repeated)}")
    return header, _records(lines, first + 1, header)


def _records(lines: list[str], at: int, header: list[str]) -> Iterator[Row]:
    """Read record by record. One that fails costs its first line only.

    A quote that is never closed swallows the rows below it; reading on at the line after the
    fault gives them back.
    """
    while at < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(at, len(lines))), strict=True)
        line, cells, fault = at + 1, [], ""
        try:
            cells = next(reader)
        except csv.Error as error:
            fault = f"not a CSV record ({error})"
        if cells and len(cells) != len(header):
            fault = f"{len(cells)} columns, expected {len(header)}"
        at += 1 if fault else reader.line_num
        if fault:
            yield Row(line, fault=fault)
        elif cells:
            yield _row(line, dict(zip(header, cells, strict=True)))


def read_jsonl(url: str) -> Iterator[Row]:
    """The rows of a file with one JSON object a line; blank lines are no rows.

    Raises:
        AnnotationsError: it cannot be read.
    """
    for line, text in enumerate(text_lines(url), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield Row(line, fault=f"not JSON ({error})")
            continue
        if isinstance(values, dict):
            yield _row(line, values)
        else:
            yield Row(line, fault=f"a JSON {type(values).__name__}, expected an object")


def _row(line: int, values: dict[str, Any]) -> Row:
    garbled = [name for name, value in values.items() if "\ufffd" in str(value)]
    if garbled:
        return Row(line, fault=f"{garbled[0]} is not UTF-8 text")
    return Row(line, values)
