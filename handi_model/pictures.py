"""Pictures that a user gives, as arrays of the clip's size. Without torch, for servers."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


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
        shown = upright(picture)
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            shown = Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown)
        picture = np.asarray(shown.convert("RGB"))
    elif hasattr(picture, "detach"):
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


def upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; data that cannot be read, as editors write them, say nothing."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # of any type: Pillow reads them as a TIFF
        return picture


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
