"""For each module of tests a running service, and a browser before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from jobs.benchmarks.service import Service
from tests.integration.serve.browsing import chromium, opened
from tests.integration.serve.serving import running


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("serve")) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, service, tmp_path) -> Iterator[Page]:
    with opened(browser, service.url, tmp_path) as page:
        yield page
