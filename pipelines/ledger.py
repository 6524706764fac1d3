"""What an output folder holds already: the ground for resuming and for the summary.

The data set is its own checkpoint. A clip counts as done when its row stands in a finished file of
`clips`, `filtered` or `errors`; there is no second record of progress that could disagree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from pipelines.dataset import read_columns, write_table
from pipelines.records import OUTCOMES, SCHEMA_VERSION, one_line
from pipelines.settings import PreprocessSettings
from pipelines.storage import exists, join, read_bytes, remove, write_bytes

SETTINGS_FILE = "settings.json"


class OutputError(ValueError):
    """The output cannot be used as asked; the message is one line."""


@dataclass(frozen=True)
class Ledger:
    """The clips that are accounted for.

    Attributes:
        folder_of: clip id -> folder its row stands in.
    """

    folder_of: dict[str, str]

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self.folder_of

    def count(self) -> dict[str, int]:
        """Clips in each folder."""
        counts = Counter(self.folder_of.values())
        return {folder: counts[folder] for folder in OUTCOMES}


def read_ledger(output: str) -> Ledger:
    """Read the clip ids of every finished file."""
    folder_of: dict[str, str] = {}
    for folder in OUTCOMES:
        for clip_id in read_columns(join(output, folder), ["clip_id"])["clip_id"].to_pylist():
            folder_of[clip_id] = folder
    return Ledger(folder_of)


def is_finished(output: str, ledger: Ledger) -> bool:
    """Whether the summary, which is written last, tells of just these clips."""
    url = join(output, "summary.json")
    return exists(url) and json.loads(read_bytes(url))["clips_in"] == len(ledger.folder_of)


def claim(output: str, settings: PreprocessSettings) -> None:
    """Make the output ready to be written with these settings.

    Raises:
        OutputError: if it cannot be written, or was begun with settings that make other rows.
    """
    wanted = {"schema_version": SCHEMA_VERSION, **settings.row_settings()}
    marker = join(output, SETTINGS_FILE)
    try:
        if settings.overwrite:
            for name in [*OUTCOMES, SETTINGS_FILE, "summary.json", "prior.npy", "report.html"]:
                remove(join(output, name))
        if exists(marker):
            begun = json.loads(read_bytes(marker))
        else:
            begun = wanted
            write_bytes(marker, json.dumps(wanted, indent=2).encode())
    except Exception as error:
        raise OutputError(f"output: {output} cannot be written: {one_line(error)}") from error
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise OutputError(
                f"{name}: {output} was begun with {begun.get(name)} and this run has {value}; "
                "choose another --output, or --overwrite to start it afresh"
            )


def forget_failed(output: str, keep: Iterable[str] = ("annotations",)) -> dict[str, int]:
    """Take the failed clips out of `errors`, so that they are tried again.

    Args:
        keep: stages whose rows stay: no clip stands behind a malformed annotation row.

    Returns:
        clip id -> attempts so far.
    """
    folder = join(output, "errors")
    rows = read_columns(folder, OUTCOMES["errors"].names).to_pylist()
    kept = [row for row in rows if row["stage"] in set(keep)]
    remove(folder)
    if kept:
        write_table(pa.Table.from_pylist(kept, schema=OUTCOMES["errors"]), folder)
    return {row["clip_id"]: row["attempts"] for row in rows if row not in kept}
