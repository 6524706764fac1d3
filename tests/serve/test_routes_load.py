"""A full queue, a draining service, bodies too large, stores that are away."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import threading
from typing import Any

import pytest
from PIL import Image
from ray.exceptions import RayTaskError
from sqlalchemy.exc import OperationalError, ProgrammingError
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient

from serve.http.acceptance import accept
from serve.http.api import build_api
from serve.http.errors import ApiError
from serve.http.forms import VideoForm
from serve.http.gateway import _answered
from serve.http.keys import fingerprint
from serve.records import VideoJob
from tests.serve.asking import ask, completed, created, kept, refused
from tests.serve.conftest import png


def test_a_full_queue_refuses_and_keeps_nothing_of_what_it_refused(client, services):
    for _ in range(5):
        created(client)
    before = kept(services)
    answer = ask(client, mask=png(mode="L"))
    refused(answer, 429, "5 jobs are waiting")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert kept(services) == before
    assert len(client.get("/v1/videos").json()["data"]) == 5


def test_a_draining_service_takes_nothing_and_still_tells(client, services):
    job = created(client)
    completed(services, job["id"])
    services.accepting = False
    for path in ("/v1/videos", "/v1/videos/sync", "/v1/masks"):
        answer = ask(client, path)
        refused(answer, 503, "draining")
        assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/health").json()["status"] == "draining"
    for path in ("/v1/models", "/v1/videos", f"/v1/videos/{job['id']}", "/metrics"):
        assert client.get(path).status_code == 200
    assert client.get(f"/v1/videos/{job['id']}/content").content == b"video"
    assert client.delete(f"/v1/videos/{job['id']}").status_code == 200


@pytest.fixture
def narrow(services) -> TestClient:
    """A service that takes pictures of two kilobytes."""
    services.settings.max_image_bytes = 2048
    return TestClient(build_api(services), raise_server_exceptions=False)


def test_a_picture_of_too_many_bytes_is_refused(narrow, services):
    refused(ask(narrow), 413, "input_reference: more than 2048 bytes", "input_reference")
    small = io.BytesIO()
    Image.new("RGB", (64, 64)).save(small, "PNG")
    refused(ask(narrow, picture=small.getvalue(), mask=png()), 413, "mask: ", "mask")
    assert kept(services) == []


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/sync", "/v1/masks"])
def test_a_body_of_too_many_bytes_is_refused(narrow, path, announced):
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"a" * 100_000
    body += b"\r\n--x--\r\n"
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    answer = narrow.post(
        path,
        content=body if announced else pieces,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    refused(answer, 413)


def test_the_store_being_away_is_told_and_leaves_no_files(client, services, monkeypatch):
    job = created(client)
    before = kept(services)

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT 1", {}, Exception("secret detail"))

    for name in ("add", "get", "page", "counts", "delete"):
        monkeypatch.setattr(services.store, name, away)
    for answer in (
        ask(client),
        ask(client, "/v1/videos/sync"),
        client.get("/v1/videos"),
        client.get(f"/v1/videos/{job['id']}"),
        client.delete(f"/v1/videos/{job['id']}"),
        client.get(f"/v1/videos/{job['id']}/content"),
        client.get("/health"),
    ):
        refused(answer, 503, "store does not answer")
        assert int(answer.headers["Retry-After"]) > 0
        assert "secret" not in answer.text
    assert kept(services) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), TimeoutError(), ConnectionError()])
def test_the_storage_of_clips_being_away_is_told(client, services, monkeypatch, error):
    job = created(client)
    completed(services, job["id"])

    def away(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("serve.files.read_bytes", away)
    monkeypatch.setattr("serve.files.write_bytes", away)
    for answer in (client.get(f"/v1/videos/{job['id']}/content"), ask(client)):
        refused(answer, 503, "does not answer")
        assert int(answer.headers["Retry-After"]) > 0
    assert len(client.get("/v1/videos").json()["data"]) == 1


@pytest.mark.parametrize(
    "error",
    [
        KeyError("secret detail"),
        ValueError("secret: detail"),
        ProgrammingError("SELECT 1", {}, Exception("secret detail")),
        FileNotFoundError("/secret/detail"),
    ],
)
def test_a_fault_of_the_service_is_told_by_an_id_that_stands_in_its_log(
    client, services, monkeypatch, caplog, error
):
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(services.store, "counts", broken)
    monkeypatch.setattr(services.store, "add", broken)
    monkeypatch.setattr("serve.http.intake.scene_png", broken)
    monkeypatch.setattr(logging.getLogger("ray"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    for answer in (client.get("/health"), ask(client)):
        assert answer.status_code == 500
        told = answer.json()["error"]
        assert (told["type"], told["code"]) == ("server_error", "server_error")
        assert told["id"] in told["message"] and told["id"] in caplog.text
        assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert kept(services) == []


def test_what_the_model_raises_for_a_motion_area_is_told_by_its_id(monkeypatch, caplog):
    async def fails() -> Any:
        raise RayTaskError("mask", "Traceback ...", ValueError("secret detail"))

    monkeypatch.setattr(logging.getLogger("ray"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    with pytest.raises(ApiError) as told:
        asyncio.run(_answered(fails(), "the motion area"))
    assert (told.value.status, told.value.code) == (503, "server_error")
    assert told.value.incident in str(told.value) and told.value.incident in caplog.text
    assert "secret" not in str(told.value) and "secret" in caplog.text


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_whose_client_hung_up_while_it_was_accepted_is_not_there(services, times):
    added, go_on = threading.Event(), threading.Event()
    add = services.store.add

    def slow(job: VideoJob, most: int) -> bool:
        added.set()
        go_on.wait(10)
        return add(job, most)

    services.store.add = slow

    async def hang_up() -> None:
        picture = UploadFile(io.BytesIO(png()))
        form = VideoForm(prompt="lift box", input_reference=picture)
        accepting = asyncio.create_task(accept(form, "", services))
        await asyncio.to_thread(added.wait, 10)
        for _ in range(times):
            accepting.cancel()
            await asyncio.sleep(0.05)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        deleting = asyncio.all_tasks() - {asyncio.current_task()}
        if deleting:
            await asyncio.wait(deleting, timeout=10)

    asyncio.run(hang_up())
    assert services.store.page("", 10) == []


@pytest.mark.parametrize(
    ("keys", "accepting", "length", "status"),
    [
        ([fingerprint("a-key")], True, b"10", 401),
        ([], False, b"10", 503),
        ([], True, b"99999999999", 413),
    ],
    ids=["no key", "draining", "too long"],
)
def test_who_is_refused_at_the_door_sends_no_body(services, keys, accepting, length, status):
    services.keys, services.accepting = keys, accepting
    told: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/videos",
        "headers": [(b"content-length", length)],
    }
    asyncio.run(build_api(services)(scope, receive, send))
    assert told[0]["status"] == status


def test_only_so_many_requests_wait_for_their_clips(client, services):
    services.clip_seats.free = 0
    refused(ask(client, "/v1/videos/sync"), 429, "too many such requests")
    assert kept(services) == []


def test_keypoints_are_detected_for_only_so_many_at_a_time(client, services):
    job = created(client)
    completed(services, job["id"])
    services.model_seats.free = 0
    refused(client.get(f"/v1/videos/{job['id']}/content?variant=keypoints"), 429)


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "/tmp"), MemoryError(), TypeError("bug")])
def test_a_body_that_the_service_cannot_keep_is_not_the_clients_fault(client, monkeypatch, error):
    async def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(UploadFile, "write", fails)
    assert ask(client).status_code >= 500
