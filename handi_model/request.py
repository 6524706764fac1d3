"""What a user asks the pipeline for, checked: one clear line for whatever cannot be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from handi_model.bounds import LONGEST_CLIP, check_count, check_size
from handi_model.pictures import read_area, read_scene

NUMBER = int | float | np.integer | np.floating


@dataclass(frozen=True)
class Request:
    """A checked call of the pipeline.

    Attributes:
        prompts: B instructions.
        negative_prompt: what guidance moves away from; may be empty.
        scenes: (B, H, W, 3) float32 in [0, 1], the images cut to the clip's size.
        areas: (B, H, W) float32, 0 or 1, the user's own motion areas; None asks for stage 1.
        generators: B generators, or None.
        guidance_scale: (B,) float32.
    """

    prompts: list[str]
    negative_prompt: str
    scenes: NDArray[np.float32]
    areas: NDArray[np.float32] | None
    num_frames: int
    num_inference_steps: int
    mask_steps: int
    generators: list[torch.Generator] | None
    guidance_scale: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.scenes.shape[1], self.scenes.shape[2]


def read_request(
    image: Any,
    prompt: str | Sequence[str],
    *,
    negative_prompt: str,
    tokenizer: CLIPTokenizer,
    height: int,
    width: int,
    pixel_multiple: int,
    num_frames: int,
    num_inference_steps: int,
    mask_steps: int,
    most_steps: int,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    guidance_scale: float | Sequence[float],
    mask: Any,
) -> Request:
    """Check the arguments of a call of the pipeline (see there), defaults filled in.

    Args:
        pixel_multiple: what height and width must be multiples of.
        most_steps: denoising steps that the schedule has.

    Raises:
        ValueError: for the first argument that cannot be met.
    """
    prompts: list[Any] = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
    check_prompts(prompts, negative_prompt, tokenizer)
    count = len(prompts)
    size = check_size(height, width, pixel_multiple)
    areas = None
    if mask is not None:
        areas = np.stack([read_area(one, *size) for one in one_each("mask", mask, count)])
    return Request(
        prompts=prompts,
        negative_prompt=negative_prompt,
        scenes=np.stack([read_scene(one, *size) for one in one_each("image", image, count)]),
        areas=areas,
        num_frames=check_count("num_frames", num_frames, 2, LONGEST_CLIP, "frames"),
        num_inference_steps=check_count(
            "num_inference_steps", num_inference_steps, 1, most_steps, "steps"
        ),
        mask_steps=check_count("mask_steps", mask_steps, 1, most_steps, "steps"),
        generators=check_generators(generator, count),
        guidance_scale=check_guidance(guidance_scale, count),
    )


def one_each(name: str, given: Any, count: int) -> list[Any]:
    """A list of `count`: the list given, or the one value for all.

    Raises:
        ValueError: if a list has another length.
    """
    values = list(given) if isinstance(given, list | tuple) else [given] * count
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} for {count} prompts; give one, or one for each")
    return values


def check_prompts(prompts: Sequence[Any], negative_prompt: Any, tokenizer: CLIPTokenizer) -> None:
    """Raise ValueError where an instruction is missing, empty, or longer than the model reads."""
    if not prompts:
        raise ValueError("prompt: the list is empty; give at least one instruction")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompt: {prompt!r} is no instruction; say what the hands should do")
    if not isinstance(negative_prompt, str):
        raise ValueError(f"negative_prompt: {negative_prompt!r} is no text")
    for name, text in [("prompt", p) for p in prompts] + [("negative_prompt", negative_prompt)]:
        tokens = len(tokenizer(text).input_ids)
        if tokens > tokenizer.model_max_length:
            raise ValueError(
                f"{name}: {tokens} tokens, and the model reads {tokenizer.model_max_length}; "
                f"shorten {text[:40]!r}..."
            )


def check_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[torch.Generator] | None:
    """One generator for each clip, or None; a single one serves all clips in turn."""
    if generator is None:
        return None
    generators = one_each("generator", generator, count)
    for one in generators:
        if not isinstance(one, torch.Generator):
            raise ValueError(f"generator: {one!r} is no torch.Generator")
    return generators


def check_guidance(scale: Any, count: int) -> torch.Tensor:
    """(B,) float32 guidance scales, each at least 1."""
    values = one_each("guidance_scale", scale, count)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, NUMBER) or not 1 <= value <= 100:
            raise ValueError(f"guidance_scale: {value!r} is not a number from 1 (none) to 100")
    return torch.tensor([float(value) for value in values], dtype=torch.float32)
