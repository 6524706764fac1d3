from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipelines import notices
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.dataset import read_rows, write_table
from pipelines.encode import to_encode
from pipelines.latents import (
    as_array,
    as_bytes,
    latents_folder,
    open_latents,
    write_clip_latents,
    write_texts,
)
from pipelines.parquet_rows import read_row
from pipelines.records import WRITTEN
from pipelines.storage import find, read_bytes, remove, write_bytes
from tests.datasets import rendered_dataset

MODEL = "0123456789abcdef"


@pytest.fixture
def index(tmp_path) -> ClipIndex:
    """Two files: `lift box` twice, and `open lid`."""
    rendered_dataset(tmp_path, ["lift_box_1", "open_lid_1"], frames=2, side=16)
    return read_clip_index(rendered_dataset(tmp_path, ["lift_box_2"], frames=2, side=16))


def cache_clips(index: ClipIndex, clip_ids: list[str]) -> None:
    latent, shape = as_bytes(np.ones((4, 2, 2, 2), np.float16))
    contents = dict(zip(index.clip_ids, index.contents, strict=True))
    rows = [
        {"clip_id": clip_id, "content_sha256": contents[clip_id]}
        | {"video_latent": latent, "mask_latent": latent, "shape": shape}
        for clip_id in clip_ids
    ]
    write_clip_latents(latents_folder(index.data, MODEL, "clips"), rows)


def cache_texts(index: ClipIndex, *narrations: str) -> None:
    for number, narration in enumerate(narrations):
        embedding, shape = as_bytes(np.full((3, 5), number, np.float16))
        row = {"narration": narration, "embedding": embedding, "shape": shape}
        write_texts(latents_folder(index.data, MODEL, "text"), [row])


def files_of(index: ClipIndex) -> dict[str, list[str]]:
    """URL of a file of clips -> the clips in it."""
    found: dict[str, list[str]] = {}
    for clip_id, place in zip(index.clip_ids, index.places, strict=True):
        found.setdefault(place.url, []).append(clip_id)
    return found


@given(arrays(np.float16, array_shapes(max_dims=4, max_side=5), elements=st.floats(width=16)))
def test_an_array_comes_back_bit_by_bit(array):
    again = as_array(*as_bytes(array))
    assert again.shape == array.shape and again.tobytes() == array.tobytes()


def test_before_anything_is_cached_all_is_to_encode_and_each_narration_once(index):
    assert open_latents(index.data, MODEL).missing(index) == 3
    wanted = to_encode(index, MODEL)
    assert wanted.clips == [0, 1, 2]
    assert sorted(wanted.narrations) == ["lift box", "open lid"]


def test_a_complete_cache_leaves_nothing_to_do(index):
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    cache_texts(index, "lift box", "open lid")
    latents = open_latents(index.data, MODEL)
    assert latents.missing(index) == 0
    wanted = to_encode(index, MODEL)
    assert not wanted and (wanted.clips, wanted.narrations) == ([], [])
    text = latents.texts["open lid"]
    kept = read_row(text.url, text.row_group, text.row, ["embedding", "shape"])
    assert (as_array(kept["embedding"], kept["shape"]) == 1).all()


def test_only_what_is_not_cached_is_encoded(index):
    cache_clips(index, index.clip_ids[:1])
    cache_texts(index, "lift box")
    wanted = to_encode(index, MODEL)
    assert wanted.clips == [1, 2]
    assert wanted.narrations == ["open lid"]


def test_clips_of_one_content_are_encoded_once(index):
    twins = replace(index, contents=[index.contents[0]] * 3)
    assert to_encode(twins, MODEL).clips == [0]


def test_a_clip_without_its_narrations_embedding_is_missing(index):
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    cache_texts(index, "open lid")
    assert open_latents(index.data, MODEL).missing(index) == 2


