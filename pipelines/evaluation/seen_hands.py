"""The hands that MediaPipe sees on a clip, generated or real: sought alike, so they compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.handedness import assign_slots
from pipelines.hands import HandTracker

CONFIDENCE = 0.5
"""Threshold of palm detection and of hand presence."""


@dataclass(frozen=True)
class SeenHands:
    """Hands on L frames: joints (L, 42, 2), normalised, and detected (L, 2), left and right."""

    joints: NDArray[np.float32]
    detected: NDArray[np.bool_]

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(L, 42)."""
        return np.repeat(self.detected, 21, axis=1)


def hand_tracker(model: bytes, clip_deadline_s: float) -> HandTracker:
    """What sees them; to be closed.

    Args:
        model: contents of MediaPipe's model file.
        clip_deadline_s: seconds that one clip may take.
    """
    return HandTracker(model, CONFIDENCE, clip_deadline_s)


def seen_hands(frames: NDArray[np.uint8], tracker: HandTracker) -> SeenHands:
    """Hands on (L, H, W, 3) uint8 RGB frames.

    Raises:
        DetectorError: if MediaPipe hangs or dies on this clip.
    """
    height, width = frames.shape[1:3]
    slots = assign_slots(tracker(frames), width / height)
    return SeenHands(slots.joints, slots.detected)
