"""The paper's equations once more, as loops over single numbers, against the code that trains."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handi_model.diffusion import add_noise, predict_clean_latent, training_target
from handi_model.losses import (
    hand_refinement_loss,
    mask_iou_loss,
    noise_loss,
    stage1_loss,
    stage2_loss,
)

sizes = st.tuples(*[st.integers(1, 3)] * 4)
seeds = st.integers(0, 2**31)
few = settings(max_examples=30)


def noise_error(predicted: np.ndarray, noise: np.ndarray) -> float:
    """Eq. 1."""
    total, count = 0.0, 0
    for a, b in zip(predicted.flat, noise.flat, strict=True):
        total += (a - b) ** 2
        count += 1
    return total / count


def clean_latent(noisy: float, noise: float, alpha_bar: float) -> float:
    """Eq. 2, one number."""
    return (noisy - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)


def mask_error(pred: np.ndarray, target: np.ndarray) -> float:
    """Eq. 4, averaged over the batch."""
    batch, frames, height, width = pred.shape
    total = 0.0
    for b in range(batch):
        of_clip = 0.0
        for f in range(frames):
            both = either = 0.0
            for y in range(height):
                for x in range(width):
                    p, t = pred[b, f, y, x], target[b, f, y, x]
                    both += p * t
                    either += p + t - p * t
            of_clip += 1 - both / either if either else 0.0
        total += of_clip / frames
    return total / batch


def joint_error(pred: np.ndarray, target: np.ndarray, visible: np.ndarray) -> float:
    """Eq. 5, averaged over the batch."""
    batch, frames = pred.shape[:2]
    total = 0.0
    for b in range(batch):
        of_clip = 0.0
        for f in range(frames):
            for joint in range(42):
                if visible[b, f, joint]:
                    x, y = pred[b, f, joint] - target[b, f, joint]
                    of_clip += x * x + y * y
        total += of_clip / (frames * 42)
    return total / batch


def close(given_loss: torch.Tensor, expected: float) -> bool:
    return math.isclose(float(given_loss), expected, rel_tol=1e-9, abs_tol=1e-12)


@few
@given(sizes, seeds)
def test_equation_1(size, seed):
    predicted, noise = np.random.default_rng(seed).normal(size=(2, *size, 2))
    loss = noise_loss(torch.from_numpy(predicted), torch.from_numpy(noise))
    assert close(loss, noise_error(predicted, noise))


@few
@given(sizes, seeds)
def test_equation_1_with_a_network_that_predicts_velocity(size, seed):
    draw = np.random.default_rng(seed)
    clean, noise, wrong = draw.normal(size=(3, *size))
    share = float(draw.uniform(0.01, 0.99))
    # The noise that a wrong velocity stands for is wrong by alpha_bar times as much.
    tensors = [torch.from_numpy(values) for values in (clean, noise)]
    target = training_target("velocity", *tensors, torch.tensor(share, dtype=torch.float64))
    root, rest = math.sqrt(share), math.sqrt(1 - share)
    stands_for = root * (target.numpy() + wrong) + rest * (root * clean + rest * noise)
    loss = noise_loss(target + torch.from_numpy(wrong), target)
    assert math.isclose(noise_error(stands_for, noise), share * float(loss), rel_tol=1e-5)


@few
@given(sizes, seeds)
def test_equation_2(size, seed):
    draw = np.random.default_rng(seed)
    noisy, noise = draw.normal(size=(2, *size, 2))
    shares = draw.uniform(0.001, 1, size[0])
    found = predict_clean_latent(
        torch.from_numpy(noisy), torch.from_numpy(noise), torch.from_numpy(shares)
    )
    for index in np.ndindex(noisy.shape):
        assert close(found[index], clean_latent(noisy[index], noise[index], shares[index[0]]))


@few
@given(sizes, seeds, st.floats(0, 10))
def test_equations_3_and_4(size, seed, alpha):
    draw = np.random.default_rng(seed)
    pred, target = draw.uniform(size=(2, *size)) * draw.integers(0, 2, (2, *size))
    pred[0, 0], target[0, 0] = 0, 0
    mask_iou = mask_iou_loss(torch.from_numpy(pred), torch.from_numpy(target))
    assert close(mask_iou, mask_error(pred, target))
    whole = stage1_loss(torch.tensor(0.3).double(), mask_iou, alpha)
    assert math.isclose(float(whole), 0.3 + alpha * mask_error(pred, target), rel_tol=1e-6)


@few
@given(st.integers(1, 3), st.integers(1, 4), seeds, st.floats(0, 10))
def test_equation_5_and_the_loss_of_stage_2(batch, frames, seed, eta):
    draw = np.random.default_rng(seed)
    pred, target = draw.uniform(size=(2, batch, frames, 42, 2))
    visible = draw.integers(0, 2, (batch, frames, 42)).astype(bool)
    target[~visible] = 0
    loss = hand_refinement_loss(
        torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(visible)
    )
    assert close(loss, joint_error(pred, target, visible))
    whole = stage2_loss(torch.tensor(0.3).double(), loss, eta)
    assert math.isclose(float(whole), 0.3 + eta * joint_error(pred, target, visible), rel_tol=1e-6)


@few
@given(sizes, seeds)
def test_the_forward_process(size, seed):
    draw = np.random.default_rng(seed)
    clean, noise = draw.normal(size=(2, *size))
    shares = draw.uniform(0, 1, size[0])
    noisy = add_noise(torch.from_numpy(clean), torch.from_numpy(noise), torch.from_numpy(shares))
    for index in np.ndindex(clean.shape):
        share = shares[index[0]]
        expected = math.sqrt(share) * clean[index] + math.sqrt(1 - share) * noise[index]
        assert close(noisy[index], expected)
