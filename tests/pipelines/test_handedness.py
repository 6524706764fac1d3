import numpy as np
import pytest

from pipelines.handedness import Hand, assign_slots, interpolate


def hand(x: float, y: float, right: float, size: float = 0.2) -> Hand:
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 3)), -1).reshape(21, 2)
    return Hand((grid * size + [x, y]).astype(np.float32), right)


def test_left_and_right_hands_get_their_slots_whatever_their_order():
    for order in ([0, 1], [1, 0]):
        hands = [hand(0.1, 0.4, 0.1), hand(0.6, 0.4, 0.9)]
        joints, detected, score = assign_slots([[hands[i] for i in order]])
        assert detected.tolist() == [[True, True]]
        assert joints[0, 0].tolist() == hands[0].joints[0].tolist()
        assert joints[0, 21].tolist() == hands[1].joints[0].tolist()
        assert score[0] == pytest.approx([0.9, 0.9])


def test_undetected_hands_are_zero():
    joints, detected, score = assign_slots([[], [hand(0.1, 0.1, 0.0)]])
    assert detected.tolist() == [[False, False], [True, False]]
    assert not joints[0].any() and not joints[1, 21:].any()
    assert score[0].tolist() == [0, 0]


def test_one_doubtful_frame_does_not_swap_a_hands_slot():
    clip = [[hand(0.1 + 0.02 * k, 0.4, 0.6 if k == 3 else 0.1)] for k in range(8)]
    _, detected, _ = assign_slots(clip)
    assert detected[:, 0].all() and not detected[:, 1].any()


def test_two_hands_with_one_label_keep_both_and_the_surer_one_its_slot():
    _, detected, _ = assign_slots([[hand(0.1, 0.4, 0.9), hand(0.6, 0.4, 0.95)]])
    joints, _, _ = assign_slots([[hand(0.1, 0.4, 0.9), hand(0.6, 0.4, 0.95)]])
    assert detected.tolist() == [[True, True]]
    assert joints[0, 21, 0] == pytest.approx(0.6)


def test_one_hand_seen_twice_is_one_hand():
    _, detected, _ = assign_slots([[hand(0.3, 0.4, 0.9), hand(0.31, 0.4, 0.3)]])
    assert detected.tolist() == [[False, True]]


def test_hands_that_cross_keep_their_slots():
    """They pass each other vertically apart; the labels fail where they are side by side."""
    clip = []
    for k in range(11):
        doubt = 0.5 if k in (4, 5, 6) else 0.05
        left = hand(0.1 + 0.05 * k, 0.1, doubt)
        right = hand(0.6 - 0.05 * k, 0.6, 1 - doubt)
        clip.append([left, right])
    joints, detected, _ = assign_slots(clip)
    assert detected.all()
    assert (joints[:, :21, 1] < joints[:, 21:, 1]).all()


def test_skipped_frames_are_interpolated_between_detections():
    detections = [[hand(0.0, 0.0, 0.0)], [hand(0.4, 0.2, 0.0)], []]
    joints, detected, score = interpolate(*assign_slots(detections), length=6, stride=2)
    assert detected[:, 0].tolist() == [True, True, True, False, False, False]
    assert joints[1, 0].tolist() == pytest.approx([0.2, 0.1])
    assert not joints[3].any()
    assert score[1, 0] == 1.0
