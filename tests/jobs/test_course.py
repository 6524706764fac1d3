"""When a training validates and when it writes a checkpoint."""

import pytest

from jobs.training.course import checkpoint_due, validation_due


def moments(epoch_steps, epochs, every, validates_every=None):
    """Steps after which a checkpoint is written, and those of them that a validation writes."""
    written, validated = [], []
    total = epoch_steps * epochs
    for done in range(1, total + 1):
        validates = validates_every is not None and validation_due(
            done, epoch_steps, epochs, validates_every
        )
        if validates:
            validated.append(done)
        if checkpoint_due(done, total, every, validates):
            written.append(done)
    # A step that is validated too gets its score later.
    return sorted({*written, *validated}), validated


@pytest.mark.parametrize(
    ("epoch_steps", "epochs", "every", "validates_every", "written", "validated"),
    [
        (9, 3, 9, None, [9, 18, 27], []),
        (9, 3, 3, None, [3, 6, 9, 12, 15, 18, 21, 24, 27], []),
        (9, 3, 9, 2, [9, 18, 27], [18, 27]),
        (9, 2, 4, 1, [4, 8, 9, 12, 16, 18], [9, 18]),
        (3, 3, 100, None, [9], []),
        (3, 3, 100, 2, [6, 9], [6, 9]),
        (1, 4, 2, None, [2, 4], []),
    ],
)
def test_checkpoints_are_written_at_ends_of_epochs_too(
    epoch_steps, epochs, every, validates_every, written, validated
):
    assert moments(epoch_steps, epochs, every, validates_every) == (written, validated)


def test_nothing_is_validated_before_the_first_step():
    assert not validation_due(0, 9, 3, 1)


def test_a_checkpoint_that_is_due_does_not_wait_for_the_validation_after_it():
    assert checkpoint_due(9, 27, 9, validates=True)
    assert not checkpoint_due(27, 27, 4, validates=True), "the validation writes it"
