"""The tables as Markdown and as CSV, the paper's own numbers beside the measured ones."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from handi_model.metrics.intervals import CONFIDENCE, Estimate
from jobs.evaluation.changes import NONE, change_rows, csv_rows, explained
from jobs.evaluation.paper import TABLE_1, Published, published, published_costs, where_from
from jobs.evaluation.result import EFFICIENCY, Result
from pipelines.evaluation.columns import COLUMNS, PAPER, TABLES, Column
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.table import Estimates

ARROWS = {"lower": "↓", "higher": "↑", "real": "≈ real"}


def markdown(result: Result) -> str:
    """The whole of table.md."""
    lines = [
        "# Evaluation",
        "",
        f"Clips of {result.frames} frames of {result.side}x{result.side} pixels. In brackets: "
        f"{CONFIDENCE:.0%} intervals over test clips. Protocol {PROTOCOL}.",
    ]
    for line in trained_on_lines(result):
        lines += ["", line]
    own = published(result.estimates)
    for subset, methods in result.estimates.items():
        lines += ["", f"## {subset}, {_count(result.clips[subset])}"]
        for title, columns in TABLES.items():
            rows = [
                [method, *(cell(column, found.get(column.key)) for column in columns)]
                for method, found in methods.items()
            ]
            lines += ["", f"### {title}", "", *_table(["", *map(_title, columns)], rows)]
            if columns is PAPER and subset in own:
                lines += ["", *_of_the_paper(subset, own[subset])]
        if changes := change_rows(result, subset):
            header, cells = changes
            lines += ["", "### Relative changes", "", explained(result)]
            lines += ["", *_table(["", *header], cells)]
    if result.efficiency:
        lines += ["", *_efficiency(result)]
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes(result))]
    return "\n".join(lines) + "\n"


def trained_on_lines(result: Result) -> list[str]:
    """Which methods' models were trained on clips of the tables, as far as that is known."""
    total = max(result.clips.values(), default=0)
    known = {name: count for name, count in result.trained_on.items() if count is not None}
    said = [
        f"**Trained on clips of these tables: {name}, on {count:,} of {_count(total)}. Its figures "
        "tell what it remembers, not what it generates.**"
        for name, count in known.items()
        if count
    ]
    if clean := [name for name, count in known.items() if not count]:
        said.append(f"Trained on none of these clips: {'; '.join(clean)}.")
    if unknown := [name for name in result.trained_on if name not in known]:
        said.append(f"Not known whether trained on these clips: {'; '.join(unknown)}.")
    return said


def notes(result: Result) -> list[str]:
    """What a reader must know to read the tables: columns, networks, what is missing."""
    said = [
        f"{column.title}: {column.says}; "
        + {"lower": "lower is better", "higher": "higher is better", "real": "as the real clip's"}[
            column.better
        ]
        for column in COLUMNS
    ]
    said += [
        f"FVD of {result.frames} frames a clip, resized from {result.side}x{result.side} pixels; "
        "FID and FVD depend on the number of clips, so compare them between methods of "
        "one table only"
    ]
    for subset, counts in result.measured.items():
        for method, seen in counts.items():
            if seen < result.clips[subset]:
                said.append(f"{subset}, {method}: {seen} of {_count(result.clips[subset])}")
    for subset, methods in result.estimates.items():
        said += [f"{subset}, {line}" for line in without_hands(methods)]
    said += [f"measured with {origin}" for origin in result.origins.loaded.values()]
    for key, why in result.origins.missing.items():
        lost = ", ".join(column.title for column in COLUMNS if key in column.needs)
        said.append(f"not measured: {lost}: {why}")
    return said + [f"left out: {problem}" for problem in result.problems]


def without_hands(found: Mapping[str, Estimates]) -> list[str]:
    """A line for each method that shows none of the real hands in some clips.

    Args:
        found: method -> figures.
    """
    lines = []
    for method, one in found.items():
        if "recall" in one and "hs_err" in one and one["hs_err"].clips < one["recall"].clips:
            of = _count(one["recall"].clips)
            lines.append(
                f"{method}: HS-Err is of {one['hs_err'].clips} of {of} with hands; in the others "
                "it shows none of them, which hand recall counts"
            )
    return lines


def cell(column: Column, estimate: Estimate | None) -> str:
    """A figure and its interval, a dash where there is none."""
    if estimate is None or math.isnan(estimate.value):
        return NONE
    value, low, high = (
        f"{each:.{column.digits}f}" for each in (estimate.value, estimate.low, estimate.high)
    )
    return value if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def as_csv(result: Result) -> bytes:
    """A row a figure: subset, method, column, value, low, high, clips, and who measured it.

    Rows of the subset `efficiency` are those of the paper's Table 1.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["source", "subset", "method", "metric", "value", "low", "high", "clips"])
    for subset, methods in result.estimates.items():
        for method, found in methods.items():
            for key, one in found.items():
                values = ["" if math.isnan(v) else v for v in (one.value, one.low, one.high)]
                writer.writerow(["measured", subset, method, key, *values, one.clips])
    for subset, rows in published(result.estimates).items():
        for row in rows:
            for key, value in row.figures.items():
                writer.writerow(["paper", subset, row.method, key, value, "", "", ""])
    writer.writerows(csv_rows(result))
    for method, cost in result.efficiency.items():
        for key, value in cost.figures().items():
            writer.writerow(["measured", EFFICIENCY, method, key, value, "", "", cost.clips])
    for paid in published_costs() if result.efficiency else []:
        for key, value in paid.figures().items():
            writer.writerow(["paper", EFFICIENCY, paid.method, key, value, "", "", ""])
    return sink.getvalue().encode()


def _of_the_paper(subset: str, own: list[Published]) -> list[str]:
    rows = [
        [row.title, *(f"{row.figures[column.key]:.{column.digits}f}" for column in PAPER)]
        for row in own
    ]
    said = f"Not measured here: the paper's own numbers for {subset}, {where_from(own)}."
    return [said, "", *_table(["paper", *map(_title, PAPER)], rows)]


def _efficiency(result: Result) -> list[str]:
    rows = [
        [
            method,
            f"{one.parameters / 1e6:,.1f} M",
            one.frames,
            f"{one.seconds:.2f}",
            f"{one.peak_memory_gb:.2f}",
            one.device,
            str(one.clips),
        ]
        for method, one in result.efficiency.items()
    ]
    header = [
        "",
        "parameters",
        "frames",
        "seconds a clip",
        "peak memory, GB",
        "on",
        "clips",
    ]
    own = [
        [
            row.method,
            f"{row.parameters / 1e6:,.0f} M",
            str(row.frames or NONE),
            f"{row.seconds:.2f}",
        ]
        for row in published_costs()
    ]
    said = (
        "Measured while the clips of the tables were made, one after another on each device: the "
        "median clip, and the most memory of any process. Frames: how many a method makes, and "
        "their height x width, before they are brought to those of the tables; methods of "
        "different frames do not compare in time or memory."
    )
    paper = f"Not measured here, and of larger clips: {TABLE_1}."
    return [
        *("## Efficiency (Table 1)", "", said, "", *_table(header, rows)),
        *("", paper, "", *_table(["paper", *header[1:4]], own)),
    ]


def _title(column: Column) -> str:
    return f"{column.title} {ARROWS[column.better]}"


def _count(clips: int) -> str:
    return f"{clips} clip" if clips == 1 else f"{clips:,} clips"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return [f"| {' | '.join(cells)} |" for cells in escaped]
