"""Sampling one stage: classifier-free guidance around any scheduler of `interface.schedulers`.

The same loop serves the pipeline and, with few steps, the masks that training conditions stage 2
on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn

from handi_model.config import Stage
from handi_model.interface.schedulers import set_steps


@dataclass(frozen=True)
class Condition:
    """What one stage is conditioned on, for B items, or for 2 B with guidance.

    Attributes:
        text: (B, T, D) embedded instruction.
        image_latent: (B, C, h, w).
        area: (B, h, w) in [0, 1]: stage 1 the prior, stage 2 the mask.
        guidance_scale: None without guidance; with it (B,), and the others hold the B items
            without their instruction, then the B items with it.
    """

    text: Tensor
    image_latent: Tensor
    area: Tensor
    guidance_scale: Tensor | None = None

    def guided(self, unconditional: Tensor, guidance_scale: Tensor) -> Condition:
        """The same under classifier-free guidance; no guidance where no scale is above 1.

        Args:
            unconditional: (B, T, D) embedding that guidance moves away from.
            guidance_scale: (B,).
        """
        if bool((guidance_scale <= 1).all()):
            return self
        return Condition(
            torch.cat([unconditional, self.text]),
            torch.cat([self.image_latent] * 2),
            torch.cat([self.area] * 2),
            guidance_scale,
        )


@dataclass(frozen=True)
class Sampled:
    """Where a stage stands after a step.

    Attributes:
        latent: (B, C, L, h, w), as noisy as the scheduler has it.
        condition: of the steps to come.
    """

    latent: Tensor
    condition: Condition


OnStep = Callable[[int, Tensor, Sampled], Sampled | None]
"""Called after each call of the network with its index and timestep; gives what to go on with, or
None to end with what is there."""


def denoising_step(
    unet: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition, stage: Stage
) -> Tensor:
    """The network's guided output for one timestep: (B, C, L, h, w).

    Both halves of the guidance go through the network as one batch. There is no graph break and no
    wait for the device in it, so `torch.compile(fullgraph=True)` takes it whole.

    Args:
        unet: a `HandiUNet`, or what is called the same way.
        noisy: (B, C, L, h, w).
        timestep: scalar int tensor.
    """
    scale = condition.guidance_scale
    inputs = noisy if scale is None else torch.cat([noisy] * 2)
    timesteps = timestep.expand(len(inputs))
    output = unet(inputs, timesteps, condition.text, condition.image_latent, condition.area, stage)
    if scale is None:
        return output
    without, with_text = output.chunk(2)
    return without + scale.to(output.dtype)[:, None, None, None, None] * (with_text - without)


@torch.no_grad()
def denoise(
    unet: nn.Module,
    scheduler: SchedulerMixin,
    noise: Tensor,
    condition: Condition,
    stage: Stage,
    steps: int,
    on_step: OnStep | None = None,
    step_arguments: dict[str, Any] | None = None,
) -> Tensor:
    """Sample a clean latent of one stage.

    Args:
        scheduler: one that `check_scheduler` lets pass; its state is overwritten.
        noise: (B, C, L, h, w) standard normal.
        steps: denoising steps, at least 1.
        step_arguments: see `interface.schedulers.step_arguments`.

    Returns:
        (B, C, L, h, w), what the network was trained to denoise (see `ModelConfig.residual`).
    """
    timesteps = set_steps(scheduler, steps, noise.device)
    done = Sampled(noise * scheduler.init_noise_sigma, condition)
    arguments = step_arguments or {}
    for index, timestep in enumerate(timesteps):
        noisy = scheduler.scale_model_input(done.latent, timestep)
        output = denoising_step(unet, noisy, timestep, done.condition, stage)
        latent = scheduler.step(output, timestep, done.latent, **arguments, return_dict=False)[0]
        done = Sampled(latent, done.condition)
        if on_step:
            changed = on_step(index, timestep, done)
            if changed is None:
                break
            done = changed
    return done.latent
