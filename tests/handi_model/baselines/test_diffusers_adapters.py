import importlib.util
import shutil

import numpy as np
import pytest
import torch
from diffusers import PIAPipeline
from PIL import Image

from handi_model.baselines.diffusers_adapters import (
    PublishedMethod,
    open_cogvideox,
    open_i2vgen_xl,
    open_pia,
    resampled,
)
from tests.handi_model.baselines.conftest import (
    assert_generates,
    changed,
    cogvideox_pipeline,
    elsewhere,
    motion_layers,
    parameters_in,
    saved,
)

CPU = ("cpu", torch.float32)
STEPS = {"num_inference_steps": 2}
SMALL = {"height": 16, "width": 32, "num_frames": 4, **STEPS}

METHODS = ("cogvideox_method", "pia_method", "i2vgen_xl_method")


@pytest.fixture(scope="module")
def cogvideox_method(cogvideox) -> PublishedMethod:
    return open_cogvideox(str(cogvideox), *CPU, **STEPS)


@pytest.fixture(scope="module")
def pia_method(image_model, pia_adapter) -> PublishedMethod:
    adapter = str(pia_adapter)
    return open_pia(str(image_model), *CPU, motion_adapter=adapter, num_frames=4, **STEPS)


@pytest.fixture(scope="module")
def i2vgen_xl_method(i2vgen_xl) -> PublishedMethod:
    return open_i2vgen_xl(str(i2vgen_xl), *CPU, **SMALL)


@pytest.mark.parametrize("name", METHODS)
def test_a_clip_of_the_asked_size_and_length_comes_out_for_each_seed(name, task, request):
    assert_generates(request.getfixturevalue(name), task)


@pytest.mark.parametrize("name", METHODS)
def test_there_is_no_motion_area_and_the_true_one_is_not_looked_at(name, task, request):
    method = request.getfixturevalue(name)
    made = method(task)
    assert made.area is None
    assert made.change_outside is None
    assert (made.frames == method(elsewhere(task)).frames).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_callers_random_numbers_go_on_as_if_nothing_was_made(name, task, request):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    request.getfixturevalue(name)(task)
    assert torch.equal(torch.rand(3), expected)


def test_every_parameter_of_the_checkpoint_is_counted(
    cogvideox_method, cogvideox, i2vgen_xl_method, i2vgen_xl
):
    # The position embedding is saved as a weight, but is none.
    embedding = cogvideox_method.pipe.transformer.patch_embed.pos_embedding.numel()
    assert cogvideox_method.parameters == parameters_in(cogvideox) - embedding
    assert i2vgen_xl_method.parameters == parameters_in(i2vgen_xl)


def test_pias_motion_layers_are_counted_once(pia_method, image_model, pia_adapter):
    # Of the adapter's first convolution only the channels that the image model lacks are new.
    adapter = motion_layers(9)
    old = adapter.conv_in.weight[:, :4].numel() + adapter.conv_in.bias.numel()
    positions = sum(
        weight.numel() for name, weight in adapter.named_buffers() if "pos_embed" in name
    )
    expected = parameters_in(image_model) + parameters_in(pia_adapter) - old - positions
    assert pia_method.parameters == expected


@pytest.mark.parametrize("name", METHODS)
def test_scene_and_instruction_reach_the_method(name, task, request):
    method = request.getfixturevalue(name)
    made = method(task).frames
    assert (made != method(changed(task, scene=task.scene[::-1].copy())).frames).any()
    assert (made != method(changed(task, prompt="tear the bread")).frames).any()


def calls(method, task, monkeypatch) -> list[dict[str, object]]:
    """What the pipeline is asked for."""
    seen = []

    def watch(pipe, **given):
        seen.append(given)
        return call(pipe, **given)

    call = type(method.pipe).__call__
    monkeypatch.setattr(type(method.pipe), "__call__", watch)
    method(task)
    return seen


