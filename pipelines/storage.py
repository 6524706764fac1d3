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
from fsspec.implementations.memory import MemoryFileSystem

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
        ValueError: if it is empty, no storage is known for the protocol, its library is not
            installed, or an object store's URL names no bucket.
    """
    if not url.strip():
        raise ValueError("an empty URL; give a folder")
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise ValueError(str(error)) from None
    if not path and not isinstance(fs, MemoryFileSystem):
        raise ValueError(f"{url} names no bucket; give one and a folder in it")
    return str(fs.unstrip_protocol(path))


def writable(url: str, private: bool = False) -> str:
    """The absolute URL of a folder, made where it is missing.

    Args:
        private: a local folder that is made is its owner's alone.

    Raises:
        ValueError: if nothing can be written there, in one line.
    """
    try:
        folder = absolute(url)
        probe = join(folder, f".{uuid.uuid4().hex}")
        write_bytes(probe, b"", private)
        fs, path = url_to_fs(probe)
        fs.rm(path)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(
            f"output: {url} cannot be written: it, or what it lies in, is a file"
        ) from None
    except Exception as error:  # each storage has its own
        raise ValueError(f"output: {url} cannot be written: {one_line(error)}") from None
    return folder


def write_bytes(url: str, data: bytes, private: bool = False) -> None:
    """Write a file so that a reader sees all of it or none.

    Object stores show an object only when its upload is complete. On a local disk the bytes go to
    a hidden file beside the target, which takes its name once it is on the disk.

    Args:
        private: on a local disk the file, and the folder where it is made for it, are for their
            owner alone, whatever the umask.
    """
    fs, path = url_to_fs(url)
    if isinstance(fs, LocalFileSystem):
        folder = os.path.dirname(path)
        os.makedirs(folder, 0o700 if private else 0o777, exist_ok=True)
        # Not made from the target's name, which may be as long as names can be.
        partial = os.path.join(folder, f".{uuid.uuid4().hex}")
        try:
            mode = 0o600 if private else 0o666
            with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(partial)
            raise
    else:
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, data)


def make_private(path: str) -> None:
    """Take a local file, or a folder, from everybody but its owner; one that is not there stays so.

    Somebody else's stays as it is, too: whoever owns it decides.
    """
    with suppress(FileNotFoundError, PermissionError):
        os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)


def read_bytes(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        return file.read()


def read_range(url: str, first: int, last: int) -> bytes:
    """The bytes of a file from one offset up to another."""
    fs, path = url_to_fs(url)
    data: bytes = fs.cat_file(path, start=first, end=last)
    return data


def find(folder: str, suffix: str) -> list[str]:
    """URLs of the finished files below a folder, sorted; empty if there is no such folder.

    Raises:
        OSError: if the folder, or one in it, cannot be listed.
    """
    return sorted(url for url in sizes(folder) if url.endswith(suffix))


def sizes(folder: str) -> dict[str, int]:
    """URL of each finished file below a folder -> its bytes; empty if there is no such folder.

    Raises:
        OSError: if the folder, or one in it, cannot be listed.
    """
    fs, path = url_to_fs(folder)
    if isinstance(fs, LocalFileSystem):
        files = _local_sizes(path)
    else:
        fs.invalidate_cache()
        try:
            files = {name: info["size"] for name, info in fs.find(path, detail=True).items()}
        except FileNotFoundError:
            files = {}
    return {
        fs.unstrip_protocol(name): int(size or 0)
        for name, size in files.items()
        if not name.rsplit("/", 1)[-1].startswith(".")
    }


def _local_sizes(path: str) -> dict[str, int]:
    """fsspec would take a folder that cannot be listed for an empty one."""

    def unless_gone(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    found = {}
    for folder, _, names in os.walk(path, onerror=unless_gone):
        for name in names:
            file = os.path.join(folder, name)
            with suppress(FileNotFoundError):  # removed meanwhile, or a link to nothing
                found[file] = os.path.getsize(file)
    return found


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
    while fs.exists(path):
        # Another process may be faster with one of the files, which ends this removal: of the rest
        # it may know nothing.
        with suppress(FileNotFoundError):
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
