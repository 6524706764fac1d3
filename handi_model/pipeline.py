"""HandiPipeline: from an image and an instruction to a clip, as a diffusers pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from handi_model.config import DEFAULT_FPS
from handi_model.finite import check_finite
from handi_model.generation import CHANGEABLE, Generation, HandiOutput, StepCallback
from handi_model.interface.card import write_beside
from handi_model.interface.lora import LoraWeights
from handi_model.interface.memory import VaeMemory
from handi_model.interface.schedulers import check_scheduler, hand_on, trained_noise
from handi_model.latents import decode_latents
from handi_model.request import Finish, Request, read_request
from handi_model.unet import HandiUNet

__all__ = ["HandiOutput", "HandiPipeline"]


class HandiPipeline(DiffusionPipeline, LoraWeights, VaeMemory):
    """Two-stage sampling: the motion area first, then the clip inside it.

    Args:
        scheduler: any of `interface.schedulers.WORKING`; another one is made with its `from_config`
            from the configuration of the one that was loaded.
        residual: what the network denoises, see `ModelConfig.residual`.
        uses_mask: whether stage 2 was trained under a motion area. Without, there is no stage 1:
            the network sees an area that covers the whole frame, and a clip may change anywhere.
        num_frames, guidance_scale, num_inference_steps: defaults of a call.
        fps: frames a second that its clips are to be played at, see `ModelConfig.fps`.
        base_model: the checkpoint that the training started from, for the model card.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _callback_tensor_inputs = CHANGEABLE

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: HandiUNet
    scheduler: SchedulerMixin

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: HandiUNet,
        scheduler: SchedulerMixin,
        residual: bool = False,
        num_frames: int = 16,
        guidance_scale: float = 9.0,
        num_inference_steps: int = 25,
        fps: float = DEFAULT_FPS,
        base_model: str | None = None,
        uses_mask: bool = True,
    ) -> None:
        super().__init__()
        hand_on(scheduler)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        self.register_to_config(
            residual=residual,
            num_frames=num_frames,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            fps=fps,
            base_model=base_model,
            uses_mask=uses_mask,
        )
        self._trained_noise = trained_noise(scheduler)
        self._guidance_scale: float | list[float] = guidance_scale
        self._num_timesteps = 0
        self._current_timestep: Tensor | None = None
        self._interrupt = False

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

    @property
    def guidance_scale(self) -> float | list[float]:
        """Of the call under way; a callback may set `_guidance_scale`, as in diffusers."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the steps to come are guided."""
        scale = self._guidance_scale
        return max(scale if isinstance(scale, list) else [scale]) > 1

    @property
    def num_timesteps(self) -> int:
        """Calls of the network in the call under way, over both stages."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> Tensor | None:
        """Of the last step of the call under way; None between calls."""
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        """Whether the call under way ends with what is there: a callback sets `_interrupt`."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | list[str] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        mask_steps: int | None = None,
        guidance_scale: float | list[float] | None = None,
        negative_prompt: str | list[str] | None = None,
        mask: Any = None,
        mask_threshold: float = 0.5,
        mask_radius: int | None = None,
        feather: int = 0,
        output_type: str = "np",
        decode_chunk_size: int = 16,
        callback_on_step_end: StepCallback | None = None,
        return_dict: bool = True,
        *,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        mask_latents: Tensor | None = None,
        eta: float = 0.0,
    ) -> HandiOutput:
        """Generate clips.

        Args:
            image: the scene: a PIL image, an (H, W, 3) array (uint8, or float in [0, 1]), a
                (3, H, W) tensor in [0, 1], or a list with one for each prompt. It is scaled down,
                never up, and its middle is cut to the clip's shape.
            prompt: an instruction, or a list of them; or None with `prompt_embeds`.
            num_frames: frames of a clip, from 2; default the model's.
            height, width: of the clip, pixels; default the model's resolution.
            generator: seeds all noise. A list gives each clip its own, and a clip then does not
                depend on its neighbours, under whichever scheduler.
            num_inference_steps: denoising steps of stage 2; default the model's.
            mask_steps: denoising steps of stage 1; default as many as stage 2.
            guidance_scale: of both stages, from 1 (none); a list has one for each prompt.
            negative_prompt: what guidance moves away from; a list has one for each prompt.
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
                ...})` after each call of the network, counted over both stages; tensors in the
                dict that it returns replace those that it got. What it raises ends the call, and
                `pipe._interrupt = True` ends it with what is there: without frames in stage 1.
            return_dict: False gives the tuple of the output's fields, as in diffusers.
            callback_on_step_end_tensor_inputs: what the callback gets, of
                `_callback_tensor_inputs`.
            num_videos_per_prompt: clips of each prompt; those of one prompt follow each other.
            prompt_embeds, negative_prompt_embeds: (B, T, D) as `encode_prompt` gives them, instead
                of the texts.
            latents, mask_latents: standard normal noise of stage 2 and of stage 1, (clips, C, L, h,
                w), instead of what the generator would draw.
            eta: share of DDPM's noise that DDIM adds at each step, [0, 1]; for schedulers that
                have it.

        Raises:
            ValueError: for an argument or a scheduler that cannot be met, in one line that names
                it.
            FloatingPointError: if what comes out are no finite numbers, with what to do.
        """
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        for name in callback_on_step_end_tensor_inputs:
            if name not in self._callback_tensor_inputs:
                raise ValueError(
                    f"callback_on_step_end_tensor_inputs: {name!r} is none of "
                    f"{', '.join(self._callback_tensor_inputs)}"
                )
        finish = Finish(output_type, mask_threshold, mask_radius, feather, decode_chunk_size)
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
            num_videos_per_prompt=num_videos_per_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            latents=latents,
            mask_latents=mask_latents,
            eta=eta,
        )
        scales = request.guidance_scale.tolist()
        self._guidance_scale = scales if len(set(scales)) > 1 else scales[0]
        self._interrupt = False
        generation = Generation(
            self, request, finish, callback_on_step_end, callback_on_step_end_tensor_inputs
        )
        self._num_timesteps = generation.calls
        try:
            output = generation.run()
        finally:
            self._current_timestep = None
            self.maybe_free_model_hooks()
        return output if return_dict else output.to_tuple()

    def check(self, image: Any, prompt: str | list[str] | None = None, **asked: Any) -> Request:
        """Check the arguments of a call without running it.

        Args:
            asked: as the call takes them, but for those of the output and of the callback.

        Raises:
            ValueError: as the call would.
        """
        check_scheduler(self.scheduler, self._trained_noise)
        config = self.config
        steps = asked.get("num_inference_steps")
        steps = config.num_inference_steps if steps is None else steps
        defaults = {
            "height": self.resolution,
            "width": self.resolution,
            "num_frames": config.num_frames,
            "num_inference_steps": steps,
            "mask_steps": steps,
            "guidance_scale": config.guidance_scale,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return read_request(
            image,
            prompt,
            tokenizer=self.tokenizer,
            text_channels=self.unet.config.cross_attention_dim,
            pixel_multiple=self.pixel_multiple,
            latent_channels=self.unet.config.latent_channels,
            latent_factor=self.latent_factor,
            most_steps=self.scheduler.config.num_train_timesteps,
            **{**defaults, **given},
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
        """Decode (B, C, L, h, w) latents: (B, L, 3, H, W) float32 in [0, 1], not overwritten.

        Raises:
            FloatingPointError: if the autoencoder gives no finite numbers.
        """
        decoded = decode_latents(self.vae, latents, chunk).float()
        return (check_finite(decoded, "decoded frames", self.vae.dtype) * 0.5 + 0.5).clamp(0, 1)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Write the pipeline into a folder, with a model card and its class for diffusers.

        Args: see diffusers.

        Raises:
            ValueError: if adapters are loaded, which the folder would not hold, or if it is to be
                published in the same call, which would leave the card behind.
        """
        self.check_no_adapters()
        if kwargs.get("push_to_hub"):
            raise ValueError("push_to_hub: call pipe.push_to_hub(REPO), which takes the card along")
        super().save_pretrained(save_directory, *args, **kwargs)
        write_beside(self, save_directory)
