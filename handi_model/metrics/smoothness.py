"""Jerk: how unsteadily the hands of a clip move."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def joint_jerk(joints: NDArray[np.floating], visible: NDArray[np.bool_]) -> float:
    """Mean size of the third difference of the joints over time; NaN where there is none.

    In shares of the frame per frame interval cubed. A joint counts where it is visible in four
    frames on end.

    Args:
        joints: (L, 42, 2) normalised to the frame.
        visible: (L, 42) bool.
    """
    if len(joints) < 4:
        return math.nan
    third = np.diff(np.asarray(joints, np.float64), n=3, axis=0)
    seen = np.lib.stride_tricks.sliding_window_view(visible, 4, axis=0).all(axis=-1)
    return float(np.linalg.norm(third, axis=-1)[seen].mean()) if seen.any() else math.nan
