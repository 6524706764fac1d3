"""What a client is told when it cannot have what it asks for."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from pipelines.patience import is_away

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

TYPES: dict[int, ErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}
"""The type of error by status; all others are `invalid_request_error`."""

SOON_S = 5
"""When to try again where nothing better is known."""


class ErrorDetail(BaseModel):
    type: ErrorType
    message: str
    param: str | None = None
    """The field of the request that is at fault."""


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """Args:
    status: of HTTP.
    message: one line that names the culprit and the remedy.
    param: the field of the request that is at fault.
    retry_after_s: for 429 and 503, when to try again.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.retry_after_s = retry_after_s


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors."""
    return {status: {"model": ErrorBody} for status in statuses}


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application have the one body."""

    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> JSONResponse:
        return error_answer(error.status, str(error), error.param, error.retry_after_s)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        names = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        message = first["msg"].removeprefix("Value error, ")
        name = ".".join(names)
        return error_answer(400, f"{name}: {message}" if name else message, name or None)

    @app.exception_handler(HTTPException)
    async def of_the_framework(_: Request, error: HTTPException) -> JSONResponse:
        # An upload that is no multipart form, or has too many parts, is a plain 400 to Starlette.
        return error_answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(SQLAlchemyError)
    async def store_away(_: Request, error: SQLAlchemyError) -> JSONResponse:
        return error_answer(503, "the job store does not answer; try again", None, SOON_S)

    @app.exception_handler(FileNotFoundError)
    async def removed_meanwhile(_: Request, error: FileNotFoundError) -> JSONResponse:
        return error_answer(404, "the file is not there any more")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        if is_away(error):
            return error_answer(503, "the store of clips does not answer; try again", None, SOON_S)
        return error_answer(500, f"a fault of the service: {type(error).__name__}")


def error_answer(
    status: int,
    message: str,
    param: str | None = None,
    retry_after_s: int | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The documented body of an error."""
    kind = TYPES.get(status, "invalid_request_error")
    body = ErrorBody(error=ErrorDetail(type=kind, message=message, param=param))
    known = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    return JSONResponse(body.model_dump(), status, {**(headers or {}), **known})
