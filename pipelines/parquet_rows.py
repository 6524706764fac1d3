"""Rows of Parquet files, wherever they lie: little is read where little is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pipelines.patience import patient

OPEN_FILES = 64
"""Files that a process keeps open: their footers are read once."""


@dataclass(frozen=True)
class Place:
    """Where a row lies: a Parquet file's URL, the row group in it, the row in that."""

    url: str
    row_group: int
    row: int


@contextmanager
def open_parquet(url: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file of which little is read."""
    file = _open(url)
    try:
        yield file
    finally:
        file.close(force=True)


def rows_and_places(
    url: str, file: pq.ParquetFile, columns: list[str]
) -> list[tuple[dict[str, Any], Place]]:
    """Some columns of every row of a file, and where the row lies."""
    groups = range(file.num_row_groups)
    places = [
        Place(url, group, row)
        for group in groups
        for row in range(file.metadata.row_group(group).num_rows)
    ]
    return list(zip(file.read(columns).to_pylist(), places, strict=True))


@patient
def read_row(url: str, row_group: int, row: int, columns: list[str]) -> dict[str, Any]:
    """Some columns of one row. A storage that is away for a while is waited for."""
    try:
        return _read(url, row_group, row, columns)
    except Exception:
        _opened.cache_clear()  # a connection that broke stays broken
        raise


def _read(url: str, row_group: int, row: int, columns: list[str]) -> dict[str, Any]:
    group = _opened(url).read_row_group(row_group, columns=columns)
    values: dict[str, Any] = group.slice(row, 1).to_pylist()[0]
    return values


@lru_cache(OPEN_FILES)
def _opened(url: str) -> pq.ParquetFile:
    return _open(url)


def _open(url: str) -> pq.ParquetFile:
    fs, path = url_to_fs(url)
    # An object store's reading ahead would fetch the pictures between the small columns.
    return pq.ParquetFile(fs.open(path, "rb", cache_type="none"), pre_buffer=True)
