"""Clips made of the real ones: what any sound figure must place at its floor or its ceiling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def still(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first of (L, H, W, 3) frames, L times: nothing moves."""
    return np.repeat(frames[:1], len(frames), axis=0)


def shuffled(frames: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same (L, H, W, 3) frames in an order drawn at random, none of them in its own place.

    FID cannot tell it from the real clip; whatever looks at time must.
    """
    generator = np.random.default_rng(seed)
    order = np.arange(len(frames))
    while len(frames) > 1 and (order == np.arange(len(frames))).any():
        generator.shuffle(order)
    return frames[order]
