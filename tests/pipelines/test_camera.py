import cv2
import numpy as np
import pytest

from pipelines.camera import TRACKING_SIDE, measure_path, move_joints, stabilize

LENGTH = 16


def texture(height: int = 360, width: int = 640, seed: int = 0) -> np.ndarray:
    """A cluttered still scene: boxes of many sizes and colours."""
    rng = np.random.default_rng(seed)
    scene = np.full((height, width, 3), 120, np.uint8)
    for _ in range(150):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(8, 90, 2)
        colour = tuple(int(c) for c in rng.integers(20, 235, 3))
        cv2.rectangle(scene, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return cv2.GaussianBlur(scene, (3, 3), 0)


def pan(speed: float, seed: int = 0) -> np.ndarray:
    """(L, 3, 3) pixel homographies from frame 0 to frame k: a camera that turns and drifts."""
    rng = np.random.default_rng(seed)
    path = [np.eye(3)]
    for _ in range(LENGTH - 1):
        angle = rng.normal(0, 0.006)
        dx, dy = rng.normal(0, speed / 3, 2) + [speed * 0.8, speed * 0.4]
        step = np.array([[np.cos(angle), -np.sin(angle), dx], [np.sin(angle), np.cos(angle), dy]])
        tilt = [rng.normal(0, 1e-5), rng.normal(0, 1e-5), 1]
        path.append(np.vstack([step, tilt]) @ path[-1])
    return np.array(path)


def filmed(scene: np.ndarray, path: np.ndarray) -> np.ndarray:
    size = scene.shape[1::-1]
    return np.stack(
        [cv2.warpPerspective(scene, m, size, borderMode=cv2.BORDER_REFLECT) for m in path]
    )


def no_hands() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((LENGTH, 42, 2), np.float32), np.zeros((LENGTH, 2), bool)


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    q = points @ matrix[:, :2].T + matrix[:, 2]
    return q[:, :2] / q[:, 2:]


def residual(path, truth: np.ndarray, size: tuple[int, int]) -> float:
    """Largest over the frames of the median distance, in pixels at the tracking resolution,
    between where the stabilized background lies and where it should."""
    width, height = size
    grid = np.stack(np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)), -1)
    grid = grid.reshape(-1, 2)
    pixels = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
    worst = 0.0
    for k in range(LENGTH):
        back = pixels @ path.to_first[k] @ np.linalg.inv(pixels) @ truth[k]
        distance = np.linalg.norm(moved(back, grid) - grid, axis=1)
        worst = max(worst, float(np.median(distance)))
    return worst * TRACKING_SIDE / min(width, height)


@pytest.mark.parametrize("speed", [1.0, 6.0, 15.0])
def test_on_a_clip_panned_by_known_homographies_the_residual_is_under_one_pixel(speed):
    truth = pan(speed)
    frames = filmed(texture(), truth)
    path = measure_path(frames, *no_hands())
    assert path.complete
    assert residual(path, truth, (640, 360)) < 1.0
    stabilized, _ = stabilize(frames, path)
    left = measure_path(stabilized, *no_hands(), to_first=False).motion(TRACKING_SIDE)
    assert left is not None and left < 0.3


def test_motion_is_the_median_displacement_in_pixels_of_the_asked_resolution():
    shift = np.array([[1, 0, 9.0], [0, 1, 0], [0, 0, 1]])
    truth = np.array([np.linalg.matrix_power(shift, k) for k in range(LENGTH)])
    path = measure_path(filmed(texture(), truth), *no_hands(), to_first=False)
    assert path.motion(360) == pytest.approx(9.0, abs=0.2)
    assert path.motion(256) == pytest.approx(9.0 * 256 / 360, abs=0.2)


def test_a_camera_that_stands_still_does_not_move():
    frames = np.repeat(texture()[None], LENGTH, axis=0)
    assert measure_path(frames, *no_hands()).motion(256) < 0.05


def test_moving_hands_are_not_taken_for_the_camera():
    """A hand and what it holds fill a third of a still scene and move across it."""
    scene = texture()
    hand = texture(200, 260, seed=9)
    frames = np.repeat(scene[None], LENGTH, axis=0)
    joints, detected = no_hands()
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    for k in range(LENGTH):
        x, y = 20 + 22 * k, 80 + 4 * k
        frames[k, y : y + 200, x : x + 260] = hand
        box = (corners * [260, 200] + [x, y]) / [640, 360]
        joints[k, :21] = np.resize(box, (21, 2))
        detected[k, 0] = True
    path = measure_path(frames, joints, detected)
    assert path.motion(256) < 0.3


def test_a_scene_without_texture_cannot_be_measured_and_says_so():
    frames = np.full((LENGTH, 180, 320, 3), 127, np.uint8)
    path = measure_path(frames, *no_hands())
    assert path.motion(256) is None
    assert not path.complete


def test_two_measurements_of_one_clip_agree_to_the_last_bit():
    frames = filmed(texture(), pan(6.0))
    first, second = measure_path(frames, *no_hands()), measure_path(frames, *no_hands())
    assert (first.to_first == second.to_first).all()
    assert (first.step == second.step).all()


def test_stabilizing_carries_joints_along_and_records_what_every_frame_saw():
    truth = pan(6.0)
    frames = filmed(texture(), truth)
    path = measure_path(frames, *no_hands())
    spot = np.array([[300.0, 170.0]])
    joints = np.zeros((LENGTH, 42, 2), np.float32)
    for k in range(LENGTH):
        joints[k] = (moved(truth[k], spot) + 0.5) / [640, 360]
    carried = move_joints(joints, path) * [640, 360] - 0.5
    assert np.abs(carried - spot).max() < 2.0

    stabilized, seen = stabilize(frames, path)
    valid = seen.all(axis=0)
    assert 0.3 < valid.mean() < 1.0
    # Where a frame saw nothing, the first frame's pixel stands still.
    assert (stabilized[-1][:5, :5] == frames[0][:5, :5]).all() or valid[:5, :5].all()
    inside = np.abs(stabilized[-1][valid].astype(int) - frames[0][valid]).mean()
    assert inside < 8


def test_pixels_that_a_frame_did_not_see_do_not_hold_its_scene_still():
    shift = np.array([[1, 0, 30.0], [0, 1, 0], [0, 0, 1]])
    truth = np.array([np.linalg.matrix_power(shift, k) for k in range(LENGTH)])
    frames, seen = filmed(texture(), truth), np.zeros((LENGTH, 360, 640), bool)
    seen[:, :, :200] = True
    lent = np.where(seen[..., None], frames, frames[0])
    left = measure_path(lent, *no_hands(), to_first=False).motion(360)
    own = measure_path(lent, *no_hands(), to_first=False, seen=seen).motion(360)
    assert left < 1 and own == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    "wild",
    [
        [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]],
        [[1, 0, 0], [0, -1, 200], [0, 0, 1]],
        [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 1]],
        [[1, 0, 0], [1, 0, 0], [0, 0, 1]],
    ],
    ids=["folds the frame", "mirrors it", "shrinks it", "flattens it"],
)
def test_a_fit_that_no_camera_makes_is_not_taken_for_its_motion(monkeypatch, wild):
    def fitted(source, target, *options):
        return np.array(wild, float), np.ones((len(source), 1), np.uint8)

    monkeypatch.setattr(cv2, "findHomography", fitted)
    frames = np.repeat(texture()[None], 3, axis=0)
    path = measure_path(frames, np.zeros((3, 42, 2), np.float32), np.zeros((3, 2), bool))
    assert path.motion(256) is None
    assert not path.complete
