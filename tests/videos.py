"""Small videos made for a test, whose frames tell their own number."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVELS_APART = 6
"""Grey levels between neighbouring frames: more than a codec's error."""

LEVELS = 36
"""Numbers below 36 * 36 have two digits of these, side by side."""


def numbered_frame(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A grey frame whose brightness is its number, dark in the upper left corner."""
    high, low = divmod(number % LEVELS**2, LEVELS)
    frame = np.full((height, width, 3), 30 + LEVELS_APART * low, np.uint8)
    frame[:, width * 2 // 3 :] = 30 + LEVELS_APART * high
    frame[: height // 4, : width // 4] = 0
    return frame


def frame_number(frame: np.ndarray) -> int:
    """The number of a decoded `numbered_frame`."""
    height, width = frame.shape[:2]
    middle = frame[height // 3 : -height // 3]
    low = middle[:, width * 2 // 6 : width * 7 // 12]
    high = middle[:, width * 9 // 12 : width * 11 // 12]
    levels = [round((float(digit.mean()) - 30) / LEVELS_APART) for digit in (high, low)]
    return levels[0] * LEVELS + levels[1]


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int = 10,
    codec: str = "libx264",
    times_s: list[float] | None = None,
    rotation: int = 0,
    gop: int = 12,
    faststart: bool = False,
    options: dict[str, str] | None = None,
    sound_s: tuple[float, float] | None = None,
) -> Path:
    """Encode frames; `times_s` gives each its display time, otherwise they are 1/fps apart.

    Args:
        options: of the encoder.
        sound_s: from when to when there is silence beside the picture; None for no sound.
    """
    frames = list(frames)
    container_options = {"movflags": "+faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        clock = Fraction(1, 1000)
        if times_s is not None:
            stream.time_base = stream.codec_context.time_base = clock
        packets = []
        if sound_s:
            packets += silence(container, *sound_s)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times_s is not None:
                picture.pts, picture.time_base = round(times_s[number] / clock), clock
            packets += stream.encode(picture)
        packets += stream.encode()
        container.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


def silence(container: av.container.OutputContainer, from_s: float, to_s: float) -> list[av.Packet]:
    """Add a sound stream, and return its packets."""
    rate, size = 48000, 1152
    stream = container.add_stream("mp2", rate=rate, layout="mono")
    packets = []
    for start in range(round(from_s * rate), round(to_s * rate), size):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, size), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = rate, start, Fraction(1, rate)
        packets += stream.encode(sound)
    return packets + stream.encode()


def numbered_video(path: Path, count: int = 30, **options: object) -> Path:
    return write_video(path, map(numbered_frame, range(count)), **options)  # type: ignore[arg-type]


def remuxed(source: Path, path: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        # A transport stream has no place for MPEG-4's header but beside the keyframes.
        repeated = av.BitStreamFilterContext("dump_extra", in_stream=stream)
        keeps_header = path.suffix == ".ts" and stream.codec_context.name == "mpeg4"
        for packet in read.demux(stream):
            if packet.dts is not None:
                for complete in repeated.filter(packet) if keeps_header else [packet]:
                    complete.stream = copy
                    written.mux(complete)
    return path
