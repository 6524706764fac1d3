"""Motion locality: whether what moves is what should, and whether the rest stays still.

The paper claims it and gives no measure; these are ours.
"""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

FLOW_SIDE = 256
"""Flow is measured on frames of this short side, pixels, so that sizes compare."""
STILL_PX = 0.05
"""Root mean square flow, pixels a frame of `FLOW_SIDE`, below which a clip does not move."""


def optical_flow(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense optical flow from each frame to the next: (L-1, h, w, 2), pixels, short side 256.

    DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search").

    Args:
        frames: (L, H, W, 3) uint8 RGB, at least two.
    """
    height, width = frames.shape[1:3]
    scale = FLOW_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    grey = [
        cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), size, interpolation=way) for one in frames
    ]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.stack([dis.calc(a, b, None) for a, b in pairwise(grey)])


def flow_inside(flow: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Share of the flow's energy (its squared length) inside a mask, [0, 1]; NaN for a still clip.

    Args:
        flow: see `optical_flow`.
        mask: (H, W), the motion area.
    """
    energy = np.square(np.asarray(flow, np.float64)).sum(axis=-1)
    if energy.mean() < STILL_PX**2:
        return math.nan
    size = (energy.shape[2], energy.shape[1])
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return float(energy[:, inside].sum() / energy.sum())


def change_outside(
    frames: NDArray[np.floating], scene: NDArray[np.floating], mask: NDArray[np.bool_]
) -> float:
    """Mean difference from the input image outside of a mask, [0, 1]; NaN if nothing lies outside.

    Args:
        frames: (L, H, W, 3) in [0, 1].
        scene: (H, W, 3) in [0, 1].
        mask: (H, W).
    """
    if mask.all():
        return math.nan
    return float(np.abs(np.asarray(frames, np.float64) - scene)[:, ~mask].mean())


def area_square(mask: NDArray[np.bool_], margin: float = 0.1) -> tuple[int, int, int]:
    """The square around a motion area: top, left and side, pixels, within the frame.

    What is measured inside the motion area is measured on this part of the frames.

    Args:
        mask: (H, W); the whole frame's middle where it is empty.
        margin: on either side, shares of the area's longer side.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side
    long = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = int(min(np.ceil(long * (1 + 2 * margin)), height, width))
    top, left = (
        int(np.clip((ends[0] + ends[-1] + 1 - side) // 2, 0, room - side))
        for ends, room in ((rows, height), (columns, width))
    )
    return top, left, side
