"""Which clips a preprocessed data set has and where each lies: what a training knows by heart."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fsspec.core import url_to_fs

from pipelines.parquet_rows import Place, open_parquet, rows_and_places
from pipelines.records import SCHEMA_VERSION, one_line
from pipelines.storage import find, join
from pipelines.training_clips import DatasetError

SMALL_COLUMNS = ["clip_id", "narration", "split", "height", "width"]


@dataclass(frozen=True)
class ClipIndex:
    """All clips of a data set, by clip id.

    Attributes:
        data: URL.
        clip_ids, narrations, splits, places: one entry a clip.
        height, width: of every frame, pixels.
        num_frames: of every clip.
        fingerprint: of the data set: the clips that it holds, and what they weigh.
    """

    data: str
    clip_ids: list[str]
    narrations: list[str]
    splits: list[str]
    places: list[Place]
    height: int
    width: int
    num_frames: int
    fingerprint: str


@dataclass(frozen=True)
class _Entry:
    clip_id: str
    narration: str
    split: str
    size: tuple[int, int]
    num_frames: int
    place: Place


def read_clip_index(data: str) -> ClipIndex:
    """Read the small columns of a data set, never its pictures.

    Raises:
        DatasetError: if it cannot be read, holds no clips, is of another version, or its clips
            differ in size or length, in one line.
    """
    try:
        files = find(join(data, "clips"), ".parquet")
        with ThreadPoolExecutor(16) as readers:
            read = list(readers.map(_read_file, files))
    except DatasetError:
        raise
    except Exception as error:  # each storage has its own
        raise DatasetError(f"data: {data} cannot be read: {one_line(error)}") from error
    entries = sorted((entry for file in read for entry in file[0]), key=lambda one: one.clip_id)
    if not entries:
        raise DatasetError(f"data: {data} holds no clips; give the output of jobs/preprocess.py")
    for what, values in (
        ("size", {entry.size for entry in entries}),
        ("length", {entry.num_frames for entry in entries}),
    ):
        if len(values) > 1:
            raise DatasetError(f"data: clips of {data} differ in {what}: {sorted(values)[:4]}")
    height, width = entries[0].size
    sizes = [size for _, size in read]
    weights = sorted(zip((url.rsplit("/", 1)[-1] for url in files), sizes, strict=True))
    return ClipIndex(
        data=data,
        clip_ids=[entry.clip_id for entry in entries],
        narrations=[entry.narration for entry in entries],
        splits=[entry.split for entry in entries],
        places=[entry.place for entry in entries],
        height=height,
        width=width,
        num_frames=entries[0].num_frames,
        fingerprint=hashlib.sha256(repr(weights).encode()).hexdigest()[:16],
    )


def _read_file(url: str) -> tuple[list[_Entry], int]:
    """The entries of a file, and its size in bytes."""
    with open_parquet(url) as file:
        version = (file.schema_arrow.metadata or {}).get(b"handi.schema_version", b"none").decode()
        if version != SCHEMA_VERSION:
            raise DatasetError(
                f"data: {url} is of schema version {version}, and this code reads "
                f"{SCHEMA_VERSION}; preprocess again, or use the version that wrote it"
            )
        # Which hands were seen in each frame: as long as the clip, and small.
        rows = rows_and_places(url, file, [*SMALL_COLUMNS, "hand_detected"])
    entries = [
        _Entry(
            said["clip_id"],
            said["narration"],
            said["split"] or "",
            (said["height"], said["width"]),
            len(said["hand_detected"]),
            place,
        )
        for said, place in rows
    ]
    fs, path = url_to_fs(url)
    return entries, int(fs.size(path))
