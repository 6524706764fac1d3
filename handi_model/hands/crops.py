"""Cut the networks' inputs out of frames, as MediaPipe's CPU converter does.

That converter (image_to_tensor_converter_opencv.cc) lays the corners of a region on the corners of
the crop and samples bilinearly at whole pixels: pixel i of a crop of n pixels shows the place i / n
of the region's side, not (i + 0.5) / n, and pixel k of the frame lies at k. The joints that come
back are placed by the same rule, so nothing is shifted. Nothing is blurred before it is shrunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from handi_model.hands.regions import rotate, scale


def letterbox(frames: Tensor, size: int) -> Tensor:
    """Shrink whole frames into the middle of a square, with zeros around.

    Args:
        frames: (N, H, W, 3) uint8, or float in [0, 1].
        size: of the square, pixels.

    Returns:
        (N, size, size, 3) float32 in [0, 1]. Its whole side shows max(H, W) pixels.
    """
    height, width = frames.shape[1:3]
    side = max(height, width)
    top, bottom, down = _neighbours(height, side, size, frames.device)
    left, right, across = _neighbours(width, side, size, frames.device)

    def rows(at: Tensor, weights: Tensor) -> Tensor:
        picked = frames[:, at]
        return weights[:, None, None] * (
            across[0][:, None] * picked[:, :, left] + across[1][:, None] * picked[:, :, right]
        )

    return _to_unit(frames, rows(top, down[0]) + rows(bottom, down[1]))


def _neighbours(
    length: int, side: int, size: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Both neighbours of each sample along one axis, and their weights (2, size)."""
    at = torch.arange(size, device=device) * (side / size) - (side - length) / 2
    first = at.floor().long()
    share = at - first
    weights = torch.stack([1 - share, share])
    # What lies outside counts as zero, also where it is only one of the two neighbours.
    both = torch.stack([first, first + 1])
    weights = weights * ((both >= 0) & (both < length))
    inside = both.clamp(0, length - 1)
    return inside[0], inside[1], weights


def cut(frames: Tensor, frame_index: Tensor, regions: Tensor, size: int) -> Tensor:
    """Cut rotated square regions; beyond its border, a frame repeats its border.

    Args:
        frames: (N, H, W, 3) uint8, or float in [0, 1].
        frame_index: (R,) long, the frame of each region.
        regions: (R, 4) centre x, centre y, side in pixels; rotation in radians, clockwise.
        size: of the crops, pixels.

    Returns:
        (R, size, size, 3) float32 in [0, 1], differentiable with respect to float frames.
    """
    height, width = frames.shape[1:3]
    along = torch.arange(size, device=frames.device) / size
    places = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).reshape(1, -1, 2)
    pixels = to_frame(places.expand(len(regions), -1, -1), regions).reshape(-1, size, size, 2)
    # From the first pixel's centre at -1 to the last one's at 1; a single pixel is both.
    grid = scale(pixels, 2 / max(width - 1, 1), 2 / max(height - 1, 1)) - 1
    pictures = frames[frame_index].permute(0, 3, 1, 2).float()
    crops = F.grid_sample(pictures, grid, padding_mode="border", align_corners=True)
    return _to_unit(frames, crops.permute(0, 2, 3, 1))


def to_frame(places: Tensor, regions: Tensor) -> Tensor:
    """Map places in a region to pixels of the frame (landmark_projection_calculator.cc).

    Args:
        places: (R, K, 2) x and y; [0, 1] spans the region's sides.
        regions: (R, 4) as in `cut`.

    Returns:
        (R, K, 2) float32 pixels.
    """
    centre, side, rotation = regions.float()[:, None].split((2, 1, 1), -1)
    return centre + side * rotate(places.float() - 0.5, rotation[..., 0])


def _to_unit(frames: Tensor, crops: Tensor) -> Tensor:
    """Bring crops of 8-bit frames to [0, 1], rounded to 8 bits, half up, as the converter's are."""
    return crops if frames.is_floating_point() else (crops + 0.5).floor() / 255
