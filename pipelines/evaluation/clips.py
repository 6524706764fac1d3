"""Which clips are evaluated, what each holds, and the subsets that the tables are made of."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handi_model.config import DEFAULT_FPS
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.clip_rows import load_clip
from pipelines.dataset import read_columns
from pipelines.frames import FitMode
from pipelines.ledger import SETTINGS_FILE
from pipelines.storage import exists, join, read_bytes
from pipelines.training_clips import DatasetError

MOTION_INTENSIVE = 0.1
"""Share of the test clips, those with the largest masks, that the paper calls motion-intensive."""
SPLITS = ("test", "validation")
"""What is evaluated unless a split is named: of each source, such as EPIC-KITCHENS, the first of
these that it has, else all of it."""


@dataclass(frozen=True)
class EvaluationSet:
    """The clips to evaluate, by clip id.

    Attributes:
        index: of these clips alone.
        datasets: where each is from, such as `epic-kitchens`.
        mask_areas: (C,) shares of the frame.
        split: that they are of, or several; empty for clips that have none.
        preprocessing: the settings that it left with the clips; None where there are none.
        fps: frames a second that the clips are played at, made ones as real ones.
    """

    index: ClipIndex
    datasets: list[str]
    mask_areas: NDArray[np.float64]
    split: str
    preprocessing: dict[str, Any] | None = None
    fps: float = DEFAULT_FPS

    def __len__(self) -> int:
        return len(self.index.clip_ids)

    @property
    def fit(self) -> FitMode:
        """How frames were made square."""
        return "pad" if (self.preprocessing or {}).get("fit") == "pad" else "crop"

    def subsets(self) -> dict[str, list[int]]:
        """What there is a table of -> its clips: each data set, then the motion-intensive ones."""
        found = {
            name: [clip for clip, dataset in enumerate(self.datasets) if dataset == name]
            for name in sorted(set(self.datasets))
        }
        if len(found) > 1:
            found = {**found, "all": list(range(len(self)))}
        by_area = sorted(range(len(self)), key=lambda i: (-self.mask_areas[i], i))
        most = by_area[: math.ceil(MOTION_INTENSIVE * len(self))]
        return {**found, "motion-intensive": sorted(most)}


@dataclass(frozen=True)
class RealClip:
    """A clip of the test set.

    Attributes:
        frames: (L, H, W, 3) uint8 RGB.
        mask: (H, W) bool, union over the frames.
    """

    clip_id: str
    narration: str
    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def read_evaluation_set(
    data: str, split: str | None, limit: int | None, fps: float | None = None
) -> EvaluationSet:
    """Find the clips to evaluate; no picture is read.

    Args:
        data: URL of the output of preprocessing.
        split: clips of it; see `SPLITS` for None.
        limit: at most so many clips, evenly spread over the clip ids.
        fps: frames a second that clips are played at; the data set's own by default.

    Raises:
        DatasetError: if there are none, in one line.
    """
    index = read_clip_index(data)
    columns = read_columns(join(data, "clips"), ["clip_id", "dataset", "mask_area"])
    said = {row["clip_id"]: row for row in columns.to_pylist()}
    datasets = [said[clip_id]["dataset"] or "" for clip_id in index.clip_ids]
    known: dict[str, set[str]] = {}
    for dataset, own in zip(datasets, index.splits, strict=True):
        known.setdefault(dataset, set()).add(own)
    wanted = {name: split if split is not None else _usual(own) for name, own in known.items()}
    chosen = [
        i
        for i, (dataset, own) in enumerate(zip(datasets, index.splits, strict=True))
        if wanted[dataset] in ("", own)
    ]
    if not chosen or split == "":
        has = ", ".join(sorted(filter(None, set(index.splits)))) or "none"
        raise DatasetError(f"split: no clip of {data} is of split {split!r}; its splits are: {has}")
    if limit is not None and limit < len(chosen):
        chosen = [chosen[int(i)] for i in np.linspace(0, len(chosen) - 1, limit)]
    for i in chosen:
        check_clip_id(index.clip_ids[i])
    settings = join(data, SETTINGS_FILE)
    areas = [said[index.clip_ids[i]]["mask_area"] for i in chosen]
    return EvaluationSet(
        replace(
            index,
            clip_ids=[index.clip_ids[i] for i in chosen],
            narrations=[index.narrations[i] for i in chosen],
            splits=[index.splits[i] for i in chosen],
            places=[index.places[i] for i in chosen],
            rates=[index.rates[i] for i in chosen],
        ),
        [datasets[i] for i in chosen],
        np.array(areas, np.float64),
        ", ".join(sorted({*wanted.values()} - {""})),
        json.loads(read_bytes(settings)) if exists(settings) else None,
        fps or index.fps(chosen),
    )


def _usual(splits: set[str]) -> str:
    """What is evaluated of a source with these splits; empty for all of it."""
    return next((name for name in SPLITS if name in splits), "")


def check_clip_id(clip_id: str) -> None:
    """Whether files can be named by a clip id.

    Raises:
        DatasetError: if it would lead out of a folder, or be read back as another id, in one line.
    """
    parts = clip_id.split("/")
    hidden = any(part in ("", "..") or part.startswith(".") for part in parts)
    if hidden or "\\" in clip_id or "::" in clip_id or not clip_id.isprintable():
        raise DatasetError(
            f"data: the clip id {clip_id!r} cannot name a file; give the clip another one "
            "(column clip_id of the captions)"
        )


def real_clip(ref: dict[str, Any]) -> RealClip:
    """The clip that a reference stands for."""
    loaded = load_clip(ref)
    return RealClip(
        ref["clip_id"],
        ref["narration"],
        loaded["frames"],
        loaded["frame_masks"].any(axis=0),
    )
