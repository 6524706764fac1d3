"""What an output folder holds already: the ground for resuming and for the summary.

The data set is its own checkpoint. A clip counts as done when its row stands in a finished file of
`clips`, `filtered` or `errors`; there is no second record of progress that could disagree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from handi_model.damage import DamagedFile
from pipelines.dataset import read_columns, read_whole_files, write_table
from pipelines.records import ANNOTATIONS, OUTCOMES, SCHEMA_VERSION, one_line
from pipelines.running.refusal import ends_job
from pipelines.settings import PreprocessSettings
from pipelines.storage import exists, join, read_bytes, remove, write_bytes

SETTINGS_FILE = "settings.json"
LATENTS = "latents"
"""Folder of what jobs/encode.py made of the clips."""
MADE_OF_ROWS = ("summary.json", "prior.npy", "report.html")
"""Files that are made of the rows when all are there."""


class OutputError(ValueError):
    """The output cannot be used as asked; the message is one line."""


@dataclass(frozen=True)
class Ledger:
    """The clips that are accounted for, and the malformed rows.

    Attributes:
        folder_of: clip id -> folder its row stands in.
        malformed: places of the annotation rows in `errors` that are no clips.
        damaged: files that cannot be read; what is in them counts as not done.
    """

    folder_of: dict[str, str]
    malformed: frozenset[str] = frozenset()
    damaged: tuple[DamagedFile, ...] = ()

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self.folder_of or clip_id in self.malformed

    def count(self) -> dict[str, int]:
        """Clips in each folder."""
        counts = Counter(self.folder_of.values())
        return {folder: counts[folder] for folder in OUTCOMES}


def read_ledger(output: str) -> Ledger:
    """Read the clip ids of every finished file."""
    folder_of: dict[str, str] = {}
    malformed: set[str] = set()
    damaged: list[DamagedFile] = []
    for folder in OUTCOMES:
        columns = ["clip_id", "stage"] if folder == "errors" else ["clip_id"]
        table, unreadable = read_whole_files(join(output, folder), columns)
        damaged += unreadable
        for row in table.to_pylist():
            if row.get("stage") == ANNOTATIONS:
                malformed.add(row["clip_id"])
            else:
                folder_of[row["clip_id"]] = folder
    return Ledger(folder_of, frozenset(malformed), tuple(damaged))


def remove_damaged(ledger: Ledger) -> None:
    """Delete the files that cannot be read, so that their clips are done again.

    Raises:
        JobError: if the storage refuses that.
    """
    for file in ledger.damaged:
        with ends_job(file.url):
            remove(file.url)


def is_finished(output: str, ledger: Ledger) -> bool:
    """Whether the summary, which is written last, tells of just these clips and malformed rows."""
    url = join(output, "summary.json")
    if ledger.damaged or not exists(url):
        return False
    try:
        summary = json.loads(read_bytes(url))
        counted = summary["clips_in"], summary.get("malformed_rows", 0)
    except (ValueError, KeyError, TypeError):  # cut short: it is made anew
        return False
    return counted == (len(ledger.folder_of), len(ledger.malformed))


def begun_settings(output: str) -> dict[str, Any] | None:
    """What decides the rows of an output that was begun before; None where there is none.

    Raises:
        OutputError: if it cannot be read.
    """
    marker = join(output, SETTINGS_FILE)
    try:
        begun: dict[str, Any] | None = json.loads(read_bytes(marker)) if exists(marker) else None
    except ValueError:
        raise OutputError(
            f"output: {marker} is damaged; --overwrite starts the output afresh"
        ) from None
    except Exception as error:  # each storage has its own
        raise OutputError(f"output: {output} cannot be read: {one_line(error)}") from error
    return begun


def check_same_rows(output: str, settings: PreprocessSettings) -> None:
    """See that these settings make the same rows as those that the output was begun with.

    Raises:
        OutputError: if they do not, or it cannot be read.
    """
    begun = begun_settings(output)
    if begun is None:
        return
    for name, value in _deciding(settings).items():
        if begun.get(name) != value:
            raise OutputError(
                f"{name}: {output} was begun with {begun.get(name)} and this run has {value}; "
                "choose another --output, or --overwrite to start it afresh"
            )


def begin(output: str, settings: PreprocessSettings) -> None:
    """Make the output ready to be written with these settings, emptied where they say so.

    To be called once all else that may fail has been seen to hold.

    Raises:
        JobError: if it cannot be written.
    """
    with ends_job(output):
        if settings.overwrite:
            # The settings last: as long as they stand there, an emptying that was cut short shows.
            for name in [*OUTCOMES, LATENTS, *MADE_OF_ROWS, SETTINGS_FILE]:
                remove(join(output, name))
        if not exists(join(output, SETTINGS_FILE)):
            data = json.dumps(_deciding(settings), indent=2).encode()
            write_bytes(join(output, SETTINGS_FILE), data)


def _deciding(settings: PreprocessSettings) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **settings.row_settings()}


def forget_failed(output: str, keep: Iterable[str] = (ANNOTATIONS,)) -> dict[str, int]:
    """Take the failed clips out of `errors`, so that they are tried again.

    Args:
        keep: stages whose rows stay: no clip stands behind a malformed annotation row.

    Returns:
        clip id -> attempts so far.

    Raises:
        JobError: if it cannot be written.
    """
    folder = join(output, "errors")
    rows = read_columns(folder, OUTCOMES["errors"].names).to_pylist()
    stays = set(keep)
    kept = [row for row in rows if row["stage"] in stays]
    with ends_job(output):
        remove(folder)
        if kept:
            write_table(pa.Table.from_pylist(kept, schema=OUTCOMES["errors"]), folder)
    return {row["clip_id"]: row["attempts"] for row in rows if row["stage"] not in stays}
