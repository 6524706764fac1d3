"""A folder of videos: each is a clip, or a captions file says which stretches are."""

from __future__ import annotations

import posixpath
from collections import Counter
from typing import Annotated, Any

from fsspec.utils import infer_compression
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from pipelines.annotations import Annotations, AnnotationsError
from pipelines.annotations.fields import ClassNumber, Name, Seconds, Words, plain
from pipelines.annotations.file_names import words
from pipelines.annotations.files import base_name, is_file
from pipelines.annotations.rows import SPLITS, Collector, closest, explain
from pipelines.annotations.tables import Row, read_csv, read_jsonl
from pipelines.annotations.videos import VideoListing, list_videos
from pipelines.records import Clip
from pipelines.storage import join

CAPTIONS = ("captions.csv", "captions.jsonl")
"""Taken as the captions where they stand beside the videos."""

OTHER_NAMES = {
    **dict.fromkeys(("caption", "description", "text"), "narration"),
    **dict.fromkeys(("file", "filename", "path", "video_path"), "video"),
    **dict.fromkeys(("begin", "start_sec", "start_time"), "start_s"),
    **dict.fromkeys(("end", "end_s", "end_sec", "end_time", "stop_time"), "stop_s"),
}
"""Columns by names that others give them; they are not taken, but hinted at."""


def _split(name: str) -> str:
    if name not in SPLITS:
        raise ValueError("expected train, validation or test")
    return SPLITS[name]


class _Caption(BaseModel):
    """A row of a captions file; times in seconds of the video."""

    model_config = ConfigDict(frozen=True)

    video: Name
    narration: Words
    start_s: Seconds = 0.0
    stop_s: Seconds | None = None
    verb: Words = ""
    noun: Words = ""
    verb_class: ClassNumber | None = None
    noun_class: ClassNumber | None = None
    split: Annotated[Name, AfterValidator(_split)] = ""
    participant: Name = ""
    clip_id: Name | None = None

    @model_validator(mode="after")
    def _stops_after_start(self) -> _Caption:
        if self.stop_s is not None and self.stop_s <= self.start_s:
            raise ValueError(f"stop_s ({self.stop_s} s) must be after start_s ({self.start_s} s)")
        return self


COLUMNS = tuple(_Caption.model_fields)


def read(videos: str, captions: str | None = None) -> Annotations:
    """Read a folder of videos.

    Without captions each video is one clip from start to end, narrated by its file name
    (`file_names.words`); the narration is empty where that says nothing. With captions each row is
    a clip: `video` (a path below the folder, or a URL) and `narration`, and where wanted `start_s`,
    `stop_s` (seconds, MM:SS or HH:MM:SS.sss), `verb`, `noun`, `verb_class`, `noun_class`, `split`,
    `participant`, `clip_id`. Other columns are warned about and ignored.

    Args:
        videos: fsspec URL of a folder, searched at any depth, or of one video.
        captions: fsspec URL of a CSV file with a header (separated by commas, semicolons or tabs)
            or of a JSONL file, in UTF-8, or in UTF-16 with a byte order mark. None takes
            `captions.csv` or `captions.jsonl` from the folder if one stands there.

    Raises:
        AnnotationsError: a file, the folder or a column is missing, or the captions are no table.
    """
    listing = list_videos(videos)
    captions = captions or _captions_in(videos)
    rows = Collector()
    if captions:
        _read_captions(captions, listing, rows)
    else:
        _read_file_names(listing, rows)
    return rows.result()


def _read_file_names(listing: VideoListing, rows: Collector) -> None:
    for path in listing.paths:
        readable = path.encode(errors="replace").decode()
        if readable == path:
            rows.add(path, _whole_video(path, listing))
        else:
            rows.reject(readable, "the file name is not UTF-8; rename the file")
    mute = [clip.clip_id for clip in rows.clips if not clip.narration]
    if mute:
        rows.warnings.append(
            f"{listing.root}: {len(mute)} of {len(rows.clips)} videos get no narration, for their "
            f"names say nothing of an action (the first is {mute[0]}); a {CAPTIONS[0]} can narrate "
            "them"
        )


def _whole_video(path: str, listing: VideoListing) -> Clip:
    clip_id = posixpath.splitext(path)[0]
    narration = words(posixpath.basename(clip_id))
    return Clip(clip_id, "folder", "", listing.uri(path), 0.0, None, narration)


def _captions_in(videos: str) -> str | None:
    found = [url for url in (join(videos, name) for name in CAPTIONS) if is_file(url)]
    if len(found) > 1:
        raise AnnotationsError(
            f"{videos}: both {' and '.join(CAPTIONS)}; say by --annotations which to take"
        )
    return found[0] if found else None


def _read_captions(captions: str, listing: VideoListing, rows: Collector) -> None:
    columns, records = _caption_rows(captions)
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        rows.warnings.append(_ignored(captions, unknown, columns))
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
            given = {name: value for name, value in row.values.items() if not _is_empty(value)}
            caption = _Caption.model_validate(given)
        except ValidationError as error:
            rows.reject(place, explain(error), uri)
            continue
        fields = caption.model_dump(exclude={"video", "clip_id"})
        clip_id = caption.clip_id or default_id
        rows.add(place, Clip(clip_id=clip_id, dataset="folder", video_uri=uri, **fields))


def _caption_rows(captions: str) -> tuple[list[str], list[Row]]:
    """All columns, and the rows.

    Raises:
        AnnotationsError: neither CSV nor JSONL by its name, or no such table; a column is missing.
    """
    packed = infer_compression(captions)
    kind = posixpath.splitext(posixpath.splitext(captions)[0] if packed else captions)[1].lower()
    if kind in (".csv", ".tsv"):
        header, records = read_csv(captions, ("video", "narration"), OTHER_NAMES)
        return header, list(records)
    if kind == ".jsonl":
        rows = list(read_jsonl(captions))
        return list(dict.fromkeys(name for row in rows for name in row.values)), rows
    hint = {".xlsx": "; save the workbook as CSV in UTF-8", ".json": "; write one object a line"}
    raise AnnotationsError(f"{captions}: expected a .csv or a .jsonl file{hint.get(kind, '')}")


def _ignored(captions: str, unknown: list[str], columns: list[str]) -> str:
    absent = [column for column in COLUMNS if column not in columns]
    meant = {closest(column, unknown, OTHER_NAMES): column for column in absent}
    hints = {name: f" (did you mean {column}?)" for name, column in meant.items()}
    named = [plain(name) + hints.get(name, "") for name in unknown if name]
    if "" in unknown:
        named.append("without a name")
    return (
        f"{captions}: unknown column {', '.join(named)} is ignored; known are {', '.join(COLUMNS)}"
    )


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
