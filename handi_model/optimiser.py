"""AdamW with a cosine schedule, clipped gradients and averaged weights, and what of it to keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW keeps for each parameter."""


class OptimiserSettings(BaseModel):
    """How fast the weights move."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    warmup_steps: int = Field(500, ge=0, description="Steps in which the learning rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of a step's gradient.")
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="Decay of the averaged weights, reached by and by."
    )


@dataclass(frozen=True)
class Stepped:
    """What a step did.

    Attributes:
        gradient_norm: before it was clipped.
        learning_rate: that it was taken with.
        skipped: whether the gradient was not finite, so that the weights stay as they were.
    """

    gradient_norm: float
    learning_rate: float
    skipped: bool


class Optimiser:
    """AdamW over a network's trainable parameters, and their exponential moving average.

    Args:
        parameters: name -> parameter.
        steps: of the whole training, over which the learning rate falls to zero.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], settings: OptimiserSettings, steps: int
    ) -> None:
        self.parameters = parameters
        self.settings = settings
        self.steps = steps
        weights = list(parameters.values())
        self.adamw = torch.optim.AdamW(
            weights,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=weights[0].is_cuda,
        )
        self.schedule = self._schedule_from(0)
        # Averages over the few first steps are short ones: they would be mostly the beginning.
        self.average = EMAModel(weights, decay=settings.ema_decay)

    def step(self) -> Stepped:
        """Take a step along the accumulated gradient, and forget it."""
        weights = list(self.parameters.values())
        norm = float(nn.utils.clip_grad_norm_(weights, self.settings.clip_norm))
        learning_rate = float(self.schedule.get_last_lr()[0])
        skipped = not math.isfinite(norm)
        if not skipped:
            self.adamw.step()
            self.average.step(weights)
        self.adamw.zero_grad()
        self.schedule.step()
        return Stepped(norm, learning_rate, skipped)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the network has its averaged weights."""
        weights = list(self.parameters.values())
        self.average.store(weights)
        try:
            self.average.copy_to(weights)
            yield
        finally:
            self.average.restore(weights)

    def tensors(self) -> dict[str, Tensor]:
        """Moments and averages by name, to be saved; not copies."""
        kept = {}
        for name, parameter in self.parameters.items():
            for moment, value in self.adamw.state.get(parameter, {}).items():
                kept[f"{moment}/{name}"] = value
        for name, value in zip(self.parameters, self.average.shadow_params, strict=True):
            kept[f"average/{name}"] = value
        return kept

    def numbers(self) -> dict[str, Any]:
        """What is kept beside the tensors."""
        return {"schedule": self.schedule.last_epoch, "average": self.average.optimization_step}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from what `tensors` and `numbers` gave."""
        for name, parameter in self.parameters.items():
            moments = {m: tensors[f"{m}/{name}"] for m in MOMENTS if f"{m}/{name}" in tensors}
            # AdamW counts steps on the CPU unless fused; its moments lie beside the parameter.
            self.adamw.state[parameter] = {
                moment: value.clone()
                if moment == "step" and not parameter.is_cuda
                else value.to(parameter.device, copy=True)
                for moment, value in moments.items()
            }
        averages = [tensors[f"average/{name}"] for name in self.parameters]
        for shadow, value in zip(self.average.shadow_params, averages, strict=True):
            shadow.copy_(value)
        self.average.optimization_step = numbers["average"]
        self.schedule = self._schedule_from(numbers["schedule"])

    def _schedule_from(self, step: int) -> torch.optim.lr_scheduler.LambdaLR:
        for group in self.adamw.param_groups:
            group["initial_lr"] = self.settings.learning_rate
        return get_cosine_schedule_with_warmup(
            self.adamw, self.settings.warmup_steps, self.steps, last_epoch=step - 1
        )
