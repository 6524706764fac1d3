"""Ego4D's narrations as instructions: "#C C picks up the cup" -> "picks up the cup"."""

from __future__ import annotations

import re

from pipelines.annotations.fields import plain

_OTHER_PERSON = re.compile(r"\s*#\s*o\b", re.IGNORECASE)
_TAG = re.compile(r"\s*#\s*(?:c\s*c\b|c\b|unsure\b(?:\s+c\b)?)[\s.,:]*", re.IGNORECASE)
_UNSURE = re.compile(r"#\s*unsure\b", re.IGNORECASE)


def is_of_other_person(text: str) -> bool:
    """Whether another person than the camera wearer acts: these narrations begin with #O."""
    return bool(_OTHER_PERSON.match(text))


def instruction(text: str) -> str:
    """A narration without the tag of who acts; an unsure object becomes "something"."""
    tag = _TAG.match(text)
    words = _UNSURE.sub("something", text[tag.end() :] if tag else text)
    return plain(words)
