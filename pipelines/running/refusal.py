"""An output whose storage refuses for good: a full disk, no right to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.patience import is_away
from pipelines.records import one_line
from pipelines.running.job_error import JobError

CLIENTS = frozenset({"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests", "s3fs"})
"""Storage libraries whose errors are not all OSErrors."""


class OutputRefused(RuntimeError):
    """The storage of an output refuses for good, which is nobody's clip's fault.

    Workers raise it with the reason: errors of storages do not all travel between processes. The
    driver makes the line of it, see `cannot_write`.
    """


def is_of_storage(error: BaseException | None) -> bool:
    """Whether an error comes from a storage, and not from what was to be written."""
    packages = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(packages & CLIENTS)


@contextmanager
def refusals() -> Iterator[None]:
    """Have what a storage refuses for good raised as `OutputRefused`; what may pass stays so."""
    try:
        yield
    except Exception as error:
        if is_away(error) or not is_of_storage(error):
            raise
        raise OutputRefused(one_line(error)) from error


@contextmanager
def ends_job(output: str) -> Iterator[None]:
    """Have the driver end the job, with one line, over an output that a storage does not take."""
    try:
        yield
    except Exception as error:
        if not is_of_storage(error):
            raise
        raise cannot_write(output, error) from error


def cannot_write(output: str, error: Exception | str) -> JobError:
    """What ends a job whose output cannot be written."""
    why = error if isinstance(error, str) else one_line(error)
    return JobError(
        f"output: {output} cannot be written: {why}; what is finished is kept, and the same "
        "command goes on once there is space and the right to write"
    )
