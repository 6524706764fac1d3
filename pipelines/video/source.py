"""Open a video behind any fsspec URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

RANGE_BYTES = 1 << 20
"""One read of a remote video."""


@contextmanager
def opened(video_uri: str) -> Iterator[InputContainer]:
    """Open a container; of a remote one only the ranges that are asked for are read."""
    fs, path = url_to_fs(video_uri)
    if isinstance(fs, LocalFileSystem):
        with av.open(path) as container:
            yield container
    else:
        # A block cache serves the demuxer's small reads and its jumps between the index and the
        # data; sixteen blocks bound the memory.
        with (
            fs.open(
                path,
                "rb",
                block_size=RANGE_BYTES,
                cache_type="blockcache",
                cache_options={"maxblocks": 16},
            ) as file,
            av.open(file) as container,
        ):
            yield container
