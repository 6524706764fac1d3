"""A clip's way into training: where it lies, and its arrays.

Tasks that load clips import this, and need neither torch nor what takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.clip_content import CONTENT
from pipelines.clip_index import ClipIndex
from pipelines.frames import decode_jpeg, decode_mask
from pipelines.latents import LatentIndex, as_array
from pipelines.parquet_rows import Place, read_row
from pipelines.training_clips import TrainingClips


def reference(index: ClipIndex, clip: int, latents: LatentIndex | None) -> dict[str, Any]:
    """All that a task needs to load a clip: small, and flat.

    Args:
        clip: its index in `index`.
        latents: cached ones, of every clip, or None.
    """
    clip_id, narration, content = (
        names[clip] for names in (index.clip_ids, index.narrations, index.contents)
    )
    places = {"clip": index.places[clip]}
    if latents is not None:
        places |= {"latent": latents.clips[content], "text": latents.texts[narration]}
    flat = {
        f"{what}_{name}": getattr(place, name)
        for what, place in places.items()
        for name in ("url", "row_group", "row")
    }
    return {"clip_id": clip_id, "narration": narration, CONTENT: content, **flat}


def load_clip(ref: dict[str, Any]) -> dict[str, Any]:
    """The clip that a reference stands for.

    Returns:
        `frame_masks` (L, H, W) bool, `joints` (L, 42, 2) float32, `detected` (L, 2) bool, and with
        cached latents `video_latent`, `mask_latent` (C, L, h, w) and `text` (T, D) in float16,
        without them `frames` (L, H, W, 3) uint8 and the `narration`.
    """
    cached = "latent_url" in ref
    columns = ["frame_masks", "keypoints", "hand_detected", *([] if cached else ["frames"])]
    row = _row(ref, "clip", columns)
    arrays: dict[str, Any] = {
        "frame_masks": np.stack([decode_mask(mask) for mask in row["frame_masks"]]),
        "joints": np.array(row["keypoints"], np.float32),
        "detected": np.array(row["hand_detected"], bool),
    }
    if not cached:
        frames = np.stack([decode_jpeg(frame) for frame in row["frames"]])
        return {**arrays, "frames": frames, "narration": ref["narration"]}
    latent = _row(ref, "latent", ["video_latent", "mask_latent", "shape"])
    text = _row(ref, "text", ["embedding", "shape"])
    return {
        **arrays,
        "video_latent": as_array(latent["video_latent"], latent["shape"]),
        "mask_latent": as_array(latent["mask_latent"], latent["shape"]),
        "text": as_array(text["embedding"], text["shape"]),
    }


def clips_of(index: ClipIndex, clips: Sequence[int]) -> TrainingClips:
    """Some clips of a data set, each read alone.

    Args:
        clips: their indices in `index`, at least one.
    """
    loaded = [load_clip(reference(index, clip, None)) for clip in clips]
    return TrainingClips(
        clip_ids=[index.clip_ids[clip] for clip in clips],
        narrations=[index.narrations[clip] for clip in clips],
        **{
            name: np.stack([clip[name] for clip in loaded])
            for name in ("frames", "frame_masks", "joints", "detected")
        },
    )


def _row(ref: dict[str, Any], what: str, columns: list[str]) -> dict[str, Any]:
    place = Place(ref[f"{what}_url"], ref[f"{what}_row_group"], ref[f"{what}_row"])
    return read_row(place.url, place.row_group, place.row, columns)
