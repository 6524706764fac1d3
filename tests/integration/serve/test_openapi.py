"""The service does what its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis

from jobs.benchmarks.service import Service
from tests.integration.conftest import REPOSITORY
from tests.integration.serve.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Service]:
    """A service that lucky requests keep busy for a short time only."""
    with running(
        tmp_path_factory.mktemp("small"), max_queued=20, max_steps=4, image_hosts="127.0.0.1"
    ) as service:
        yield service


turns = count()


@schemathesis.hook
def before_call(
    _: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """In Schemathesis' process: now and then a picture and an id that the service knows.

    Chance finds neither, and all answers would be refusals.
    """
    if next(turns) % 5 or not (url := case.operation.base_url):
        return
    if case.method == "POST":
        scene = f"{url.rstrip('/')}/examples/lift_box_1.png"
        case.body = {"prompt": "lift box", "input_reference": scene, "seconds": 0.25}
    elif "video_id" in case.path_parameters:
        jobs = requests.get(f"{url.rstrip('/')}/v1/videos", {"limit": 100}).json()["data"]
        if len(jobs) > 10 or (jobs and case.method == "GET"):
            case.path_parameters["video_id"] = jobs[next(turns) % len(jobs)]["id"]


def test_thousands_of_requests_get_only_documented_answers(small, tmp_path):
    har = tmp_path / "sent.har"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{small.url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "250"),
            *("--seed", "1", "--generation-database", "none"),
            # One: Hypothesis parses sources, and Python 3.11's parser does not bear threads.
            *("--workers", "1", "--continue-on-failure", "--no-shrink"),
            *("--request-timeout", "120", "--suppress-health-check", "all"),
            *("--report", "har", "--report-har-path", str(har), "--no-color"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": __name__, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert har.exists(), done.stdout
    answers = Counter(
        (entry["request"]["method"], entry["response"]["status"])
        for entry in json.loads(har.read_text())["log"]["entries"]
    )
    print(done.stdout, sorted(answers.items()), sep="\n")
    assert done.returncode == 0, done.stdout
    assert answers.total() >= 2000
    assert min(answers[method, 200] for method in ("GET", "POST", "DELETE")) > 0
    assert requests.get(f"{small.url}/health").json()["status"] == "ok"
