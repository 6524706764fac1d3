"""EPIC-KITCHENS-100: the published CSVs, with the videos in the download's layout or flat.

The columns are those of the `epic-kitchens-100-annotations` repository (Damen et al. 2022,
Rescaling Egocentric Vision). The files of the test set have the timestamps and no labels.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipelines.annotations import Annotations, AnnotationsError
from pipelines.annotations.fields import ClassNumber, Name, Timestamp, Words
from pipelines.annotations.files import base_name, is_file
from pipelines.annotations.rows import SPLITS, Collector, explain, wanted_split
from pipelines.annotations.tables import Row, lacking, read_csv
from pipelines.annotations.videos import VideoListing, list_videos
from pipelines.records import Clip
from pipelines.storage import join

FILES = {
    "train": "EPIC_100_train.csv",
    "validation": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
SEGMENT = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
LABELS = ("narration", "verb", "verb_class", "noun", "noun_class")


class _Segment(BaseModel):
    """A row of a test file."""

    model_config = ConfigDict(frozen=True)

    narration_id: Name
    participant_id: Name
    video_id: Name
    start_timestamp: Timestamp
    stop_timestamp: Timestamp

    @model_validator(mode="after")
    def _stops_after_start(self) -> _Segment:
        if self.stop_timestamp <= self.start_timestamp:
            raise ValueError(
                f"stop_timestamp ({self.stop_timestamp:.3f} s) must be after "
                f"start_timestamp ({self.start_timestamp:.3f} s)"
            )
        return self


class _Action(_Segment):
    """A row of a training or validation file."""

    narration: Words
    verb: Words
    verb_class: ClassNumber
    noun: Words
    noun_class: ClassNumber


def read(annotations: str, videos: str, split: str | None = None) -> Annotations:
    """Read the action segments.

    Args:
        annotations: fsspec URL of one CSV, or of a folder with the published ones.
        videos: fsspec URL of the folder with the videos: `<participant>/videos/<video_id>.MP4`
            at any depth, or flat.
        split: train, validation or test. None takes the whole of a single file, and train and
            validation of a folder.

    Raises:
        AnnotationsError: a file, a column or the video folder is missing.
    """
    split = wanted_split(split)
    urls = _files(annotations, split)
    listing = list_videos(videos)
    rows = Collector()
    for url, file_split in urls:
        _read_file(url, file_split, listing, rows)
    return rows.result()


def _files(annotations: str, split: str | None) -> list[tuple[str, str]]:
    """The CSVs to read, each with its split."""
    if not is_file(annotations) and not annotations.lower().endswith(".csv"):
        splits = [split] if split else ["train", "validation"]
        return [(join(annotations, FILES[name]), name) for name in splits]
    words = re.split(r"[^a-z]+", base_name(annotations).lower())
    named = next((SPLITS[word] for word in words if word in SPLITS), "")
    if split and named and named != split:
        raise AnnotationsError(f"{annotations}: holds the {named} split, not {split}")
    return [(annotations, named or split or "")]


def _read_file(url: str, split: str, listing: VideoListing, rows: Collector) -> None:
    header, records = read_csv(url, required=SEGMENT)
    missing = [column for column in LABELS if column not in header]
    if missing and len(missing) < len(LABELS):
        raise AnnotationsError(f"{url}: {lacking(header, (*SEGMENT, *LABELS))}")
    for row in records:
        place = f"{base_name(url)}:{row.line}"
        video_uri = _video_uri(row, listing)
        if row.fault:
            rows.reject(place, row.fault)
            continue
        try:
            clip = _clip(row, split, video_uri, has_labels=not missing)
        except ValidationError as error:
            rows.reject(place, explain(error), video_uri)
        else:
            rows.add(place, clip)


def _clip(row: Row, split: str, video_uri: str, has_labels: bool) -> Clip:
    segment = (_Action if has_labels else _Segment).model_validate(row.values)
    labels = segment.model_dump(include=set(LABELS)) if has_labels else {"narration": ""}
    return Clip(
        clip_id=segment.narration_id,
        dataset="epic-kitchens",
        split=split,
        video_uri=video_uri,
        start_s=segment.start_timestamp,
        stop_s=segment.stop_timestamp,
        participant=segment.participant_id,
        **labels,
    )


def _video_uri(row: Row, listing: VideoListing) -> str:
    """Where the row's video is; empty if the row does not name one."""
    participant = row.values.get("participant_id", "").strip()
    video_id = row.values.get("video_id", "").strip()
    if not (participant and video_id):
        return ""
    return listing.locate(video_id, official=f"{participant}/videos/{video_id}.MP4")
