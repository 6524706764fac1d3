import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.metrics.fidelity import mask_iou, psnr_inside

masks = arrays(bool, (6, 6))


def test_psnr_counts_the_pixels_inside_the_mask_alone():
    real = np.full((3, 8, 8, 3), 0.5)
    made = real.copy()
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    made[:, mask] += 0.1
    made[:, ~mask] += 0.4
    assert psnr_inside(made, real, mask) == pytest.approx(20)


def test_equal_clips_have_no_noise():
    clip = np.random.default_rng(0).random((2, 4, 4, 3))
    assert psnr_inside(clip, clip, np.ones((4, 4), bool)) == math.inf


@given(masks, masks)
def test_mask_iou_is_symmetric_and_one_for_equal_masks(a, b):
    assert mask_iou(a, b) == mask_iou(b, a)
    assert 0 <= mask_iou(a, b) <= 1
    assert mask_iou(a, a) == 1


@given(masks, st.data())
def test_mask_iou_is_the_share_of_common_pixels(a, data):
    b = data.draw(masks)
    common = sum(bool(x and y) for x, y in zip(a.flat, b.flat, strict=True))
    either = sum(bool(x or y) for x, y in zip(a.flat, b.flat, strict=True))
    assert mask_iou(a, b) == pytest.approx(common / either if either else 1)
