import os
import time

import numpy as np
import pytest

from pipelines.handedness import Hand
from pipelines.hands import ATTEMPTS, DetectorError, HandTracker

FRAMES = np.zeros((3, 32, 48, 3), np.uint8)


def prepare_nothing(model: bytes, confidence: float) -> None:
    """Stands for the loading of the networks."""


def find_process(frames: np.ndarray) -> list[list[Hand]]:
    """A detector that tells which process it runs in."""
    return [[Hand(np.full((21, 2), os.getpid(), np.float64), 1.0)] for _ in frames]


def hang_on_white(frames: np.ndarray) -> list[list[Hand]]:
    if frames.max() == 255:
        time.sleep(600)
    return find_process(frames)


def die_on_white(frames: np.ndarray) -> list[list[Hand]]:
    if frames.max() == 255:
        os._exit(3)
    return find_process(frames)


@pytest.fixture
def tracker_of():
    trackers = []

    def build(detect, **options):
        trackers.append(HandTracker(b"", prepare=prepare_nothing, detect=detect, **options))
        return trackers[-1]

    yield build
    for tracker in trackers:
        tracker.close()


def process_of(found: list[list[Hand]]) -> int:
    return int(found[0][0].joints[0, 0])


def test_a_clip_on_which_the_detector_hangs_costs_the_other_clips_nothing(tracker_of):
    tracker = tracker_of(hang_on_white, deadline_s=2.0)
    before = process_of(tracker(FRAMES))
    with pytest.raises(DetectorError, match="did not finish this clip in 2 s") as error:
        tracker(FRAMES + 255)
    assert error.value.error_type == "DetectorHung"
    assert error.value.attempts == ATTEMPTS
    assert process_of(tracker(FRAMES)) != before


def test_a_clip_on_which_the_detector_dies_costs_the_other_clips_nothing(tracker_of):
    tracker = tracker_of(die_on_white)
    with pytest.raises(DetectorError, match="died on this clip") as error:
        tracker(FRAMES + 255)
    assert error.value.error_type == "DetectorCrashed"
    assert len(tracker(FRAMES)) == 3


def test_the_detector_never_runs_in_the_callers_process_and_is_replaced_in_time(tracker_of):
    tracker = tracker_of(find_process, recycle_after=2)
    processes = [process_of(tracker(FRAMES)) for _ in range(4)]
    assert os.getpid() not in processes
    assert len(set(processes)) == 2


def test_mediapipe_finds_hands_and_says_whose_they_are(hand_model, sample_frames):
    """On a rendered clip with two hands: the wearer's left hand lies left."""
    tracker = HandTracker(hand_model.read_bytes())
    try:
        found = tracker(sample_frames)
        again = tracker(sample_frames)
    finally:
        tracker.close()
    two = [hands for hands in found if len(hands) == 2]
    assert len(two) >= len(found) / 2
    for hands in two:
        left, right = sorted(hands, key=lambda hand: hand.right)
        assert left.joints[:, 0].mean() < right.joints[:, 0].mean()
    for one, other in zip(found, again, strict=True):
        assert len(one) == len(other)
        for hand, same in zip(one, other, strict=True):
            np.testing.assert_allclose(hand.joints, same.joints, atol=1e-4)
