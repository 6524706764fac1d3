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
    validated: step after which it was.
    """

    done: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    score: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    validated: int = 0


def validation_due(done: int, epoch_steps: int, epochs: int, every_epochs: int) -> bool:
    """Whether a training that holds clips out validates after so many steps: at ends of epochs."""
    epoch, within = divmod(done, epoch_steps)
    return done > 0 and not within and (epoch == epochs or epoch % every_epochs == 0)


def checkpoint_due(done: int, total: int, every: int, validates: bool) -> bool:
    """Whether a checkpoint is to be written after so many steps, in mid-epoch or at its end.

    Args:
        validates: whether a validation follows, which takes its time and then adds its score.
    """
    return done % every == 0 or (done == total and not validates)
