"""A service for strangers: keys, a short queue, few hosts, short memories."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from jobs.benchmarks.service import Service
from tests.integration.serve.clients import (
    SCENE,
    busy,
    content,
    finished,
    forgotten,
    listed,
    post,
    until,
)
from tests.integration.serve.serving import running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Service]:
    """A service with keys, a short queue and short memories."""
    with running(
        tmp_path_factory.mktemp("guarded"),
        environment={"HANDI_API_KEYS": "a-key,b-key"},
        max_queued=3,
        image_hosts="127.0.0.1",
        expire_after_s=20,
    ) as service:
        yield service


A, B = ({"Authorization": f"Bearer {key}"} for key in ("a-key", "b-key"))


def test_nothing_is_told_without_a_key(guarded):
    for wrong in ({}, {"Authorization": "Bearer c-key"}, {"Authorization": "Basic a-key"}):
        for answer in (
            post(guarded, headers=wrong),
            post(guarded, "/v1/masks", headers=wrong, num_inference_steps=None),
            requests.get(f"{guarded.url}/v1/videos", headers=wrong),
            requests.get(f"{guarded.url}/v1/models", headers=wrong),
        ):
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"


def test_a_job_is_there_for_its_own_key_only_until_it_expires(guarded):
    made = post(guarded, headers=A).json()
    url = f"{guarded.url}/v1/videos/{made['id']}"
    assert [job["id"] for job in listed(guarded, headers=A)] == [made["id"]]
    assert not listed(guarded, headers=B)
    for answer in (
        requests.get(url, headers=B),
        requests.get(f"{url}/content", headers=B),
        requests.delete(url, headers=B),
        requests.get(f"{guarded.url}/v1/videos", {"after": made["id"]}, headers=B),
    ):
        assert answer.status_code == 404
    done = finished(guarded, made["id"], headers=A)
    assert done["status"] == "completed"
    assert done["expires_at"] - done["completed_at"] in (19, 20, 21)
    assert content(guarded, made["id"], headers=A)

    until(lambda: requests.get(url, headers=A).status_code == 404)
    until(lambda: forgotten(guarded, made["id"]))
    assert not listed(guarded, headers=A)


def test_a_full_queue_says_when_to_try_again(guarded):
    with busy(guarded, headers=A):
        waiting = [post(guarded, headers=key) for key in (A, B, A)]
        assert [answer.status_code for answer in waiting] == [200] * 3
        full = post(guarded, headers=B)
        assert (full.status_code, full.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(full.headers["Retry-After"]) <= 60
        assert len(listed(guarded, headers=B)) == 1
        one = waiting[0].json()["id"]
        requests.delete(f"{guarded.url}/v1/videos/{one}", headers=A)
        assert post(guarded, headers=B).status_code == 200, "there is room again"
    for key in (A, B):
        for job in listed(guarded, headers=key):
            requests.delete(f"{guarded.url}/v1/videos/{job['id']}", headers=key)


def test_a_picture_is_fetched_from_the_hosts_that_are_allowed(guarded):
    with pictures() as (url, asked):
        made = post(guarded, scene=f"{url}/scene.png", headers=A)
        assert made.status_code == 200 and asked == ["/scene.png"]
        sent = post(guarded, headers=A).json()["id"]
        same = [content(guarded, one, "input", headers=A) for one in (made.json()["id"], sent)]
        assert same[0] == same[1]
        for refused in (
            url.replace("127.0.0.1", "localhost") + "/scene.png",
            f"{url}/elsewhere",  # a redirect
            f"{url}/nothing",
            "file:///etc/hostname",
        ):
            answer = post(guarded, scene=refused, headers=A)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "input_reference"
        assert asked == ["/scene.png", "/elsewhere", "/nothing"]


@contextmanager
def pictures() -> Iterator[tuple[str, list[str]]]:
    """A host of pictures: its URL, and the paths that it was asked for."""
    asked: list[str] = []

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/scene.png")
            else:
                self.send_response(200 if self.path == "/scene.png" else 404)
            self.end_headers()
            self.wfile.write(SCENE)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
