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
        raise AnnotationsError(
            f"no clip at all: {len(table.clips)} were read from {settings.videos}"
            + (f" and {settings.annotations}" if settings.annotations else "")
            + f", {len(table.problems)} rows could not be, and the selection left none; loosen "
            "--split, --verb, --noun, --participant or --lego-list"
            if table.clips
            else f"videos: no clip at all in {settings.annotations or settings.videos}"
            + (f" ({table.problems[0].message})" if table.problems else "")
        )
    return replace(table, clips=clips)


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
