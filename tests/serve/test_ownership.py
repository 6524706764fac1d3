"""Whose a job is."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serve.http.api import build_api
from serve.http.keys import fingerprint
from tests.serve.asking import completed, created, refused


@pytest.fixture
def guarded(services) -> TestClient:
    services.keys = [fingerprint("mine"), fingerprint("yours")]
    return TestClient(build_api(services), raise_server_exceptions=False)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


ASKED = [
    ("GET", "/v1/videos"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/videos/video_{'0' * 32}"),
    ("DELETE", f"/v1/videos/video_{'0' * 32}"),
    ("GET", f"/v1/videos/video_{'0' * 32}/content"),
    ("POST", "/v1/videos"),
    ("POST", "/v1/videos/sync"),
    ("POST", "/v1/masks"),
]


NO_KEYS = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    bearer(""),
    bearer("other"),
    bearer("min"),
    bearer("mine,yours"),
    {"Authorization": "Basic mine"},
    {"Authorization": "mine"},
    bearer(fingerprint("mine")),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_without_a_key_that_is_known_nothing_is_told(guarded, method, path):
    for headers in NO_KEYS:
        refused(guarded.request(method, path, headers=headers), 401, "Authorization: Bearer KEY")


def test_health_figures_and_the_page_need_no_key(guarded):
    for path in ("/health", "/metrics", "/", "/examples", "/openapi.json"):
        assert guarded.get(path).status_code == 200


def test_a_job_is_there_for_its_own_key_alone(guarded, services):
    job = created(guarded, headers=bearer("mine"))
    path = f"/v1/videos/{job['id']}"
    completed(services, job["id"])
    assert guarded.get(path, headers=bearer("mine")).status_code == 200
    for answer in (
        guarded.get(path, headers=bearer("yours")),
        guarded.delete(path, headers=bearer("yours")),
        guarded.get(f"{path}/content", headers=bearer("yours")),
        guarded.get("/v1/videos", params={"after": job["id"]}, headers=bearer("yours")),
    ):
        refused(answer, 404, "no such video")
    assert guarded.get("/v1/videos", headers=bearer("yours")).json()["data"] == []
    assert len(guarded.get("/v1/videos", headers=bearer("mine")).json()["data"]) == 1
