"""Pictures of the evaluation's page: strips of frames, what moves where, figures with intervals."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.drawing import at_height, draw_hands, mask_of_size, strip

STRIP_HEIGHT = 192
"""Height of a frame in a strip, pixels: joints on smaller ones hide the hand."""
FRAMES_SHOWN = 6
"""Frames of a strip."""
STILL_PX = 0.5
"""Pixels a frame: the least flow that is drawn in full colour, so that noise stays pale."""
OUTLINE = (40, 40, 40)
LABEL = 24
"""Letters of a method's name that a chart shows."""
ORANGE, GREY = "#d98032", "#888888"
"""Colours of methods, and of floors and whatever else: they are read on white and on black."""


def shown_frames(count: int) -> list[int]:
    """Which of a clip's frames a strip shows: evenly spread, the first and the last among them."""
    return [int(i) for i in np.linspace(0, count - 1, min(FRAMES_SHOWN, count))]


def plain_strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames of a clip side by side.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
    """
    return strip([*at_height(frames[shown_frames(len(frames))], STRIP_HEIGHT)])


def hand_strip(
    frames: NDArray[np.uint8],
    joints: NDArray[np.float32] | None,
    detected: NDArray[np.bool_] | None,
    area: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """The same with the joints, and with the motion area on the first frame.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
        joints, detected: (L, 42, 2) normalised and (L, 2), see `SeenHands`; None where no hands
            were sought.
        area: (H, W) bool, or None where there is no such area.
    """
    shown = shown_frames(len(frames))
    large = at_height(frames[shown], STRIP_HEIGHT)
    size = (large.shape[1], large.shape[2])
    nowhere = np.zeros(size, bool)
    masks = [nowhere] * len(shown)
    if area is not None:
        masks[0] = mask_of_size(area, size)
    if joints is None or detected is None:
        joints, detected = (
            np.zeros((len(frames), 42, 2), np.float32),
            np.zeros((len(frames), 2), bool),
        )
    return strip(
        [
            draw_hands(frame, joints[i], detected[i], mask)
            for frame, i, mask in zip(large, shown, masks, strict=True)
        ]
    )


def mean_flow(flow: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean over time of (T, h, w, 2) optical flow: (h, w, 2), pixels a frame.

    It has the mean vector's direction and the vectors' mean length: what goes there and back, as a
    stirring hand or a flickering background does, would cancel out in the mean vector alone.
    """
    mean = np.asarray(flow, np.float64).mean(axis=0)
    length = np.linalg.norm(mean, axis=-1, keepdims=True)
    strength = np.linalg.norm(np.asarray(flow, np.float64), axis=-1).mean(axis=0)[..., None]
    return np.asarray(strength * mean / np.maximum(length, 1e-9))


def full_colour(mean: NDArray[np.floating]) -> float:
    """The length that is to be drawn in full colour, pixels a frame: what few pixels exceed.

    Args:
        mean: (h, w, 2), of the real clip.
    """
    return max(float(np.percentile(np.linalg.norm(mean, axis=-1), 99)), STILL_PX)


def flow_colours(mean: NDArray[np.floating], full: float) -> NDArray[np.uint8]:
    """Colour a flow field: (h, w, 3) uint8 RGB; what stands still is white.

    Hue is direction, and opposite directions have opposite hues: right is red, left cyan.
    Saturation is length, as in Baker et al. 2011, "A Database and Evaluation Methodology for
    Optical Flow".

    Args:
        mean: (h, w, 2), x to the right and y downwards.
        full: length from which on the colour is full.
    """
    degrees = np.degrees(np.arctan2(mean[..., 1], mean[..., 0])) % 360
    saturation = np.clip(np.linalg.norm(mean, axis=-1) / full, 0, 1)
    hsv = np.stack([degrees, saturation, np.ones_like(degrees)], axis=-1).astype(np.float32)
    return np.round(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An (H, W, 3) picture with a mask's outline and no tint, which would change its colours.

    Args:
        mask: of any size; it is scaled to the picture.
    """
    canvas = picture.copy()
    scaled = mask_of_size(mask, picture.shape[:2]).astype(np.uint8)
    lines, _ = cv2.findContours(scaled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, lines, -1, OUTLINE, 2, cv2.LINE_AA)
    return canvas


def colour_wheel(side: int) -> NDArray[np.uint8]:
    """The legend of `flow_colours`: (side, side, 3); each place has the colour of its direction."""
    ends = np.linspace(-1, 1, side)
    return flow_colours(np.stack(np.meshgrid(ends, ends), axis=-1), 1.0)


@dataclass(frozen=True)
class Whisker:
    """A method's figure in a chart.

    Attributes:
        low, high: the interval's ends; NaN without one.
        floor: whether it is a floor or a ceiling and no competitor.
    """

    label: str
    value: float
    low: float
    high: float
    floor: bool


def whiskers(title: str, rows: Sequence[Whisker]) -> bytes:
    """A PNG of dots with their intervals, the first row on top, without a ground of its own."""
    figure = Figure(figsize=(4.6, 0.8 + 0.26 * len(rows)), dpi=160, layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        colour = GREY if row.floor else ORANGE
        fill = "none" if row.floor else "full"
        if math.isfinite(row.low):
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8)
        axis.plot(row.value, place, "o", color=colour, markersize=6, fillstyle=fill)
    labels = [row.label[:LABEL] + "…" * (len(row.label) > LABEL) for row in rows]
    axis.set_yticks(range(len(rows)), labels, parse_math=False)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(title, color=GREY)
    axis.grid(axis="x", color=GREY, alpha=0.25)
    axis.tick_params(colors=GREY)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GREY)
    canvas = io.BytesIO()
    figure.savefig(canvas, format="png", transparent=True)
    return canvas.getvalue()
