from collections.abc import Callable

import aiohttp
import botocore.exceptions
import pyarrow as pa
import pytest
from tenacity import wait_none

from pipelines.patience import is_away, patient
from pipelines.training_clips import DatasetError


class Storage:
    """Fails as told, one error a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def at_once(function: Callable[[], str]) -> Callable[[], str]:
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
SLOW_DOWN = botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")

PASSING = {
    "refused": ConnectionRefusedError("refused"),
    "timed out": TimeoutError("timed out"),
    "reset": OSError(104, "connection reset"),
    "arrow": pa.ArrowIOError("cannot read"),
    "botocore": ENDPOINT,
    "throttled": SLOW_DOWN,
    "aiohttp": aiohttp.ClientPayloadError("cut off"),
    "wrapped": wrapped(OSError("reset")),
    "wrapped client's": wrapped(ENDPOINT),
    "wrapped twice": wrapped(wrapped(OSError("reset"))),
    "met on the way": met_on_the_way(OSError("reset")),
}

LASTING = {
    "not there": FileNotFoundError("gone"),
    "not allowed": PermissionError("no"),
    "not a folder": NotADirectoryError("a file"),
    "wrong": ValueError("wrong"),
    "no Parquet": pa.ArrowInvalid("no Parquet"),
    "bug": KeyError("name"),
    "wrapped, not there": wrapped(FileNotFoundError("gone")),
    "wrapped, wrong": wrapped(pa.ArrowInvalid("no Parquet")),
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
