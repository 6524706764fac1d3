"""The table of relative changes: the method against runs without a part of it, and the claims."""

from __future__ import annotations

import math
from collections.abc import Iterator

from handi_model.metrics.intervals import Estimate
from jobs.evaluation.paper import CLAIMS
from jobs.evaluation.result import Result
from pipelines.evaluation.changes import changed_columns

NONE = "–"
CLAIMED = "the paper claims"


def change_rows(result: Result, subset: str) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of a subset's table; None where no run without a part was measured.

    A cell is a change and its interval, in percent.
    """
    runs = result.changes.get(subset)
    if not runs:
        return None
    header = [f"without {result.without[run]}: {run}" for run in runs]
    rows = [
        [
            column.title,
            *(percent(found.get(column.key)) for found in runs.values()),
            f"{_signed(CLAIMS[column.key])} %",
        ]
        for column in changed_columns()
    ]
    return [*header, CLAIMED], rows


def explained(result: Result) -> str:
    """What the table says, and on which clips."""
    return (
        f"By how much {result.whole} differs from the same without a part, on the clips that both "
        "have; below 0 is better. HS-Err: on the clips in which both show a real hand. A claim of "
        "the paper stands beside the figure that corresponds; change outside is its background "
        "artefacts. Its ablation table (EPIC-KITCHENS) gives, against no hand loss, HS-Err -22 % "
        "and FVD -18 %, and against neither mask nor hand loss, HS-Err -21 % and FVD -41 %."
    )


def percent(one: Estimate | None) -> str:
    """A change and its interval, a dash where there is none."""
    if one is None or math.isnan(one.value):
        return NONE
    value = f"{_signed(one.value)} %"
    return value if math.isnan(one.low) else f"{value} ({_signed(one.low)} to {_signed(one.high)})"


def csv_rows(result: Result) -> Iterator[list[object]]:
    """As in table.csv: source, subset, method, metric, value, low, high, clips."""
    for subset, runs in result.changes.items():
        for run, found in runs.items():
            for key, one in found.items():
                values = ["" if math.isnan(v) else v for v in (one.value, one.low, one.high)]
                yield ["measured", subset, run, f"relative_change/{key}", *values, one.clips]
    for key, claim in CLAIMS.items() if any(result.changes.values()) else ():
        yield ["paper", "", "", f"relative_change/{key}", claim, "", "", ""]


def _signed(share: float) -> str:
    return f"{100 * share:+.0f}"
