"""Annotations of hand actions, from whichever source, to one clip table.

Each source module has a `read` that gives `Annotations`; `lego.select` and `select.select` narrow
the clips down afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.records import Clip, Problem


@dataclass(frozen=True)
class Annotations:
    """What an annotation source says: each of its rows is a clip or a problem.

    Attributes:
        clips: in the source's order; `clip_id` is unique.
        problems: the rows that give no clip, with their place (`<file>:<line>`) as `clip_id`.
        warnings: what a person should know before the work starts, a line each.
    """

    clips: list[Clip]
    problems: list[Problem]
    warnings: list[str] = field(default_factory=list)


class AnnotationsError(ValueError):
    """One line about what stops the whole job: a missing file, a missing column, no JSON."""
