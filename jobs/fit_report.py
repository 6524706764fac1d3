"""Generate the clips that a model was fitted to, measure them, draw them beside the real ones."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handi_model.hands import HandDetector
from handi_model.metrics.fidelity import mask_iou, psnr_inside
from handi_model.metrics.hand_error import hand_error
from handi_model.pipeline import HandiPipeline
from handi_model.refinement import HALF_PIXEL, true_regions
from pipelines.clip_files import clip_strip, eight_bit, encode_mp4, encode_png
from pipelines.drawing import at_height, draw_hands, mask_of_size, stack, strip
from pipelines.training_clips import TrainingClips

SHOWN_HEIGHT = 128
"""Height of a frame in the picture, pixels."""

FINE = 2
"""Hands are drawn on frames so many times higher: a skeleton's lines are then finer than a pixel
and leave the hand to be seen."""


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
        hand_recall: share of the true hands that are found: whose presence score reaches the
            threshold. What the detector takes for joints where there is no hand at all is hardly
            further off than those of a blurred one, so distances say little without it.
        hand_distance: mean distance of the found hands' joints, in sizes of the true hand: the
            longer side of the box around its joints. Distances relative to the hand are those of
            MediaPipe Hands (Zhang et al. 2020), there by the size of the palm, which foreshortens.
    """

    clip_id: str
    mask_iou: float
    psnr: float
    still_psnr: float
    outside_equal: bool
    hs_err: float
    joint_error: float
    presence: float
    hand_recall: float
    hand_distance: float

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
    pipe: HandiPipeline,
    clips: TrainingClips,
    seed: int,
    *,
    num_inference_steps: int | None = None,
    mask_steps: int | None = None,
    guidance_scale: float | None = None,
) -> Generated:
    """Generate each clip from its first frame and its narration.

    Args:
        num_inference_steps, mask_steps, guidance_scale: see `HandiPipeline`.
    """
    out = pipe(
        image=list(clips.frames[:, 0]),
        prompt=clips.narrations,
        num_frames=clips.frames.shape[1],
        generator=[torch.Generator().manual_seed(seed) for _ in clips.narrations],
        num_inference_steps=num_inference_steps,
        mask_steps=mask_steps,
        guidance_scale=guidance_scale,
    )
    return Generated(np.stack([eight_bit(clip) for clip in out.frames]), out.masks > 0)


def measure(
    generated: Generated, clips: TrainingClips, detector: HandDetector, presence_threshold: float
) -> list[Measured]:
    """Measure generated clips against the real ones.

    Args:
        presence_threshold: a hand is found from this presence score on, [0, 1], see
            `LossSettings`.
    """
    length = clips.frames.shape[1]
    real = clips.frames / np.float32(255)
    result = []
    for i, clip_id in enumerate(clips.clip_ids):
        made = generated.frames[i] / np.float32(255)
        found = hands_in_true_regions(generated.frames[i], clips, i, detector)
        still = np.repeat(real[i, :1], length, axis=0)
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
                **_hand_figures(found, clips, i, presence_threshold),
            )
        )
    return result


@dataclass(frozen=True)
class FoundHands:
    """What the detector finds of a clip's hands in the true hands' regions.

    Attributes:
        joints: (L, 42, 2) float32, normalised to the frame.
        presence: (L, 2) presence scores, [0, 1].
        sought: (L, 2) bool: whether there is a region; the others of a hand without one are void.
    """

    joints: NDArray[np.float32]
    presence: NDArray[np.float32]
    sought: NDArray[np.bool_]


@torch.no_grad()
def hands_in_true_regions(
    frames: NDArray[np.uint8], clips: TrainingClips, clip: int, detector: HandDetector
) -> FoundHands:
    """Find a clip's hands, sought where the real ones are.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
        clip: index of the real clip.
    """
    pixels = torch.from_numpy(frames / np.float32(255))
    true_joints = torch.from_numpy(clips.joints[clip])
    visible = torch.from_numpy(np.repeat(clips.detected[clip], 21, axis=1))
    height, width = frames.shape[1:3]
    regions = true_regions(true_joints, visible, height, width)
    device = next(detector.buffers()).device
    found, presence = detector.landmarks(pixels.to(device), regions.to(device))
    joints = found.cpu() + HALF_PIXEL / torch.tensor([width, height])
    return FoundHands(joints.numpy(), presence.cpu().numpy(), (regions[..., 2] > 0).numpy())


