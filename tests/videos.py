"""Small videos made for a test, whose frames tell their own number."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVELS_APART = 6
"""Grey levels between neighbouring frames: more than a codec's error."""


def numbered_frame(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A grey frame whose brightness is its number, dark in the upper left corner."""
    frame = np.full((height, width, 3), 30 + LEVELS_APART * (number % 36), np.uint8)
    frame[: height // 4, : width // 4] = 0
    return frame


def frame_number(frame: np.ndarray) -> int:
    """The number of a decoded `numbered_frame`."""
    middle = frame[frame.shape[0] // 3 : -frame.shape[0] // 3, frame.shape[1] // 3 :]
    return round((float(middle.mean()) - 30) / LEVELS_APART)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int = 10,
    codec: str = "libx264",
    times_s: list[float] | None = None,
    rotation: int = 0,
    gop: int = 12,
    faststart: bool = False,
) -> Path:
    """Encode frames; `times_s` gives each its display time, otherwise they are 1/fps apart."""
    frames = list(frames)
    options = {"movflags": "+faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        clock = Fraction(1, 1000)
        if times_s is not None:
            stream.time_base = stream.codec_context.time_base = clock
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times_s is not None:
                picture.pts, picture.time_base = round(times_s[number] / clock), clock
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def numbered_video(path: Path, count: int = 30, **options: object) -> Path:
    return write_video(path, map(numbered_frame, range(count)), **options)  # type: ignore[arg-type]
