"""Pictures by URL: from the hosts that the owner allows, and from nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve.http import references
from serve.http.errors import ApiError
from serve.http.references import fetch
from tests.serve.conftest import png

PICTURE = png()


class Host(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/picture")
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/slow":
            time.sleep(1)
            self.close_connection = True
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"a" * 10_000)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        # Who is read no further hangs up.
        with contextlib.suppress(OSError):
            super().handle()


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(url: str, hosts: list[str], most: int = 100_000) -> bytes:
    return asyncio.run(fetch(url, hosts, most))


def refused(url: str, hosts: list[str], most: int = 100_000, status: int = 400) -> str:
    with pytest.raises(ApiError) as error:
        fetched(url, hosts, most)
    assert (error.value.status, error.value.param) == (status, "input_reference")
    message = str(error.value)
    assert message.startswith("input_reference: ") and "\n" not in message
    return message


def test_a_picture_of_an_allowed_host_is_fetched(host):
    assert fetched(f"{host.url}/picture", ["other", "127.0.0.1"]) == PICTURE


def test_a_picture_of_exactly_the_most_bytes_is_taken(host):
    assert fetched(f"{host.url}/picture", ["127.0.0.1"], len(PICTURE)) == PICTURE
    refused(f"{host.url}/picture", ["127.0.0.1"], len(PICTURE) - 1, status=413)


def test_nothing_is_fetched_where_no_host_is_allowed(host):
    assert "not fetched" in refused(f"{host.url}/picture", [])
    assert host.asked == []


@pytest.mark.parametrize(
    "form",
    [
        "http://127.0.0.1:{port}/picture",
        "http://localhost@127.0.0.1:{port}/picture",
        "http://localhost:80@127.0.0.1:{port}/picture",
        "http://127.0.0.1:{port}/picture#@localhost",
        "http://127.0.0.1:{port}/picture?localhost",
        "http://127.0.0.1:{port}\\@localhost/picture",
        "http://localhost\\@127.0.0.1:{port}/picture",
        "http://127.0.0.1:{port}#@localhost/picture",
        "http://localhost%00@127.0.0.1:{port}/picture",
        "http://127.0.0.1.:{port}/picture",
        "http://127.1:{port}/picture",
        "http://2130706433:{port}/picture",
        "http://[::ffff:127.0.0.1]:{port}/picture",
        "http://localhost.:{port}/picture",
        "http://localhost.evil.example:{port}/picture",
        "//localhost:{port}/picture",
        "http:localhost:{port}/picture",
        "http:///localhost:{port}/picture",
        "ftp://localhost:{port}/picture",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://localhost:{port}/picture",
        "picture.png",
        "",
    ],
)
def test_no_other_host_and_no_other_scheme_is_reached(host, form):
    refused(form.format(port=host.server_address[1]), ["localhost"])
    assert host.asked == []


@pytest.mark.parametrize("url", ["http://[localhost/", "http://[::1/", "http://a]b/"])
def test_what_is_no_url_is_refused_like_any_other(url):
    refused(url, ["localhost"])


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://127.0.0.1:port/", "http://127.0.0.1:1/"]
)
def test_a_host_that_cannot_be_reached_is_told(url):
    assert "cannot be fetched" in refused(url, ["127.0.0.1"])


def test_a_redirect_is_not_followed(host):
    assert "answers 302" in refused(f"{host.url}/moved", ["127.0.0.1"])
    assert host.asked == ["/moved"]


def test_a_picture_that_is_not_there_is_told(host):
    assert "answers 404" in refused(f"{host.url}/missing", ["127.0.0.1"])


def test_an_endless_answer_is_read_no_further_than_the_most_bytes(host):
    assert "more than 5000 bytes" in refused(f"{host.url}/endless", ["127.0.0.1"], 5000, status=413)


def test_an_answer_that_breaks_off_is_told(host):
    assert "cannot be fetched" in refused(f"{host.url}/cut", ["127.0.0.1"])


def test_a_host_that_does_not_answer_in_time_is_told(host, monkeypatch):
    monkeypatch.setattr(references, "FETCH_S", 0.2)
    assert "cannot be fetched" in refused(f"{host.url}/slow", ["127.0.0.1"])


def test_a_job_can_be_asked_for_with_a_url(client, services, host):
    services.settings.image_hosts = ["127.0.0.1"]
    fields = {"prompt": "lift box", "input_reference": f"{host.url}/picture"}
    answer = client.post("/v1/videos", data=fields)
    assert answer.status_code == 200, answer.text
    assert services.files.has(answer.json()["id"], "scene.png")
    # Without a file, clients send an ordinary form.
    answer = client.post("/v1/videos", data={**fields, "input_reference": f"{host.url}/missing"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input_reference"