def test_each_pipeline_runs_at_its_own_size_and_length(
    cogvideox_method, pia_method, i2vgen_xl, task, monkeypatch
):
    for method, expected in [(cogvideox_method, (16, 32, 9)), (pia_method, (16, 16, 4))]:
        (given,) = calls(method, task, monkeypatch)
        assert (given["height"], given["width"], given["num_frames"]) == expected
        assert given["image"].size == (expected[1], expected[0])
        made = method(task)
        assert made.generated == (expected[2], *expected[:2])
        assert made.frames.shape[:3] != made.generated
    method = open_i2vgen_xl(str(i2vgen_xl), *CPU)
    assert (method.height, method.width, method.num_frames) == (704, 1280, 16)


def test_cogvideox_1_5_has_another_size_and_length(task, tmp_path_factory):
    later = {"patch_size_t": 2, "use_learned_positional_embeddings": False}
    largest = {"sample_height": 300, "sample_width": 300, "sample_frames": 81}
    folder = str(saved(cogvideox_pipeline(**later, **largest), tmp_path_factory))
    method = open_cogvideox(folder, *CPU)
    assert (method.height, method.width, method.num_frames) == (768, 1360, 81)
    small = open_cogvideox(folder, *CPU, height=16, width=32, num_frames=9, **STEPS)
    assert small(task).frames.shape == (3, 32, 32, 3)


def test_published_settings_hold_unless_they_are_overridden(
    cogvideox, image_model, pia_adapter, i2vgen_xl, task, monkeypatch
):
    adapter = {"motion_adapter": str(pia_adapter)}
    for opener, folder, more, steps, scale in [
        (open_cogvideox, cogvideox, {}, 50, 6.0),
        (open_pia, image_model, adapter, 25, 7.5),
        (open_i2vgen_xl, i2vgen_xl, {}, 50, 9.0),
    ]:
        settings = opener(str(folder), *CPU, **more).settings
        assert (settings["num_inference_steps"], settings["guidance_scale"]) == (steps, scale)
    changes = {"num_inference_steps": 1, "guidance_scale": 2.0, "height": 24, "num_frames": 3}
    method = open_pia(str(image_model), *CPU, motion_scale=2, **adapter, **changes)
    (given,) = calls(method, task, monkeypatch)
    assert {name: given[name] for name in changes} == changes
    assert given["motion_scale"] == 2


def test_i2vgen_xl_is_told_the_rate_at_which_its_frames_are_played(
    i2vgen_xl_method, task, monkeypatch
):
    (given,) = calls(i2vgen_xl_method, task, monkeypatch)
    assert given["target_fps"] == 16, "the published one"
    # As many frames as it makes fill the time that the task's three do.
    (given,) = calls(i2vgen_xl_method, changed(task, fps=8.0), monkeypatch)
    assert given["target_fps"] == round(8 * (i2vgen_xl_method.num_frames - 1) / 2)


def test_pia_samples_with_the_schedule_that_it_was_trained_with(pia_method, cogvideox_method):
    assert pia_method.pipe.scheduler.config.beta_schedule == "linear"
    assert not pia_method.pipe.scheduler.config.clip_sample
    assert cogvideox_method.pipe.scheduler.config.timestep_spacing == "trailing"


def test_a_saved_pia_pipeline_needs_no_adapter(image_model, pia_method, task, tmp_path):
    PIAPipeline.from_pretrained(image_model, motion_adapter=motion_layers(9)).save_pretrained(
        tmp_path
    )
    method = open_pia(str(tmp_path), *CPU, motion_adapter=None, num_frames=4, **STEPS)
    assert method.parameters == pia_method.parameters
    assert np.abs(method(task).frames - pia_method(task).frames.astype(float)).max() <= 1


def test_half_precision(i2vgen_xl, task):
    method = open_i2vgen_xl(str(i2vgen_xl), "cpu", torch.bfloat16, **SMALL)
    assert method.pipe.unet.dtype == torch.bfloat16
    assert method(task).frames.shape == (3, 32, 32, 3)


