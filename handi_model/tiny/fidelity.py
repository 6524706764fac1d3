"""What the tiny autoencoder keeps of frames and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from handi_model.tiny.augment import mask_picture


@dataclass(frozen=True)
class FrameFidelity:
    """Of one clip, encoded by the posterior's mode and decoded.

    Attributes:
        psnr: of all pixels, dB.
        psnr_hands: of the pixels inside the hand masks, dB; NaN where there is none.
        flicker: mean absolute change from frame to frame of pixels that change by less than 1/255
            in the clip, in the decoded frames, as a share of the range.
    """

    psnr: float
    psnr_hands: float
    flicker: float


@torch.no_grad()
def reconstruct(model: AutoencoderKL, frames: Tensor, chunk: int = 32) -> Tensor:
    """Encode by the posterior's mode and decode: (N, 3, H, W) in [-1, 1] to the same, clamped."""
    parts = [
        model.decode(model.encode(part).latent_dist.mode()).sample for part in frames.split(chunk)
    ]
    return torch.cat(parts).clamp(-1, 1)


def frame_fidelity(
    model: AutoencoderKL,
    frames: NDArray[np.uint8],
    hand_masks: NDArray[np.bool_] | None = None,
) -> FrameFidelity:
    """Measure one clip.

    Args:
        frames: (L, H, W, 3) uint8 RGB, sides multiples of 8.
        hand_masks: (L, H, W) bool.
    """
    decoded = reconstruct(model, to_model(frames)).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    given = frames.astype(np.float32) / 255
    squares = (decoded - given) ** 2
    inside = squares[hand_masks] if hand_masks is not None else squares[:0]
    still = np.abs(np.diff(given, axis=0)).max(-1) < 1 / 255
    flicker = np.abs(np.diff(decoded, axis=0)).mean(-1)[still]
    return FrameFidelity(
        psnr=_decibels(squares),
        psnr_hands=_decibels(inside) if inside.size else float("nan"),
        flicker=float(flicker.mean()) if flicker.size else float("nan"),
    )


def mask_iou(model: AutoencoderKL, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask with its decoded self, thresholded at one half.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N,) in [0, 1]; 1 for an empty mask that stays empty.
    """
    grey = torch.from_numpy(masks).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1
    decoded = (reconstruct(model, grey).mean(1) > 0).numpy()
    shared, either = (decoded & masks).sum((1, 2)), (decoded | masks).sum((1, 2))
    return np.where(either == 0, 1.0, shared / np.maximum(either, 1))


def drawn_masks(count: int, side: int, seed: int) -> NDArray[np.bool_]:
    """Masks like those of the training, (count, side, side) bool."""
    rng = np.random.default_rng(seed)
    return np.stack([mask_picture(side, rng)[..., 0] > 0.5 for _ in range(count)])


@torch.no_grad()
def latent_deviation(model: AutoencoderKL, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of each scaled latent channel over (L, H, W, 3) uint8 frames, (C,)."""
    latent = model.encode(to_model(frames)).latent_dist.mode() * model.config["scaling_factor"]
    return latent.std((0, 2, 3)).double().numpy()


def to_model(frames: NDArray[np.uint8]) -> Tensor:
    """(L, H, W, 3) uint8 to (L, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _decibels(squares: NDArray[np.floating[Any]]) -> float:
    """Peak signal-to-noise ratio of squared differences of values in [0, 1]."""
    return float(-10 * np.log10(max(float(squares.mean()), 1e-10)))
