"""The service over HTTP as its clients use it: a real Ray Serve, with the tiny model behind it."""

from __future__ import annotations

import http.client
import http.server
import io
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
import requests
from PIL import Image

from pipelines.clip_files import encode_png
from tests.integration.serve.clients import (
    EXPORT_S,
    LONG,
    ROUNDING,
    SCENE,
    TOLERANCE,
    ask,
    assert_same,
    batches,
    busy,
    clip_of,
    content,
    decoded,
    difference,
    figure,
    finished,
    folder,
    forgotten,
    listed,
    picture,
    post,
    prepared,
    until,
)
from tests.integration.serve.serving import QUICK, scene_png

slow = pytest.mark.slow


def test_the_client_of_openai_makes_finds_and_deletes_clips(service):
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    picture = ("scene.png", SCENE, "image/png")
    create = partial(client.videos.create, prompt="lift box", input_reference=picture)
    made = [create(seconds="1", extra_body={**QUICK, "seed": seed}) for seed in range(5)]
    key = {"Idempotency-Key": "a key of the client's"}
    under_key = [create(extra_body=QUICK, extra_headers=key).id for _ in range(2)]
    assert under_key[0] == under_key[1] != made[-1].id
    assert client.videos.delete(under_key[0]).deleted
    assert {video.status for video in made} <= {"queued", "in_progress"}

    last = client.videos.create_and_poll(
        prompt="open lid",
        input_reference=picture,
        model="handi",
        size="80x64",
        extra_body=QUICK,
        poll_interval_ms=100,
    )
    assert (last.status, last.progress, last.size, last.seconds) == ("completed", 100, "80x64", "2")
    assert last.prompt == "open lid" and last.expires_at > last.completed_at >= last.created_at

    again = client.videos.poll(made[2].id, poll_interval_ms=100)
    assert again.status == client.videos.retrieve(made[2].id).status == "completed"
    assert again.seed == 2, "fields of ours travel in extra_body"
    assert len(decoded(client.videos.download_content(again.id).content)) == 8
    whole = content(service, again.id)
    part = ask(service, again.id, "/content", {"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, whole[4:8])
    head = requests.head(f"{service.url}/v1/videos/{again.id}/content")
    assert (head.headers["Content-Length"], head.content) == (str(len(whole)), b"")
    area = client.videos.download_content(last.id, extra_query={"variant": "mask"})
    assert Image.open(io.BytesIO(area.content)).size == (80, 64)

    ids = [video.id for video in [*made, last]]
    paged = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert [one for one in paged if one in ids] == ids
    assert client.videos.list(limit=2, after=ids[3]).data[0].id == ids[2], "the newest first"

    assert client.videos.delete(last.id).deleted
    with pytest.raises(openai.NotFoundError, match="no such video"):
        client.videos.retrieve(last.id)
    with pytest.raises(openai.BadRequestError, match="65 is not a multiple of 16") as refused:
        create(size="65x64")
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", "size")
    with pytest.raises(openai.ConflictError, match=r"is (queued|in_progress)"):
        client.videos.download_content(create(extra_body=LONG).id)
    for video in client.videos.list():
        client.videos.delete(video.id)
    assert not client.videos.list().data


@slow
def test_the_progress_of_a_job_goes_from_0_to_100_and_never_back(service):
    created = post(service, num_inference_steps="50", mask_steps="50").json()
    seen = [created]
    while seen[-1]["status"] in ("queued", "in_progress"):
        time.sleep(0.1)
        seen.append(ask(service, created["id"]).json())
    told = [job["progress"] for job in seen]
    assert told == sorted(told) and (told[0], told[-1]) == (0, 100)
    assert len({percent for percent in told if 0 < percent < 100}) >= 3
    order = ["queued", "in_progress", "completed"]
    statuses = [order.index(job["status"]) for job in seen]
    assert statuses == sorted(statuses) and seen[-1]["attempts"] == 1


@slow
def test_a_job_gives_its_clip_and_all_other_views_of_it(service):
    job = finished(service, post(service, size="80x64", seconds="1.5").json()["id"])
    assert (job["size"], job["duration_s"], job["num_frames"]) == ("80x64", 1.5, 12)

    with av.open(io.BytesIO(content(service, job["id"]))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, float(stream.average_rate)) == ("h264", 8)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(64, 80, 3)] * 12

    moving = Image.open(io.BytesIO(content(service, job["id"], "gif")))
    assert (moving.format, moving.size, moving.n_frames) == ("GIF", (80, 64), 12)
    area = picture(content(service, job["id"], "mask"))
    assert area.shape == (64, 80) and set(np.unique(area)) <= {0, 255}
    assert picture(content(service, job["id"], "input")).shape == (64, 80, 3)

    for _ in range(2):  # detected, and then kept
        found = ask(service, job["id"], "/content", variant="keypoints").json()
        assert (found["fps"], found["height"], found["width"]) == (8, 64, 80)
        assert [frame["time_s"] for frame in found["frames"]] == [n / 8 for n in range(12)]
        for hand in (hand for frame in found["frames"] for hand in frame["hands"]):
            assert hand["handedness"] in ("left", "right") and 0 <= hand["score"] <= 1
            assert np.shape(hand["landmarks"]) == (21, 2)


@slow
def test_what_is_outside_of_the_motion_area_stays_as_it_was(service):
    # The codec halves the resolution of colours: of a grey ramp it loses next to nothing.
    ramp = np.linspace(40, 220, 64).astype(np.uint8)
    scene = encode_png(np.broadcast_to(ramp[:, None], (64, 64, 3)).copy())
    drawn = np.zeros((64, 64), np.uint8)
    drawn[16:32, 16:32] = 255
    made = post(service, scene=scene, mask=encode_png(drawn)).json()
    job = finished(service, made["id"])
    assert job["mask_steps"] is None, "a drawn area needs no stage 1"
    assert np.array_equal(picture(content(service, job["id"], "mask")), drawn)

    given = picture(content(service, job["id"], "input")).astype(int)
    off = np.abs(decoded(content(service, job["id"])) - given).max(-1)
    outside = np.ones((64, 64), bool)
    outside[12:36, 12:36] = False  # the codec's filters smear over its edge
    assert off[:, outside].max() <= TOLERANCE and off[1:, drawn > 0].mean() > 2 * TOLERANCE


@slow
def test_one_seed_gives_one_clip_however_it_is_asked_for(service):
    jobs = [finished(service, post(service).json()["id"])["id"] for _ in range(2)]
    waited = post(service, "/v1/videos/sync")
    assert waited.headers["Content-Type"] == "video/mp4"
    assert len({*jobs, waited.headers["Video-Id"]}) == 3
    assert waited.content == content(service, waited.headers["Video-Id"])
    clip = clip_of(service, waited.headers["Video-Id"])
    for job in jobs:
        assert_same(clip_of(service, job), clip)
    other_seed = clip_of(service, post(service, seed="6").json()["id"])
    assert difference(other_seed, clip) > 20 * ROUNDING


@slow
def test_a_clip_does_not_depend_on_its_neighbours_in_the_batch(service):
    orders: list[dict[str, Any]] = [
        {"prompt": "lift box", "seed": "1"},
        {"prompt": "open lid", "seed": "1", "scene": scene_png("open_lid_1")},
        {"prompt": "open lid", "seed": "2", "scene": scene_png("open_lid_1")},
        {"prompt": "stir pan", "seed": "3", "scene": scene_png("stir_pan_1")},
        {"prompt": "lift box", "seed": "1", "guidance_scale": "4"},
        {"prompt": "slide cup", "seed": "4", "guidance_scale": "2.5"},
    ]
    with busy(service):
        together = [post(service, **order).json()["id"] for order in orders]
        assert {ask(service, one).json()["status"] for one in together} == {"queued"}
    in_batch = [clip_of(service, one) for one in together]
    until(lambda: figure(service, "handi_batch_size_sum") > batches(service))
    for order, clip in zip(orders, in_batch, strict=True):
        assert_same(clip_of(service, post(service, **order).json()["id"]), clip)


@slow
def test_the_motion_area_alone_is_the_one_that_the_clip_has(service):
    alone = post(service, "/v1/masks", num_inference_steps=None)
    assert (alone.status_code, alone.headers["Content-Type"]) == (200, "image/png")
    whole = post(service).json()["id"]
    in_two = post(service, mask=alone.content).json()["id"]
    assert_same(clip_of(service, in_two), clip_of(service, whole))
    area = picture(content(service, whole, "mask"))
    assert (area != picture(alone.content)).mean() < 0.005 and 0 < area.mean() < 255


@slow
def test_a_waiting_job_that_is_deleted_never_runs(service):
    with busy(service) as runs:
        waits = ask(service, post(service).json()["id"]).json()
        assert (waits["status"], waits["attempts"]) == ("queued", 0)
        assert folder(service, waits["id"]).exists()
        assert requests.delete(f"{service.url}/v1/videos/{waits['id']}").json()["deleted"]
        assert ask(service, waits["id"]).status_code == 404
        until(lambda: forgotten(service, waits["id"]))
        # It cannot have had the model, which is with the other one all the time.
        assert ask(service, runs).json()["status"] == "in_progress"
    assert finished(service, post(service).json()["id"])["status"] == "completed"
    assert forgotten(service, waits["id"]), "nothing came back"


@slow
def test_a_running_job_that_is_deleted_stops(service):
    time.sleep(EXPORT_S)
    before = batches(service)
    with busy(service) as runs:
        pass
    assert finished(service, post(service).json()["id"])["status"] == "completed"
    until(lambda: batches(service) > before)
    assert batches(service) == before + 1, "that of the deleted job was never finished"
    assert forgotten(service, runs)


@slow
def test_hanging_up_deletes_the_job_that_was_waited_for(service):
    with busy(service):
        wanted = prepared(service, "/v1/videos/sync")
        line = http.client.HTTPConnection("127.0.0.1", service.port)
        line.request("POST", "/v1/videos/sync", wanted.body, dict(wanted.headers))
        waits = until(lambda: [job for job in listed(service) if job["status"] == "queued"])
        assert len(waits) == 1
        line.close()
        until(lambda: forgotten(service, waits[0]["id"]))


@slow
@pytest.mark.parametrize("harm", [Path.unlink, partial(Path.write_bytes, data=b"no picture")])
def test_a_job_that_cannot_be_done_fails_alone(service, harm):
    with busy(service):
        ids = [post(service, seed=str(seed)).json()["id"] for seed in range(3)]
        harm(folder(service, ids[1]) / "scene.png")
    first, bad, last = (finished(service, one) for one in ids)
    assert (first["status"], bad["status"], last["status"]) == ("completed", "failed", "completed")
    assert first["attempts"] == last["attempts"] == 1
    assert bad["error"]["message"] and bad["expires_at"]
    refused = ask(service, ids[1], "/content")
    assert refused.status_code == 409
    assert bad["error"]["message"] in refused.json()["error"]["message"]
    # A neighbour's clip is what it is alone.
    assert_same(clip_of(service, ids[0]), clip_of(service, post(service, seed="0").json()["id"]))
    until(lambda: figure(service, "handi_jobs_ended_total", outcome="failed"))


@slow
def test_the_figures_tell_the_queue_the_batches_and_the_seconds_of_each_stage(service):
    with busy(service):
        waits = [post(service).json()["id"] for _ in range(3)]
        health = requests.get(f"{service.url}/health").json()
        assert health == {"status": "ok", "queued": 3, "in_progress": 1}
        until(lambda: figure(service, "handi_jobs", status="queued") == 3)
        until(lambda: figure(service, "handi_jobs", status="in_progress") == 1)
    for one in waits:
        finished(service, one)
    until(lambda: figure(service, "handi_jobs", status="queued") == 0)
    for stage in ("mask", "video", "write"):
        until(lambda stage=stage: figure(service, "handi_stage_seconds_total", stage=stage) > 0)
    until(lambda: figure(service, "handi_jobs_ended_total", outcome="completed") >= 3)
    until(lambda: figure(service, "handi_job_seconds_count") >= 3)
    until(lambda: figure(service, "handi_batch_size_sum") >= batches(service) > 0)
