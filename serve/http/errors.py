"""What a client is told when it cannot have what it asks for."""

from __future__ import annotations

import logging
import secrets
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException

from pipelines.patience import is_away
from pipelines.records import one_line

logger = logging.getLogger("ray.serve")

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "rate_limit_error",
    "server_error",
    "unavailable_error",
]

TYPES: dict[int, tuple[ErrorType, str]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "permission_denied"),
    404: ("not_found_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    409: ("conflict_error", "conflict"),
    413: ("invalid_request_error", "too_large"),
    415: ("invalid_request_error", "unsupported_media_type"),
    416: ("invalid_request_error", "range_not_satisfiable"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "server_error"),
    503: ("unavailable_error", "unavailable"),
}
"""Type of error by status, and its code where nothing more exact is known."""

PLACES = ("body", "query", "path", "header")
"""How FastAPI begins the place of a mistake."""

SOON_S = 5
"""When to try again where nothing better is known."""

DRAIN_S = 60
"""When to try again while the service drains."""


class ErrorDetail(BaseModel):
    type: ErrorType
    code: str = Field(description="For programs: what is wrong, more exactly than `type`.")
    message: str
    param: str | None = Field(None, description="The field of the request that is at fault.")
    id: str | None = Field(
        None, description="Of a fault that is not the request's: it stands in the service's log."
    )


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """Args:
    status: of HTTP.
    message: one line that names the culprit and the remedy; no exception's text, which may tell
        what is nobody's business.
    param: the field of the request that is at fault.
    retry_after_s: for 429 and 503, when to try again; None where that would help nobody.
    code: where it says more than the status.
    incident: of `log_incident`.
    headers: others of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        code: str | None = None,
        incident: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.retry_after_s = retry_after_s
        self.code = code
        self.incident = incident
        self.headers = headers


def draining() -> ApiError:
    """The refusal of new work by a service that drains."""
    return ApiError(503, "the service is draining and takes no new work", None, DRAIN_S)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors."""
    return {status: {"model": ErrorBody} for status in statuses}


def log_incident(error: BaseException, what: str) -> str:
    """Write an exception to the log; gives the id under which it stands there, for the client."""
    incident = f"err_{secrets.token_hex(8)}"
    logger.error("%s: %s", incident, what, exc_info=error)
    return incident


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application have the one body."""

    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> JSONResponse:
        return answer_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer_of(_mistake(error))

    @app.exception_handler(HTTPException)
    async def of_the_framework(_: Request, error: HTTPException) -> JSONResponse:
        # An upload that is no multipart form, or has too many parts, is a plain 400 to Starlette.
        return error_answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(NoConnection)
    async def store_away(_: Request, error: Exception) -> JSONResponse:
        # One line, for there will be many.
        logger.warning("the job store does not answer: %s", one_line(error))
        return error_answer(503, "the job store does not answer; try again", None, SOON_S)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        if is_away(error):
            logger.warning("the store of clips does not answer: %s", one_line(error))
            return error_answer(503, "the store of clips does not answer; try again", None, SOON_S)
        incident = log_incident(error, f"{request.method} {request.url.path}")
        message = f"a fault of the service, which stands in its log as {incident}"
        return error_answer(500, message, incident=incident)


def _mistake(error: RequestValidationError) -> ApiError:
    """The first mistake in a request; fields that there are not come before all others."""
    mistakes = error.errors()
    unknown = [_name(one["loc"]) for one in mistakes if one["type"] == "extra_forbidden"]
    if unknown:  # what is missing may only be misspelt
        message = (
            f"{', '.join(unknown[:5])}: no such field; /openapi.json lists those that there are"
        )
        return ApiError(400, message, unknown[0], code="unknown_parameter")
    first = mistakes[0]
    name, message = _name(first["loc"]), first["msg"].removeprefix("Value error, ")
    code = "missing_parameter" if first["type"] == "missing" else None
    return ApiError(400, f"{name}: {message}" if name else message, name or None, code=code)


def _name(places: tuple[int | str, ...]) -> str:
    return shown(".".join(str(one) for one in places if one not in PLACES))


def shown(name: str) -> str:
    """A client's own word as it can stand in a message: one line, printable, not too long."""
    return "".join(one if one.isprintable() else "?" for one in name[:64])


def answer_of(error: ApiError) -> JSONResponse:
    told = (error.status, str(error), error.param, error.retry_after_s)
    return error_answer(*told, error.headers, code=error.code, incident=error.incident)


def error_answer(
    status: int,
    message: str,
    param: str | None = None,
    retry_after_s: int | None = None,
    headers: dict[str, str] | None = None,
    code: str | None = None,
    incident: str | None = None,
) -> JSONResponse:
    """The documented body of an error."""
    other: ErrorType = "server_error" if status >= 500 else "invalid_request_error"
    kind, usual = TYPES.get(status, (other, other))
    detail = ErrorDetail(type=kind, code=code or usual, message=message, param=param, id=incident)
    known = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    body = ErrorBody(error=detail).model_dump()
    return JSONResponse(body, status, {**(headers or {}), **known})
