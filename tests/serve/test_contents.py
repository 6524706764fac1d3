"""Files as answers: whole, in part, and only their heads."""

from __future__ import annotations

import pytest

from serve.files import VARIANTS
from tests.serve.asking import ask, completed, created, refused
from tests.serve.conftest import png

CLIP = bytes(range(100))


@pytest.fixture
def path(client, services) -> str:
    job = created(client)
    completed(services, job["id"])
    services.files.write(f"{job['id']}/ticket", VARIANTS["video"][0], CLIP)
    return f"/v1/videos/{job['id']}/content"


def test_a_range_of_a_clip_is_given(client, path):
    for asked, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=90-", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=0-", 0, 100),
        ("bytes=99-99", 99, 100),
        ("bytes=50-1000", 50, 100),
        ("bytes=-1000", 0, 100),
    ):
        answer = client.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, CLIP[start:stop]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
        assert answer.headers["content-type"] == "video/mp4"


def test_what_is_no_single_range_gives_the_whole(client, path):
    none = ("", "bytes", "bytes=", "bytes=-", "bytes=9-0", "bytes=a-b", "lines=0-9")
    for asked in (*none, "bytes=0-9,20-29", f"bytes={'9' * 5000}-"):
        answer = client.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, CLIP), asked


def test_a_range_behind_the_end_is_refused_with_the_length(client, path):
    for asked in ("bytes=100-", "bytes=100-200", "bytes=-0"):
        answer = client.get(path, headers={"Range": asked})
        refused(answer, 416, "only 100 bytes")
        assert answer.headers["content-range"] == "bytes */100"


def test_a_range_goes_on_with_the_file_that_it_was_begun_with_or_begins_anew(client, path):
    whole = client.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    tag = whole.headers["etag"]
    assert tag != client.get(path, params={"variant": "gif"}).headers["etag"]
    asked = {"Range": "bytes=50-", "If-Range": tag}
    assert client.get(path, headers=asked).content == CLIP[50:]
    assert client.get(path, headers={**asked, "If-Range": '"another"'}).content == CLIP


def test_head_tells_what_get_would_give(client, path):
    for one in (path, path.removesuffix("/content"), "/health", "/v1/models", "/v1/videos", "/"):
        got, told = client.get(one), client.head(one)
        assert (told.status_code, told.content) == (200, b"")
        assert told.headers == got.headers
    part = client.head(path, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")
    gone = client.head("/v1/nothing")
    assert (gone.status_code, gone.content) == (404, b"")
    assert client.head("/v1/masks").status_code == 405


def test_no_browser_guesses_what_a_file_is(client, services, path):
    answers = [client.get(path, params={"variant": one}) for one in VARIANTS]
    answers.append(ask(client, "/v1/masks"))
    services.wake = lambda: completed(services, services.store.due(1)[0].id)
    answers.append(ask(client, "/v1/videos/sync", picture=png()))
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
