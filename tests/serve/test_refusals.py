"""What cannot be met, and what a refusal leaves behind: nothing."""

from __future__ import annotations

import pytest

from tests.serve.asking import ask, created, kept, refused
from tests.serve.conftest import png


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
        ({"owner": "somebody"}, "owner", "owner: no such field"),
        ({"prompt": None, "promt": "lift"}, "promt", "promt: no such field"),
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
        (b"", "application/json"),
        (b"[1, 2]", "application/json"),
        (b"{", "application/json"),
        (b"[" * 9_000, "application/json"),
        (b"[" + 100_000 * b"1," + b"1]", "application/json"),
        (b'{"prompt": "\xff"}', "application/json"),
        (b'{"\\ud800\\n": 1}', "application/json"),
        (b'{"prompt": "lift", "model": "\\ud800"}', "application/json; charset=utf-8"),
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


def test_a_body_of_another_media_type_is_told_so(client):
    for kind in ("nothing at all", "text/plain", "application/xml", "image/png", ""):
        headers = {"Content-Type": kind} if kind else {}
        for path in ("/v1/videos", "/v1/videos/sync", "/v1/masks"):
            answer = client.post(path, content=b"prompt", headers=headers)
            refused(answer, 415, "send multipart/form-data or application/json", None)


def test_every_unknown_field_is_named_before_all_other_mistakes(client):
    answer = client.post("/v1/videos", json={"promt": "lift box", "colour\n": "red", "seed": -1})
    refused(answer, 400, "promt, colour?: no such field", "promt", "unknown_parameter")
    refused(client.post("/v1/videos", json={}), 400, "prompt: ", "prompt", "missing_parameter")


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
