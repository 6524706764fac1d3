"""The bytes of a picture that a request holds or refers to."""

from __future__ import annotations

import binascii
from base64 import b64decode
from urllib.parse import urlsplit

import aiohttp
from starlette.datastructures import UploadFile

from serve.http.errors import ApiError
from serve.settings import ServeSettings

FETCH_S = 10
"""How long a picture's host may take."""


async def picture_bytes(name: str, picture: UploadFile | str, settings: ServeSettings) -> bytes:
    """Of a file, a data URL, or a URL of an allowed host; raises ApiError for what is neither.

    Args:
        name: of the field, for the message.
    """
    most = settings.max_image_bytes
    if isinstance(picture, str):
        if is_data_url(picture):
            return data_of(name, picture, most)
        return await fetch(picture, settings.image_hosts, most, name)
    data = await picture.read(most + 1)
    if len(data) > most:
        raise ApiError(413, f"{name}: more than {most} bytes; send a smaller file", name)
    return data


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def data_of(name: str, url: str, most_bytes: int) -> bytes:
    """The data of a data URL in base64 (RFC 2397), whatever media type it names.

    Raises:
        ApiError: if it is broken or too long.
    """
    head, _, text = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise ApiError(400, f"{name}: no data URL in base64; send data:image/png;base64,...", name)
    for escaped, character in (("%2B", "+"), ("%2F", "/"), ("%3D", "=")):
        text = text.replace(escaped, character).replace(escaped.lower(), character)
    try:
        data = b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ApiError(400, f"{name}: the data URL's base64 is broken", name) from None
    if len(data) > most_bytes:
        raise ApiError(413, f"{name}: more than {most_bytes} bytes; send a smaller file", name)
    return data


async def fetch(
    url: str, hosts: list[str], most_bytes: int, name: str = "input_reference"
) -> bytes:
    """A picture from a host that the service's owner allows; redirects are not followed.

    Raises:
        ApiError: for every other host, and for what the host does not give.
    """

    def refusal(status: int, why: str) -> ApiError:
        return ApiError(status, f"{name}: {why}; send the file", name)

    try:
        parts = urlsplit(url)
    except ValueError:
        raise refusal(400, "neither a file nor a URL") from None
    if not parts.scheme:
        raise refusal(400, "neither a file nor a URL")
    if parts.scheme not in ("http", "https") or parts.hostname not in hosts:
        raise refusal(400, "URLs of this host are not fetched")
    try:
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            data = b""
            while answer.status == 200 and len(data) <= most_bytes:
                piece = await answer.content.read(most_bytes + 1 - len(data))
                if not piece:
                    break
                data += piece
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise refusal(400, "the URL cannot be fetched") from None
    if answer.status != 200:
        raise refusal(400, f"its host answers {answer.status}")
    if len(data) > most_bytes:
        raise refusal(413, f"more than {most_bytes} bytes")
    return data
