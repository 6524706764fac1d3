import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handi_model.metrics.smoothness import joint_jerk

SEEN = np.ones((12, 42), bool)


def motion(*coefficients: float, frames: int = 12) -> np.ndarray:
    """(L, 42, 2) joints, x and y a polynomial of the frame number; the lowest power first."""
    place = np.polynomial.polynomial.polyval(np.arange(frames), coefficients)
    return np.broadcast_to(place[:, None, None], (frames, 42, 2)).copy()


@given(*[st.floats(-1, 1)] * 3)
def test_rest_and_steady_motion_and_acceleration_have_no_jerk(place, speed, acceleration):
    for joints in (motion(place), motion(place, speed), motion(place, speed, acceleration)):
        assert joint_jerk(joints, SEEN) == pytest.approx(0, abs=1e-10)


@given(*[st.floats(-1, 1)] * 4)
def test_a_cubic_has_its_third_derivative_as_jerk(a, b, c, d):
    """Six times its coefficient, in x and in y."""
    expected = 6 * abs(d) * math.sqrt(2)
    assert joint_jerk(motion(a, b, c, d), SEEN) == pytest.approx(expected, abs=1e-10)


def test_the_jerk_is_the_mean_over_joints_and_times():
    joints = np.random.default_rng(0).random((7, 42, 2))
    seen = np.random.default_rng(1).random((7, 42)) < 0.8
    lengths = []
    for at in range(4):
        for joint in range(42):
            if seen[at : at + 4, joint].all():
                first, second, third, fourth = joints[at : at + 4, joint]
                lengths.append(math.hypot(*(fourth - 3 * third + 3 * second - first)))
    assert joint_jerk(joints, seen) == pytest.approx(np.mean(lengths))


def test_a_shaking_hand_is_less_steady_than_a_calm_one():
    calm = motion(0.2, 0.01)
    shaken = calm + np.random.default_rng(0).normal(0, 0.01, calm.shape)
    assert joint_jerk(shaken, SEEN) > joint_jerk(calm, SEEN) + 0.01


def test_a_gap_is_not_bridged():
    """The hand jumps while it is not seen: nothing is known of how it got there."""
    joints, seen = motion(0.1), SEEN.copy()
    joints[6:] += 0.5
    assert joint_jerk(joints, seen) > 0.1
    seen[5] = False
    joints[5] = np.nan
    assert joint_jerk(joints, seen) == 0


def test_a_jump_of_one_joint_counts_for_that_joint_alone():
    joints, seen = motion(0.1), SEEN.copy()
    joints[6:, 3] += 0.5
    seen[:, :3] = seen[:, 4:] = False
    alone = joint_jerk(joints, seen)
    assert joint_jerk(joints, SEEN) == pytest.approx(alone / 42)


def test_joints_seen_in_three_frames_on_end_have_none():
    seen = SEEN.copy()
    seen[3::4] = False
    assert math.isnan(joint_jerk(motion(0, 0, 0, 1), seen))
    seen[3] = True
    assert joint_jerk(motion(0, 0, 0, 1), seen) == pytest.approx(6 * math.sqrt(2))


def test_a_clip_without_hands_has_none():
    assert math.isnan(joint_jerk(np.full((12, 42, 2), np.nan), np.zeros((12, 42), bool)))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_clip_of_less_than_four_frames_has_none(frames):
    assert math.isnan(joint_jerk(motion(0.5, frames=frames), np.ones((frames, 42), bool)))
