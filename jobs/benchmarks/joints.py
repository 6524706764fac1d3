"""MediaPipe's joints against the true ones of the rendered clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from handi_model.hands.model_files import hand_landmarker_task
from pipelines.annotate import find_hands
from pipelines.hands import HandTracker
from pipelines.records import Clip
from pipelines.rendered import CLIPS, true_joints
from pipelines.video import DecodedClip, decode_clips


class Settings(BaseModel):
    """MediaPipe's joints against the true ones of the rendered clips."""

    model_config = ConfigDict(extra="forbid")

    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


def measure(settings: Settings) -> dict[str, Any]:
    """Detection rate and joint error on every frame of the clips that ship."""
    truth = true_joints()
    tracker = HandTracker(hand_landmarker_task(settings.hand_model).read_bytes())
    rates, in_hand_sizes, normalised = {}, [], []
    for name, true in truth.items():
        uri = str(CLIPS / f"{name}.mp4")
        clip = Clip(name, "folder", "", uri, 0.0, None, "")
        decoded = next(iter(decode_clips(uri, [clip], len(true), 360)))
        assert isinstance(decoded, DecodedClip)
        hands = find_hands(decoded.frames, tracker, stride=1)
        rates[name] = round(hands.rate, 3)
        for slot in (slice(0, 21), slice(21, 42)):
            seen = hands.detected[:, slot.start // 21] & np.isfinite(true[:, slot]).all(axis=(1, 2))
            # Distances in pixels of the video, so that both axes count alike.
            pixels = np.array(decoded.frames.shape[2:0:-1])
            error = np.linalg.norm((hands.joints - true)[seen, slot] * pixels, axis=2)
            size = np.ptp(true[seen, slot] * pixels, axis=1).max(axis=1, keepdims=True)
            in_hand_sizes.append((error / size).ravel())
            normalised.append(np.linalg.norm((hands.joints - true)[seen, slot], axis=2).ravel())
    tracker.close()
    return {
        "frames": sum(len(true) for true in truth.values()),
        "hand_rate": rates,
        "mean_hand_rate": round(float(np.mean(list(rates.values()))), 3),
        "median_joint_error_in_hand_sizes": _median(in_hand_sizes),
        "median_joint_error_normalised": _median(normalised),
    }


def _median(parts: list[np.ndarray]) -> float:
    return round(float(np.median(np.concatenate(parts))), 4)
