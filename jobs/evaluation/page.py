"""The evaluation's page: tables, charts, and clips of all methods beside the real ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from tqdm import tqdm

from handi_model.metrics.intervals import CONFIDENCE, Estimate
from handi_model.metrics.locality import FLOW_SIDE
from jobs.demo_page import data_url
from jobs.evaluation.changes import NONE, change_rows, explained
from jobs.evaluation.paper import TABLE_1, published, published_costs, where_from
from jobs.evaluation.pictures import Whisker, colour_wheel, shown_frames, whiskers
from jobs.evaluation.result import Result
from jobs.evaluation.shown_clips import (
    BY_KEY,
    find_measured,
    leading,
    printed,
    shown_clip,
    worst_clips,
)
from jobs.evaluation.tables import ARROWS, trained_on_lines, without_hands
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.columns import COLUMNS, PAPER, TABLES, Column
from pipelines.evaluation.plan import Planned
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.settings import OF_REAL_CLIPS, EvaluateSettings, Kind
from pipelines.evaluation.table import Estimates
from pipelines.report import picture

HAND_ERRORS = ("hs_err", "hs_err_area")
CHARTED = ("hs_err", "fvd")
"""Columns with a chart of their own."""
AREAS = {
    "predicted": "in the area that it predicts",
    "true": "given the true area",
    "frame": "anywhere in the frame",
}
"""Where our own pipeline lets a clip change."""
EFFICIENCY = (
    Column("parameters", "parameters, millions", "lower", 1, "of all networks"),
    Column("seconds", "seconds a clip", "lower", 2, "of the median clip"),
    Column("memory", "peak memory, GB", "lower", 2, "of any process"),
)
"""Those of the paper's Table 1."""


