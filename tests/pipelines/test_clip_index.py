import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.core import url_to_fs
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clip_index import read_clip_index
from pipelines.dataset import write_table
from pipelines.parquet_rows import read_row
from pipelines.records import WRITTEN
from pipelines.storage import find, join, read_bytes, write_bytes
from pipelines.training_clips import DatasetError


def row(
    clip_id: str,
    frames: int = 3,
    side: int = 32,
    frames_of: bytes = b"no picture",
    **changes: object,
) -> dict:
    """What the index looks at; the pictures are none, as it must not."""
    values = dict.fromkeys(WRITTEN.names) | {
        "clip_id": clip_id,
        "narration": f"lift {clip_id}",
        "split": "train",
        "frames": [frames_of] * frames,
        "hand_detected": [[True, False]] * frames,
        "height": side,
        "width": side,
    }
    return values | changes


def add(data: str, *rows: dict) -> None:
    write_table(pa.Table.from_pylist(list(rows), WRITTEN), f"{data}/clips")


def test_clips_of_all_files_are_listed_by_clip_id(tmp_path):
    add(str(tmp_path), row("c"), row("a", split=None))
    add(str(tmp_path), row("b", split="test"))
    index = read_clip_index(str(tmp_path))
    assert index.clip_ids == ["a", "b", "c"]
    assert index.narrations == ["lift a", "lift b", "lift c"]
    assert index.splits == ["", "test", "train"]
    assert (index.height, index.width, index.num_frames) == (32, 32, 3)


def test_clips_are_listed_without_a_look_at_their_pictures(tmp_path):
    add(str(tmp_path), row("a"), row("b"))
    (file,) = (tmp_path / "clips").iterdir()
    whole, metadata = bytearray(file.read_bytes()), pq.ParquetFile(file).metadata
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in ("frames", "frame_masks"):
                first = column.dictionary_page_offset or column.data_page_offset
                last = first + column.total_compressed_size
                whole[first:last] = b"\xff" * column.total_compressed_size
    file.write_bytes(whole)
    with pytest.raises(OSError):
        pq.read_table(file, columns=["frames"])
    assert read_clip_index(str(tmp_path)).clip_ids == ["a", "b"]


def test_clips_are_played_at_the_median_of_their_rates(tmp_path):
    times = {"a": [1.0, 1.25, 1.5], "b": [0.0, 0.3, 0.6], "c": [5.0, 6.0, 7.0], "d": [2.0] * 3}
    add(str(tmp_path), *(row(clip, frame_times_s=at) for clip, at in times.items()), row("e"))
    index = read_clip_index(str(tmp_path))
    assert index.rates == [4.0, pytest.approx(10 / 3), 1.0, None, None]
    assert index.fps() == 3.333
    assert index.fps([0]) == 4 and index.fps([0, 2]) == 2.5


def test_clips_whose_rate_nobody_knows_are_played_at_eight_frames_a_second(tmp_path):
    add(str(tmp_path), row("a"))
    assert read_clip_index(str(tmp_path)).fps() == 8


@pytest.mark.parametrize(("times", "fps"), [([0, 0.001, 0.002], 120), ([0, 900, 1800], 0.1)])
def test_no_clip_is_played_faster_or_slower_than_a_person_can_watch(tmp_path, times, fps):
    add(str(tmp_path), row("a", frame_times_s=times))
    assert read_clip_index(str(tmp_path)).fps() == fps


clip_ids = st.lists(st.text("abcé/_1", min_size=1, max_size=6), unique=True, min_size=1)


@settings(max_examples=25)
@given(clip_ids, st.integers(1, 4), st.integers(1, 5))
def test_a_place_leads_to_its_clip_however_the_rows_are_stored(ids, per_file, per_group):
    data = "memory://index"
    fs, path = url_to_fs(data)
    if fs.exists(path):
        fs.rm(path, recursive=True)
    for first in range(0, len(ids), per_file):
        sink = pa.BufferOutputStream()
        rows = [row(clip_id) for clip_id in ids[first : first + per_file]]
        pq.write_table(pa.Table.from_pylist(rows, WRITTEN), sink, row_group_size=per_group)
        # Each example has files of its own: rows are read from files that stay open.
        name = f"{abs(hash((tuple(ids), per_file, per_group)))}-{first}.parquet"
        write_bytes(join(data, "clips", name), sink.getvalue().to_pybytes())
    index = read_clip_index(data)
    assert index.clip_ids == sorted(ids)
    for clip_id, place in zip(index.clip_ids, index.places, strict=True):
        found = read_row(place.url, place.row_group, place.row, ["clip_id"])
        assert found == {"clip_id": clip_id}


