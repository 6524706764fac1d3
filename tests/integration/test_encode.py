"""The encoding job as a process, on an object store; and what it says of a mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import s3fs
import torch

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.fingerprint import encoders_fingerprint
from handi_model.pipeline import HandiPipeline
from jobs import encode
from pipelines.batches import batch_of
from pipelines.clip_index import read_clip_index
from pipelines.clip_rows import load_clip, reference
from pipelines.dataset import write_table
from pipelines.encode import Encoder, rows_of, to_encode, write_shard
from pipelines.latents import as_bytes, open_latents, write_clip_latents
from pipelines.records import WRITTEN
from tests.closeness import assert_same_batch
from tests.datasets import rendered_dataset
from tests.integration.conftest import REPOSITORY


def run(*arguments: object) -> str:
    """Encode to the end; gives what stood on the console."""
    done = subprocess.run(
        [sys.executable, "jobs/encode.py", *map(str, arguments)],
        cwd=REPOSITORY,
        # A Ray of its own, whatever cluster this machine belongs to.
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def pipe() -> HandiPipeline:
    """One with weights that no preset has."""
    made = new_pipeline(ModelConfig.of("tiny"))
    with torch.no_grad():
        made.vae.quant_conv.weight.mul_(0.5)
    return made


@pytest.fixture(scope="module")
def model(pipe, tmp_path_factory) -> str:
    """The same, saved: a relative path, as a person gives it."""
    folder = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(folder)
    return os.path.relpath(folder, REPOSITORY)


@pytest.fixture
def without_ray(monkeypatch) -> Callable[..., None]:
    """Run the job in this process; it must not come to the point where Ray starts."""

    def main(*arguments: str) -> None:
        monkeypatch.setattr(encode, "join_cluster", lambda: pytest.fail("Ray was started"))
        monkeypatch.setattr(sys, "argv", ["encode.py", *arguments])
        encode.main()

    return main


def test_what_a_killed_job_left_on_an_object_store_is_kept_and_the_rest_encoded(
    s3, pipe, model, without_ray, capsys, monkeypatch
):
    folder, data = s3.folder / "raw" / "data", "s3://raw/data"
    rendered_dataset(folder, ["lift_box_1", "open_lid_1"], frames=3)
    rendered_dataset(folder, ["lift_box_2"], frames=3)
    index, fingerprint = read_clip_index(data), encoders_fingerprint(pipe)
    threads = torch.get_num_threads()
    encoder = Encoder(lambda: pipe)
    torch.set_num_threads(threads)
    (lift_box, _, _, clip) = rows_of(index, to_encode(index, fingerprint))[:4]
    assert lift_box["narration"] == "lift box"
    rows = [encoder(lift_box), encoder(clip)]
    write_shard(pa.Table.from_pylist(rows), data, fingerprint)
    store = s3.filesystem()
    left = {name: store.info(name)["LastModified"] for name in store.find("raw/data/latents")}
    assert len(left) == 2

    console = run("--data", data, "--model", model, "--workers", 1)
    assert "3 clips, 2 to encode; 2 different narrations, 1 to encode" in console
    assert {name: store.info(name)["LastModified"] for name in left} == left
    latents = open_latents(data, fingerprint)
    assert latents.missing(index) == 0

    assert_same_batch(_batch(pipe, index, latents), _batch(pipe, index, None))

    monkeypatch.chdir(REPOSITORY)
    without_ray("--data", data, "--model", model)
    assert "nothing to do: all 3 clips are encoded" in capsys.readouterr().out


def _batch(pipe, index, latents):
    rows = [load_clip(reference(index, clip, latents)) for clip in range(len(index.clip_ids))]
    return batch_of(pipe, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


@pytest.fixture
def transferred(monkeypatch) -> Iterator[Callable[[], int]]:
    """Bytes that came from the object store since the last call."""
    sizes: list[int] = []
    fetch = s3fs.core.S3File._fetch_range

    def spy(file: s3fs.core.S3File, start: int, end: int) -> bytes:
        data: bytes = fetch(file, start, end)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", spy)

    def count() -> int:
        total = sum(sizes)
        sizes.clear()
        return total

    yield count


def test_what_a_data_set_holds_is_read_without_its_pictures_and_latents(s3, transferred):
    noise = np.random.default_rng(0)
    rows = [
        dict.fromkeys(WRITTEN.names)
        | {
            "clip_id": f"clip-{number}",
            "narration": "lift box",
            "frames": [noise.bytes(30_000) for _ in range(16)],
            "hand_detected": [[True, True]] * 16,
            "height": 256,
            "width": 256,
        }
        for number in range(8)
    ]
    folder = s3.folder / "raw" / "data"
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{folder}/clips")
    latent, shape = as_bytes(noise.standard_normal((4, 16, 32, 32)).astype(np.float16))
    latents = {"video_latent": latent, "mask_latent": latent, "shape": shape}
    (clips,) = (folder / "clips").iterdir()
    encoded = folder / "latents" / "0" / "clips"
    write_clip_latents(
        str(encoded),
        [{"clip_id": r["clip_id"], "content_sha256": r["clip_id"]} | latents for r in rows],
    )

    assert len(read_clip_index("s3://raw/data").clip_ids) == 8
    assert 0 < transferred() < 0.1 * clips.stat().st_size
    assert len(open_latents("s3://raw/data", "0").clips) == 8
    assert 0 < transferred() < 0.1 * sum(file.stat().st_size for file in encoded.iterdir())


def of_another_version(folder: Path) -> str:
    table = pa.Table.from_pylist([dict.fromkeys(WRITTEN.names) | {"clip_id": "a"}], WRITTEN)
    write_table(table.replace_schema_metadata({"handi.schema_version": "0"}), f"{folder}/clips")
    return str(folder)


def saved_for_64(folder: Path) -> str:
    new_pipeline(ModelConfig.of("tiny")).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (lambda _: "/nowhere", lambda _: "tiny", "data: .*/nowhere holds no clips; give"),
        (lambda _: "nostorage://x", lambda _: "tiny", "nostorage"),
        (of_another_version, lambda _: "tiny", "is of schema version 0, and this code reads"),
        (
            lambda folder: rendered_dataset(folder, ["lift_box_1"], frames=2, side=40),
            lambda _: "tiny",
            "resolution: 40 is not a multiple of 16",
        ),
        (
            lambda folder: rendered_dataset(folder, ["lift_box_1"], frames=2, side=32),
            saved_for_64,
            "frames of 32x32 pixels, and the model's are 64x64; preprocess with --resolution 64",
        ),
        (
            lambda folder: rendered_dataset(folder, ["lift_box_1"], frames=2),
            lambda _: "/nowhere",
            "model: /nowhere is no saved pipeline that can be read",
        ),
    ],
    ids=["no data set", "no storage", "version", "preset's sides", "model's sides", "no model"],
)
def test_a_mistake_ends_the_job_with_one_line_before_ray_starts(
    tmp_path, without_ray, capsys, data, model, message
):
    arguments = ["--data", data(tmp_path / "data"), "--model", model(tmp_path / "model")]
    with pytest.raises(SystemExit) as caught:
        without_ray(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert re.search(message, said), said
