"""The narrated actions of `fho_main.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.annotations import AnnotationsError
from pipelines.annotations.ego4d_metadata import StreamMetadata, VideoTable
from pipelines.annotations.ego4d_text import instruction, is_of_other_person
from pipelines.annotations.fields import plain
from pipelines.annotations.json_stream import array_items
from pipelines.annotations.rows import Collector, explain, quote
from pipelines.records import Clip

Span = Literal["action", "critical"]


class _CriticalFrames(BaseModel):
    """Canonical frame numbers of the state before and after the change of an object."""

    pre_frame: Annotated[int, Field(ge=0)] | None = None
    post_frame: Annotated[int, Field(ge=0)] | None = None


class _Action(BaseModel):
    """One of `narrated_actions`; times in seconds of the video."""

    model_config = ConfigDict(frozen=True)

    uid: str | None = None
    start_sec: float = Field(allow_inf_nan=False)
    end_sec: float = Field(allow_inf_nan=False)
    narration_text: str
    structured_verb: str | None = None
    freeform_verb: str | None = None
    critical_frames: _CriticalFrames | None = None


class _Video(BaseModel):
    """One of `videos`, its intervals unread."""

    video_uid: str = Field(min_length=1)
    video_metadata: StreamMetadata | None = None
    annotated_intervals: list[Any]


def read_actions(url: str, name: str, table: VideoTable, span: Span, rows: Collector) -> None:
    """Add each valid action of the camera wearer to the rows, one video in memory at a time.

    Actions that the data set itself excludes (rejected, invalid) give neither clip nor problem.

    Args:
        name: the file's, for the places of problems: `<name>:videos[0].annotated_intervals[1]...`.

    Raises:
        AnnotationsError: the file is no JSON, is cut off, or has no videos.
    """
    count = 0
    for count, item in enumerate(array_items(url, "videos.item"), 1):
        place = f"{name}:videos[{count - 1}]"
        try:
            video = _Video.model_validate(item)
        except ValidationError as error:
            rows.reject(place, explain(error))
            continue
        if table.has_wanted(video.video_uid):
            _read_video(video, place, table, span, rows)
    if not count:
        raise AnnotationsError(f"{url}: no videos, expected the layout of fho_main.json")


def _read_video(video: _Video, place: str, table: VideoTable, span: Span, rows: Collector) -> None:
    uid = video.video_uid
    uri, split, wearer = table.uri(uid), table.split(uid), table.participant(uid)
    fps = (video.video_metadata and video.video_metadata.fps) or table.fps(uid)
    for at, fallback_id, item in _actions(video, place, rows):
        if _is_excluded(item):
            continue
        try:
            action = _Action.model_validate(item)
            start_s, stop_s = _stretch(action, span, fps)
        except ValidationError as error:
            rows.reject(at, explain(error), uri)
            continue
        if is_of_other_person(action.narration_text):
            continue
        narration = instruction(action.narration_text)
        if not narration:
            rows.reject(
                at, f"narration_text is {quote(action.narration_text)}, expected words", uri
            )
        elif not 0 <= start_s < stop_s:
            message = f"the stop ({stop_s:.3f} s) must be after the start ({start_s:.3f} s)"
            rows.reject(at, f"{message} and the start not below 0", uri)
        else:
            clip = Clip(
                clip_id=plain(action.uid or "") or fallback_id,
                dataset="ego4d",
                split=split,
                video_uri=uri,
                start_s=start_s,
                stop_s=stop_s,
                narration=narration,
                verb=plain(action.structured_verb or action.freeform_verb or ""),
                participant=wearer,
            )
            rows.add(at, clip)


def _actions(video: _Video, place: str, rows: Collector) -> Iterator[tuple[str, str, Any]]:
    """Each action with its place and the id that it gets if it has none."""
    for i, interval in enumerate(video.annotated_intervals):
        at = f"{place}.annotated_intervals[{i}]"
        actions = interval.get("narrated_actions") if isinstance(interval, dict) else None
        if not isinstance(actions, list):
            rows.reject(at, f"narrated_actions is {quote(actions)}, expected a list")
            continue
        for j, action in enumerate(actions):
            yield f"{at}.narrated_actions[{j}]", f"{video.video_uid}_{i}_{j}", action


def _is_excluded(item: Any) -> bool:
    """Whether the annotators rejected the action."""
    if not isinstance(item, dict):
        return False
    marked = item.get("is_rejected") or item.get("is_invalid_annotation")
    return bool(marked) or item.get("is_valid_action") is False


def _stretch(action: _Action, span: Span, fps: float | None) -> tuple[float, float]:
    """Start and stop, seconds of the video."""
    frames = action.critical_frames or _CriticalFrames()
    before, after = frames.pre_frame, frames.post_frame
    if span == "action" or not fps or before is None or after is None:
        return action.start_sec, action.end_sec
    return before / fps, after / fps
