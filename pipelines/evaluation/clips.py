"""Which clips are evaluated, what each holds, and the subsets that the tables are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.clip_rows import load_clip
from pipelines.dataset import read_columns
from pipelines.storage import join
from pipelines.training_clips import DatasetError

MOTION_INTENSIVE = 0.1
"""Share of the test clips, those with the largest masks, that the paper calls motion-intensive."""
SPLITS = ("test", "validation")
"""What is evaluated unless a split is named: the first of these that a data set has, else all."""


@dataclass(frozen=True)
class EvaluationSet:
    """The clips to evaluate, by clip id.

    Attributes:
        index: of these clips alone.
        datasets: where each is from, such as `epic-kitchens`.
        mask_areas: (C,) shares of the frame.
        split: that they are of; empty for all of a data set that names none.
    """

    index: ClipIndex
    datasets: list[str]
    mask_areas: NDArray[np.float64]
    split: str

    def __len__(self) -> int:
        return len(self.index.clip_ids)

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


def read_evaluation_set(data: str, split: str | None, limit: int | None) -> EvaluationSet:
    """Find the clips to evaluate; no picture is read.

    Args:
        data: URL of the output of preprocessing.
        split: clips of it; see `SPLITS` for None.
        limit: at most so many clips, evenly spread over the clip ids.

    Raises:
        DatasetError: if there are none, in one line.
    """
    index = read_clip_index(data)
    known = set(index.splits)
    if split is None:
        split = next((name for name in SPLITS if name in known), "")
        chosen = [i for i, own in enumerate(index.splits) if own == split or not split]
    else:
        chosen = [i for i, own in enumerate(index.splits) if own == split]
    if not chosen:
        has = ", ".join(sorted(filter(None, known))) or "none"
        raise DatasetError(f"split: no clip of {data} is of split {split!r}; its splits are: {has}")
    if limit is not None and limit < len(chosen):
        chosen = [chosen[int(i)] for i in np.linspace(0, len(chosen) - 1, limit)]
    for i in chosen:
        check_clip_id(index.clip_ids[i])
    columns = read_columns(join(data, "clips"), ["clip_id", "dataset", "mask_area"])
    said = {row["clip_id"]: row for row in columns.to_pylist()}
    rows = [said[index.clip_ids[i]] for i in chosen]
    return EvaluationSet(
        replace(
            index,
            clip_ids=[index.clip_ids[i] for i in chosen],
            narrations=[index.narrations[i] for i in chosen],
            splits=[index.splits[i] for i in chosen],
            places=[index.places[i] for i in chosen],
        ),
        [row["dataset"] or "" for row in rows],
        np.array([row["mask_area"] for row in rows], np.float64),
        split,
    )


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
