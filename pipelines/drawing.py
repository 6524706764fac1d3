"""Pictures of what the data set holds: joints and masks over frames, strips, the prior."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BONES = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10)]
BONES += [(10, 11), (11, 12), (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (0, 17)]
BONES += [(17, 18), (18, 19), (19, 20)]
"""Pairs of MediaPipe's 21 hand landmarks that a line joins."""

LEFT, RIGHT = (64, 170, 255), (255, 128, 48)
MASK_TINT = (80, 220, 120)


def draw_hands(
    frame: NDArray[np.uint8],
    joints: NDArray[np.float32],
    detected: NDArray[np.bool_],
    mask: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Draw the mask as a tint and the joints as skeletons: left hand blue, right hand orange.

    Args:
        frame: (H, W, 3) uint8 RGB.
        joints: (42, 2) normalised.
        detected: (2,) bool.
        mask: (H, W) bool.
    """
    canvas = outline_mask(frame, mask)
    height, width = frame.shape[:2]
    for hand, colour in enumerate((LEFT, RIGHT)):
        if not detected[hand]:
            continue
        points = np.round(joints[hand * 21 : hand * 21 + 21] * (width, height)).astype(int)
        for a, b in BONES:
            cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, 1, cv2.LINE_AA)
        for point in points:
            cv2.circle(canvas, point.tolist(), 2, colour, -1, cv2.LINE_AA)
    return canvas


def outline_mask(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a mask as a tint with an outline.

    Args:
        frame: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
    """
    canvas = frame.copy()
    canvas[mask] = (0.65 * canvas[mask] + 0.35 * np.array(MASK_TINT)).astype(np.uint8)
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, outline, -1, MASK_TINT, 1, cv2.LINE_AA)
    return canvas


def at_height(frames: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Scale pictures: (L, H, W, 3) uint8 -> (L, height, width, 3), of an even width."""
    size = (2 * round(frames.shape[2] * height / frames.shape[1] / 2), height)
    way = cv2.INTER_CUBIC if height > frames.shape[1] else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, size, interpolation=way) for frame in frames])


def mask_of_size(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Scale an (H, W) mask to a height and a width, each pixel as the nearest one."""
    near = cv2.INTER_NEAREST
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=near) > 0)


def strip(frames: list[NDArray[np.uint8]], gap: int = 4) -> NDArray[np.uint8]:
    """Put pictures of one height side by side on white."""
    space = np.full((frames[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, space)][:-1]
    return np.concatenate(parts, axis=1)


def stack(rows: list[NDArray[np.uint8]], gap: int = 4) -> NDArray[np.uint8]:
    """Put pictures of one width below each other on white."""
    space = np.full((gap, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, space)][:-1])


def heat_map(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour an (H, W) map in [0, 1]: (H, W, 3) uint8 RGB."""
    scaled = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
    )
