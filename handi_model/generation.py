"""A checked call of the pipeline carried out: both stages, and what a callback does between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor

from handi_model.areas import motion_areas
from handi_model.compose import as_type, feathered, overwrite
from handi_model.config import STAGES, Stage
from handi_model.finite import check_finite
from handi_model.interface.schedulers import set_steps, step_arguments
from handi_model.latents import area_channel, empty_mask_latent, encode_frames
from handi_model.request import Finish, Request
from handi_model.sampling import Condition, OnStep, Sampled, denoise

if TYPE_CHECKING:
    from handi_model.pipeline import HandiPipeline

StepCallback = Callable[["HandiPipeline", int, float, dict[str, Any]], dict[str, Any] | None]

CHANGEABLE = ("latents", "prompt_embeds", "negative_prompt_embeds", "image_latents")
"""Tensors that a callback may ask for, and change."""


@dataclass
class HandiOutput(BaseOutput):
    """What `HandiPipeline` gives.

    Attributes:
        frames: one entry a clip, of the type asked for: `np` (L, H, W, 3) float32 in [0, 1], `pt`
            (L, 3, H, W) float32 in [0, 1], `pil` a list of L images, `latent` (C, L, h, w), which
            is not overwritten outside of the motion area. None for `mask`, and where stage 1 was
            interrupted.
        masks: (B, H, W) float32 in [0, 1]: the motion area. Where it is 0 every frame is the input
            image; it lies between 0 and 1 on a feathered edge only.
    """

    frames: list[Any]
    masks: NDArray[np.float32]


@dataclass(frozen=True)
class Told:
    """What the networks are told of B clips, beside the motion area.

    Attributes:
        prompt_embeds, negative_prompt_embeds: (B, T, D).
        image_latents: (B, C, h, w).
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor
    image_latents: Tensor

    def condition(self, areas: Tensor, guidance_scale: float | list[float]) -> Condition:
        """Under (B, H, W) areas.

        Args:
            guidance_scale: one, or one for each prompt, whose clips follow each other.
        """
        latents = self.image_latents
        cells = area_channel(areas, (latents.shape[2], latents.shape[3])).to(latents)
        scales = torch.as_tensor(guidance_scale, dtype=torch.float32, device=latents.device)
        scales = scales.reshape(-1).repeat_interleave(len(latents) // scales.numel())
        plain = Condition(self.prompt_embeds, latents, cells)
        return plain.guided(self.negative_prompt_embeds, scales)


class Generation:
    """One call under way.

    Args:
        callback: called after each call of the network, see `HandiPipeline`.
        tensors: names of what it gets, of `CHANGEABLE`.

    Raises:
        ValueError: if the scheduler cannot do what the request asks.
    """

    def __init__(
        self,
        pipe: HandiPipeline,
        request: Request,
        finish: Finish,
        callback: StepCallback | None,
        tensors: Sequence[str],
    ) -> None:
        self.pipe, self.request, self.finish = pipe, request, finish
        self.callback, self.tensors = callback, tensors
        self.device = pipe._execution_device
        self.uses_mask = bool(pipe.config.uses_mask)
        self.predicts_areas = request.areas is None and self.uses_mask
        self.steps = {
            "mask": request.mask_steps if self.predicts_areas else 0,
            "video": 0 if finish.output_type == "mask" else request.num_inference_steps,
        }
        step_arguments(pipe.scheduler, None, request.eta)
        self.calls = sum(len(set_steps(pipe.scheduler, n)) for n in self.steps.values() if n)
        self.done = 0

    def run(self) -> HandiOutput:
        """Both stages, and what is asked for of them.

        Raises:
            FloatingPointError: if what comes out are no numbers.
        """
        pipe, finish = self.pipe, self.finish
        videos = self.request.num_videos_per_prompt
        scenes = torch.from_numpy(self.request.scenes).to(self.device).permute(0, 3, 1, 2)
        self.told = self._tell(scenes, videos)
        scenes = scenes.repeat_interleave(videos, 0)
        self.noise, self.generators = self._draw()
        with pipe.progress_bar(total=self.calls) as self.bar:
            if self.predicts_areas:
                areas = self._motion_areas()
            elif self.request.areas is not None:
                areas = self.request.areas.repeat(videos, 0)
            else:
                areas = np.ones((len(scenes), *self.request.size), np.float32)
            masks = np.stack([feathered(area, finish.feather) for area in areas])
            if finish.output_type == "mask" or pipe.interrupt:
                return HandiOutput([], masks)
            seen = areas if self.uses_mask else np.ones_like(areas)
            latents = self._sample("video", torch.from_numpy(seen).to(self.device))
        if pipe.config.residual:
            latents = latents + self.told.image_latents[:, :, None]
        if finish.output_type == "latent":
            return HandiOutput(list(latents), masks)
        decoded = pipe.decode(latents, finish.decode_chunk_size)
        clips = overwrite(decoded, scenes, torch.from_numpy(masks).to(decoded))
        return HandiOutput(as_type(clips, finish.output_type), masks)

    def _motion_areas(self) -> NDArray[np.float32]:
        """Stage 1: (B, H, W), 0 or 1."""
        pipe, finish = self.pipe, self.finish
        # Not yet on its device where the network waits for its turn in the processor's memory.
        prior = pipe.unet.prior.to(self.device).expand(self.request.clips, -1, -1)
        latents = self._sample("mask", prior)
        if pipe.config.residual:
            empty = empty_mask_latent(pipe.vae, *self.request.size, self.device)
            latents = latents + empty[:, None].to(latents)
        return motion_areas(
            pipe.vae, latents, finish.mask_threshold, finish.mask_radius, finish.decode_chunk_size
        )

    def _sample(self, stage: Stage, areas: Tensor) -> Tensor:
        """Denoise one stage under (B, H, W) areas: (B, C, L, h, w)."""
        pipe = self.pipe
        latents = denoise(
            pipe.unet,
            pipe.scheduler,
            self.noise[stage],
            self.told.condition(areas, pipe.guidance_scale),
            stage,
            self.steps[stage],
            self._after_step(stage, areas),
            step_arguments(pipe.scheduler, self.generators.get(stage), self.request.eta),
        )
        return check_finite(latents, f"latents of stage {STAGES.index(stage) + 1}", pipe.unet.dtype)

    def _after_step(self, stage: Stage, areas: Tensor) -> OnStep:
        """Move the bar, call the user's callback, and take over what it changes."""

        def on_step(index: int, timestep: Tensor, now: Sampled) -> Sampled | None:
            pipe = self.pipe
            pipe._current_timestep = timestep
            self.bar.update()
            if self.callback:
                scale = pipe.guidance_scale
                told = {**vars(self.told), "latents": now.latent}
                given = {name: told[name] for name in self.tensors}
                changed = self.callback(pipe, self.done, timestep.item(), {**given, "stage": stage})
                new = {name: one for name, one in (changed or {}).items() if name in CHANGEABLE}
                for name, one in new.items():
                    if one.shape != told[name].shape:
                        raise ValueError(
                            f"callback_on_step_end: it gave {name} of shape {tuple(one.shape)}, "
                            f"not {tuple(told[name].shape)}"
                        )
                latent = new.pop("latents", now.latent)
                condition = now.condition
                if new or pipe.guidance_scale is not scale:
                    self.told = replace(self.told, **new)
                    condition = self.told.condition(areas, pipe.guidance_scale)
                now = Sampled(latent, condition)
            self.done += 1
            return None if pipe.interrupt else now

        return on_step

    def _tell(self, scenes: Tensor, videos: int) -> Told:
        """Encode instructions and images (B, 3, H, W), once for both stages and all clips."""
        pipe, request = self.pipe, self.request
        text, negative = request.prompt_embeds, request.negative_prompt_embeds
        if text is None:
            text = pipe.encode_prompt(request.prompts)
        if negative is None:
            away = request.negative_prompt
            negative = pipe.encode_prompt([away] if isinstance(away, str) else away)
            negative = negative.expand(len(scenes), -1, -1)
        latents = encode_frames(pipe.vae, (scenes * 2 - 1)[:, None])[:, :, 0]
        return Told(
            *(
                one.to(self.device, pipe.unet.dtype).repeat_interleave(videos, 0)
                for one in (text, negative, latents)
            )
        )

    def _draw(self) -> tuple[dict[Stage, Tensor], dict[Stage, list[torch.Generator]]]:
        """Noise (B, C, L, h, w) of each stage, and generators for the noise of its steps.

        Clip after clip, so that each is as if alone. All are drawn even where stage 1 is skipped:
        the clip under a mask does not depend on who drew the mask.
        """
        request, latents = self.request, self.told.image_latents
        batch, channels, height, width = latents.shape
        shape = (len(STAGES), channels, request.num_frames, height, width)
        given: Sequence[torch.Generator | None] = request.generators or [None] * batch
        drawn = [
            torch.randn(shape, generator=one, device=one.device if one else None).to(latents)
            for one in given
        ]
        noise = dict(zip(STAGES, torch.stack(drawn, 1), strict=True))
        for stage, own in zip(STAGES, (request.mask_latents, request.latents), strict=True):
            if own is not None:
                noise[stage] = own.to(latents)
        generators: dict[Stage, list[torch.Generator]] = {}
        for one in request.generators or ():
            for stage in STAGES:
                seed = int(torch.randint(2**62, (), generator=one, device=one.device))
                of_stage = torch.Generator(one.device).manual_seed(seed)
                generators.setdefault(stage, []).append(of_stage)
        return noise, generators
