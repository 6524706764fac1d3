"""Train both stages on clips that fit in memory, in one process: the method at its plainest.

This is what the demonstration and the ablation run; training on a data set, on many machines, goes
through the same steps of `handi_model.training`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field

from handi_model.batch import Batch
from handi_model.config import Stage
from handi_model.hands import HandDetector
from handi_model.modes import training
from handi_model.pipeline import HandiPipeline
from handi_model.trainer import generated_areas
from handi_model.training import (
    LossSettings,
    Networks,
    StepResult,
    generated_share,
    mask_step,
    mixed_area,
    stage_of_epoch,
    video_step,
)

STEPS_APART = 1_000_003
"""Between the generator's seeds of two trainings: more than the steps of either."""

OnFitStep = Callable[[int, Stage, StepResult], None]


class FitSettings(BaseModel):
    """How long and how fast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(1200, ge=1, description="Optimisation steps of both stages together.")
    batch_size: int = Field(4, ge=1, description="Clips a step; few clips are repeated.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest learning rate.")
    warmup_steps: int = Field(30, ge=0, description="Steps in which the learning rate rises.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the averaged weights.")
    cycle: list[Stage] = Field(
        ["mask", "video", "video"], min_length=1, description="Stages of successive steps."
    )
    ramp_start: float = Field(
        0.4, ge=0, le=1, description="Share of the training after which generated masks come in."
    )
    ramp_end: float = Field(
        0.8, ge=0, le=1, description="Share of the training after which all masks are generated."
    )
    mask_steps: int = Field(4, ge=1, description="Denoising steps of a generated mask.")
    mask_every: int = Field(50, ge=1, description="Steps after which masks are generated anew.")
    seed: int = Field(0, ge=0, lt=2**40, description="Of noise, timesteps and choices.")


def fit(
    pipe: HandiPipeline,
    clips: Batch,
    detector: HandDetector | None,
    losses: LossSettings,
    settings: FitSettings,
    on_step: OnFitStep,
) -> None:
    """Train the pipeline's UNet in place; it ends with the averaged weights.

    Where the pipeline uses no mask, stage 2 is conditioned on an area that covers everything.

    Args:
        clips: all clips, encoded, on the pipeline's device.
        on_step: called after each step, for progress and logs.
    """
    pipe.unet.set_prior(clips.mask.mean(0))
    networks = Networks.of(pipe, detector)
    torch.manual_seed(settings.seed)  # dropout
    generator = torch.Generator()
    optimizer = torch.optim.AdamW(
        pipe.unet.parameters(), lr=settings.learning_rate, fused=pipe.device.type == "cuda"
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)
    average = EMAModel(pipe.unet.parameters(), decay=settings.ema_decay)
    scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    areas = None
    with training(pipe.unet):
        for step in range(settings.steps):
            # Trainings of one seed see the same clips, noise and timesteps in each step, whatever
            # else a loss draws: their difference is the loss's.
            generator.manual_seed(settings.seed * STEPS_APART + step)
            stage = stage_of_epoch(step, settings.cycle)
            share = generated_share(step / settings.steps, settings.ramp_start, settings.ramp_end)
            due = areas is None or step % settings.mask_every == 0
            if share and networks.uses_mask and due:
                same = torch.Generator().manual_seed(settings.seed)
                areas = generated_areas(networks, scheduler, clips, settings.mask_steps, same)
            items = _items(len(clips), settings.batch_size, generator)
            batch = clips.take(items)
            if stage == "mask":
                result = mask_step(networks, batch, losses, generator)
            else:
                if not networks.uses_mask:
                    area = torch.ones_like(batch.mask)
                elif areas is None:
                    area = batch.mask
                else:
                    area = mixed_area(batch.mask, areas[items], share, generator)
                result = video_step(networks, batch, area, losses, generator)
            result.loss.backward()
            torch.nn.utils.clip_grad_norm_(pipe.unet.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            average.step(pipe.unet.parameters())
            on_step(step, stage, result)
    average.copy_to(pipe.unet.parameters())
    pipe.unet.eval()


def _items(clips: int, batch_size: int, generator: torch.Generator) -> list[int]:
    """Clips of the next batch: each as often as any other, in random order."""
    order = torch.randperm(clips, generator=generator).tolist()
    return (order * -(-batch_size // clips))[:batch_size]
