"""Memory of a GPU, and which share of its arithmetic a training uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from handi_model.device import peak_memory_gb
from jobs.benchmarks.measuring import ceiling_tflops

Result = TypeVar("Result")


class Meter:
    """Counts a pass's operations once a stage, and measures what the device can do at most.

    On a processor it says nothing: its memory is the machine's, and its ceiling is nobody's goal.

    Args:
        dtype: that the networks compute in, and the ceiling is measured in.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._ceiling: float | None = None
        self._operations: dict[str, int] = {}
        self._done = 0.0
        self._since = time.perf_counter()

    def counted(self, stage: str, clips: int, call: Callable[[], Result]) -> Result:
        """Take a pass of so many clips, and remember what it cost."""
        if self.device.type != "cuda":
            return call()
        if stage not in self._operations:
            if self._ceiling is None:
                self._ceiling = ceiling_tflops(self.device, self.dtype)
            with FlopCounterMode(display=False) as counter:
                result = call()
            self._operations[stage] = counter.get_total_flops() // clips
            self._done, self._since = 0.0, time.perf_counter()
            return result
        self._done += self._operations[stage] * clips
        return call()

    def figures(self) -> dict[str, float]:
        """What there is to track since the last call."""
        if self.device.type != "cuda":
            return {}
        seconds = time.perf_counter() - self._since
        done, self._done, self._since = self._done, 0.0, time.perf_counter()
        share = done / seconds / 1e12 / self._ceiling if self._ceiling else 0.0
        return {"gpu_memory_gb": peak_memory_gb(self.device), "peak_flops_share": share}
