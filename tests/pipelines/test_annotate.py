"""One decoded clip to its row, without Ray and without MediaPipe."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.annotate import Annotator, HandTrack, StageTimes, assemble, find_hands
from pipelines.camera import CameraPath, measure_path
from pipelines.frames import decode_jpeg, decode_mask
from pipelines.handedness import Hand
from pipelines.hands import DetectorError
from pipelines.records import WRITTEN, Clip, from_ipc
from pipelines.settings import PreprocessSettings
from pipelines.video import DecodedClip
from tests.pipelines.test_camera import LENGTH, filmed, pan, texture

CLIP = Clip(
    "P01_01_0", "epic-kitchens", "train", "v.mp4", 1.0, 3.0, "stir pan", "stir", "pan", 10, 5
)


def settings(**changes) -> PreprocessSettings:
    return PreprocessSettings(videos="in", output="out", resolution=64, **changes)


def decoded(frames: np.ndarray) -> DecodedClip:
    return DecodedClip(CLIP, frames, np.linspace(1, 3, len(frames)), 30.0)


def one_hand(x: float, y: float, size: float = 0.2, length: int = LENGTH) -> HandTrack:
    """The right hand, a square around (x, y), on every frame."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 3)), -1).reshape(21, 2)
    joints = np.zeros((length, 42, 2), np.float32)
    joints[:, 21:] = grid * size / 2 + [x, y]
    detected = np.tile([False, True], (length, 1))
    return HandTrack(joints, detected, detected.astype(np.float32))


def row_of(frames, hands, **changes):
    wanted = settings(**changes)
    path = measure_path(frames, hands.joints, hands.detected, wanted.stabilize)
    return assemble(decoded(frames), hands, path, wanted, "test detector")


STILL = np.repeat(texture()[None], LENGTH, axis=0)


def test_hands_are_sought_on_every_nth_frame_and_never_mixed_between_two_tracks():
    near, far = (Hand(one_hand(x, 0.7, length=1).joints[0, 21:], 0.97) for x in (0.3, 0.54))
    sought = []

    def tracker(frames):
        sought.append(len(frames))
        return [[near], [near], [far], [far]]

    hands = find_hands(np.zeros((7, 90, 160, 3), np.uint8), tracker, stride=2)  # type: ignore[arg-type]
    assert sought == [4]
    assert hands.detected[:, 1].tolist() == [True] * 3 + [False] + [True] * 3
    assert hands.joints[:, 21:, 0].mean(axis=1) == pytest.approx([0.3] * 3 + [0] + [0.54] * 3)
    assert hands.reassigned == 0


def test_the_share_of_reassigned_frames_reaches_the_row():
    assert row_of(STILL, replace(one_hand(0.5, 0.5), reassigned=0.25), stabilize=True).row[
        "hands_reassigned"
    ] == pytest.approx(0.25)


def test_a_row_has_every_column_of_the_contract_and_survives_arrow():
    outcome = row_of(STILL, one_hand(0.5, 0.5))
    assert outcome.folder == "clips"
    table = from_ipc(outcome.to_ipc())
    assert table.schema.equals(WRITTEN)
    row = table.to_pylist()[0]
    assert len(row["frames"]) == len(row["frame_masks"]) == len(row["frame_times_s"]) == LENGTH
    assert np.array(row["keypoints"]).shape == (LENGTH, 42, 2)
    assert np.array(row["hand_detected"]).shape == np.array(row["hand_score"]).shape == (LENGTH, 2)
    assert decode_jpeg(row["frames"][0]).shape == (row["height"], row["width"], 3) == (64, 64, 3)
    assert row["hand_rate"] == 1.0
    assert row["hands_reassigned"] == 0.0
    assert row["verb_class"] == 10


