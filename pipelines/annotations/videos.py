"""One listing of the folder with the videos: which are there, and by what URL."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from fsspec.core import url_to_fs

from pipelines.annotations import AnnotationsError
from pipelines.annotations.files import reporting
from pipelines.storage import join

EXTENSIONS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".ts"})


@dataclass(frozen=True)
class VideoListing:
    """The videos below a folder.

    Attributes:
        root: fsspec URL of the folder, with its protocol.
        paths: of each video, relative to the root, sorted.
    """

    root: str
    paths: list[str]

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
        for path in sorted(self.paths, key=lambda path: (path.count("/"), path)):
            index[posixpath.splitext(posixpath.basename(path))[0]].append(path)
        return dict(index)


def list_videos(root: str) -> VideoListing:
    """List the videos below a folder, at any depth; hidden files and folders are passed over.

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
        found = fs.find(path)
        if not found and not fs.exists(path):
            raise AnnotationsError(f"{root}: no such folder")
        relative = [name[len(path) :].lstrip("/") for name in found]
        return VideoListing(fs.unstrip_protocol(path), sorted(filter(_is_video, relative)))


def _is_video(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and posixpath.splitext(path)[1].lower() in EXTENSIONS
