"""One listing of the folder with the videos: which are there, and by what URL."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import reporting
from pipelines.storage import join

EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".flv", ".wmv"}
    | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"}  # MPEG transport and program streams
)


@dataclass(frozen=True)
class VideoListing:
    """The videos below a folder.

    Attributes:
        root: fsspec URL of the folder, with its protocol.
        paths: of each video, relative to the root, sorted.
        links: further paths, by symbolic links, of videos that `paths` has.
    """

    root: str
    paths: list[str]
    links: tuple[str, ...] = ()

    def uri(self, path: str) -> str:
        return join(self.root, path)

    def locate(self, video_id: str, official: str, default: str | None = None) -> str:
        """The URL of a video that is named by its id, whatever its folder and extension.

        Of several, the one at the `official` path (at any depth) is taken, else the one nearest
        to the root. One that is not there gets the URL it should have had, so that decoding can
        report it.

        Args:
            official: the path in the data set's own download layout.
            default: the path to report for a missing video; `official` if None.
        """
        found = self._by_id.get(video_id, [])
        standing = [path for path in found if f"/{path}".endswith(f"/{official}")]
        return self.uri((standing or found or [default or official])[0])

    @cached_property
    def _by_id(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = defaultdict(list)
        for path in sorted((*self.paths, *self.links), key=lambda path: (path.count("/"), path)):
            index[posixpath.splitext(posixpath.basename(path))[0]].append(path)
        return dict(index)


def list_videos(root: str) -> VideoListing:
    """List the videos below a folder, at any depth; hidden files and folders are passed over.

    On a local disk symbolic links to files and folders are followed, also out of the folder; what
    is there under several names is listed once, by its own name if that is in the folder.

    Args:
        root: fsspec URL of a folder, or of one video.

    Raises:
        AnnotationsError: there is no such folder, or it cannot be read.
    """
    with reporting(root):
        fs, path = url_to_fs(root)
        fs.invalidate_cache()
        path = path.rstrip("/") or path
        if fs.isfile(path):
            folder, _, name = path.rpartition("/")
            return VideoListing(fs.unstrip_protocol(folder), [name])
        found = list(_below(path)) if isinstance(fs, LocalFileSystem) else fs.find(path)
        if not found and not fs.exists(path):
            raise AnnotationsError(f"{root}: no such folder")
        videos = [name for name in found if _is_video(name[len(path) :].lstrip("/"))]
        if isinstance(fs, LocalFileSystem):
            # The first name of a file stands: `_below` gives links last.
            files = {os.path.realpath(name): name for name in reversed(videos)}
        else:
            files = {name: name for name in videos}
        relative = {name: name[len(path) :].lstrip("/") for name in videos}
        paths = sorted(relative[name] for name in files.values())
        links = sorted(set(relative.values()) - set(paths))
        return VideoListing(fs.unstrip_protocol(path), paths, tuple(links))


def _below(folder: str) -> Iterator[str]:
    """Files below a local folder, those that are reached by symbolic links last.

    Each folder is entered once, so that links in a circle end. A link to nothing is a file that
    is missing; pipes and devices are passed over.
    """
    folders, linked_folders, linked_files = deque([folder]), deque[str](), list[str]()
    entered = set[str]()
    while folders or linked_folders:
        by_link = not folders
        here = (folders or linked_folders).popleft()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            if here == folder and not isinstance(error, FileNotFoundError):
                raise
            continue
        for entry in entries:
            if entry.is_dir():
                (linked_folders if by_link or entry.is_symlink() else folders).append(entry.path)
            elif by_link or entry.is_symlink():
                if entry.is_file() or not os.path.exists(entry.path):
                    linked_files.append(entry.path)
            elif entry.is_file():
                yield entry.path
    yield from linked_files


def _is_video(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and posixpath.splitext(path)[1].lower() in EXTENSIONS
