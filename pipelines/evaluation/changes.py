"""What a part of the method is worth: its figures against those of a run without that part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from handi_model.metrics.intervals import Estimate, relative_frechet, relative_mean
from pipelines.evaluation.columns import COLUMNS, Column
from pipelines.evaluation.figures import Scores
from pipelines.evaluation.plan import Planned
from pipelines.evaluation.table import Draws, Estimates

CHANGED = ("change_outside", "fvd", "hs_err", "fvd_area")
"""Columns of which the paper claims a change; of all of them lower is better."""


def changed_columns() -> list[Column]:
    return [column for key in CHANGED for column in COLUMNS if column.key == key]


def whole_method(planned: Sequence[Planned]) -> Planned | None:
    """What runs without a part are compared with: the first that predicts its own motion area.

    None where there is none, or no run without a part.
    """
    if not any(one.method.without for one in planned):
        return None
    whole = (one for one in planned if one.method.kind == "handi" and not one.method.without)
    return next((one for one in whole if one.method.area == "predicted"), None)


def for_changes(scored: dict[str, Scores]) -> dict[str, Scores]:
    """The scores with what relative changes need: the features of frames, by far the most, go."""
    kept = {column.features for column in changed_columns()}
    return {
        clip: replace(
            one, features={name: each for name, each in one.features.items() if name in kept}
        )
        for clip, one in scored.items()
    }


def relative_changes(
    whole: dict[str, Scores],
    without: dict[str, Scores],
    real: dict[str, Scores],
    members: Sequence[str],
    draws: Draws,
) -> Estimates:
    """Key of a column -> change of its figure, in shares: -0.2 is 20 % lower than without.

    Args:
        whole, without, real: clip id -> scores of the method, of the run without a part of it, and
            of the real clips.
        members: clip ids; those that lack any of the three are left out.
    """
    clips = [one for one in members if one in whole and one in without and one in real]
    sides = [[side[one] for one in clips] for side in (whole, without, real)]
    found: Estimates = {}
    for column in changed_columns():
        if estimate := _change(column, sides, draws):
            found[column.key] = estimate
    return found


def _change(column: Column, sides: list[list[Scores]], draws: Draws) -> Estimate | None:
    """None where the network was not to be had, or there are no clips."""
    made, base, _ = sides
    name = column.features
    if name:
        if not made or any(name not in one.features for side in sides for one in side):
            return None
        new, old, truth = (np.stack([one.features[name] for one in side]) for side in sides)
        return relative_frechet(new, old, truth, draws.distances, draws.seed)
    if not made or any(column.key not in one.figures for side in (made, base) for one in side):
        return None
    new, old = (np.array([one.figures[column.key] for one in side]) for side in (made, base))
    return relative_mean(new, old, draws.means, draws.seed)
