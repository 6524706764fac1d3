"""Open a video behind any fsspec URL, and make its frames upright RGB with square pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

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


def working_size(frame: VideoFrame, aspect: float, short_side: int) -> tuple[int, int]:
    """(width, height) before rotation, with square pixels, short side at most `short_side`.

    Args:
        aspect: width of the video's pixels over their height.
    """
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def to_rgb(frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB of a frame, scaled to (width, height) and then turned upright."""
    image = frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns))
