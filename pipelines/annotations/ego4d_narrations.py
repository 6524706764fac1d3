"""The narrations of `narration.json`: one timestamp each, around which a stretch is laid.

The stretch is EgoVLP's (Lin et al. 2022, Egocentric Video-Language Pretraining, section 3): centred
on the timestamp and `beta_v / alpha` seconds long, where `beta_v` is the mean gap between
consecutive narrations of the video and `alpha` the mean of beta over all videos. Densely narrated
videos so get short clips. What of it lies outside of the video is cut off, here where `ego4d.json`
tells the video's length, else at decoding. A timestamp outside of the video is a problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.annotations import AnnotationsError
from pipelines.annotations.ego4d_metadata import VideoTable
from pipelines.annotations.ego4d_text import instruction, is_of_other_person
from pipelines.annotations.json_stream import events, object_items
from pipelines.annotations.rows import Collector, explain, quote
from pipelines.records import Clip

PASSES = ("narration_pass_1", "narration_pass_2")


class _Narration(BaseModel):
    """One of `narrations`."""

    model_config = ConfigDict(frozen=True)

    timestamp_sec: float = Field(allow_inf_nan=False)
    narration_text: str


@dataclass
class _Video:
    """The well-formed narrations of one pass over a video.

    Attributes:
        key: which pass, one of `PASSES`.
        place: of the list of narrations in the file.
        narrations: position in that list, timestamp in seconds, text.
    """

    uid: str
    key: str
    place: str
    narrations: list[tuple[int, float, str]] = field(default_factory=list)

    def beta_s(self) -> float | None:
        """Mean gap between consecutive narrations, seconds; None if there is no gap to measure."""
        times = [time_s for _, time_s, _ in self.narrations]
        if len(times) < 2 or max(times) == min(times):
            return None
        return (max(times) - min(times)) / (len(times) - 1)


def read_narrations(url: str, name: str, table: VideoTable, rows: Collector) -> None:
    """Add each narration of the camera wearer to the rows.

    A video narrated twice gives its first pass. Beta and alpha take in all narrations of the file,
    whatever the split. A video with a single narration counts as one of mean density: 1 s.

    Args:
        name: the file's, for the places of problems: `<name>:<video_uid>.narration_pass_1...`.

    Raises:
        AnnotationsError: the file is no JSON, is cut off, or has no videos.
    """
    videos = list(_videos(url, name, table, rows))
    if not videos:
        raise AnnotationsError(f"{url}: no videos, expected the layout of narration.json")
    betas = [beta for beta in (video.beta_s() for video in videos) if beta]
    alpha = sum(betas) / len(betas) if betas else 1.0
    for video in videos:
        if table.has_wanted(video.uid):
            beta = video.beta_s()
            _add_clips(video, beta / alpha if beta else 1.0, table, rows)


def _videos(url: str, name: str, table: VideoTable, rows: Collector) -> Iterator[_Video]:
    prefix = _prefix(url)
    for uid, item in object_items(url, prefix):
        place = f"{name}:{prefix}.{uid}" if prefix else f"{name}:{uid}"
        if not isinstance(item, dict):
            rows.reject(place, f"is {quote(item)}, expected an object with narration_pass_1")
            continue
        key = next((key for key in PASSES if item.get(key)), "")
        video = _Video(uid, key, f"{place}.{key}.narrations")
        if key:
            _read_pass(video, item[key], rows if table.has_wanted(uid) else Collector())
        yield video


def _prefix(url: str) -> str:
    """Where the videos are: at the top of the file, or in later versions under `videos`."""
    for prefix, event, _ in events(url):
        if event == "start_map" and prefix and "." not in prefix:
            return "videos" if prefix == "videos" else ""
    return ""


def _read_pass(video: _Video, item: Any, rows: Collector) -> None:
    narrations = item.get("narrations") if isinstance(item, dict) else None
    if not isinstance(narrations, list):
        rows.reject(video.place, f"is {quote(narrations)}, expected a list")
        return
    for n, narration in enumerate(narrations):
        try:
            parsed = _Narration.model_validate(narration)
        except ValidationError as error:
            rows.reject(f"{video.place}[{n}]", explain(error))
        else:
            video.narrations.append((n, parsed.timestamp_sec, parsed.narration_text))


def _add_clips(video: _Video, length_s: float, table: VideoTable, rows: Collector) -> None:
    uid, duration_s = video.uid, table.duration_s(video.uid)
    uri, split, wearer = table.uri(uid), table.split(uid), table.participant(uid)
    for n, time_s, text in video.narrations:
        if is_of_other_person(text):
            continue
        place = f"{video.place}[{n}]"
        narration = instruction(text)
        end_s = math.inf if duration_s is None else duration_s
        start_s, stop_s = max(0.0, time_s - length_s / 2), min(time_s + length_s / 2, end_s)
        if not narration:
            rows.reject(place, f"narration_text is {quote(text)}, expected words", uri)
        elif not (0 <= time_s <= end_s and start_s < stop_s):
            within = f"0 to {duration_s} s" if duration_s is not None else "0 s on"
            message = f"timestamp_sec is {time_s}, outside the video ({within})"
            rows.reject(place, message, uri)
        else:
            clip_id = f"{uid}_{video.key}_{n}"
            clip = Clip(
                clip_id=clip_id,
                dataset="ego4d",
                split=split,
                video_uri=uri,
                start_s=start_s,
                stop_s=stop_s,
                narration=narration,
                participant=wearer,
                timestamp_s=time_s,
            )
            rows.add(place, clip)
