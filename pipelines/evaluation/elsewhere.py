"""Clips that were made elsewhere: a folder with a video, or a folder of pictures, for each clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import dirname, splitext

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from handi_model.baselines.method import Made
from pipelines.evaluation.made_files import SUFFIX, read_made
from pipelines.frames import Fit, FitMode, decode_jpeg, decode_mask
from pipelines.records import one_line
from pipelines.storage import absolute, exists, find, read_bytes
from pipelines.video.clips import END_TOLERANCE_S
from pipelines.video.colour import to_rgb, working_size
from pipelines.video.errors import explain
from pipelines.video.source import opened

VIDEOS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif")
PICTURES = (".png", ".jpg", ".jpeg")
AREA_SUFFIX = "-mask.png"
"""A picture of the motion area, white inside, may lie beside a clip."""
LONGEST = 2048
"""Frames of a video that are read: what is longer is no clip of one action."""


def find_elsewhere(folder: str, clip_ids: list[str]) -> dict[str, str]:
    """Which clips a folder has: clip id -> URL of its video, its npz, or its folder of pictures.

    Raises:
        ValueError: if there is none of them, in one line.
    """
    before = len(absolute(folder)) + 1
    found: dict[str, str] = {}
    wanted = set(clip_ids)
    try:
        urls = find(folder, "")
    except Exception as error:  # each storage has its own
        raise ValueError(f"clips: {folder} cannot be read: {one_line(error)}") from None
    for url in urls:
        stem, ending = splitext(url[before:])
        picture = ending.lower() in PICTURES
        if picture:
            stem = dirname(stem)
        elif ending.lower() not in (*VIDEOS, SUFFIX):
            continue
        # The exact frames win over the video that lies beside them.
        if stem in wanted and not found.get(stem, "").endswith(SUFFIX):
            found[stem] = dirname(url) if picture else url
    if not found:
        raise ValueError(
            f"clips: {folder} has none of the test clips; name each file or folder of frames by "
            f"its clip id, such as {clip_ids[0]}.mp4"
        )
    return found


def read_elsewhere(url: str, num_frames: int, size: int, fit: FitMode) -> Made:
    """Read such a clip as `num_frames` frames of `size` x `size` pixels.

    More frames are thinned out evenly over time, and fewer are repeated.

    Args:
        fit: how frames are made square, as preprocessing made those of the real clip.

    Raises:
        ValueError: if it cannot be read, in one line that names it.
    """
    try:
        frames, area = _read(url, size, fit)
    except Exception as error:  # each library has its own
        raise ValueError(f"{url} cannot be read: {explain(error, url).message}") from None
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(
            f"{url}: its frames are {frames.dtype} of shape {frames.shape}; give uint8 RGB of "
            "shape (L, H, W, 3)"
        )
    if area is not None and (area.dtype != bool or area.ndim != 2):
        raise ValueError(
            f"{url}: its area is {area.dtype} of shape {area.shape}; give bool of shape (H, W)"
        )
    at = np.round(np.linspace(0, len(frames) - 1, num_frames)).astype(int)
    square = np.stack([_square(frame, size, fit) for frame in frames[at]])
    return Made(square, None if area is None else _square_mask(area, size, fit), None)


def _read(url: str, size: int, fit: FitMode) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    if url.endswith(SUFFIX):
        made = read_made(url)
        return made.frames, made.area
    stem = splitext(url)[0] if url.lower().endswith(VIDEOS) else url.rstrip("/")
    area = stem + AREA_SUFFIX
    # Each frame is cut to its size at once: a long video of large ones would not fit the memory.
    frames = np.stack([_square(frame, size, fit) for frame in _frames(url)])
    return frames, decode_mask(read_bytes(area)) if exists(area) else None


def _frames(url: str) -> Iterator[NDArray[np.uint8]]:
    if url.lower().endswith(VIDEOS):
        yield from _video(url)
        return
    pictures = [one for one in find(url, "") if one.lower().endswith(PICTURES)]
    if not pictures:
        raise ValueError(f"it holds no pictures ({', '.join(PICTURES)})")
    for one in sorted(pictures, key=_in_order):
        yield decode_jpeg(read_bytes(one))


def _video(url: str) -> Iterator[NDArray[np.uint8]]:
    with opened(url) as container:
        if not container.streams.video:
            raise ValueError("it holds no video stream")
        stream = container.streams.video[0]
        aspect = float(stream.sample_aspect_ratio or 1)
        tick = float(stream.time_base or 0)
        promised_s = float(stream.duration or 0) * tick
        if not promised_s and not container.streams.audio:  # a sound may outlast the picture
            promised_s = (container.duration or 0) / av.time_base
        reformatter = VideoReformatter()
        end_s, first_s = 0.0, float(stream.start_time or 0) * tick
        for count, frame in enumerate(container.decode(stream)):
            if count == LONGEST:
                raise ValueError(f"it has more than {LONGEST} frames; cut it to the action")
            end_s = float((frame.pts or 0) + (frame.duration or 0)) * tick - first_s
            size = working_size(frame, aspect, min(frame.width, frame.height))
            yield to_rgb(frame, size, reformatter)
    if end_s < promised_s - max(END_TOLERANCE_S, 0.02 * promised_s):
        raise ValueError(f"it is cut off at {end_s:.2f} of {promised_s:.2f} s; make it again")


def _in_order(url: str) -> list[int | str]:
    """Frame 2 comes before frame 10, with or without zeros before it."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", url)]


def _square(image: NDArray[np.uint8], size: int, fit: FitMode) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return image if height == width == size else Fit.of(height, width, size, fit).image(image)


def _square_mask(mask: NDArray[np.bool_], size: int, fit: FitMode) -> NDArray[np.bool_]:
    return _square(mask.astype(np.uint8) * 255, size, fit) > 127
