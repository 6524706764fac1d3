"""Video jobs as a client meets them."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from serve.files import VARIANTS
from tests.serve.asking import ask, completed, created, refused
from tests.serve.conftest import png


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
        "duration_s": 2.0,
        "prompt": "open the drawer",
        "negative_prompt": None,
        "num_frames": 16,
        "fps": 8.0,
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


def test_the_others_are_told_of_a_new_job_and_of_a_deleted_one(client, services):
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
    services.store.fail("ticket", "generation_failed", "no finite picture", 60)
    told = client.get(path)
    assert told.json()["status"] == "failed"
    assert told.json()["error"] == {"code": "generation_failed", "message": "no finite picture"}
    assert told.json()["completed_at"] and told.json()["expires_at"]


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


def test_there_is_no_clip_before_a_job_is_completed(client, services):
    job = created(client)
    path = f"/v1/videos/{job['id']}/content"
    for variant in ("video", "gif", "mask", "keypoints"):
        refused(client.get(path, params={"variant": variant}), 409, "is queued")
    services.store.claim({job["id"]: "ticket"}, 60)
    refused(client.get(path), 409, "is in_progress")
    services.store.fail("ticket", "generation_failed", "no finite picture", 60)
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
    assert keypoints.json() == {"clip": f"{job['id']}/ticket"}
    refused(client.get(path, params={"variant": "audio"}), 400, "variant: ", "variant")


def test_keypoints_are_detected_once(client, services):
    job = created(client)
    completed(services, job["id"])
    services.files.write(f"{job['id']}/ticket", VARIANTS["keypoints"][0], b'{"kept": true}')
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
    assert not services.store.complete("ticket", 60)


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
        services.store.fail("ticket", "generation_failed", "no finite picture", 60)

    services.wake = fail
    answer = ask(client, "/v1/videos/sync")
    refused(answer, 503, "no finite picture", code="generation_failed")
    assert answer.headers["x-should-retry"] == "false" and "Retry-After" not in answer.headers
    services.wake = lambda: services.store.delete(services.store.due(1)[0].id, "")
    refused(ask(client, "/v1/videos/sync"), 404, "was deleted")
