"""Strangers' pictures are decoded in processes of their own, so that nobody waits for another's.

A file of some kilobytes may hold a hundred megabytes of pixels, and whatever decodes it has
Python's lock for seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from serve.http.errors import SOON_S, ApiError
from serve.http.pictures import pixels_of

Decode = Callable[[bytes, int, int, int], bytes]
"""Of a file, the clip's height and width, and the most pixels: the picture as a PNG."""

FEW_PIXELS = 16_000_000
"""Of a phone's picture; decoded in some tenths of a second."""


def one_process() -> Executor:
    """Started with its first picture, and not by a fork: the gateway has threads."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent)


class Decoder:
    """Two processes: large pictures wait for each other in one, and small ones in neither's way.

    Args:
        start: gives an executor of one worker.
    """

    def __init__(self, start: Callable[[], Executor] = one_process) -> None:
        self._start = start
        self._lanes = {"small": start(), "large": start()}

    async def decode(
        self, work: Decode, data: bytes, size: tuple[int, int], most_pixels: int
    ) -> bytes:
        """A picture as the model will see it.

        Args:
            size: height and width of the clip.

        Raises:
            ValueError: if `work` refuses the picture.
            ApiError: 503 if the process dies over it, or over one before it.
        """
        given = (work, data, *size, most_pixels)
        made: bytes | None = await self._run("small", _decoded_if_small, *given)
        return await self._run("large", *given) if made is None else made

    async def _run(self, lane: str, work: Callable[..., Any], *given: Any) -> Any:
        executor = self._lanes[lane]
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work, *given)
        except BrokenProcessPool:
            if self._lanes[lane] is executor:  # nobody else has replaced it yet
                self._lanes[lane] = self._start()
            raise ApiError(503, "the picture's decoder died; try again", None, SOON_S) from None


def _decoded_if_small(
    work: Decode, data: bytes, height: int, width: int, most_pixels: int
) -> bytes | None:
    return work(data, height, width, most_pixels) if pixels_of(data) <= FEW_PIXELS else None


def _end_with_parent() -> None:
    """Have this process end when the gateway does, whatever ends that."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
