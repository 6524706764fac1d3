"""The HTTP API as a client meets it: answers, refusals, and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
import io
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient

from serve.api import build_api
from serve.errors import ApiError
from serve.files import VARIANTS
from serve.keys import fingerprint
from serve.records import VideoJob, new_id
from serve.routes.videos import _accept
from serve.schemas import VideoForm
from serve.services import Services
from tests.serve.conftest import MODEL, png

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


def ask(
    client: TestClient,
    path: str = "/v1/videos",
    headers: dict[str, str] | None = None,
    picture: bytes | None = None,
    mask: bytes | None = None,
    **fields: Any,
) -> Any:
    files = {"input_reference": ("scene.png", png() if picture is None else picture)}
    if mask is not None:
        files["mask"] = ("mask.png", mask)
    data = {"prompt": "open the drawer", **fields}
    data = {name: value for name, value in data.items() if value is not None}
    return client.post(path, data=data, files=files, headers=headers)


def refused(answer: Any, status: int, message: str = "", param: str | None = None) -> None:
    """The documented body of an error, whatever the error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"type", "message", "param"}
    assert body["error"]["type"] == TYPES[status]
    assert message in body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert body["error"]["param"] == param


def created(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = ask(client, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def completed(services: Services, job_id: str, expires_in_s: float = 60) -> None:
    """As a replica does it."""
    services.store.claim({job_id: "ticket"}, 60)
    for variant in ("video", "gif", "mask"):
        services.files.write(job_id, VARIANTS[variant][0], variant.encode())
    assert services.store.complete("ticket", time.time() + expires_in_s)


def kept(services: Services) -> list[str]:
    """Files of all jobs."""
    root = Path(services.files.root)
    return [str(path) for path in root.rglob("*") if path.is_file()] if root.exists() else []


# What a job looks like


def test_an_accepted_job_has_the_fields_of_openai_and_ours(client, services):
    before = int(time.time())
    job = created(client, seed="7", guidance_scale="2.5", num_inference_steps="3", mask_steps="2")
    assert job.pop("id").startswith("video_")
    assert before <= job.pop("created_at") <= time.time()
    assert job == {
        "object": "video",
        "model": "handi",
        "status": "queued",
        "progress": 0,
        "completed_at": None,
        "expires_at": None,
        "size": "64x64",
        "seconds": "2",
        "prompt": "open the drawer",
        "num_frames": 16,
        "seed": 7,
        "guidance_scale": 2.5,
        "num_inference_steps": 3,
        "mask_steps": 2,
        "attempts": 0,
        "error": None,
    }


def test_an_unfilled_field_takes_the_models_default(client):
    blank = dict.fromkeys(
        ("model", "size", "seconds", "seed", "guidance_scale", "num_inference_steps"), ""
    )
    job = created(client, mask_steps="", **blank)
    assert (job["model"], job["size"], job["seconds"]) == ("handi", "64x64", "2")
    assert (job["num_inference_steps"], job["mask_steps"], job["guidance_scale"]) == (25, 25, 9.0)


def test_a_clip_of_the_asked_size_and_length_is_accepted(client):
    job = created(client, size="80x64", seconds="1", model="handi")
    assert (job["size"], job["seconds"], job["num_frames"]) == ("80x64", "1", 8)


def test_the_motion_area_gets_as_many_steps_as_the_clip_unless_told(client):
    assert created(client, num_inference_steps="4")["mask_steps"] == 4
    assert created(client, num_inference_steps="4", mask_steps="9")["mask_steps"] == 9


def test_a_drawn_motion_area_skips_the_first_stage(client, services):
    job = created(client, mask=png(mode="L"))
    assert job["mask_steps"] is None
    drawn = Image.open(io.BytesIO(services.files.read(job["id"], "drawn.png")))
    assert drawn.size == (64, 64)
    assert {value for _, value in drawn.getcolors()} <= {0, 255}


def test_two_requests_alike_give_two_jobs_with_noise_of_their_own(client):
    jobs = [created(client) for _ in range(3)]
    assert len({job["id"] for job in jobs}) == 3
    assert len({job["seed"] for job in jobs}) == 3


def test_the_dispatcher_is_told_of_a_new_job_and_of_a_deleted_one(client, services):
    woken = []
    services.wake = lambda: woken.append(1)
    job = created(client)
    assert len(woken) == 1
    client.delete(f"/v1/videos/{job['id']}")
    assert len(woken) == 2
    ask(client, prompt=" ")
    assert len(woken) == 2


def test_a_job_is_told_as_it_stands(client, services):
    job = created(client)
    path = f"/v1/videos/{job['id']}"
    assert client.get(path).json() == job
    services.store.claim({job["id"]: "ticket"}, 60)
    services.store.beat({"ticket": 40}, 60)
    told = client.get(path)
    assert (told.json()["status"], told.json()["progress"]) == ("in_progress", 40)
    assert int(told.headers["openai-poll-after-ms"]) > 0
    services.store.fail("ticket", "generation_failed", "no finite picture", time.time() + 60)
    told = client.get(path)
    assert told.json()["status"] == "failed"
    assert told.json()["error"] == {"code": "generation_failed", "message": "no finite picture"}
    assert told.json()["completed_at"] and told.json()["expires_at"]


# Pages of jobs


def test_the_jobs_are_listed_page_by_page_newest_first(client):
    ids = [created(client)["id"] for _ in range(5)][::-1]
    first = client.get("/v1/videos", params={"limit": 2}).json()
    assert [job["id"] for job in first["data"]] == ids[:2]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    rest = client.get("/v1/videos", params={"limit": 3, "after": first["last_id"]}).json()
    assert [job["id"] for job in rest["data"]] == ids[2:]
    assert not rest["has_more"]
    oldest = client.get("/v1/videos", params={"order": "asc"}).json()
    assert [job["id"] for job in oldest["data"]] == ids[::-1]


def test_where_there_are_no_jobs_the_list_is_empty(client):
    assert client.get("/v1/videos").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"order": "newest"}, "order"),
    ],
)
def test_a_page_that_cannot_be_met_is_refused(client, params, param):
    refused(client.get("/v1/videos", params=params), 400, f"{param}: ", param)


