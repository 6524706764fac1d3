import json

import numpy as np
import pytest
import torch
from PIL import Image

from handi_model import HandiPipeline
from pipelines.saved_model import read_saved_model
from tests.closeness import ROUNDING, apart

STEPS = {"num_frames": 3, "num_inference_steps": 2}


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_clip_and_its_motion_area_come_out(tiny, scene):
    out = tiny(scene, "open the drawer", generator=seeded(0), **STEPS)
    (clip,) = out.frames
    assert clip.shape == (3, 64, 64, 3)
    assert clip.dtype == np.float32
    assert clip.min() >= 0 and clip.max() <= 1
    assert out.masks.shape == (1, 64, 64)
    assert set(np.unique(out.masks)) <= {0, 1}


def test_outside_the_motion_area_every_pixel_is_the_input_image(tiny, scene):
    mask = np.zeros((64, 64), np.float32)
    mask[10:30, 20:50] = 1
    out = tiny(scene, "open the drawer", generator=seeded(0), mask=mask, **STEPS)
    assert (out.masks[0] == mask).all()
    outside = mask == 0
    assert (out.frames[0][:, outside] == scene[outside]).all()
    assert not np.allclose(out.frames[0][:, ~outside], scene[~outside], atol=0.02)


def test_a_feathered_edge_lies_inside_the_motion_area(tiny, scene):
    mask = np.zeros((64, 64), np.float32)
    mask[10:40, 20:50] = 1
    out = tiny(scene, "open the drawer", generator=seeded(0), mask=mask, feather=4, **STEPS)
    assert (out.masks[0][mask == 0] == 0).all()
    assert out.masks[0][25, 35] == 1
    assert 0 < out.masks[0][10, 35] < 1
    assert (out.frames[0][:, mask == 0] == scene[mask == 0]).all()


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(tiny, scene):
    first, again, other = (
        tiny(scene, "open the drawer", generator=seeded(s), **STEPS, output_type="latent").frames[0]
        for s in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)


