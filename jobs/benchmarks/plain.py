"""The generator as one writes it first, to compare the pipeline with.

The same networks and the same equations, step by step: each stage encodes its instruction and
image, guides by a batch of two built at each step, and decodes frame by frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handi_model.config import Stage
from handi_model.masks import clean_mask
from handi_model.pipeline import HandiPipeline
from jobs.benchmarks.measuring import short


@dataclass(frozen=True)
class PlainClip:
    """A clip and how it came about.

    Attributes:
        frames: (L, H, W, 3) float32 in [0, 1].
        soft_area: (H, W) float32 in [0, 1], stage 1's mask before the threshold.
        area: (H, W) float32, 0 or 1.
    """

    frames: NDArray[np.float32]
    soft_area: NDArray[np.float32]
    area: NDArray[np.float32]


@torch.no_grad()
def plain_clip(
    pipe: HandiPipeline,
    image: NDArray[np.uint8],
    prompt: str,
    num_frames: int,
    steps: int,
    mask_steps: int,
    guidance_scale: float,
    threshold: float,
    generator: torch.Generator,
) -> PlainClip:
    """Generate one clip with the networks of `pipe`, and none of its code.

    Args:
        image: (H, W, 3), of the clip's size.
        threshold: of the motion area, [0, 1].
        generator: seeds the noise as it seeds the pipeline's.
    """
    device, dtype = pipe.unet.device, pipe.unet.dtype
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    scene = torch.from_numpy(image).to(device).permute(2, 0, 1)[None] / 255
    height, width = scene.shape[2:]
    channels, factor = pipe.vae.config.latent_channels, pipe.latent_factor
    size = (height // factor, width // factor)
    noise = torch.randn((2, 1, channels, num_frames, *size), generator=generator)
    noise = noise.to(device, dtype)

    def encode(picture: Tensor) -> Tensor:
        latent = pipe.vae.encode(picture.to(dtype)).latent_dist.mode()
        return latent * pipe.vae.config.scaling_factor

    def embed(words: str) -> Tensor:
        length = pipe.tokenizer.model_max_length
        tokens = pipe.tokenizer(
            words, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return pipe.text_encoder(tokens.input_ids.to(device))[0]

    def sample(stage: Stage, start: Tensor, area: Tensor, count: int) -> Tensor:
        text, empty_text = embed(prompt), embed("")
        image_latent = encode(scene * 2 - 1)
        cells = F.interpolate(area[None, None].float(), size, mode="area")[0].to(dtype)
        scheduler.set_timesteps(count, device=device)
        latent = start * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            if guidance_scale > 1:
                output = pipe.unet(
                    torch.cat([latent, latent]),
                    torch.stack([timestep, timestep]),
                    torch.cat([empty_text, text]),
                    torch.cat([image_latent, image_latent]),
                    torch.cat([cells, cells]),
                    stage,
                )
                without, with_text = output.chunk(2)
                output = without + guidance_scale * (with_text - without)
            else:
                output = pipe.unet(latent, timestep[None], text, image_latent, cells, stage)
            latent = scheduler.step(output, timestep, latent).prev_sample
        return latent

    def decode(latent: Tensor) -> Tensor:
        scaled = latent[0].transpose(0, 1) / pipe.vae.config.scaling_factor
        frames = [pipe.vae.decode(scaled[at : at + 1]).sample for at in range(num_frames)]
        return torch.cat(frames).float()

    mask_latent = sample("mask", noise[0], pipe.unet.prior, mask_steps)
    if pipe.config.residual:
        mask_latent = mask_latent + encode(torch.full_like(scene, -1))[:, :, None]
    soft = (decode(mask_latent).mean(1) / 2 + 0.5).clamp(0, 1).amax(0).cpu().numpy()
    area = clean_mask(soft, threshold, round(min(height, width) / 85)).astype(np.float32)

    inside = torch.from_numpy(area).to(device)
    latent = sample("video", noise[1], inside, steps)
    if pipe.config.residual:
        latent = latent + encode(scene * 2 - 1)[:, :, None]
    frames = (decode(latent) / 2 + 0.5).clamp(0, 1)
    frames = inside * frames + (1 - inside) * scene
    return PlainClip(frames.permute(0, 2, 3, 1).cpu().numpy(), soft, area)


def differences(expected: list[PlainClip], given: list[PlainClip]) -> dict[str, float]:
    """How far clips are from the plain ones of the same seed, as far as there are both."""
    pairs = list(zip(given, expected, strict=False))
    apart = np.stack([np.abs(one.frames - other.frames) for one, other in pairs])
    changed = np.stack([one.area != other.area for one, other in pairs])
    return {
        "max_difference": short(float(apart.max())),
        "mean_difference": short(float(apart.mean())),
        "area_changed": short(float(changed.mean())),
    }


def wake(pipe: HandiPipeline) -> None:
    """Give random values to the network's weights that start at zero, and a prior.

    Image, area and frame index enter through such weights: with zeros two programs would agree
    whatever they do with them.
    """
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            if not weight.any():
                weight.normal_(std=0.02)
        pipe.unet.prior.uniform_()


def scene(side: int, seed: int) -> NDArray[np.uint8]:
    """(side, side, 3): a ramp of colours with speckles."""
    y, x = np.mgrid[:side, :side] / side
    ramp = np.stack([x, y, 1 - x], -1) * 200
    return (ramp + np.random.default_rng(seed).integers(0, 55, ramp.shape)).astype(np.uint8)