def test_a_data_set_keeps_its_fingerprint_wherever_it_lies_until_clips_change(tmp_path):
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    for data in (here, there):
        add(data, row("a"), row("b"))
    fingerprint = read_clip_index(here).fingerprint
    assert read_clip_index(there).fingerprint == fingerprint
    add(there, row("c"))
    assert read_clip_index(there).fingerprint != fingerprint
    add(here, row("a", narration="put it back where it was before"), row("b"))
    assert read_clip_index(here).fingerprint != fingerprint


def test_a_data_sets_fingerprint_is_of_contents_and_not_of_files(tmp_path):
    sets = [str(tmp_path / name) for name in ("one", "other", "edited", "masked")]
    add(sets[0], row("a"), row("b"))
    for clip in (row("a"), row("b")):
        add(sets[1], clip)
    add(sets[2], row("a"), row("b", frames_of=b"as long 1!"))
    add(sets[3], row("a"), row("b", frame_masks=[b"mask"]))
    one, other, edited, masked = (read_clip_index(data).fingerprint for data in sets)
    assert one == other
    assert len({one, edited, masked}) == 3


def test_a_clip_without_its_contents_key_has_it_computed(tmp_path):
    add(str(tmp_path / "with"), row("a"), row("b"))
    table = pa.Table.from_pylist([row("a"), row("b")], WRITTEN)
    for name, lacking in (
        ("null", table),
        ("without", table.drop_columns("content_sha256")),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(lacking, sink)
        write_bytes(f"{tmp_path}/{name}/clips/x.parquet", sink.getvalue().to_pybytes())
        index = read_clip_index(str(tmp_path / name))
        assert index.contents == read_clip_index(str(tmp_path / "with")).contents
        assert set(map(len, index.contents)) == {64}


def of_another_version(data: str) -> None:
    table = pa.Table.from_pylist([row("z")], WRITTEN)
    write_table(table.replace_schema_metadata({"handi.schema_version": "0"}), f"{data}/clips")


def not_parquet(data: str) -> None:
    write_bytes(f"{data}/clips/z.parquet", b"no Parquet")


def empty(data: str) -> None:
    write_bytes(f"{data}/clips/z.parquet", b"")


def cut_short(data: str) -> None:
    (whole,) = find(f"{data}/clips", ".parquet")
    write_bytes(f"{data}/clips/z.parquet", read_bytes(whole)[:-100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: add(data, row("z", frames=5)), r"differ in length: \[3, 5\]"),
        (lambda data: add(data, row("z", side=64)), r"differ in size: \[\(32, 32\), \(64, 64\)\]"),
        (of_another_version, r"of schema version 0, and this code reads \S+; preprocess again"),
        (not_parquet, r"clips/z\.parquet is damaged: .*; run jobs/preprocess\.py again"),
        (empty, r"clips/z\.parquet is damaged: .*; run jobs/preprocess\.py again"),
        (cut_short, r"clips/z\.parquet is damaged: .*; run jobs/preprocess\.py again"),
    ],
)
def test_what_cannot_serve_is_one_line(tmp_path, spoil, message):
    data = str(tmp_path)
    add(data, row("a"))
    spoil(data)
    with pytest.raises(DatasetError, match=message) as caught:
        read_clip_index(data)
    assert str(caught.value).startswith("data: ") and "\n" not in str(caught.value)


def test_a_folder_without_clips_is_told_what_to_give(tmp_path):
    with pytest.raises(DatasetError, match=r"holds no clips; give the output of jobs/preprocess"):
        read_clip_index(str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"data: nostorage://x cannot be read: "):
        read_clip_index("nostorage://x")