# What cannot be met


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"prompt": None}, "prompt", "Field required"),
        ({"prompt": ""}, "prompt", ""),
        ({"prompt": " \t "}, "prompt", "empty"),
        ({"prompt": "open\x00the drawer"}, "prompt", "control characters"),
        ({"prompt": "open\x1b[31m"}, "prompt", "control characters"),
        ({"prompt": "a" * 1001}, "prompt", "1001 characters, and 1000 are the most"),
        ({"prompt": "cut " * 200}, "prompt", "tokens, and the model reads 24"),
        ({"size": "65x64"}, "size", "65 is not a multiple of 16; take 64 or 80"),
        ({"size": "64x8"}, "size", "outside"),
        ({"size": "0x0"}, "size", "outside"),
        ({"size": "256x256"}, "size", "more than 16384 pixels"),
        ({"size": "99999x99999"}, "size", "outside"),
        ({"size": "100000x64"}, "size", "pattern"),
        ({"size": "64"}, "size", "pattern"),
        ({"size": "64 x 64"}, "size", "pattern"),
        ({"size": "64x64\n"}, "size", "pattern"),
        ({"size": "٦٤x٦٤"}, "size", "pattern"),
        ({"size": "-64x64"}, "size", "pattern"),
        ({"seconds": "0"}, "seconds", "greater than 0"),
        ({"seconds": "-1"}, "seconds", "greater than 0"),
        ({"seconds": "0.1"}, "seconds", "0.1 is outside of 0.25 to 4"),
        ({"seconds": "4.1"}, "seconds", "4.1 is outside"),
        ({"seconds": "nan"}, "seconds", ""),
        ({"seconds": "inf"}, "seconds", ""),
        ({"seconds": "two"}, "seconds", "number"),
        ({"seed": "-1"}, "seed", "greater than or equal to 0"),
        ({"seed": str(2**63)}, "seed", "less than"),
        ({"seed": "9" * 5000}, "seed", ""),
        ({"seed": "1.5"}, "seed", "integer"),
        ({"num_inference_steps": "0"}, "num_inference_steps", "1"),
        ({"num_inference_steps": "101"}, "num_inference_steps", "outside of 1 to 100"),
        ({"num_inference_steps": "some"}, "num_inference_steps", "integer"),
        ({"mask_steps": "0"}, "mask_steps", "1"),
        ({"mask_steps": "101"}, "mask_steps", "outside of 1 to 100"),
        ({"guidance_scale": "0.5"}, "guidance_scale", "1"),
        ({"guidance_scale": "101"}, "guidance_scale", "100"),
        ({"guidance_scale": "nan"}, "guidance_scale", ""),
        ({"guidance_scale": "inf"}, "guidance_scale", ""),
        ({"num_frames": "16"}, "num_frames", "Extra inputs"),
        ({"owner": "somebody"}, "owner", "Extra inputs"),
        ({"picture": b""}, "input_reference", "empty"),
        ({"picture": b"no picture"}, "input_reference", "not a picture"),
        ({"picture": png(40, 40)}, "input_reference", "too small"),
        ({"mask": b"no picture"}, "mask", "not a picture"),
        ({"mask": png(40, 40, "L")}, "mask", "too small"),
    ],
)
def test_what_cannot_be_met_is_refused_and_leaves_nothing(client, services, fields, param, message):
    refused(ask(client, **fields), 400, message, param)
    assert kept(services) == []
    assert services.store.page("", 10) == []


