"""The shapes in which clients of this and of other servers send what they ask for."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

import openai
import pytest

from serve.http.bodies import FIELDS_BYTES
from tests.serve.asking import created, kept, refused
from tests.serve.conftest import png

PICTURE = png()
BASE64 = base64.b64encode(PICTURE).decode()
DATA_URL = f"data:image/png;base64,{BASE64}"
ASKED = {"prompt": "lift box", "input_reference": DATA_URL}


@pytest.fixture(autouse=True)
def room_for_many(settings) -> None:
    settings.max_queued = 100


def sent(client: Any, path: str = "/v1/videos", **fields: Any) -> Any:
    return client.post(path, json={**ASKED, **fields})


def taken(client: Any, **fields: Any) -> dict[str, Any]:
    answer = sent(client, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_json_gives_the_job_that_a_form_gives(client, services):
    fields = {"size": "80x64", "seconds": "1", "seed": "7", "guidance_scale": "2.5"}
    form, same = created(client, prompt="lift box", **fields), taken(client, **fields)
    numbers = taken(client, size="80x64", seconds=1, seed=7, guidance_scale=2.5, model=None)
    for other in (same, numbers):
        assert {**other, "id": "", "created_at": 0} == {**form, "id": "", "created_at": 0}
        scenes = {services.files.read(job["id"], "scene.png") for job in (form, other)}
        assert len(scenes) == 1


@pytest.mark.parametrize(
    "picture",
    [
        {"input_reference": {"image_url": DATA_URL}},
        {"image_reference": {"image_url": DATA_URL}},
        {"image_reference": DATA_URL, "input_reference": None},
        {"reference_url": DATA_URL, "input_reference": ""},
        {"input_reference": DATA_URL.replace("data:image/png", "DATA:")},
        {"input_reference": DATA_URL.replace("+", "%2B")},
        {"input_reference": "data:;base64," + BASE64.replace("/", "%2f") + "\n"},
    ],
)
def test_a_picture_comes_in_every_shape_that_clients_give_it(client, picture):
    answer = client.post("/v1/videos", json={"prompt": "lift box", **picture})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ({"file_id": "file-1"}, "file_id: no files are kept here"),
        ({"image_url": "data:image/png;base64,@@@"}, "base64 is broken"),
        ({"image_url": "data:image/png;base64"}, "the file is empty"),
        ({"image_url": "data:image/png;base64,ï"}, "base64 is broken"),
        ({"image_url": 7}, "no picture"),
        ({"url": DATA_URL}, "one key"),
        ("data:text/plain;base64,aGVsbG8=", "not a picture"),
        ("data:image/svg+xml,<svg/>", "no data URL in base64"),
        ("http://127.0.0.1:1/scene.png", "URLs of this host are not fetched"),
        ("scene.png", "neither a file nor a URL"),
        (7, "no picture"),
        ([DATA_URL], "no picture"),
    ],
)
def test_a_picture_that_is_none_is_refused_by_its_name(client, services, picture, message):
    for name in ("input_reference", "mask"):
        answer = sent(client, **{name: picture})
        refused(answer, 400, f"{name}: ", name)
        assert message in answer.json()["error"]["message"]
    assert kept(services) == []


def test_a_data_url_of_too_many_bytes_is_refused(client, services):
    services.settings.max_image_bytes = len(PICTURE) - 1
    refused(sent(client), 413, f"input_reference: more than {len(PICTURE) - 1}", "input_reference")


def test_a_motion_area_is_taken_from_json_too(client):
    area = "data:image/png;base64," + base64.b64encode(png(mode="L")).decode()
    assert taken(client, mask=area)["mask_steps"] is None
    assert sent(client, "/v1/masks", seed=3).headers["content-type"] == "image/png"


def test_a_form_may_hold_a_picture_as_text(client):
    for picture in (DATA_URL, json.dumps({"image_url": DATA_URL})):
        for send in ({"data": {}}, {"data": {}, "files": {"seed": (None, "3")}}):
            send["data"] = {"prompt": "lift box", "input_reference": picture}
            answer = client.post("/v1/videos", **send)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("wrapper", ["extra_body", "extra_params", "video_params"])
def test_what_is_wrapped_counts_as_what_is_beside_it(client, wrapper):
    inner = {"num_inference_steps": 3, "num_frames": 8}
    assert taken(client, **{wrapper: inner})["num_inference_steps"] == 3
    in_form = created(client, **{wrapper: json.dumps(inner)})
    assert (in_form["num_inference_steps"], in_form["num_frames"]) == (3, 8)
    bracketed = created(client, **{f"{wrapper}[num_frames]": "8", f"{wrapper}[seed]": "5"})
    assert (bracketed["num_frames"], bracketed["seed"]) == (8, 5)
    refused(sent(client, **{wrapper: {"flow_shift": 3}}), 400, "flow_shift: no such", "flow_shift")
    refused(sent(client, **{wrapper: [3]}), 400, f"{wrapper}: no object", wrapper)


def test_a_field_that_is_sent_twice_is_refused(client):
    files = [("input_reference", ("a.png", PICTURE)), ("input_reference", ("b.png", PICTURE))]
    answer = client.post("/v1/videos", data={"prompt": "lift"}, files=files)
    refused(answer, 400, "sent twice", "input_reference")
    both = sent(client, image_reference={"image_url": DATA_URL})
    refused(both, 400, "sent beside input_reference", "image_reference")


def test_length_and_rate_are_asked_for_in_frames_or_in_seconds(client):
    def length(**fields: Any) -> tuple[Any, ...]:
        job = taken(client, **fields)
        return job["num_frames"], job["fps"], job["duration_s"], job["seconds"]

    assert length() == (16, 8, 2, "2")
    assert length(num_frames=12) == (12, 8, 1.5, "2")
    assert length(num_frames="4") == (4, 8, 0.5, "1"), "clients read no fraction, and no 0"
    assert length(fps=16) == (16, 16, 1, "1")
    assert length(fps=4, seconds="4") == length(fps=4, num_frames=16) == (16, 4, 4, "4")
    assert length(num_frames=16, seconds=2) == (16, 8, 2, "2")
    refused(sent(client, num_frames=16, seconds=3), 400, "are not 3 seconds", "num_frames")
    refused(sent(client, num_frames=33), 400, "outside of 2 to 32 frames", "num_frames")
    refused(sent(client, fps=1, seconds=40), 400, "outside of 2 to 32", "seconds")
    for fps in (0, 0.5, 121, "fast"):
        refused(sent(client, fps=fps), 400, "fps: ", "fps")


def test_width_and_height_are_the_size(client):
    assert taken(client, width=80, height="64")["size"] == "80x64"
    assert taken(client, width=80, height=64, size="80x64")["size"] == "80x64"
    refused(sent(client, width=80, height=64, size="64x64"), 400, "not the size 64x64", "width")
    refused(sent(client, width=80), 400, "width: sent without height", "width")
    refused(sent(client, height=80), 400, "height: sent without width", "height")
    refused(sent(client, width=80, height=65), 400, "height: 65 is not a multiple", "height")


def test_what_the_clip_should_not_show_is_kept_with_the_job(client):
    assert taken(client, negative_prompt=" blur \n")["negative_prompt"] == "blur"
    assert taken(client, negative_prompt="")["negative_prompt"] is None
    asked = sent(client, negative_prompt="a\x00b")
    refused(asked, 400, "control characters", "negative_prompt")
    refused(sent(client, negative_prompt="cut " * 99), 400, "tokens", "negative_prompt")


def test_one_clip_a_request_and_whoever_is_behind_it_are_taken(client):
    assert taken(client, n=1, user="somebody")["status"] == "queued"
    refused(sent(client, n=2), 400, "n: 2 clips; a request makes one", "n")
    refused(sent(client, user="a" * 513), 400, "user: ", "user")
    refused(sent(client, seed=True), 400, "send a number", "seed")


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "model", "size", "user"])
def test_a_text_longer_than_all_fields_together_may_be_is_refused(client, name):
    answer = sent(client, **{name: "a" * (FIELDS_BYTES + 1)})
    refused(answer, 400, f"{name}: String should have at most", name)
    assert len(answer.text) < 1000


def test_a_url_of_any_length_is_not_looked_at(client):
    answer = sent(client, input_reference="a" * (FIELDS_BYTES + 1))
    refused(answer, 400, "input_reference: a URL has at most", "input_reference")


def test_openais_client_sends_pictures_as_files_and_as_urls(client, services):
    theirs = openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=client)
    extra = {"seed": 7, "negative_prompt": "blur", "extra_params": {"mask_steps": 3}}
    create = partial(theirs.videos.create, prompt="lift box", seconds="4")
    file = create(input_reference=("scene.png", PICTURE, "image/png"), extra_body=extra)
    url = create(extra_body={**extra, "input_reference": {"image_url": DATA_URL}})
    made: Any
    for made in (file, url):
        assert (made.seed, made.negative_prompt, made.mask_steps) == (7, "blur", 3)
        assert (made.seconds, made.duration_s) == ("4", 4.0)
    assert theirs.models.retrieve("handi").owned_by == "handi"
    with pytest.raises(openai.NotFoundError) as gone:
        theirs.models.retrieve("org/sora")
    assert gone.value.code == "model_not_found"
    services.store.claim({made.id: "ticket"}, 60)
    services.store.fail("ticket", "server_error", "told in the log", 60)
    assert theirs.videos.retrieve(made.id).error.code == "server_error"
