"""Decoded frames as upright RGB with square pixels, by the colour matrix that their tags name."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.video.errors import VideoError

SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without the two flags swscale is up to 4 of 255 off."""

UNTAGGED = (2, 3, 0)
"""Matrix coefficients (ITU-T H.273, table 4) that name no matrix: unspecified, reserved, and RGB,
which is no matrix for a YUV picture."""

MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,  # of constant luminance, near it
}
"""H.273 matrix coefficients -> swscale's."""

BY_PRIMARIES = {1: Colorspace.ITU709, 9: Colorspace.BT2020}
"""H.273 colour primaries -> the matrix that is derived from them (coefficients 12)."""


def working_size(frame: VideoFrame, aspect: float, short_side: int) -> tuple[int, int]:
    """(width, height) before rotation, with square pixels, short side at most `short_side`.

    Args:
        aspect: width of the video's pixels over their height.
    """
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def to_rgb(
    frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB of a frame, scaled to (width, height) and then turned upright.

    The matrix and the range are those of the frame's tags. YUV without a tag is BT.709 from 1280
    pixels of width or 720 of height on and BT.601 below, as players take it (mpv by the width,
    Chromium by the height), and of limited range. The numbers are those that were encoded: wide
    primaries (BT.2020) and the transfer functions of HDR (PQ, HLG) are not mapped to sRGB, so that
    HDR looks as on a screen that does not know it, pale (HLG) or dim (PQ).

    Args:
        reformatter: one for all frames of a video: it keeps its tables.

    Raises:
        VideoError: the matrix is none that swscale knows.
    """
    tags = {} if frame.format.is_rgb else _tags(frame)
    scaled = reformatter.reformat(
        frame, *size, format="rgb24", interpolation=SCALING, threads=1, **tags
    )
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns))


def _tags(frame: VideoFrame) -> dict[str, int]:
    matrix = _matrix(frame)
    tags: dict[str, int] = {"src_colorspace": matrix, "dst_colorspace": matrix}
    tags["dst_color_range"] = ColorRange.JPEG
    if frame.format.name.startswith("yuvj"):
        tags["src_color_range"] = ColorRange.JPEG
    elif frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        tags["src_color_range"] = frame.color_range
    elif frame.format.name.startswith(("yuv", "nv", "p0")):
        tags["src_color_range"] = ColorRange.MPEG
    return tags


def _matrix(frame: VideoFrame) -> Colorspace:
    coefficients = int(frame.colorspace)
    if coefficients == 12:
        return BY_PRIMARIES.get(int(frame.color_primaries), Colorspace.ITU601)
    if coefficients in UNTAGGED:
        hd = frame.width >= 1280 or frame.height >= 720
        return Colorspace.ITU709 if hd else Colorspace.ITU601
    if coefficients not in MATRICES:
        raise VideoError(
            "UnknownColour",
            f"its colours are coded by a matrix that is not supported (H.273 number "
            f"{coefficients}); convert the video to BT.709",
        )
    return MATRICES[coefficients]