def test_the_largest_seed_is_kept_as_it_is(client):
    assert created(client, seed=str(2**63 - 1))["seed"] == 2**63 - 1


def test_a_model_that_is_not_served_is_not_found(client, services):
    refused(ask(client, model="sora-2"), 404, "'handi' is served", "model")
    refused(ask(client, "/v1/masks", model="sora-2"), 404, "'handi' is served", "model")
    assert kept(services) == []


def test_a_picture_is_needed(client):
    refused(
        client.post("/v1/videos", data={"prompt": "lift box"}),
        400,
        "input_reference: ",
        "input_reference",
    )


def test_a_url_is_not_fetched_where_no_host_is_allowed(client):
    fields = {"prompt": "lift box", "input_reference": "http://127.0.0.1:1/scene.png"}
    refused(
        client.post("/v1/videos", data=fields), 400, "URLs of this host are not", "input_reference"
    )


def test_a_mask_that_is_text_is_refused(client):
    picture = {"input_reference": ("scene.png", png())}
    refused(
        client.post("/v1/videos", data={"prompt": "lift", "mask": "white"}, files=picture),
        400,
        "mask: ",
        "mask",
    )


def test_the_file_input_of_a_form_that_was_left_empty_is_no_motion_area(client):
    # A browser sends it as a file without a name and without bytes.
    parts = [
        (b'name="prompt"', b"lift box"),
        (b'name="input_reference"; filename="a.png"', png()),
        (b'name="mask"; filename=""\r\nContent-Type: application/octet-stream', b""),
    ]
    body = b"".join(
        b"--x\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    answer = client.post(
        "/v1/videos",
        content=body + b"--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["mask_steps"] == 25


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"prompt": "lift box"}', "application/json"),
        (b"prompt=lift+box", "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data"),
        (b"garbage", "nothing at all"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na..b\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=idna",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nlift\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=no-such",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="\\ud800"\r\n\r\nlift\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=unicode_escape",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n\\ud800\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=unicode_escape",
        ),
        (
            b"".join(
                b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % index
                for index in range(2000)
            )
            + b"--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(client, content, kind):
    answer = client.post("/v1/videos", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


# Ids


STRANGE_IDS = [
    "video_",
    "video_" + "0" * 32,
    "video_" + "0" * 32 + "%0a",
    "video_" + "F" * 32,
    "sync",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "%2e%2e%2fjobs.db",
    "video_%00",
    "%00",
    "a" * 5000,
    "%ff%fe",
    "'; DROP TABLE handi_video_jobs; --",
    "視頻",
]


def test_what_is_no_id_is_not_found(client):
    for strange in STRANGE_IDS:
        path = f"/v1/videos/{strange}"
        for answer in (client.get(path), client.delete(path), client.get(f"{path}/content")):
            refused(answer, 404)
        refused(client.get("/v1/videos", params={"after": strange}), 404, "no such video")


def test_a_path_that_is_not_there_and_a_method_that_it_has_not_are_told_alike(client):
    refused(client.get("/v1/nothing"), 404)
    refused(client.put("/v1/videos"), 405)
    refused(client.get("/v1/videos/../../etc/passwd"), 404)


# Whose a job is


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


# Load


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


@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError(), ConnectionError()])
def test_the_storage_of_clips_being_away_is_told(client, services, monkeypatch, error):
    job = created(client)
    completed(services, job["id"])

    def away(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("serve.files.read_bytes", away)
    monkeypatch.setattr("serve.files.write_bytes", away)
    for answer in (client.get(f"/v1/videos/{job['id']}/content"), ask(client)):
        refused(answer, 503, "does not answer")
        assert int(answer.headers["Retry-After"]) > 0
    assert len(client.get("/v1/videos").json()["data"]) == 1


def test_a_fault_of_the_service_tells_no_secrets(client, services, monkeypatch):
    def broken() -> Any:
        raise KeyError("secret detail")

    monkeypatch.setattr(services.store, "counts", broken)
    answer = client.get("/health")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text


def test_a_job_whose_client_hung_up_while_it_was_accepted_has_its_files_or_is_not_there(services):
    added, go_on = threading.Event(), threading.Event()
    add = services.store.add

    def slow(job: VideoJob, most: int) -> bool:
        added.set()
        go_on.wait(10)
        return add(job, most)

    services.store.add = slow

    async def hang_up() -> None:
        form = VideoForm.model_construct(
            **dict.fromkeys(VideoForm.model_fields)
            | {"prompt": "lift box", "input_reference": UploadFile(io.BytesIO(png()))}
        )
        accepting = asyncio.create_task(_accept(form, "", services))
        await asyncio.to_thread(added.wait, 10)
        accepting.cancel()
        await asyncio.sleep(0.05)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await accepting

    asyncio.run(hang_up())
    for job in services.store.page("", 10):
        assert services.files.has(job.id, "scene.png")


# What comes of a job


def test_there_is_no_clip_before_a_job_is_completed(client, services):
    job = created(client)
    path = f"/v1/videos/{job['id']}/content"
    for variant in ("video", "gif", "mask", "keypoints"):
        refused(client.get(path, params={"variant": variant}), 409, "is queued")
    services.store.claim({job["id"]: "ticket"}, 60)
    refused(client.get(path), 409, "is in_progress")
    services.store.fail("ticket", "generation_failed", "no finite picture", time.time() + 60)
    refused(client.get(path), 409, "is failed: no finite picture")


def test_the_input_picture_is_there_before_the_clip_is(client):
    job = created(client)
    answer = client.get(f"/v1/videos/{job['id']}/content", params={"variant": "input"})
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)


