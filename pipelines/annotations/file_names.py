"""What a video's file name says of the action in it."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\s_.+~-]+")
_COUNTER = re.compile(r"(\D{3,}?|)[#(\[]?[0-9]+[)\]]?")
_WORD = re.compile(r"\D+\d*")
_LETTERS = re.compile(r"[^\W\d_]+")
_HASH = re.compile(r"(?=.*[0-9])[0-9a-f]{8,}", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

NO_ACTION = frozenset(
    # of cameras
    ["cimg", "dji", "dsc", "dscf", "dscn", "gopr", "gopro", "imag", "img", "insta", "mah", "mov"]
    + ["mvi", "pano", "pxl", "sam", "vid"]
    # of programs and people
    + ["cam", "camera", "clip", "clips", "copy", "edited", "movie", "rec", "recording", "screen"]
    + ["untitled", "video", "videos", "whatsapp"]
)
"""Parts of names that a file gets whatever it shows."""


def words(stem: str) -> str:
    """A file name without its extension as a narration, empty where it says nothing.

    The name is taken whole, with spaces for underscores, dashes and dots, and without the numbers
    at its end, which count the takes: `open_drawer-02` and `open drawer (2)` are `open drawer`.
    It says nothing where none of its parts is a word: GoPro's `GH010123`, `IMG_1234`,
    `VID_20240101_123456`, EPIC-KITCHENS's `P01_101`, dates, numbers, hashes and UUIDs. A word is
    three or more Latin letters, or any of another script, perhaps with a number after them.
    """
    spaced = _SEPARATORS.sub(" ", stem).strip()
    if _UUID.fullmatch(stem) or not any(map(_is_word, spaced.split())):
        return ""
    parts = spaced.split()
    while counter := _COUNTER.fullmatch(parts[-1]):
        parts[-1:] = filter(None, [counter[1]])
    return " ".join(parts)


def _is_word(part: str) -> bool:
    if _HASH.fullmatch(part) or not _WORD.fullmatch(part):
        return False
    return any(
        (len(letters) > 2 or not letters.isascii()) and letters.casefold() not in NO_ACTION
        for letters in _LETTERS.findall(part)
    )
