"""Stage 1's answer: from the denoised mask video to the motion area."""

from __future__ import annotations

import numpy as np
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from handi_model.finite import check_finite
from handi_model.latents import decode_latents, masks_of_grey
from handi_model.masks import clean_mask


def motion_areas(
    vae: AutoencoderKL,
    latents: Tensor,
    threshold: float = 0.5,
    radius: int | None = None,
    chunk: int = 16,
) -> NDArray[np.float32]:
    """Decode mask videos, unite each over its frames, cut off and clean.

    Args:
        latents: (B, C, L, h, w).
        threshold: a pixel at or above it belongs to the area, (0, 1).
        radius: of the disc that cleans, pixels; default 1/85 of the shorter side (3 at 256).
        chunk: frames decoded at a time.

    Returns:
        (B, H, W), 0 or 1.

    Raises:
        FloatingPointError: if the autoencoder gives no finite numbers.
    """
    grey = check_finite(decode_latents(vae, latents, chunk), "decoded masks", vae.dtype)
    soft = masks_of_grey(grey).amax(1).cpu().numpy()
    disc = round(min(soft.shape[1:]) / 85) if radius is None else radius
    return np.stack([clean_mask(one, threshold, disc) for one in soft]).astype(np.float32)
