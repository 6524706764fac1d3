import numpy as np
import pytest
import torch

from handi_model.baselines.animate_anything import AnimateAnythingMethod
from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.diffusion import alpha_bars
from handi_model.latents import encode_frames
from tests.handi_model.baselines.conftest import assert_generates, changed, elsewhere

STEPS = 2


@pytest.fixture(scope="module")
def method(tiny) -> AnimateAnythingMethod:
    return AnimateAnythingMethod(tiny, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def whole_latents() -> AnimateAnythingMethod:
    """On a UNet that denoises the latents themselves, as AnimateAnything's does."""
    torch.manual_seed(0)
    pipe = new_pipeline(ModelConfig.of("tiny", residual=False))
    return AnimateAnythingMethod(pipe, num_inference_steps=STEPS)


def calls(method, task) -> list[dict[str, object]]:
    """What the UNet is given at each step of one call."""
    names = ("noisy", "timestep", "text", "image_latent", "area", "stage")
    seen = []

    def watch(module, given):
        seen.append(dict(zip(names, given, strict=True)))

    handle = method.pipe.unet.register_forward_pre_hook(watch)
    try:
        method(task)
    finally:
        handle.remove()
    return seen


def image_latent(pipe, task) -> torch.Tensor:
    pixels = torch.from_numpy(task.scene / np.float32(255)).permute(2, 0, 1)
    return encode_frames(pipe.vae, (pixels * 2 - 1)[None, None])[0, :, 0]


def test_a_clip_of_the_asked_size_and_length_comes_out_for_each_seed(method, task):
    assert_generates(method, task)


def test_there_is_no_motion_area_and_the_true_one_is_not_looked_at(method, task):
    made = method(task)
    assert made.area is None
    assert made.change_outside is None
    assert (made.frames == method(elsewhere(task)).frames).all()


def test_one_stage_runs_and_its_mask_channel_is_all_ones(method, task):
    seen = calls(method, task)
    assert [one["stage"] for one in seen] == ["video"] * STEPS
    assert all((one["area"] == 1).all() for one in seen)


@pytest.mark.parametrize("kind", ["method", "whole_latents"])
def test_the_first_frame_is_the_scene_as_the_autoencoder_gives_it(kind, task, request):
    method = request.getfixturevalue(kind)
    latent = image_latent(method.pipe, task)
    through = method.pipe.decode(latent[None, :, None])[0, 0].permute(1, 2, 0).numpy()
    frames = method(task).frames
    assert np.abs(frames[0] / 255 - through).max() <= 0.5 / 255 + 1e-4
    assert np.abs(frames[1] / 255 - through).max() > 0.02


def test_sampling_starts_from_the_repeated_image_latent_noised_to_the_first_timestep(
    whole_latents, task
):
    latent = image_latent(whole_latents.pipe, task)
    # One seed, so one noise: what differs between the starts is the images' share.
    darker = changed(task, scene=task.scene // 2)
    one, other = (calls(whole_latents, t)[0] for t in (task, darker))
    share = alpha_bars(whole_latents.pipe.scheduler.config)[one["timestep"][0]].sqrt()
    difference = share * (latent - image_latent(whole_latents.pipe, darker))
    assert difference.abs().max() > 1e-2
    for frame in range(task.num_frames):
        found = one["noisy"][0, :, frame] - other["noisy"][0, :, frame]
        assert torch.allclose(found, difference, atol=1e-5)


def test_the_first_frame_is_held_at_the_noise_level_of_each_step(whole_latents, task):
    pipe = whole_latents.pipe
    bars = alpha_bars(pipe.scheduler.config)
    latent = image_latent(pipe, task)
    noises = []
    for one in calls(whole_latents, task):
        bar = bars[one["timestep"][0]]
        noises.append((one["noisy"][0, :, 0] - bar.sqrt() * latent) / (1 - bar).sqrt())
    assert torch.allclose(noises[0], noises[1], atol=1e-4)


def test_guidance_scale_reaches_the_network(tiny, task):
    guided = AnimateAnythingMethod(tiny, num_inference_steps=STEPS, guidance_scale=2.0)
    assert len(calls(guided, task)[0]["noisy"]) == 2


def test_all_three_networks_are_counted(tiny, method):
    networks = (tiny.unet, tiny.vae, tiny.text_encoder)
    assert method.parameters == sum(network.num_parameters() for network in networks)
