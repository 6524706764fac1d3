"""What nobody waits for: jobs that are given up, and what is removed."""

from __future__ import annotations

import time

from serve.files import SCENE
from serve.http.services import Services
from serve.sweeper import Sweeper, sweep
from tests.serve.asking import completed, created, kept


def swept(services: Services) -> None:
    sweep(services.settings, services.store, services.files)


def test_deleted_and_expired_jobs_are_removed_with_all_their_files(client, services):
    deleted, expired, stays = (created(client)["id"] for _ in range(3))
    completed(services, expired, expires_in_s=-1)
    services.files.write(f"{expired}/of a start that was given up", "video.mp4", b"late")
    client.delete(f"/v1/videos/{deleted}")
    swept(services)
    assert [one for one in kept(services) if stays not in one] == []
    assert services.files.has(stays, SCENE) and services.store.get(stays, "")
    assert services.store.outlived(10) == []


def test_a_job_that_cannot_be_removed_does_not_hold_up_the_others(client, services, monkeypatch):
    stuck, other = (created(client)["id"] for _ in range(2))
    for one in (stuck, other):
        client.delete(f"/v1/videos/{one}")
    remove = type(services.files).remove

    def fails(self, job_id: str) -> None:
        if job_id == stuck:
            raise OSError("permission denied")
        remove(self, job_id)

    with monkeypatch.context() as patch:
        patch.setattr("serve.files.JobFiles.remove", fails)
        swept(services)
        assert services.store.outlived(10) == [stuck]
    swept(services)
    assert services.store.outlived(10) == []


def test_a_job_that_was_interrupted_too_often_is_given_up(client, services):
    job = created(client)["id"]
    for attempt in range(services.settings.max_attempts):
        services.store.claim({job: str(attempt)}, -1)
    swept(services)
    found = services.store.get(job, "")
    assert (found.status, found.error_code) == ("failed", "interrupted")


def test_what_is_deleted_is_removed_as_soon_as_the_sweeper_is_woken(client, services, monkeypatch):
    monkeypatch.setattr("serve.sweeper.SWEEP_S", 600)
    sweeper = Sweeper(services.settings, services.store, services.files)
    job = created(client)["id"]
    client.delete(f"/v1/videos/{job}")
    sweeper.wake()
    deadline = time.monotonic() + 60
    while services.store.outlived(10) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept(services) == []
    sweeper.check()