def test_each_view_of_a_completed_job(client, services):
    job = created(client)
    completed(services, job["id"])
    path = f"/v1/videos/{job['id']}/content"
    for variant, media in (("video", "video/mp4"), ("gif", "image/gif"), ("mask", "image/png")):
        answer = client.get(path, params={"variant": variant})
        assert answer.status_code == 200
        assert (answer.content, answer.headers["content-type"]) == (variant.encode(), media)
        assert VARIANTS[variant][0] in answer.headers["content-disposition"]
    assert client.get(path).content == b"video"
    keypoints = client.get(path, params={"variant": "keypoints"})
    assert keypoints.json() == {"video_id": job["id"]}
    refused(client.get(path, params={"variant": "audio"}), 400, "variant: ", "variant")


def test_keypoints_are_detected_once(client, services):
    job = created(client)
    completed(services, job["id"])
    services.files.write(job["id"], VARIANTS["keypoints"][0], b'{"kept": true}')
    answer = client.get(f"/v1/videos/{job['id']}/content", params={"variant": "keypoints"})
    assert answer.json() == {"kept": True}


def test_a_clip_whose_files_are_gone_is_not_found(client, services):
    job = created(client)
    completed(services, job["id"])
    services.files.remove(job["id"])
    refused(client.get(f"/v1/videos/{job['id']}/content"), 404, "not there any more")


def test_an_expired_job_is_not_found(client, services):
    job = created(client)
    completed(services, job["id"], expires_in_s=-1)
    path = f"/v1/videos/{job['id']}"
    for answer in (client.get(path), client.get(f"{path}/content"), client.delete(path)):
        refused(answer, 404, "may have expired")
    assert client.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize("start", [False, True])
def test_a_deleted_job_is_gone_at_once(client, services, start):
    job = created(client)
    if start:
        services.store.claim({job["id"]: "ticket"}, 60)
    path = f"/v1/videos/{job['id']}"
    answer = client.delete(path)
    assert answer.json() == {"id": job["id"], "object": "video.deleted", "deleted": True}
    for again in (client.get(path), client.delete(path), client.get(f"{path}/content")):
        refused(again, 404)
    assert not services.store.complete("ticket", time.time() + 60)


def test_the_clip_can_be_waited_for(client, services):
    def work() -> None:
        completed(services, services.store.due(1)[0].id)

    services.wake = work
    answer = ask(client, "/v1/videos/sync")
    assert (answer.status_code, answer.content) == (200, b"video")
    assert answer.headers["content-type"] == "video/mp4"
    assert client.get(f"/v1/videos/{answer.headers['Video-Id']}").json()["status"] == "completed"


