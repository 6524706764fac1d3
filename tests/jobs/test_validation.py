import io
import math
import random
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handi_model import HandiPipeline
from handi_model.batch import Batch, encode_clips
from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.fitting import FitSettings, fit
from handi_model.seeds import clip_seed
from handi_model.training import LossSettings, Networks
from jobs.validation import (
    Tally,
    ValidationSettings,
    held_out,
    noise_losses,
    validate,
)
from pipelines.training_clips import TrainingClips, read_training_clips
from tests.datasets import rendered_dataset

CLIPS = ["slide_cup_1", "stir_pan_2", "lift_box_1"]
QUICK = ValidationSettings(
    noise_timesteps=2, num_inference_steps=2, mask_steps=1, guidance_scale=2, shown=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS)


@pytest.fixture(scope="module")
def clips(data) -> TrainingClips:
    return read_training_clips(data, CLIPS, 64)


def new_tiny() -> HandiPipeline:
    torch.manual_seed(0)
    pipe = new_pipeline(ModelConfig.of("tiny"))
    pipe.set_progress_bar_config(disable=True)
    # A new network answers zero whatever it is shown.
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    return pipe


@pytest.fixture(scope="module")
def pipe() -> HandiPipeline:
    return new_tiny()


@pytest.fixture(scope="module")
def networks(pipe, detector) -> Networks:
    return Networks.of(pipe, detector)


@pytest.fixture(scope="module")
def validated(pipe, networks, clips):
    return validate(pipe, networks, clips, QUICK, 0, 0.1)


@pytest.fixture(scope="module")
def encoded(pipe, data) -> Batch:
    one = read_training_clips(data, CLIPS[:1], 64)
    return encode_clips(pipe, one.frames, one.frame_masks, one.joints, one.detected, one.narrations)


class Oracle(torch.nn.Module):
    """Predicts the velocity that leads to known clean latents, up to an error; notes its calls."""

    def __init__(self, networks: Networks, clip: Batch, error: float = 0.0) -> None:
        super().__init__()
        self.alpha_bars, self.error = networks.alpha_bars, error
        self.goals = {
            "mask": clip.mask_latent - networks.empty_mask_latent[None, :, None],
            "video": clip.video_latent - clip.image_latent[:, :, None],
        }
        self.calls: list[tuple] = []

    def forward(self, noisy, timestep, text, image_latent, area, stage):
        self.calls.append((stage, int(timestep), text, area))
        bar = self.alpha_bars[timestep].reshape(-1, 1, 1, 1, 1)
        noise = (noisy - bar.sqrt() * self.goals[stage]) / (1 - bar).sqrt()
        return bar.sqrt() * noise - (1 - bar).sqrt() * self.goals[stage] + self.error


def test_a_clips_results_depend_on_no_other_clip(pipe, networks, data, validated):
    alone = read_training_clips(data, ["lift_box_1"], 64)
    torch.manual_seed(99)
    (result,) = validate(pipe, networks, alone, QUICK, 0, 0.1, shown=["slide_cup_1"])
    together = {one.clip_id: one for one in validated}
    assert list(together) == CLIPS
    assert result.figures == pytest.approx(together["lift_box_1"].figures, rel=1e-3)
    assert result.pictures is together["lift_box_1"].pictures is None


def test_another_seed_is_other_noise(pipe, networks, encoded):
    losses = [noise_losses(networks, encoded, 2, clip_seed(seed, "a")) for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_each_clip_has_its_figures(validated):
    for one in validated:
        figures = one.figures
        assert all(name.startswith("validation/") for name in figures)
        assert figures["validation/mask_noise"] > 0
        assert figures["validation/video_noise"] > 0
        assert 0 <= figures["validation/mask_iou"] <= 1
        assert 0 <= figures["validation/presence"] <= 1
        assert figures["validation/hs_err"] > 0
        assert 5 < figures["validation/psnr"] < 60


def test_a_clip_without_hands_has_no_hand_error(pipe, networks, data):
    one = read_training_clips(data, CLIPS[:1], 64)
    handless = replace(one, detected=np.zeros_like(one.detected))
    (result,) = validate(pipe, networks, handless, QUICK, 0, 0.1)
    for name in ("hs_err", "joint_error", "presence", "hand_recall", "hand_distance"):
        assert math.isnan(result.figures[f"validation/{name}"])
    assert math.isfinite(result.figures["validation/psnr"])


def test_a_model_without_the_motion_mask_has_no_figure_of_stage_1(networks, encoded):
    free = replace(networks, uses_mask=False, unet=Oracle(networks, encoded))
    assert list(noise_losses(free, encoded, 2, 0)) == ["video_noise"]
    assert all(stage == "video" and (area == 1).all() for stage, _, _, area in free.unet.calls)


def test_nothing_else_changes(pipe, networks, data):
    one = read_training_clips(data, CLIPS[:1], 64)
    weights = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    pipe.unet.train()
    pipe.unet.conv_in.eval()
    seen = []
    validate(pipe, networks, one, QUICK, 0, 0.1, on_clip=lambda _: seen.append(pipe.unet.training))
    assert seen == [False]
    assert pipe.unet.training and pipe.unet.conv_out.training and not pipe.unet.conv_in.training
    pipe.unet.eval()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert all(torch.equal(value, weights[name]) for name, value in pipe.unet.state_dict().items())
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())


def test_a_wrapper_that_waits_for_other_workers_is_not_called(pipe, networks, data):
    class Wrapper(torch.nn.Module):
        def forward(self, *inputs):
            raise AssertionError("called")

    one = read_training_clips(data, CLIPS[:1], 64)
    assert validate(pipe, replace(networks, unet=Wrapper()), one, QUICK, 0, 0.1, shown=[])


