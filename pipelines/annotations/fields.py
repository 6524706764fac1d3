"""The types of annotation fields: what is taken, and what a person reads where it is not."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

_CLOCK = re.compile(
    r"(?:(?P<hours>[0-9]{1,3}):(?=[0-5][0-9]:))?"
    r"(?P<minutes>[0-9]{1,3}):(?P<seconds>[0-5][0-9](?:[.,][0-9]+)?)"
)
_DECIMAL_COMMA = re.compile(r"(-?[0-9]+),([0-9]+)")


def timestamp(text: str) -> float:
    """Seconds of a timestamp in HH:MM:SS.sss, as in `00:05:27.28`.

    Raises:
        ValueError: it is not in that form.
    """
    match = _CLOCK.fullmatch(text.strip())
    if not match or not match["hours"]:
        raise ValueError("expected HH:MM:SS.sss")
    return _clock_seconds(match)


def seconds(value: Any) -> float:
    """Seconds of a number, of its text, or of a timestamp in MM:SS or HH:MM:SS.sss.

    A decimal comma counts as a point, except before three digits: `1,500` may be 1500.

    Raises:
        ValueError: it is none of these.
    """
    expected = "expected seconds such as 12.5, or MM:SS or HH:MM:SS.sss"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(expected)
    if isinstance(value, str):
        value = value.strip()
        if match := _CLOCK.fullmatch(value):
            return _clock_seconds(match)
        if match := _DECIMAL_COMMA.fullmatch(value):
            if len(match[2]) == 3:
                raise ValueError(f"{expected}; write a point in place of the comma")
            value = f"{match[1]}.{match[2]}"
        if "_" in value:
            raise ValueError(expected)
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(expected) from error


def plain(text: str) -> str:
    """A text on one line: a space for each run of spaces and line breaks, no control characters."""
    line = " ".join(text.split())
    return "".join(char for char in line if unicodedata.category(char) != "Cc")


def _clock_seconds(match: re.Match[str]) -> float:
    hours, minutes = int(match["hours"] or 0), int(match["minutes"])
    return hours * 3600 + minutes * 60 + float(match["seconds"].replace(",", "."))


def _words(text: str) -> str:
    words = plain(text)
    if not words:
        raise ValueError("expected words")
    return words


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected a name")
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("expected a name without line breaks and control characters")
    return text


# The constraint refuses lone surrogates too, which no file can hold.
_Stripped = Annotated[str, StringConstraints(strip_whitespace=True)]
Words = Annotated[_Stripped, AfterValidator(_words)]
"""Text for a person, on one line."""
Name = Annotated[_Stripped, AfterValidator(_name)]
"""An id or a path, without the spaces around it."""
ClassNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""As wide as its column."""
Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
Timestamp = Annotated[float, BeforeValidator(timestamp)]
