"""Answers that are a file: whole, in part, or only its head."""

from __future__ import annotations

import re

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import error_answer

NOSNIFF = {"X-Content-Type-Options": "nosniff"}
"""A browser takes a file for what it is said to be, whatever its bytes look like."""


def file_answer(request: Request, data: bytes, media_type: str, name: str) -> Response:
    """A file, or the one range of bytes that is asked for (RFC 9110, section 14).

    Args:
        name: under which a browser saves it; a file of that name never changes, so that it is its
            entity tag too.
    """
    headers = {
        **NOSNIFF,
        "Accept-Ranges": "bytes",
        "ETag": f'"{name}"',
        "Content-Disposition": f'inline; filename="{name}"',
    }
    if_range = request.headers.get("If-Range", headers["ETag"])
    asked = request.headers.get("Range", "") if if_range == headers["ETag"] else ""
    # Several ranges at once, and units other than bytes, may be answered with the whole.
    found = re.fullmatch(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", asked.strip())
    if not found:
        return Response(data, media_type=media_type, headers=headers)
    first, last, tail = found.groups()
    start = max(len(data) - int(tail), 0) if tail else int(first)
    stop = min(int(last) + 1, len(data)) if last else len(data)
    if last and int(last) < int(first):  # which is no range
        return Response(data, media_type=media_type, headers=headers)
    if start >= len(data):
        where = {"Content-Range": f"bytes */{len(data)}"}
        return error_answer(416, f"the file has only {len(data)} bytes", headers=where)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], 206, headers, media_type)


class HeadAsGet:
    """Answers HEAD with the head of what GET would give, on every path that there is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)

        async def head_only(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, head_only)
