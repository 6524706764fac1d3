import math

import numpy as np
import pytest

from handi_model.metrics.hand_error import hand_error


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 42, 2))


def test_hs_err_is_eq_5_over_the_joints_that_both_clips_show():
    made, real = clip(0), clip(1)
    shown, real_shown = np.ones((3, 42), bool), np.ones((3, 42), bool)
    shown[0, :21] = False
    real_shown[2, 21:] = False
    total, distances = 0.0, []
    for frame in range(3):
        for joint in range(42):
            if shown[frame, joint] and real_shown[frame, joint]:
                dx, dy = made[frame, joint] - real[frame, joint]
                total += dx * dx + dy * dy
                distances.append(math.hypot(dx, dy))
    error = hand_error(made, shown, real, real_shown)
    assert error.hs_err == pytest.approx(total / (3 * 42))
    assert error.joint_error == pytest.approx(sum(distances) / len(distances))
    assert error.recall == pytest.approx(84 / 105)


def test_a_clip_without_hands_does_not_win():
    nothing = np.zeros((3, 42), bool)
    error = hand_error(clip(0), nothing, clip(1), ~nothing)
    assert error.hs_err == 0
    assert error.recall == 0
    assert math.isnan(error.joint_error)


def test_undetected_joints_may_be_anything():
    made = np.full((1, 42, 2), np.nan)
    shown = np.zeros((1, 42), bool)
    error = hand_error(made, shown, clip(1)[:1], ~shown)
    assert error.hs_err == 0
