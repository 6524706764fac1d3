"""Pictures that strangers send, opened with care."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from handi_model.pictures import read_area, read_scene, upright
from pipelines.clip_files import eight_bit, encode_png

FORMATS = ("JPEG", "PNG", "WEBP")
"""Few decoders are reachable from outside."""
BROKEN = "the picture is broken, or was cut short; save it again"


def open_picture(name: str, data: bytes, most_pixels: int) -> Image.Image:
    """Decode a picture whose header promises few enough pixels.

    Args:
        name: of the field, for the message.
        data: the file.
        most_pixels: height times width.

    Raises:
        ValueError: if it is no still picture, broken or too large, in one line.
    """

    def refusal(why: str) -> ValueError:
        return ValueError(f"{name}: {why}")

    if not data:
        raise refusal("the file is empty")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
    except UnidentifiedImageError:
        raise refusal("not a picture; send a JPEG, PNG or WebP") from None
    except Image.DecompressionBombError:
        raise refusal(f"more than {most_pixels} pixels; send a smaller one") from None
    except Exception:  # each decoder has its own
        raise refusal(BROKEN) from None
    if width * height > most_pixels:
        raise refusal(f"{width}x{height} pixels are more than {most_pixels}; send a smaller one")
    # A JPEG's further frames are a camera's previews of the first.
    if picture.format in ("PNG", "WEBP") and getattr(picture, "n_frames", 1) > 1:
        raise refusal("the picture is animated; send a single frame")
    try:
        picture.load()
    except MemoryError:
        raise
    except Exception:
        raise refusal(BROKEN) from None
    if picture.mode.startswith("I"):
        # Pillow clips sixteen bits to eight where one would expect it to scale them.
        wide = np.asarray(upright(picture)).clip(0, 65535)
        return Image.fromarray((wide // 257).astype(np.uint8))
    return upright(picture)


def pixels_of(data: bytes) -> int:
    """How many the header promises; none where `open_picture` refuses it."""
    try:
        width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
    except Exception:  # each decoder has its own
        return 0
    return width * height


def reduced(picture: Image.Image, height: int, width: int) -> Image.Image:
    """A picture no more than some times the clip's size: floats of a photograph fill gigabytes."""
    factor = min(picture.height // (2 * height), picture.width // (2 * width))
    if factor < 2:
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB").reduce(factor)


def scene_png(data: bytes, height: int, width: int, most_pixels: int) -> bytes:
    """A sent picture as the model will see it, as a PNG; raises ValueError as `open_picture`."""
    picture = reduced(open_picture("input_reference", data, most_pixels), height, width)
    try:
        return encode_png(eight_bit(read_scene(picture, height, width)))
    except ValueError as error:
        raise ValueError(str(error).replace("image: ", "input_reference: ", 1)) from None


def area_png(data: bytes, height: int, width: int, most_pixels: int) -> bytes:
    """A sent motion area at the clip's size, black and white; raises ValueError likewise."""
    picture = reduced(open_picture("mask", data, most_pixels), height, width)
    return encode_png(eight_bit(read_area(picture, height, width)))
