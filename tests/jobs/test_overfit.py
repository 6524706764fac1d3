import json
import sys

import numpy as np
import pytest
from PIL import Image

from handi_model import HandiPipeline
from jobs import ablate, fit_report, overfit
from jobs.fit_report import FoundHands, Generated, measure
from pipelines.trained_on import read_trained_on
from pipelines.training_clips import read_training_clips
from tests.datasets import rendered_dataset

CLIPS = ["slide_cup_1", "stir_pan_2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS)


@pytest.fixture
def job(monkeypatch, data, tmp_path, hand_model):
    def run(module, **changes):
        keys = {
            "data": data,
            "output": str(tmp_path / "out"),
            "hand-model": hand_model,
            "device": "cpu",
            "num-inference-steps": 1,
            "fit.steps": 3,
            "fit.batch-size": 2,
            "losses.decoded-frames": 1,
            **changes,
        }
        line = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
        monkeypatch.setattr(sys, "argv", ["job.py", *line])
        module.main()
        return tmp_path / "out"

    return run


def test_a_fitted_model_its_picture_and_its_figures_are_left(job, capsys):
    folder = job(overfit)
    result = json.loads((folder / "result.json").read_text())
    assert set(result["clips"]) == set(CLIPS)
    assert [step["stage"] for step in result["losses"]] == ["mask", "video", "video"]
    for figures in result["clips"].values():
        assert figures["outside_equal"] == 1
        assert 0 <= figures["mask_iou"] <= 1
        assert figures["gain"] == pytest.approx(figures["psnr"] - figures["still_psnr"])
    with Image.open(folder / "strip.png") as picture:
        # Two rows a clip; the scene and four frames.
        assert picture.size == (5 * 128 + 4 * 4, 4 * 128 + 3 * 4)
    pipe = HandiPipeline.from_pretrained(folder / "model")
    assert pipe.resolution == 64
    assert pipe.config.fps == 1.552, "the clips' own: four frames in two seconds"
    record = read_trained_on(str(folder / "model"))
    assert record.count(["", ""], CLIPS, ["slide cup", "stir pan"]) == 2
    assert "slide_cup_1: mask IoU" in capsys.readouterr().out


def test_the_ablation_trains_each_condition_with_each_seed_once(job, capsys):
    folder = job(ablate, seeds="[0, 1]", clips=CLIPS[0])
    table = (folder / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == list(ablate.CONDITIONS)
    figures = [line.count("±") for line in table[2:]]
    assert figures == [len(ablate.COLUMNS), len(ablate.COLUMNS), len(ablate.COLUMNS) - 1]
    assert len(list(folder.glob("*.png"))) == 6
    assert "there already" not in capsys.readouterr().out
    job(ablate, seeds="[0, 1]", clips=CLIPS[0])
    assert capsys.readouterr().out.count("there already") == 6
    assert (folder / "table.md").read_text().splitlines() == table


def test_without_the_mask_stage_2_gets_as_many_steps():
    settings = ablate.FitSettings(steps=300, cycle=["mask", "video", "video"])
    alone = ablate.stage_2_alone(settings)
    assert alone.steps == 200
    assert alone.cycle == ["video"]


def test_the_real_clip_has_no_error_and_the_first_frame_repeated_no_gain(data, detector):
    clips = read_training_clips(data, [], 64)
    real = measure(Generated(clips.frames, clips.masks), clips, detector, 0.1)
    frozen = np.repeat(clips.frames[:, :1], 4, 1)
    still = measure(Generated(frozen, clips.masks), clips, detector, 0.1)
    for perfect, frozen in zip(real, still, strict=True):
        assert perfect.mask_iou == 1
        assert perfect.psnr == np.inf
        assert perfect.presence > frozen.presence
        assert perfect.joint_error < frozen.joint_error
        assert perfect.hs_err < frozen.hs_err
        assert not perfect.outside_equal  # the real scene moves, if only by its noise
        assert frozen.gain == 0
        assert frozen.outside_equal


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data": "/nowhere"}, "data: file:///nowhere holds no clips"),
        ({"clips": "elsewhere"}, "clips: 'elsewhere' is not in"),
        ({"resolution": 96}, "preprocess with --resolution 96"),
        ({"resolution": 40}, "resolution: 40 is not a multiple"),
        ({"device": "cuda:9"}, "device: cuda:9 cannot be used"),
        ({"fit.steps": 0}, "fit.steps"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(job, capsys, changes, line):
    with pytest.raises(SystemExit) as ended:
        job(overfit, **changes)
    assert ended.value.code == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1 and line in printed[0]


def test_a_clip_without_hands_is_told_by_its_recall_and_not_by_the_distance(data, detector):
    clips = read_training_clips(data, CLIPS, 64)
    grey = Generated(np.full_like(clips.frames, 128), clips.masks)
    for shown, empty in zip(
        measure(Generated(clips.frames, clips.masks), clips, detector, 0.1),
        measure(grey, clips, detector, 0.1),
        strict=True,
    ):
        assert shown.hand_recall > 0.5 and 0 < shown.hand_distance < 0.5
        assert empty.hand_recall == 0 and np.isnan(empty.hand_distance)
        # In the true regions the detector answers with a likely hand, whatever stands there.
        assert empty.joint_error < 3 * shown.joint_error


def test_hands_are_found_by_their_presence_and_distances_are_in_their_sizes(data, monkeypatch):
    clips = read_training_clips(data, CLIPS[:1], 64)
    detected = clips.detected[0]
    hands = clips.joints[0].reshape(-1, 2, 21, 2)
    sizes = np.ptp(hands, axis=2).max(axis=2)[..., None, None]
    right = detected & [False, True]
    found = FoundHands(
        # The left hands, which are not found, are far off.
        joints=(hands + sizes * [[[[9.0, 0]], [[0.06, 0.08]]]]).reshape(-1, 42, 2),
        presence=np.where(right, 0.5, 0.4),
        sought=detected,
    )
    monkeypatch.setattr(fit_report, "hands_in_true_regions", lambda *_: found)
    (one,) = measure(Generated(clips.frames, clips.masks), clips, None, 0.5)
    assert one.hand_recall == pytest.approx(right.sum() / detected.sum())
    assert one.hand_distance == pytest.approx(0.1, rel=1e-3)
