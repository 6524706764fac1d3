"""Rows of CSV and JSONL files with their line numbers, however damaged the file is."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import text_lines
from pipelines.annotations.rows import closest

DELIMITERS = (",", ";", "\t")
"""What may stand between the columns; spreadsheets write semicolons where commas are decimal."""

_EXCEL_DELIMITER = re.compile(r"sep=(.)")
"""A first line by which Excel names the delimiter."""


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


def read_csv(
    url: str, required: Collection[str], other_names: Mapping[str, str] | None = None
) -> tuple[list[str], Iterator[Row]]:
    """The columns of a CSV file, and its rows; blank lines are no rows.

    The delimiter is the one of `DELIMITERS` by which the header names most of the required
    columns, and most columns. Columns without a name are in the header and in no row.

    Args:
        other_names: see `lacking`.

    Raises:
        AnnotationsError: it cannot be read, or its header lacks a required column or repeats one.
    """
    lines = text_lines(url)
    first = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines):
        raise AnnotationsError(f"{url}: the file is empty, expected a line with the columns' names")
    delimiters: Iterable[str] = DELIMITERS
    if named := _EXCEL_DELIMITER.fullmatch(lines[first].rstrip("\r\n")):
        delimiters, first = named[1], first + 1
    headers = {delimiter: _header(lines[first : first + 1], delimiter) for delimiter in delimiters}
    # The first of those that are equally good: max keeps it.
    delimiter, header = max(
        headers.items(), key=lambda item: (len({*required} & {*item[1]}), len(item[1]))
    )
    if fault := lacking(header, required, other_names):
        raise AnnotationsError(f"{url}: {fault}")
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise AnnotationsError(f"{url}: more than one column {', '.join(repeated)}")
    return header, _records(lines, first + 1, header, delimiter)


def _header(lines: list[str], delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader(lines, delimiter=delimiter), [])]


def lacking(
    header: list[str], required: Collection[str], other_names: Mapping[str, str] | None = None
) -> str:
    """What to say of a header that lacks columns; empty if it has all.

    Args:
        other_names: what a column may be called by mistake -> its name, for a hint.
    """
    missing = [column for column in required if column not in header]
    if not missing:
        return ""
    message = f"no column {', '.join(missing)}; its columns are {', '.join(header) or 'none'}"
    if header and header[0].startswith(("{", "[")):
        return f"{message}; it looks like JSON, expected CSV"
    others = [name for name in header if name not in required]
    likely = [(column, closest(column, others, other_names)) for column in missing]
    meant = [f"did you mean {column} by {name}?" for column, name in likely if name]
    if meant:
        return f"{message}; {' '.join(meant)}"
    if len(header) == 1:
        return f"{message}; separate columns by commas, semicolons or tabs"
    return message


def _records(lines: list[str], at: int, header: list[str], delimiter: str) -> Iterator[Row]:
    """Read record by record. One that fails costs its first line only.

    A quote that is never closed swallows the rows below it; reading on at the line after the
    fault gives them back.
    """
    while at < len(lines):
        rest = map(lines.__getitem__, range(at, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True)
        line, cells, fault = at + 1, [], ""
        try:
            cells = next(reader)
        except csv.Error as error:
            fault = f"not a CSV record ({error})"
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()  # spreadsheets pad rows with empty cells
        if cells and len(cells) != len(header):
            fault = f"{len(cells)} columns, expected {len(header)}"
        at += 1 if fault else reader.line_num
        if fault:
            yield Row(line, fault=fault)
        elif cells:
            named = {name: cell for name, cell in zip(header, cells, strict=True) if name}
            yield _row(line, named)


def read_jsonl(url: str) -> Iterator[Row]:
    """The rows of a file with one JSON object a line; blank lines are no rows.

    Raises:
        AnnotationsError: it cannot be read, or holds one array or object over several lines.
    """
    lines = text_lines(url)
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("[") or first == "{":
        kind = "array" if first.startswith("[") else "object over several lines"
        raise AnnotationsError(
            f"{url}: a JSON {kind}, expected one object a line; `jq -c '.[]' FILE` turns an array "
            "into that"
        )
    for line, text in enumerate(lines, 1):
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
        return Row(line, fault=f"{garbled[0]} is not UTF-8 text; save the file as UTF-8")
    return Row(line, values)
