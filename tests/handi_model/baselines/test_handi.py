import numpy as np
import pytest
import torch

from handi_model.baselines.handi import HandiMethod
from tests.handi_model.baselines.conftest import assert_generates, changed, elsewhere

STEPS = {"num_inference_steps": 2, "mask_steps": 1}


@pytest.fixture(autouse=True)
def found(monkeypatch) -> np.ndarray:
    """What stage 1 finds, as an untrained one finds nothing: (1, H, W), the right half."""
    areas = np.zeros((1, 32, 32), np.float32)
    areas[:, :, 16:] = 1
    monkeypatch.setattr("handi_model.generation.motion_areas", lambda *_: areas)
    return areas


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("area", ["predicted", "true", "frame"])
def test_a_clip_of_the_asked_size_and_length_comes_out_for_each_seed(tiny, task, area):
    assert_generates(HandiMethod(tiny, area, **STEPS), task)


def test_the_frames_are_those_of_the_pipeline_rounded_to_8_bit(tiny, task):
    for area, mask in [("predicted", None), ("true", task.area)]:
        out = tiny(
            task.scene,
            task.prompt,
            num_frames=3,
            height=32,
            width=32,
            generator=generator(),
            mask=mask,
            **STEPS,
        )
        made = HandiMethod(tiny, area, **STEPS)(task)
        assert (made.frames == np.round(out.frames[0] * 255).astype(np.uint8)).all()
        assert (made.area == out.masks[0].astype(bool)).all()


def test_the_predicted_area_is_stage_1s(tiny, task, found):
    assert (HandiMethod(tiny, "predicted", **STEPS)(task).area == found[0].astype(bool)).all()


def test_under_the_true_mask_the_scene_stays_outside_of_it(tiny, task):
    made = HandiMethod(tiny, "true", **STEPS)(task)
    assert (made.area == task.area).all()
    assert (made.frames[:, ~task.area] == task.scene[~task.area]).all()
    assert (made.frames[:, task.area] != task.scene[task.area]).any()


def test_what_changed_outside_is_measured_before_it_is_overwritten(tiny, task):
    everything = HandiMethod(tiny, "frame", **STEPS)(task).frames
    made = HandiMethod(tiny, "true", **STEPS)(task)
    # An untrained network takes no heed of the mask, so both denoise the same clip.
    difference = np.abs(everything / 255 - task.scene / 255)[:, ~task.area]
    assert made.change_outside == pytest.approx(difference.mean(), abs=0.5 / 255)
    assert made.change_outside > 2 / 255


def test_a_whole_frame_has_no_area_and_no_outside(tiny, task):
    made = HandiMethod(tiny, "frame", **STEPS)(task)
    assert made.area is None
    assert made.change_outside is None
    everywhere = changed(task, area=np.ones_like(task.area))
    assert HandiMethod(tiny, "true", **STEPS)(everywhere).change_outside is None


def test_a_model_without_the_motion_mask_has_no_area_of_its_own(fresh_tiny, task):
    fresh_tiny.register_to_config(uses_mask=False)
    made = HandiMethod(fresh_tiny, **STEPS)(task)
    assert made.area is None and made.change_outside is None
    assert (HandiMethod(fresh_tiny, "true", **STEPS)(task).area == task.area).all()


def test_only_the_variant_that_says_so_looks_at_the_true_mask(tiny, task):
    for area, looks in [("predicted", False), ("frame", False), ("true", True)]:
        method = HandiMethod(tiny, area, **STEPS)
        first, other = method(task).frames, method(elsewhere(task)).frames
        assert (first != other).any() == looks


def test_sampling_settings_reach_the_pipeline(tiny, task, monkeypatch):
    seen = {}

    def watch(pipe, *args, **settings):
        seen.update(settings)
        return call(pipe, *args, **settings)

    call = type(tiny).__call__
    monkeypatch.setattr(type(tiny), "__call__", watch)
    HandiMethod(tiny, num_inference_steps=2, mask_steps=1, guidance_scale=2.0)(task)
    wanted = {"num_inference_steps": 2, "mask_steps": 1, "guidance_scale": 2.0}
    assert {name: seen[name] for name in wanted} == wanted


def test_all_three_networks_are_counted(tiny):
    networks = (tiny.unet, tiny.vae, tiny.text_encoder)
    assert HandiMethod(tiny).parameters == sum(network.num_parameters() for network in networks)


def test_an_unknown_area_is_refused(tiny):
    with pytest.raises(ValueError, match="area: 'hands' is none of predicted, true, frame"):
        HandiMethod(tiny, "hands")
