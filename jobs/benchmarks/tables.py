"""Measured rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of figures as a Markdown table.

    Columns stand in the order in which they first occur, with spaces for underscores. A figure that
    a row lacks, or that is None, is a dash; numbers have four significant digits.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [
        [name.replace("_", " ") for name in columns],
        ["---"] * len(columns),
        *([_cell(row.get(name)) for name in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
