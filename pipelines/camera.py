"""Camera motion: how far a head-worn camera moves the still scene, and how to undo it.

The motion between two frames is a homography fitted to the background outside the hands. It is
exact for a camera that turns, and for a flat scene; what neither covers (parallax) is left to the
robust fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

TRACKING_SIDE = 256
"""Motion is fitted on grey frames of this short side, pixels."""
MIN_INLIERS = 16
"""A homography has 8 unknowns, two equations a point: fewer inliers are chance."""
REPROJECTION_PX = 1.0
"""A point within this distance of its prediction agrees with the homography."""
CORNERS = 200
"""Points followed from each frame; a homography needs 4, a robust one many."""
JUMP = 2.0
"""A stabilized clip's greatest step against the greatest as filmed: what noise may make of it."""
WINDOW, LEVELS = (15, 15), 4
"""Of the image pyramids: a point may move half a window on the coarsest level, 112 pixels."""
PRECISION = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.02)
"""A point has settled after so many rounds, or when it moves less than so many pixels."""


@dataclass(frozen=True)
class CameraPath:
    """The camera's motion over a clip.

    Attributes:
        to_first: (L, 3, 3) float64; maps pixels of frame k, normalised to [0, 1] across width and
            height, to where the same background point lies in frame 0. NaN where unknown, and
            beyond frame 0 unless the path was asked for.
        step: (L-1,) float64; median displacement of the background between neighbouring frames,
            in pixels of a frame whose short side is `TRACKING_SIDE`. NaN where unknown.
    """

    to_first: NDArray[np.float64]
    step: NDArray[np.float64]

    def motion(self, short_side: float) -> float | None:
        """Median displacement, pixels per frame where the short side has this many pixels.

        None if fewer than half of the steps could be measured.
        """
        known = self.step[np.isfinite(self.step)]
        if len(self.step) and len(known) * 2 < len(self.step):
            return None
        return float(np.median(known) * short_side / TRACKING_SIDE) if len(known) else 0.0

    def is_stiller_than(self, other: CameraPath) -> bool:
        """Whether every step is known, the median is smaller, and no step `JUMP` times as large.

        The median alone would pass a path with one wrong frame, at which the picture jumps.
        """
        known = bool(np.isfinite(self.step).all())
        return known and bool(
            np.median(self.step) < np.nanmedian(other.step)
            and self.step.max() <= JUMP * np.nanmax(other.step)
        )

    @property
    def complete(self) -> bool:
        """Whether every frame could be tied to the first."""
        return bool(np.isfinite(self.to_first).all())


def measure_path(
    frames: NDArray[np.uint8],
    joints: NDArray[np.float32],
    detected: NDArray[np.bool_],
    to_first: bool = True,
    seen: NDArray[np.bool_] | None = None,
) -> CameraPath:
    """Fit the camera's path to the background of a clip.

    Args:
        frames: (L, h, w, 3) uint8 RGB.
        joints: (L, 42, 2) normalised to the frame.
        detected: (L, 2) bool, left and right hand.
        to_first: whether to tie every frame to the first, which costs as much again.
        seen: (L, h, w), pixels that belong to their frame, all by default: what `stabilize` lends
            a frame from the first one stands still whatever the frame does.
    """
    grey = [tracking_frame(frame) for frame in frames]
    size = (grey[0].shape[1], grey[0].shape[0])
    still = [_background(size, j, d) for j, d in zip(joints, detected, strict=True)]
    if seen is not None:
        still = [_own(size, s, v) for s, v in zip(still, seen, strict=True)]
    corners = [_corners(g, m) for g, m in zip(grey, still, strict=True)]
    unit = np.diag([size[0], size[1], 1.0])
    lattice = _lattice(size)

    path = np.full((len(frames), 3, 3), np.nan)
    step = np.full(max(len(frames) - 1, 0), np.nan)
    path[0] = np.eye(3)
    for k in range(1, len(frames)):
        # The fit runs from the earlier frame to the later one: its corners are already known.
        forward = _between(grey[k - 1], grey[k], corners[k - 1], still[k - 1], still[k])
        if forward is None:
            continue
        step[k - 1] = np.median(np.linalg.norm(_apply(forward, lattice) - lattice, axis=1))
        chained = path[k - 1] @ np.linalg.inv(forward)
        if to_first and _is_view(chained, size):
            path[k] = _against_first(grey[0], corners[0], grey[k], still[k], chained)
    normalised = np.linalg.inv(unit) @ path @ unit
    return CameraPath(normalised / normalised[:, 2:, 2:], step)


