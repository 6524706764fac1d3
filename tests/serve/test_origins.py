"""Without keys, what a browser sends for another site's page is refused; programs come in."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serve.http.api import build_api
from serve.http.keys import fingerprint
from tests.serve.asking import ask, kept, refused


@pytest.fixture
def at(services):
    """A client that has reached the service under a host name."""

    def client(host: str, hosts: list[str] | None = None) -> TestClient:
        services.settings.hosts = hosts or []
        api = build_api(services)
        return TestClient(api, base_url=f"http://{host}", raise_server_exceptions=False)

    return client


HERE = ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.0.0.1", "LOCALHOST", "localhost."]


@pytest.mark.parametrize("host", [*HERE, "10.1.2.3:8000", "[fd00::1]:8000"])
def test_under_its_addresses_a_program_is_served(at, host):
    client = at("127.0.0.1")
    for path in ("/health", "/v1/models", "/"):
        assert client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8000",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "127.0.0.1:8000@attacker.example",
        "notlocalhost",
        "[::1",
        ":8000",
    ],
)
def test_under_a_foreign_name_nothing_is_told(at, services, host):
    client = at("127.0.0.1")
    for path in ("/health", "/v1/models", "/v1/videos", "/metrics", "/", "/openapi.json", "/docs"):
        refused(client.get(path, headers={"Host": host}), 403, "host name")
    refused(ask(client, headers={"Host": host}), 403, "hosts=")
    assert kept(services) == []


def test_a_name_that_the_service_is_said_to_have_is_its_own(at):
    for pattern in ("handi.example", "*.example", "*"):
        client = at("handi.example", hosts=[pattern])
        assert ask(client, headers={"Origin": "https://handi.example"}).status_code == 200
    refused(at("other.example", hosts=["handi.example"]).get("/health"), 403, "hosts=other.example")
    refused(at("example", hosts=["*.example"]).get("/health"), 403, "host name")


@pytest.mark.parametrize(
    "origin",
    [
        "https://attacker.example",
        "http://attacker.example:8000",
        "http://localhost.attacker.example",
        "http://6.6.6.6:8000",
        "null",
        "file://",
        "chrome-extension://abc",
        "http://[::1",
        "",
    ],
)
def test_a_foreign_page_can_have_nothing_done(at, services, origin):
    client = at("127.0.0.1:8000")
    refused(ask(client, headers={"Origin": origin}), 403, "hosts=")
    refused(client.get("/v1/videos", headers={"Origin": origin}), 403, "may not use this service")
    assert kept(services) == []


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:3000"),
        ("10.1.2.3:8000", "http://10.1.2.3:8000"),
        ("127.0.0.1:8000", "http://[::1]:8000"),
    ],
)
def test_the_services_own_page_and_pages_of_this_machine_are_served(at, host, origin):
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert ask(at(host), headers=headers).status_code == 200


def test_a_page_elsewhere_cannot_embed_what_the_service_shows_but_may_link_to_it(at):
    client = at("localhost:8000")
    crossing = {"Sec-Fetch-Site": "cross-site"}
    for seen_as in ("image", "video", "script", "iframe", "empty"):
        headers = {**crossing, "Sec-Fetch-Dest": seen_as}
        refused(client.get("/v1/videos", headers=headers), 403, "other sites")
    followed = {**crossing, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    refused(client.post("/v1/videos", headers=followed), 403, "other sites")
    for site in ("none", "same-origin", "same-site"):
        assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_with_keys_any_name_and_any_page_will_do(at, services):
    services.keys = [fingerprint("mine")]
    headers = {"Authorization": "Bearer mine", "Origin": "https://elsewhere.example"}
    assert at("handi.example").get("/v1/models", headers=headers).status_code == 200
