"""Training pictures: what they are made of, and that a seed decides them."""

from __future__ import annotations

import numpy as np
import pytest

from handi_model.tiny.augment import (
    crop_picture,
    drawn_picture,
    hull_mask,
    mask_picture,
    training_batch,
)


@pytest.fixture
def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (3, 90, 160, 3), dtype=np.uint8),
        rng.integers(0, 256, (2, 48, 40, 3), dtype=np.uint8),  # smaller than a picture
    ]


def test_a_batch_is_pictures_in_the_range_of_the_autoencoder(clips):
    batch = training_batch(clips, 40, 64, np.random.default_rng(1))
    assert batch.shape == (40, 3, 64, 64)
    assert batch.dtype == np.float32
    assert -1 <= batch.min() < -0.5 and 0.5 < batch.max() <= 1


def test_a_seed_decides_the_batch(clips):
    first, again, other = (
        training_batch(clips, 8, 32, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_about_a_fifth_of_a_batch_is_masks(clips):
    batch = training_batch(clips, 400, 16, np.random.default_rng(2))
    binary = (np.abs(batch) == 1).all(axis=(1, 2, 3))
    assert 0.12 < binary.mean() < 0.3


def test_a_mask_picture_is_grey_and_black_or_white_and_empty_at_times():
    rng = np.random.default_rng(0)
    masks = np.stack([mask_picture(32, rng) for _ in range(100)])
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert (masks == masks[..., :1]).all()
    filled = masks.mean(axis=(1, 2, 3))
    assert (filled == 0).any() and (filled > 0.2).any()


def test_a_binary_hull_has_no_smooth_border():
    rng = np.random.default_rng(0)
    smooth = np.stack([hull_mask(32, rng) for _ in range(20)])
    sharp = np.stack([hull_mask(32, rng, binary=True) for _ in range(20)])
    assert ((smooth > 0) & (smooth < 1)).any()
    assert set(np.unique(sharp)) == {0.0, 1.0}


def test_crops_and_drawings_differ_in_colour_from_draw_to_draw(clips):
    rng = np.random.default_rng(0)
    for pictures in (
        np.stack([crop_picture(clips, 16, rng) for _ in range(20)]),
        np.stack([drawn_picture(16, rng) for _ in range(20)]),
    ):
        assert pictures.shape == (20, 16, 16, 3)
        assert pictures.min() >= 0 and pictures.max() <= 1
        assert pictures.mean(axis=(1, 2)).std(axis=0).min() > 0.03
