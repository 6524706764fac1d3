import json
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from jobs import generate
from pipelines.running.job_error import JobError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    new_pipeline(ModelConfig.of("tiny", fps=5)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def scene(tmp_path) -> str:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png")


@pytest.fixture
def job(monkeypatch, model, scene, tmp_path):
    def run(**changes):
        keys = {
            "model": model,
            "image": scene,
            "prompt": "Open the drawer!",
            "output": str(tmp_path / "clips"),
            "num-frames": 4,
            "num-inference-steps": 2,
            **changes,
        }
        line = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
        monkeypatch.setattr(sys, "argv", ["generate.py", *line])
        generate.main()
        return tmp_path / "clips"

    return run


def test_a_clip_lies_in_every_form_beside_its_settings(job):
    folder = job(seed=7)
    stem = "scene-open-the-drawer-seed7"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{stem}{end}" for end in (".mp4", ".gif", "-mask.png", "-strip.png", ".json")
    )
    with av.open(str(folder / f"{stem}.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 5, "the model's own"
    assert np.stack(frames).shape == (4, 64, 64, 3)
    used = json.loads((folder / f"{stem}.json").read_text())
    assert used["seed"] == 7 and used["fps"] == 5
    assert used["num_frames"] == 4
    assert used["mask_steps"] == 2
    assert used["guidance_scale"] == 1.0
    assert (used["height"], used["width"]) == (64, 64)
    assert used["prompt"] == "Open the drawer!"


def test_a_drawn_mask_bounds_what_moves(job, scene, tmp_path):
    drawn = np.zeros((90, 120), np.uint8)
    drawn[:, 40:80] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    folder = job(mask=tmp_path / "mask.png", name="drawn")
    mask = np.asarray(Image.open(folder / "drawn-mask.png"))
    assert set(np.unique(mask)) == {0, 255}
    gif = Image.open(folder / "drawn.gif")
    assert gif.n_frames == 4


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": "/nowhere/model"}, "model: /nowhere/model cannot be loaded"),
        ({"image": "/nowhere/scene.png"}, "image: file:///nowhere/scene.png cannot be read"),
        ({"image": __file__}, "is not a picture"),
        ({"prompt": " "}, "prompt: ' ' is no instruction"),
        ({"num-frames": 1}, "num_frames: 1 is outside"),
        ({"device": "cuda:7"}, "device: cuda:7 cannot be used"),
        ({"dtype": "int8"}, "dtype: "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(job, tmp_path, capsys, changes, line):
    with pytest.raises(SystemExit) as ended:
        job(**changes)
    assert ended.value.code == 2
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed.startswith("error: ") and line in printed
    assert not (tmp_path / "clips").exists()


def test_numbers_that_are_none_end_the_job_in_one_line_and_nothing_is_written(
    job, tmp_path, monkeypatch
):
    def spoilt(model, dtype):
        pipe = new_pipeline(ModelConfig.of("tiny"))
        pipe.unet.conv_out["video"].bias.data.fill_(torch.nan)
        return pipe

    monkeypatch.setattr(generate, "load_pipeline", spoilt)
    with pytest.raises(JobError, match=r"^latents of stage 2 are not .*; lower guidance") as told:
        job()
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "clips").iterdir())
