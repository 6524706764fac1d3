from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tenacity import wait_none

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.fingerprint import encoders_fingerprint
from handi_model.pipeline import HandiPipeline
from pipelines import encode, parquet_rows
from pipelines.batches import batch_of
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.clip_rows import load_clip, reference
from pipelines.encode import Encoder, to_encode
from pipelines.latents import LatentIndex, open_latents
from pipelines.training_clips import read_training_clips
from tests.closeness import assert_same_batch
from tests.datasets import rendered_dataset

CLIPS = ["lift_box_1", "lift_box_2", "open_lid_1"]


@dataclass(frozen=True)
class Encoded:
    index: ClipIndex
    pipe: HandiPipeline
    latents: LatentIndex
    narrations: list[str]
    """In the order in which they went through the text encoder."""


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Encoded:
    """A data set with its cache, filled by the actor of the graph in this process."""
    index = read_clip_index(rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS, frames=3))
    pipe = new_pipeline(ModelConfig.of("tiny"))
    fingerprint = encoders_fingerprint(pipe)
    wanted = to_encode(index, fingerprint)
    narrations: list[str] = []
    threads, embed = torch.get_num_threads(), encode.encode_text

    def spy(pipe: HandiPipeline, narration: str) -> torch.Tensor:
        narrations.append(narration)
        return embed(pipe, narration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "encode_text", spy)
        encoder = Encoder(lambda: pipe)
        rows = [encoder(row) for row in encode.rows_of(index, wanted)]
        assert not encode.write_shard(pa.Table.from_pylist(rows), index.data, fingerprint)
    torch.set_num_threads(threads)
    return Encoded(index, pipe, open_latents(index.data, fingerprint), narrations)


def columns(index: ClipIndex, clips: list[int], latents: LatentIndex | None) -> dict[str, Any]:
    """Clips as a worker gets them: loaded by tasks, and stacked."""
    rows = [load_clip(reference(index, clip, latents)) for clip in clips]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_a_reference_is_small_and_flat(encoded):
    for latents in (None, encoded.latents):
        ref = reference(encoded.index, 1, latents)
        assert (ref["clip_id"], ref["narration"]) == ("lift_box_2", "lift box")
        assert all(isinstance(value, str | int) for value in ref.values())
        assert len(repr(ref)) < 2000


def test_without_a_cache_a_clip_has_its_pictures(encoded):
    clip = load_clip(reference(encoded.index, 0, None))
    assert clip["narration"] == "lift box"
    assert {name: (a.shape, a.dtype.name) for name, a in clip.items() if name != "narration"} == {
        "frames": ((3, 64, 64, 3), "uint8"),
        "frame_masks": ((3, 64, 64), "bool"),
        "joints": ((3, 42, 2), "float32"),
        "detected": ((3, 2), "bool"),
    }


def test_with_a_cache_a_clip_has_its_latents(encoded):
    clip = load_clip(reference(encoded.index, 0, encoded.latents))
    assert {name: (array.shape, array.dtype.name) for name, array in clip.items()} == {
        "video_latent": ((16, 3, 8, 8), "float16"),
        "mask_latent": ((16, 3, 8, 8), "float16"),
        "text": (clip["text"].shape, "float16"),
        "frame_masks": ((3, 64, 64), "bool"),
        "joints": ((3, 42, 2), "float32"),
        "detected": ((3, 2), "bool"),
    }
    assert clip["text"].shape[1] == 64


def test_a_reference_gives_the_clip_that_a_reader_of_the_whole_data_set_sees(encoded):
    seen = read_training_clips(encoded.index.data, [], 64)
    assert seen.clip_ids == encoded.index.clip_ids
    loaded = columns(encoded.index, [0, 1, 2], None)
    for name in ("frames", "frame_masks", "joints", "detected"):
        assert (loaded[name] == getattr(seen, name)).all(), name
    assert list(loaded["narration"]) == seen.narrations


def test_cached_latents_and_clips_encoded_on_the_fly_make_the_same_batch(encoded):
    cached, fresh = (
        batch_of(encoded.pipe, columns(encoded.index, [2, 0, 1], latents))
        for latents in (encoded.latents, None)
    )
    assert_same_batch(cached, fresh)
    assert cached.video_latent.dtype == torch.float32


def test_a_clips_batch_does_not_depend_on_the_clips_beside_it(encoded):
    together = batch_of(encoded.pipe, columns(encoded.index, [0, 1, 2], None))
    for clip in range(3):
        alone = batch_of(encoded.pipe, columns(encoded.index, [clip], None))
        assert_same_batch(alone, together.take([clip]))


def test_a_narration_that_clips_share_is_encoded_once(encoded):
    assert sorted(encoded.narrations) == ["lift box", "open lid"]
    first, second = (reference(encoded.index, clip, encoded.latents) for clip in (0, 1))
    assert [first[f"text_{part}"] for part in ("url", "row_group", "row")] == [
        second[f"text_{part}"] for part in ("url", "row_group", "row")
    ]


def test_latents_that_lack_a_clip_are_not_taken_for_whole(encoded):
    gone = encoded.index.contents[2]
    clips = {key: place for key, place in encoded.latents.clips.items() if key != gone}
    lacking = replace(encoded.latents, clips=clips)
    assert lacking.missing(encoded.index) == 1
    with pytest.raises(KeyError):
        reference(encoded.index, 2, lacking)


@pytest.fixture
def failing(monkeypatch) -> Iterator[Callable[[list[Exception]], list[str]]]:
    """Lets the storage fail with these errors, one a time; gives what was opened."""

    def fail(errors: list[Exception]) -> list[str]:
        opened: list[str] = []
        open_file = parquet_rows.url_to_fs

        def spy(url: str) -> Any:
            opened.append(url)
            if errors:
                raise errors.pop(0)
            return open_file(url)

        monkeypatch.setattr(parquet_rows, "url_to_fs", spy)
        monkeypatch.setattr(parquet_rows.read_row.retry, "wait", wait_none())
        parquet_rows._opened.cache_clear()
        return opened

    yield fail
    parquet_rows._opened.cache_clear()


def test_a_storage_that_is_away_for_a_while_is_waited_for(encoded, failing):
    opened = failing([ConnectionResetError("reset"), TimeoutError("timed out")])
    assert load_clip(reference(encoded.index, 0, None))["frames"].shape == (3, 64, 64, 3)
    assert len(opened) == 3


def test_a_file_is_opened_once_for_many_clips(encoded, failing):
    opened = failing([])
    columns(encoded.index, [0, 1, 2, 0], None)
    assert len(opened) == 1


def test_an_open_file_whose_connection_broke_is_opened_again(encoded, failing, monkeypatch):
    opened = failing([])
    ref = reference(encoded.index, 0, None)
    before = load_clip(ref)

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("reset")

    monkeypatch.setattr(parquet_rows._opened(ref["clip_url"]), "read_row_group", broken)
    assert (load_clip(ref)["frames"] == before["frames"]).all()
    assert len(opened) == 2


def test_a_file_that_is_gone_is_not_waited_for(encoded, failing):
    opened = failing([FileNotFoundError("gone")])
    with pytest.raises(FileNotFoundError):
        load_clip(reference(encoded.index, 0, None))
    assert len(opened) == 1