def test_the_mask_is_the_union_of_the_hulls_around_the_stored_joints():
    hands = one_hand(0.5, 0.5)
    hands.joints[:, 21:, 0] += np.linspace(-0.05, 0.05, LENGTH)[:, None].astype(np.float32)
    row = row_of(STILL, hands).row
    masks = np.stack([decode_mask(mask) for mask in row["frame_masks"]])
    union = decode_mask(row["mask"])
    assert (union == masks.any(axis=0)).all()
    assert row["mask_area"] == pytest.approx(union.mean(), abs=1e-6)
    x, y = (np.array(row["keypoints"])[0, 21:].mean(axis=0) * 64).astype(int)
    assert masks[0][y, x]


def test_joints_are_normalised_to_the_stored_frame_not_to_the_video():
    # At x = 0.5 +- 0.1 of a 16:9 frame, whose middle square is kept.
    row = row_of(STILL, one_hand(0.6, 0.5)).row
    expected = 0.5 + 0.1 * 640 / 360
    assert np.array(row["keypoints"])[0, 21:, 0].mean() == pytest.approx(expected, abs=0.01)


def test_a_hand_that_the_crop_leaves_outside_is_not_detected():
    outcome = row_of(STILL, one_hand(0.08, 0.5, size=0.1))
    assert (outcome.folder, outcome.row["reason"]) == ("filtered", "min_hand_rate")
    kept = row_of(STILL, one_hand(0.08, 0.5, size=0.1), fit="pad")
    assert kept.folder == "clips"


def test_padding_is_not_valid_area():
    row = row_of(STILL, one_hand(0.5, 0.5), fit="pad").row
    assert row["valid_area"] == pytest.approx(9 / 16, abs=0.03)
    assert not decode_mask(row["valid_mask"])[0].any()


def test_camera_motion_is_written_and_filters():
    frames = filmed(texture(), pan(6.0))
    row = row_of(frames, one_hand(0.5, 0.5)).row
    assert row["camera_motion"] == row["residual_motion"] > 0.5
    outcome = row_of(frames, one_hand(0.5, 0.5), max_camera_motion=0.5)
    assert (outcome.folder, outcome.row["reason"]) == ("filtered", "max_camera_motion")
    assert outcome.row["value"] > 0.5


def test_stabilizing_leaves_a_still_scene_and_tells_what_is_valid():
    frames = filmed(texture(), pan(6.0))
    row = row_of(frames, one_hand(0.5, 0.5, size=0.3), stabilize=True, max_camera_motion=0.5).row
    assert row["stabilized"]
    assert row["camera_motion"] > 0.5 > row["residual_motion"]
    assert row["valid_area"] < 1.0
    stored = np.stack([decode_jpeg(frame) for frame in row["frames"]]).astype(int)
    valid = decode_mask(row["valid_mask"])
    assert (
        np.abs(stored[-1] - stored[0])[valid].mean()
        < np.abs(frames[-1].astype(int) - frames[0]).mean()
    )


def test_a_clip_that_cannot_be_tied_to_its_first_frame_is_kept_as_filmed():
    blank = np.full((LENGTH, 90, 160, 3), 127, np.uint8)
    row = row_of(blank, one_hand(0.5, 0.5), stabilize=True).row
    assert not row["stabilized"]
    assert row["camera_motion"] is row["residual_motion"] is None
    outcome = row_of(blank, one_hand(0.5, 0.5), stabilize=True, max_camera_motion=5)
    assert (outcome.row["reason"], outcome.row["value"]) == ("max_camera_motion", None)


def shifted_path(shifts: np.ndarray, step: float) -> CameraPath:
    """A path that moves frame k by shifts[k] of the width, and says that it moved by `step`."""
    to_first = np.tile(np.eye(3), (LENGTH, 1, 1))
    to_first[:, 0, 2] = shifts
    return CameraPath(to_first, np.full(LENGTH - 1, step))


