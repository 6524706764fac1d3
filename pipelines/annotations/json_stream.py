"""JSON files of any size, one item at a time: Ego4D's hold hundreds of MB."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import ijson

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import UTF16_MARKS, check_text, opened
from pipelines.annotations.rows import quote


def array_items(url: str, prefix: str) -> Iterator[Any]:
    """The items of an array, such as `videos.item`; none if there is no such array.

    Raises:
        AnnotationsError: the file cannot be read, is no JSON, or is cut off.
    """
    return _stream(url, "items", prefix)


def object_items(url: str, prefix: str) -> Iterator[tuple[str, Any]]:
    """The keys and values of an object, the outermost where the prefix is empty.

    Raises:
        AnnotationsError: the file cannot be read, is no JSON, or is cut off.
    """
    return _stream(url, "kvitems", prefix)


def events(url: str) -> Iterator[tuple[str, str, Any]]:
    """ijson's events: prefix, event, value.

    Raises:
        AnnotationsError: the file cannot be read, is no JSON, or is cut off.
    """
    return _stream(url, "parse")


def _stream(url: str, method: str, *args: str) -> Iterator[Any]:
    with opened(url) as file:
        head = file.read(4)
        check_text(url, head)
        if head.startswith(UTF16_MARKS):
            raise AnnotationsError(f"{url}: UTF-16, expected UTF-8; save it as UTF-8")
        file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        try:
            yield from getattr(ijson, method)(file, *args, use_float=True)
        except ijson.JSONError as error:
            raise AnnotationsError(f"{url}: not JSON, or cut off ({_reason(error)})") from error


def _reason(error: ijson.JSONError) -> str:
    """One line: what is wrong and what stands there; download again where that is the end."""
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    reason, *context = filter(None, map(str.strip, text.strip().splitlines()))
    if "EOF" in reason:
        return f"{reason}; download it again"
    return f"{reason} at {quote(context[0])}" if context else reason
