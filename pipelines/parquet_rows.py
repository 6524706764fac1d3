"""Single rows out of Parquet files, wherever they lie."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pipelines.patience import patient

OPEN_FILES = 64
"""Files that a process keeps open: their footers are read once."""


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
    fs, path = url_to_fs(url)
    return pq.ParquetFile(fs.open(path, "rb", cache_type="none"), pre_buffer=True)
