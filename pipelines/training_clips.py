"""Clips of the preprocessed data set as arrays that fit in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.dataset import read_columns, read_rows
from pipelines.frames import decode_jpeg, decode_mask
from pipelines.records import one_line
from pipelines.storage import join


class DatasetError(ValueError):
    """The data set cannot serve; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class TrainingClips:
    """B clips of L frames.

    Attributes:
        clip_ids, narrations: B strings.
        frames: (B, L, H, W, 3) uint8 RGB.
        frame_masks: (B, L, H, W) bool.
        joints: (B, L, 42, 2) float32, normalised to the frame.
        detected: (B, L, 2) bool, left and right hand.
    """

    clip_ids: list[str]
    narrations: list[str]
    frames: NDArray[np.uint8]
    frame_masks: NDArray[np.bool_]
    joints: NDArray[np.float32]
    detected: NDArray[np.bool_]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(B, H, W): union over the frames."""
        return np.asarray(self.frame_masks.any(axis=1))


def read_training_clips(data: str, clip_ids: list[str], resolution: int) -> TrainingClips:
    """Read clips of a preprocessed data set.

    Args:
        data: URL of the output of preprocessing.
        clip_ids: which; all where the list is empty.
        resolution: side that the frames must have, pixels.

    Raises:
        DatasetError: if there are no such clips, or they have another size or differ in length.
    """
    try:
        known = read_columns(join(data, "clips"), ["clip_id"])["clip_id"].to_pylist()
    except Exception as error:  # each storage has its own
        raise DatasetError(f"data: {data} cannot be read: {one_line(error)}") from None
    if not known:
        raise DatasetError(f"data: {data} holds no clips; give the output of jobs/preprocess.py")
    missing = sorted(set(clip_ids) - set(known))
    if missing:
        raise DatasetError(
            f"clips: {missing[0]!r} is not in {data}, which has {', '.join(known[:8])}"
        )
    rows = read_rows(data, clip_ids or known)
    for height, width in {(row["height"], row["width"]) for row in rows}:
        if (height, width) != (resolution, resolution):
            raise DatasetError(
                f"data: {data} has frames of {width}x{height} pixels, and the model's are "
                f"{resolution}x{resolution}; preprocess with --resolution {resolution}"
            )
    if len(lengths := {len(row["frames"]) for row in rows}) > 1:
        raise DatasetError(f"data: clips of {data} differ in length: {sorted(lengths)} frames")
    return TrainingClips(
        clip_ids=[row["clip_id"] for row in rows],
        narrations=[row["narration"] for row in rows],
        frames=np.stack([[decode_jpeg(frame) for frame in row["frames"]] for row in rows]),
        frame_masks=np.stack([[decode_mask(m) for m in row["frame_masks"]] for row in rows]),
        joints=np.array([row["keypoints"] for row in rows], np.float32),
        detected=np.array([row["hand_detected"] for row in rows], bool),
    )
