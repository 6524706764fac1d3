"""Keys that name places are absolute before they leave the driver."""

import pytest

from jobs.encode import EncodeSettings
from jobs.evaluation.export import ExportSettings
from jobs.generate import GenerateSettings
from jobs.learning import LearningSettings
from jobs.training.settings import TrainSettings
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.places import model_place
from pipelines.settings import PreprocessSettings

REQUIRED = {
    PreprocessSettings: {"videos": "v", "output": "o"},
    EncodeSettings: {"data": "d"},
    TrainSettings: {"data": "d", "output": "o"},
    EvaluateSettings: {"data": "d", "output": "o"},
    ExportSettings: {"data": "d", "output": "o"},
    LearningSettings: {"data": "d", "output": "o"},
    GenerateSettings: {"model": "m", "image": "i", "prompt": "p", "output": "o"},
}


@pytest.mark.parametrize("settings", REQUIRED, ids=lambda settings: settings.__name__)
def test_relative_paths_become_absolute(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    places = {
        name: "given"
        for name, field in settings.model_fields.items()
        if field.description and field.description.startswith(("URL", "Path"))
    }
    assert places
    built = settings(**{**REQUIRED[settings], **places})
    for name in places:
        assert str(tmp_path / "given") in getattr(built, name), name


def test_a_preset_and_a_hub_id_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert model_place("tiny") == "tiny"
    assert model_place("damo-vilab/text-to-video-ms-1.7b") == "damo-vilab/text-to-video-ms-1.7b"
    assert model_place("s3://bucket/model") == "s3://bucket/model"
    (tmp_path / "run/model").mkdir(parents=True)
    assert model_place("run/model") == str(tmp_path / "run/model")


def test_a_checkpoint_that_training_starts_from_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    settings = TrainSettings(data="d", output="o", model="base", checkpoint="weights")
    assert settings.checkpoint == str(tmp_path / "weights")
    assert settings.model == "base"


def test_a_storage_that_is_unknown_is_named_with_its_key():
    with pytest.raises(ValueError, match=r"videos\n.*nowhere"):
        PreprocessSettings(videos="nowhere://v", output="o")
