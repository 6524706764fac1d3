"""HandiPipeline: from an image and an instruction to a clip, as a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, DPMSolverMultistepScheduler
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from handi_model.areas import motion_areas
from handi_model.bounds import check_count
from handi_model.compose import OUTPUT_TYPES, as_type, feathered, overwrite
from handi_model.config import Stage
from handi_model.latents import (
    area_channel,
    decode_latents,
    empty_mask_latent,
    encode_frames,
)
from handi_model.request import Request, read_request
from handi_model.sampling import Condition, denoise
from handi_model.unet import HandiUNet

StepCallback = Callable[["HandiPipeline", int, int, dict[str, Any]], dict[str, Any] | None]


@dataclass
class HandiOutput(BaseOutput):
    """What `HandiPipeline` gives.

    Attributes:
        frames: one entry a clip, of the type asked for: `np` (L, H, W, 3) float32 in [0, 1], `pt`
            (L, 3, H, W) float32 in [0, 1], `pil` a list of L images, `latent` (C, L, h, w), which
            is not overwritten outside of the motion area; `mask` none.
        masks: (B, H, W) float32 in [0, 1]: the motion area. Where it is 0 every frame is the input
            image; it lies between 0 and 1 on a feathered edge only.
    """

    frames: list[Any]
    masks: NDArray[np.float32]


@dataclass(frozen=True)
class _Encoded:
    """What both stages share: (B, T, D) texts, (B, C, h, w) image latents, guidance scales."""

    text: Tensor
    unconditional: Tensor
    image_latent: Tensor
    guidance_scale: Tensor

    def condition(self, areas: Tensor) -> Condition:
        """Under (B, H, W) areas."""
        cells = area_channel(areas, (self.image_latent.shape[2], self.image_latent.shape[3]))
        plain = Condition(self.text, self.image_latent, cells.to(self.image_latent.dtype))
        return plain.guided(self.unconditional, self.guidance_scale)


class HandiPipeline(DiffusionPipeline):
    """Two-stage sampling: the motion area first, then the clip inside it.

    Args:
        residual: what the network denoises, see `ModelConfig.residual`.
        uses_mask: whether stage 2 was trained under a motion area. Without, there is no stage 1:
            the network sees an area that covers the whole frame, and a clip may change anywhere.
        num_frames, guidance_scale, num_inference_steps: defaults of a call.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: HandiUNet
    scheduler: DPMSolverMultistepScheduler

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: HandiUNet,
        scheduler: DPMSolverMultistepScheduler,
        residual: bool = False,
        num_frames: int = 16,
        guidance_scale: float = 9.0,
        num_inference_steps: int = 25,
        uses_mask: bool = True,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        self.register_to_config(
            residual=residual,
            num_frames=num_frames,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            uses_mask=uses_mask,
        )

    @property
    def latent_factor(self) -> int:
        """Pixels a side of one latent cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def resolution(self) -> int:
        """Side of the frames that the model was made for, pixels."""
        return int(self.unet.config.sample_size * self.latent_factor)

    @property
    def pixel_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return int(self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | list[str],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        mask_steps: int | None = None,
        guidance_scale: float | list[float] | None = None,
        negative_prompt: str = "",
        mask: Any = None,
        mask_threshold: float = 0.5,
        mask_radius: int | None = None,
        feather: int = 0,
        output_type: str = "np",
        decode_chunk_size: int = 16,
        callback_on_step_end: StepCallback | None = None,
        return_dict: bool = True,
    ) -> HandiOutput:
        """Generate clips.

        Args:
            image: the scene: a PIL image, an (H, W, 3) array (uint8, or float in [0, 1]), a
                (3, H, W) tensor in [0, 1], or a list with one for each prompt. It is scaled down,
                never up, and its middle is cut to the clip's shape.
            prompt: an instruction, or a list of them.
            num_frames: frames of a clip, from 2; default the model's.
            height, width: of the clip, pixels; default the model's resolution.
            generator: seeds the noise. A list gives each clip its own, and a clip then does not
                depend on its neighbours.
            num_inference_steps: denoising steps of stage 2; default the model's.
            mask_steps: denoising steps of stage 1; default as many as stage 2.
            guidance_scale: of both stages, from 1 (none); a list gives each clip its own.
            negative_prompt: what guidance moves away from.
            mask: the motion area, white or 1 inside: skips stage 1. A PIL image, an (H, W) array
                or tensor, or a list with one for each prompt; cut as the image is. A model
                without a motion mask takes it too: what lies outside is overwritten alone.
            mask_threshold: a predicted pixel at or above it belongs to the motion area, (0, 1).
            mask_radius: of the disc that cleans the predicted area, pixels; default 1/85 of the
                shorter side (3 at 256); 0 does not clean.
            feather: width of the soft edge inside the motion area, pixels.
            output_type: `np`, `pil`, `pt` or `latent`; `mask` ends after stage 1, without frames.
            decode_chunk_size: frames that the autoencoder decodes at a time.
            callback_on_step_end: called as `f(pipe, step, timestep, {"latents": ..., "stage":
                ...})` after each step, counted over both stages; a `latents` in the dict that it
                returns replaces them. What it raises ends the call.
            return_dict: False gives the tuple of the output's fields, as in diffusers.

        Raises:
            ValueError: for an argument that cannot be met, in one line that names it.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type: {output_type!r} is none of {', '.join(OUTPUT_TYPES)}")
        check_count("feather", feather, 0, 8192, "pixels")
        check_count("decode_chunk_size", decode_chunk_size, 1, 8192, "frames")
        if mask_radius is not None:
            check_count("mask_radius", mask_radius, 0, 8192, "pixels")
        if not 0 < mask_threshold < 1:
            raise ValueError(f"mask_threshold: {mask_threshold!r} is not between 0 and 1")
        request = self.check(
            image,
            prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            generator=generator,
            num_inference_steps=num_inference_steps,
            mask_steps=mask_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            mask=mask,
        )
        scenes = torch.from_numpy(request.scenes).to(self._execution_device).permute(0, 3, 1, 2)
        encoded = self._encode(request, scenes)
        mask_noise, video_noise = self._noise(encoded.image_latent, request)
        steps = 0 if output_type == "mask" else request.num_inference_steps
        areas = request.areas
        if areas is None and not self.config.uses_mask:
            areas = np.ones((len(scenes), *request.size), np.float32)
        before = request.mask_steps if areas is None else 0

        with self.progress_bar(total=before + steps) as bar:

            def sample(stage: Stage, noise: Tensor, areas: Tensor) -> Tensor:
                first, count = (0, before) if stage == "mask" else (before, steps)
                watch = _watch(self, bar, callback_on_step_end, stage, first)
                condition = encoded.condition(areas)
                return denoise(self.unet, self.scheduler, noise, condition, stage, count, watch)

            if areas is None:
                prior = self.unet.prior.expand(len(scenes), -1, -1)
                mask_latent = sample("mask", mask_noise, prior)
                if self.config.residual:
                    empty = empty_mask_latent(self.vae, *request.size, scenes.device)
                    mask_latent = mask_latent + empty[:, None].to(mask_latent)
                areas = motion_areas(
                    self.vae, mask_latent, mask_threshold, mask_radius, decode_chunk_size
                )
            masks = np.stack([feathered(area, feather) for area in areas])
            frames: list[Any] = []
            if output_type != "mask":
                seen = areas if self.config.uses_mask else np.ones_like(areas)
                latents = sample("video", video_noise, torch.from_numpy(seen).to(scenes.device))
                if self.config.residual:
                    latents = latents + encoded.image_latent[:, :, None]
                frames = self._frames(latents, scenes, masks, output_type, decode_chunk_size)
        self.maybe_free_model_hooks()
        output = HandiOutput(frames, masks)
        return output if return_dict else output.to_tuple()

    def check(
        self,
        image: Any,
        prompt: str | list[str],
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        mask_steps: int | None = None,
        guidance_scale: float | list[float] | None = None,
        negative_prompt: str = "",
        mask: Any = None,
    ) -> Request:
        """Check the arguments of a call without running it.

        Raises:
            ValueError: as the call would.
        """
        config = self.config
        steps = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        return read_request(
            image,
            prompt,
            negative_prompt=negative_prompt,
            tokenizer=self.tokenizer,
            height=self.resolution if height is None else height,
            width=self.resolution if width is None else width,
            pixel_multiple=self.pixel_multiple,
            num_frames=config.num_frames if num_frames is None else num_frames,
            num_inference_steps=steps,
            mask_steps=steps if mask_steps is None else mask_steps,
            most_steps=self.scheduler.config.num_train_timesteps,
            generator=generator,
            guidance_scale=config.guidance_scale if guidance_scale is None else guidance_scale,
            mask=mask,
        )

    def encode_prompt(self, prompts: list[str]) -> Tensor:
        """Embed instructions: (B, T, D), padded to the longest that the model reads."""
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        embedded: Tensor = self.text_encoder(tokens.input_ids.to(self._execution_device))[0]
        return embedded.to(self.unet.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int = 16) -> Tensor:
        """Decode (B, C, L, h, w) latents: (B, L, 3, H, W) float32 in [0, 1], not overwritten."""
        return (decode_latents(self.vae, latents, chunk).float() * 0.5 + 0.5).clamp(0, 1)

    def _encode(self, request: Request, scenes: Tensor) -> _Encoded:
        """Encode instructions and images, once for both stages."""
        text = self.encode_prompt([*request.prompts, request.negative_prompt])
        latents = encode_frames(self.vae, (scenes * 2 - 1)[:, None])
        return _Encoded(
            text[:-1],
            text[-1:].expand_as(text[:-1]),
            latents[:, :, 0].to(self.unet.dtype),
            request.guidance_scale.to(scenes.device),
        )

    def _frames(
        self,
        latents: Tensor,
        scenes: Tensor,
        masks: NDArray[np.float32],
        output_type: str,
        chunk: int,
    ) -> list[Any]:
        """Decode (B, C, L, h, w) latents and keep the scenes (B, 3, H, W) outside of the masks."""
        if output_type == "latent":
            return list(latents)
        decoded = self.decode(latents, chunk)
        clips = overwrite(decoded, scenes, torch.from_numpy(masks).to(decoded))
        return as_type(clips, output_type)

    def _noise(self, image_latent: Tensor, request: Request) -> tuple[Tensor, Tensor]:
        """(B, C, L, h, w) noise of both stages, clip after clip, so that each is as if alone.

        Both are drawn even where stage 1 is skipped: the clip under a mask does not depend on who
        drew the mask.
        """
        batch, channels, height, width = image_latent.shape
        shape = (2, channels, request.num_frames, height, width)
        generators: Sequence[torch.Generator | None] = request.generators or [None] * batch
        noise = torch.stack(
            [
                torch.randn(shape, generator=one, device=one.device if one else None).to(
                    image_latent
                )
                for one in generators
            ]
        )
        return noise[:, 0], noise[:, 1]


def _watch(
    pipe: HandiPipeline, bar: tqdm, callback: StepCallback | None, stage: Stage, first: int
) -> Callable[[int, Tensor, Tensor], Tensor]:
    """Move the bar and call the user's callback after each step of a stage."""

    def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor:
        bar.update()
        if callback is None:
            return latents
        state = {"latents": latents, "stage": stage}
        changed = callback(pipe, first + index, int(timestep), state) or {}
        replaced: Tensor = changed.get("latents", latents)
        return replaced

    return on_step
