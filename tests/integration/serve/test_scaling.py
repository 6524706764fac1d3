"""Replicas of the model come with the queue."""

from __future__ import annotations

import pytest
import requests

from tests.integration.serve.clients import post, until
from tests.integration.serve.serving import running

pytestmark = pytest.mark.slow


def test_a_second_replica_comes_while_many_jobs_wait(tmp_path):
    with running(tmp_path, replicas=1, max_replicas=2) as service:
        assert len(service.replicas()) == 1
        jobs = [
            post(service, seed=str(seed), num_inference_steps="50").json()["id"]
            for seed in range(30)
        ]
        until(lambda: len(service.replicas()) == 2)
        for job in jobs:
            requests.delete(f"{service.url}/v1/videos/{job}")
