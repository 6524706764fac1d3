"""The Parquet folders of an output, and files of them that are cut short."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from handi_model.damage import DamagedFile
from pipelines.dataset import read_columns, read_rows, read_whole_files, write_table
from pipelines.parquet_rows import open_parquet, read_row
from pipelines.patience import is_away
from pipelines.records import OUTCOMES, WRITTEN
from pipelines.storage import find, read_bytes, write_bytes


def row(folder: str, clip_id: str) -> dict:
    values = dict.fromkeys(OUTCOMES[folder].names) | {"clip_id": clip_id}
    if folder == "clips":
        values["frames"] = [np.random.default_rng(0).bytes(5000)] * 2
    return values


def add(output: str, folder: str, *clip_ids: str) -> str:
    """Write a file; its URL."""
    before = set(find(f"{output}/{folder}", ".parquet"))
    table = pa.Table.from_pylist([row(folder, one) for one in clip_ids], OUTCOMES[folder])
    write_table(table, f"{output}/{folder}")
    (url,) = set(find(f"{output}/{folder}", ".parquet")) - before
    return url


def without_pages(data: bytes) -> bytes:
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return data[:4] + bytes(len(data) - 4 - footer) + data[-footer:]


DAMAGES = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[:100],
    "without its end": lambda data: data[:-1],
    "something else": lambda data: b"<html>not here</html>" * 50,
    "zeros": lambda data: bytes(len(data)),
    "pages gone": without_pages,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("folder", OUTCOMES)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, folder, damage):
    output = f"file://{tmp_path}"
    add(output, folder, "a", "b")
    url = add(output, folder, "c")
    write_bytes(url, damage(read_bytes(url)))
    table, (damaged,) = read_whole_files(f"{output}/{folder}", ["clip_id"])
    assert table["clip_id"].to_pylist() == ["a", "b"]
    assert damaged.url == url
    with pytest.raises(DamagedFile) as caught:
        read_columns(f"{output}/{folder}", ["clip_id"])
    line = str(caught.value)
    assert line.startswith(f"{url} is damaged: ") and "\n" not in line
    assert "run jobs/preprocess.py again" in line
    assert not is_away(caught.value)


def test_whole_files_are_all_read(tmp_path):
    add(str(tmp_path), "clips", "b")
    add(str(tmp_path), "clips", "a")
    table, damaged = read_whole_files(f"{tmp_path}/clips", ["clip_id"])
    assert (table["clip_id"].to_pylist(), damaged) == (["a", "b"], [])
    assert read_whole_files(f"{tmp_path}/errors", ["clip_id"])[1] == []


def test_pictures_that_cannot_be_read_are_told_by_their_file(tmp_path):
    url = add(str(tmp_path), "clips", "a")
    data = bytearray(read_bytes(url))
    with open_parquet(url) as file:
        group = file.metadata.row_group(0)
        column = next(
            group.column(i)
            for i in range(group.num_columns)
            if group.column(i).path_in_schema.startswith("frames")
        )
    first = column.dictionary_page_offset or column.data_page_offset
    data[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    write_bytes(url, bytes(data))
    for read in (
        lambda: read_rows(str(tmp_path), ["a"]),
        lambda: read_row(url, 0, 0, ["frames"]),
    ):
        with pytest.raises(DamagedFile) as caught:
            read()
        assert caught.value.url == url


def test_what_is_damaged_is_told_across_processes():
    error = DamagedFile("s3://out/clips/a.parquet", "it is empty", "copy it again")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.url) == (str(error), error.url)


def test_rows_of_clips_are_written_with_the_key_of_their_content(tmp_path):
    stale = row("clips", "a") | {"content_sha256": "of other frames"}
    write_table(pa.Table.from_pylist([stale], WRITTEN), f"{tmp_path}/clips")
    add(str(tmp_path), "clips", "b")
    keys = read_columns(f"{tmp_path}/clips", ["content_sha256"])["content_sha256"].to_pylist()
    assert keys[0] == keys[1] and len(keys[0]) == 64
