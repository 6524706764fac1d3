import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fsspec.core import url_to_fs

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.fingerprint import encoders_fingerprint
from handi_model.pipeline import HandiPipeline
from pipelines.models import load_pipeline, open_pipeline
from pipelines.patience import is_away
from pipelines.saved_model import read_saved_model
from pipelines.storage import put_folder


@pytest.fixture(scope="module")
def pipe() -> HandiPipeline:
    """One that no preset gives: its network has been trained, so to say."""
    pipe = new_pipeline(ModelConfig.of("tiny"))
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            weight.add_(0.01)
    return pipe


@pytest.fixture(scope="module")
def saved(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(folder)
    return folder


def assert_same_model(one: HandiPipeline, other: HandiPipeline) -> None:
    assert encoders_fingerprint(one) == encoders_fingerprint(other)
    theirs = other.unet.state_dict()
    for name, weight in one.unet.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_a_preset_has_its_own_resolution_unless_asked():
    assert open_pipeline("tiny").resolution == 64
    assert open_pipeline("tiny", resolution=32).resolution == 32


def test_a_preset_that_cannot_have_the_resolution_is_told_in_one_line():
    with pytest.raises(ValueError, match="resolution: 40 is not a multiple") as caught:
        open_pipeline("tiny", resolution=40)
    assert "\n" not in str(caught.value)


def test_a_saved_pipeline_opens_wherever_it_lies(pipe, saved):
    elsewhere = f"memory://{uuid.uuid4().hex}/model"
    put_folder(saved, elsewhere)
    for model in (str(saved), f"file://{saved}", elsewhere):
        assert_same_model(open_pipeline(model), pipe)
    fs, path = url_to_fs(elsewhere)
    fs.rm(path, recursive=True)


def test_a_saved_pipeline_loads_in_the_precision_asked_for(saved):
    half = load_pipeline(str(saved), torch.bfloat16)
    networks = (half.unet, half.vae, half.text_encoder)
    assert {network.dtype for network in networks} == {torch.bfloat16}


def test_a_model_keeps_its_frames_a_second_and_one_saved_without_plays_at_eight(tmp_path):
    new_pipeline(ModelConfig.of("tiny", fps=6.25)).save_pretrained(tmp_path)
    assert load_pipeline(str(tmp_path)).config.fps == 6.25
    assert read_saved_model(str(tmp_path)).fps == 6.25
    index = tmp_path / "model_index.json"
    said = json.loads(index.read_text())
    del said["fps"]
    index.write_text(json.dumps(said))
    assert load_pipeline(str(tmp_path)).config.fps == 8
    assert read_saved_model(str(tmp_path)).fps == 8


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("/nowhere/model", "/nowhere/model"),
        ("file:///nowhere/model", "/nowhere/model/model_index.json"),
        ("memory://nowhere/model", "/nowhere/model/model_index.json"),
        ("nostorage://model", "Protocol not known: nostorage"),
        ("file://{empty}", "model_index.json"),
    ],
    ids=["path", "URL", "object store", "no storage", "other folder"],
)
def test_no_model_is_told_in_one_line_and_not_waited_for(tmp_path, model, says):
    model = model.format(empty=tmp_path)
    with pytest.raises(ValueError) as caught:
        open_pipeline(model)
    told = str(caught.value)
    assert told.startswith(f"model: {model} cannot be loaded: ") and says in told
    assert "\n" not in told
    assert not is_away(caught.value)


def test_a_storage_that_is_away_for_a_while_can_be_waited_for(monkeypatch):
    def away(url: str) -> bytes:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr("pipelines.saved_model.read_bytes", away)
    with pytest.raises(ValueError, match="cannot be loaded: refused") as caught:
        open_pipeline("s3://bucket/model")
    assert is_away(caught.value)


UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


def cut_to(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def fill(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


def another_class(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "FluxPipeline"}))


DAMAGES = {
    "no weights": (UNET, Path.unlink, "is not there"),
    "no text encoder": (TEXT, Path.unlink, "is not there"),
    "empty weights": (UNET, fill(b""), "is damaged: it is empty"),
    "weights cut short": (UNET, cut_to(0.9), "is damaged: it holds"),
    "last byte gone": (TEXT, lambda path: os.truncate(path, path.stat().st_size - 1), "it holds"),
    "header cut short": (UNET, fill(b"\x40\0\0\0\0\0\0\0{"), "is damaged: it is cut short"),
    "no safetensors": (
        TEXT,
        fill(b"<html>not here</html>" * 9),
        "is damaged: it is no safetensors",
    ),
    "no header": (TEXT, fill(b"\2\0\0\0\0\0\0\0no"), "is damaged: its header"),
    "no JSON": ("vae/config.json", fill(b'{"block'), "is damaged: it holds no JSON"),
    "empty JSON": ("model_index.json", fill(b""), "is damaged: it is empty"),
    "JSON of a list": ("unet/config.json", fill(b"[]"), "is damaged: it holds no keys"),
    "keys gone": ("unet/config.json", fill(b"{}"), "is damaged: it has no sample_size"),
    "no text config": ("text_encoder/config.json", Path.unlink, "is not there"),
    "another pipeline": ("model_index.json", another_class, "FluxPipeline, not of a HandiPipeline"),
}


@pytest.mark.parametrize(("name", "damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_missing_or_damaged_file_is_named_before_anything_is_loaded(
    saved, tmp_path, name, damage, says, monkeypatch
):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    damage(folder / name)
    monkeypatch.setattr(HandiPipeline, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    for read, model in (
        (load_pipeline, str(folder)),
        (load_pipeline, f"file://{folder}"),
        (read_saved_model, str(folder)),
    ):
        with pytest.raises(ValueError) as caught:
            read(model)
        told = str(caught.value)
        assert told.startswith(f"model: {model} ") and "\n" not in told
        assert f"{folder}/{name} " in told and says in told
        assert "again" in told or "give one" in told
        assert not is_away(caught.value)


def test_weights_in_an_object_store_are_checked_by_small_reads(saved, monkeypatch):
    url = f"memory://{uuid.uuid4().hex}/model"
    put_folder(saved, url)
    fs, path = url_to_fs(url)
    cat_file, read = fs.cat_file, []

    # By name: storages differ in the order of what follows the path.
    def spy(path: str, *, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = cat_file(path, start=start, end=end)
        read.append(len(data))
        return data

    monkeypatch.setattr(type(fs), "cat_file", staticmethod(spy))
    assert read_saved_model(url).resolution == 64
    weights = sum(file.stat().st_size for file in saved.rglob("*.safetensors"))
    assert read and sum(read) < 0.05 * weights
    fs.rm(path, recursive=True)


def test_sharded_weights_are_checked_shard_by_shard(pipe, saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "unet")
    pipe.unet.save_pretrained(folder / "unet", max_shard_size="6MB")
    assert_same_model(load_pipeline(str(folder)), pipe)
    last = sorted((folder / "unet").glob("*.safetensors"))[-1]
    os.truncate(last, 1000)
    with pytest.raises(ValueError, match=f"{last} is damaged"):
        load_pipeline(str(folder))
    last.unlink()
    with pytest.raises(ValueError, match=f"{last} is not there"):
        read_saved_model(str(folder))
