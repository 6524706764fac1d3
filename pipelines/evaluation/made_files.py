"""Generated clips as files: `<folder>/<clip_id>.npz`, exact, an MP4 to look at, and what it cost.

The npz is written last: where it stands the clip is finished.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handi_model.baselines.method import Made
from handi_model.damage import DamagedFile
from pipelines.clip_files import encode_mp4
from pipelines.patience import patient
from pipelines.records import one_line
from pipelines.running.refusal import refusals
from pipelines.storage import join, read_bytes, write_bytes

SUFFIX, COST_SUFFIX = ".npz", ".json"


@dataclass(frozen=True)
class Cost:
    """What a clip took.

    Attributes:
        seconds: of the call, without loading the model.
        peak_memory_gb: of the process that made it, or of its GPU.
        parameters: of the method's networks.
        device: and type that it was made by.
        num_frames, height, width: of the clip that the networks made, pixels, before it was brought
            to the length and size asked for.
    """

    seconds: float
    peak_memory_gb: float
    parameters: int
    device: str
    num_frames: int
    height: int
    width: int


def made_url(folder: str, clip_id: str) -> str:
    return join(folder, clip_id + SUFFIX)


def write_made(folder: str, clip_id: str, made: Made, cost: Cost, fps: float) -> None:
    """Write a generated clip. A storage that is away for a while is waited for.

    Args:
        fps: frames a second of the MP4.

    Raises:
        OutputRefused: if the storage refuses.
    """
    height, width = (side // 2 * 2 for side in made.frames.shape[1:3])  # as H.264 needs them
    write_result(join(folder, f"{clip_id}.mp4"), encode_mp4(made.frames[:, :height, :width], fps))
    arrays: dict[str, NDArray[np.generic] | float] = {"frames": made.frames}
    if made.area is not None:
        arrays["area"] = made.area
    if made.change_outside is not None:
        arrays["change_outside"] = made.change_outside
    # In a small file of its own, so that the frames need not be read for it.
    write_result(join(folder, f"{clip_id}{COST_SUFFIX}"), json.dumps(vars(cost)).encode())
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)  # type: ignore[arg-type]
    write_result(made_url(folder, clip_id), sink.getvalue())


def write_result(url: str, data: bytes) -> None:
    """Write a file of the evaluation. A storage that is away for a while is waited for.

    Raises:
        OutputRefused: if the storage refuses.
    """
    with refusals():
        patient(write_bytes)(url, data)


def read_made(url: str) -> Made:
    """Read a generated clip back; what size it was made at, its cost tells.

    Raises:
        DamagedFile: if it is cut short.
    """
    with opened_arrays(url) as arrays:
        return Made(
            frames=arrays["frames"],
            area=arrays.get("area"),
            change_outside=float(arrays["change_outside"]) if "change_outside" in arrays else None,
        )


@contextmanager
def opened_arrays(url: str) -> Iterator[Any]:
    """The arrays of a file of the evaluation.

    Raises:
        DamagedFile: if it is cut short.
    """
    data = read_bytes(url)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            yield arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise DamagedFile(url, one_line(error)) from None


def read_cost(url: str) -> Cost:
    """What the clip at a URL took."""
    return Cost(**json.loads(read_bytes(url.removesuffix(SUFFIX) + COST_SUFFIX)))
