"""Rows of Parquet files, wherever they lie: little is read where little is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from handi_model.damage import DamagedFile
from pipelines.patience import patient
from pipelines.records import one_line

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
    """A Parquet file of which little is read.

    Raises:
        DamagedFile: if it is cut short or no Parquet, on opening it or on reading from it.
    """
    with _damage_named(url):
        file = _open(url)
        try:
            yield file
        finally:
            file.close(force=True)


@contextmanager
def _damage_named(url: str) -> Iterator[None]:
    """Arrow's errors over what a file holds name neither the file nor what they are about."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        # Arrow's own OSErrors are bare; those of storages have numbers, or classes of their own.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        raise DamagedFile(url, one_line(error), remedy="") from None


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
    """Some columns of one row. A storage that is away for a while is waited for.

    Raises:
        DamagedFile: if the file is cut short or no Parquet.
    """
    try:
        with _damage_named(url):
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
