"""What travels through the preprocessing graph: a clip, a problem, and their Arrow schemas.

The clip table (annotations -> preprocess) and the preprocessed data set are contracts that
training and outside programs read. `SCHEMA_VERSION` goes into every Parquet file's metadata and
changes whenever a column is added, removed or changes its meaning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = "2"

JOINTS = 42
"""Joints a frame: 21 of the left hand (0-20), then 21 of the right hand (21-41)."""


@dataclass(frozen=True)
class Clip:
    """One stretch of one video that shows one action: a row of the clip table.

    Attributes:
        clip_id: unique over the data set.
        dataset: `folder`, `epic-kitchens` or `ego4d`.
        split: `train`, `validation`, `test`, or empty where the source does not say.
        video_uri: fsspec URL of the video.
        start_s: where the action starts, seconds from the start of the video.
        stop_s: where it stops, seconds; None means the end of the video.
        narration: the instruction in words.
        verb, noun: as the source names them, empty where it does not.
        verb_class, noun_class: class numbers of the source, None where it has none.
        participant: who wears the camera (a selection key; empty where unknown).
        timestamp_s: the one moment that an annotation without start and stop names, seconds. Start
            and stop are then our own rule's, and give way where the video ends before the stop. No
            column of a table.
    """

    clip_id: str
    dataset: str
    split: str
    video_uri: str
    start_s: float
    stop_s: float | None
    narration: str
    verb: str = ""
    noun: str = ""
    verb_class: int | None = None
    noun_class: int | None = None
    participant: str = ""
    timestamp_s: float | None = None


HELD_BACK = frozenset({"validation", "test"})
"""Splits that nothing is learnt from. Clips of any other, or of none, may be trained on."""

ANNOTATIONS = "annotations"
"""The stage of problems behind which no clip stands: malformed rows."""


def one_line(error: Exception) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True)
class Problem:
    """Why a clip, or a row of an annotation file, did not become training data.

    Attributes:
        clip_id: the clip, or `<file>:<line>` for a row that could not be read as a clip.
        video_uri: the video, empty where the row does not tell.
        stage: `annotations` for a row, else `decode`, `shots`, `hands`, `camera`, `encode` or
            `worker`.
        error_type: a short name that groups problems of one kind, such as `MissingVideo`.
        message: one line for a person: the culprit and the remedy.
        attempts: how many times it was tried.
    """

    clip_id: str
    video_uri: str
    stage: str
    error_type: str
    message: str
    attempts: int = 1

    @classmethod
    def of(cls, clip: Clip, stage: str, error: Exception) -> Problem:
        """What an exception means for a clip: its type, and what it says."""
        kind = getattr(error, "error_type", type(error).__name__)
        attempts = getattr(error, "attempts", 1)
        return cls(clip.clip_id, clip.video_uri, stage, kind, one_line(error), attempts)


_CLIP_COLUMNS = [
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("dataset", pa.string()),
    pa.field("split", pa.string()),
    pa.field("video_uri", pa.string()),
    pa.field("start_s", pa.float64()),
    pa.field("stop_s", pa.float64()),
    pa.field("narration", pa.string()),
    pa.field("verb", pa.string()),
    pa.field("noun", pa.string()),
    pa.field("verb_class", pa.int32()),
    pa.field("noun_class", pa.int32()),
    pa.field("participant", pa.string()),
]
_METADATA = {"handi.schema_version": SCHEMA_VERSION}

WRITTEN = pa.schema(
    [
        *_CLIP_COLUMNS,
        pa.field("frames", pa.list_(pa.binary())),  # L JPEGs, (height, width) RGB
        pa.field("frame_times_s", pa.list_(pa.float64())),  # L, in the video
        # L x 42 x 2, x and y in [0, 1] across the stored frame; zeros where undetected
        pa.field("keypoints", pa.list_(pa.list_(pa.list_(pa.float32(), 2), JOINTS))),
        pa.field("hand_detected", pa.list_(pa.list_(pa.bool_(), 2))),  # L x (left, right)
        pa.field("hand_score", pa.list_(pa.list_(pa.float32(), 2))),  # L x (left, right), [0, 1]
        # share of frames in which MediaPipe's labels alone would have put a hand into the other
        # slot, or a hand that is left out into one, [0, 1]
        pa.field("hands_reassigned", pa.float32()),
        pa.field("mask", pa.binary()),  # PNG, union of frame_masks
        pa.field("frame_masks", pa.list_(pa.binary())),  # L PNGs
        pa.field("content_sha256", pa.string()),  # of frames and frame_masks; see clip_content.py
        pa.field("mask_area", pa.float32()),  # share of the frame, [0, 1]
        pa.field("hand_rate", pa.float32()),  # share of frames with a hand, [0, 1]
        # median displacement of the background, pixels of the stored frame per frame: as filmed,
        # and in the stored frames (the same unless stabilized, then less); null where it cannot be
        # measured
        pa.field("camera_motion", pa.float32()),
        pa.field("residual_motion", pa.float32()),
        pa.field("stabilized", pa.bool_()),  # false where warping would not make it move less
        pa.field("valid_mask", pa.binary()),  # PNG: pixels that every frame of the video filled
        pa.field("valid_area", pa.float32()),  # share of the frame, [0, 1]
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("fps_source", pa.float32()),
        pa.field("detector", pa.string()),
    ],
    metadata=_METADATA,
)

FILTERED = pa.schema(
    [
        *_CLIP_COLUMNS,
        pa.field("reason", pa.string()),  # the key whose bound the clip does not keep
        pa.field("value", pa.float64()),  # null where it cannot be measured
    ],
    metadata=_METADATA,
)

FAILED = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("video_uri", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int32()),
    ],
    metadata=_METADATA,
)

OUTCOMES = {"clips": WRITTEN, "filtered": FILTERED, "errors": FAILED}
"""Folder of the output -> schema of its rows. Every clip ends in exactly one."""


@dataclass(frozen=True)
class Outcome:
    """What became of a clip: the folder it goes to, and its row there."""

    folder: str
    row: dict[str, Any]

    @classmethod
    def filtered(cls, clip: Clip, reason: str, value: float | None) -> Outcome:
        return cls("filtered", {**asdict(clip), "reason": reason, "value": value})

    @classmethod
    def failed(cls, problem: Problem) -> Outcome:
        return cls("errors", asdict(problem))

    def to_ipc(self) -> bytes:
        """The row as an Arrow stream: it crosses the object store typed, whatever its folder."""
        table = pa.Table.from_pylist([self.row], schema=OUTCOMES[self.folder])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()


def from_ipc(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