def test_who_waits_is_told_of_a_failure_and_of_a_deletion(client, services):
    def fail() -> None:
        job_id = services.store.due(1)[0].id
        services.store.claim({job_id: "ticket"}, 60)
        services.store.fail("ticket", "generation_failed", "no finite picture", time.time() + 60)

    services.wake = fail
    answer = ask(client, "/v1/videos/sync")
    refused(answer, 503, "no finite picture")
    assert int(answer.headers["Retry-After"]) > 0
    services.wake = lambda: services.store.delete(services.store.due(1)[0].id, "")
    refused(ask(client, "/v1/videos/sync"), 404, "was deleted")


# Motion areas


def test_a_motion_area_comes_as_a_picture_of_the_clips_size(client, services):
    answer = ask(client, "/v1/masks", size="80x64", seed="3", mask_steps="2")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (80, 64)
    assert services.masks_waiting == 0
    assert kept(services) == []


def test_a_motion_area_is_ordered_as_asked(client, services):
    orders = []

    async def predict(order: Any) -> bytes:
        orders.append(order)
        return b""

    services.predict_mask = predict
    ask(client, "/v1/masks", seed="3", mask_steps="2", guidance_scale="1.5", seconds="1")
    ask(client, "/v1/masks")
    asked, default = orders
    assert (asked.seed, asked.mask_steps, asked.guidance_scale) == (3, 2, 1.5)
    assert (asked.num_frames, asked.prompt) == (8, "open the drawer")
    assert Image.open(io.BytesIO(asked.scene)).size == (asked.width, asked.height) == (64, 64)
    assert (default.num_frames, default.mask_steps) == (16, 25)
    assert default.guidance_scale == MODEL.guidance_scale


def test_what_is_not_of_the_motion_area_is_refused_there(client, services):
    refused(ask(client, "/v1/masks", num_inference_steps="2"), 400, "", "num_inference_steps")
    refused(ask(client, "/v1/masks", prompt=" "), 400, "", "prompt")
    assert services.masks_waiting == 0


def test_too_many_motion_areas_at_once_are_refused(client, services):
    services.masks_waiting = services.settings.max_masks
    answer = ask(client, "/v1/masks")
    refused(answer, 429, "too many motion areas")
    assert int(answer.headers["Retry-After"]) > 0
    assert services.masks_waiting == services.settings.max_masks


def test_a_motion_area_that_could_not_be_made_is_told_and_waited_for_no_more(client, services):
    async def died(order: Any) -> bytes:
        raise ApiError(503, "the motion area: the replica died; try again", None, 5)

    services.predict_mask = died
    answer = ask(client, "/v1/masks")
    refused(answer, 503, "the replica died")
    assert answer.headers["Retry-After"] == "5"
    assert services.masks_waiting == 0


# About the service


def test_the_model_is_listed_with_its_defaults_and_bounds(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("handi", "model", "handi")
    assert (model["size"], model["seconds"], model["num_frames"]) == ("64x64", "2", 16)
    assert (model["max_pixels"], model["max_frames"], model["max_steps"]) == (16384, 32, 100)
    assert model["pixel_multiple"] == 16


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
    ("post", "/v1/videos"): {"400", "401", "404", "413", "429", "503"},
    ("post", "/v1/videos/sync"): {"400", "401", "404", "413", "429", "503"},
    ("get", "/v1/videos"): {"400", "401", "404", "503"},
    ("get", "/v1/videos/{video_id}"): {"400", "401", "404", "503"},
    ("delete", "/v1/videos/{video_id}"): {"400", "401", "404", "503"},
    ("get", "/v1/videos/{video_id}/content"): {"400", "401", "404", "409", "503"},
    ("post", "/v1/masks"): {"400", "401", "404", "413", "429", "503"},
    ("get", "/v1/models"): {"401"},
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
        route: {status for status in operation["responses"] if status != "200"}
        for route, operation in found.items()
    }
    assert errors == DOCUMENTED
    assert "ValidationError" not in str(made)
    for route, operation in found.items():
        for status in errors[route]:
            (body,) = operation["responses"][status]["content"].values()
            assert body["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
        assert ("security" in operation) == ("401" in errors[route])


def test_the_figures_document_their_error_as_json(client):
    made = client.get("/openapi.json").json()
    (media,) = made["paths"]["/metrics"]["get"]["responses"]["503"]["content"]
    assert media == "application/json"


def test_a_new_id_is_one_that_the_routes_know():
    assert re.fullmatch(r"video_[0-9a-f]{32}", new_id())


# The page


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