def _hand_figures(
    found: FoundHands, clips: TrainingClips, clip: int, presence_threshold: float
) -> dict[str, float]:
    """What `Measured` says of hands; NaN for a clip that has none, or where none is found."""
    detected = clips.detected[clip]
    visible = np.repeat(detected, 21, axis=1)
    error = hand_error(found.joints, visible, clips.joints[clip], visible)
    there = found.presence[found.sought]
    seen = detected & (found.presence >= presence_threshold)
    pixels = np.array(clips.frames.shape[3:1:-1])
    hands, true_hands = (
        (joints * pixels).reshape(-1, 2, 21, 2)[seen]
        for joints in (found.joints, clips.joints[clip])
    )
    sizes = np.ptp(true_hands, axis=1).max(axis=1, keepdims=True)
    distances = np.linalg.norm(hands - true_hands, axis=2) / sizes
    return {
        "hs_err": error.hs_err,
        "joint_error": error.joint_error,
        "presence": float(there.mean()) if len(there) else math.nan,
        "hand_recall": float(seen.sum() / detected.sum()) if detected.any() else math.nan,
        "hand_distance": float(distances.mean()) if len(distances) else math.nan,
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
        scene = at_height(clips.frames[i, :1], SHOWN_HEIGHT)[0]
        for frames, mask in (
            (clips.frames[i], clips.masks[i]),
            (generated.frames[i], generated.areas[i]),
        ):
            area = mask_of_size(mask, scene.shape[:2])
            rows.append(clip_strip(at_height(frames, SHOWN_HEIGHT), scene, area))
    return stack(rows)


@dataclass(frozen=True)
class Pictures:
    """Files of one clip.

    Attributes:
        mp4: the real clip, and the generated one to the right of it.
        png: see `picture_with_hands`.
    """

    mp4: bytes
    png: bytes


def pictures(
    generated: Generated, clips: TrainingClips, clip: int, detector: HandDetector, fps: float
) -> Pictures:
    """Files that show one clip.

    Args:
        clip: index of the clip, generated and real.
        fps: frames a second of the video.
    """
    real = at_height(clips.frames[clip], SHOWN_HEIGHT)
    made = at_height(generated.frames[clip], SHOWN_HEIGHT)
    both = np.stack([strip([*pair]) for pair in zip(real, made, strict=True)])
    drawn = picture_with_hands(generated, clips, clip, detector)
    return Pictures(encode_mp4(both, fps), encode_png(drawn))


def picture_with_hands(
    generated: Generated, clips: TrainingClips, clip: int, detector: HandDetector
) -> NDArray[np.uint8]:
    """Two rows, each of the input picture with an area and of frames of the clip with its hands.

    Above the real clip: the true mask over all frames, then each frame's with the true joints.
    Below the generated one: the motion area, then what the detector takes for joints in the true
    hands' regions, whatever stands there.
    """
    found = hands_in_true_regions(generated.frames[clip], clips, clip, detector)
    still = at_height(clips.frames[clip, :1], SHOWN_HEIGHT)[0]
    rows = []
    for frames, area, joints, seen, masks in (
        (
            clips.frames[clip],
            clips.masks[clip],
            clips.joints[clip],
            clips.detected[clip],
            clips.frame_masks[clip],
        ),
        (
            generated.frames[clip],
            generated.areas[clip],
            found.joints,
            found.sought,
            np.zeros_like(clips.frame_masks[clip]),
        ),
    ):
        large = at_height(frames, FINE * SHOWN_HEIGHT)
        drawn = [
            draw_hands(frame, points, hands, mask_of_size(mask, frame.shape[:2]))
            for frame, points, hands, mask in zip(large, joints, seen, masks, strict=True)
        ]
        shown = at_height(np.stack(drawn), SHOWN_HEIGHT)
        rows.append(clip_strip(shown, still, mask_of_size(area, still.shape[:2])))
    return stack(rows)
