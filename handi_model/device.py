"""Which device a job computes on, in which type, and how much memory it took."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from handi_model.config import DType

DTYPES: dict[DType, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def usable_device(name: str | None) -> torch.device:
    """The device of that name; by default a GPU where there is one, else the CPU.

    Raises:
        ValueError: if it cannot be used, in one line.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except Exception as error:  # torch says it with several types
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device: {name or 'cuda'} cannot be used: {reason}") from None
    return device


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new peak for `peak_memory_gb`; on a processor only Linux can."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # "5" resets the peak of the resident set (proc(5)).
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_gb(device: torch.device) -> float:
    """Most memory since the reset: tensors on a GPU, the process's resident set on a processor."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
