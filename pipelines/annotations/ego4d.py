"""Ego4D: hand actions of the Forecasting Hands & Objects benchmark, or the narrations.

The official download puts `fho_main.json` and `narration.json` into `v2/annotations/`, `ego4d.json`
beside that folder, and the videos into `v2/full_scale/` (Grauman et al. 2022, Ego4D).
"""

from __future__ import annotations

from typing import Literal

from pipelines.annotations import Annotations, AnnotationsError
from pipelines.annotations.ego4d_actions import Span, read_actions
from pipelines.annotations.ego4d_metadata import VideoMetadata, VideoTable, read_metadata
from pipelines.annotations.ego4d_narrations import read_narrations
from pipelines.annotations.files import base_name, is_file, parent
from pipelines.annotations.rows import Collector, wanted_split
from pipelines.annotations.videos import list_videos
from pipelines.storage import join

FILES = {
    "actions": ("fho_main.json",),
    "narrations": ("narration.json", "narrations.json"),
}
METADATA = "ego4d.json"


def read(
    annotations: str,
    videos: str,
    split: str | None = None,
    kind: Literal["actions", "narrations"] = "actions",
    span: Span = "critical",
) -> Annotations:
    """Read the actions of the camera wearer's hands; what others do ("#O ...") is passed over.

    Args:
        annotations: fsspec URL of `fho_main.json` or `narration.json`, or of the folder with it.
            `ego4d.json`, there or one folder up, tells split, frame rate, length and wearer.
        videos: fsspec URL of the folder with the videos, `<video_uid>.mp4` at any depth.
        split: train, validation or test, by the benchmark's split of the videos; None takes all.
        kind: actions have a start and a stop; narrations have one timestamp, around which a
            stretch is laid.
        span: which stretch of an action: `critical` from the pre-condition to the post-condition
            frame where both are known, `action` from its start to its end.

    Raises:
        AnnotationsError: a file is missing, is no JSON or is cut off; a split without
            `ego4d.json`; no video folder.
    """
    split = wanted_split(split)
    url = _annotation_file(annotations, FILES[kind])
    rows = Collector()
    known = _metadata(url, split, rows)
    table = VideoTable(list_videos(videos), known, split)
    if kind == "actions":
        read_actions(url, base_name(url), table, span, rows)
    else:
        read_narrations(url, base_name(url), table, rows)
    return rows.result()


def _annotation_file(annotations: str, names: tuple[str, ...]) -> str:
    if is_file(annotations):
        return annotations
    urls = [join(annotations, name) for name in names]
    found = next((url for url in urls if is_file(url)), None)
    if not found:
        raise AnnotationsError(f"{annotations}: no such file, nor a folder with {names[0]}")
    return found


def _metadata(annotation_file: str, split: str | None, rows: Collector) -> dict[str, VideoMetadata]:
    folder = parent(annotation_file)
    urls = [join(folder, METADATA), join(parent(folder), METADATA)]
    found = next((url for url in urls if is_file(url)), None)
    if found:
        return read_metadata(found, rows)
    if split:
        raise AnnotationsError(
            f"{folder}: split {split} needs {METADATA}, in this folder or the one above it"
        )
    return {}
