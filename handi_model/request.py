"""What a user asks the pipeline for, checked: one clear line for whatever cannot be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from handi_model.bounds import LONGEST_CLIP, check_count, check_size
from handi_model.compose import OUTPUT_TYPES
from handi_model.pictures import read_area, read_scene

NUMBER = int | float | np.integer | np.floating
MOST_VIDEOS = 64
"""Clips of a prompt in one batch: far beyond what fits a device, short of a slip."""


@dataclass(frozen=True)
class Request:
    """A checked call of the pipeline: B prompts, and `clips` clips in their order.

    Attributes:
        prompts: B instructions; none where `prompt_embeds` are given.
        negative_prompt: what guidance moves away from, one or B; may be empty.
        prompt_embeds, negative_prompt_embeds: (B, T, D), or None.
        scenes: (B, H, W, 3) float32 in [0, 1], the images cut to the clip's size.
        areas: (B, H, W) float32, 0 or 1, the user's own motion areas; None asks for stage 1.
        generators: one for each clip, or None.
        guidance_scale: (B,) float32.
        latents, mask_latents: (clips, C, L, h, w) noise of stage 2 and of stage 1, or None.
        eta: DDIM's, [0, 1].
    """

    prompts: list[str]
    negative_prompt: str | list[str]
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    scenes: NDArray[np.float32]
    areas: NDArray[np.float32] | None
    num_videos_per_prompt: int
    num_frames: int
    num_inference_steps: int
    mask_steps: int
    generators: list[torch.Generator] | None
    guidance_scale: Tensor
    latents: Tensor | None
    mask_latents: Tensor | None
    eta: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.scenes.shape[1], self.scenes.shape[2]

    @property
    def clips(self) -> int:
        return len(self.scenes) * self.num_videos_per_prompt


@dataclass(frozen=True)
class Finish:
    """How what was denoised becomes masks and frames; see `HandiPipeline`.

    Raises:
        ValueError: for a field that cannot be met.
    """

    output_type: str
    mask_threshold: float
    mask_radius: int | None
    feather: int
    decode_chunk_size: int

    def __post_init__(self) -> None:
        if self.output_type not in OUTPUT_TYPES:
            raise ValueError(
                f"output_type: {self.output_type!r} is none of {', '.join(OUTPUT_TYPES)}"
            )
        check_count("feather", self.feather, 0, 8192, "pixels")
        check_count("decode_chunk_size", self.decode_chunk_size, 1, 8192, "frames")
        if self.mask_radius is not None:
            check_count("mask_radius", self.mask_radius, 0, 8192, "pixels")
        if not 0 < self.mask_threshold < 1:
            raise ValueError(f"mask_threshold: {self.mask_threshold!r} is not between 0 and 1")


def read_request(
    image: Any,
    prompt: str | Sequence[str] | None,
    *,
    negative_prompt: str | Sequence[str] | None = None,
    prompt_embeds: Tensor | None = None,
    negative_prompt_embeds: Tensor | None = None,
    tokenizer: CLIPTokenizer,
    text_channels: int,
    height: int,
    width: int,
    pixel_multiple: int,
    latent_channels: int,
    latent_factor: int,
    num_frames: int,
    num_inference_steps: int,
    mask_steps: int,
    most_steps: int,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    guidance_scale: float | Sequence[float],
    mask: Any = None,
    num_videos_per_prompt: int = 1,
    latents: Tensor | None = None,
    mask_latents: Tensor | None = None,
    eta: float = 0.0,
) -> Request:
    """Check the arguments of a call of the pipeline (see there), defaults filled in.

    Args:
        text_channels: of an embedded instruction.
        pixel_multiple: what height and width must be multiples of.
        latent_channels, latent_factor: of the autoencoder, the factor in pixels a latent cell.
        most_steps: denoising steps that the schedule has.

    Raises:
        ValueError: for the first argument that cannot be met.
    """
    if (prompt is None) == (prompt_embeds is None):
        raise ValueError("prompt: give either it or prompt_embeds")
    if negative_prompt and negative_prompt_embeds is not None:
        raise ValueError("negative_prompt: give either it or negative_prompt_embeds")
    prompts: list[Any] = []
    count = 1
    if prompt_embeds is not None:
        count = check_embeds("prompt_embeds", prompt_embeds, text_channels)
    elif prompt is not None:
        prompts = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        count = len(prompts)
        check_prompts("prompt", prompts, tokenizer)
    if negative_prompt_embeds is not None:
        check_embeds("negative_prompt_embeds", negative_prompt_embeds, text_channels, count)
    negatives = "" if negative_prompt is None else negative_prompt
    if not isinstance(negatives, str):
        negatives = one_each("negative_prompt", negatives, count)
    check_prompts("negative_prompt", negatives, tokenizer)
    words = tokenizer.model_max_length if prompt_embeds is None else prompt_embeds.shape[1]
    away = negative_prompt_embeds
    if (away.shape[1] if away is not None else tokenizer.model_max_length) != words:
        raise ValueError(
            f"negative_prompt_embeds: must have the {words} tokens that the instruction's have"
        )
    size = check_size(height, width, pixel_multiple)
    areas = None
    if mask is not None:
        areas = np.stack([read_area(one, *size) for one in one_each("mask", mask, count)])
    videos = check_count("num_videos_per_prompt", num_videos_per_prompt, 1, MOST_VIDEOS, "clips")
    frames = check_count("num_frames", num_frames, 2, LONGEST_CLIP, "frames")
    cells = (size[0] // latent_factor, size[1] // latent_factor)
    for name, noise in (("latents", latents), ("mask_latents", mask_latents)):
        check_latents(name, noise, (count * videos, latent_channels, frames, *cells))
    if isinstance(eta, bool) or not isinstance(eta, NUMBER) or not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta!r} is not a number in [0, 1]")
    return Request(
        prompts=prompts,
        negative_prompt=negatives,
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        scenes=np.stack([read_scene(one, *size) for one in one_each("image", image, count)]),
        areas=areas,
        num_videos_per_prompt=videos,
        num_frames=frames,
        num_inference_steps=check_count(
            "num_inference_steps", num_inference_steps, 1, most_steps, "steps"
        ),
        mask_steps=check_count("mask_steps", mask_steps, 1, most_steps, "steps"),
        generators=check_generators(generator, count * videos),
        guidance_scale=check_guidance(guidance_scale, count),
        latents=latents,
        mask_latents=mask_latents,
        eta=float(eta),
    )


def one_each(name: str, given: Any, count: int, whose: str = "prompts") -> list[Any]:
    """A list of `count`: the list given, or the one value for all.

    Raises:
        ValueError: if a list has another length.
    """
    values = list(given) if isinstance(given, list | tuple) else [given] * count
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} for {count} {whose}; give one, or one for each")
    return values


def check_prompts(name: str, given: Any, tokenizer: CLIPTokenizer) -> None:
    """Raise ValueError where a text is missing or longer than the model reads.

    Args:
        name: `prompt`, whose texts may not be empty, or `negative_prompt`.
        given: a text, or several.
    """
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise ValueError(f"{name}: the list is empty; give at least one instruction")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{name}: {text!r} is no text")
        if name == "prompt" and not text.strip():
            raise ValueError(f"prompt: {text!r} is no instruction; say what the hands should do")
        tokens = len(tokenizer(text).input_ids)
        if tokens > tokenizer.model_max_length:
            raise ValueError(
                f"{name}: {tokens} tokens, and the model reads {tokenizer.model_max_length}; "
                f"shorten {text[:40]!r}..."
            )


def check_embeds(name: str, embeds: Any, channels: int, count: int | None = None) -> int:
    """How many embedded instructions there are, in (B, T, channels)."""
    if not isinstance(embeds, Tensor) or not embeds.is_floating_point():
        raise ValueError(f"{name}: must be a tensor of floats, as pipe.encode_prompt gives it")
    fits = embeds.ndim == 3 and embeds.shape[2] == channels and 0 not in embeds.shape
    if not fits or len(embeds) != (count or len(embeds)):
        wanted = f"({count or 'B'}, T, {channels})"
        raise ValueError(f"{name}: shape {tuple(embeds.shape)} is not {wanted}")
    return len(embeds)


def check_latents(name: str, latents: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError where noise that was given is not (clips, C, L, h, w) numbers."""
    if latents is None:
        return
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        raise ValueError(f"{name}: must be a tensor of floats, standard normal noise")
    if tuple(latents.shape) != shape:
        raise ValueError(
            f"{name}: shape {tuple(latents.shape)} is not {shape}: clips, channels, frames, and "
            "rows and columns of latent cells"
        )
    if not bool(latents.isfinite().all()):
        raise ValueError(f"{name}: some values are not finite")


def check_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[torch.Generator] | None:
    """One generator for each clip, or None; a single one serves all clips in turn."""
    if generator is None:
        return None
    generators = one_each("generator", generator, count, "clips")
    for one in generators:
        if not isinstance(one, torch.Generator):
            raise ValueError(f"generator: {one!r} is no torch.Generator")
    return generators


def check_guidance(scale: Any, count: int) -> Tensor:
    """(B,) float32 guidance scales, each at least 1."""
    values = one_each("guidance_scale", scale, count)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, NUMBER) or not 1 <= value <= 100:
            raise ValueError(f"guidance_scale: {value!r} is not a number from 1 (none) to 100")
    return torch.tensor([float(value) for value in values], dtype=torch.float32)
