"""What a release of the evaluation set holds: each clip's files, their table, and the texts."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from handi_model.hands.model_files import OFFICIAL_URL, WHEEL_NETWORKS, sha256
from jobs.tracking import git_commit, git_dirty
from pipelines.clip_files import encode_png
from pipelines.dataset import read_columns
from pipelines.evaluation.clips import EvaluationSet, check_clip_id
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.seen_hands import CONFIDENCE, SeenHands
from pipelines.frames import encode_mask
from pipelines.storage import join

NAME = "HANDI evaluation set"
SOURCES = {
    "epic-kitchens": ("https://epic-kitchens.github.io", "CC BY-NC 4.0"),
    "ego4d": (
        "https://ego4d-data.org/docs/start-here",
        "the Ego4D licence agreement, to be signed",
    ),
}
"""Where a source's videos are to be had, and under what licence."""
UNKNOWN_SOURCE = ("with whoever filmed them", "that of the videos")
LICENCE = (
    "Videos are under the licence of their source. So are the narrations and times, which come "
    "from its annotations, and the masks and joints, which were found on its videos. score.py, "
    "detect.py and handedness.py are Apache-2.0."
)

COLUMNS = (
    *("clip_id", "dataset", "split", "video", "start_s", "stop_s", "frame_times_s"),
    *("narration", "verb", "noun", "mask_area", "hand_rate", "height", "width"),
    "first_frame_sha256",
)
"""Of clips.csv."""
MADE = {"video", "first_frame_sha256"}
"""Columns of clips.csv that are not the data set's."""
READ = [*(name for name in COLUMNS if name not in MADE), "video_uri"]


def clip_names(clip_id: str, num_frames: int, pictures: bool) -> list[str]:
    """Names of a clip's files: motion area, frames' masks, joints, and its pictures.

    Raises:
        ValueError: if the id would lead out of the release, or break its list of checksums.
    """
    check_clip_id(clip_id)
    digits = max(2, len(str(num_frames - 1)))
    return [
        f"masks/{clip_id}.png",
        f"frame_masks/{clip_id}.npz",
        f"joints/{clip_id}.npz",
        *(f"frames/{clip_id}/{i:0{digits}}.png" for i in range(num_frames if pictures else 0)),
    ]


def clip_contents(loaded: dict[str, Any], hands: SeenHands, pictures: bool) -> list[bytes]:
    """Contents of a clip's files, in the order of `clip_names`.

    Args:
        loaded: see `load_clip`.
        hands: that are seen on the stored frames, as the protocol has it. The data set's own
            joints were sought on larger ones, which generated clips have not.
    """
    return [
        encode_mask(loaded["frame_masks"].any(axis=0)),
        _npz(masks=loaded["frame_masks"]),
        _npz(joints=hands.joints, detected=hands.detected),
        *(encode_png(frame) for frame in loaded["frames"] if pictures),
    ]


def read_rows(clips: EvaluationSet) -> list[dict[str, Any]]:
    """The rows of clips.csv, without the first frame's hash."""
    known = read_columns(join(clips.index.data, "clips"), READ).to_pylist()
    by_id = {row["clip_id"]: row for row in known}
    videos = video_names({row["video_uri"] for row in known})
    return [
        {**by_id[clip_id], "video": videos[by_id[clip_id]["video_uri"]]}
        for clip_id in clips.index.clip_ids
    ]


def video_names(uris: Iterable[str]) -> dict[str, str]:
    """URI of a video -> its file name, with as many of its folders as tell it from the others.

    Where the videos lie on the exporter's disk or in whose bucket is nobody's business.
    """
    paths = {uri: tuple(filter(None, _path(uri).split("/"))) for uri in uris}
    tails = {
        path: ["/".join(path[-n:]) for n in range(1, len(path) + 1)] for path in paths.values()
    }
    times = Counter(tail for each in tails.values() for tail in each)
    return {
        uri: next((tail for tail in tails[path] if times[tail] == 1), "/".join(path))
        for uri, path in paths.items()
    }


def describe(clips: EvaluationSet, hand_model: Path, pictures: bool) -> dict[str, Any]:
    """What benchmark.json holds.

    Args:
        hand_model: MediaPipe's model file, with which the joints are found.
    """
    index = clips.index
    sources = {}
    for name, count in sorted(Counter(clips.datasets).items()):
        where, licence = SOURCES.get(name, UNKNOWN_SOURCE)
        sources[name] = {"clips": count, "videos": where, "licence": licence}
    commit = git_commit()
    return {
        "name": NAME,
        "protocol": PROTOCOL,
        "code": {
            "handi": version("handi"),
            "commit": f"{commit}, changed" if commit and git_dirty() else commit,
        },
        "clips": len(clips),
        "frames_per_clip": index.num_frames,
        "height": index.height,
        "width": index.width,
        "pictures": pictures,
        "split": clips.split,
        "splits": dict(sorted(Counter(index.splits).items())),
        "sources": sources,
        "licence": LICENCE,
        "detector": _detector(hand_model),
        "preprocessing": clips.preprocessing,
        "clip_ids": index.clip_ids,
        "subsets": {
            name: [index.clip_ids[i] for i in members] for name, members in clips.subsets().items()
        },
    }


def scripts() -> dict[str, bytes]:
    """The files to detect and score with, which need none of our packages."""
    own = files("jobs.evaluation")
    return {
        "score.py": own.joinpath("standalone_score.py").read_bytes(),
        "detect.py": own.joinpath("standalone_detect.py").read_bytes(),
        # Our own file, so that the release links detections as the evaluation does.
        "handedness.py": files("pipelines").joinpath("handedness.py").read_bytes(),
    }


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """The whole of clips.csv.

    Args:
        rows: see `read_rows`, each with its `first_frame_sha256`.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        times = " ".join(map(str, row["frame_times_s"]))
        # Shares are stored in single precision: 0.1, not 0.10000000149011612.
        shares = {name: np.float32(row[name]) for name in ("mask_area", "hand_rate")}
        values = {**row, **shares, "frame_times_s": times}
        writer.writerow([values[name] for name in COLUMNS])
    return sink.getvalue().encode()


def readme(said: dict[str, Any]) -> bytes:
    """The whole of README.md.

    Args:
        said: see `describe`.
    """
    # Not escaped: it is Markdown, and holds nothing that the data set's narrators wrote.
    environment = Environment(
        loader=PackageLoader("jobs", "evaluation"),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("release.md.j2").render(said=said).encode()


def _detector(hand_model: Path) -> dict[str, Any]:
    """What the joints of the release are found with; the model file is a known one."""
    with zipfile.ZipFile(hand_model) as task:
        networks = {name: hashlib.sha256(task.read(name)).hexdigest() for name in WHEEL_NETWORKS}
    return {
        "mediapipe": version("mediapipe"),
        "model_url": OFFICIAL_URL,
        "model_sha256": sha256(hand_model),
        # Task files of the same networks differ, as they come from the download or from a wheel.
        "networks_sha256": networks,
        "confidence": CONFIDENCE,
    }


def _path(uri: str) -> str:
    """A URI's path, with the bucket or host before it; a web address without its query."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return f"{parts.hostname}{parts.path}"
    return uri.partition("://")[2] or uri


def _npz(**arrays: NDArray[np.generic]) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)  # type: ignore[arg-type]
    return sink.getvalue()