def test_a_file_whose_writing_was_cut_off_is_not_there(index, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    clip_ids = index.clip_ids[:2]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pipelines.storage.os.replace", killed)
        cache_clips(index, clip_ids)
    assert open_latents(index.data, MODEL).missing(index) == 3
    assert len(to_encode(index, MODEL).clips) == 3
    cache_clips(index, clip_ids)
    assert len(to_encode(index, MODEL).clips) == 1


def test_another_model_has_a_cache_of_its_own(index):
    cache_texts(index, "lift box", "open lid")
    assert not open_latents(index.data, "f" * 16).texts


def test_a_cache_that_is_written_twice_is_the_same(index):
    for _ in range(2):
        cache_texts(index, "lift box", "open lid")
    assert len(find(latents_folder(index.data, MODEL, "text"), ".parquet")) == 2


def test_the_cache_is_no_part_of_the_data_set(index):
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    assert read_clip_index(index.data) == index


def edit(index: ClipIndex, url: str, **changes: object) -> ClipIndex:
    """Preprocess a file of clips anew with other settings: other pictures under the same name."""
    names = files_of(index)[url]
    rows = [row | changes for row in read_rows(index.data, names)]
    remove(url)
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{index.data}/clips")
    assert url in find(f"{index.data}/clips", ".parquet")
    return read_clip_index(index.data)


@pytest.mark.parametrize("changes", [{"frames": [b"1", b"2"]}, {"frame_masks": [b"1", b"2"]}])
def test_latents_of_other_pictures_under_the_same_name_are_not_taken(index, changes):
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    cache_texts(index, "lift box", "open lid")
    (edited, clip_ids), _ = files_of(index).items()
    changed = edit(index, edited, **changes)
    assert changed.clip_ids == index.clip_ids
    assert open_latents(index.data, MODEL).missing(changed) == len(clip_ids)
    assert [changed.clip_ids[i] for i in to_encode(changed, MODEL).clips] == clip_ids
    cache_clips(changed, clip_ids)
    assert open_latents(index.data, MODEL).missing(changed) == 0


def test_latents_stay_when_their_clips_move_to_another_file(index):
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    cache_texts(index, "lift box", "open lid")
    rows = read_rows(index.data, index.clip_ids)
    for url in files_of(index):
        remove(url)
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{index.data}/clips")
    assert open_latents(index.data, MODEL).missing(read_clip_index(index.data)) == 0


def test_latents_that_do_not_say_of_what_they_are_count_as_not_encoded(index):
    clip_ids = index.clip_ids[:2]
    cache_clips(index, clip_ids)
    (cached,) = find(latents_folder(index.data, MODEL, "clips"), ".parquet")
    sink = pa.BufferOutputStream()
    old = pq.read_table(pa.BufferReader(read_bytes(cached))).drop_columns("content_sha256")
    pq.write_table(old, sink)
    write_bytes(cached, sink.getvalue().to_pybytes())
    assert len(to_encode(index, MODEL).clips) == 3


@pytest.mark.parametrize("left", [0, 3, 100, -100])
def test_a_damaged_file_of_the_cache_is_named_and_counts_as_not_encoded(index, left, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(notices, "_take", lines.append)
    for clip_ids in files_of(index).values():
        cache_clips(index, clip_ids)
    cache_texts(index, "lift box", "open lid")
    folders = [latents_folder(index.data, MODEL, what) for what in ("clips", "text")]
    cut = [find(folder, ".parquet")[0] for folder in folders]
    for url in cut:
        write_bytes(url, read_bytes(url)[:left])
    latents = open_latents(index.data, MODEL)
    assert sorted(latents.damaged) == sorted(cut) and latents.missing(index) > 0
    assert len(lines) == 2 and all(url in line for url, line in zip(cut, lines, strict=True))
    assert all("is damaged: " in line and "count as not encoded" in line for line in lines)
    wanted = to_encode(index, MODEL)
    assert {index.contents[i] for i in wanted.clips} == {*index.contents} - {*latents.clips}
    assert wanted.narrations and wanted.damaged == latents.damaged
