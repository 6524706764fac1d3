"""What `ego4d.json` tells of each video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import base_name
from pipelines.annotations.json_stream import array_items
from pipelines.annotations.rows import SPLITS, Collector, explain, quote
from pipelines.annotations.videos import VideoListing

Fps = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StreamMetadata(BaseModel):
    """`video_metadata`, here and in `fho_main.json`; fps in canonical frames per second."""

    fps: Fps | None = None


class VideoMetadata(BaseModel):
    """One of `videos`; `duration_sec` in seconds."""

    model_config = ConfigDict(frozen=True)

    video_uid: str
    duration_sec: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    split_fho: str | None = None
    fb_participant_id: int | None = None
    video_metadata: StreamMetadata | None = None


@dataclass(frozen=True)
class VideoTable:
    """The videos by uid: where they are, and what is known of them.

    Attributes:
        wanted: the split to read, None for all.
    """

    listing: VideoListing
    known: dict[str, VideoMetadata]
    wanted: str | None

    def has_wanted(self, uid: str) -> bool:
        return self.wanted is None or self.split(uid) == self.wanted

    def uri(self, uid: str) -> str:
        return self.listing.locate(uid, official=f"full_scale/{uid}.mp4", default=f"{uid}.mp4")

    def split(self, uid: str) -> str:
        """train, validation, test, or empty where unknown or where its clips are in several."""
        return SPLITS.get(self._get(uid).split_fho or "", "")

    def participant(self, uid: str) -> str:
        number = self._get(uid).fb_participant_id
        return "" if number is None else str(number)

    def duration_s(self, uid: str) -> float | None:
        return self._get(uid).duration_sec

    def fps(self, uid: str) -> float | None:
        metadata = self._get(uid).video_metadata
        return metadata.fps if metadata else None

    def _get(self, uid: str) -> VideoMetadata:
        return self.known.get(uid, VideoMetadata(video_uid=uid))


def read_metadata(url: str, rows: Collector) -> dict[str, VideoMetadata]:
    """The videos of `ego4d.json` by uid; one described wrongly, or again, becomes a problem.

    Raises:
        AnnotationsError: the file cannot be read, is no JSON, is cut off, or has no videos.
    """
    known: dict[str, VideoMetadata] = {}
    count = 0
    for count, item in enumerate(array_items(url, "videos.item"), 1):
        place = f"{base_name(url)}:videos[{count - 1}]"
        try:
            video = VideoMetadata.model_validate(item)
        except ValidationError as error:
            rows.reject(place, explain(error))
            continue
        if known.setdefault(video.video_uid, video) is not video:
            rows.reject(place, f"video_uid {quote(video.video_uid)} was described before")
    if not count:
        raise AnnotationsError(f"{url}: no videos, expected the layout of ego4d.json")
    return known
