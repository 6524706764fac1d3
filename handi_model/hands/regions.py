"""Regions of interest: the rotated square around a hand that the landmark network looks at.

A region is centre x, centre y, side and rotation: pixels of the frame and radians, clockwise; side
0 is no region. Constants and rules are those of MediaPipe's
hand_detector_graph.cc, hand_landmarks_detector_graph.cc, hand_landmarks_to_rect_calculator.cc and
rect_transformation_calculator.cc. Everything is tensor code that never waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PALM_SCALE, PALM_SHIFT = 2.6, -0.5
"""A palm's box to its hand's region: factor of the long side, shift along the hand in heights."""
JOINTS_SCALE, JOINTS_SHIFT = 2.0, -0.1
"""The same for the box around a hand's joints."""

WRIST = 0
FIRM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Joints that the region is measured by: wrist, thumb without tip, fingers up to the PIP joints."""
INDEX_MCP, MIDDLE_MCP, RING_MCP = 5, 9, 13
MATCHING = 10
"""Joints that must coincide before two hands count as one."""
NEAR = 0.2
"""Joints nearer than this, in palm sizes of the larger hand, coincide."""
MIN_OVERLAP = 0.2
"""Two hands whose boxes overlap less (intersection over union) are never one."""


def regions_from_joints(joints: Tensor, visible: Tensor, height: int, width: int) -> Tensor:
    """Find the region around each hand's joints, as MediaPipe refines it for the next frame.

    Args:
        joints: (N, 42, 2) normalised to the frame; left hand 0-20, right hand 21-41.
        visible: (N, 42) bool. A hand has a region if all joints of `FIRM` are visible; joints that
            are not visible may hold anything.
        height, width: of the frame, pixels.

    Returns:
        (N, 2, 4) float32, zeros where a hand has no region.

    Raises:
        ValueError: if the shapes are not these.
    """
    if joints.ndim != 3 or joints.shape[1:] != (42, 2) or visible.shape != joints.shape[:2]:
        raise ValueError(
            "joints must be (N, 42, 2) and visible (N, 42), got "
            f"{tuple(joints.shape)} and {tuple(visible.shape)}"
        )
    shown = visible.bool().reshape(-1, 2, 21)
    # Joints are picked one by one: a list of indices would have to be copied to the device.
    seen = torch.stack([shown[:, :, joint] for joint in FIRM], -1).all(-1, keepdim=True)
    hands = joints.float().reshape(-1, 2, 21, 2)
    # An absent hand stands in the form of a real one, so that its angle has a gradient.
    stand_in = torch.arange(42, device=joints.device).reshape(21, 2) / 42
    hands = scale(torch.where(seen[..., None], hands, stand_in), width, height)

    beside = hands[:, :, INDEX_MCP] + hands[:, :, RING_MCP]
    ahead = hands[:, :, MIDDLE_MCP] / 2 + beside / 4
    rotation = turn(hands[:, :, WRIST], ahead)
    points = torch.stack([hands[:, :, joint] for joint in FIRM], 2)
    low, high = points.amin(-2), points.amax(-2)
    middle = (low + high) / 2
    upright = rotate(points - middle[:, :, None], -rotation[:, :, None])
    low, high = upright.amin(-2), upright.amax(-2)
    centre = middle + rotate((low + high) / 2, rotation)
    regions = region(centre, high - low, rotation, JOINTS_SCALE, JOINTS_SHIFT)
    return torch.where(seen, regions, 0.0)


def region(centre: Tensor, size: Tensor, rotation: Tensor, factor: float, shift: float) -> Tensor:
    """Square, enlarge and shift a rotated box: (..., 2), (..., 2) and (...) to (..., 4).

    Args:
        size: width and height before the rotation.
        factor: the region's side in long sides of the box.
        shift: of the centre, downward as the hand stands, in heights of the box.
    """
    height = size[..., 1]
    moved = centre + rotate(torch.stack([0 * height, shift * height], -1), rotation)
    return torch.cat([moved, size.amax(-1, keepdim=True) * factor, rotation[..., None]], -1)


def turn(start: Tensor, end: Tensor, target: float = math.pi / 2) -> Tensor:
    """Rotation of a region in which the way from start to end has a given angle.

    Args:
        start, end: (..., 2) pixels.
        target: radians, counter-clockwise from the x axis; the default is upward.

    Returns:
        (...) radians in [-pi, pi).
    """
    x, y = (end - start).unbind(-1)
    angle = target - torch.atan2(-y, x)
    return angle - 2 * math.pi * torch.floor((angle + math.pi) / (2 * math.pi))


def scale(points: Tensor, across: float, down: float) -> Tensor:
    """Multiply the x and the y of (..., 2) points."""
    x, y = points.unbind(-1)
    return torch.stack([x * across, y * down], -1)


def rotate(points: Tensor, rotation: Tensor) -> Tensor:
    """Turn (..., 2) points about the origin, clockwise on the screen."""
    x, y = points.unbind(-1)
    cos, sin = rotation.cos(), rotation.sin()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], -1)


def same_hand(first: Tensor, second: Tensor) -> Tensor:
    """Tell which pairs of hands are one hand found twice.

    MediaPipe's rule (hand_landmarks_deduplication_calculator.cc).

    Args:
        first, second: (N, 21, 2) in pixels.

    Returns:
        (N,) bool.
    """
    size = torch.maximum(_palm_size(first), _palm_size(second))
    near = (first - second).norm(dim=-1) < NEAR * size[:, None]
    low = torch.stack([first.amin(1), second.amin(1)])
    high = torch.stack([first.amax(1), second.amax(1)])
    overlap = box_overlap(low[0], high[0], low[1], high[1])
    return (near.sum(1) >= MATCHING) & (overlap > MIN_OVERLAP)


def _palm_size(hands: Tensor) -> Tensor:
    """Longest side of the triangle of wrist, index MCP and little finger's MCP."""
    corners = hands[:, [0, 5, 17]]
    return (corners - corners.roll(1, 1)).norm(dim=-1).amax(1)


def box_overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    """Intersection over union of upright boxes given by their corners (..., 2)."""
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0)
    both = shared.prod(-1)
    either = (high - low).prod(-1) + (other_high - other_low).prod(-1) - both
    return both / either.clamp(min=1e-12)
