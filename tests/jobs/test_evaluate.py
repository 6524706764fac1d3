"""Mistakes that an evaluation tells before it starts Ray, and what it would do."""

import sys
from pathlib import Path

import pytest
import ray

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from jobs import evaluate
from jobs.cli import load
from pipelines.clip_files import encode_mp4
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.training_clips import read_training_clips
from tests.datasets import rendered_dataset

CLIPS = ["lift_box_1", "slide_cup_1"]
TWICE = '[{"name": "Ours", "kind": "still"}, {"name": "ours", "kind": "real"}]'


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS, 4, 44)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    new_pipeline(ModelConfig.of("tiny", resolution=64)).save_pretrained(folder)
    return folder


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the job in this process; it must not come to the point where Ray starts."""

    def main(*flags: str, **keys: object) -> None:
        monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        given = [(f"--{key.replace('_', '-')}", str(value)) for key, value in keys.items()]
        line = [*flags, *(part for pair in given for part in pair)]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *line])
        evaluate.main()

    return main


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data": "nowhere"}, "data: "),
        ({"split": "test"}, "split: no clip of"),
        ({"model": "nowhere"}, "model: nowhere"),
        ({"clips": "nowhere"}, "clips: "),
        ({"limit": 0}, "limit: "),
        ({"colour": "red"}, "colour"),
        ({"methods": '[{"name": "x", "kind": "pia"}]'}, "method 'x': kind 'pia' needs a model"),
        ({"methods": '[{"name": "x", "kind": "lego"}]'}, "kind"),
        (
            {"methods": '[{"name": "Ours", "kind": "still"}, {"name": "ours", "kind": "real"}]'},
            "two",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it(run, data, tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit) as ended:
        run(**{"data": data, "output": tmp_path / "eval", **wrong})
    assert ended.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "eval").exists()


def test_frames_that_the_model_cannot_make_are_refused(run, data, model, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(data=data, output=tmp_path / "eval", model=model)
    assert "multiples of" in capsys.readouterr().err


def test_a_dry_run_tells_what_would_be_done(run, data, tmp_path, capsys):
    clips = read_training_clips(data, CLIPS[:1], 44)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / f"{CLIPS[0]}.mp4").write_bytes(encode_mp4(clips.frames[0], 8))
    run("--dry-run", data=data, output=tmp_path / "eval", clips=tmp_path / "made")
    said = capsys.readouterr().out
    assert "2 clips" in said and "1 clips of" in said and "motion-intensive: 1" in said
    assert not (tmp_path / "eval").exists()


def test_the_config_that_ships_has_the_papers_rows():
    config = str(Path(evaluate.__file__).parent / "configs" / "evaluate.yaml")
    line = ["--config", config, "--data", "data", "--output", "output"]
    settings = load(EvaluateSettings, "evaluate", line)
    assert settings.split is None, "EPIC-KITCHENS and Ego4D publish validation clips"
    rows = settings.rows()
    ours = [(one.name, one.area) for one in rows if one.kind == "handi"]
    assert ("no mask", "frame") in ours and ("true masks", "true") in ours
    assert {one.without for one in rows if one.without} == {"mask", "hand loss"}
    kinds = {one.kind for one in rows}
    assert {"animate-anything", "cogvideox", "pia", "i2vgen-xl", "folder", "real"} <= kinds
