import pytest
import torch

from handi_model.fitting import FitSettings, fit
from handi_model.training import LossSettings

QUICK = FitSettings(
    steps=6, batch_size=2, ramp_start=0.2, ramp_end=0.5, mask_every=2, mask_steps=1, warmup_steps=2
)


def run(pipe, clips, detector, settings=QUICK, **options):
    seen = []
    fit(
        pipe,
        clips,
        detector,
        LossSettings(decoded_frames=1),
        settings,
        lambda step, stage, result: seen.append((stage, float(result.loss.detach()))),
        **options,
    )
    return seen


def test_both_stages_train_in_turn_and_the_prior_is_the_mean_mask(fresh_tiny, two_clips, detector):
    before = {name: weight.clone() for name, weight in fresh_tiny.unet.state_dict().items()}
    seen = run(fresh_tiny, two_clips, detector)
    assert [stage for stage, _ in seen] == ["mask", "video", "video"] * 2
    prior = fresh_tiny.unet.prior
    assert prior.max() > 0
    assert float(prior.mean()) == pytest.approx(float(two_clips.mask.mean()), rel=1e-4)
    after = fresh_tiny.unet.state_dict()
    for stage in ("mask", "video"):
        name = f"conv_out.{stage}.weight"
        assert not torch.equal(before[name], after[name])


def test_a_training_that_breaks_off_leaves_the_network_in_its_mode(fresh_tiny, two_clips, detector):
    def breaks_off(step, stage, result):
        assert fresh_tiny.unet.training
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fresh_tiny, two_clips, detector, LossSettings(alpha=0), QUICK, breaks_off)
    assert not any(module.training for module in fresh_tiny.unet.modules())


def test_a_seed_gives_the_same_training(fresh_tiny, two_clips, detector):
    start = {name: weight.clone() for name, weight in fresh_tiny.unet.state_dict().items()}
    first = run(fresh_tiny, two_clips, detector)
    fresh_tiny.unet.load_state_dict(start)
    assert run(fresh_tiny, two_clips, detector) == first


def test_trainings_of_one_seed_see_the_same_noise_with_and_without_the_hand_loss(
    fresh_tiny, two_clips, detector
):
    seen: dict[float, list] = {0.0: [], 1.0: []}
    forward = fresh_tiny.unet.forward
    for eta, calls in seen.items():

        def spy(noisy, timestep, *rest, calls=calls):
            calls.append((timestep.tolist(), rest[-1]))
            return forward(noisy, timestep, *rest)

        fresh_tiny.unet.forward = spy
        losses = LossSettings(decoded_frames=1, eta=eta)
        settings = QUICK.model_copy(update={"ramp_start": 1.0, "ramp_end": 1.0})
        fit(fresh_tiny, two_clips, detector, losses, settings, lambda *_: None)
    assert len(seen[0.0]) == QUICK.steps
    assert seen[0.0] == seen[1.0]


def test_training_lowers_the_loss(fresh_tiny, two_clips, detector):
    settings = QUICK.model_copy(
        update={"steps": 60, "cycle": ["video"], "ramp_start": 1.0, "ramp_end": 1.0}
    )
    seen = run(fresh_tiny, two_clips, detector, settings)
    losses = [loss for _, loss in seen]
    assert sum(losses[-15:]) < 0.7 * sum(losses[:15])


def test_without_the_mask_stage_2_sees_an_area_that_covers_everything(
    fresh_tiny, two_clips, detector
):
    areas = []
    forward = fresh_tiny.unet.forward

    def spy(noisy, timestep, text, image_latent, area, stage):
        areas.append((stage, area))
        return forward(noisy, timestep, text, image_latent, area, stage)

    fresh_tiny.unet.forward = spy
    settings = QUICK.model_copy(update={"steps": 2, "cycle": ["video"]})
    fresh_tiny.register_to_config(uses_mask=False)
    run(fresh_tiny, two_clips, detector, settings)
    assert [stage for stage, _ in areas] == ["video", "video"]
    assert all((area == 1).all() for _, area in areas)
