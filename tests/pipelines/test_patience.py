import errno
import socket
import ssl
from collections.abc import Callable, Iterator

import aiohttp
import botocore.exceptions
import httpx
import pyarrow as pa
import pytest
import requests
from aiohttp.http_exceptions import ContentLengthError
from tenacity import wait_none

from handi_model.damage import DamagedFile
from pipelines import notices, patience
from pipelines.patience import PATIENCE_S, is_away, patient
from pipelines.training_clips import DatasetError


class Storage:
    """Fails as told, one error a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, url: str = "") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def at_once(function: Callable[..., str]) -> Callable[..., str]:
    """`patient` without its waits."""
    decorated = patient(function)
    decorated.retry.wait = wait_none()
    return decorated


def wrapped(cause: Exception) -> DatasetError:
    """As the readers of a data set tell of it."""
    try:
        raise DatasetError("data: it cannot be read") from cause
    except DatasetError as error:
        return error


def met_on_the_way(before: Exception) -> RuntimeError:
    """One that was raised while another was handled, as libraries do without saying so."""
    try:
        try:
            raise before
        except Exception:
            raise RuntimeError("cannot go on")  # noqa: B904
    except RuntimeError as error:
        return error


ENDPOINT = botocore.exceptions.EndpointConnectionError(endpoint_url="http://store")
TLS = ssl.SSLCertVerificationError(1, "self-signed certificate")


def answer(status: int, code: str) -> botocore.exceptions.ClientError:
    """As botocore raises an S3 server's error."""
    said = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(said, "GetObject")


def translated(error: Exception, cause: Exception) -> Exception:
    """As s3fs raises what botocore raised."""
    error.__cause__ = cause
    return error


def behind_tls(cause: Exception) -> Exception:
    return translated(
        botocore.exceptions.SSLError(endpoint_url="https://store", error=cause), cause
    )


class HttpError(Exception):
    """As gcsfs has it."""

    __module__ = "gcsfs.retry"

    def __init__(self, code: int) -> None:
        super().__init__(f"{code}")
        self.code = code


def numbers(*names: str) -> dict[str, Exception]:
    return {name: OSError(getattr(errno, name), name) for name in names}


PASSING = {
    "refused": ConnectionRefusedError("refused"),
    "timed out": TimeoutError("timed out"),
    "no such host": socket.gaierror(-2, "Name or service not known"),
    **numbers("ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT", "EIO", "ESTALE", "EBUSY"),
    "botocore": ENDPOINT,
    "throttled": answer(503, "SlowDown"),
    "throttled, without a status": botocore.exceptions.ClientError(
        {"Error": {"Code": "SlowDown"}}, "GetObject"
    ),
    "S3's own fault": translated(OSError(errno.EREMOTEIO, "m"), answer(500, "InternalError")),
    "S3's gateway": translated(OSError(errno.EIO, "m"), answer(502, "502")),
    "S3 too busy": translated(OSError(errno.EIO, "m"), answer(429, "TooManyRequests")),
    "S3 waited in vain": translated(TimeoutError("m"), answer(400, "RequestTimeout")),
    "aiohttp": aiohttp.ClientPayloadError("cut off"),
    "cut off in mid-file": translated(
        aiohttp.ClientPayloadError("not completed"), ContentLengthError("120 of 9999 bytes")
    ),
    "aiohttp's server": aiohttp.ServerDisconnectedError("gone"),
    "the hub's client": httpx.ConnectError("refused"),
    "the hub's client, wrapped": translated(
        OSError("We couldn't connect to the hub"), requests.exceptions.ConnectTimeout("timed out")
    ),
    "gcsfs": HttpError(503),
    "TLS cut off": behind_tls(ssl.SSLEOFError(8, "EOF")),
    "wrapped": wrapped(ConnectionResetError("reset")),
    "wrapped client's": wrapped(ENDPOINT),
    "wrapped twice": wrapped(wrapped(ConnectionResetError("reset"))),
    "met on the way": met_on_the_way(ConnectionResetError("reset")),
}

