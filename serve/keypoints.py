"""The hands' joints in a clip, as the service tells them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Hand(BaseModel):
    handedness: Literal["left", "right"] = Field(description="The wearer's own.")
    score: float = Field(description="Presence, from 0 to 1.")
    landmarks: list[tuple[float, float]] = Field(
        description="21 joints in MediaPipe's order: x, y from 0 to 1 of the frame.",
        min_length=21,
        max_length=21,
    )


class FrameHands(BaseModel):
    time_s: float
    hands: list[Hand]


class Keypoints(BaseModel):
    """The hands' joints in each frame of a clip."""

    fps: float
    height: int
    width: int
    frames: list[FrameHands]
