"""Hand masks: hulls of joints, their union over time, the data set's prior, and their cleaning.

The ground truth of the motion-area mask is the filled convex hull of each hand's joints on every
frame, united over time (Li, Cao and Corso, section 3.2). One hull a hand: a hull over both hands
would cover the table between them.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

HANDS = (slice(0, 21), slice(21, 42))
"""Joints of the left and of the right hand among the 42."""


def hand_hull_mask(
    joints: ArrayLike, visible: ArrayLike, height: int, width: int
) -> NDArray[np.bool_]:
    """Fill the convex hull of each hand's visible joints.

    Args:
        joints: (42, 2) x and y, normalised to the frame ([0, 1] across width and height; a joint
            outside that range lies outside the frame, and the hull is cut at the border).
        visible: (42,) bool; joints that are not visible are left out.
        height, width: pixels.

    Returns:
        (height, width) bool. A hand with one or two visible joints gives a point or a line.

    Raises:
        ValueError: if the shapes are wrong or a visible joint is not finite.
    """
    points = np.asarray(joints, dtype=np.float64)
    shown = np.asarray(visible, dtype=bool)
    if points.shape != (42, 2) or shown.shape != (42,):
        raise ValueError(
            f"joints must be (42, 2) and visible (42,), got {points.shape} and {shown.shape}"
        )
    if not np.isfinite(points[shown]).all():
        raise ValueError("a visible joint is not finite")
    mask = np.zeros((height, width), np.uint8)
    # Pixel centres lie at half-integers of the normalised frame.
    pixels = points * (width, height) - 0.5
    for hand in HANDS:
        outline = pixels[hand][shown[hand]]
        if len(outline):
            hull = cv2.convexHull(np.round(outline).astype(np.int32))
            cv2.fillConvexPoly(mask, hull, 1)
    return mask.astype(bool)


def union_mask(frame_masks: ArrayLike) -> NDArray[np.bool_]:
    """Unite (L, H, W) masks over time into (H, W) bool."""
    masks = np.asarray(frame_masks)
    if masks.ndim != 3:
        raise ValueError(f"frame masks must be (L, H, W), got {masks.shape}")
    return np.asarray(masks.astype(bool).any(axis=0))


def frequency_prior(masks: Iterable[ArrayLike]) -> NDArray[np.float32]:
    """Average (H, W) binary masks into the data set's prior: float32 (H, W) in [0, 1].

    Raises:
        ValueError: if there is no mask.
    """
    total: NDArray[np.int64] | None = None
    count = 0
    for mask in masks:
        binary = np.asarray(mask).astype(bool)
        # Integer counts, so that the mean does not depend on the order of the masks.
        total = binary.astype(np.int64) if total is None else total + binary
        count += 1
    if total is None:
        raise ValueError("a prior needs at least one mask")
    return (total / count).astype(np.float32)


def clean_mask(mask: ArrayLike, threshold: float = 0.5, radius: int = 3) -> NDArray[np.bool_]:
    """Threshold a predicted mask, then remove specks (opening) and fill holes (closing).

    Args:
        mask: (H, W) in [0, 1].
        threshold: a pixel at or above it belongs to the mask.
        radius: of the round structuring element, pixels; 0 thresholds only.
    """
    values = np.asarray(mask, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"a mask must be (H, W), got {values.shape}")
    binary = (values >= threshold).astype(np.uint8)
    if radius:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        binary = cv2.morphologyEx(binary, cv2.MORPH_OPEN, disc)
        binary = cv2.morphologyEx(binary, cv2.MORPH_CLOSE, disc)
    return binary.astype(bool)
