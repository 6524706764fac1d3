"""Files behind fsspec URLs: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipelines.records import one_line

STATE = ("size", "mtime", "ETag", "etag", "LastModified", "md5Hash", "updated")
"""What storages say of a file by which a changed one is told."""


def join(url: str, *parts: str) -> str:
    """A URL below another one; the slashes of a bare protocol (`memory://`) stay."""
    folder = url if url.endswith("/") else f"{url}/"
    return folder + "/".join(parts)


def absolute(url: str) -> str:
    """The URL with its protocol, and a local path made absolute: the same on every worker.

    Raises:
        ValueError: if no storage is known for the protocol, or its library is not installed.
    """
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise ValueError(str(error)) from None
    return str(fs.unstrip_protocol(path))


def writable(url: str) -> str:
    """The absolute URL of a folder, made where it is missing.

    Raises:
        ValueError: if nothing can be written there, in one line.
    """
    try:
        folder = absolute(url)
        probe = join(folder, f".{uuid.uuid4().hex}")
        write_bytes(probe, b"")
        fs, path = url_to_fs(probe)
        fs.rm(path)
    except Exception as error:  # each storage has its own
        raise ValueError(f"output: {url} cannot be written: {one_line(error)}") from None
    return folder


def write_bytes(url: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none.

    Object stores show an object only when its upload is complete. On a local disk the bytes go to
    a hidden file beside the target, which takes its name once it is on the disk.
    """
    fs, path = url_to_fs(url)
    fs.makedirs(fs._parent(path), exist_ok=True)
    if isinstance(fs, LocalFileSystem):
        folder, name = os.path.split(path)
        partial = os.path.join(folder, f".{name}.{uuid.uuid4().hex}")
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(partial)
            raise
    else:
        fs.pipe_file(path, data)


def read_bytes(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        return file.read()


def find(folder: str, suffix: str) -> list[str]:
    """URLs of the finished files below a folder, sorted; empty if there is no such folder."""
    fs, path = url_to_fs(folder)
    fs.invalidate_cache()
    try:
        names = fs.find(path)
    except FileNotFoundError:
        return []
    return sorted(
        fs.unstrip_protocol(name)
        for name in names
        if name.endswith(suffix) and not name.rsplit("/", 1)[-1].startswith(".")
    )


def folder_state(folder: str) -> str:
    """Hexadecimal digits that change when a file of a folder does."""
    fs, path = url_to_fs(folder)
    fs.invalidate_cache()
    files: dict[str, dict[str, object]] = fs.find(path, detail=True)
    said = [
        f"{name.removeprefix(path)} {[str(info.get(key)) for key in STATE]}"
        for name, info in sorted(files.items())
    ]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def exists(url: str) -> bool:
    fs, path = url_to_fs(url)
    return bool(fs.exists(path))


def remove(url: str) -> None:
    """Delete a file or a folder with all it holds; nothing happens where there is none."""
    fs, path = url_to_fs(url)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def fetch_folder(url: str, scratch: Path) -> Path:
    """A local folder with what lies below a URL: the folder itself, or a copy in `scratch`."""
    fs, path = url_to_fs(url)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    fs.get(path, str(scratch / "copy"), recursive=True)
    return scratch / "copy"


def put_folder(folder: Path, url: str) -> None:
    """Copy what lies in a local folder to below a URL."""
    fs, path = url_to_fs(url)
    fs.makedirs(path, exist_ok=True)
    fs.put(f"{folder}/", f"{path}/", recursive=True)
