"""Checkpoints of a training below a URL: written beside the work, complete or absent.

Ray Train's own checkpoints are not used: they fail a worker when the storage is away for a moment,
and keep the last ones or the best ones, not both.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.patience import patient
from pipelines.storage import exists, find, join, put_folder, read_bytes, remove, write_bytes

COMPLETE_FILE = "complete.json"
"""Written last: a checkpoint without it does not exist."""


def checkpoint_steps(folder: str) -> dict[int, dict[str, Any]]:
    """Step -> what `complete.json` says, of the complete checkpoints, in order."""
    found = {}
    for url in find(folder, f"/{COMPLETE_FILE}"):
        said = json.loads(read_bytes(url))
        found[int(said["step"])] = said
    return dict(sorted(found.items()))


def checkpoint_url(folder: str, step: int) -> str:
    return join(folder, f"step-{step:08d}")


def latest_checkpoint(folder: str) -> str | None:
    """URL of the newest complete checkpoint."""
    steps = patient(checkpoint_steps)(folder)
    return checkpoint_url(folder, max(steps)) if steps else None


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread, and removes those that are not to be kept.

    Args:
        folder: URL.
        keep_last: newest checkpoints kept; the one with the lowest score stays beside them.
    """

    def __init__(self, folder: str, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, write: Callable[[Path], None], score: float | None) -> None:
        """Begin to write; waits for the checkpoint before, whose failure is raised here.

        Args:
            write: puts the files into an empty local folder.
            score: the lower the better; None where it is not known.
        """
        self.wait()
        self._pending = self._thread.submit(self._save, step, write, score)

    def wait(self) -> None:
        """Return when everything is written."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _save(self, step: int, write: Callable[[Path], None], score: float | None) -> None:
        url = checkpoint_url(self.folder, step)
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch))
            patient(_put)(Path(scratch), url, {"step": step, "score": score})
        patient(prune)(self.folder, self.keep_last)


def _put(local: Path, url: str, said: dict[str, Any]) -> None:
    if exists(join(url, COMPLETE_FILE)):
        return  # the same step again, after a failure: its files are these
    put_folder(local, url)
    write_bytes(join(url, COMPLETE_FILE), json.dumps(said).encode())


def prune(folder: str, keep_last: int) -> None:
    """Remove all but the newest checkpoints and the best one, and what was left half-written."""
    steps = checkpoint_steps(folder)
    kept = set(list(steps)[-keep_last:])
    scored = {step: said["score"] for step, said in steps.items() if said["score"] is not None}
    if scored:
        kept.add(min(scored, key=lambda step: (scored[step], step)))
    for step in set(steps) - kept:
        url = checkpoint_url(folder, step)
        remove(join(url, COMPLETE_FILE))  # first: from here on it does not exist
        remove(url)
    newest = max(steps, default=-1)
    for url in {file.rsplit("/", 1)[0] for file in find(folder, "")}:
        name = url.rsplit("/", 1)[-1]
        if name.startswith("step-") and int(name[5:]) < newest and int(name[5:]) not in steps:
            remove(url)
