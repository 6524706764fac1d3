"""An output whose storage refuses for good: a full disk, no right to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.patience import is_away
from pipelines.records import one_line
from pipelines.running.job_error import JobError


class OutputRefused(RuntimeError):
    """The storage of an output refuses for good, which is nobody's clip's fault.

    Workers raise it; it carries a line, for errors of storages do not all travel between processes.
    """


@contextmanager
def refusals(output: str) -> Iterator[None]:
    """Have what a storage refuses for good raised as `OutputRefused`; what may pass stays so."""
    try:
        yield
    except Exception as error:  # each storage has its own
        if is_away(error):
            raise
        raise OutputRefused(str(cannot_write(output, error))) from error


@contextmanager
def ends_job(output: str) -> Iterator[None]:
    """Have the driver end the job, with one line, over an output that a storage does not take."""
    try:
        yield
    except Exception as error:
        of_storage = isinstance(error, OSError) or type(error).__module__.startswith("botocore")
        if not of_storage:
            raise
        raise cannot_write(output, error) from error


def cannot_write(output: str, error: Exception | str) -> JobError:
    """What ends a job whose output cannot be written."""
    why = error if isinstance(error, str) else one_line(error)
    return JobError(
        f"output: {output} cannot be written: {why}; what is finished is kept, and the same "
        "command goes on once there is space and the right to write"
    )
