"""The hands in a finished clip, found with MediaPipe's networks."""

from __future__ import annotations

import io

import av
import numpy as np
import torch

from handi_model.hands import HandDetector
from serve.keypoints import FrameHands, Hand, Keypoints


def keypoints_in(detector: HandDetector, video: bytes) -> Keypoints:
    """Detect the hands on every frame of an MP4."""
    with av.open(io.BytesIO(video), "r") as container:
        fps = float(container.streams.video[0].average_rate or 1)
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    found = detector(torch.from_numpy(frames))
    joints, score = found.joints.cpu().double().numpy(), found.score.cpu().double().numpy()
    visible = found.visible.cpu().numpy()

    def hand(frame: int, side: int) -> Hand:
        own = joints[frame, 21 * side : 21 * side + 21].round(5)
        return Hand(
            handedness="right" if side else "left",
            score=round(float(score[frame, side]), 4),
            landmarks=[(x, y) for x, y in own.tolist()],
        )

    told = [
        FrameHands(
            time_s=round(index / fps, 4),
            hands=[hand(index, side) for side in (0, 1) if visible[index, 21 * side]],
        )
        for index in range(len(frames))
    ]
    return Keypoints(fps=fps, height=frames.shape[1], width=frames.shape[2], frames=told)
