"""Training pictures of the tiny autoencoder: crops of frames, drawn scenes and hand masks.

A handful of clips shows few colours and few edges. Every picture is therefore cropped, recoloured
and pasted into others at random, so that the autoencoder learns pictures and not those clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating[Any]]
"""(side, side, 3) RGB in [0, 1]."""

MASK_SHARE = 0.2
DRAWN_SHARE = 0.15
PASTED_SHARE = 0.3


def training_batch(
    clips: Sequence[NDArray[np.uint8]], count: int, side: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw pictures of all kinds.

    Args:
        clips: each (L, h, w, 3) uint8 RGB; sizes may differ between clips.
        count: pictures to draw.
        side: their height and width, pixels.
        rng: source of every choice.

    Returns:
        (count, 3, side, side) float32 in [-1, 1].
    """
    pictures = [_any_picture(clips, side, rng) for _ in range(count)]
    batch = np.stack(pictures).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(batch * 2 - 1, dtype=np.float32)


def crop_picture(
    clips: Sequence[NDArray[np.uint8]], side: int, rng: np.random.Generator
) -> Picture:
    """A recoloured crop of a frame, between the whole frame and one `side` pixels wide."""
    frames = clips[int(rng.integers(len(clips)))]
    frame = frames[rng.integers(len(frames))]
    height, width = frame.shape[:2]
    if rng.random() < 0.35:
        crop = _whole(frame, squash=rng.random() < 0.5)
    else:
        tall = int(rng.integers(min(side, height), height + 1))
        wide = min(int(tall * np.exp(rng.uniform(-0.35, 0.35))), width)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        crop = frame[top : top + tall, left : left + wide]
    picture = shrink(crop, side).astype(np.float32) / 255
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.2:
        picture = picture[::-1]
    return recolour(picture, rng) if rng.random() < 0.75 else np.ascontiguousarray(picture)


def shrink(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize to (side, side, 3), averaging over what each new pixel covers."""
    large = min(frame.shape[:2]) >= side
    how = cv2.INTER_AREA if large else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (side, side), interpolation=how))


def recolour(picture: Picture, rng: np.random.Generator) -> Picture:
    """Change channel order, hue, saturation, contrast and brightness."""
    if rng.random() < 0.3:
        picture = picture[..., rng.permutation(3)]
    grey = picture.mean(axis=-1, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.2, 1.8)
    picture = picture * rng.uniform(0.75, 1.25, 3)  # a cast of light
    picture = (picture - 0.5) * np.exp(rng.uniform(-0.5, 0.5)) + 0.5 + rng.uniform(-0.25, 0.25)
    return np.clip(picture, 0, 1).astype(np.float32)


def drawn_picture(side: int, rng: np.random.Generator) -> Picture:
    """A smooth gradient with polygons, stripes and grain: edges and colours no clip shows."""
    knots = rng.random((rng.integers(2, 5), rng.integers(2, 5), 3)).astype(np.float32)
    picture: Picture = cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 7)):
        shape = hull_mask(side, rng)[..., None]
        picture = picture * (1 - shape) + _paint(side, rng) * shape
    return np.clip(picture, 0, 1).astype(np.float32)


def hull_mask(side: int, rng: np.random.Generator, binary: bool = False) -> Picture:
    """A filled convex hull of random points, (side, side) in [0, 1].

    With `binary` every pixel is 0 or 1, as in a hand mask; otherwise the border is smooth.
    """
    centre, reach = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.04, 0.4, 2)
    points = centre + rng.normal(size=(rng.integers(3, 22), 2)) * reach * 0.6
    hull = cv2.convexHull(np.round(points * side * 16).astype(np.int32))
    mask = np.zeros((side, side), np.uint8)
    line = cv2.LINE_8 if binary else cv2.LINE_AA
    cv2.fillConvexPoly(mask, hull, 255, line, shift=4)
    return (mask / 255).astype(np.float32)


def mask_picture(side: int, rng: np.random.Generator) -> Picture:
    """A binary mask as a grey picture: no hull, one, or the union of several."""
    hulls = rng.choice([0, 1, 2, 3, 5], p=[0.1, 0.3, 0.3, 0.15, 0.15])
    mask = np.zeros((side, side), np.float32)
    if hulls:
        first = hull_mask(side, rng, binary=True)
        mask = np.maximum(mask, first)
    for _ in range(int(hulls) - 1):
        # The union over time of a moving hand: the same hull somewhere near, or another hand.
        if rng.random() < 0.5:
            shift = np.array([[1, 0, rng.normal(0, 6)], [0, 1, rng.normal(0, 6)]])
            moved = cv2.warpAffine(first, shift, (side, side), flags=cv2.INTER_NEAREST)
        else:
            moved = hull_mask(side, rng, binary=True)
        mask = np.maximum(mask, moved)
    return np.repeat(mask[..., None], 3, axis=-1)


def _any_picture(
    clips: Sequence[NDArray[np.uint8]], side: int, rng: np.random.Generator
) -> Picture:
    kind = rng.random()
    if kind < MASK_SHARE:
        return mask_picture(side, rng)
    if kind < MASK_SHARE + DRAWN_SHARE:
        return drawn_picture(side, rng)
    picture = crop_picture(clips, side, rng)
    if rng.random() < PASTED_SHARE:
        shape = hull_mask(side, rng)[..., None]
        picture = picture * (1 - shape) + crop_picture(clips, side, rng) * shape
    return picture


def _paint(side: int, rng: np.random.Generator) -> Picture:
    """One colour, with stripes or grain at times."""
    paint = np.broadcast_to(rng.random(3).astype(np.float32), (side, side, 3))
    kind = rng.random()
    if kind < 0.3:
        y, x = np.mgrid[:side, :side] / side
        turn, rate = rng.uniform(0, 2 * np.pi), rng.uniform(2, 14) * 2 * np.pi
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * rate + rng.uniform(0, 6))
        return paint + (wave[..., None] * rng.uniform(-0.3, 0.3, 3)).astype(np.float32)
    if kind < 0.6:
        cells = int(rng.integers(8, side + 1))
        grain = rng.normal(0, rng.uniform(0.02, 0.2), (cells, cells, 1)).astype(np.float32)
        grain = cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
        return paint + grain[..., None]
    return paint


def _whole(frame: NDArray[np.uint8], squash: bool) -> NDArray[np.uint8]:
    """The frame, or its central square."""
    if squash:
        return frame
    height, width = frame.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return frame[top : top + short, left : left + short]
