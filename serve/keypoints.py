"""The hands' joints in a finished clip."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import torch

from handi_model.hands import HandDetector


def keypoints_json(detector: HandDetector, video: bytes) -> bytes:
    """Detect the hands on every frame of an MP4.

    Returns:
        JSON: `fps`, `height`, `width` and `frames`; a frame has `time_s` and `hands`, each with
        `handedness` (`left` or `right`, the wearer's own), `score` and 21 `landmarks` [x, y] in
        MediaPipe's order, in [0, 1] of the frame.
    """
    with av.open(io.BytesIO(video), "r") as container:
        fps = float(container.streams.video[0].average_rate or 1)
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    found = detector(torch.from_numpy(frames))
    joints, score = found.joints.cpu().numpy(), found.score.cpu().numpy()
    visible = found.visible.cpu().numpy()

    def hand(frame: int, side: int) -> dict[str, object]:
        own = slice(21 * side, 21 * side + 21)
        return {
            "handedness": ("left", "right")[side],
            "score": round(float(score[frame, side]), 4),
            "landmarks": joints[frame, own].astype(float).round(5).tolist(),
        }

    told = [
        {
            "time_s": round(index / fps, 4),
            "hands": [hand(index, side) for side in (0, 1) if visible[index, 21 * side]],
        }
        for index in range(len(frames))
    ]
    height, width = frames.shape[1:3]
    return json.dumps({"fps": fps, "height": height, "width": width, "frames": told}).encode()
