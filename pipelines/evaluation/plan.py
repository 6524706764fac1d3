"""What there is to do: each method, where its clips lie or will lie, and where their scores go."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs

from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.elsewhere import find_elsewhere
from pipelines.evaluation.made_files import SUFFIX, made_url
from pipelines.evaluation.settings import (
    GENERATIVE,
    OF_REAL_CLIPS,
    EvaluateSettings,
    Kind,
    MethodSettings,
)
from pipelines.records import one_line
from pipelines.saved_model import read_saved_model
from pipelines.storage import absolute, find, folder_state, join
from pipelines.trained_on import read_trained_on

ON_OUR_PIPELINE = ("handi", "animate-anything")


@dataclass(frozen=True)
class ToScore:
    """One method's clip.

    Attributes:
        method: the method's name.
        kind: of the method.
        folder: where the scores go.
        source: URL of the clip; empty for what is made of real clips.
    """

    method: str
    kind: Kind
    folder: str
    source: str


@dataclass(frozen=True)
class Planned:
    """A method with its places.

    Attributes:
        key: folder name of its clips and scores: another one for other weights, settings or files,
            so that what lies there may be taken as it is.
        made: URL of the folder of the clips that it generates; empty for the others.
        elsewhere: clip id -> URL of a clip that was made elsewhere.
        trained_on: how many of the clips its model was trained on; None where that is not known.
    """

    method: MethodSettings
    key: str
    made: str
    elsewhere: dict[str, str]
    trained_on: int | None = None

    def source(self, clip_id: str) -> str:
        """URL of its clip, there or not; empty where it has none, as what is made of real clips."""
        return made_url(self.made, clip_id) if self.made else self.elsewhere.get(clip_id, "")

    def done(self, clips: EvaluationSet) -> list[str]:
        """URLs of the clips that it has generated."""
        there = finished(self.made) if self.made else set()
        return [self.source(one) for one in clips.index.clip_ids if one in there]

    def to_make(self, clips: EvaluationSet) -> list[int]:
        """Numbers of the clips that are to be generated still."""
        if not self.made:
            return []
        there = finished(self.made)
        return [i for i, one in enumerate(clips.index.clip_ids) if one not in there]

    def to_score(self, clips: EvaluationSet, scores: str) -> dict[int, ToScore]:
        """Number of a clip -> what to measure, of the clips that are there and not scored yet.

        Args:
            scores: URL of the folder of all scores by the networks at hand.
        """
        folder = join(scores, self.key)
        there, scored = finished(self.made) if self.made else set(), finished(folder)
        found = {}
        for i, clip_id in enumerate(clips.index.clip_ids):
            source = "" if self.made and clip_id not in there else self.source(clip_id)
            of_real = self.method.kind in OF_REAL_CLIPS
            if clip_id not in scored and (source or of_real):
                found[i] = ToScore(self.method.name, self.method.kind, folder, source)
        return found


def plan(settings: EvaluateSettings, clips: EvaluationSet) -> list[Planned]:
    """Look at every method's model or clips; nothing is loaded.

    Raises:
        ValueError: over what cannot be used, in one line.
    """
    rows = settings.rows()
    if settings.model and not read_saved_model(settings.model).uses_mask:
        # Without its mask it is the same once more.
        rows = [one for one in rows if one in settings.methods or one.area == "predicted"]
    if len(clips) < 2:
        rows = [one for one in rows if one.kind != "swapped"]  # there is no other clip
    return [_planned(one, settings, clips) for one in rows]


def finished(folder: str) -> set[str]:
    """Clip ids of a folder's npz files.

    Raises:
        ValueError: if the storage does not answer, in one line.
    """
    before = len(absolute(folder)) + 1
    try:
        urls = find(folder, SUFFIX)
    except Exception as error:  # each storage has its own
        raise ValueError(f"output: {folder} cannot be read: {one_line(error)}") from None
    return {url[before:].removesuffix(SUFFIX) for url in urls}


def _planned(method: MethodSettings, settings: EvaluateSettings, clips: EvaluationSet) -> Planned:
    elsewhere: dict[str, str] = {}
    decides: dict[str, Any] = {"kind": method.kind, "data": clips.index.fingerprint}
    if method.kind in GENERATIVE:
        assert method.model is not None
        adapter = method.motion_adapter and _published(method.motion_adapter)
        found = {**_checked(method, clips), "motion_adapter": adapter}
        method = method.model_copy(update=found)
        decides |= {"model": _identity(method.model or ""), "options": method.options()}
        decides |= {"motion_adapter": adapter and _identity(adapter)}
        decides |= {"dtype": settings.dtype, "seed": settings.seed}
        if method.kind == "i2vgen-xl":
            decides["fps"] = clips.fps  # which its network is told
    elif method.kind == "folder":
        elsewhere = find_elsewhere(absolute(method.clips or ""), clips.index.clip_ids)
        decides["files"] = folder_state(absolute(method.clips or ""))
    elif method.kind == "shuffled":
        decides["seed"] = settings.seed
    elif method.kind == "swapped":
        decides["clips"] = clips.index.clip_ids
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    key = f"{method.slug}-{digest}"
    made = join(settings.output, "generated", key) if method.kind in GENERATIVE else ""
    return Planned(method, key, made, elsewhere, _trained_on(method, clips))


def _trained_on(method: MethodSettings, clips: EvaluationSet) -> int | None:
    """How many of the clips a method's model was trained on; None where that is not known."""
    record = read_trained_on(method.model or "") if method.kind in ON_OUR_PIPELINE else None
    if record is None:
        return None
    index = clips.index
    count = record.count(index.contents, index.clip_ids, index.narrations)
    return count if record.complete or count else None


def _checked(method: MethodSettings, clips: EvaluationSet) -> dict[str, str]:
    """What a method's model says of its keys: its absolute URL, and whether it has a mask."""
    assert method.model is not None
    if method.kind not in ON_OUR_PIPELINE:
        return {"model": _published(method.model)}
    saved = read_saved_model(method.model)
    for side in (clips.index.height, clips.index.width):
        if side % saved.pixel_multiple:
            raise ValueError(
                f"model: {method.model} makes frames whose sides are multiples of "
                f"{saved.pixel_multiple} pixels, and those of {clips.index.data} have {side}"
            )
    if method.kind == "handi" and method.area == "predicted" and not saved.uses_mask:
        hands_too = method.without in ("hand loss", "mask and hand loss")
        without = "mask and hand loss" if hands_too else "mask"
        return {"model": saved.url, "area": "frame", "without": without}
    return {"model": saved.url}


def _published(model: str) -> str:
    """A folder's path, or a hub id, as the key has it.

    Raises:
        ValueError: for a URL, which diffusers does not read, in one line.
    """
    if "://" in model:
        raise ValueError(f"model: {model} is a URL; give a local folder or a hub id for this kind")
    return model


def _identity(model: str) -> str:
    """What tells a model from what lay at its place before; a hub id is taken at its word."""
    fs, path = url_to_fs(model)
    return folder_state(model) if fs.exists(path) else model
