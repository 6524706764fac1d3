"""Files that are there and cannot be used: told by name, and apart from those that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

AGAIN = "copy or download it again"
LONGEST_HEADER = 100_000_000
"""Bytes that safetensors allows a header."""


class DamagedFile(ValueError):
    """A file is cut short or holds something else; the message is one line that names it.

    Attributes:
        url: of the file.
        why: what is wrong with it.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, url: str, why: str, remedy: str = AGAIN) -> None:
        super().__init__(url, why, remedy)
        self.url = url
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.url} is damaged: {self.why}" + (f"; {self.remedy}" if self.remedy else "")


def parse_json(url: str, data: bytes, remedy: str = AGAIN) -> Any:
    """What the bytes of a JSON file say.

    Raises:
        DamagedFile: if they are none.
    """
    try:
        return json.loads(data)
    except ValueError as error:
        why = f"it holds no JSON ({error})" if data.strip() else "it is empty"
        raise DamagedFile(url, why, remedy) from None


def check_safetensors(url: str, size: int, read: Callable[[int, int], bytes]) -> None:
    """See that a safetensors file is whole, by its header and its size.

    Args:
        url: names it.
        size: of the file, bytes.
        read: gives the bytes from one offset up to another.

    Raises:
        DamagedFile: if it is not.
    """
    if not size:
        raise DamagedFile(url, "it is empty")
    # https://huggingface.co/docs/safetensors: a length, as much JSON, and the tensors' bytes.
    header = int.from_bytes(read(0, min(8, size)), "little")
    if size < 8 or header > LONGEST_HEADER:
        raise DamagedFile(url, "it is no safetensors file")
    if 8 + header > size:
        raise DamagedFile(url, f"it is cut short, at {size} bytes")
    try:
        tensors = json.loads(read(8, 8 + header))
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name[:2] != "__"]
        whole = 8 + header + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise DamagedFile(url, "its header cannot be read") from None
    if size != whole:
        raise DamagedFile(url, f"it holds {size} bytes of {whole}")


def check_local_safetensors(path: Path) -> None:
    """The same of a local file.

    Raises:
        DamagedFile: if it is not whole.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:

        def read(first: int, last: int) -> bytes:
            file.seek(first)
            return file.read(last - first)

        check_safetensors(str(path), path.stat().st_size, read)
