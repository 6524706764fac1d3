"""Which of diffusers' schedulers can sample a model, and how each wants to be called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import SchedulerMixin

from handi_model.diffusion import PREDICTS, alpha_bars

WORKING = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
"""Solvers of the noise process that the model was trained with. The others are of other processes
(flow matching, EDM, discrete ones), of distilled networks (LCM, TCD) or run it backwards."""

OF_LATENTS = {"clip_sample": False, "skip_prk_steps": True}
"""What other schedulers must know that the model's own does not: DDIM and DDPM would clip latents
as if they were pixels, and PNDM would begin with Runge-Kutta steps, which need more of them."""

TRAINED = ("prediction_type", "num_train_timesteps", "beta_schedule", "beta_start", "beta_end")
"""What a scheduler must have as the model was trained with it."""


def hand_on(scheduler: SchedulerMixin) -> None:
    """Write `OF_LATENTS` into a scheduler's configuration where it says nothing of it.

    `Other.from_config(pipe.scheduler.config)` then takes it from there: diffusers' configurations
    keep what is not theirs for those whose it is.
    """
    missing = {key: value for key, value in OF_LATENTS.items() if key not in scheduler.config}
    scheduler.register_to_config(**missing)


def trained_noise(scheduler: SchedulerMixin) -> dict[str, Any]:
    """What another scheduler of the same model must agree with this one in."""
    return {key: scheduler.config.get(key) for key in TRAINED}


def check_scheduler(scheduler: SchedulerMixin, trained: Mapping[str, Any]) -> None:
    """See that a scheduler samples what the model was trained to denoise.

    Args:
        trained: of the model's own, see `trained_noise`.

    Raises:
        ValueError: if it does not, in one line that names it and what to do.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if not any(kind.__name__ in WORKING for kind in type(scheduler).__mro__):
        raise ValueError(
            f"scheduler: {name} does not sample this model; those that do are {', '.join(WORKING)}"
        )
    again = f"make it with {name}.from_config(pipe.scheduler.config) of the model as it was loaded"
    for key, value in trained.items():
        if config.get(key) != value:
            raise ValueError(
                f"scheduler: {name} has {key} {config.get(key)!r}, and the model was trained with "
                f"{value!r}; {again}"
            )
    if config.prediction_type not in PREDICTS or config.get("use_flow_sigmas"):
        raise ValueError(
            f"scheduler: {name} is set to flow matching or another prediction_type than "
            f"{' and '.join(PREDICTS)}, which this model was not trained for; {again}"
        )
    for key in ("clip_sample", "thresholding"):
        if config.get(key):
            raise ValueError(
                f"scheduler: {name} has {key}, which is for pixels and spoils latents; make it "
                f"with {key}=False"
            )
    if not torch.allclose(scheduler.alphas_cumprod.cpu(), alpha_bars(config), atol=1e-5):
        raise ValueError(
            f"scheduler: {name} has no rescale_betas_zero_snr, which the model was trained with; "
            "take DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler"
        )


def set_steps(
    scheduler: SchedulerMixin, steps: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Begin a sampling: its timesteps, one for each call of the network.

    Schedulers of second order call the network twice a step, except for the last.

    Raises:
        ValueError: if the scheduler cannot do so many steps.
    """
    try:
        scheduler.set_timesteps(steps, device=device)
    except Exception as error:
        raise ValueError(
            f"num_inference_steps: {type(scheduler).__name__} takes no {steps} steps "
            f"({str(error).splitlines()[0]})"
        ) from error
    # Known to be the first, so that the scheduler need not look for it on the device.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    timesteps: torch.Tensor = scheduler.timesteps
    return timesteps


def step_arguments(
    scheduler: SchedulerMixin, generators: list[torch.Generator] | None, eta: float
) -> dict[str, Any]:
    """What a scheduler's step takes beside output, timestep and latent.

    Args:
        generators: one for each clip, for schedulers that draw noise at each step.
        eta: DDIM's share of DDPM's noise, [0, 1].

    Raises:
        ValueError: if eta is not 0 and the scheduler takes none.
    """
    takes = inspect.signature(scheduler.step).parameters
    if eta and "eta" not in takes:
        raise ValueError(f"eta: {type(scheduler).__name__} takes none; DDIMScheduler does")
    given = {"eta": eta, "generator": generators}
    return {name: value for name, value in given.items() if name in takes}
