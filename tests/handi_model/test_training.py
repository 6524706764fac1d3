import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handi_model.diffusion import predict_clean_latent
from handi_model.latents import decode_latents, encode_frames
from handi_model.refinement import decoded_hand_loss
from handi_model.training import (
    LossSettings,
    Networks,
    generated_share,
    mask_step,
    mixed_area,
    stage_of_epoch,
    video_step,
)

ALL = LossSettings(
    decoded_frames=None,
    window_margin=None,
    hand_timesteps=1.0,
    presence_threshold=0.0,
    text_dropout=0.0,
)
"""Everything decoded and every gate open."""


def seed(value: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(value)


@pytest.fixture
def networks(fresh_tiny, detector) -> Networks:
    fresh_tiny.unet.set_prior(torch.full((64, 64), 0.3))
    return Networks.of(fresh_tiny, detector)


class Oracle(torch.nn.Module):
    """Predicts the velocity that leads to a known clean latent, up to a learnt shift."""

    def __init__(self, goal: torch.Tensor, alpha_bars: torch.Tensor) -> None:
        super().__init__()
        self.goal, self.alpha_bars = goal, alpha_bars
        self.shift = torch.nn.Parameter(torch.zeros(()))
        self.calls: list[tuple] = []

    def forward(self, noisy, timestep, text, image_latent, area, stage):
        self.calls.append((timestep, text, area, stage))
        bar = self.alpha_bars[timestep].reshape(-1, 1, 1, 1, 1)
        noise = (noisy - bar.sqrt() * self.goal) / (1 - bar).sqrt()
        return bar.sqrt() * noise - (1 - bar).sqrt() * self.goal + self.shift


def with_oracle(networks: Networks, goal: torch.Tensor) -> Networks:
    fields = {**vars(networks), "unet": Oracle(goal, networks.alpha_bars)}
    return Networks(**fields)


def test_a_network_that_knows_the_mask_has_no_loss_in_stage_1(networks, two_clips):
    clips = two_clips.take([0, 0])
    still = networks.empty_mask_latent[None, :, None]
    oracle = with_oracle(networks, clips.mask_latent - still)
    result = mask_step(oracle, clips, ALL, seed())
    assert result.parts["noise"] < 1e-4
    assert result.parts["mask_iou"] < 0.15
    assert torch.isclose(result.loss, result.parts["noise"] + 0.1 * result.parts["mask_iou"])
    ((_, _, area, stage),) = oracle.unet.calls
    assert stage == "mask"
    assert torch.allclose(area, torch.full((2, 8, 8), 0.3))


def test_a_network_that_knows_the_video_finds_the_hands_where_they_are(networks, two_clips):
    clips = two_clips.take([0])
    oracle = with_oracle(networks, clips.video_latent - clips.image_latent[:, :, None])
    result = video_step(oracle, clips, clips.mask, ALL, seed())
    assert result.parts["noise"] < 1e-4
    assert result.parts["timestep_gate"] == 1
    assert result.parts["presence_gate"] == 1
    # A tenth of the frame for each joint: hands of some 20 pixels, blurred by the autoencoder.
    assert 0 < result.parts["hand"] < 0.1**2
    elsewhere = replace(clips, joints=clips.joints + 0.15)
    moved = video_step(oracle, elsewhere, clips.mask, ALL, seed())
    assert moved.parts["hand"] > 1.5 * result.parts["hand"]
    assert torch.isclose(result.loss, result.parts["noise"] + result.parts["hand"])


def test_both_losses_have_a_gradient_through_the_frozen_decoder_and_detector(networks, two_clips):
    clips = two_clips.take([0])
    for step, part, goal, still in (
        (mask_step, "mask_iou", clips.mask_latent, networks.empty_mask_latent[None, :, None]),
        (video_step, "hand", clips.video_latent, clips.image_latent[:, :, None]),
    ):
        oracle = with_oracle(networks, goal - still)
        oracle.unet.shift.data.fill_(0.05)
        extra = () if step is mask_step else (clips.mask,)
        for alpha_eta, expected in ((0.0, False), (1e3, True)):
            settings = ALL.model_copy(update={"alpha": alpha_eta, "eta": alpha_eta})
            oracle.unet.zero_grad()
            result = step(oracle, clips, *extra, settings, seed())
            result.loss.backward()
            assert (part in result.parts) == expected
            if not expected:
                without = oracle.unet.shift.grad.clone()
        assert oracle.unet.shift.grad.isfinite()
        assert not torch.isclose(oracle.unet.shift.grad, without, rtol=1e-3)
    assert all(weight.grad is None for weight in networks.vae.parameters())


def test_a_clip_without_hands_adds_nothing_to_the_hand_loss(networks, two_clips):
    result = video_step(networks, two_clips.take([1]), two_clips.mask[1:], ALL, seed())
    assert result.parts["hand"] == 0
    assert math.isnan(result.parts["presence_gate"])
    result.loss.backward()


def test_the_presence_gate_lets_through_the_hands_that_look_like_hands(networks, two_clips):
    clips = two_clips.take([0])
    oracle = with_oracle(networks, clips.video_latent - clips.image_latent[:, :, None])
    shares = [
        float(
            video_step(
                oracle,
                clips,
                clips.mask,
                ALL.model_copy(update={"presence_threshold": threshold}),
                seed(),
            ).parts["presence_gate"]
        )
        for threshold in (0.0, 0.1, 0.3, 0.9)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1 and shares[-1] < 1


@pytest.mark.parametrize(
    ("gate", "passed"),
    [({"hand_timesteps": 0.0}, "timestep_gate"), ({"presence_threshold": 1.0}, "presence_gate")],
)
def test_each_gate_switches_the_hand_loss_off_and_says_so(networks, two_clips, gate, passed):
    clips = two_clips.take([0])
    oracle = with_oracle(networks, clips.video_latent - clips.image_latent[:, :, None])
    result = video_step(oracle, clips, clips.mask, ALL.model_copy(update=gate), seed())
    assert result.parts[passed] == 0
    assert result.parts["hand"] == 0


def test_random_frames_estimate_the_losses_over_all_frames(networks, two_clips):
    clips = two_clips.take([0])
    goal = clips.video_latent - clips.image_latent[:, :, None]
    oracle = with_oracle(networks, goal + 0.1 * torch.randn(goal.shape, generator=seed()))
    clean = oracle.unet.goal + clips.image_latent[:, :, None]
    look = {"vae": networks.vae, "detector": networks.detector}
    truth = (clips.joints, clips.visible)
    with torch.no_grad():
        whole = decoded_hand_loss(clean, *truth, **look, presence_threshold=0.0).loss
        single = [
            decoded_hand_loss(
                clean, *truth, **look, presence_threshold=0.0, frames=1, generator=seed(s)
            ).loss
            for s in range(20)
        ]
    # One frame a time gives the frames' own losses; each comes up as often as any other.
    values = sorted(map(float, single))
    each = [values[0]] + [b for a, b in pairwise(values) if b > 1.001 * a]
    assert len(each) == 4
    assert np.mean(each) == pytest.approx(float(whole), rel=1e-3)


def test_the_decode_of_a_window_is_near_the_full_one(networks, sample_frames):
    side = 256
    frame = torch.from_numpy(sample_frames[:1, :side, :side]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        latent = encode_frames(networks.vae, frame[None])
        full = decode_latents(networks.vae, latent)[0, 0, :, 64:192, 64:192]
        window = decode_latents(networks.vae, latent[..., 8:24, 8:24])[0, 0]
    apart = (window - full).square()
    at_once = float(apart.mean().sqrt()) / 2
    behind_a_margin = float(apart[:, 32:96, 32:96].mean().sqrt()) / 2
    print(f"a window's decode differs by {at_once:.4f} of the range, {behind_a_margin:.4f} inside")
    assert behind_a_margin < 0.03
    assert behind_a_margin < at_once


class Middle:
    """Finds every joint of a hand at the middle of its region, and tells the frames' size."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None

    def crop_landmarks(self, frames, frame_index, regions):
        self.size = tuple(frames.shape[1:3])
        return regions[:, None, :2].expand(-1, 21, -1), torch.ones(len(regions))


def test_a_hand_is_found_at_its_place_in_the_frame_through_a_window(networks):
    """Joints near one point have their region around it, so that eq. 5 is small if all is right."""
    joints = torch.zeros(1, 2, 42, 2)
    joints[0, :, :21] = torch.tensor([0.25, 0.6])
    joints[0, :, 21:] = torch.tensor([0.7, 0.35])
    joints += 0.03 * torch.rand(joints.shape, generator=seed())
    visible = torch.ones(1, 2, 42, dtype=torch.bool)
    clean = torch.randn(1, 16, 2, 32, 32, generator=seed())
    finder, losses = Middle(), {}
    for margin in (None, 1):
        with torch.no_grad():
            found = decoded_hand_loss(
                clean, joints, visible, networks.vae, finder, window_margin=margin
            )
        losses[margin] = float(found.loss)
        assert (finder.size == (256, 256)) == (margin is None)
    assert losses[1] == pytest.approx(losses[None], rel=1e-4)
    assert losses[1] < 0.03**2


def test_a_window_gives_nearly_the_hand_loss_of_the_whole_frame(networks, detector, sample_frames):
    frames = torch.from_numpy(sample_frames[:4, :256, :256].copy())
    found = detector(frames)
    assert found.visible.any()
    joints, visible = found.joints[None], found.visible[None]
    with torch.no_grad():
        latent = encode_frames(networks.vae, frames.permute(0, 3, 1, 2)[None] / 127.5 - 1)

        def loss(truth, margin):
            rest = (visible, networks.vae, detector, 0.0)
            return float(decoded_hand_loss(latent, truth, *rest, window_margin=margin).loss)

        whole, window = loss(joints, None), loss(joints, 2)
        assert window == pytest.approx(whole, abs=0.02**2)
        assert loss(joints + 0.1, 2) > 4 * window


@pytest.mark.parametrize("autocast", [False, True])
def test_both_stages_train_in_bfloat16(networks, two_clips, autocast):
    if not autocast:
        networks.unet.to(torch.bfloat16)
    for step, extra in ((mask_step, ()), (video_step, (two_clips.mask,))):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            result = step(networks, two_clips, *extra, LossSettings(hand_timesteps=1), seed())
        result.loss.backward()
        assert all(value.isfinite() for name, value in result.parts.items() if "gate" not in name)
    gradients = [w.grad for w in networks.unet.parameters() if w.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_the_instruction_is_dropped_for_each_clip_by_itself(networks, two_clips):
    clips = two_clips.take([0] * 64)
    oracle = with_oracle(networks, clips.mask_latent - networks.empty_mask_latent[None, :, None])
    settings = LossSettings(alpha=0, text_dropout=0.25)
    mask_step(oracle, clips, settings, seed())
    ((_, text, _, _),) = oracle.unet.calls
    empty = (text == networks.empty_text).all((1, 2))
    kept = (text == clips.text).all((1, 2))
    assert (empty ^ kept).all()
    assert 6 <= empty.sum() <= 26


def test_a_seed_gives_the_same_step(networks, two_clips):
    settings = LossSettings()
    first, again = (
        video_step(networks, two_clips, two_clips.mask, settings, seed(3)).loss for _ in range(2)
    )
    assert torch.equal(first, again)


def test_the_hand_loss_needs_a_detector(networks, two_clips):
    blind = Networks(**{**vars(networks), "detector": None})
    with pytest.raises(ValueError, match="needs a hand detector"):
        video_step(blind, two_clips, two_clips.mask, LossSettings(), seed())
    video_step(blind, two_clips, two_clips.mask, LossSettings(eta=0), seed())


def test_noise_prediction_recovers_the_same_clean_latent(networks, two_clips):
    """Eq. 2 is in terms of the noise whatever the network predicts."""
    clips = two_clips.take([0])
    noise = torch.randn(clips.video_latent.shape, generator=seed())
    bar = networks.alpha_bars[[400]]
    noisy = bar.sqrt() * clips.video_latent + (1 - bar).sqrt() * noise
    assert torch.allclose(predict_clean_latent(noisy, noise, bar), clips.video_latent, atol=1e-4)


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.5, 1))
def test_generated_masks_are_ramped_in(progress, start, end):
    share = generated_share(progress, start, end)
    assert 0 <= share <= 1
    if progress < start:
        assert share == 0
    if progress >= end:
        assert share == 1


def test_the_ramp_decides_for_each_clip_whether_its_mask_is_generated():
    truth, generated = torch.zeros(1000, 2, 2), torch.ones(1000, 2, 2)
    mixed = mixed_area(truth, generated, 0.3, seed())
    assert ((mixed == 0).all((1, 2)) | (mixed == 1).all((1, 2))).all()
    assert mixed.mean() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(mixed_area(truth, generated, 0.0, seed()), truth)
    assert torch.equal(mixed_area(truth, generated, 1.0, seed()), generated)


def test_stages_alternate():
    assert [stage_of_epoch(epoch) for epoch in range(4)] == ["mask", "video", "mask", "video"]
    cycle = ("mask", "video", "video")
    assert [stage_of_epoch(epoch, cycle) for epoch in range(4)] == [*cycle, "mask"]
