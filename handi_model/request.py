"""What a user asks the pipeline for, checked: one clear line for whatever cannot be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from transformers import CLIPTokenizer

LONGEST_CLIP = 256
"""Frames: far beyond what a model was trained on, short of filling the memory by a slip."""


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


def check_count(name: str, value: Any, least: int, most: int, unit: str) -> int:
    """The whole number, or a ValueError that names the range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name}: {value!r} is not a whole number of {unit}")
    if not least <= value <= most:
        raise ValueError(f"{name}: {value} is outside of {least} to {most} {unit}")
    return int(value)


def check_size(height: Any, width: Any, multiple: int) -> tuple[int, int]:
    """Height and width in pixels, or a ValueError that names the nearest sizes that work."""
    for name, side in (("height", height), ("width", width)):
        check_count(name, side, multiple, 8192, "pixels")
        if side % multiple:
            below = side - side % multiple
            raise ValueError(
                f"{name}: {side} is not a multiple of {multiple}; "
                f"take {below} or {below + multiple}"
            )
    return height, width


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


def read_scene(image: Any, height: int, width: int) -> NDArray[np.float32]:
    """Scale an image down and cut its middle to (H, W, 3) float32 in [0, 1].

    Args:
        image: PIL image (its EXIF rotation is applied, transparency is laid on black), (H, W, 3)
            array (uint8, or float in [0, 1]) or (3, H, W) tensor in [0, 1].

    Raises:
        ValueError: if it is none of these, or smaller than the clip.
    """
    pixels = _pixels("image", image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image: an array of shape {pixels.shape} is not (H, W, 3)")
    scene = _fit("image", pixels, height, width, cv2.INTER_AREA)
    return np.clip(scene, 0, 1).astype(np.float32)


def read_area(mask: Any, height: int, width: int) -> NDArray[np.float32]:
    """Scale and cut a drawn motion area the way the image is: (H, W) float32 of 0 and 1.

    Raises:
        ValueError: if it is no picture, or smaller than the clip.
    """
    pixels = _pixels("mask", mask)
    if pixels.ndim == 3:
        pixels = pixels.mean(2)
    if pixels.ndim != 2:
        raise ValueError(f"mask: an array of shape {pixels.shape} is not (H, W)")
    return (_fit("mask", pixels, height, width, cv2.INTER_AREA) >= 0.5).astype(np.float32)


def _pixels(name: str, picture: Any) -> NDArray[np.float32]:
    """A picture of any accepted type as float32 in [0, 1], colour last."""
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            shown = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown)
        picture = np.asarray(upright.convert("RGB"))
    elif isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu()
        picture = picture.float() if picture.is_floating_point() else picture
        picture = (picture.permute(1, 2, 0) if picture.ndim == 3 else picture).numpy()
    if not isinstance(picture, np.ndarray):
        raise ValueError(
            f"{name}: {type(picture).__name__} is no picture; give a PIL image, array or tensor"
        )
    values: NDArray[np.float32] = picture.astype(np.float32)
    if picture.dtype == np.uint8:
        return values / np.float32(255)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(f"{name}: {picture.dtype} values must lie in [0, 1]; uint8 in 0 to 255")
    return values


def _fit(
    name: str, pixels: NDArray[np.float32], height: int, width: int, method: int
) -> NDArray[np.float32]:
    """Scale down until one side fits, and cut the other one at the middle."""
    tall, wide = pixels.shape[:2]
    if tall < height or wide < width:
        raise ValueError(
            f"{name}: {wide}x{tall} pixels are too small for a clip of {width}x{height}; give a "
            "larger one, or ask for a smaller width and height"
        )
    scale = max(height / tall, width / wide)
    if scale < 1:
        to = (max(width, round(wide * scale)), max(height, round(tall * scale)))
        pixels = np.asarray(cv2.resize(pixels, to, interpolation=method))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
