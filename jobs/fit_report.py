"""Generate the clips that a model was fitted to, measure them, draw them beside the real ones."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from handi_model.hands import HandDetector
from handi_model.metrics.fidelity import mask_iou, psnr_inside
from handi_model.metrics.hand_error import hand_error
from handi_model.pipeline import HandiPipeline
from handi_model.refinement import HALF_PIXEL, true_regions
from pipelines.clip_files import clip_strip, eight_bit
from pipelines.training_clips import TrainingClips

SHOWN_HEIGHT = 128
"""Height of a frame in the picture, pixels."""


@dataclass(frozen=True)
class Measured:
    """One generated clip against the real one.

    Attributes:
        mask_iou: of the motion area and the true mask.
        psnr: inside the true mask, dB, without the first frame.
        still_psnr: the same for the first frame repeated.
        outside_equal: whether every pixel outside the motion area is the input's.
        hs_err, joint_error: see `HandError`. The joints are sought in the true hands' regions: on
            frames of 64 pixels the palm network misses most hands even of the real clip.
        presence: mean presence score of the hands in these regions, [0, 1].
    """

    clip_id: str
    mask_iou: float
    psnr: float
    still_psnr: float
    outside_equal: bool
    hs_err: float
    joint_error: float
    presence: float

    @property
    def gain(self) -> float:
        """dB above the first frame repeated."""
        return self.psnr - self.still_psnr

    def numbers(self) -> dict[str, float]:
        values = {**asdict(self), "gain": self.gain}
        return {name: float(value) for name, value in values.items() if name != "clip_id"}


@dataclass(frozen=True)
class Generated:
    """Generated clips: frames (B, L, H, W, 3) uint8 and motion areas (B, H, W) bool."""

    frames: NDArray[np.uint8]
    areas: NDArray[np.bool_]


def generate(
    pipe: HandiPipeline, clips: TrainingClips, seed: int, whole_frame: bool = False
) -> Generated:
    """Generate each clip from its first frame and its narration.

    Args:
        whole_frame: let the clip change everywhere, without stage 1.
    """
    out = pipe(
        image=list(clips.frames[:, 0]),
        prompt=clips.narrations,
        num_frames=clips.frames.shape[1],
        generator=[torch.Generator().manual_seed(seed) for _ in clips.narrations],
        mask=np.ones(clips.frames.shape[2:4], np.float32) if whole_frame else None,
    )
    return Generated(np.stack([eight_bit(clip) for clip in out.frames]), out.masks > 0)


def measure(generated: Generated, clips: TrainingClips, detector: HandDetector) -> list[Measured]:
    """Measure generated clips against the real ones."""
    length = clips.frames.shape[1]
    real = clips.frames / np.float32(255)
    result = []
    for i, clip_id in enumerate(clips.clip_ids):
        made = generated.frames[i] / np.float32(255)
        still = np.repeat(real[i, :1], length, axis=0)
        hands = _hands_in_true_regions(made, clips, i, detector)
        outside = ~generated.areas[i]
        true_mask = clips.masks[i]
        result.append(
            Measured(
                clip_id=clip_id,
                mask_iou=mask_iou(generated.areas[i], true_mask),
                psnr=psnr_inside(made[1:], real[i, 1:], true_mask),
                still_psnr=psnr_inside(still[1:], real[i, 1:], true_mask),
                outside_equal=bool(
                    (generated.frames[i][:, outside] == clips.frames[i, 0][outside]).all()
                ),
                **hands,
            )
        )
    return result


@torch.no_grad()
def _hands_in_true_regions(
    frames: NDArray[np.float32], clips: TrainingClips, clip: int, detector: HandDetector
) -> dict[str, float]:
    """HS-Err, joint distance and presence of a clip's hands, sought where the real ones are."""
    true_joints = torch.from_numpy(clips.joints[clip])
    visible = torch.from_numpy(np.repeat(clips.detected[clip], 21, axis=1))
    height, width = frames.shape[1:3]
    regions = true_regions(true_joints, visible, height, width)
    device = next(detector.buffers()).device
    found, presence = detector.landmarks(torch.from_numpy(frames).to(device), regions.to(device))
    joints = found.cpu() + HALF_PIXEL / torch.tensor([width, height])
    error = hand_error(joints.numpy(), visible.numpy(), clips.joints[clip], visible.numpy())
    there = regions[..., 2] > 0
    return {
        "hs_err": error.hs_err,
        "joint_error": error.joint_error,
        "presence": float(presence.cpu()[there].mean()),
    }


def mean_of(rows: list[Measured]) -> dict[str, float]:
    """Means over the clips; a clip without a figure (NaN) is left out of that one."""
    numbers = [row.numbers() for row in rows]
    known = {name: [row[name] for row in numbers if row[name] == row[name]] for name in numbers[0]}
    return {name: float(np.mean(values)) if values else np.nan for name, values in known.items()}


def as_json(values: Any) -> bytes:
    """JSON for a file; a figure that there is not (NaN) is null, as JSON has no word for it."""
    return json.dumps(_without_nan(values), indent=2, allow_nan=False).encode()


def _without_nan(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def picture(generated: Generated, clips: TrainingClips) -> NDArray[np.uint8]:
    """Two rows a clip: the real one with its true mask, the generated one with its motion area."""
    rows = []
    for i in range(len(clips.clip_ids)):
        scene = _enlarged(clips.frames[i, :1])[0]
        for frames, mask in (
            (clips.frames[i], clips.masks[i]),
            (generated.frames[i], generated.areas[i]),
        ):
            size = (scene.shape[1], scene.shape[0])
            area = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            rows.append(clip_strip(_enlarged(frames), scene, area))
    gap = np.full((4, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def _enlarged(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, SHOWN_HEIGHT // frames.shape[1])
    size = (frames.shape[2] * factor, frames.shape[1] * factor)
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_CUBIC) for f in frames])
