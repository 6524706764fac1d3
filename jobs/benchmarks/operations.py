"""Count the operations that a clip takes.

Counting runs on torch's `meta` device: no arithmetic is done, and attention is counted on any
machine (the counter does not know the processor's own attention kernel).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from handi_model.config import STAGES
from handi_model.pipeline import HandiPipeline


@dataclass(frozen=True)
class Operations:
    """Of one clip's parts, TFLOP; a multiplication and its addition are two operations.

    Attributes:
        unet: one call of the network for one item, by stage.
        decode: the autoencoder's decoder on all frames of a clip.
        encode: its encoder on one frame.
    """

    unet: dict[str, float]
    decode: float
    encode: float

    def of_clip(self, mask_steps: int, steps: int, guided: bool, residual: bool) -> float:
        """TFLOP of a clip: both stages, both decodes, the image and the empty mask encoded.

        The text encoder is left out. A guided step is two items, without text and with it.
        """
        denoising = mask_steps * self.unet["mask"] + steps * self.unet["video"]
        encoded = 2 if residual else 1
        return (2 if guided else 1) * denoising + 2 * self.decode + encoded * self.encode


def count_operations(pipe: HandiPipeline, frames: int, height: int, width: int) -> Operations:
    """Count the operations for clips of this size, pixels."""
    with torch.device("meta"):
        unet = type(pipe.unet).from_config(pipe.unet.config).eval()
        vae = type(pipe.vae).from_config(pipe.vae.config).eval()
        channels = pipe.vae.config.latent_channels
        h, w = height // pipe.latent_factor, width // pipe.latent_factor
        noisy = torch.empty(1, channels, frames, h, w)
        timestep = torch.empty(1, dtype=torch.long)
        tokens = pipe.tokenizer.model_max_length
        text = torch.empty(1, tokens, pipe.unet.config.cross_attention_dim)
        image, area = torch.empty(1, channels, h, w), torch.empty(1, h, w)
        return Operations(
            unet={
                stage: counted(unet, noisy, timestep, text, image, area, stage) for stage in STAGES
            },
            decode=counted(vae.decode, torch.empty(frames, channels, h, w)),
            encode=counted(vae.encode, torch.empty(1, 3, height, width)),
        )


def counted(call: Callable[..., Any], *arguments: Any) -> float:
    """Operations of one call, TFLOP."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(*arguments)
    return float(counter.get_total_flops()) / 1e12
