"""Closing a hand: the fingers bend until they touch the thing they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pipelines.rendered.arm import Arm, HandPose, joints, pose_bones

FINGER_RADIUS = 0.0075  # metres, half the thickness of a finger's pad
STEPS = 48
Distance = Callable[[np.ndarray], np.ndarray]
"""(N, 3) points in metres to (N,) signed distances from a surface, negative inside."""


def box_distance(centre: np.ndarray, half: tuple[float, float, float]) -> Distance:
    """Return the distance from a box along the axes."""

    def distance(points: np.ndarray) -> np.ndarray:
        beyond = np.abs(points - centre) - half
        outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
        return outside + np.minimum(beyond.max(axis=-1), 0)

    return distance


def cylinder_distance(foot: np.ndarray, radius: float, height: float) -> Distance:
    """Return the distance from an upright solid cylinder that stands on a point."""

    def distance(points: np.ndarray) -> np.ndarray:
        seen = points - foot
        beyond = np.stack(
            [
                np.linalg.norm(seen[..., :2], axis=-1) - radius,
                np.abs(seen[..., 2] - height / 2) - height / 2,
            ],
            axis=-1,
        )
        outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
        return outside + np.minimum(beyond.max(axis=-1), 0)

    return distance


def stick_distance(start: np.ndarray, end: np.ndarray, radius: float) -> Distance:
    """Return the distance from a straight stick with round ends."""

    def distance(points: np.ndarray) -> np.ndarray:
        along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        return np.linalg.norm(points - start - along[..., None] * (end - start), axis=-1) - radius

    return distance


def close_hand(
    arm: Arm, open_pose: HandPose, shut_curl: np.ndarray, shut_thumb: np.ndarray, thing: Distance
) -> HandPose:
    """Bend the fingers, then the thumb, until each touches the thing.

    A finger first bends in all its joints until any part of it touches, then its two outer
    joints go on until they touch, as an underactuated gripper does. The thumb comes last and
    also stops at the fingers.

    Args:
        arm: the arm whose bones are posed.
        open_pose: the hand in place around the thing, fingers open.
        shut_curl: (4, 3) degrees, the curl at which a finger that meets nothing stops.
        shut_thumb: (4,) degrees, the same for the thumb.
        thing: distance from what is held.

    Returns:
        The pose with the curl and the thumb of the closed hand.
    """
    curl = open_pose.curl.astype(float).copy()
    for finger in range(4):
        for moving, rows in ((slice(0, 3), slice(0, None)), (slice(1, 3), slice(1, None))):
            start = curl[finger].copy()
            for share in np.linspace(0, 1, STEPS):
                trial = curl.copy()
                trial[finger, moving] = (1 - share) * start[moving] + share * shut_curl[finger][
                    moving
                ]
                points = finger_points(arm, replace(open_pose, curl=trial), finger + 1)[rows]
                if share > 0 and thing(points.reshape(-1, 3)).min() < FINGER_RADIUS:
                    break
                curl = trial
    pose = replace(open_pose, curl=curl)
    fingers = np.concatenate([finger_points(arm, pose, i).reshape(-1, 3) for i in (1, 2, 3, 4)])
    for share in np.linspace(0, 1, STEPS):
        bent = replace(pose, thumb=(1 - share) * open_pose.thumb + share * shut_thumb)
        points = finger_points(arm, bent, 0)[1:].reshape(-1, 3)
        gaps = np.linalg.norm(points[:, None] - fingers[None], axis=-1)
        touches = thing(points).min() < FINGER_RADIUS or gaps.min() < 2 * FINGER_RADIUS
        if share > 0 and touches:
            break
        pose = bent
    return pose


def finger_points(arm: Arm, pose: HandPose, finger: int) -> np.ndarray:
    """Return points along a finger's three bones, (3, 5, 3) metres; finger 0 is the thumb."""
    ends = joints(arm, pose_bones(arm, pose))[1 + 4 * finger : 5 + 4 * finger]
    along = np.linspace(0.2, 1.0, 5)[:, None]
    return np.stack([(1 - along) * a + along * b for a, b in pairwise(ends)])
