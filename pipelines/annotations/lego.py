"""The split lists of LEGO (Lai et al. 2024) as a selection over a clip table.

A list is a JSON object: clip id -> action id -> {image_0, image_1, action,
llava_forecast_finetune}. Only the two ids matter here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import opened
from pipelines.annotations.rows import quote
from pipelines.records import Clip


def select(clips: Iterable[Clip], lists: str) -> list[Clip]:
    """The clips that a split list names, each once, in table order.

    The lists write an action as two ids where the clip table has one, so a clip is named by its
    action id, by `<clip id>_<action id>`, by `<clip id>/<action id>`, or by the clip id alone if
    that has a single action.

    Args:
        lists: fsspec URL of the JSON file.

    Raises:
        AnnotationsError: it cannot be read or is not a split list.
    """
    named = _named(lists)
    chosen: dict[str, Clip] = {}
    for clip in clips:
        if clip.clip_id in named:
            chosen.setdefault(clip.clip_id, clip)
    return list(chosen.values())


def _named(lists: str) -> set[str]:
    with opened(lists) as file:
        try:
            table = json.load(file)
        except (ValueError, RecursionError) as error:
            raise AnnotationsError(f"{lists}: not JSON ({error})") from error
    if not isinstance(table, dict):
        raise AnnotationsError(f"{lists}: expected an object, clip id -> action id -> action")
    named = set()
    for clip_id, actions in table.items():
        if not isinstance(actions, dict):
            raise AnnotationsError(f"{lists}: {quote(clip_id)} has no object of actions")
        for action_id in actions:
            named |= {action_id, f"{clip_id}_{action_id}", f"{clip_id}/{action_id}"}
        if len(actions) == 1:
            named.add(clip_id)
    return named
