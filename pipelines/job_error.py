"""What ends a job that was asked for rightly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.patience import is_away
from pipelines.records import one_line


class JobError(RuntimeError):
    """The job cannot go on, and no key is wrong: a full disk, a cluster that does not answer.

    The message is one line with what to do. Jobs end with code 1 over it; what they have finished
    holds.
    """


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


def cannot_write(output: str, error: Exception | str) -> JobError:
    """What ends a job whose output cannot be written."""
    why = error if isinstance(error, str) else one_line(error)
    return JobError(
        f"output: {output} cannot be written: {why}; what is finished is kept, and the same "
        "command goes on once there is space and the right to write"
    )
