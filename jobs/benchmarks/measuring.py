"""Clock, memory and ceiling of the machine that a benchmark runs on."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

CEILING_SIDE = {"cuda": 8192, "cpu": 1024}
"""Side of the matrices whose product shows the ceiling."""
CEILING_S = {"cuda": 0.5, "cpu": 1.0}
"""How long to multiply them, seconds."""


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on: device, threads, and versions."""
    import diffusers
    import transformers

    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    call: Callable[[], Result], device: torch.device, repeats: int, warm_up: int
) -> tuple[list[float], Result]:
    """Seconds of each of `repeats` calls, after `warm_up` calls outside of the clock.

    Returns:
        The seconds, and the last call's result.
    """
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        wait_for(device)
        began = time.perf_counter()
        result = call()
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return seconds, result


def ceiling_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of large matrix products, in TFLOP/s: the best of the tries."""
    side = CEILING_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds: list[float] = []
    while sum(seconds) < CEILING_S[device.type]:
        seconds += timed(lambda: torch.mm(left, right), device, 1, 0)[0]
    return 2 * side**3 / min(seconds) / 1e12


def short(value: Any) -> Any:
    """Four significant digits; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
