"""Which clips a preprocessed data set has and where each lies: what a training knows by heart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import pyarrow.parquet as pq

from handi_model.config import DEFAULT_FPS, HIGHEST_FPS, LOWEST_FPS
from handi_model.damage import DamagedFile
from pipelines.clip_content import CONTENT, content_sha256
from pipelines.dataset import ANEW
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
        fingerprint: of the data set: its clips by id, content, narration and split.
        contents: what each clip is by its content, see `clip_content`.
        rates: frames a second of each clip, see `clip_rate`; None where it is not known.
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
    contents: list[str]
    rates: list[float | None] = field(default_factory=list)

    def fps(self, clips: Iterable[int] | None = None) -> float:
        """Frames a second that clips of this data set are played at: the median of their rates.

        Every clip has as many frames, however long its action takes, so each has a rate of its own.

        Args:
            clips: indices of those that count; all by default.

        Returns:
            From `LOWEST_FPS` to `HIGHEST_FPS`; `DEFAULT_FPS` where no clip's rate is known.
        """
        rates = self.rates if clips is None else [self.rates[clip] for clip in clips]
        known = [rate for rate in rates if rate is not None]
        if not known:
            return DEFAULT_FPS
        return min(max(float(f"{median(known):.4g}"), LOWEST_FPS), HIGHEST_FPS)


def clip_rate(times_s: Sequence[float] | None) -> float | None:
    """Frames a second of a clip whose frames are displayed at these times in its video.

    None where no time passes between the first and the last.
    """
    if not times_s or not times_s[-1] > times_s[0]:
        return None
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


@dataclass(frozen=True)
class _Entry:
    clip_id: str
    narration: str
    split: str
    size: tuple[int, int]
    num_frames: int
    content: str
    place: Place
    rate: float | None


def read_clip_index(data: str) -> ClipIndex:
    """Read the small columns of a data set, and its pictures only where their key is not stored.

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
    except DamagedFile as error:
        raise DatasetError(f"data: {DamagedFile(error.url, error.why, ANEW)}") from error
    except Exception as error:  # each storage has its own
        raise DatasetError(f"data: {data} cannot be read: {one_line(error)}") from error
    entries = sorted((entry for file in read for entry in file), key=lambda one: one.clip_id)
    if not entries:
        raise DatasetError(f"data: {data} holds no clips; give the output of jobs/preprocess.py")
    for what, values in (
        ("size", {entry.size for entry in entries}),
        ("length", {entry.num_frames for entry in entries}),
    ):
        if len(values) > 1:
            raise DatasetError(f"data: clips of {data} differ in {what}: {sorted(values)[:4]}")
    height, width = entries[0].size
    clips = [(one.clip_id, one.content, one.narration, one.split) for one in entries]
    return ClipIndex(
        data=data,
        clip_ids=[entry.clip_id for entry in entries],
        narrations=[entry.narration for entry in entries],
        splits=[entry.split for entry in entries],
        places=[entry.place for entry in entries],
        height=height,
        width=width,
        num_frames=entries[0].num_frames,
        fingerprint=hashlib.sha256(repr(clips).encode()).hexdigest()[:16],
        contents=[entry.content for entry in entries],
        rates=[entry.rate for entry in entries],
    )


def _read_file(url: str) -> list[_Entry]:
    with open_parquet(url) as file:
        version = (file.schema_arrow.metadata or {}).get(b"handi.schema_version", b"none").decode()
        if version != SCHEMA_VERSION:
            raise DatasetError(
                f"data: {url} is of schema version {version}, and this code reads "
                f"{SCHEMA_VERSION}; preprocess again, or use the version that wrote it"
            )
        # Which hands were seen in each frame: as long as the clip, and small.
        columns = [*SMALL_COLUMNS, "hand_detected", "frame_times_s", CONTENT]
        rows = rows_and_places(url, file, columns)
        contents = [said.get(CONTENT) or _content(file, place) for said, place in rows]
    return [
        _Entry(
            said["clip_id"],
            said["narration"],
            said["split"] or "",
            (said["height"], said["width"]),
            len(said["hand_detected"]),
            content,
            place,
            clip_rate(said["frame_times_s"]),
        )
        for (said, place), content in zip(rows, contents, strict=True)
    ]


def _content(file: pq.ParquetFile, place: Place) -> str:
    """Of a clip that was written without its key."""
    group = file.read_row_group(place.row_group, ["frames", "frame_masks"])
    (row,) = group.slice(place.row, 1).to_pylist()
    return content_sha256(row["frames"], row["frame_masks"])
