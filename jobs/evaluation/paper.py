"""The paper's own numbers, to stand beside measured ones and apart from them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PAPER = "Li, Cao and Corso, Hand-Centric Text-and-Image Conditioned Video Generation"
SOURCES = {
    "table-2": f"Table 2 of {PAPER}",
    "project-page": "for the ablation, the authors' project page, "
    "https://excitedbutter.github.io/project_page (December 2024)",
}
"""Where rows of paper_table2.csv are from. Of the paper's method the two give different CLIP_Tx."""

OWN_METHOD = "the paper's method"
FRAMES = 16
"""Frames of the paper's own clips; its tables do not give the other methods'."""
TABLE_1 = f"Table 1 of {PAPER}: seconds a clip on one H100"


CLAIMS = {"change_outside": -0.34, "fvd": -0.18, "hs_err": -0.28, "fvd_area": -0.41}
"""Key of a column -> relative change that the paper claims: background artefacts, FVD, HS-Err, and
FVD in the motion area."""


@dataclass(frozen=True)
class Published:
    """A row: the method, key of a column -> figure, where it is from, and what is odd about it."""

    method: str
    figures: dict[str, float]
    source: str
    note: str

    @property
    def title(self) -> str:
        """The method, with a mark where there is a note."""
        return f"{self.method} *" if self.note else self.method


@dataclass(frozen=True)
class PublishedCost:
    """A row of Table 1: parameters of all networks, and seconds a clip."""

    method: str
    parameters: float
    seconds: float

    @property
    def frames(self) -> int | None:
        """Of a clip; None where the paper does not say."""
        return FRAMES if self.method == OWN_METHOD else None

    def figures(self) -> dict[str, float]:
        """Name -> figure, of those that the paper has."""
        own = {"parameters": self.parameters, "seconds": self.seconds}
        return own | ({"num_frames": self.frames} if self.frames else {})


def published(subsets: Collection[str]) -> dict[str, list[Published]]:
    """Of these subsets, those that the paper has: name -> rows.

    Its motion-intensive clips are of EPIC-KITCHENS alone, so theirs stand beside no others.
    """
    known = _table_2()
    alone = {*subsets} - {"motion-intensive"} == {"epic-kitchens"}
    return {
        name: known[name]
        for name in subsets
        if name in known and (alone or name != "motion-intensive")
    }


def where_from(rows: list[Published]) -> str:
    """Where rows are from, in words, and what is odd about them."""
    sources = [SOURCES[key] for key in dict.fromkeys(row.source for row in rows)]
    said = f"from {', and '.join(sources)}; on the authors' test clips and by their code"
    return "; ".join([said, *(f"* {row.method}: {row.note}" for row in rows if row.note)])


@cache
def published_costs() -> list[PublishedCost]:
    """The paper's Table 1."""
    return [
        PublishedCost(row["method"], float(row["parameters_billion"]) * 1e9, float(row["seconds"]))
        for row in _rows("paper_table1.csv")
    ]


@cache
def _table_2() -> dict[str, list[Published]]:
    rows: dict[str, list[Published]] = {}
    for row in _rows("paper_table2.csv"):
        subset, method, source, note = (
            row.pop(key) for key in ("subset", "method", "source", "note")
        )
        figures = {key: float(value) for key, value in row.items()}
        rows.setdefault(subset, []).append(Published(method, figures, source, note))
    return rows


def _rows(name: str) -> list[dict[str, str]]:
    text = files("jobs.evaluation").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
