"""What the service says of itself, and its page."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from serve.http.api import build_api
from serve.http.limits import Limits
from serve.records import new_id
from tests.serve.asking import created, refused
from tests.serve.conftest import MODEL


def test_the_model_is_listed_with_its_defaults_and_bounds(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("handi", "model", "handi")
    assert (model["size"], model["seconds"], model["num_frames"]) == ("64x64", "2", 16)
    assert (model["max_pixels"], model["max_frames"], model["max_steps"]) == (16384, 32, 100)
    assert model["pixel_multiple"] == 16


def test_a_model_is_told_by_its_id_which_may_have_a_slash(client, services):
    assert client.get("/v1/models/handi").json() == client.get("/v1/models").json()["data"][0]
    refused(client.get("/v1/models/sora-2"), 404, "'handi' is served", "model", "model_not_found")
    services.settings.model_id = "lab/handi"
    named = TestClient(build_api(replace(services, limits=Limits(services.settings, MODEL, 1))))
    assert named.get("/v1/models/lab/handi").json()["id"] == "lab/handi"


def test_health_tells_how_many_wait_and_run(client, services):
    ids = [created(client)["id"] for _ in range(3)]
    services.store.claim({ids[0]: "ticket"}, 60)
    assert client.get("/health").json() == {"status": "ok", "queued": 2, "in_progress": 1}


def test_figures_are_handed_on_as_prometheus_reads_them(client, services):
    async def scrape() -> bytes:
        return b"ray_handi_jobs 1\n"

    services.scrape = scrape
    answer = client.get("/metrics")
    assert answer.content == b"ray_handi_jobs 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


DOCUMENTED = {
    ("post", "/v1/videos"): {"400", "401", "404", "409", "413", "415", "429", "503"},
    ("post", "/v1/videos/sync"): {"400", "401", "404", "409", "413", "415", "429", "503"},
    ("get", "/v1/videos"): {"400", "401", "404", "503"},
    ("get", "/v1/videos/{video_id}"): {"400", "401", "404", "503"},
    ("delete", "/v1/videos/{video_id}"): {"400", "401", "404", "503"},
    ("get", "/v1/videos/{video_id}/content"): {*("400", "401", "404", "409", "416", "429", "503")},
    ("post", "/v1/masks"): {"400", "401", "404", "413", "415", "429", "503"},
    ("get", "/v1/models"): {"401"},
    ("get", "/v1/models/{model_id}"): {"401", "404"},
    ("get", "/health"): {"503"},
    ("get", "/metrics"): {"503"},
}


def test_every_route_documents_its_errors_and_none_that_it_does_not_give(client):
    made = client.get("/openapi.json").json()
    found = {
        (method, path): operation
        for path, methods in made["paths"].items()
        for method, operation in methods.items()
    }
    errors = {
        route: {
            status for status in operation["responses"] if int(status) >= 400 and status != "403"
        }
        for route, operation in found.items()
    }
    assert errors == DOCUMENTED
    assert "ValidationError" not in str(made)
    for route, operation in found.items():
        for status in (*errors[route], "403"):
            (body,) = operation["responses"][status]["content"].values()
            assert body["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
        assert ("security" in operation) == ("401" in errors[route])


def test_the_figures_document_their_error_as_json(client):
    made = client.get("/openapi.json").json()
    (media,) = made["paths"]["/metrics"]["get"]["responses"]["503"]["content"]
    assert media == "application/json"


def test_a_new_id_is_one_that_the_routes_know():
    assert re.fullmatch(r"video_[0-9a-f]{32}", new_id())


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_but_its_own(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    rules = answer.headers["content-security-policy"]
    assert "default-src 'self'" in rules and "frame-ancestors 'none'" in rules
    assert "unsafe" not in rules
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in answer.text and "https://" not in answer.text


def test_the_files_of_the_page_are_given_under_the_same_rules(client):
    page = Path(__file__).parents[2] / "serve" / "page"
    for path in page.iterdir():
        answer = client.get(f"/page/{path.name}")
        assert answer.content == path.read_bytes()
        assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "%2e%2e%2fapi.py", "..%2fapi.py", "%2e%2e", "index.html%00", "/etc/passwd"],
)
def test_no_other_file_is_given(client, name):
    refused(client.get(f"/page/{name}"), 404)


def test_scenes_to_try_it_with_are_there(client):
    examples = client.get("/examples").json()
    assert examples
    for one in examples:
        answer = client.get(one["url"])
        assert answer.headers["content-type"] == "image/png"
        picture = Image.open(io.BytesIO(answer.content))
        assert min(picture.size) >= MODEL.resolution
        assert created(client, picture=answer.content, prompt=one["prompt"])["id"]
    refused(client.get("/examples/nothing.png"), 404)
    refused(client.get("/examples/%2e%2e%2fclips.png"), 404)
