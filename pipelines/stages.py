"""The graph's stages as Ray Data calls them: rows in, rows out.

Here, and only here, a clip's frames become bytes that cross the object store and come back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from handi_model.hands.model_files import hand_landmarker_task
from pipelines.annotate import Annotator, StageTimes
from pipelines.dataset import write_table
from pipelines.patience import patient
from pipelines.records import OUTCOMES, Clip, Outcome, Problem, from_ipc
from pipelines.settings import PreprocessSettings
from pipelines.storage import join
from pipelines.video import DecodedClip, decode_clips

Row = dict[str, Any]

OUTCOME_COLUMNS = ("folder", "record", "seconds")
STAGES = ("decode", "shots", "hands", "camera", "encode")


def by_video(clips: list[Clip], alone: bool = False) -> list[Row]:
    """One row a video with all its clips, so that it is opened once; or, alone, one row a clip."""
    if alone:
        groups = [[clip] for clip in clips]
    else:
        ordered = sorted(clips, key=lambda clip: (clip.video_uri, clip.start_s))
        groups = [list(group) for _, group in groupby(ordered, key=lambda clip: clip.video_uri)]
    return [
        {"video_uri": group[0].video_uri, "clips": json.dumps([asdict(clip) for clip in group])}
        for group in groups
    ]


def decode_video(row: Row, settings: PreprocessSettings) -> Iterator[Row]:
    """A video -> a row a clip as it is passed: frames, or what became of the clip.

    What goes wrong with one clip beyond what decoding expects costs the rest of the video only.
    """
    cv2.setNumThreads(1)
    left = {clip.clip_id: clip for clip in _clips(row)}
    try:
        for clip, decoded in _decode(row["video_uri"], list(left.values()), settings):
            left.pop(clip.clip_id)
            yield decoded
    except Exception as error:
        for clip in left.values():
            yield _without_frames(Outcome.failed(Problem.of(clip, "decode", error)), {})


def _decode(
    video_uri: str, clips: list[Clip], settings: PreprocessSettings
) -> Iterator[tuple[Clip, Row]]:
    wanted = []
    for clip in clips:
        known = clip.stop_s is not None and clip.stop_s > clip.start_s
        outcome = length_filter(clip, settings) if known else None
        if outcome:
            yield clip, _without_frames(outcome, {})
        else:
            wanted.append(clip)
    began = time.perf_counter()
    for result in decode_clips(video_uri, wanted, settings.frames, settings.working_side):
        seconds = {"decode": time.perf_counter() - began}
        if isinstance(result, DecodedClip):
            outcome = length_filter(result.clip, settings)
            row = _without_frames(outcome, seconds) if outcome else _with_frames(result, seconds)
            yield result.clip, row
        else:
            clip, problem = result
            yield clip, _without_frames(Outcome.failed(problem), seconds)
        began = time.perf_counter()


def _clips(row: Row) -> list[Clip]:
    return [Clip(**fields) for fields in json.loads(row["clips"])]


def length_filter(clip: Clip, settings: PreprocessSettings) -> Outcome | None:
    """Filter a clip whose length is out of bounds."""
    assert clip.stop_s is not None
    length_s = clip.stop_s - clip.start_s
    if length_s < settings.min_clip_s:
        return Outcome.filtered(clip, "min_clip_s", length_s)
    if settings.max_clip_s is not None and length_s > settings.max_clip_s:
        return Outcome.filtered(clip, "max_clip_s", length_s)
    return None


class AnnotateClip:
    """A row with frames -> a row with the clip's outcome. The actor of the graph."""

    def __init__(self, settings: PreprocessSettings, detector_name: str) -> None:
        # Read here, on the actor's own machine, which may not share a disk with the driver's.
        model = hand_landmarker_task(settings.hand_model).read_bytes()
        self.annotator = Annotator(settings, model, detector_name)

    def __del__(self) -> None:
        # By now Ray has killed this process's children: the detector, which is right, and
        # Python's resource tracker, about which the exit handlers would print tracebacks.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)

    def __call__(self, row: Row) -> Row:
        if not row["frames"]:
            return {name: row[name] for name in OUTCOME_COLUMNS}
        clip = Clip(**json.loads(row["clip"]))
        times = StageTimes(json.loads(row["seconds"]))
        try:
            decoded = DecodedClip(
                clip,
                np.frombuffer(row["frames"], np.uint8).reshape(row["shape"]),
                np.array(row["frame_times_s"], np.float64),
                row["fps_source"],
            )
            outcome = self.annotator(decoded, times)
            return _outcome_row(outcome.folder, outcome.to_ipc(), times.seconds)
        except Exception as error:
            outcome = Outcome.failed(Problem.of(clip, "encode", error))
            return _outcome_row(outcome.folder, outcome.to_ipc(), times.seconds)


def write_shard(rows: pa.Table, output: str, earlier_attempts: dict[str, int]) -> dict[str, float]:
    """Outcomes -> one Parquet file in each folder concerned; gives back counts and seconds.

    A file is named after the clips in it: a task that Ray runs twice writes the same file again.
    A storage that is away for a while is waited for.

    Args:
        rows: `OUTCOME_COLUMNS`, see `AnnotateClip`.
        earlier_attempts: of clips that failed in an earlier run, added to their count.

    Raises:
        Exception: of the storage, if it refuses.
    """
    counts: dict[str, float] = {}
    folders = np.array(rows["folder"].to_pylist())
    records = rows["record"].to_pylist()
    for folder, schema in OUTCOMES.items():
        own = [records[i] for i in np.flatnonzero(folders == folder)]
        table = pa.concat_tables([schema.empty_table(), *map(from_ipc, own)])
        if folder == "errors" and earlier_attempts:
            problems = table.to_pylist()
            for problem in problems:
                problem["attempts"] += earlier_attempts.get(problem["clip_id"], 0)
            table = pa.Table.from_pylist(problems, schema=schema)
        counts[folder] = len(table)
        if len(table):
            patient(write_table)(table.sort_by("clip_id"), join(output, folder))
    spent = [json.loads(seconds) for seconds in rows["seconds"].to_pylist()]
    return {**counts, **{stage: sum(s.get(stage, 0.0) for s in spent) for stage in STAGES}}


def _with_frames(decoded: DecodedClip, seconds: dict[str, float]) -> Row:
    return {
        **_outcome_row("", b"", seconds),
        "clip": json.dumps(asdict(decoded.clip)),
        "frames": decoded.frames.tobytes(),
        "shape": list(decoded.frames.shape),
        "frame_times_s": decoded.frame_times_s.tolist(),
        "fps_source": decoded.fps_source,
    }


def _without_frames(outcome: Outcome, seconds: dict[str, float]) -> Row:
    """A row whose clip's outcome is known already, with the columns of one with frames."""
    nothing = {"clip": "", "frames": b"", "shape": [0], "frame_times_s": [0.0], "fps_source": 0.0}
    return {**_outcome_row(outcome.folder, outcome.to_ipc(), seconds), **nothing}


def _outcome_row(folder: str, record: bytes, seconds: dict[str, float]) -> Row:
    return {"folder": folder, "record": record, "seconds": json.dumps(seconds)}
