"""Who may come in: decided before a byte of the body is taken."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.errors import answer_of, draining, error_answer
from serve.http.keys import owner_of
from serve.http.origins import foreign
from serve.http.services import Services


class Doorkeeper:
    """Refuses other sites' pages, unknown keys, new work while the service drains, large bodies.

    Starlette counts the bodies that are not announced.
    """

    def __init__(self, app: ASGIApp, services: Services, most_bytes: int) -> None:
        self.app = app
        self.services = services
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if not self.services.keys:  # which no page of another site can send
            why = foreign(scope["method"], headers, self.services.settings.hosts)
            if why:
                return error_answer(403, why)
        if scope["path"].startswith("/v1/"):
            scheme, _, key = headers.get("Authorization", "").partition(" ")
            owner = owner_of(key if scheme.lower() == "bearer" else None, self.services.keys)
            if owner is None:
                why = "no valid API key; send the header 'Authorization: Bearer KEY'"
                return error_answer(401, why)
            scope.setdefault("state", {})["owner"] = owner
            # A request with a key may be about a job that is there: `accept` looks for it.
            again = scope["path"].startswith("/v1/videos") and "idempotency-key" in headers
            if scope["method"] == "POST" and not again and not self.services.accepting:
                return answer_of(draining())
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.most_bytes:
            return error_answer(413, f"the request has more than {self.most_bytes} bytes")
        return None
