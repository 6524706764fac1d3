"""The last step: outside of the motion area the input image, and the type that was asked for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

OUTPUT_TYPES = ("np", "pil", "pt", "latent", "mask")


def feathered(area: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Let a motion area rise from 0 to 1 over its own edge: (H, W) in [0, 1].

    Nothing outside of the area changes, so the scene stays exactly still there.

    Args:
        area: (H, W), 0 or 1.
        width: of the edge, pixels; 0 leaves it hard.
    """
    if not width:
        return area
    # The picture's border is no edge of the area: a hand that comes in from there stays whole.
    padded = cv2.copyMakeBorder(area.astype(np.uint8), *[width + 1] * 4, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = depth[width + 1 : -width - 1, width + 1 : -width - 1]
    return np.minimum(inner / (width + 1), 1).astype(np.float32)


def overwrite(frames: Tensor, scenes: Tensor, areas: Tensor) -> Tensor:
    """Keep generated frames inside the motion area, and the image outside of it, exactly.

    Args:
        frames: (B, L, 3, H, W) in [0, 1].
        scenes: (B, 3, H, W) in [0, 1].
        areas: (B, H, W) in [0, 1].
    """
    share = areas[:, None, None]
    mixed = share * frames + (1 - share) * scenes[:, None]
    # Where the share is 0 the mix is the image only up to rounding, and up to an infinite frame.
    return torch.where(share > 0, mixed, scenes[:, None])


def as_type(clips: Tensor, output_type: str) -> list[Any]:
    """(B, L, 3, H, W) in [0, 1] -> one entry a clip, `np`, `pil` or `pt` as `HandiOutput` says."""
    clips = clips.cpu()
    if output_type == "pt":
        return list(clips)
    arrays = list(clips.permute(0, 1, 3, 4, 2).numpy())
    if output_type == "np":
        return arrays
    eight_bit = [np.round(clip * 255).astype(np.uint8) for clip in arrays]
    return [[Image.fromarray(frame) for frame in clip] for clip in eight_bit]
