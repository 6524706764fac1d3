"""Which device a job computes on, and in which type."""

from __future__ import annotations

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
