import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.losses import hand_refinement_loss
from handi_model.metrics.hand_error import hand_error


def clip(seed: int, frames: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((frames, 42, 2))


def by_loops(made, shown, real, real_shown):
    """HS-Err, joint distance, recall and precision: joint by joint, as they are defined."""
    total, distances, hits, of_real, of_made = 0.0, [], 0, 0, 0
    for frame in range(len(made)):
        for joint in range(42):
            of_made += bool(shown[frame, joint])
            of_real += bool(real_shown[frame, joint])
            if shown[frame, joint] and real_shown[frame, joint]:
                dx, dy = made[frame, joint] - real[frame, joint]
                total += dx * dx + dy * dy
                distances.append(math.hypot(dx, dy))
                hits += 1
    return (
        total / (len(made) * 42) if hits else math.nan,
        sum(distances) / hits if hits else math.nan,
        hits / of_real if of_real else math.nan,
        hits / of_made if of_made else math.nan,
    )


def hands_by_loops(detected, real_detected):
    """Recall and precision: hand by hand."""
    pairs = list(zip(detected.flat, real_detected.flat, strict=True))
    both = sum(bool(a and b) for a, b in pairs)
    of_real, of_made = sum(bool(b) for _, b in pairs), sum(bool(a) for a, _ in pairs)
    return both / of_real if of_real else math.nan, both / of_made if of_made else math.nan


shown_joints = arrays(bool, (2, 42))
shown_hands = arrays(bool, (5, 2))


def figures(error):
    return error.hs_err, error.joint_error, error.recall, error.precision


@settings(max_examples=50)
@given(shown_joints, shown_joints, st.integers(0, 999))
def test_the_figures_are_those_counted_joint_by_joint(shown, real_shown, seed):
    made, real = clip(seed, 2), clip(seed + 1, 2)
    found = hand_error(made, shown, real, real_shown)
    expected = by_loops(made, shown, real, real_shown)
    assert figures(found) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@settings(max_examples=50)
@given(shown_hands, shown_hands)
def test_recall_and_precision_are_shares_of_hands(detected, real_detected):
    visible, real_visible = (np.repeat(one, 21, axis=1) for one in (detected, real_detected))
    found = hand_error(clip(0, 5), visible, clip(1, 5), real_visible)
    expected = hands_by_loops(detected, real_detected)
    assert (found.recall, found.precision) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=20)
@given(shown_joints, shown_joints, st.integers(0, 999))
def test_hs_err_is_the_hand_refinement_loss_of_training(shown, real_shown, seed):
    made, real = clip(seed, 2), clip(seed + 1, 2)
    loss = hand_refinement_loss(
        torch.from_numpy(made)[None],
        torch.from_numpy(real)[None],
        torch.from_numpy(shown & real_shown)[None],
    )
    found = hand_error(made, shown, real, real_shown).hs_err
    assert np.nan_to_num(found) == pytest.approx(float(loss), rel=1e-5)


def test_a_clip_against_itself_is_without_error():
    shown = np.ones((3, 42), bool)
    shown[1, :21] = False
    assert figures(hand_error(clip(0), shown, clip(0), shown)) == (0, 0, 1, 1)


@settings(max_examples=20)
@given(shown_joints, shown_joints)
def test_what_is_recall_one_way_is_precision_the_other(shown, real_shown):
    made, real = clip(0, 2), clip(1, 2)
    there = hand_error(made, shown, real, real_shown)
    back = hand_error(real, real_shown, made, shown)
    assert figures(there)[:2] == pytest.approx(figures(back)[:2], nan_ok=True)
    assert (there.recall, there.precision) == pytest.approx(
        (back.precision, back.recall), nan_ok=True
    )


def test_the_divisor_stays_when_a_hand_is_lost():
    """Half of the joints seen, each off by the same step: half of the error."""
    real, shown = clip(1), np.ones((3, 42), bool)
    left = shown.copy()
    left[:, 21:] = False
    whole = hand_error(real + 0.1, shown, real, shown)
    half = hand_error(real + 0.1, left, real, shown)
    assert whole.hs_err == pytest.approx(0.02)
    assert half.hs_err == pytest.approx(0.01)
    assert half.joint_error == pytest.approx(whole.joint_error)


def test_a_clip_without_hands_has_no_hs_err_and_a_recall_of_zero():
    nothing = np.zeros((3, 42), bool)
    error = hand_error(clip(0), nothing, clip(1), ~nothing)
    assert math.isnan(error.hs_err)
    assert error.recall == 0
    assert math.isnan(error.joint_error)
    assert math.isnan(error.precision)


def test_hands_that_the_real_clip_does_not_show_cost_precision():
    nothing = np.zeros((3, 42), bool)
    error = hand_error(clip(0), ~nothing, clip(1), nothing)
    assert error.precision == 0
    assert math.isnan(error.recall)


def test_two_clips_without_hands_have_no_figure_of_them():
    nothing = np.zeros((3, 42), bool)
    assert np.isnan(figures(hand_error(clip(0), nothing, clip(1), nothing))).all()


def test_a_hand_that_the_real_clip_does_not_show_is_no_merit():
    left, right = np.zeros((3, 42), bool), np.zeros((3, 42), bool)
    left[:, :21], right[:, 21:] = True, True
    error = hand_error(clip(0), left, clip(1), right)
    assert math.isnan(error.hs_err)
    assert (error.recall, error.precision) == (0, 0)


def test_undetected_joints_may_be_anything():
    made = np.full((1, 42, 2), np.nan)
    made[0, 0] = 0.5
    shown = np.zeros((1, 42), bool)
    shown[0, 0] = True
    error = hand_error(made, shown, clip(1)[:1], np.ones((1, 42), bool))
    assert 0 < error.hs_err < 1 / 42
