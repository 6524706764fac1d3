"""An optimisation step of many passes over both stages, on one worker or on many; knows no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from handi_model.areas import motion_areas
from handi_model.batch import Batch
from handi_model.config import Stage
from handi_model.modes import evaluating, weightless
from handi_model.optimiser import Optimiser, Stepped
from handi_model.sampling import Condition, denoise
from handi_model.training import LossSettings, Networks, StepResult, mask_step, video_step
from handi_model.unet import HandiUNet

# A step leaves out the other stage's ends; and the one buffer, the prior, never changes.
DDP_OPTIONS: dict[str, Any] = {
    "find_unused_parameters": True,
    "broadcast_buffers": False,
    "gradient_as_bucket_view": True,
}


def pass_seed(seed: int, *place: int) -> int:
    """Seed of a pass's random numbers, from the training's seed and the pass's place in it."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)
    return int(state[0] >> 1)


@dataclass(frozen=True)
class Trainer:
    """What takes the steps.

    Attributes:
        networks: its `unet` may be wrapped in DistributedDataParallel.
        unet: the network inside.
        scheduler: of the few steps in which stage 1 generates masks for stage 2.
        mask_steps: how many.
        dtype: what the networks compute in.
        workers: that the gradient is averaged over.
    """

    networks: Networks
    unet: HandiUNet
    optimiser: Optimiser
    losses: LossSettings
    scheduler: DPMSolverMultistepScheduler
    mask_steps: int = 4
    dtype: torch.dtype = torch.float32
    workers: int = 1

    def backward(
        self,
        batch: Batch,
        stage: Stage,
        seed: int,
        share: float = 0.0,
        weight: float = 1.0,
        last: bool = True,
    ) -> StepResult:
        """Take a pass forward and back, and add its gradient to the step's.

        Args:
            seed: of all its random numbers, see `pass_seed`.
            share: probability with which stage 2 sees a clip's generated mask, not the true one.
            weight: of the pass's mean loss in the step's; a pass that weighs 0 adds nothing to the
                gradient, even where its loss is not finite.
            last: whether it is this worker's last pass of the step, when gradients are exchanged.

        Returns:
            The mean over the pass; the part `generated` is the share of generated masks.
        """
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        with ExitStack() as within:
            wrapped: nn.Module = self.networks.unet
            if not last and isinstance(wrapped, DistributedDataParallel):
                # Around the way forward too, in which it prepares for the exchange.
                within.enter_context(wrapped.no_sync())
            if not weight:
                share = 0.0  # nor does it generate masks for nothing
                within.enter_context(weightless(self.optimiser.parameters.values()))
            result = self._forward(batch, stage, share, generator)
            # Gradients of passes add up, those of workers are averaged.
            (result.loss * (weight * self.workers)).backward()
        return result

    def _forward(
        self, batch: Batch, stage: Stage, share: float, generator: torch.Generator
    ) -> StepResult:
        device = batch.video_latent.device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            if stage == "mask":
                return mask_step(self.networks, batch, self.losses, generator)
            area, used = self.stage_two_area(batch, share, generator)
            result = video_step(self.networks, batch, area, self.losses, generator)
            return replace(result, parts={**result.parts, "generated": torch.tensor(used)})

    def step(self) -> Stepped:
        """Take the step that the passes have prepared."""
        return self.optimiser.step()

    def stage_two_area(
        self, batch: Batch, share: float, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Stage 2's motion areas (B, H, W), and the share of them that stage 1 has generated.

        Of a model without the motion mask they cover the whole frame.
        """
        if not self.networks.uses_mask:
            return torch.ones_like(batch.mask), 0.0
        chosen = (torch.rand(len(batch), generator=generator) < share).nonzero()[:, 0].tolist()
        area = batch.mask
        if chosen:
            generated = generated_areas(
                replace(self.networks, unet=self.unet),
                self.scheduler,
                batch.take(chosen),
                self.mask_steps,
                generator,
            )
            area = area.index_put((torch.tensor(chosen, device=area.device),), generated)
        return area, len(chosen) / len(batch)


@torch.no_grad()
def generated_areas(
    networks: Networks,
    scheduler: DPMSolverMultistepScheduler,
    clips: Batch,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Stage 1's motion areas for clips, by a few denoising steps without guidance.

    Returns:
        (B, H, W), 0 or 1.
    """
    noise = torch.randn(clips.mask_latent.shape, generator=generator).to(clips.mask_latent)
    prior = networks.prior.expand(len(clips), -1, -1)
    condition = Condition(clips.text, clips.image_latent, prior)
    with evaluating(networks.unet):
        latents = denoise(networks.unet, scheduler, noise, condition, "mask", steps)
    if networks.residual:
        latents = latents + networks.empty_mask_latent[:, None]
    return torch.from_numpy(motion_areas(networks.vae, latents)).to(noise)


def weighted_means(results: Sequence[tuple[StepResult, float]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Name of a part -> its sum and weight over passes; parts that say nothing (NaN) count zero."""
    totals: dict[str, tuple[Tensor, Tensor]] = {}
    for result, weight in results:
        for name, value in {"loss": result.loss.detach(), **result.parts}.items():
            value = value.float().cpu()
            known = torch.isfinite(value)
            before = totals.get(name, (torch.zeros(()), torch.zeros(())))
            totals[name] = (
                before[0] + torch.where(known, value, 0.0) * weight,
                before[1] + known * weight,
            )
    return totals
