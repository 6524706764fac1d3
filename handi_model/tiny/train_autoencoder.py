"""Training of the tiny preset's autoencoder: a small variational autoencoder without a critic.

The network is diffusers' `AutoencoderKL` (Rombach et al., High-Resolution Image Synthesis with
Latent Diffusion Models, section 3.1) with fewer channels and no attention, so that one core
decodes a 64-pixel frame in milliseconds. The loss is the Charbonnier distance of pixels, of their
differences and of shrunken pictures, plus a small divergence of the posterior from N(0, 1).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from handi_model.tiny.augment import crop_picture, training_batch

SIDE = 64
LATENT_CHANNELS = 16
WARMUP_SHARE = 0.04
EMA_DECAY = 0.995
KL_WEIGHT = 2e-4
"""Of the mean divergence a latent value, against mean distances a pixel value."""


def new_autoencoder() -> AutoencoderKL:
    """The topology, untrained: (N, 3, H, W) in [-1, 1] to and from (N, 16, H/8, W/8)."""
    levels = (16, 32, 64, 96)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(levels),
        up_block_types=("UpDecoderBlock2D",) * len(levels),
        block_out_channels=levels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def train_autoencoder(
    clips: Sequence[NDArray[np.uint8]],
    steps: int,
    batch_size: int = 16,
    workers: int = 1,
    seed: int = 0,
    limit_s: float | None = None,
    start: AutoencoderKL | None = None,
    learning_rate: float = 2e-3,
) -> AutoencoderKL:
    """Train; the latents of the result have unit deviation in every channel.

    Args:
        clips: each (L, h, w, 3) uint8 RGB.
        steps: optimiser steps; the learning rate falls to nothing at the last.
        batch_size: pictures a step, a multiple of `workers`.
        workers: threads that share a batch, each on one core. They meet once a step, where
            torch's own threads meet in every operation and stall on a busy machine.
        seed: of weights, pictures and noise. One seed gives one result on one machine, unless
            `limit_s` is set.
        limit_s: shorten the training, learning rate and all, to end after this many seconds.
        start: weights to go on from, left as they are; None trains from nothing.
        learning_rate: at its height.

    Returns:
        the average of the weights over the last steps, in evaluation mode.

    Raises:
        ValueError: there is no frame, or the batch cannot be shared out evenly.
    """
    if not sum(map(len, clips)):
        raise ValueError("clips: no frame to train on; give at least one clip")
    if batch_size % workers:
        raise ValueError(f"batch_size {batch_size}: not a multiple of workers ({workers})")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = copy.deepcopy(start).float().requires_grad_() if start else new_autoencoder()
    model = model.train().to(memory_format=torch.channels_last)
    replicas = _replicas(model, workers)
    noise = [torch.Generator().manual_seed(seed * workers + index) for index in range(workers)]
    pool = ThreadPoolExecutor(workers)
    averaged = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
    )
    began = time.monotonic()
    bar = tqdm(range(steps), desc="autoencoder", mininterval=5)
    for step in bar:
        share = step / steps
        if limit_s is not None:
            share = max(share, (time.monotonic() - began) / limit_s)
            if share >= 1:
                break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_at(share)
        shares = pool.map(
            partial(_share_of_gradient, clips),
            replicas,
            noise,
            rng.spawn(workers),
            [batch_size // workers] * workers,
        )
        loss = sum(shares) / workers
        _add_gradients(model, replicas)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(averaged, model, min(EMA_DECAY, (1 + step) / (10 + step)))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss:.4f}")
    pool.shutdown()
    averaged = averaged.to(memory_format=torch.contiguous_format).eval()
    pictures = np.stack([crop_picture(clips, SIDE, rng) for _ in range(256)])
    normalize_latent(averaged, torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1)
    return averaged


def _replicas(model: AutoencoderKL, count: int) -> list[AutoencoderKL]:
    """Copies of the model that share its weights but not its gradients."""
    replicas = [copy.deepcopy(model) for _ in range(count)]
    for replica in replicas:
        for mine, shared in zip(replica.parameters(), model.parameters(), strict=True):
            mine.data = shared.data
    return replicas


def _share_of_gradient(
    clips: Sequence[NDArray[np.uint8]],
    replica: AutoencoderKL,
    noise: torch.Generator,
    rng: np.random.Generator,
    count: int,
) -> float:
    """Draw pictures, leave the gradients of their loss in the replica, and return the loss."""
    pictures = torch.from_numpy(training_batch(clips, count, SIDE, rng))
    loss = autoencoder_loss(replica, pictures.to(memory_format=torch.channels_last), noise)
    replica.zero_grad()
    loss.backward()
    return loss.item()


def _add_gradients(model: AutoencoderKL, replicas: list[AutoencoderKL]) -> None:
    """Give the model the mean of the replicas' gradients."""
    grouped = zip(*(replica.parameters() for replica in replicas), strict=True)
    for mine, theirs in zip(model.parameters(), grouped, strict=True):
        mine.grad, *others = [parameter.grad for parameter in theirs]
        assert mine.grad is not None
        for other in others:
            assert other is not None
            mine.grad.add_(other)
        mine.grad.div_(len(replicas))


