"""Trying again while a storage is away: a training outlives its object store's short absences.

A file that is missing or damaged, a disk that is full and a key that is wrong are errors that
stay: they are raised at once.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from fsspec.utils import get_protocol
from tenacity import RetryCallState, retry, stop_after_delay, wait_exponential

from handi_model.damage import DamagedFile
from pipelines.notices import notice
from pipelines.records import one_line

PATIENCE_S = 600
"""How long a storage that does not answer is tried again."""
REMIND_S = 60
"""Time between two lines on a storage that is away."""

AWAY_ERRNOS = frozenset(
    {
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ESHUTDOWN),
        *(errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
        *(errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR),
        # A network file system whose server is away; s3fs uses the first two for a server's errors.
        *(errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENOTCONN),
    }
)
AWAY_CODES = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequests"),
        *("RequestLimitExceeded", "BandwidthLimitExceeded", "OperationAborted"),
        *("RequestTimeout", "InternalError", "ServiceUnavailable"),
    }
)
"""S3's names of errors that pass."""
AWAY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
STATUS_NAMES = {"aiohttp": "status", "gcsfs": "code", "google": "code"}
"""Where clients' errors hold the status that a server answered with."""
AWAY_TYPES = frozenset(
    {
        *("botocore.ConnectionError", "botocore.ConnectionClosedError"),
        *("botocore.ReadTimeoutError", "botocore.ResponseStreamingError"),
        "botocore.IncompleteReadError",
        *("aiohttp.ClientConnectionError", "aiohttp.ClientPayloadError"),
        *("urllib3.NewConnectionError", "urllib3.ProtocolError", "urllib3.TimeoutError"),
        *("requests.ConnectionError", "requests.Timeout", "requests.ChunkedEncodingError"),
        *("httpx.NetworkError", "httpx.TimeoutException", "httpx.RemoteProtocolError"),
        *("google.TransportError", "google.RetryError"),
    }
)
"""Transport errors of the storages' clients, as package and class."""


def is_away(error: BaseException) -> bool:
    """Whether an error, or the one behind it, is of a storage that does not answer for now."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        verdict = _verdict(behind)
        if verdict is not None:
            return verdict
        behind = behind.__cause__ or behind.__context__
    return False


def _verdict(error: BaseException) -> bool | None:
    """Whether an error is of a storage that is away; None where it alone does not tell."""
    if isinstance(error, DamagedFile):
        return False
    # s3fs translates answers into OSErrors of few kinds; the answer itself says more.
    for told in (error, error.__cause__):
        if told is not None and (answer := _answer(told)) is not None:
            return answer
    types = {f"{one.__module__.split('.')[0]}.{one.__name__}" for one in type(error).__mro__}
    if isinstance(error, ssl.SSLError):  # its numbers are no errnos; a bad certificate stays bad
        return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if types & {"botocore.SSLError", "requests.SSLError"}:
        return None
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or types & AWAY_TYPES:
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in AWAY_ERRNOS
    # A subclass is named after what is wrong: no such file, no permission. A bare OSError is what
    # libraries raise over files that lack weights or are cut short.
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if isinstance(error, NotADirectoryError | IsADirectoryError):
        return False
    return None


def _answer(error: BaseException) -> bool | None:
    """Whether a server's answer that a client raised as an error is one that passes."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", code)
        return code in AWAY_CODES or str(status) in map(str, AWAY_STATUSES)
    status = getattr(response, "status_code", None)  # requests, httpx
    if status is None:
        named = STATUS_NAMES.get(type(error).__module__.split(".")[0])
        status = getattr(error, named, None) if named else None
    return status in AWAY_STATUSES if isinstance(status, int) and status >= 100 else None


class _Absences:
    """Which storages are away, as this process knows; its threads tell of each once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def waits(self, state: RetryCallState) -> None:
        """Tell of the first wait, and then now and again."""
        url = _url(state)
        now, waited = state.outcome_timestamp, state.seconds_since_start
        assert state.outcome is not None and now is not None and waited is not None
        error = state.outcome.exception()
        assert isinstance(error, Exception)
        with self._lock:
            before = self._told.get(_storage(url))
            if before is not None and now - before < REMIND_S:
                return
            self._told[_storage(url)] = now
        left = max(0, round(PATIENCE_S - waited))
        yet, more = ("", "") if before is None else (" yet", " more")
        notice(
            f"storage: {url} does not answer{yet} ({one_line(error)}); waiting up to {left} s{more}"
        )

    def ended(self, state: RetryCallState) -> None:
        """Tell that it answers again."""
        url = _url(state)
        with self._lock:
            away = self._told.pop(_storage(url), None) is not None
        if away:
            notice(f"storage: {url} answers again")


_absences = _Absences()


def _again(state: RetryCallState) -> bool:
    assert state.outcome is not None
    error = state.outcome.exception()
    if error is not None and is_away(error):
        return True
    if state.attempt_number > 1:
        _absences.ended(state)
    return False


def _url(state: RetryCallState) -> str:
    """The URL that a call is about, where its arguments have one."""
    values = (*state.args, *state.kwargs.values())
    return next((one for one in values if isinstance(one, str) and "://" in one), "it")


def _storage(url: str) -> str:
    """What is away as a whole: a protocol and its bucket or host."""
    return f"{get_protocol(url)}://{url.split('://')[-1].split('/')[0]}" if "://" in url else url


patient = retry(
    retry=_again,
    stop=stop_after_delay(PATIENCE_S),
    wait=wait_exponential(max=10),
    before_sleep=_absences.waits,
    reraise=True,
)
"""Decorates what reads or writes a storage and may simply be called again."""
