"""Trying again while a storage is away: a training outlives its object store's short absences."""

from __future__ import annotations

from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential

PATIENCE_S = 600
"""How long a storage that does not answer is tried again."""

CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "urllib3")
"""Storage libraries whose errors are not OSErrors."""


def is_away(error: BaseException) -> bool:
    """Whether an error, or the one behind it, may pass: not a file that is not there."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return False
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in CLIENTS:
        return True
    behind = error.__cause__ or error.__context__
    return behind is not None and is_away(behind)


patient = retry(
    retry=retry_if_exception(is_away),
    stop=stop_after_delay(PATIENCE_S),
    wait=wait_exponential(max=10),
    reraise=True,
)
"""Decorates what reads or writes a storage and may simply be called again."""
