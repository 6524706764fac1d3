"""From the palm network's raw output to the regions of up to two hands.

Anchors, decoding and suppression are those of MediaPipe's hand_detector_graph.cc with its
ssd_anchors_calculator.cc, tensors_to_detections_calculator.cc and non_max_suppression_calculator.cc
(mode WEIGHTED), for all frames at once. Coordinates are in letterbox units: [0, 1] spans the square
picture that the network sees.
"""

from __future__ import annotations

import torch
from torch import Tensor

from handi_model.hands.regions import PALM_SCALE, PALM_SHIFT, box_overlap, region, turn

SIZE = 192
"""Side of the network's input, pixels."""
GRIDS = ((24, 2), (12, 6))
"""Cells along a side of each feature map, and anchors in each cell: 2016 in all."""
OVERLAP = 0.3
"""Candidates that overlap the best one by more than this (IoU) are merged into it."""
PALM_WRIST, PALM_MIDDLE_MCP = 0, 2
"""Among the seven keypoints of a palm."""
TARGET_ANGLE = 90.0
"""Radians. MediaPipe's graph puts 90 degrees into the option that is in radians, so that hands lean
27 degrees to the left in their first region. Data that it labelled was found that way, so it stays.
"""
HANDS = 2


def anchors(device: torch.device) -> Tensor:
    """Centres of the anchors: (2016, 2) x and y. All anchors have size one."""
    centres = []
    for cells, repeats in GRIDS:
        along = (torch.arange(cells, device=device) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1)
        centres.append(grid.reshape(-1, 2).repeat_interleave(repeats, 0))
    return torch.cat(centres)


def decode(raw: Tensor) -> Tensor:
    """Decode boxes and keypoints.

    Args:
        raw: (N, 2016, 18) pixels: centre x and y relative to the anchor, width, height, and seven
            keypoints relative to the anchor.

    Returns:
        (N, 2016, 9, 2): low corner, high corner, seven keypoints, x and y.
    """
    points = raw.float().reshape(*raw.shape[:2], 9, 2) / SIZE
    centre, half = points[:, :, :1], points[:, :, 1:2] / 2
    relative = torch.cat([centre - half, centre + half, points[:, :, 2:]], 2)
    return relative + anchors(raw.device)[:, None]


def merge(points: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Weighted non-maximum suppression, up to the two best palms of each frame.

    The best candidate takes the score-weighted mean of all that overlap it, itself included; those
    are used up, and the best of the rest is next.

    Args:
        points: (N, A, 9, 2) as from `decode`.
        scores: (N, A) in [0, 1].
        threshold: candidates with a smaller score are left out.

    Returns:
        (N, 2, 9, 2) palms, the best first, and (N, 2) bool, which of them were found.
    """
    low, high = points[:, :, 0], points[:, :, 1]
    left = (scores >= threshold) & ((high - low) >= 0).all(-1)
    palms, found = [], []
    for _ in range(HANDS):
        best = scores.where(left, -1.0).argmax(1, keepdim=True)
        box = best[:, :, None].expand(-1, -1, 2)
        overlap = box_overlap(low, high, low.gather(1, box), high.gather(1, box))
        merged = (overlap > OVERLAP).scatter(1, best, True) & left
        found.append(left.any(1))
        weights = (scores * merged)[:, :, None, None]
        palms.append((weights * points).sum(1) / weights.sum(1).clamp(min=1e-12))
        left = left & ~merged
    return torch.stack(palms, 1), torch.stack(found, 1)


def hand_regions(palms: Tensor, height: int, width: int) -> Tensor:
    """Turn palms (N, 2, 9, 2) into the regions of their hands, (N, 2, 4) in pixels of the frame."""
    side = max(height, width)
    pixels = palms * side - palms.new_tensor([side - width, side - height]) / 2
    low, high, keypoints = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2:]
    rotation = turn(keypoints[:, :, PALM_WRIST], keypoints[:, :, PALM_MIDDLE_MCP], TARGET_ANGLE)
    return region((low + high) / 2, high - low, rotation, PALM_SCALE, PALM_SHIFT)
