"""What rank 0 tells the driver while it trains, through one queue."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.queue import Empty, Queue


@dataclass(frozen=True)
class Progress:
    """Steps done in the whole training, and what the last ones gave.

    Attributes:
        values: name -> number, to be tracked; empty where only the bar moves.
    """

    step: int
    epoch: int
    stage: str
    values: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """A file to keep with the run."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Note:
    """A line for the console."""

    text: str


@dataclass(frozen=True)
class Saved:
    """The checkpoint that an interrupted training was asked for is written, at this step."""

    step: int


@dataclass(frozen=True)
class Stopped:
    """Why the training ended before its end: a line for the user."""

    reason: str


Record = Progress | Picture | Note | Saved | Stopped


@ray.remote(num_cpus=0)
class StopRequest:
    """The driver's wish that the training end: rank 0 looks at it after each step."""

    def __init__(self) -> None:
        self._made = asyncio.Event()

    async def make(self) -> None:
        self._made.set()

    async def wait(self) -> None:
        """Return when it was made."""
        await self._made.wait()


class Reporter:
    """The worker's end. Of progress and pictures only rank 0 has one that speaks."""

    def __init__(self, queue: Queue | None) -> None:
        self._queue = queue

    def tell(self, record: Record) -> None:
        if self._queue is not None:
            # Not waited for: the driver's machine may be slow.
            self._queue.actor.put_nowait.remote(record)  # type: ignore[attr-defined]


def received(queue: Queue, seconds: float) -> Record | None:
    """The next record, or None after so long without one."""
    try:
        record: Record = queue.get(timeout=seconds)
        return record
    except Empty:
        return None


class Pace:
    """Clips a second and the share of the time spent waiting for data, between two records."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._waited = 0.0
        self._clips = 0

    def waited(self, seconds: float) -> None:
        self._waited += seconds

    def done(self, clips: int) -> None:
        self._clips += clips

    def take(self) -> dict[str, float]:
        """The figures since the last call, and begin anew."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        figures: dict[str, Any] = {
            "clips_per_second": self._clips / seconds,
            "data_wait_share": self._waited / seconds,
        }
        self.__init__()  # type: ignore[misc]
        return figures
