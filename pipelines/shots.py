"""Whether a clip is one take that shows something all along. Measured on the frames alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.camera import homography_between, tracking_frame
from pipelines.records import Outcome
from pipelines.settings import PreprocessSettings
from pipelines.video import DecodedClip

THUMBNAIL = (64, 36)
"""Width and height on which frames are compared as wholes: noise averages out, shapes stay."""
BLANK_CONTRAST = 1.0
"""A frame shows nothing below this contrast, grey levels of 255. A kitchen at a tenth of its
brightness has 1.4 and more; black, a plain colour, sensor noise and a covered lens have less."""
SHADING = 4.0
"""Standard deviation of the Gaussian that takes away what is only shading, thumbnail pixels."""
SAME_VIEW = 0.65
"""Correlation above which shifted thumbnails show one scene, where the shift may have brought so
many new colours into view: of 1,000 pairs of frames from different clips fewer than one lies above,
of motion-blurred turns by a third of the frame 98 in 100."""
SAME_SHAPES = 0.85
"""Correlation above which they do whatever became of the colours: the light has changed."""
NOISE = 0.15
"""Share of its colours that a scene changes on top of what moves in and out of view."""
MAX_SHIFT = 0.375
"""Share of the thumbnail by which a scene is sought to have shifted."""
OCCLUSION = 2
"""Frames for which something may hide the scene (a hand passing the lens) without it being cut."""


def blank_frames(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of (L, h, w, 3) RGB frames show nothing: black, of one colour, or a covered lens.

    A frame is blank if its thumbnail varies about its own shading (the thumbnail blurred) by less
    than `BLANK_CONTRAST`, root mean square. A dark scene is not blank.
    """
    grey = [
        _thumbnail(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)).astype(np.float32) for frame in frames
    ]
    detail = [thumbnail - cv2.GaussianBlur(thumbnail, (0, 0), SHADING) for thumbnail in grey]
    return np.array([d.std() < BLANK_CONTRAST for d in detail])


def greatest_cut(frames: NDArray[np.uint8], limit: float) -> float | None:
    """Look for hard cuts in (L, h, w, 3) RGB frames of one clip; blank frames are left out.

    Two frames differ by the share of their colours that they do not have in common (one less the
    intersection of their histograms, 8 x 8 x 8 bins of CIELAB; Swain and Ballard 1991), in [0, 1].
    Neighbours that differ by more than `limit` are a cut unless one scene is seen before and
    after: its points move by a homography, or its thumbnail has shifted (a turn so fast that
    features blur). Light that changes alters neither.

    Returns:
        The greatest difference at a cut, or None where there is no cut.
    """
    shown = frames[~blank_frames(frames)]
    colours = [_colours(frame) for frame in shown]

    def difference(a: int, b: int) -> float:
        return float(1 - np.minimum(colours[a], colours[b]).sum())

    def one_scene(a: int, b: int) -> bool:
        if difference(a, b) <= limit:
            return True
        before, after = tracking_frame(shown[a]), tracking_frame(shown[b])
        if _has_shifted(before, after, difference(a, b)):
            return True
        return homography_between(before, after) is not None

    steps = [(difference(k, k + 1), k) for k in range(len(shown) - 1)]
    for value, k in sorted((step for step in steps if step[0] > limit), reverse=True):
        around = [
            (a, b)
            for length in range(1, OCCLUSION + 2)
            for a in range(max(k + 1 - length, 0), k + 1)
            if (b := a + length) < len(shown)
        ]
        if not any(one_scene(a, b) for a, b in around):
            return value
    return None


def shot_filter(decoded: DecodedClip, settings: PreprocessSettings) -> Outcome | None:
    """Filter a clip that shows nothing for too long, or more than one take."""
    if settings.max_blank is not None:
        share = float(blank_frames(decoded.frames).mean())
        if share > settings.max_blank:
            return Outcome.filtered(decoded.clip, "max_blank", share)
    if settings.max_cut is not None:
        cut = greatest_cut(decoded.frames, settings.max_cut)
        if cut is not None:
            return Outcome.filtered(decoded.clip, "max_cut", cut)
    return None


def _thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(grey.astype(np.float32), THUMBNAIL, interpolation=cv2.INTER_AREA))


def _colours(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(512,) shares of the frame's colours, sum 1."""
    lab = cv2.cvtColor(
        cv2.resize(frame, (128, 72), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB
    )
    histogram = cv2.calcHist([lab], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel()
    return np.asarray(histogram / histogram.sum())


def _has_shifted(before: NDArray[np.uint8], after: NDArray[np.uint8], difference: float) -> bool:
    """Whether two grey frames, whose colours differ so much, correlate when shifted."""
    a, b = _thumbnail(before), _thumbnail(after)
    width, height = THUMBNAIL
    reach_x, reach_y = (int(MAX_SHIFT * side) // 2 for side in THUMBNAIL)
    shifts = [
        (2 * dy, 2 * dx)
        for dy in range(-reach_y, reach_y + 1)
        for dx in range(-reach_x, reach_x + 1)
    ]
    for dy, dx in sorted(shifts, key=lambda shift: np.hypot(*shift)):
        x = a[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        y = b[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
        x, y = x - x.mean(), y - y.mean()
        power = float(np.sqrt((x * x).sum() * (y * y).sum()))
        correlation = float((x * y).sum()) / power if power else 0.0
        new_in_view = 1 - x.size / a.size
        if correlation > SAME_SHAPES or (
            correlation > SAME_VIEW and difference <= new_in_view + NOISE
        ):
            return True
    return False
