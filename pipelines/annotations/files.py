"""Annotation files behind fsspec URLs; whatever a storage raises becomes an `AnnotationsError`."""

from __future__ import annotations

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


def text_lines(url: str) -> list[str]:
    """The lines of a UTF-8 file with their endings; bytes that are not UTF-8 become U+FFFD."""
    text = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with reporting(url), fsspec.open(url, "rt", compression="infer", **text) as file:
        return list(file)


def is_file(url: str) -> bool:
    with reporting(url):
        fs, path = url_to_fs(url)
        return bool(fs.isfile(path))


def parent(url: str) -> str:
    fs, path = url_to_fs(url)
    return str(fs.unstrip_protocol(fs._parent(path)))


def base_name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