def autoencoder_loss(
    model: AutoencoderKL, pictures: Tensor, noise: torch.Generator | None = None
) -> Tensor:
    """Loss of one batch, (N, 3, H, W) in [-1, 1]: a scalar."""
    # Half precision is a third faster where the processor computes in it.
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        moments = model.encode(pictures).latent_dist.parameters
        posterior = DiagonalGaussianDistribution(moments.float())
        decoded = model.decode(posterior.sample(noise)).sample
    difference = decoded.float() - pictures
    halved = functional.avg_pool2d(difference, 2)
    quartered = functional.avg_pool2d(halved, 2)
    across = difference[..., 1:] - difference[..., :-1]
    down = difference[..., 1:, :] - difference[..., :-1, :]
    distance = (
        charbonnier(difference)
        + 0.5 * (charbonnier(across) + charbonnier(down))
        + 0.5 * (charbonnier(halved) + charbonnier(quartered))
    )
    values = posterior.mean[0].numel()
    divergence = posterior.kl().mean() / values
    return distance + KL_WEIGHT * divergence


def charbonnier(difference: Tensor, softness: float = 0.03) -> Tensor:
    """Mean of sqrt(d^2 + softness^2) - softness: an absolute value, round at nought."""
    return (difference.square() + softness**2).sqrt().mean() - softness


def learning_rate_at(share: float) -> float:
    """Share of the full learning rate: a short rise, then half a cosine down to nothing."""
    if share < WARMUP_SHARE:
        return share / WARMUP_SHARE
    return 0.5 + 0.5 * math.cos(math.pi * (share - WARMUP_SHARE) / (1 - WARMUP_SHARE))


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's by `1 - decay`, in place."""
    mine: list[Any] = list(averaged.parameters())
    torch._foreach_lerp_(mine, list(model.parameters()), 1 - decay)


@torch.no_grad()
def normalize_latent(model: AutoencoderKL, pictures: Tensor) -> None:
    """Give each latent channel mean 0 and deviation 1 over these pictures, in place.

    The two 1x1 convolutions around the latent take up the change, so that what the model decodes
    stays the same and `scaling_factor` is 1.
    """
    latent = model.encode(pictures).latent_dist.mode()
    mean, deviation = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
    to_latent, from_latent = model.quant_conv, model.post_quant_conv
    channels = model.config["latent_channels"]
    # The upper half of the channels is the posterior's log variance.
    to_latent.bias[:channels] = (to_latent.bias[:channels] - mean) / deviation
    to_latent.weight[:channels] /= deviation[:, None, None, None]
    to_latent.bias[channels:] -= 2 * deviation.log()
    from_latent.bias += from_latent.weight[:, :, 0, 0] @ mean
    from_latent.weight *= deviation[None, :, None, None]
