import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from handi_model.config import ModelConfig
from handi_model.diffusion import (
    PREDICTS,
    SMALLEST_ALPHA_BAR,
    add_noise,
    alpha_bars,
    predict_clean_latent,
    predicted_noise,
    scheduler_config,
    training_target,
    velocity,
)

SHAPE = (3, 4, 5, 2, 2)
seeds = st.integers(0, 2**31)
signal_shares = st.lists(st.floats(SMALLEST_ALPHA_BAR, 1), min_size=3, max_size=3)
targets = st.sampled_from(["noise", "velocity"])


def latent_and_noise(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, *SHAPE, generator=draw, dtype=dtype)


@given(seeds, signal_shares)
def test_equation_2_undoes_the_forward_process_when_given_the_true_noise(seed, shares):
    clean, noise = latent_and_noise(seed)
    share = torch.tensor(shares, dtype=torch.float64)
    recovered = predict_clean_latent(add_noise(clean, noise, share), noise, share)
    torch.testing.assert_close(recovered, clean, rtol=0, atol=1e-10)


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_equation_2_undoes_every_timestep_of_the_schedule_in_single_precision(predicts):
    shares = alpha_bars(scheduler_config(ModelConfig.of("tiny", predicts=predicts)))
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, len(shares), 8, generator=draw)
    recovered = predict_clean_latent(add_noise(clean, noise, shares), noise, shares)
    torch.testing.assert_close(recovered, clean, rtol=0, atol=1e-4)


@given(seeds, signal_shares, targets)
def test_the_noise_is_what_a_perfect_network_of_either_kind_stands_for(seed, shares, predicts):
    clean, noise = latent_and_noise(seed)
    share = torch.tensor(shares, dtype=torch.float64)
    target = training_target(predicts, clean, noise, share)
    found = predicted_noise(predicts, target, add_noise(clean, noise, share), share)
    torch.testing.assert_close(found, noise, rtol=0, atol=1e-10)


@given(seeds, signal_shares)
def test_the_noisy_latent_and_the_velocity_are_a_rotation_of_the_clean_one_and_the_noise(
    seed, shares
):
    clean, noise = latent_and_noise(seed)
    share = torch.tensor(shares, dtype=torch.float64)
    lengths = add_noise(clean, noise, share) ** 2 + velocity(clean, noise, share) ** 2
    torch.testing.assert_close(lengths, clean**2 + noise**2)


@given(seeds, st.floats(0, 1))
def test_one_signal_share_serves_the_whole_batch_in_any_shape(seed, share):
    clean, noise = latent_and_noise(seed)
    one = torch.tensor(share, dtype=torch.float64)
    each = add_noise(clean, noise, one.expand(3))
    for value in (one, one.expand(3, 1, 1, 1, 1)):
        torch.testing.assert_close(add_noise(clean, noise, value), each)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_the_forward_process_is_that_of_diffusers_schedulers(zero_terminal_snr):
    config = ModelConfig.of("tiny", zero_terminal_snr=zero_terminal_snr)
    clean, noise = latent_and_noise(0, torch.float32)
    timesteps = torch.tensor([0, 500, 999])
    expected = DDPMScheduler(**scheduler_config(config)).add_noise(clean, noise, timesteps)
    given_noise = add_noise(clean, noise, alpha_bars(scheduler_config(config))[timesteps])
    torch.testing.assert_close(given_noise, expected)


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_training_target_and_clean_latent_are_those_of_diffusers(predicts):
    config = ModelConfig.of("tiny", predicts=predicts)
    scheduler = DDPMScheduler(**scheduler_config(config), clip_sample=False)
    clean, noise = latent_and_noise(0, torch.float32)
    for timestep in (1, 400, 999):
        share = alpha_bars(scheduler_config(config))[timestep]
        output = training_target(predicts, clean, noise, share)
        if predicts == "velocity":
            expected = scheduler.get_velocity(clean, noise, torch.tensor([timestep]))
            torch.testing.assert_close(output, expected)
        noisy = add_noise(clean, noise, share)
        guess = output + 0.1
        mine = predict_clean_latent(noisy, predicted_noise(predicts, guess, noisy, share), share)
        theirs = scheduler.step(guess, timestep, noisy).pred_original_sample
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("preset", ["base", "tiny"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_the_signal_fades_from_nearly_all_to_little_or_to_nothing(preset, zero_terminal_snr):
    config = ModelConfig.of(preset, zero_terminal_snr=zero_terminal_snr, predicts="velocity")
    shares = alpha_bars(scheduler_config(config))
    assert shares.shape == (1000,)
    assert shares[0] > 0.99
    assert (shares.diff() < 0).all()
    if zero_terminal_snr:
        assert shares[-1] == 0
    else:
        assert 0.001 < shares[-1] < 0.01


def test_equation_2_and_its_gradient_stay_finite_where_nothing_but_noise_is_left():
    clean, noise = latent_and_noise(0, torch.float32)
    nothing = torch.zeros(3)
    noisy = add_noise(clean, noise, nothing)
    assert torch.equal(noisy, noise)
    output = velocity(clean, noise, nothing).requires_grad_()
    for guess in (output, predicted_noise("velocity", output, noisy, nothing), noise + output):
        recovered = predict_clean_latent(noisy, guess, nothing)
        assert recovered.isfinite().all()
        (gradient,) = torch.autograd.grad(recovered.square().mean(), output)
        assert gradient.isfinite().all()


def test_the_clean_latent_has_a_gradient_through_the_predicted_noise():
    clean, noise = latent_and_noise(0)
    share = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    noisy = add_noise(clean, noise, share)
    assert torch.autograd.gradcheck(
        lambda output: predict_clean_latent(
            noisy, predicted_noise("velocity", output, noisy, share), share
        ),
        noise.clone().requires_grad_(),
    )


def test_latents_in_bfloat16_are_noised_in_single_precision():
    clean, noise = latent_and_noise(0, torch.float32).bfloat16()
    share = alpha_bars(scheduler_config(ModelConfig.of("tiny")))[:3]
    noisy = add_noise(clean, noise, share)
    assert noisy.dtype == torch.float32
    assert torch.equal(noisy, add_noise(clean.float(), noise.float(), share))


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_the_samplers_scheduler_takes_the_same_schedule_and_names_the_same_target(predicts):
    config = ModelConfig.of("tiny", predicts=predicts)
    scheduler = DPMSolverMultistepScheduler(**scheduler_config(config))
    assert torch.equal(scheduler.alphas_cumprod, alpha_bars(scheduler_config(config)))
    assert PREDICTS[scheduler.config.prediction_type] == predicts
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[0] == config.train_timesteps - 1
