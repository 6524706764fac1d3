"""The paper's own numbers, to stand beside measured ones and apart from them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = (
    "the authors' project page, https://excitedbutter.github.io/project_page (December 2024, when "
    "the paper was called Instructional Video Generation), on their test clips and by their code"
)
"""Where paper.csv is from. Of the paper's method its two tables give different CLIP_Tx."""

PARAMETERS = 3.674e9
SECONDS = 8.64
FRAMES = 16
"""Table 1, the paper's own method: both stages, and a 16-frame clip on one H100."""


@dataclass(frozen=True)
class Published:
    """A row: the method, and key of a column -> figure."""

    method: str
    figures: dict[str, float]


def published(subsets: Collection[str]) -> dict[str, list[Published]]:
    """Of these subsets, those that the paper has: name -> rows.

    Its motion-intensive clips are of EPIC-KITCHENS alone, so theirs stand beside no others.
    """
    known = _read()
    alone = {*subsets} - {"motion-intensive"} == {"epic-kitchens"}
    return {
        name: known[name]
        for name in subsets
        if name in known and (alone or name != "motion-intensive")
    }


@cache
def _read() -> dict[str, list[Published]]:
    rows: dict[str, list[Published]] = {}
    text = files("jobs.evaluation").joinpath("paper.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        subset, method = row.pop("subset"), row.pop("method")
        figures = {key: float(value) for key, value in row.items()}
        rows.setdefault(subset, []).append(Published(method, figures))
    return rows