LASTING = {
    "not there": FileNotFoundError("gone"),
    "not allowed": PermissionError("no"),
    "not a folder": NotADirectoryError("a file"),
    "a folder": IsADirectoryError("a folder"),
    **numbers("ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENAMETOOLONG", "EINVAL", "EMFILE", "ENOENT"),
    "no weights": OSError("Error no file named model.safetensors found in directory /model"),
    "no Parquet pages": pa.ArrowIOError("Couldn't deserialize thrift"),
    "damaged": translated(DamagedFile("s3://a/b", "it is empty"), ConnectionResetError("reset")),
    "wrong": ValueError("wrong"),
    "no Parquet": pa.ArrowInvalid("no Parquet"),
    "bug": KeyError("name"),
    "no S3 key": answer(404, "NoSuchKey"),
    "no S3 bucket": answer(404, "NoSuchBucket"),
    "S3 denies": answer(403, "AccessDenied"),
    "no such S3 user": answer(403, "InvalidAccessKeyId"),
    "wrong S3 secret": answer(403, "SignatureDoesNotMatch"),
    "S3 full": translated(OSError(errno.EIO, "m"), answer(507, "InsufficientStorage")),
    "S3 over quota": translated(OSError(errno.EIO, "m"), answer(400, "QuotaExceeded")),
    "no bare answer": botocore.exceptions.ClientError({"Error": {"Code": "404"}}, "HeadObject"),
    "no S3 credentials": botocore.exceptions.NoCredentialsError(),
    "no endpoint": ValueError("Invalid endpoint: nonsense"),
    "a client's bug": translated(
        botocore.exceptions.HTTPClientError(error=RecursionError("deep")), RecursionError("deep")
    ),
    "no host in it": aiohttp.InvalidURL("http://"),
    **{f"gcsfs {code}": HttpError(code) for code in (401, 403, 404)},
    "wrong certificate": behind_tls(TLS),
    "wrapped, not there": wrapped(FileNotFoundError("gone")),
    "wrapped, wrong": wrapped(pa.ArrowInvalid("no Parquet")),
    "wrapped, no weights": wrapped(OSError("Error no file named model.safetensors")),
    "of a data set": DatasetError("data: it holds no clips"),
    "told by a client": met_on_the_way(FileNotFoundError("gone")),
}


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_an_absence_is_waited_for(error):
    storage = Storage(error, error, error)
    assert at_once(storage)() == "answer"
    assert storage.calls == 4


@pytest.mark.parametrize("error", LASTING.values(), ids=LASTING)
def test_what_will_not_pass_is_told_at_once(error):
    storage = Storage(error)
    with pytest.raises(type(error)) as caught:
        at_once(storage)()
    assert caught.value is error
    assert storage.calls == 1


def test_a_missing_file_that_a_client_tells_of_in_its_own_terms_is_not_waited_for():
    missing = FileNotFoundError("gone")
    missing.__cause__ = botocore.exceptions.ClientError({"Error": {"Code": "404"}}, "GetObject")
    assert not is_away(missing)


def test_patience_ends_with_the_storages_own_error():
    error = ConnectionRefusedError("refused")
    storage = Storage(*[error] * 100)
    decorated = at_once(storage)
    decorated.retry.stop = lambda state: state.attempt_number == 5
    with pytest.raises(ConnectionRefusedError) as caught:
        decorated()
    assert caught.value is error
    assert storage.calls == 5


def test_a_person_can_interrupt_it():
    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once(interrupted)()


@pytest.fixture
def lines(monkeypatch) -> Iterator[list[str]]:
    """What the person who waits is shown."""
    shown: list[str] = []
    monkeypatch.setattr(notices, "_take", shown.append)
    monkeypatch.setattr(patience._absences, "_told", {})
    return shown


def refused(times: int) -> Storage:
    return Storage(*[ConnectionRefusedError("[Errno 111] refused")] * times)


def test_a_wait_is_told_once_and_so_is_its_end(lines):
    assert at_once(refused(5))("s3://bucket/clips/a.parquet") == "answer"
    assert lines == [
        "storage: s3://bucket/clips/a.parquet does not answer ([Errno 111] refused); "
        f"waiting up to {PATIENCE_S} s",
        "storage: s3://bucket/clips/a.parquet answers again",
    ]


def test_a_long_wait_is_told_of_now_and_then(lines, monkeypatch):
    monkeypatch.setattr(patience, "REMIND_S", 0)
    at_once(refused(4))("s3://bucket/a")
    told = [line for line in lines if "does not answer yet ([Errno 111] refused)" in line]
    assert len(told) == 3 and all(line.endswith(" s more") for line in told)


def test_a_storage_that_many_wait_for_is_told_of_once(lines):
    def nested(url: str) -> str:
        return at_once(refused(2))(url + "/b")

    outer = Storage(ConnectionRefusedError("refused"))
    at_once(lambda url: (outer(url), nested(url))[1])("s3://bucket/a")
    assert len([line for line in lines if "does not answer" in line]) == 1


def test_a_storage_that_answers_is_no_matter_for_a_line(lines):
    at_once(Storage())("s3://bucket/a")
    with pytest.raises(FileNotFoundError):
        at_once(Storage(FileNotFoundError("gone")))("s3://bucket/a")
    assert lines == []
