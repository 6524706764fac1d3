"""Between pixels and latents: frames, masks as grey frames, and the area channel.

Frames are float in [-1, 1] with the colour axis before the pixels, latents are scaled by the
autoencoder's `scaling_factor`, and clips keep diffusers' order of axes: (B, C, L, h, w).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F


def encode_frames(vae: AutoencoderKL, frames: Tensor, chunk: int = 16) -> Tensor:
    """(B, L, 3, H, W) in [-1, 1] -> (B, C, L, h, w): the mode of each frame's posterior.

    Args:
        chunk: frames encoded at a time.
    """
    flat = frames.flatten(0, 1).to(vae.dtype)
    parts = [vae.encode(part).latent_dist.mode() for part in flat.split(chunk)]
    latents = torch.cat(parts) * vae.config.scaling_factor
    return latents.unflatten(0, frames.shape[:2]).transpose(1, 2)


def decode_latents(vae: AutoencoderKL, latents: Tensor, chunk: int = 16) -> Tensor:
    """(B, C, L, h, w) -> (B, L, 3, H, W), about [-1, 1]; differentiable."""
    batch, _, frames = latents.shape[:3]
    flat = decode_pictures(vae, latents.transpose(1, 2).flatten(0, 1), chunk)
    return flat.unflatten(0, (batch, frames))


def decode_pictures(vae: AutoencoderKL, latents: Tensor, chunk: int = 16) -> Tensor:
    """(N, C, h, w) -> (N, 3, H, W), about [-1, 1]; differentiable.

    Args:
        chunk: pictures decoded at a time, which bounds the memory where no gradient is kept.
    """
    scaled = latents.to(vae.dtype) / vae.config.scaling_factor
    return torch.cat([vae.decode(part, return_dict=False)[0] for part in scaled.split(chunk)])


def grey_frames(masks: Tensor) -> Tensor:
    """Masks (..., H, W) in [0, 1] -> grey frames (..., 3, H, W), -1 outside and 1 inside."""
    return (masks * 2.0 - 1.0).unsqueeze(-3).expand(*masks.shape[:-2], 3, *masks.shape[-2:])


def masks_of_grey(frames: Tensor) -> Tensor:
    """Decoded grey frames (..., 3, H, W) -> masks (..., H, W), clamped to [0, 1]."""
    return (frames.float().mean(-3) * 0.5 + 0.5).clamp(0, 1)


def area_channel(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (B, H, W) in [0, 1] -> (B, h, w): the share of each latent cell that they cover."""
    return F.interpolate(masks[:, None].float(), size, mode="area")[:, 0]


@torch.no_grad()
def empty_mask_latent(
    vae: AutoencoderKL, height: int, width: int, device: torch.device | None = None
) -> Tensor:
    """(C, h, w): the latent of a frame without hands in it, for frames of this size in pixels.

    Args:
        device: where the autoencoder computes; by default where its weights are.
    """
    black = torch.full((1, 1, 3, height, width), -1.0, device=device or vae.device)
    return encode_frames(vae, black)[0, :, 0]
