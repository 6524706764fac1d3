"""Read an output folder back as an outside program would: plain pyarrow, no code of ours."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs


def rows(output: str, folder: str) -> dict[str, dict[str, Any]]:
    """Clip id -> row of every Parquet file in a folder; a clip must not stand there twice."""
    fs, path = url_to_fs(f"{output}/{folder}")
    fs.invalidate_cache()
    if not fs.exists(path):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name in fs.glob(f"{path}/*.parquet"):
        with fs.open(name, "rb") as file:
            for row in pq.read_table(file).to_pylist():
                assert row["clip_id"] not in found, f"{row['clip_id']} was written twice"
                found[row["clip_id"]] = row
    return found


def summary(output: str) -> dict[str, Any]:
    fs, path = url_to_fs(f"{output}/summary.json")
    return dict(json.loads(fs.cat_file(path)))


def check_that_it_adds_up(output: str) -> None:
    """Every clip is in exactly one folder, malformed rows apart, and the summary says the same."""
    written, filtered = (set(rows(output, name)) for name in ("clips", "filtered"))
    errors = rows(output, "errors")
    failed = {name for name, row in errors.items() if row["stage"] != "annotations"}
    assert not written & filtered and not written & failed and not filtered & failed
    said = summary(output)
    assert said["written"] == len(written)
    assert said["filtered"] == len(filtered)
    assert said["failed"] == len(failed)
    assert said["malformed_rows"] == len(errors) - len(failed)
    assert said["clips_in"] == len(written) + len(filtered) + len(failed)
