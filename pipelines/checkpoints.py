"""Checkpoints of a training below a URL: written beside the work, complete or absent.

Ray Train's own checkpoints are not used: they fail a worker when the storage is away for a moment,
and keep the last ones or the best ones, not both.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from handi_model.damage import DamagedFile, parse_json
from pipelines.notices import notice
from pipelines.patience import patient
from pipelines.storage import absolute, join, put_folder, read_bytes, remove, sizes, write_bytes

COMPLETE_FILE = "complete.json"
"""Written last, with every other file's size: a checkpoint without it does not exist."""
FOLDER = re.compile(r"step-(\d{8,})")


def checkpoint_steps(folder: str) -> dict[int, dict[str, Any]]:
    """Step -> what `complete.json` says, of the complete checkpoints, in order."""
    return _read_steps(folder)[0]


def _read_steps(folder: str) -> tuple[dict[int, dict[str, Any]], list[DamagedFile]]:
    """The same, and what is wrong with those that were complete once."""
    files = sizes(folder)
    found, damaged = {}, []
    for url in files:
        if not url.endswith(f"/{COMPLETE_FILE}"):
            continue
        try:
            said = _read_complete(url, files)
        except DamagedFile as error:
            damaged.append(error)
        except FileNotFoundError:
            continue  # removed meanwhile
        else:
            found[said["step"]] = said
    return dict(sorted(found.items())), damaged


def _read_complete(url: str, files: dict[str, int]) -> dict[str, Any]:
    """What a `complete.json` says.

    Args:
        files: what there is, and of how many bytes.

    Raises:
        DamagedFile: if it, or a file that it lists, is not whole.
    """
    said = parse_json(url, read_bytes(url), remedy="")
    if not isinstance(said, dict) or not isinstance(said.get("step"), int):
        raise DamagedFile(url, "it names no step", remedy="")
    # Without a list: a checkpoint of an earlier version.
    for name, size in said.get("files", {}).items():
        file = join(url.removesuffix(f"/{COMPLETE_FILE}"), name)
        if file not in files:
            raise DamagedFile(file, "it is gone", remedy="")
        if files[file] != size:
            raise DamagedFile(file, f"it holds {files[file]} bytes of {size}", remedy="")
    return {**said, "score": _finite(said.get("score"))}


def _finite(score: Any) -> float | None:
    """A score that can be compared, or None."""
    known = isinstance(score, int | float) and math.isfinite(score)
    return score if known else None


def checkpoint_url(folder: str, step: int) -> str:
    return join(folder, f"step-{step:08d}")


def latest_checkpoint(folder: str) -> str | None:
    """URL of the newest complete checkpoint; those that are damaged are named and passed over."""
    steps, damaged = patient(_read_steps)(folder)
    chosen = checkpoint_url(folder, max(steps)) if steps else None
    for error in damaged:
        notice(f"checkpoint: {error}; going on from {chosen or 'the beginning'}")
    return chosen


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
            patient(_put)(Path(scratch), url, {"step": step, "score": _finite(score)})
        patient(prune)(self.folder, self.keep_last)


def _put(local: Path, url: str, said: dict[str, Any]) -> None:
    complete, files = join(absolute(url), COMPLETE_FILE), sizes(url)
    if complete in files:
        try:
            known = _read_complete(complete, files)
            if said["score"] not in (None, known["score"]):
                write_bytes(complete, json.dumps({**known, **said}).encode())
            return  # the same step again, after a failure: its files are these
        except DamagedFile:
            remove(url)
    put_folder(local, url)
    listed = {
        path.relative_to(local).as_posix(): path.stat().st_size
        for path in sorted(local.rglob("*"))
        if path.is_file()
    }
    write_bytes(complete, json.dumps({**said, "files": listed}).encode())


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
    for url in {file.rsplit("/", 1)[0] for file in sizes(folder)}:
        name = FOLDER.fullmatch(url.rsplit("/", 1)[-1])
        if name and int(name[1]) < newest and int(name[1]) not in steps:
            remove(url)
