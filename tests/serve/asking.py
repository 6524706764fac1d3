"""What tests of the HTTP API ask, and how they see that it was refused or done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from serve.files import VARIANTS
from serve.http.services import Services
from tests.serve.conftest import png

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    416: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


def ask(
    client: TestClient,
    path: str = "/v1/videos",
    headers: dict[str, str] | None = None,
    picture: bytes | None = None,
    mask: bytes | None = None,
    **fields: Any,
) -> Any:
    files = {"input_reference": ("scene.png", png() if picture is None else picture)}
    if mask is not None:
        files["mask"] = ("mask.png", mask)
    data = {"prompt": "open the drawer", **fields}
    data = {name: value for name, value in data.items() if value is not None}
    return client.post(path, data=data, files=files, headers=headers)


def refused(
    answer: Any,
    status: int,
    message: str = "",
    param: str | None = None,
    code: str | None = None,
) -> None:
    """The documented body of an error, whatever the error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"type", "code", "message", "param", "id"}
    assert body["error"]["type"] == TYPES[status]
    assert message in body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert body["error"]["param"] == param
    assert body["error"]["code"] == code if code else body["error"]["code"]


def created(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = ask(client, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def completed(services: Services, job_id: str, expires_in_s: float = 60) -> None:
    """As a replica does it."""
    services.store.claim({job_id: "ticket"}, 60)
    for variant in ("video", "gif", "mask"):
        services.files.write(f"{job_id}/ticket", VARIANTS[variant][0], variant.encode())
    assert services.store.complete("ticket", expires_in_s)


def kept(services: Services) -> list[str]:
    """Files of all jobs."""
    root = Path(services.files.root)
    return [str(path) for path in root.rglob("*") if path.is_file()] if root.exists() else []
