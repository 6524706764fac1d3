"""The pictures and clips of the jobs, in a folder each."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.storage import exists, join, read_bytes, remove, write_bytes

SCENE, DRAWN = "scene.png", "drawn.png"
"""What a job starts from: the picture at the clip's size, and the user's own motion area."""

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
    """Args:
    root: URL of the folder of all jobs.
    """

    root: str

    def read(self, job_id: str, name: str) -> bytes:
        return read_bytes(join(self.root, job_id, name))

    def write(self, job_id: str, name: str, data: bytes) -> None:
        write_bytes(join(self.root, job_id, name), data)

    def has(self, job_id: str, name: str) -> bool:
        return exists(join(self.root, job_id, name))

    def remove(self, job_id: str) -> None:
        """Remove all files of a job; nothing happens where there are none."""
        remove(join(self.root, job_id))