def test_without_a_detector_it_says_so(pipe, networks, clips):
    with pytest.raises(ValueError, match="no hand detector"):
        validate(pipe, replace(networks, detector=None), clips, QUICK, 0, 0.1)


def test_the_noise_losses_ask_at_even_timesteps_under_the_true_mask(networks, encoded):
    oracle = Oracle(networks, encoded)
    losses = noise_losses(replace(networks, unet=oracle), encoded, 4, 0)
    assert losses["mask_noise"] < 1e-4 and losses["video_noise"] < 1e-4
    for stage in ("mask", "video"):
        asked = [call for call in oracle.calls if call[0] == stage]
        assert [timestep for _, timestep, _, _ in asked] == [125, 375, 625, 875]
        assert all(torch.equal(text, encoded.text) for _, _, text, _ in asked)
    cells = encoded.mask.reshape(1, 8, 8, 8, 8).mean((2, 4))
    assert all(
        torch.allclose(area, cells) for stage, _, _, area in oracle.calls if stage == "video"
    )


def test_the_noise_losses_are_the_squared_error(networks, encoded):
    off = replace(networks, unet=Oracle(networks, encoded, error=0.5))
    losses = noise_losses(off, encoded, 3, 0)
    assert losses == pytest.approx({"mask_noise": 0.25, "video_noise": 0.25}, abs=1e-3)


def test_a_model_that_has_learnt_a_clip_has_a_lower_noise_loss_on_it(encoded):
    pipe = new_tiny()
    before = noise_losses(Networks.of(pipe, None), encoded, 4, 0)
    losses = LossSettings(alpha=0.0, eta=0.0)
    settings = FitSettings(steps=20, batch_size=1, warmup_steps=2, ema_decay=0.5)
    fit(pipe, encoded, None, losses, settings, lambda *_: None)
    after = noise_losses(Networks.of(pipe, None), encoded, 4, 0)
    assert after["mask_noise"] < before["mask_noise"]
    assert after["video_noise"] < before["video_noise"]


def test_the_pictures_show_the_real_and_the_generated_clip(validated, clips):
    assert [one.pictures is not None for one in validated] == [True, False, False]
    files = validated[0].pictures
    with Image.open(io.BytesIO(files.png)) as picture:
        # The input picture and four frames, of the real and of the generated clip.
        assert picture.size == (5 * 128 + 4 * 4, 2 * 128 + 4)
        pixels = np.asarray(picture).astype(int)
    real, made = pixels[:128], pixels[132:]
    assert (pixels[128:132] == 255).all()
    assert abs(real - made).max() > 50
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 90)
    assert orange[:128, 132:].any(), "the right hand's true joints"
    assert orange[132:, 132:].any(), "the right hand's found joints"
    with av.open(io.BytesIO(files.mp4)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert float(video.streams.video[0].average_rate) == 8, "the model's own"
    assert np.shape(frames) == (4, 128, 2 * 128 + 4, 3)
    shrunk = np.asarray(Image.fromarray(frames[3][:, :128]).resize((64, 64))).astype(int)
    assert abs(shrunk - clips.frames[0, 3]).mean() < 8


@given(st.data())
def test_adding_the_workers_tallies_counts_every_clip_once(data):
    value = st.floats(-1e3, 1e3) | st.just(math.nan) | st.just(math.inf)
    rows = data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), value), max_size=12))
    workers = data.draw(st.integers(1, 5))
    merged = Tally()
    for worker in range(workers):
        merged += Tally(**Tally.of(rows[worker::workers]).as_dict())
    means = Tally.of(rows).means()
    assert merged.means() == pytest.approx(means, nan_ok=True, abs=1e-9)
    for name, mean in means.items():
        known = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
        expected = sum(known) / len(known) if known else math.nan
        assert mean == pytest.approx(expected, nan_ok=True, abs=1e-9)


SPLITS = st.sampled_from(["", None, "train", "validation", "test"])
DATA_SETS = st.dictionaries(st.text(min_size=1, max_size=6), SPLITS, max_size=20)


@given(DATA_SETS, st.integers(0, 8), st.randoms(use_true_random=False))
def test_held_out_clips_are_never_trained_on_whatever_their_order(split_of, count, shuffler):
    def chosen(ids):
        try:
            training, validation = held_out(ids, [split_of[one] for one in ids], count)
        except ValueError as error:
            assert "\n" not in str(error)
            return None
        return [ids[i] for i in training], [ids[i] for i in validation]

    ids = list(split_of)
    shuffled = shuffler.sample(ids, len(ids))
    result, other = chosen(ids), chosen(shuffled)
    kept = [one for one in ids if split_of[one] == "validation"]
    free = [one for one in ids if split_of[one] not in ("validation", "test")]
    if result is None:
        assert other is None
        assert not free
        return
    training, validation = result
    assert (sorted(training), validation) == (sorted(other[0]), other[1])
    assert len(set(training) | set(validation)) == len(training) + len(validation)
    assert training and set(training) <= set(free)
    assert len(validation) == min(count, len(kept) or len(free) // 3)
    assert set(validation) <= set(kept or free)


def test_without_a_split_some_of_the_clips_are_held_out():
    ids = [f"clip_{i}" for i in range(10)]
    training, validation = held_out(ids, [""] * 10, 3)
    assert sorted(training + validation) == list(range(10))
    assert len(validation) == 3
    assert held_out([*ids, "new"], [""] * 11, 0) == (list(range(11)), [])


def test_few_clips_are_trained_on_and_nothing_to_train_on_is_a_mistake():
    assert held_out(["a", "b"], ["", ""], 2) == ([0, 1], [])
    with pytest.raises(ValueError, match="1 of 2 clips are for validation"):
        held_out(["a", "b"], ["validation", "test"], 2)
