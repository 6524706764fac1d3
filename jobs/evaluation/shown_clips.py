"""Clips for the evaluation's page: each as every method makes it, as videos and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handi_model.baselines.method import Made
from handi_model.metrics.locality import optical_flow
from jobs.demo_page import data_url
from jobs.evaluation import pictures
from jobs.evaluation.changes import NONE
from pipelines.clip_files import encode_mp4
from pipelines.clip_rows import reference
from pipelines.drawing import at_height
from pipelines.evaluation.clips import EvaluationSet, RealClip, real_clip
from pipelines.evaluation.columns import COLUMNS, Column
from pipelines.evaluation.figures import Scores, read_scores
from pipelines.evaluation.method_clip import read_method_clip
from pipelines.evaluation.plan import Planned, finished
from pipelines.evaluation.settings import OF_REAL_CLIPS, Kind
from pipelines.evaluation.table import ranked, read_all
from pipelines.frames import FitMode
from pipelines.records import one_line
from pipelines.report import picture
from pipelines.storage import join

VIDEO_HEIGHT = 256
"""Pixels: small frames are enlarged, and large ones, whose own files lie elsewhere, reduced."""
UNDER_A_VIDEO = ("hs_err", "recall", "mask_iou")
"""Columns whose figures of the clip stand under its video."""
BY_KEY = {column.key: column for column in COLUMNS}


@dataclass(frozen=True)
class Measured:
    """A method, the folder of its scores, and the ids of the clips that have some there."""

    planned: Planned
    folder: str
    scored: set[str]

    @property
    def name(self) -> str:
        return self.planned.method.name

    @property
    def kind(self) -> Kind:
        return self.planned.method.kind

    @property
    def floor(self) -> bool:
        """Whether it is made of real clips: a floor or a ceiling, and no competitor."""
        return self.kind in OF_REAL_CLIPS

    def scores(self, clip_id: str) -> Scores | None:
        return read_scores(self.folder, clip_id) if clip_id in self.scored else None


def find_measured(clips: EvaluationSet, planned: Sequence[Planned], scores: str) -> list[Measured]:
    """See which clips have scores.

    Args:
        scores: URL of the folder of all scores.
    """
    ids = {*clips.index.clip_ids}
    folders = [join(scores, one.key) for one in planned]
    return [
        Measured(one, folder, finished(folder) & ids)
        for one, folder in zip(planned, folders, strict=True)
    ]


def leading(methods: Sequence[Measured]) -> Measured | None:
    """The first generated method that has scores; without one, the real clips are looked at."""
    in_order = sorted(methods, key=lambda one: (one.floor, one.kind != "real"))
    return next((one for one in in_order if one.scored), None)


def worst_clips(method: Measured | None, count: int) -> list[str]:
    """Ids of a method's clips with the worst hands, the worst first."""
    if method is None or not count:
        return []
    return ranked(read_all(method.folder, sorted(method.scored)), count)


def shown_clip(
    clips: EvaluationSet, clip_id: str, methods: Sequence[Measured], lead: Measured, fps: float
) -> dict[str, Any]:
    """What the page shows of a clip: the real one, then each method's that is no floor.

    Args:
        lead: the method whose HS-Err stands beside the clip's id.
        fps: frames a second of the videos.
    """
    real = real_clip(reference(clips.index, clips.index.clip_ids.index(clip_id), None))
    full = pictures.full_colour(pictures.mean_flow(optical_flow(real.frames)))
    views = [
        view(method, real, clips.fit, full, fps)
        for method in sorted(methods, key=lambda one: one.kind != "real")
        if method.kind == "real" or not method.floor
    ]
    scores = lead.scores(clip_id)
    return {
        "clip_id": clip_id,
        "narration": real.narration,
        "hs_err": clip_figure("hs_err", scores),
        "full": full,
        "views": views,
    }


def view(method: Measured, real: RealClip, fit: FitMode, full: float, fps: float) -> dict[str, Any]:
    """One method's clip: videos, pictures and figures, or `why` there is nothing to show.

    Args:
        fit: see `EvaluationSet.fit`.
        full: flow that is drawn in full colour, pixels a frame.
    """
    named = {"method": method.name, "kind": method.kind}
    try:
        made = made_clip(method, real, fit)
    except FileNotFoundError:
        return {**named, "why": "There is no such clip."}
    except Exception as error:  # of this clip: the others are shown
        return {**named, "why": f"It cannot be read: {one_line(error)}"}
    scores = method.scores(real.clip_id)
    joints = scores.hands.joints if scores else None
    detected = scores.hands.detected if scores else None
    colours = pictures.flow_colours(pictures.mean_flow(optical_flow(made.frames)), full)
    return {
        **named,
        "video": data_url("video/mp4", encode_mp4(at_height(made.frames, VIDEO_HEIGHT), fps)),
        "strip": picture(pictures.plain_strip(made.frames)),
        "flow": picture(pictures.outlined(colours, real.mask)),
        "hands": picture(pictures.hand_strip(made.frames, joints, detected, made.area)),
        "figures": [(BY_KEY[key].title, clip_figure(key, scores)) for key in UNDER_A_VIDEO],
    }


def made_clip(method: Measured, real: RealClip, fit: FitMode) -> Made:
    """A method's clip; of the real one, the area is the true mask.

    Raises:
        FileNotFoundError: if the method has none.
    """
    if method.kind == "real":
        return Made(real.frames, real.mask, None)
    source = method.planned.source(real.clip_id)
    if not source:
        raise FileNotFoundError(real.clip_id)
    return read_method_clip(method.kind, source, real, fit)


def clip_figure(key: str, scores: Scores | None) -> str:
    """A column's figure of one clip, as the tables print it."""
    column = BY_KEY[key]
    value = scores.figures.get(key, math.nan) if scores else math.nan
    return printed(column, value)


def printed(column: Column, value: float) -> str:
    """A figure with its column's digits, a dash where there is none."""
    return f"{value:.{column.digits}f}" if math.isfinite(value) else NONE
