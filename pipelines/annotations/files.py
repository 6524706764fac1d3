"""Annotation files behind fsspec URLs; whatever a storage raises becomes an `AnnotationsError`."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from pipelines.annotations import AnnotationsError
from pipelines.records import one_line


@contextmanager
def reporting(url: str) -> Iterator[None]:
    """Turn an error of the storage into one line that names the URL.

    Each storage has error classes of its own (botocore's are no OSError), so all are caught.
    """
    try:
        yield
    except AnnotationsError:
        raise
    except FileNotFoundError as error:
        raise AnnotationsError(f"{url}: no such file or folder") from error
    except Exception as error:
        reason = one_line(error)
        raise AnnotationsError(f"{url}: cannot be read ({reason})") from error


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """The file as a binary stream, decompressed where its name ends in .gz or the like."""
    with reporting(url), fsspec.open(url, "rb", compression="infer") as file:
        yield file


NOT_TEXT = {
    b"PK\x03\x04": "an Excel workbook or another ZIP file; save it as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV in UTF-8",
    b"\x1f\x8b": "compressed by gzip; end its name in .gz",
    b"PAR1": "a Parquet file; save it as CSV or JSONL",
}
"""First bytes of what is taken for a table at times, and what to do about it."""

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_lines(url: str) -> list[str]:
    """The lines of a text file with their endings.

    UTF-16 is known by its byte order mark; all else is UTF-8, with or without one. Bytes that do
    not belong there become U+FFFD.

    Raises:
        AnnotationsError: it cannot be read, or is no text.
    """
    with opened(url) as file:
        data = file.read()
    check_text(url, data)
    encoding = "utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig"
    return list(io.StringIO(data.decode(encoding, errors="replace"), newline=""))


def check_text(url: str, head: bytes) -> None:
    """Look at the first bytes of a file, four or more.

    Raises:
        AnnotationsError: they are of no text in UTF-8, or in UTF-16 with a byte order mark.
    """
    for magic, hint in NOT_TEXT.items():
        if head.startswith(magic):
            raise AnnotationsError(f"{url}: {hint}")
    if b"\0" in head[:2]:
        raise AnnotationsError(
            f"{url}: not text, or UTF-16 without a byte order mark; save it as UTF-8"
        )


def is_file(url: str) -> bool:
    with reporting(url):
        fs, path = url_to_fs(url)
        return bool(fs.isfile(path))


def parent(url: str) -> str:
    fs, path = url_to_fs(url)
    return str(fs.unstrip_protocol(fs._parent(path)))


def base_name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
