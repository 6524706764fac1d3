"""JSON files of any size, one item at a time: Ego4D's hold hundreds of MB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ijson

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import opened


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
        try:
            yield from getattr(ijson, method)(file, *args, use_float=True)
        except ijson.JSONError as error:
            reason = str(error).strip().splitlines()[0]
            raise AnnotationsError(
                f"{url}: not JSON, or cut off ({reason}); download it again"
            ) from error
