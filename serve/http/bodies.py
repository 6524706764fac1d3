"""From a request's body, of whichever media type clients send, to one flat set of fields."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from serve.http.errors import ApiError, shown
from serve.http.services import services
from serve.settings import ServeSettings

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
MEDIA_TYPES = (*FORMS, "application/json")
WRAPPERS = ("extra_body", "extra_params", "video_params")
"""Objects in which clients of other servers send some of the fields; they count as the others."""
ALIASES = {"image_reference": "input_reference", "reference_url": "input_reference"}
"""What other servers call a field."""
OBJECTS = (*WRAPPERS, *ALIASES, "input_reference", "mask")
"""Fields that may be objects; in a form they are sent as JSON, or as NAME[KEY]."""

FIELDS_BYTES = 2**16
"""Room for the fields beside the pictures."""
MOST_VALUES = 10_000
"""In a JSON body: of millions the parser makes millions of objects, while all others wait."""
UNREADABLE = (ClientDisconnect, MultiPartException, AttributeError, LookupError, ValueError)
"""A client that hung up, forms that are none, charsets that are none, names that are no text."""

Form = TypeVar("Form", bound=BaseModel)


def most_bytes(settings: ServeSettings) -> int:
    """Of a body: two pictures, which base64 makes longer by a third."""
    return 2 * (4 * settings.max_image_bytes // 3) + FIELDS_BYTES


def body_as(form: type[Form]) -> Callable[[Request], AsyncIterator[Form]]:
    """A dependency that reads a body; files in it are closed once the request is answered.

    Raises:
        ApiError: for what is no body of a known media type.
        RequestValidationError: for fields that the form does not have, or not so.
    """

    async def read(request: Request) -> AsyncIterator[Form]:
        async with fields_of(request, most_bytes(services(request).settings)) as fields:
            try:
                made = form.model_validate(flattened(fields))
            except ValidationError as error:
                raise RequestValidationError(error.errors()) from None
            yield made

    return read


@asynccontextmanager
async def fields_of(request: Request, most: int) -> AsyncIterator[dict[str, Any]]:
    """The fields as they were sent: texts and files of a form, values of a JSON object."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        what = f"{shown(media_type)!r} is not read" if media_type else "no Content-Type"
        raise ApiError(415, f"{what}; send multipart/form-data or application/json")
    try:
        body = await request.body() if media_type not in FORMS else b""
        form = await request.form(max_part_size=most) if media_type in FORMS else None
    except HTTPException:
        raise
    except UNREADABLE:
        raise ApiError(400, "the body cannot be read; send it whole, and in UTF-8") from None
    if form is None:
        yield _object(body, "the body")
        return
    try:
        yield nested(form.multi_items())
    finally:
        await form.close()


def nested(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a form, NAME[KEY] as an object; raises ApiError for a field sent twice."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if isinstance(value, UploadFile) and not value.filename and not value.size:
            value = ""  # a browser's file input that was left empty
        inner = re.fullmatch(r"(\w+)\[(\w+)\]", name)
        place, key = fields, name
        if inner and inner[1] in OBJECTS:
            place, key = fields.setdefault(inner[1], {}), inner[2]
        if not isinstance(place, dict) or key in place:
            raise ApiError(400, f"{shown(name)}: sent twice; send it once", shown(name))
        place[key] = value
    for name in OBJECTS:
        text = fields.get(name)
        if isinstance(text, str) and text.lstrip().startswith("{"):
            fields[name] = _object(text.encode(errors="replace"), name)
    return fields


def flattened(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without wrappers and aliases, and without those that are null."""
    flat = dict(fields)
    for wrapper in WRAPPERS:
        inner = flat.pop(wrapper, None)
        if inner in (None, ""):
            continue
        if not isinstance(inner, dict):
            raise ApiError(400, f"{wrapper}: no object; send its fields as the others", wrapper)
        flat |= inner  # as of OpenAI's client: what is extra has the last word
    for alias, name in ALIASES.items():
        value = flat.pop(alias, None)
        if value in (None, ""):
            continue
        if flat.get(name) not in (None, ""):
            raise ApiError(400, f"{alias}: sent beside {name}; send one of them", alias)
        flat[name] = value
    return {name: value for name, value in flat.items() if value is not None}


def _object(text: bytes, what: str) -> dict[str, Any]:
    if sum(text.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise ApiError(400, f"{what}: more than {MOST_VALUES} values")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ApiError(400, f"{what}: no valid JSON") from None
    if not isinstance(found, dict):
        raise ApiError(400, f"{what}: no JSON object")
    return found
