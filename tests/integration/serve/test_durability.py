"""What was accepted is done, whichever process dies on the way."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import pytest
import requests

from jobs.benchmarks.service import Service
from tests.integration.conftest import REPOSITORY, free_port
from tests.integration.serve.clients import (
    accepted,
    all_completed,
    assert_same,
    clip_of,
    content,
    seen,
    until,
)
from tests.integration.serve.serving import running, save_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class At:
    """A service that something else has started."""

    url: str


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """It neither answers nor ends, as on a machine that hangs."""
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


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


def test_a_gateway_that_dies_is_replaced_and_no_job_is_started_again(service):
    jobs = [accepted(service, seed=seed) for seed in range(3)]
    until(lambda: seen(service, jobs[0])["progress"] >= 20)
    service.replicas("Gateway")[0].kill()
    until(lambda: healthy(service))
    until(all_completed(service, jobs))
    assert [seen(service, job)["attempts"] for job in jobs] == [1, 1, 1]


def test_a_silent_replicas_job_is_done_by_another_and_its_late_result_is_dropped(service):
    job = accepted(service, steps=50)
    until(lambda: seen(service, job)["progress"] >= 20)
    with stopped(service.replicas()[0]):
        until(all_completed(service, [job]))
        assert seen(service, job)["attempts"] == 2
        made, ended = content(service, job), seen(service, job)["completed_at"]
    # It goes on, unless it was replaced by now.
    other = accepted(service)
    until(all_completed(service, [other]))
    assert content(service, job) == made and seen(service, job)["completed_at"] == ended


def test_a_gateway_that_falls_silent_is_replaced_and_no_job_is_started_again(service):
    jobs = [accepted(service, seed=seed) for seed in range(3)]
    until(lambda: seen(service, jobs[0])["progress"] >= 20)
    silent = service.replicas("Gateway")[0]
    with stopped(silent):
        until(lambda: healthy(service))
        until(all_completed(service, jobs))
        until(lambda: any(one != silent for one in service.replicas("Gateway")))
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


def test_a_service_that_is_terminated_ends_what_it_runs_and_says_so_in_one_line(tmp_path):
    port = free_port()
    arguments = {
        "model": str(save_tiny(tmp_path / "model")),
        "port": str(port),
        "store": f"sqlite:///{tmp_path}/jobs.db",
        "results": str(tmp_path / "results"),
        "num_gpus": "0",
        "drain_s": "240",
    }
    with tempfile.TemporaryDirectory(prefix="ray") as ray, open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serve",
                *(f"{key}={value}" for key, value in arguments.items()),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "RAY_ADDRESS": "local", "RAY_TMPDIR": ray},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until(lambda: f"http://127.0.0.1:{port}" in (tmp_path / "log").read_text())
            service = At(f"http://127.0.0.1:{port}")
            job = accepted(service, steps=40)
            until(lambda: seen(service, job)["status"] == "in_progress")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=300) == 143
        finally:
            process.kill()
    lines = (tmp_path / "log").read_text().strip().splitlines()
    assert lines[-1].startswith("interrupted by SIGTERM: drained; ")
    assert not [line for line in lines if "Traceback" in line or "***" in line]
    with sqlite3.connect(tmp_path / "jobs.db") as store:
        ((status,),) = store.execute(
            "SELECT status FROM handi_video_jobs WHERE id = ?", (job,)
        ).fetchall()
    assert status == "completed"
