"""A preprocessed data set of rendered clips, made without Ray or MediaPipe: the joints are true."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from handi_model.masks import hand_hull_mask
from pipelines.dataset import write_table
from pipelines.frames import decode_mask, encode_jpeg, encode_mask
from pipelines.records import WRITTEN, Clip
from pipelines.rendered import CLIPS, true_joints
from pipelines.video import DecodedClip, decode_clips


def rendered_dataset(
    folder: Path, clip_ids: list[str], frames: int = 4, side: int = 64, split: str = ""
) -> str:
    """Write clips as preprocessing would; columns that no job behind it reads are empty."""
    rows = [_row(clip_id, frames, side) | {"split": split} for clip_id in clip_ids]
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{folder}/clips")
    masks = [decode_mask(row["mask"]) for row in rows]
    np.save(folder / "prior.npy", np.mean(masks, axis=0, dtype=np.float32))
    return str(folder)


def _row(clip_id: str, frames: int, side: int) -> dict:
    video = str(CLIPS / f"{clip_id}.mp4")
    clip = Clip(clip_id, "folder", "", video, 0.0, None, clip_id)
    decoded = next(iter(decode_clips(video, [clip], frames, 256)))
    assert isinstance(decoded, DecodedClip)
    truth = true_joints()[clip_id]
    joints = truth[np.linspace(0, len(truth) - 1, frames).astype(int)]
    detected = np.isfinite(joints).all(axis=2).reshape(frames, 2, 21).all(axis=2)
    joints = np.nan_to_num(joints)
    visible = np.repeat(detected, 21, axis=1)
    pairs = zip(joints, visible, strict=True)
    masks = [hand_hull_mask(one, shown, side, side) for one, shown in pairs]
    small = [cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA) for f in decoded.frames]
    mask = np.any(masks, axis=0)
    return dict.fromkeys(WRITTEN.names) | {
        **asdict(decoded.clip),
        "narration": clip_id.rsplit("_", 1)[0].replace("_", " "),
        "frames": [encode_jpeg(frame, 95) for frame in small],
        "frame_times_s": decoded.frame_times_s.tolist(),
        "frame_masks": [encode_mask(one) for one in masks],
        "mask": encode_mask(mask),
        "mask_area": float(mask.mean()),
        "keypoints": joints.tolist(),
        "hand_detected": detected.tolist(),
        "hand_rate": float(detected.any(axis=1).mean()),
        "height": side,
        "width": side,
        "detector": "the renderer",
    }
