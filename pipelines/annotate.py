"""What happens to a clip's frames between decoding and writing, in one process.

Hands, camera, fit, masks and encoding are steps over one clip. They share a process so that raw
frames cross the object store once; each is a function of its own that knows nothing of Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from handi_model.masks import hand_hull_mask, union_mask
from pipelines.camera import CameraPath, measure_path, move_joints, stabilize
from pipelines.frames import Fit, encode_jpeg, encode_mask
from pipelines.handedness import assign_slots, interpolate
from pipelines.hands import HandTracker
from pipelines.records import Outcome, Problem
from pipelines.settings import PreprocessSettings
from pipelines.shots import shot_filter
from pipelines.video import DecodedClip

MIN_JOINTS_INSIDE = 11
"""A hand counts in the stored frame when more than half of its 21 joints lie inside."""


@dataclass(frozen=True)
class HandTrack:
    """A clip's hands.

    Attributes:
        joints: (L, 42, 2) float32, normalised to the frame, zeros where undetected.
        detected: (L, 2) bool, left and right.
        score: (L, 2) float32.
        reassigned: share of the frames that were searched in which MediaPipe's labels alone would
            have given other hands (`handedness.Slots`), [0, 1].
    """

    joints: NDArray[np.float32]
    detected: NDArray[np.bool_]
    score: NDArray[np.float32]
    reassigned: float = 0.0

    @property
    def rate(self) -> float:
        """Share of frames with a hand."""
        return float(self.detected.any(axis=1).mean())

    def within_frame(self) -> HandTrack:
        """Drop the hands that lie outside the frame for the most part."""
        inside = ((self.joints >= 0) & (self.joints <= 1)).all(axis=2).reshape(-1, 2, 21)
        kept = self.detected & (inside.sum(axis=2) >= MIN_JOINTS_INSIDE)
        joints = np.where(np.repeat(kept, 21, axis=1)[..., None], self.joints, 0)
        score = np.where(kept, self.score, 0)
        return replace(self, joints=joints.astype(np.float32), detected=kept, score=score)


@dataclass(frozen=True)
class Take:
    """A clip's frames, as filmed or stabilized, and what is in them.

    Attributes:
        frames: (L, h, w, 3) uint8.
        valid: (h, w) bool, pixels that every frame saw.
        hands: normalised to these frames.
        path: the camera's, in these frames.
    """

    frames: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    hands: HandTrack
    path: CameraPath

    def stabilized(self) -> Take:
        """Every frame warped onto the first; the path must be complete."""
        frames, seen = stabilize(self.frames, self.path)
        hands = replace(self.hands, joints=move_joints(self.hands.joints, self.path))
        path = measure_path(frames, hands.joints, hands.detected, to_first=False, seen=seen)
        return Take(frames, np.asarray(seen.all(axis=0)), hands, path)

    def hands_in(self, fit: Fit) -> HandTrack:
        """The hands normalised to the stored square, without those that lie outside."""
        return replace(self.hands, joints=fit.joints(self.hands.joints)).within_frame()


@dataclass
class StageTimes:
    """Seconds spent in each step of one clip."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class Annotator:
    """Turns a decoded clip into its row of the data set. One a process: it owns a detector."""

    def __init__(self, settings: PreprocessSettings, model: bytes, detector_name: str) -> None:
        # One actor is one core's work: OpenCV's own threads would only compete.
        cv2.setNumThreads(1)
        self.settings = settings
        self.detector_name = detector_name
        self.tracker = HandTracker(
            model, settings.detector_confidence, settings.clip_deadline_s, settings.recycle_after
        )

    def __call__(self, decoded: DecodedClip, times: StageTimes) -> Outcome:
        """Annotate one clip; whatever goes wrong is this clip's outcome."""
        stage = "shots"
        try:
            with times.stage(stage):
                filtered = shot_filter(decoded, self.settings)
            if filtered:
                return filtered
            stage = "hands"
            with times.stage(stage):
                hands = find_hands(decoded.frames, self.tracker, self.settings.detection_stride)
            stage = "camera"
            with times.stage(stage):
                path = measure_path(
                    decoded.frames, hands.joints, hands.detected, self.settings.stabilize
                )
            stage = "encode"
            with times.stage(stage):
                return assemble(decoded, hands, path, self.settings, self.detector_name)
        except Exception as error:
            return Outcome.failed(Problem.of(decoded.clip, stage, error))


def find_hands(frames: NDArray[np.uint8], tracker: HandTracker, stride: int) -> HandTrack:
    """Detect hands on every `stride`-th of (L, h, w, 3) frames, and interpolate between."""
    height, width = frames.shape[1:3]
    slots = assign_slots(tracker(frames[::stride]), width / height)
    if stride > 1:
        slots = interpolate(slots, len(frames), stride)
    return HandTrack(slots.joints, slots.detected, slots.score, slots.reassigned)


def assemble(
    decoded: DecodedClip,
    hands: HandTrack,
    path: CameraPath,
    settings: PreprocessSettings,
    detector_name: str,
) -> Outcome:
    """Fit frames and joints to the stored square, fill the masks, and encode the row.

    Clips that do not keep a bound of the settings come out as filtered, those without hands
    before those whose camera moves: what is wrong as filmed comes before what warping left.
    """
    clip, size = decoded.clip, settings.resolution
    height, width = decoded.frames.shape[1:3]
    fit = Fit.of(height, width, size, settings.fit)
    filmed = Take(decoded.frames, np.ones((height, width), bool), hands, path)
    hands = filmed.hands_in(fit)
    if hands.rate < settings.min_hand_rate:
        return Outcome.filtered(clip, "min_hand_rate", hands.rate)

    stored = filmed
    if settings.stabilize and path.complete:
        warped = filmed.stabilized()
        warped_hands = warped.hands_in(fit)
        keeps_hands = warped_hands.rate >= settings.min_hand_rate
        if warped.path.is_stiller_than(path) and keeps_hands:
            stored, hands = warped, warped_hands
    short_side = min(fit.width, fit.height)
    camera_motion, residual_motion = path.motion(short_side), stored.path.motion(short_side)
    limit = settings.max_camera_motion
    if limit is not None and (residual_motion is None or residual_motion > limit):
        return Outcome.filtered(clip, "max_camera_motion", residual_motion)

    visible = np.repeat(hands.detected, 21, axis=1)
    pairs = zip(hands.joints, visible, strict=True)
    frame_masks = np.stack([hand_hull_mask(j, v, size, size) for j, v in pairs])
    mask = union_mask(frame_masks)
    stored_valid = fit.image(stored.valid.astype(np.uint8) * 255) == 255
    quality = settings.jpeg_quality
    return Outcome(
        "clips",
        {
            **asdict(clip),
            "frames": [encode_jpeg(fit.image(frame), quality) for frame in stored.frames],
            "frame_times_s": decoded.frame_times_s.tolist(),
            "keypoints": hands.joints.tolist(),
            "hand_detected": hands.detected.tolist(),
            "hand_score": hands.score.tolist(),
            "hands_reassigned": hands.reassigned,
            "mask": encode_mask(mask),
            "frame_masks": [encode_mask(frame_mask) for frame_mask in frame_masks],
            "mask_area": float(mask.mean()),
            "hand_rate": hands.rate,
            "camera_motion": camera_motion,
            "residual_motion": residual_motion,
            "stabilized": stored is not filmed,
            "valid_mask": encode_mask(stored_valid),
            "valid_area": float(stored_valid.mean()),
            "height": size,
            "width": size,
            "fps_source": decoded.fps_source,
            "detector": detector_name,
        },
    )
