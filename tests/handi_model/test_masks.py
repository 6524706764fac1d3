import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.masks import clean_mask, frequency_prior, hand_hull_mask, union_mask

joint_sets = arrays(np.float64, (42, 2), elements=st.floats(-0.5, 1.5))
visibilities = arrays(bool, (42,))


def square_hand(x: float, y: float, side: float) -> np.ndarray:
    """21 joints around a square."""
    corners = np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])
    return np.resize(corners, (21, 2))


def two_hands() -> tuple[np.ndarray, np.ndarray]:
    joints = np.concatenate([square_hand(0.1, 0.4, 0.2), square_hand(0.7, 0.4, 0.2)])
    return joints, np.ones(42, bool)


def test_each_hand_has_a_hull_of_its_own_and_the_table_between_stays_free():
    mask = hand_hull_mask(*two_hands(), 100, 200)
    assert mask.shape == (100, 200)
    assert mask.dtype == bool
    assert mask[50, 40] and mask[50, 160]
    assert not mask[50, 100]
    assert mask.mean() == pytest.approx(2 * 0.2 * 0.2, rel=0.1)


def test_a_hand_that_is_not_visible_leaves_no_trace():
    joints, visible = two_hands()
    visible[:21] = False
    mask = hand_hull_mask(joints, visible, 100, 200)
    assert not mask[:, :100].any()
    assert mask[50, 160]


@given(joint_sets, visibilities)
def test_the_hull_covers_every_visible_joint_inside_the_frame(joints, visible):
    mask = hand_hull_mask(joints, visible, 48, 64)
    x, y = np.round(joints[visible] * (64, 48) - 0.5).astype(int).T
    inside = (x >= 0) & (x < 64) & (y >= 0) & (y < 48)
    assert mask[y[inside], x[inside]].all()


@given(joint_sets, visibilities)
def test_the_mask_of_two_hands_is_the_union_of_the_masks_of_one(joints, visible):
    left, right = visible.copy(), visible.copy()
    left[21:], right[:21] = False, False
    both = hand_hull_mask(joints, visible, 48, 64)
    parts = [hand_hull_mask(joints, shown, 48, 64) for shown in (left, right)]
    assert (both == union_mask(np.stack(parts))).all()


@given(joint_sets)
def test_no_visible_joint_gives_an_empty_mask(joints):
    assert not hand_hull_mask(joints, np.zeros(42, bool), 48, 64).any()


def test_joints_that_are_not_finite_or_not_42_are_refused():
    joints, visible = two_hands()
    joints[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        hand_hull_mask(joints, visible, 10, 10)
    with pytest.raises(ValueError, match="42"):
        hand_hull_mask(joints[:21], visible, 10, 10)


@given(arrays(bool, (5, 8, 9)))
def test_the_union_holds_a_pixel_that_any_frame_holds(masks):
    assert (union_mask(masks) == (masks.sum(axis=0) > 0)).all()


@given(arrays(bool, (6, 8, 9)))
def test_the_prior_is_the_share_of_masks_that_hold_a_pixel_in_any_order(masks):
    prior = frequency_prior(masks)
    assert prior.dtype == np.float32
    assert np.allclose(prior, masks.mean(axis=0))
    assert (prior == frequency_prior(masks[::-1])).all()


def test_a_prior_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        frequency_prior([])


def test_cleaning_removes_specks_and_fills_holes_but_keeps_the_shape():
    predicted = np.zeros((64, 64), np.float32)
    predicted[16:48, 16:48] = 0.9
    predicted[30:32, 30:32] = 0.1
    predicted[2, 2] = 1.0
    cleaned = clean_mask(predicted)
    assert not cleaned[2, 2]
    assert cleaned[31, 31]
    assert cleaned.sum() == pytest.approx(32 * 32, rel=0.05)


@given(arrays(np.float32, (24, 24), elements=st.floats(0, 1, width=32)))
def test_cleaning_what_is_clean_changes_nothing(predicted):
    opened = clean_mask(predicted, radius=0)
    assert (opened == (predicted >= 0.5)).all()
