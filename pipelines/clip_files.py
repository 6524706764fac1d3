"""A generated clip as files: video, GIF, mask, and a strip that shows all of it at once."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.drawing import outline_mask, strip

STRIP_FRAMES = 6
"""Generated frames that a strip shows."""


def eight_bit(frames: NDArray[np.floating]) -> NDArray[np.uint8]:
    """[0, 1] -> 0 to 255."""
    return np.round(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def encode_mp4(frames: NDArray[np.uint8], fps: float) -> bytes:
    """(L, H, W, 3) uint8 RGB, even sides -> H.264 in an MP4 that browsers play while loading."""
    # In a file: the index is moved to the front in a second pass over what was written.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            # With macroblock trees x264 gives the same small frames other bytes at every call.
            stream.options = {"crf": "17", "mbtree": "0"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path.read_bytes()


def encode_gif(frames: NDArray[np.uint8], fps: float) -> bytes:
    """(L, H, W, 3) uint8 RGB -> a GIF that runs over and over."""
    pictures = [Image.fromarray(frame) for frame in frames]
    sink = io.BytesIO()
    pictures[0].save(
        sink,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
    )
    return sink.getvalue()


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> PNG."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def clip_strip(
    frames: NDArray[np.uint8], scene: NDArray[np.uint8], area: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The input image with the motion area drawn, then frames of the clip in order.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
        scene: (H, W, 3) uint8 RGB.
        area: (H, W) bool.
    """
    shown = np.linspace(0, len(frames) - 1, min(STRIP_FRAMES, len(frames))).astype(int)
    return strip([outline_mask(scene, area), *frames[shown]])
