"""Pictures that strangers send, opened with care."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from handi_model.pictures import read_area, read_scene
from pipelines.clip_files import eight_bit, encode_png
from pipelines.records import one_line

FORMATS = ("JPEG", "PNG", "WEBP")
"""Few decoders are reachable from outside."""


def open_picture(name: str, data: bytes, most_pixels: int) -> Image.Image:
    """Decode a picture whose header promises few enough pixels.

    Args:
        name: of the field, for the message.
        data: the file.
        most_pixels: height times width.

    Raises:
        ValueError: if it is no still picture, broken or too large, in one line.
    """
    if not data:
        raise ValueError(f"{name}: the file is empty")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if width * height > most_pixels:
            raise ValueError(
                f"{name}: {width}x{height} pixels are more than {most_pixels}; send a smaller one"
            )
        if getattr(picture, "n_frames", 1) > 1:
            raise ValueError(f"{name}: the picture is animated; send a single frame")
        picture.load()
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise ValueError(f"{name}: not a picture; send a JPEG, PNG or WebP") from None
    except ValueError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ValueError(f"{name}: the picture is broken: {one_line(error)}") from None
    except Exception as error:  # each decoder has its own
        raise ValueError(f"{name}: the picture is broken: {one_line(error)}") from None
    if picture.mode.startswith("I"):
        # Pillow clips sixteen bits to eight where one would expect it to scale them.
        return Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    return picture


def scene_png(data: bytes, height: int, width: int, most_pixels: int) -> bytes:
    """A sent picture as the model will see it, as a PNG; raises ValueError as `open_picture`."""
    picture = open_picture("input_reference", data, most_pixels)
    try:
        return encode_png(eight_bit(read_scene(picture, height, width)))
    except ValueError as error:
        raise ValueError(str(error).replace("image: ", "input_reference: ", 1)) from None


def area_png(data: bytes, height: int, width: int, most_pixels: int) -> bytes:
    """A sent motion area at the clip's size, black and white; raises ValueError likewise."""
    return encode_png(eight_bit(read_area(open_picture("mask", data, most_pixels), height, width)))
