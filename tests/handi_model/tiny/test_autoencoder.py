"""The tiny autoencoder: what the shipped weights keep, and how new ones are trained."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from handi_model.config import ModelConfig
from handi_model.tiny import FOLDER, load_autoencoder
from handi_model.tiny.fidelity import (
    drawn_masks,
    frame_fidelity,
    latent_deviation,
    mask_iou,
    reconstruct,
    to_model,
)
from handi_model.tiny.train_autoencoder import (
    new_autoencoder,
    normalize_latent,
    train_autoencoder,
)
from pipelines.rendered import CLIPS


@pytest.fixture(scope="module")
def model():
    return load_autoencoder()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Four frames of each of the eight rendered clips, their central squares at 64 pixels."""
    squares = []
    for path in sorted(CLIPS.glob("*.mp4")):
        video = cv2.VideoCapture(str(path))
        shown = [video.read()[1] for _ in range(30)][::8]
        squares += [cv2.cvtColor(frame[:, 105:375], cv2.COLOR_BGR2RGB) for frame in shown]
    assert len(squares) == 32
    return np.stack(
        [cv2.resize(square, (64, 64), interpolation=cv2.INTER_AREA) for square in squares]
    )


@pytest.fixture
def clips() -> list[np.ndarray]:
    return [np.random.default_rng(0).integers(0, 256, (2, 80, 96, 3), dtype=np.uint8)]


def test_it_fits_the_tiny_preset(model):
    config = ModelConfig.of("tiny")
    frames = torch.zeros(2, 3, config.resolution, config.resolution)
    latent = model.encode(frames).latent_dist.mode()
    side = config.resolution // config.latent_factor
    assert latent.shape == (2, config.latent_channels, side, side)
    assert model.decode(latent).sample.shape == frames.shape


@pytest.mark.parametrize("shape", [(128, 128), (64, 96), (32, 40)])
def test_it_takes_frames_of_any_size_in_eights(model, shape):
    frames = torch.zeros(1, 3, *shape)
    assert reconstruct(model, frames).shape == frames.shape


def test_rendered_frames_come_back(model, frames):
    assert frame_fidelity(model, frames).psnr > 26.5


def test_masks_come_back(model):
    overlap = mask_iou(model, drawn_masks(64, 64, seed=7))
    assert overlap.mean() > 0.97


def test_an_empty_mask_stays_empty_and_a_full_one_full(model):
    masks = np.stack([np.zeros((64, 64), bool), np.ones((64, 64), bool)])
    assert (mask_iou(model, masks) > 0.99).all()


def test_no_latent_channel_is_dead_or_loud(model, frames):
    deviation = latent_deviation(model, frames)
    assert deviation.min() > 0.5 and deviation.max() < 2


def test_equal_frames_decode_to_equal_frames(model, frames):
    one, other = reconstruct(model, to_model(frames[[0, 0]]), chunk=1)
    assert (one == other).all()


def test_it_is_frozen_and_passes_gradients_to_the_latent(model):
    latent = torch.zeros(1, 16, 8, 8, requires_grad=True)
    model.decode(latent).sample.square().mean().backward()
    assert latent.grad is not None and latent.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_shipped_weights_are_small_and_not_pickled():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".py"]
    assert {path.suffix for path in files if "__pycache__" not in path.parts} == {
        ".json",
        ".safetensors",
    }
    weights = sum(path.stat().st_size for path in FOLDER.glob("*/*.safetensors"))
    assert weights < 5_000_000


def test_a_missing_folder_is_named_with_its_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="jobs/pretrain_tiny"):
        load_autoencoder(tmp_path)


def test_normalising_changes_the_latent_and_not_the_picture():
    torch.manual_seed(0)
    untrained = new_autoencoder().eval()
    pictures = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior = untrained.encode(pictures).latent_dist
        decoded = untrained.decode(posterior.mean).sample
        noise = posterior.std / posterior.mean.std((0, 2, 3), keepdim=True)
        normalize_latent(untrained, pictures)
        after = untrained.encode(pictures).latent_dist
        torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(after.std, noise, atol=1e-4, rtol=1e-3)
        again = untrained.decode(after.mean).sample
    torch.testing.assert_close(again, decoded, atol=1e-4, rtol=1e-3)


def test_a_few_steps_of_training_come_nearer_to_the_pictures(clips):
    grey = np.full((2, 64, 64, 3), 40, np.uint8)
    early, late = (
        frame_fidelity(train_autoencoder(clips, steps, batch_size=2), grey).psnr
        for steps in (1, 12)
    )
    assert late > early + 0.5


def test_a_seed_decides_the_training(clips):
    first, again, other = (
        train_autoencoder(clips, 2, batch_size=2, workers=workers, seed=seed).state_dict()
        for workers, seed in ((2, 1), (2, 1), (2, 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_without_frames_or_with_uneven_shares_is_refused(clips):
    with pytest.raises(ValueError, match="no frame"):
        train_autoencoder([], 1)
    with pytest.raises(ValueError, match="not a multiple of workers"):
        train_autoencoder(clips, 1, batch_size=3, workers=2)
