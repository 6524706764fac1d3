"""The forward process and its inversion, in terms of the noise whatever a network predicts.

`alpha_bar` is the signal's share of the variance, one value a batch item; it broadcasts over the
other axes. Equations: Li, Cao and Corso, "Hand-Centric Text-and-Image Conditioned Video
Generation"; velocity: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion
Models", appendix D; zero terminal SNR: Lin et al., "Common Diffusion Noise Schedules and Sample
Steps are Flawed".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from handi_model.config import ModelConfig, Predicts

SMALLEST_ALPHA_BAR = 1e-6
"""What eq. 2 takes for a smaller signal share, so that pure noise gives no infinity."""

PREDICTS: dict[str, Predicts] = {"epsilon": "noise", "v_prediction": "velocity"}
"""What a network predicts, by the name that diffusers' schedulers give it."""


def alpha_bars(schedule: Mapping[str, Any]) -> Tensor:
    """(T,) float32 in [0, 1]: the signal's share of the variance at each timestep.

    Args:
        schedule: a diffusers scheduler's configuration, or what `scheduler_config` gives.
    """
    bars: Tensor = DDPMScheduler.from_config(dict(schedule)).alphas_cumprod
    return bars


def scheduler_config(config: ModelConfig) -> dict[str, Any]:
    """The noise schedule in the words of diffusers' schedulers."""
    return {
        "num_train_timesteps": config.train_timesteps,
        "beta_schedule": "scaled_linear",
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "prediction_type": next(name for name, what in PREDICTS.items() if what == config.predicts),
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "timestep_spacing": "trailing",
    }


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Forward process: `sqrt(alpha_bar) * clean + sqrt(1 - alpha_bar) * noise`.

    Like the rest of this module it computes in float32 at least, whatever the latents come in.

    Args:
        clean, noise: (B, ...) of one shape.
        alpha_bar: (B,) or anything that broadcasts over the batch, in [0, 1].
    """
    share = _over_batch(alpha_bar, clean)
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def predict_clean_latent(noisy: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Eq. 2: the clean latent, from the noisy one and the (predicted) noise.

    Args:
        noisy, noise: (B, ...) of one shape.
        alpha_bar: (B,) or anything that broadcasts over the batch, in [0, 1]. At 0 nothing of the
            signal is left, and the result is finite but says nothing.
    """
    share = _over_batch(alpha_bar, noisy).clamp(min=SMALLEST_ALPHA_BAR)
    return (noisy - (1 - share).sqrt() * noise) / share.sqrt()


def velocity(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a velocity network predicts: `sqrt(alpha_bar) * noise - sqrt(1 - alpha_bar) * clean`."""
    share = _over_batch(alpha_bar, clean)
    return share.sqrt() * noise - (1 - share).sqrt() * clean


def training_target(predicts: Predicts, clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the network should give for this clean latent and noise."""
    return noise if predicts == "noise" else velocity(clean, noise, alpha_bar)


def predicted_noise(predicts: Predicts, output: Tensor, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that the network's output stands for."""
    if predicts == "noise":
        return output
    share = _over_batch(alpha_bar, noisy)
    return share.sqrt() * output + (1 - share).sqrt() * noisy


def _over_batch(alpha_bar: Tensor, like: Tensor) -> Tensor:
    """Give (B,) values trailing axes of one, so that they broadcast over the batch.

    Float32 at least: bfloat16 has no number between 0.996 and 1, where a schedule begins.
    """
    share = torch.as_tensor(alpha_bar, device=like.device)
    share = share.to(torch.promote_types(like.dtype, torch.float32))
    return share.reshape(-1, *[1] * (like.ndim - 1)) if share.ndim == 1 else share
