"""AnimateAnything's conditioning on this project's own UNet, one stage and no motion area.

Dai et al., "AnimateAnything: Fine-Grained Open Domain Image Animation with Motion Guidance"
(2023), and its code, https://github.com/alibaba/animate-anything (`eval` in `train.py`,
`DDPM_forward_timesteps` in `utils/common.py`): the mask channel is all ones where no mask is
given, and sampling starts from the image's latent, repeated over the frames and noised to the first
timestep. Two things differ, for the sake of a UNet that was trained another way. There the image's
latent goes in as one more frame, without noise; here it goes in as channels, as in training, and
the clip's own first frame is held to it at each step's noise level. The motion strength is left
out: this UNet does not take it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from handi_model.baselines.method import Made, Task, count_parameters
from handi_model.compose import as_type
from handi_model.diffusion import add_noise, alpha_bars
from handi_model.latents import encode_frames
from handi_model.pipeline import HandiPipeline
from handi_model.sampling import Condition, Sampled, denoise


@dataclass(frozen=True)
class AnimateAnythingMethod:
    """Stage 2 alone under a mask of ones; no pixel is overwritten.

    Attributes:
        pipe: moved to its device by the caller.
        num_inference_steps, guidance_scale: of a call; default the model's. (The published ones
            are 25 and 9.)

    Raises:
        ValueError: a call raises what the pipeline's does.
    """

    pipe: HandiPipeline
    num_inference_steps: int | None = None
    guidance_scale: float | None = None

    @property
    def parameters(self) -> int:
        return count_parameters(self.pipe)

    @torch.no_grad()
    def __call__(self, task: Task) -> Made:
        pipe, device = self.pipe, self.pipe.device
        request = pipe.check(
            task.scene,
            task.prompt,
            num_frames=task.num_frames,
            height=task.scene.shape[0],
            width=task.scene.shape[1],
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
        )
        scenes = torch.from_numpy(request.scenes).to(device).permute(0, 3, 1, 2)
        image = encode_frames(pipe.vae, (scenes * 2 - 1)[:, None]).to(pipe.unet.dtype)
        text, unconditional = pipe.encode_prompt([task.prompt, ""]).split(1)
        everywhere = torch.ones_like(image[:, 0, 0])
        condition = Condition(text, image[:, :, 0], everywhere)
        condition = condition.guided(unconditional, request.guidance_scale.to(device))

        # What the network denoises of a clip in which nothing moves.
        still = torch.zeros_like(image) if pipe.config.residual else image
        still = still.expand(-1, -1, task.num_frames, -1, -1)
        generator = torch.Generator().manual_seed(task.seed)
        noise = torch.randn(still.shape, generator=generator).to(still)
        # Of the kind that keeps signal and noise together at a variance of 1, as `add_noise` does.
        scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        steps = request.num_inference_steps
        levels = _noise_levels(scheduler, steps)

        def hold(index: int, timestep: Tensor, done: Sampled) -> Sampled:
            first = add_noise(still[:, :, :1], noise[:, :, :1], levels[index + 1])
            held = torch.cat([first.to(done.latent), done.latent[:, :, 1:]], 2)
            return Sampled(held, done.condition)

        start = add_noise(still, noise, levels[0])
        latents = denoise(pipe.unet, scheduler, start, condition, "video", steps, hold)
        if pipe.config.residual:
            latents = latents + image
        (pictures,) = as_type(pipe.decode(latents), "pil")
        return Made(np.stack([np.asarray(picture) for picture in pictures]), None, None)


def _noise_levels(scheduler: DPMSolverMultistepScheduler, steps: int) -> Tensor:
    """(steps + 1,) the signal's share of the variance before each step, and 1 after the last."""
    scheduler.set_timesteps(steps)
    bars = alpha_bars(scheduler.config)[scheduler.timesteps]
    return torch.cat([bars, torch.ones(1)])
