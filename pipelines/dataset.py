"""The Parquet folders of an output: write a file, read columns of all rows, read whole rows."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from handi_model.damage import DamagedFile
from pipelines.clip_content import CONTENT, with_content
from pipelines.parquet_rows import open_parquet, rows_and_places
from pipelines.records import OUTCOMES
from pipelines.storage import find, join, write_bytes

ROWS_PER_GROUP = 1
"""Rows of a Parquet row group: training reads clips alone, in random order."""
ANEW = "run jobs/preprocess.py again with the same --output: it does that file's clips anew"


def write_table(table: pa.Table, folder: str) -> None:
    """Write rows as one Parquet file that is named after their clip ids.

    Rows of clips get the key of their content.
    """
    if CONTENT in table.column_names:
        table = with_content(table)
    names = "\n".join(table["clip_id"].to_pylist())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd")
    name = hashlib.sha256(names.encode()).hexdigest()[:16] + ".parquet"
    write_bytes(join(folder, name), sink.getvalue().to_pybytes())


def read_columns(folder: str, columns: list[str]) -> pa.Table:
    """Some columns of all rows below a folder of the output, sorted by clip id.

    Raises:
        DamagedFile: if a file is cut short or no Parquet.
    """
    table, damaged = read_whole_files(folder, columns)
    if damaged:
        raise damaged[0]
    return table


def read_whole_files(folder: str, columns: list[str]) -> tuple[pa.Table, list[DamagedFile]]:
    """The same of the files that can be read, and what is wrong with the others."""
    schema = OUTCOMES[folder.rstrip("/").rsplit("/", 1)[-1]]
    empty = schema.empty_table().select(columns)

    def read(url: str) -> pa.Table | DamagedFile:
        try:
            with open_parquet(url) as file:
                return file.read(columns)
        except DamagedFile as error:
            return DamagedFile(url, error.why, ANEW)

    with ThreadPoolExecutor(16) as readers:
        results = list(readers.map(read, find(folder, ".parquet")))
    damaged = [one for one in results if isinstance(one, DamagedFile)]
    table = pa.concat_tables([empty, *(one for one in results if isinstance(one, pa.Table))])
    return table.sort_by("clip_id") if "clip_id" in columns else table, damaged


def read_rows(output: str, clip_ids: list[str]) -> list[dict[str, Any]]:
    """Read rows of `clips`, in the order asked for. Ids that are not there are left out."""
    wanted = set(clip_ids)
    found: dict[str, dict[str, Any]] = {}
    for url in find(join(output, "clips"), ".parquet"):
        with open_parquet(url) as file:
            for said, place in rows_and_places(url, file, ["clip_id"]):
                if said["clip_id"] in wanted:
                    group = file.read_row_group(place.row_group)
                    (found[said["clip_id"]],) = group.slice(place.row, 1).to_pylist()
        if len(found) == len(wanted):
            break
    return [found[clip_id] for clip_id in clip_ids if clip_id in found]
