"""The device and the one thread that computes on it: whoever needs it takes turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import torch

from pipelines.records import one_line
from serve.figures import ModelFigures
from serve.model.holding import Watch
from serve.model.rendering import OnStep

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Quit(RuntimeError):
    """Code in a thread asked the process to end, with SystemExit or KeyboardInterrupt."""


async def in_thread(work: Callable[Given, Made], *args: Given.args, **keys: Given.kwargs) -> Made:
    """As `asyncio.to_thread`; a wish to end the process becomes Quit.

    In a task it would end the event loop, and leave a process that answers and does nothing.
    """
    return await asyncio.to_thread(_contained, lambda: work(*args, **keys))


class Device:
    """Args:
        where: device of torch.
        stall_s: without a step for so long a batch is believed to hang.

    Attributes:
        turn: to be held by whoever computes; batches, motion areas and detections alternate.
        lost: why it does not compute any more; empty while it does.
    """

    def __init__(self, where: torch.device | str, stall_s: float, figures: ModelFigures) -> None:
        self.where = where
        self.turn = asyncio.Lock()
        self.lost = ""
        self._stall_s = stall_s
        self._figures = figures
        self._thread = ThreadPoolExecutor(1, "device")
        self._watch: Watch | None = None

    async def run(self, work: Callable[[], Made]) -> Made:
        """Raises Quit where the work, now or before, asked the process to end."""
        if self.lost:
            raise Quit(self.lost)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, _contained, work)
        except Quit as quit:
            self.lost = str(quit)
            raise

    async def watched(self, watch: Watch, work: Callable[[OnStep], Made]) -> Made:
        """Run what tells the watch of each step."""
        self._watch = watch
        try:
            return await self.run(lambda: work(watch))
        finally:
            self._watch = None
            for stage, seconds in watch.seconds.items():
                self._figures.stage(stage, seconds)

    async def test(self) -> None:
        """Raise where it does not compute any more: a lost device would fail the whole queue."""
        try:
            await self.run(lambda: torch.zeros(1, device=self.where).add(1).item())
        except Exception as error:
            self.lost = f"the device does not compute any more: {one_line(error)}"
            raise

    def check(self) -> None:
        """Raise where it is lost, or a step hangs."""
        if self.lost:
            raise RuntimeError(self.lost)
        watch = self._watch
        if watch and time.monotonic() - watch.last_step > self._stall_s:
            raise RuntimeError(f"no denoising step for {self._stall_s:g} s")


def _contained(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception:
        raise
    except BaseException as error:
        what = type(error).__name__
        raise Quit(f"{what}: the model's code would have ended the process") from error
