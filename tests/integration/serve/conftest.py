"""A running service for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.benchmarks.service import Service
from tests.integration.serve.serving import running


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("serve")) as service:
        yield service
