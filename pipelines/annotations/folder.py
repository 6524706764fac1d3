"""A folder of videos: each is a clip, or a captions file says which stretches are."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pipelines.annotations import Annotations, AnnotationsError
from pipelines.annotations.files import base_name, is_file
from pipelines.annotations.rows import SPLITS, Collector, explain
from pipelines.annotations.tables import Row, read_csv, read_jsonl
from pipelines.annotations.videos import VideoListing, list_videos
from pipelines.records import Clip
from pipelines.storage import join

CAPTIONS = ("captions.csv", "captions.jsonl")
"""Taken as the captions where they stand beside the videos."""


def _split(name: str) -> str:
    if name not in SPLITS:
        raise ValueError("expected train, validation or test")
    return SPLITS[name]


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ClassNumber = Annotated[int, Field(ge=0)]


class _Caption(BaseModel):
    """A row of a captions file; times in seconds of the video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: Text
    narration: Text
    start_s: Seconds = 0.0
    stop_s: Seconds | None = None
    verb: Text = ""
    noun: Text = ""
    verb_class: ClassNumber | None = None
    noun_class: ClassNumber | None = None
    split: Annotated[Text, AfterValidator(_split)] = ""
    participant: Text = ""
    clip_id: Text | None = None

    @model_validator(mode="after")
    def _stops_after_start(self) -> _Caption:
        if self.stop_s is not None and self.stop_s <= self.start_s:
            raise ValueError(f"stop_s ({self.stop_s} s) must be after start_s ({self.start_s} s)")
        return self


COLUMNS = tuple(_Caption.model_fields)


def read(videos: str, captions: str | None = None) -> Annotations:
    """Read a folder of videos.

    Without captions each video is one clip from start to end, described by its file name. With
    captions each row is a clip: `video` (a path below the folder, or a URL) and `narration`, and
    where wanted `start_s`, `stop_s`, `verb`, `noun`, `verb_class`, `noun_class`, `split`,
    `participant`, `clip_id`.

    Args:
        videos: fsspec URL of a folder, searched at any depth, or of one video.
        captions: fsspec URL of a CSV file with a header, or of a JSONL file. None takes
            `captions.csv` or `captions.jsonl` from the folder if one stands there.

    Raises:
        AnnotationsError: a file or the folder is missing, or a column is missing or unknown.
    """
    listing = list_videos(videos)
    captions = captions or _captions_in(videos)
    rows = Collector()
    if captions:
        _read_captions(captions, listing, rows)
    else:
        for path in listing.paths:
            readable = path.encode(errors="replace").decode()
            if readable == path:
                rows.add(path, _whole_video(path, listing))
            else:
                rows.reject(readable, "the file name is not UTF-8; rename the file")
    return rows.result()


def words(stem: str) -> str:
    """A file name in words without the number at its end; digits alone stay.

    `open_drawer-02` -> `open drawer`
    """
    spaced = " ".join(re.split(r"[-_\s]+", stem)).strip()
    return re.sub(r"\s*[0-9]+$", "", spaced) or spaced or stem


def _whole_video(path: str, listing: VideoListing) -> Clip:
    clip_id = posixpath.splitext(path)[0]
    narration = words(posixpath.basename(clip_id))
    return Clip(clip_id, "folder", "", listing.uri(path), 0.0, None, narration)


def _captions_in(videos: str) -> str | None:
    found = [url for url in (join(videos, name) for name in CAPTIONS) if is_file(url)]
    if len(found) > 1:
        raise AnnotationsError(f"{videos}: both {' and '.join(CAPTIONS)}; say which to take")
    return found[0] if found else None


def _read_captions(captions: str, listing: VideoListing, rows: Collector) -> None:
    records = list(_caption_rows(captions))
    times_named = Counter(_video(row) for row in records)
    seen: Counter[str] = Counter()
    for row in records:
        place, video = f"{base_name(captions)}:{row.line}", _video(row)
        occurrence, seen[video] = seen[video], seen[video] + 1
        if row.fault:
            rows.reject(place, row.fault)
            continue
        uri, default_id = _uri_and_id(video, listing) if video else ("", "")
        if times_named[video] > 1:
            default_id = f"{default_id}#{occurrence}"
        try:
            caption = _Caption.model_validate(row.values)
        except ValidationError as error:
            rows.reject(place, explain(error), uri)
            continue
        fields = caption.model_dump(exclude={"video", "clip_id"})
        clip_id = caption.clip_id or default_id
        rows.add(place, Clip(clip_id=clip_id, dataset="folder", video_uri=uri, **fields))


def _caption_rows(captions: str) -> Iterable[Row]:
    """The rows, without the fields that are empty.

    Raises:
        AnnotationsError: neither CSV nor JSONL by its name; a column missing or unknown.
    """
    kind = posixpath.splitext(captions)[1].lower()
    if kind not in (".csv", ".jsonl"):
        raise AnnotationsError(f"{captions}: expected a .csv or a .jsonl file")
    if kind == ".csv":
        header, records = read_csv(captions, required=("video", "narration"))
        _check_columns(header, captions)
    else:
        records = read_jsonl(captions)
    for row in records:
        _check_columns(row.values, f"{captions}:{row.line}")
        given = {name: value for name, value in row.values.items() if not _is_empty(value)}
        yield Row(row.line, given, row.fault)


def _check_columns(columns: Iterable[str], where: str) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        known = ", ".join(COLUMNS)
        raise AnnotationsError(f"{where}: unknown column {', '.join(unknown)}; known are {known}")


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _video(row: Row) -> str:
    """The video that a row names, in one spelling; empty if it names none."""
    video = row.values.get("video", "")
    if not isinstance(video, str) or not video:
        return ""
    return video.strip() if "://" in video else posixpath.normpath(video.strip())


def _uri_and_id(video: str, listing: VideoListing) -> tuple[str, str]:
    """The URL of a caption's video, and the id of a clip that takes its name."""
    if "://" not in video and not video.startswith("/"):
        return listing.uri(video), posixpath.splitext(video)[0]
    uri = video if "://" in video else f"file://{video}"
    path = uri.removeprefix(join(listing.root, "")).partition("://")
    return uri, posixpath.splitext((path[2] or path[0]).lstrip("/"))[0]