def grey(*levels: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 6), (level,) * 3) for level in levels]


def test_frames_are_taken_evenly_from_the_first_to_the_last():
    def levels(count):
        return resampled(grey(*range(9)), 6, 8, count)[:, 0, 0, 0].tolist()

    assert levels(9) == list(range(9))
    assert levels(5) == [0, 2, 4, 6, 8]
    assert levels(3) == [0, 4, 8]
    assert levels(17)[::2] == list(range(9))


def test_frames_get_the_asked_size_and_keep_what_is_where():
    picture = np.zeros((12, 20, 3), np.uint8)
    picture[:, 10:] = 200
    (frame,) = resampled([Image.fromarray(picture)], 6, 4, 1)
    assert frame.shape == (6, 4, 3)
    assert frame[:, 0].max() <= 10
    assert frame[:, 3].min() >= 190
    assert (resampled([Image.fromarray(picture)], 12, 20, 1)[0] == picture).all()


def refused(opener, folder, line, **options) -> None:
    with pytest.raises(ValueError, match=line) as error:
        opener(str(folder), *CPU, **options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path, cogvideox, i2vgen_xl, image_model):
    nothing = f"{tmp_path}: cannot be loaded as "
    refused(open_cogvideox, tmp_path, nothing)
    refused(open_i2vgen_xl, tmp_path, nothing)
    refused(open_pia, tmp_path, nothing, motion_adapter=None)
    refused(open_pia, image_model, nothing, motion_adapter=str(tmp_path))
    refused(open_cogvideox, i2vgen_xl, f"{i2vgen_xl}: cannot be loaded as CogVideoX")
    refused(open_i2vgen_xl, cogvideox, f"{cogvideox}: cannot be loaded as I2VGenXL")
    refused(open_pia, image_model, "holds no weights of PIA", motion_adapter=None)


def test_an_adapter_that_is_not_pias_is_refused(image_model, tmp_path_factory):
    folder = saved(motion_layers(None), tmp_path_factory)
    refused(open_pia, image_model, f"{folder} holds no weights of PIA", motion_adapter=str(folder))


def test_a_text_to_video_checkpoint_is_refused(tmp_path_factory):
    folder = saved(cogvideox_pipeline(in_channels=4), tmp_path_factory)
    refused(open_cogvideox, folder, f"model: {folder} takes no image")


def test_pickled_weights_are_refused(i2vgen_xl, tmp_path):
    shutil.copytree(i2vgen_xl, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    refused(open_i2vgen_xl, tmp_path, "cannot be loaded as I2VGenXLPipeline")


@pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is there"
)
def test_a_tokenizer_that_needs_sentencepiece_says_so(cogvideox, tmp_path):
    shutil.copytree(cogvideox, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer/tokenizer.json").unlink()
    (tmp_path / "tokenizer/spiece.model").write_bytes(b"pieces")
    refused(open_cogvideox, tmp_path, "pip install sentencepiece")


def test_settings_that_a_method_cannot_meet_are_refused(
    cogvideox, image_model, pia_adapter, i2vgen_xl
):
    refused(open_cogvideox, cogvideox, "num_frames: 8 cannot .* take 5 or 9", num_frames=8)
    refused(open_cogvideox, cogvideox, "frames of 16 by 32 only", height=32)
    refused(open_i2vgen_xl, i2vgen_xl, "width: 20 is not a multiple of 8", width=20)
    refused(open_i2vgen_xl, i2vgen_xl, "num_inference_steps: 0 is", num_inference_steps=0)
    refused(open_i2vgen_xl, i2vgen_xl, "guidance_scale: 0.5 is", guidance_scale=0.5)
    pia = {"motion_adapter": str(pia_adapter)}
    refused(open_pia, image_model, "num_frames: 33 is outside of 2 to 32", num_frames=33, **pia)
    refused(open_pia, image_model, "motion_scale: 9 is outside", motion_scale=9, **pia)