@pytest.mark.parametrize(
    "shifts",
    [np.arange(LENGTH) % 2 * 0.05, np.where(np.arange(LENGTH) < 8, 0, 0.2)],
    ids=["every frame is wrong", "the picture jumps once"],
)
def test_a_clip_that_stabilizing_would_set_in_motion_is_stored_as_filmed(shifts):
    path = shifted_path(shifts, step=0.5)
    wanted = settings(stabilize=True)
    row = assemble(decoded(STILL), one_hand(0.5, 0.5), path, wanted, "test").row
    assert not row["stabilized"]
    assert row["residual_motion"] == row["camera_motion"] > 0
    assert row["valid_area"] == 1.0
    assert row["frames"] == row_of(STILL, one_hand(0.5, 0.5)).row["frames"]
    limited = settings(stabilize=True, max_camera_motion=0.1)
    outcome = assemble(decoded(STILL), one_hand(0.5, 0.5), path, limited, "test")
    assert (outcome.row["reason"], outcome.row["value"]) == (
        "max_camera_motion",
        row["residual_motion"],
    )


def test_a_clip_whose_hands_stabilizing_would_move_out_of_the_frame_is_stored_as_filmed():
    shift = np.array([[1, 0, 12.0], [0, 1, 0], [0, 0, 1]])
    frames = filmed(texture(), np.array([np.linalg.matrix_power(shift, k) for k in range(LENGTH)]))
    hands = one_hand(0.3, 0.5, size=0.1)
    assert row_of(frames, hands).row["hand_rate"] == 1.0
    row = row_of(frames, hands, stabilize=True).row
    assert not row["stabilized"] and row["hand_rate"] == 1.0
    assert row["residual_motion"] == row["camera_motion"] > 1
    row = row_of(frames, hands, stabilize=True, min_hand_rate=0.1).row
    assert row["stabilized"] and row["residual_motion"] < 1


@pytest.mark.parametrize("stabilize", [False, True])
def test_a_clip_without_hands_is_filtered_as_that_whatever_its_camera_does(stabilize):
    hands = one_hand(0.5, 0.5)
    hands.detected[:] = False
    for frames in (filmed(texture(), pan(6.0)), np.full((LENGTH, 90, 160, 3), 127, np.uint8)):
        outcome = row_of(frames, hands, stabilize=stabilize, max_camera_motion=0.1)
        assert (outcome.row["reason"], outcome.row["value"]) == ("min_hand_rate", 0.0)


def test_a_clip_with_too_few_hands_is_filtered_with_its_rate():
    hands = one_hand(0.5, 0.5)
    hands.detected[LENGTH // 4 :] = False
    outcome = row_of(STILL, hands)
    assert (outcome.folder, outcome.row["value"]) == ("filtered", 0.25)


def test_whatever_fails_is_this_clips_outcome():
    annotator = Annotator.__new__(Annotator)
    annotator.settings, annotator.detector_name = settings(), "test"

    def hangs(frames):
        raise DetectorError("DetectorHung", "the hand detector did not finish")

    annotator.tracker = hangs  # type: ignore[assignment]
    times = StageTimes()
    outcome = annotator(decoded(STILL), times)
    assert outcome.folder == "errors"
    assert outcome.row["stage"] == "hands"
    assert outcome.row["error_type"] == "DetectorHung"
    assert outcome.row["attempts"] == 2


def test_cut_and_blank_clips_are_filtered_before_hands_are_sought():
    annotator = Annotator.__new__(Annotator)
    annotator.settings, annotator.detector_name = settings(), "test"

    def unused(frames):
        raise AssertionError("no hands are to be sought")

    annotator.tracker = unused  # type: ignore[assignment]
    black = STILL.copy()
    black[3:6] = 0
    times = StageTimes()
    assert annotator(decoded(black), times).row["reason"] == "max_blank"
    cut = np.concatenate([STILL[:8], 255 - np.repeat(texture(seed=5)[None], 8, axis=0)])
    assert annotator(decoded(cut), times).row["reason"] == "max_cut"
    assert list(times.seconds) == ["shots"]
