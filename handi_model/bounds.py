"""Bounds of a request's numbers. Without torch: a server checks them before it has a model."""

from __future__ import annotations

from typing import Any

import numpy as np

LONGEST_CLIP = 256
"""Frames: far beyond what a model was trained on, short of filling the memory by a slip."""


def check_count(name: str, value: Any, least: int, most: int, unit: str) -> int:
    """The whole number, or a ValueError that names the range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name}: {value!r} is not a whole number of {unit}")
    if not least <= value <= most:
        raise ValueError(f"{name}: {value} is outside of {least} to {most} {unit}")
    return int(value)


def check_size(height: Any, width: Any, multiple: int) -> tuple[int, int]:
    """Height and width in pixels, or a ValueError that names the nearest sizes that work."""
    for name, side in (("height", height), ("width", width)):
        check_count(name, side, multiple, 8192, "pixels")
        if side % multiple:
            below = side - side % multiple
            raise ValueError(
                f"{name}: {side} is not a multiple of {multiple}; "
                f"take {below} or {below + multiple}"
            )
    return height, width