@pytest.fixture
def awake(fresh_tiny) -> HandiPipeline:
    """A model in which every input has weight: a new one ignores image, area and stage."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in fresh_tiny.unet.named_parameters():
        if name.startswith(("conv_in", "frame_proj")) or "cond_proj" in name or "to_out" in name:
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return fresh_tiny


@pytest.mark.parametrize("drawn", [False, True])
def test_a_batch_gives_what_its_items_give_alone(awake, scene, drawn):
    images, prompts = [scene, scene[:, ::-1]], ["open the drawer", "lift box"]
    masks = np.zeros((2, 64, 64), np.float32)
    masks[0, 5:30, 5:30], masks[1, 20:60, 30:60] = 1, 1
    scales = [2.0, 3.0]
    together = awake(
        images,
        prompts,
        generator=seeded(1, 2),
        guidance_scale=scales,
        mask=list(masks) if drawn else None,
        output_type="latent",
        **STEPS,
    )
    assert not torch.allclose(together.frames[0], together.frames[1], atol=0.1)
    for i in range(2):
        alone = awake(
            images[i],
            prompts[i],
            generator=seeded(i + 1),
            guidance_scale=scales[i],
            mask=masks[i] if drawn else None,
            output_type="latent",
            **STEPS,
        )
        assert torch.allclose(together.frames[i], alone.frames[0], atol=1e-3)
        assert (together.masks[i] == alone.masks[0]).all()


def test_the_predicted_mask_given_back_gives_the_same_clip(awake, scene):
    # What an untrained model takes for a mask is faint.
    cut = {"mask_radius": 0, "mask_threshold": 0.05}
    first = awake(scene, "open the drawer", generator=seeded(0), **cut, **STEPS)
    assert 0 < first.masks.mean() < 1
    again = awake(scene, "open the drawer", generator=seeded(0), mask=first.masks[0], **STEPS)
    assert np.allclose(first.frames[0], again.frames[0], atol=1e-4)


@pytest.fixture
def mask_free(awake, monkeypatch) -> tuple[HandiPipeline, list]:
    """A model that was trained without the motion mask; and the stage and area of each call."""
    seen = []
    forward = awake.unet.forward

    def spy(noisy, timestep, text, image_latent, area, stage):
        seen.append((stage, area))
        return forward(noisy, timestep, text, image_latent, area, stage)

    monkeypatch.setattr(awake.unet, "forward", spy)
    awake.register_to_config(uses_mask=False)
    return awake, seen


def test_a_model_without_the_motion_mask_runs_stage_2_alone_over_the_whole_frame(mask_free, scene):
    pipe, seen = mask_free
    steps = []
    out = pipe(
        scene,
        "open the drawer",
        generator=seeded(0),
        callback_on_step_end=lambda pipe, step, timestep, state: steps.append(step),
        **STEPS,
    )
    assert (out.masks == 1).all() and steps == [0, 1]
    assert {stage for stage, _ in seen} == {"video"}
    assert all((area == 1).all() for _, area in seen)
    assert (pipe(scene, "open the drawer", output_type="mask").masks == 1).all()


def test_a_mask_given_to_a_model_without_one_cuts_the_clip_that_it_makes_anyway(mask_free, scene):
    pipe, seen = mask_free
    mask = np.zeros((64, 64), np.float32)
    mask[10:30, 20:50] = 1
    whole = pipe(scene, "open the drawer", generator=seeded(0), **STEPS)
    cut = pipe(scene, "open the drawer", generator=seeded(0), mask=mask, **STEPS)
    assert all((area == 1).all() for _, area in seen)
    assert (cut.masks[0] == mask).all()
    inside = mask == 1
    assert np.allclose(cut.frames[0][:, inside], whole.frames[0][:, inside], atol=1e-4)
    assert (cut.frames[0][:, ~inside] == scene[~inside]).all()


def test_a_saved_model_knows_that_it_has_no_mask(fresh_tiny, tmp_path):
    fresh_tiny.register_to_config(uses_mask=False)
    fresh_tiny.save_pretrained(tmp_path)
    assert HandiPipeline.from_pretrained(tmp_path).config.uses_mask is False
    assert read_saved_model(str(tmp_path)).uses_mask is False
    index = tmp_path / "model_index.json"
    values = json.loads(index.read_text())
    del values["uses_mask"]  # as models were saved before
    index.write_text(json.dumps(values))
    assert HandiPipeline.from_pretrained(tmp_path).config.uses_mask is True
    assert read_saved_model(str(tmp_path)).uses_mask is True


def test_the_motion_area_alone_is_the_one_that_the_clip_would_have(awake, scene):
    seen = []
    alone = awake(
        scene,
        "open the drawer",
        generator=seeded(0),
        output_type="mask",
        callback_on_step_end=lambda pipe, step, timestep, state: seen.append(state["stage"]),
        **STEPS,
    )
    assert alone.frames == [] and seen == ["mask"] * 2
    whole = awake(scene, "open the drawer", generator=seeded(0), **STEPS)
    assert (alone.masks == whole.masks).all()


def test_image_and_motion_area_reach_the_network(awake, scene):
    def clip(image, mask):
        out = awake(
            image, "lift box", generator=seeded(0), mask=mask, output_type="latent", **STEPS
        )
        return out.frames[0]

    left, right = np.zeros((2, 64, 64), np.float32)
    left[:, :32], right[:, 32:] = 1, 1
    assert not torch.allclose(clip(scene, left), clip(scene, right), atol=1e-2)
    # The residual is laid on the image latent, so images must differ by more than that.
    one, other = clip(scene, left), clip(scene[:, ::-1], left)
    assert not torch.allclose(one - one[:, :1], other - other[:, :1], atol=1e-2)


def test_a_transparent_picture_is_laid_on_black(tiny):
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[:32, :, 3] = 0
    (scene,) = tiny.check(Image.fromarray(pixels), "lift box").scenes
    assert (scene[:32] == 0).all()
    assert (scene[32:] == 1).all()


def test_a_turned_photograph_is_set_upright(tiny):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 255
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = 6  # to be turned a quarter to the right
    (scene,) = tiny.check(picture, "lift box").scenes
    assert (scene[:32] == 1).all()
    assert (scene[32:] == 0).all()


def test_guidance_and_instruction_matter_once_the_text_has_weight(fresh_tiny, scene):
    for name, weight in fresh_tiny.unet.named_parameters():
        if "attn2.to_out" in name:
            weight.data.normal_()

    def latent(prompt, scale):
        out = fresh_tiny(
            scene,
            prompt,
            generator=seeded(0),
            guidance_scale=scale,
            output_type="latent",
            **STEPS,
        )
        return out.frames[0]

    plain = latent("open the drawer", 1.0)
    assert not torch.allclose(plain, latent("open the drawer", 5.0), atol=1e-2)
    assert not torch.allclose(plain, latent("lift box", 1.0), atol=1e-3)


def test_progress_is_reported_over_both_stages_and_the_latents_can_be_changed(tiny, scene):
    seen = []

    def watch(pipe, step, timestep, state):
        assert pipe is tiny
        seen.append((step, state["stage"]))
        return {"latents": state["latents"] * 0}

    tiny(
        scene,
        "open the drawer",
        mask_steps=1,
        callback_on_step_end=watch,
        **STEPS,
    )
    assert seen == [(0, "mask"), (1, "video"), (2, "video")]


def test_a_given_mask_skips_the_first_stage(tiny, scene):
    stages = []
    tiny(
        scene,
        "open the drawer",
        mask=Image.new("L", (64, 64), 255),
        callback_on_step_end=lambda pipe, step, t, state: stages.append(state["stage"]),
        **STEPS,
    )
    assert stages == ["video", "video"]


def test_each_output_type(tiny, scene):
    def frames(kind):
        return tiny(scene, "lift box", generator=seeded(0), output_type=kind, **STEPS).frames[0]

    arrays = frames("np")
    assert torch.equal(frames("pt"), torch.from_numpy(arrays).permute(0, 3, 1, 2))
    pictures = frames("pil")
    assert [picture.size for picture in pictures] == [(64, 64)] * 3
    assert np.abs(np.asarray(pictures[1]) / 255 - arrays[1]).max() <= 0.5 / 255 + 1e-6
    assert frames("latent").shape == (16, 3, 8, 8)


def test_a_saved_pipeline_opens_again_and_gives_the_same_clip(tiny, scene, tmp_path):
    tiny.unet.prior.fill_(0.25)
    tiny.save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").exists()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    opened = HandiPipeline.from_pretrained(tmp_path)
    opened.set_progress_bar_config(disable=True)
    assert opened.config.residual == tiny.config.residual
    assert opened.config.guidance_scale == tiny.config.guidance_scale
    call = {"output_type": "latent", **STEPS}
    first = tiny(scene, "lift box", generator=seeded(5), **call)
    again = opened(scene, "lift box", generator=seeded(5), **call)
    tiny.unet.prior.zero_()
    for part in ("unet", "vae", "text_encoder"):
        saved, loaded = getattr(tiny, part).state_dict(), getattr(opened, part).state_dict()
        same = [torch.equal(saved[name], loaded[name]) for name in saved if name != "prior"]
        assert same and all(same)
    # Weights that lie elsewhere in memory may be summed in another order.
    assert torch.allclose(first.frames[0], again.frames[0], atol=1e-4)
    assert (first.masks == again.masks).all()


@pytest.fixture
def guided(awake) -> HandiPipeline:
    """With weight to the instruction, too."""
    for name, weight in awake.unet.named_parameters():
        if "attn2.to_out" in name:
            weight.data.normal_()
    return awake


CALL = {"mask_steps": 1, "output_type": "latent", **STEPS}


def test_embeddings_stand_for_the_instructions_and_what_to_move_away_from(guided, scene):
    def clip(**words):
        return guided(scene, guidance_scale=3.0, generator=seeded(0), **words, **CALL).frames[0]

    embedded, away = guided.encode_prompt(["lift box", "open the drawer"]).split(1)
    expected = clip(prompt="lift box", negative_prompt="open the drawer")
    given = clip(prompt_embeds=embedded, negative_prompt_embeds=away)
    assert apart(given, expected) < 100 * ROUNDING
    half = clip(prompt_embeds=embedded, negative_prompt="open the drawer")
    assert apart(half, expected) < 100 * ROUNDING
    assert apart(clip(prompt="lift box"), expected) > 0.01


def test_each_instruction_moves_away_from_its_own(guided, scene):
    away = ["open the drawer", ""]
    together = guided(
        scene,
        ["lift box"] * 2,
        negative_prompt=away,
        guidance_scale=3.0,
        generator=seeded(0, 0),
        **CALL,
    ).frames
    assert apart(together[0], together[1]) > 0.01
    alone = guided(
        scene,
        "lift box",
        negative_prompt=away[0],
        guidance_scale=3.0,
        generator=seeded(0),
        **CALL,
    ).frames[0]
    assert apart(together[0], alone) < 100 * ROUNDING


def test_given_noise_is_taken_for_what_the_generator_would_draw(awake, scene):
    generator = torch.Generator().manual_seed(5)
    mask_noise, noise = torch.randn((2, 16, 3, 8, 8), generator=generator)
    expected = awake(scene, "lift box", generator=seeded(5), **CALL)
    given = {"latents": noise[None], "mask_latents": mask_noise[None]}
    out = awake(scene, "lift box", **given, **CALL)
    assert apart(out.frames[0], expected.frames[0]) < 100 * ROUNDING
    assert (out.masks == expected.masks).all()


def test_several_clips_of_a_prompt_follow_each_other(awake, scene):
    images, prompts = [scene, scene[:, ::-1]], ["open the drawer", "lift box"]
    masks = list(np.zeros((2, 64, 64), np.float32))
    masks[0][5:30, 5:30] = 1
    out = awake(
        images, prompts, mask=masks, num_videos_per_prompt=2, generator=seeded(1, 2, 3, 4), **CALL
    )
    assert (out.masks == np.stack([masks[0], masks[0], masks[1], masks[1]])).all()
    alone = awake(images[1], prompts[1], mask=masks[1], generator=seeded(3), **CALL)
    assert torch.allclose(out.frames[2], alone.frames[0], atol=1e-3)
    assert not torch.allclose(out.frames[2], out.frames[3], atol=0.1)


def test_half_precision(fresh_tiny, scene):
    half = fresh_tiny.to("cpu", torch.bfloat16)
    out = half(scene, "lift box", generator=seeded(0), **STEPS)
    assert out.frames[0].dtype == np.float32
    assert np.isfinite(out.frames[0]).all()


def test_larger_frames_than_trained_on(tiny, scene):
    large = np.kron(scene, np.ones((2, 2, 1), np.float32))
    out = tiny(large, "lift box", height=96, width=128, generator=seeded(0), **STEPS)
    assert out.frames[0].shape == (3, 96, 128, 3)
    assert out.masks.shape == (1, 96, 128)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"prompt": " "}, "prompt: ' ' is no instruction"),
        ({"prompt": "cut " * 200}, "prompt: .* tokens, and the model reads"),
        ({"prompt": []}, "prompt: the list is empty"),
        ({"image": np.zeros((40, 80, 3), np.float32)}, "image: 80x40 pixels are too small"),
        ({"image": np.full((64, 64, 3), 200.0)}, "image: float64 values must lie in"),
        ({"image": "scene.png"}, "image: str is no picture"),
        ({"height": 65}, "height: 65 is not a multiple of 16; take 64 or 80"),
        ({"width": 8}, "width: 8 is outside"),
        ({"num_frames": 1}, "num_frames: 1 is outside of 2 to 256 frames"),
        ({"num_frames": 2.5}, "num_frames: 2.5 is not a whole number"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0 is outside"),
        ({"mask_steps": 1001}, "mask_steps: 1001 is outside"),
        ({"guidance_scale": 0.5}, "guidance_scale: 0.5 is not a number from 1"),
        ({"guidance_scale": [1.0, 2.0]}, "guidance_scale: 2 for 1 prompts"),
        ({"generator": 7}, "generator: 7 is no torch.Generator"),
        ({"mask": np.zeros((32, 32), np.float32)}, "mask: 32x32 pixels are too small"),
        ({"output_type": "mp4"}, "output_type: 'mp4' is none of"),
        ({"feather": -1}, "feather: -1 is outside"),
        ({"mask_radius": -1}, "mask_radius: -1 is outside"),
        ({"mask_threshold": 1.0}, "mask_threshold: 1.0 is not between 0 and 1"),
        ({"decode_chunk_size": 0}, "decode_chunk_size: 0 is outside"),
        ({"negative_prompt": 3}, "negative_prompt: 3 is no text"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt: 2 for 1 prompts"),
        ({"prompt": None}, "prompt: give either it or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 24, 64)}, "prompt: give either it or prompt_embeds"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 24, 32)},
            r"prompt_embeds: shape \(1, 24, 32\) is not \(B, T, 64\)",
        ),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 5, 64)},
            "negative_prompt_embeds: must have the 5 tokens that",
        ),
        (
            {"negative_prompt": "no", "negative_prompt_embeds": torch.zeros(1, 24, 64)},
            "negative_prompt: give either it or negative_prompt_embeds",
        ),
        (
            {"latents": torch.zeros(1, 16, 16, 4, 4)},
            r"latents: .* is not \(1, 16, 16, 8, 8\)",
        ),
        ({"latents": np.zeros((1, 16, 16, 8, 8))}, "latents: must be a tensor"),
        ({"mask_latents": torch.full((1, 16, 16, 8, 8), torch.nan)}, "mask_latents: .* not finite"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt: 0 is outside"),
        (
            {"num_videos_per_prompt": 2, "generator": [torch.Generator()]},
            "r: 1 for 2 clips",
        ),
        ({"eta": 2}, r"eta: 2 is not a number in \[0, 1\]"),
        ({"eta": 0.5}, "eta: DPMSolverMultistepScheduler takes none"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "tensor_inputs: 'noise' is none of"),
    ],
)
def test_what_cannot_be_met_is_refused_in_one_line_that_names_it(tiny, scene, changes, line):
    with pytest.raises(ValueError, match=line) as refused:
        tiny(**{"image": scene, "prompt": "lift box", **changes})
    assert "\n" not in str(refused.value)


class Spoilt(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *given):
        return self.layer(*given) * torch.inf


SPOILT = {
    "stage 1": ("unet.conv_out.mask", "latents of stage 1 are not finite numbers in float32"),
    "stage 2": ("unet.conv_out.video", "latents of stage 2 are not finite numbers in float32"),
    "the autoencoder": ("vae.decoder.conv_out", "decoded masks are not finite numbers"),
}


@pytest.mark.parametrize(("layer", "line"), SPOILT.values(), ids=SPOILT)
def test_what_is_not_finite_is_an_error_with_a_remedy_and_not_a_black_picture(
    fresh_tiny, scene, layer, line
):
    part, path = layer.split(".", 1)
    network = getattr(fresh_tiny, part)
    network.set_submodule(path, Spoilt(network.get_submodule(path)))
    with pytest.raises(FloatingPointError, match=f"{line}.*; lower guidance_scale") as told:
        fresh_tiny(scene, "lift box", mask_steps=1, **STEPS)
    assert "\n" not in str(told.value)


def test_numbers_too_large_for_float16_are_told_which_type_holds_them(fresh_tiny, scene):
    for stage in fresh_tiny.unet.conv_out.values():
        stage.weight.data.mul_(1e5)
    masks = np.ones((64, 64), np.float32)
    call = {"mask": masks, "generator": seeded(0, 1), **STEPS, "output_type": "latent"}
    assert fresh_tiny([scene] * 2, ["lift box"] * 2, **call).frames[0].isfinite().all()
    half = fresh_tiny.to(torch.float16)
    with pytest.raises(FloatingPointError, match=r"of clips 0, 1 are not .* take bfloat16 or fl"):
        half([scene] * 2, ["lift box"] * 2, **call)
