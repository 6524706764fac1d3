"""Where a training is, and what it has to say of itself: what a checkpoint keeps beside weights."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Course:
    """Attributes:
    done: steps of the whole training.
    skipped, skipped_in_row: steps without a finite gradient.
    losses: stage -> the last tracked means.
    score: of the last validation, the lower the better.
    validation: its means.
    """

    done: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    score: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
