import uuid
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

    monkeypatch.setattr("pipelines.models.read_bytes", away)
    with pytest.raises(ValueError, match="cannot be loaded: refused") as caught:
        open_pipeline("s3://bucket/model")
    assert is_away(caught.value)