def write_page(
    result: Result,
    clips: EvaluationSet,
    planned: list[Planned],
    scores: str,
    settings: EvaluateSettings,
) -> bytes:
    """Draw `report.html`, one file that fetches nothing.

    Args:
        scores: URL of the folder of all scores.
    """
    methods = find_measured(clips, planned, scores)
    kinds = {one.name: one.kind for one in methods}
    lead = leading(methods)
    worst = tqdm(worst_clips(lead, settings.shown), unit="clip", desc="page", mininterval=1.0)
    environment = Environment(
        loader=PackageLoader("jobs", "evaluation"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        result=result,
        count=len(clips),
        split=clips.split,
        data=settings.data,
        methods=methods,
        protocol=PROTOCOL,
        confidence=CONFIDENCE,
        missing=missing(result),
        columns=COLUMNS,
        arrows=ARROWS,
        areas=AREAS,
        subsets=[subset(name, result, kinds) for name in result.estimates],
        efficiency=efficiency(result, kinds),
        table_1=TABLE_1,
        trained_on=[line.strip("*") for line in trained_on_lines(result)],
        explained=explained(result),
        lead=lead,
        shown=[shown_clip(clips, one, methods, lead, clips.fps) for one in worst if lead],
        frames=[i + 1 for i in shown_frames(result.frames)],
        flow_side=FLOW_SIDE,
        wheel=picture(colour_wheel(96)),
    )
    return page.encode()


def missing(result: Result) -> list[dict[str, str]]:
    """What could not be measured, and why."""
    return [
        {"columns": ", ".join(one.title for one in COLUMNS if key in one.needs), "why": why}
        for key, why in result.origins.missing.items()
    ]


def subset(name: str, result: Result, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """A subset's tables and charts, and the paper's own numbers for it."""
    found = result.estimates[name]
    charts = [chart(BY_KEY[key], name, found, kinds) for key in CHARTED]
    own = published(result.estimates).get(name, [])
    counts = result.measured[name]
    fewer = {method: count for method, count in counts.items() if count < result.clips[name]}
    return {
        "name": name,
        "clips": result.clips[name],
        "fewer": fewer,
        "without_hands": without_hands(found),
        "tables": [
            {"title": title, **table(columns, found, kinds, fewer)}
            for title, columns in TABLES.items()
        ],
        "charts": [one for one in charts if one],
        "changes": _changes(name, result),
        "paper": _of_the_paper(PAPER, {row.title: row.figures for row in own}) if own else None,
        "source": where_from(own) if own else "",
    }


def _changes(subset: str, result: Result) -> dict[str, Any] | None:
    """The table of relative changes as `table` gives one."""
    found = change_rows(result, subset)
    if not found:
        return None
    header, rows = found
    return {
        "columns": [{"title": title} for title in header],
        "rows": [
            {"method": title, "floor": False, "cells": [{"value": cell} for cell in cells]}
            for title, *cells in rows
        ],
    }


def efficiency(result: Result, kinds: Mapping[str, Kind]) -> dict[str, Any] | None:
    """What each method's clips took, and the paper's; None where no clips were generated."""
    if not result.efficiency:
        return None
    found = {}
    for method, one in result.efficiency.items():
        costs = (one.parameters / 1e6, one.seconds, one.peak_memory_gb)
        found[method] = {
            column.key: Estimate(cost, math.nan, math.nan, one.clips)
            for column, cost in zip(EFFICIENCY, costs, strict=True)
        }
    paid = published_costs()
    paper = _of_the_paper(
        EFFICIENCY[:2],
        {row.method: {"parameters": row.parameters / 1e6, "seconds": row.seconds} for row in paid},
    )
    frames = [one.frames for one in result.efficiency.values()]
    # Where networks make different clips, none is the best.
    unlike = found if len({*frames}) > 1 else ()
    return {
        **_with_frames(table(EFFICIENCY, found, kinds, unlike), frames),
        "paper": _with_frames(paper, [str(row.frames or NONE) for row in paid]),
    }


def _with_frames(table: dict[str, Any], frames: Sequence[str]) -> dict[str, Any]:
    """The table with a first column that says what each row's networks make; nothing competes."""
    column = {"title": "frames", "says": "as generated: number, height x width"}
    rows = [
        {**row, "cells": [{"value": made}, *row["cells"]]}
        for row, made in zip(table["rows"], frames, strict=True)
    ]
    return {"columns": [column, *table["columns"]], "rows": rows}


def table(
    columns: Sequence[Column],
    found: Mapping[str, Estimates],
    kinds: Mapping[str, Kind],
    fewer: Collection[str] = (),
) -> dict[str, Any]:
    """The columns, and a row a method: name, whether it is a floor or a ceiling, cells.

    Args:
        fewer: methods that were measured on fewer clips than there are.
    """
    best = {column.key: best_methods(column, found, kinds, fewer) for column in columns}
    rows = [
        {
            "method": method,
            "floor": kinds[method] in OF_REAL_CLIPS,
            "cells": [
                _cell(column, estimates.get(column.key), method in best[column.key])
                for column in columns
            ],
        }
        for method, estimates in found.items()
    ]
    return {"columns": columns, "rows": rows}


def _cell(column: Column, one: Estimate | None, best: bool) -> dict[str, Any]:
    if one is None or not math.isfinite(one.value):
        return {"value": NONE, "interval": "", "best": False}
    interval = f"{printed(column, one.low)} to {printed(column, one.high)}"
    return {
        "value": printed(column, one.value),
        "interval": interval if math.isfinite(one.low) else "",
        "best": best,
    }


def _of_the_paper(
    columns: Sequence[Column], rows: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """A table as `table` gives it, of numbers that were not measured here and do not compete."""
    return {
        "columns": columns,
        "rows": [
            {
                "method": method,
                "floor": False,
                "cells": [
                    {"value": printed(one, figures.get(one.key, math.nan)), "interval": ""}
                    for one in columns
                ],
            }
            for method, figures in rows.items()
        ],
    }


def best_methods(
    column: Column,
    found: Mapping[str, Estimates],
    kinds: Mapping[str, Kind],
    fewer: Collection[str] = (),
) -> set[str]:
    """Which methods have a column's best figure as it is printed; none where all are alike.

    Floors and ceilings do not compete: a still frame's hands never jerk. Neither does a HS-Err of
    the few clips in which a method shows hands, a mask IoU of 1, which only a mask that was given
    has, or a method that was measured on fewer clips than another one.
    """
    values = {
        name: one[column.key].value
        for name, one in found.items()
        if column.key in one and math.isfinite(one[column.key].value)
    }
    most = max((found[name][column.key].clips for name in values), default=0)
    real = next((value for name, value in values.items() if kinds[name] == "real"), math.nan)
    badness = {}
    for name, value in values.items():
        bad = {"lower": value, "higher": -value, "real": abs(value - real)}[column.better]
        seldom = column.key in HAND_ERRORS and found[name][column.key].clips < most / 2
        given = column.key == "mask_iou" and value == 1
        competes = kinds[name] not in OF_REAL_CLIPS and name not in fewer
        if competes and math.isfinite(bad) and not seldom and not given:
            badness[name] = round(bad, column.digits)
    best = {name for name, bad in badness.items() if bad == min(badness.values())}
    return best if len(best) < len(badness) else set()


def chart(
    column: Column, subset: str, found: Mapping[str, Estimates], kinds: Mapping[str, Kind]
) -> dict[str, str] | None:
    """A column's figures with their intervals as a picture; None where there are no figures."""
    rows = [
        Whisker(method, one.value, one.low, one.high, kinds[method] in OF_REAL_CLIPS)
        for method, estimates in found.items()
        if (one := estimates.get(column.key)) and math.isfinite(one.value)
    ]
    if not rows:
        return None
    said = ", ".join(f"{row.label} {printed(column, row.value)}" for row in rows)
    return {
        "picture": data_url("image/png", whiskers(f"{column.title} {ARROWS[column.better]}", rows)),
        "alt": f"{column.title} of each method on {subset}: {said}",
    }