def homography_between(
    source: NDArray[np.uint8], target: NDArray[np.uint8]
) -> NDArray[np.float64] | None:
    """The (3, 3) motion of most points from one `tracking_frame` to another, None if there is none.

    Nothing is left out: where hands fill most of the picture, it may be theirs.
    """
    everywhere = np.full(source.shape, 255, np.uint8)
    return _between(source, target, _corners(source, everywhere), everywhere, everywhere)


def tracking_frame(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) RGB -> grey, with a short side of `TRACKING_SIDE`."""
    scale = TRACKING_SIDE / min(frame.shape[:2])
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def stabilize(
    frames: NDArray[np.uint8], path: CameraPath
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Warp every frame onto the first.

    Args:
        frames: (L, h, w, 3) uint8.
        path: complete.

    Returns:
        The warped frames, where pixels that a frame did not see keep the first frame's value, and
        (L, h, w) bool: the pixels that each frame saw.
    """
    height, width = frames.shape[1:3]
    pixels = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
    warped = frames.copy()
    seen = np.ones(frames.shape[:3], bool)
    for k in range(1, len(frames)):
        matrix = pixels @ path.to_first[k] @ np.linalg.inv(pixels)
        warped[k] = cv2.warpPerspective(
            frames[k],
            matrix,
            (width, height),
            dst=frames[0].copy(),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        whole = np.full((height, width), 255, np.uint8)
        whole = cv2.warpPerspective(whole, matrix, (width, height), flags=cv2.INTER_LINEAR)
        seen[k] = whole == 255
    return warped, seen


def move_joints(joints: NDArray[np.float32], path: CameraPath) -> NDArray[np.float32]:
    """Carry (L, 42, 2) normalised joints along with the frames' warp onto the first."""
    moved = [_apply(matrix, points) for matrix, points in zip(path.to_first, joints, strict=True)]
    return np.stack(moved).astype(np.float32)


def _background(
    size: tuple[int, int], joints: NDArray[np.float32], detected: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """(h, w) uint8: 255 outside the hands, with a margin for the wrist and what the hand holds."""
    mask = np.full((size[1], size[0]), 255, np.uint8)
    for hand in range(2):
        if detected[hand]:
            points = joints[hand * 21 : hand * 21 + 21] * size
            cv2.fillConvexPoly(mask, cv2.convexHull(points.astype(np.int32)), 0)
    return cv2.erode(mask, np.ones((25, 25), np.uint8), borderValue=255)


def _own(
    size: tuple[int, int], still: NDArray[np.uint8], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The background that a frame saw itself, short of the seam, whose corners are of neither."""
    own = cv2.resize(seen.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(still & cv2.erode(own, np.ones((7, 7), np.uint8), borderValue=255))


def _corners(grey: NDArray[np.uint8], still: NDArray[np.uint8]) -> NDArray[np.float32]:
    found = cv2.goodFeaturesToTrack(grey, CORNERS, 0.005, 5, mask=still)
    return np.empty((0, 1, 2), np.float32) if found is None else found


def _lattice(size: tuple[int, int]) -> NDArray[np.float64]:
    x, y = np.meshgrid(np.linspace(0, size[0], 9), np.linspace(0, size[1], 9))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _apply(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _between(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    corners: NDArray[np.float32],
    source_still: NDArray[np.uint8],
    target_still: NDArray[np.uint8],
) -> NDArray[np.float64] | None:
    """The background's motion between two frames: tracked, or matched where tracking loses it."""
    size = (source.shape[1], source.shape[0])
    tracked = _homography(*_track(source, target, corners, target_still), size)
    if tracked is not None:
        return tracked
    return _homography(*_match(source, target, source_still, target_still), size)


def _track(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    corners: NDArray[np.float32],
    target_still: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Follow corners by pyramidal Lucas-Kanade, leaving out those that were lost.

    A point that went astray is left to the robust fit: following all of them back as well would
    cost as much again.
    """
    if not len(corners):
        return corners, corners
    options = {"winSize": WINDOW, "maxLevel": LEVELS, "criteria": PRECISION}
    there, ok, _ = cv2.calcOpticalFlowPyrLK(source, target, corners, None, **options)
    keep = (ok[:, 0] == 1) & _inside(there[:, 0], target_still)
    return corners[keep], there[keep]


def _match(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    source_still: NDArray[np.uint8],
    target_still: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Match SIFT features: slower than tracking, but a fast turn does not lose it."""
    none = np.empty((0, 1, 2), np.float32)
    sift = cv2.SIFT_create(800)
    points, features = sift.detectAndCompute(source, source_still)
    target_points, target_features = sift.detectAndCompute(target, target_still)
    if features is None or target_features is None or len(target_features) < 2:
        return none, none
    pairs = cv2.BFMatcher().knnMatch(features, target_features, k=2)
    good = [first for first, second in pairs if first.distance < 0.75 * second.distance]
    if not good:
        return none, none
    a = np.array([points[m.queryIdx].pt for m in good], np.float32).reshape(-1, 1, 2)
    b = np.array([target_points[m.trainIdx].pt for m in good], np.float32).reshape(-1, 1, 2)
    return a, b


def _inside(points: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    x, y = np.round(points).astype(int).T
    within = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    kept = np.zeros(len(points), bool)
    kept[within] = mask[y[within], x[within]] > 0
    return kept


def _homography(
    source: NDArray[np.float32], target: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float64] | None:
    if len(source) < MIN_INLIERS:
        return None
    matrix, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, REPROJECTION_PX)
    if matrix is None or inliers.sum() < max(MIN_INLIERS, 0.3 * len(source)):
        return None
    return np.asarray(matrix) if _is_view(matrix, size) else None


def _is_view(matrix: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether a homography may be a camera's: it does not fold, mirror, blow up or shrink tenfold.

    A camera that turns keeps all it sees in front of it, so that the frame stays a convex
    quadrilateral of the same sense.
    """
    corners = np.array([[0, 0, 1], [size[0], 0, 1], [*size, 1], [0, size[1], 1]], np.float64)
    x, y, depth = matrix @ corners.T
    if not np.isfinite(matrix).all() or depth.min() <= 0:
        return False
    quad = np.stack([x, y], axis=1) / depth[:, None]
    sides = np.roll(quad, -1, axis=0) - quad
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    area = cv2.contourArea(quad.astype(np.float32)) / (size[0] * size[1])
    return bool(turns.min() > 0 and 0.1 < area < 10)


def _against_first(
    first: NDArray[np.uint8],
    first_corners: NDArray[np.float32],
    grey: NDArray[np.uint8],
    still: NDArray[np.uint8],
    chained: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Correct a frame's chained motion by comparing it, warped, with frame 0: no drift."""
    size = (grey.shape[1], grey.shape[0])
    warped = cv2.warpPerspective(grey, chained, size)
    seen = cv2.warpPerspective(still, chained, size)
    rest = _homography(*_track(first, warped, first_corners, seen), size)
    corrected = chained if rest is None else np.linalg.inv(rest) @ chained
    return corrected if _is_view(corrected, size) else chained
