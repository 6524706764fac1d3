import numpy as np
import pytest

from handi_model.metrics.locality import area_square
from pipelines.evaluation.views import OncePerFrame, view
from pipelines.handedness import Hand

LENGTH, SIDE = 4, 32


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (LENGTH, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:12, 8:16] = True
    return mask


def one_right_hand(frames):
    return [[Hand(np.full((21, 2), 0.5, np.float32), 0.9)] for _ in frames]


class Network:
    """A network whose calls are counted; a frame's mean colour is its feature."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, frames):
        self.seen.append(len(frames))
        return frames.reshape(len(frames), -1, 3).mean(axis=1).astype(np.float32)


def test_a_frame_is_computed_once_however_often_and_in_whatever_order(frames):
    network = Network()
    once = OncePerFrame(network)
    expected = Network()(frames)
    np.testing.assert_array_equal(once(frames), expected)
    np.testing.assert_array_equal(once(frames[::-1]), expected[::-1])
    np.testing.assert_array_equal(once(np.repeat(frames[:1], 3, axis=0)), expected[[0, 0, 0]])
    assert network.seen == [LENGTH]
    changed = frames.copy()
    changed[1, 0, 0, 0] ^= 1
    once(changed)
    assert network.seen == [LENGTH, 1]


def test_networks_that_cannot_be_had_leave_nothing(frames, mask):
    seen = view(frames, mask, one_right_hand, {})
    assert seen.features == {} and seen.clip is None and seen.caption is None
    assert seen.hands.detected.tolist() == [[False, True]] * LENGTH
    assert seen.hands.visible.sum() == LENGTH * 21


def test_the_motion_area_is_looked_at_alone(frames, mask):
    clips = []

    def i3d(given):
        clips.append(given)
        return np.zeros(3, np.float32)

    seen = view(frames, mask, one_right_hand, {"i3d": i3d})
    top, left, side = area_square(mask)
    np.testing.assert_array_equal(clips[0], frames)
    np.testing.assert_array_equal(clips[1], frames[:, top : top + side, left : left + side])
    assert seen.features["i3d"].shape == seen.features["i3d_area"].shape == (1, 3)


def test_features_that_are_not_finite_are_refused(frames, mask):
    with pytest.raises(ValueError, match="not finite"):
        view(frames, mask, one_right_hand, {"i3d": lambda given: np.full(3, np.nan)})
