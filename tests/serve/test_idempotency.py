"""A request that is sent again, because its answer was lost, makes no second job."""

from __future__ import annotations

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.http.acceptance import accept
from serve.http.api import build_api
from serve.http.forms import VideoForm
from serve.http.keys import fingerprint
from tests.serve.asking import ask, completed, kept, refused
from tests.serve.conftest import png

KEY = {"Idempotency-Key": "try-1"}


def again(client: Any, headers: dict[str, str] = KEY, **fields: Any) -> str:
    answer = ask(client, headers=headers, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def jobs(services: Any, owner: str = "") -> int:
    return len(services.store.page(owner, 100))


def test_the_same_request_under_the_same_key_gives_the_same_job(client, services):
    first = again(client)
    before = kept(services)
    assert {again(client) for _ in range(2)} == {first}
    assert jobs(services) == 1 and kept(services) == before
    other = {again(client, {"Idempotency-Key": "try-2"}), again(client, {})}
    assert len(other | {first}) == 3


def test_a_key_holds_while_the_job_runs_and_when_the_queue_is_full(client, services):
    services.settings.max_queued = 1
    first = again(client)
    assert again(client) == first
    completed(services, first)
    assert ask(client, headers=KEY).json()["status"] == "completed"


def test_a_draining_service_gives_a_job_by_its_key_and_takes_no_other(client, services):
    first = again(client)
    completed(services, first)
    services.accepting = False
    assert again(client) == first
    assert ask(client, "/v1/videos/sync", headers=KEY).headers["Video-Id"] == first
    for path in ("/v1/videos", "/v1/videos/sync", "/v1/masks"):
        refused(ask(client, path, {"Idempotency-Key": "try-2"}), 503, "draining")
    assert jobs(services) == 1


def test_a_key_whose_job_goes_meanwhile_is_free(client, services, monkeypatch):
    answers, add = iter([False]), services.store.add
    monkeypatch.setattr(
        services.store, "add", lambda *given: next(answers, None) is None and add(*given)
    )
    first = again(client)
    assert services.files.has(first, "scene.png") and jobs(services) == 1


def test_something_else_under_the_same_key_is_a_conflict(client, services):
    again(client, seed="1")
    before = kept(services)
    for fields in ({"seed": "2"}, {}, {"seed": "1", "n": "1"}, {"seed": "1", "prompt": "open"}):
        refused(
            ask(client, headers=KEY, **fields),
            409,
            "take a new key",
            "Idempotency-Key",
            "idempotency_key_reused",
        )
    for pictures in ({"picture": png(96, 64)}, {"mask": png(mode="L")}):
        refused(ask(client, headers=KEY, seed="1", **pictures), 409, "", "Idempotency-Key")
    assert kept(services) == before and jobs(services) == 1


def test_a_request_is_the_same_in_whichever_shape_it_is_sent(client, services):
    first = again(client, seed="1", seconds="1", prompt="lift box")
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"seconds": 1.0, "input_reference": {"image_url": url}, "seed": 1, "prompt": "lift box"}
    assert client.post("/v1/videos", json=body, headers=KEY).json()["id"] == first
    assert jobs(services) == 1


def test_keys_of_two_owners_are_two_keys(services):
    services.keys = [fingerprint("mine"), fingerprint("yours")]
    client = TestClient(build_api(services))
    mine, yours = (
        again(client, {**KEY, "Authorization": f"Bearer {key}"}) for key in ("mine", "yours")
    )
    assert mine != yours


def test_a_key_is_free_once_its_job_is_gone(client, services):
    first = again(client)
    client.delete(f"/v1/videos/{first}")
    second = again(client, seed="3")
    completed(services, second, expires_in_s=-1)
    assert len({first, second, again(client)}) == 3


@pytest.mark.parametrize("key", ["", "a" * 256])
def test_what_is_no_key_is_refused(client, services, key):
    answer = ask(client, headers={"Idempotency-Key": key})
    refused(answer, 400, "Idempotency-Key: ", "Idempotency-Key")
    assert kept(services) == []


def test_two_requests_at_the_same_moment_make_one_job(services):
    services.settings.max_queued = 100
    both, add = threading.Barrier(4), services.store.add

    def together(*arguments: Any) -> bool:
        both.wait(60)  # all have seen that nobody has the key
        return bool(add(*arguments))

    services.store.add = together

    def one(_: int) -> str:
        return again(TestClient(build_api(services)))

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(one, range(4)))) == 1
    assert jobs(services) == 1 and len(kept(services)) == 1


def test_a_clip_that_is_waited_for_under_a_key_is_made_once(client, services):
    def work() -> None:
        completed(services, services.store.due(1)[0].id)

    services.wake = work
    answers = [ask(client, path, headers=KEY) for path in 2 * ("/v1/videos/sync",)]
    assert [answer.content for answer in answers] == [b"video"] * 2
    assert answers[0].headers["Video-Id"] == answers[1].headers["Video-Id"] == again(client)


def test_who_hangs_up_before_the_answer_finds_the_job_by_its_key(client, services):
    added, go_on, add = threading.Event(), threading.Event(), services.store.add

    def slow(*arguments: Any) -> bool:
        added.set()
        go_on.wait(60)
        return bool(add(*arguments))

    services.store.add = slow
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"prompt": "open the drawer", "input_reference": url}

    async def hang_up() -> None:
        form = VideoForm.model_validate(body)
        accepting = asyncio.create_task(accept(form, "", services, KEY["Idempotency-Key"]))
        await asyncio.to_thread(added.wait, 60)
        accepting.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await accepting

    asyncio.run(hang_up())
    (left,) = services.store.page("", 10)
    assert client.post("/v1/videos", json=body, headers=KEY).json()["id"] == left.id
