"""What was accepted is done, whichever process dies on the way."""

from __future__ import annotations

import pytest
import requests

from jobs.benchmarks.service import Service
from tests.integration.serve.clients import (
    accepted,
    all_completed,
    assert_same,
    clip_of,
    seen,
    until,
)
from tests.integration.serve.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def healthy(service: Service) -> bool:
    try:
        return requests.get(f"{service.url}/health", timeout=60).status_code == 200
    except requests.RequestException:
        return False


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
