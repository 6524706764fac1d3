"""The pictures and clips of the jobs, in a folder each."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipelines.storage import exists, join, make_private, read_bytes, remove, write_bytes

SCENE, DRAWN = "scene.png", "drawn.png"
"""What a job starts from: the picture at the clip's size, and the user's own motion area."""

JOB = "video_"
"""What a job's id begins with, and so its folder's name."""

VARIANTS = {
    "video": ("video.mp4", "video/mp4"),
    "gif": ("clip.gif", "image/gif"),
    "mask": ("mask.png", "image/png"),
    "keypoints": ("keypoints.json", "application/json"),
    "input": (SCENE, "image/png"),
}
"""What a user can have of a job: name and media type."""


@dataclass(frozen=True)
class JobFiles:
    """On a local disk all of them are readable by their owner alone.

    Args:
        root: URL of the folder of all jobs.
    """

    root: str

    def keep_private(self) -> None:
        """Also what jobs left there before; the folder may hold other things, which stay."""
        fs, root = url_to_fs(self.root)
        if isinstance(fs, LocalFileSystem):
            with suppress(FileNotFoundError), os.scandir(root) as found:
                for entry in found:
                    if entry.name.startswith(JOB) and entry.is_dir(follow_symlinks=False):
                        # Nobody reaches what is in a folder that he may not enter.
                        make_private(entry.path)

    def read(self, job_id: str, name: str) -> bytes:
        return read_bytes(join(self.root, job_id, name))

    def write(self, job_id: str, name: str, data: bytes) -> None:
        write_bytes(join(self.root, job_id, name), data, private=True)

    def has(self, job_id: str, name: str) -> bool:
        return exists(join(self.root, job_id, name))

    def remove(self, job_id: str) -> None:
        """Remove all files of a job; nothing happens where there are none."""
        remove(join(self.root, job_id))
