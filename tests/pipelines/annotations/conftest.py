"""Folders of annotations and videos, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fsspec
import pytest

Store = Callable[[str, str | bytes], str]


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty in-memory filesystem; gives the URL of a folder in it."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield "memory://data"
    fs.store.clear()


@pytest.fixture
def store(memory: str) -> Store:
    """Write a file below the in-memory folder; gives its URL."""

    def write(path: str, content: str | bytes) -> str:
        url = f"{memory}/{path}"
        data = content.encode() if isinstance(content, str) else content
        fsspec.filesystem("memory").pipe_file(f"/data/{path}", data)
        return url

    return write
