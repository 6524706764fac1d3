"""Motion areas as a client meets them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from serve.http.api import build_api
from serve.http.errors import ApiError
from serve.http.limits import Limits
from tests.serve.asking import ask, kept, refused
from tests.serve.conftest import MODEL


def test_a_motion_area_comes_as_a_picture_of_the_clips_size(client, services):
    answer = ask(client, "/v1/masks", size="80x64", seed="3", mask_steps="2")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (80, 64)
    assert services.model_seats.free == services.settings.max_masks
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


def test_a_model_without_stage_1_says_so(services):
    services.limits = Limits(services.settings, replace(MODEL, uses_mask=False), 1)
    client = TestClient(build_api(services))
    refused(ask(client, "/v1/masks"), 400, "model: 'handi' predicts no motion area", "model")
    (told,) = client.get("/v1/models").json()["data"]
    assert (told["mask_steps"], told["num_inference_steps"]) == (None, 25)
    assert ask(client).status_code == 200


def test_what_is_not_of_the_motion_area_is_refused_there(client, services):
    refused(ask(client, "/v1/masks", num_inference_steps="2"), 400, "", "num_inference_steps")
    refused(ask(client, "/v1/masks", prompt=" "), 400, "", "prompt")
    assert services.model_seats.free == services.settings.max_masks


def test_too_many_motion_areas_at_once_are_refused(client, services):
    services.model_seats.free = 0
    answer = ask(client, "/v1/masks")
    refused(answer, 429, "too many such requests")
    assert int(answer.headers["Retry-After"]) > 0
    assert services.model_seats.free == 0


def test_a_motion_area_that_could_not_be_made_is_told_and_waited_for_no_more(client, services):
    async def died(order: Any) -> bytes:
        raise ApiError(503, "the motion area: the replica died; try again", None, 5)

    services.predict_mask = died
    answer = ask(client, "/v1/masks")
    refused(answer, 503, "the replica died")
    assert answer.headers["Retry-After"] == "5"
    assert services.model_seats.free == services.settings.max_masks
