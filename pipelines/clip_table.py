"""The clip table of a run: read by its source, narrowed down by the selection keys."""

from __future__ import annotations

from dataclasses import replace

from pipelines.annotations import Annotations, AnnotationsError, ego4d, epic_kitchens, folder, lego
from pipelines.annotations.select import select
from pipelines.settings import PreprocessSettings


def read_clip_table(settings: PreprocessSettings) -> Annotations:
    """Read and select the clips that a run is about.

    Raises:
        AnnotationsError: if the annotations or the list of videos cannot be read, or if no clip is
            left.
    """
    table = _read(settings)
    clips = table.clips
    if settings.lego_list:
        clips = lego.select(clips, settings.lego_list)
    clips = select(
        clips,
        verb=settings.verb,
        noun=settings.noun,
        participant=settings.participant,
        split=settings.split,
        limit=settings.limit,
    )
    if not clips:
        raise AnnotationsError(_why_none(table, settings))
    return replace(table, clips=clips)


def _why_none(table: Annotations, settings: PreprocessSettings) -> str:
    if table.clips:
        return (
            f"no clip at all: the selection leaves none of {len(table.clips)}; loosen --split, "
            "--verb, --noun, --participant or --lego-list"
        )
    split = f" of split {settings.split}" if settings.split else ""
    if count := len(table.problems):
        why = f"{count} malformed rows; the first of them: {table.problems[0].message}"
    elif settings.annotations:
        why = "none of its rows gives one"
    else:
        why = "neither a video nor a caption is there"
    where = settings.annotations or settings.videos
    return "; ".join([f"no clip at all{split} in {where}: {why}", *table.warnings])


def _read(settings: PreprocessSettings) -> Annotations:
    if settings.source == "folder":
        return folder.read(settings.videos, settings.annotations)
    assert settings.annotations is not None  # the settings see to it
    if settings.source == "epic-kitchens":
        return epic_kitchens.read(settings.annotations, settings.videos, settings.split)
    return ego4d.read(
        settings.annotations,
        settings.videos,
        settings.split,
        kind=settings.ego4d_kind,
        span=settings.ego4d_span,
    )
