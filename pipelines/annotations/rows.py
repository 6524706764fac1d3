"""What the sources share: gathering clips and problems, splits, and one-line messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from pipelines.annotations import Annotations, AnnotationsError
from pipelines.records import ANNOTATIONS, Clip, Problem

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The names that data sets give to their splits, and the clip table's."""


def wanted_split(split: str | None) -> str | None:
    """The clip table's name of a split; None stays None.

    Raises:
        AnnotationsError: it is no split.
    """
    if split is None:
        return None
    if split not in SPLITS:
        raise AnnotationsError(f"split: {split!r}, expected train, validation or test")
    return SPLITS[split]


@dataclass
class Collector:
    """Gathers the rows of one source and keeps clip ids unique."""

    clips: list[Clip] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, clip: Clip) -> None:
        """Take a clip, or a `DuplicateClip` problem if its id was taken before.

        Args:
            place: where it stands, such as `EPIC_100_train.csv:17`.
        """
        if clip.clip_id in self.places:
            first = self.places[clip.clip_id]
            message = f"{place}: clip id {quote(clip.clip_id)} was taken at {first}"
            self._report(place, "DuplicateClip", message, clip.video_uri)
            return
        self.places[clip.clip_id] = place
        self.clips.append(clip)

    def reject(self, place: str, message: str, video_uri: str = "") -> None:
        """Report a row that is not a clip."""
        self._report(place, "MalformedRow", f"{place}: {message}", video_uri)

    def result(self) -> Annotations:
        return Annotations(self.clips, self.problems, self.warnings)

    def _report(self, place: str, error_type: str, message: str, video_uri: str) -> None:
        self.problems.append(Problem(place, video_uri, ANNOTATIONS, error_type, message))


def explain(error: ValidationError) -> str:
    """One line: for each field that is wrong, its name, its value and what was expected."""
    faults = []
    for fault in error.errors(include_url=False):
        expected = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            faults.append(expected)
            continue
        name = ".".join(str(part) for part in fault["loc"])
        value = "is missing" if fault["type"] == "missing" else f"is {quote(fault['input'])}"
        faults.append(f"{name} {value} ({expected})")
    return "; ".join(faults)


def closest(
    column: str, names: Collection[str], other_names: Mapping[str, str] | None = None
) -> str:
    """The name by which a column is likely meant, empty if there is none.

    Args:
        other_names: what a column may be called by mistake -> its name.
    """
    folded = {name.casefold(): name for name in names}
    for other, meant in (other_names or {}).items():
        if meant == column and other in folded:
            return folded[other]
    close = get_close_matches(column, folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else ""


def quote(value: Any, width: int = 60) -> str:
    """A value on one line, shortened to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
