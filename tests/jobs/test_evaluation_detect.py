"""detect.py of a release: outsiders find the hands of their clips as the evaluation does."""

import ast
import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs.evaluation import standalone_detect
from jobs.evaluation.export import export
from jobs.evaluation.release import scripts
from pipelines import handedness
from pipelines.clip_files import encode_mp4
from pipelines.dataset import read_rows
from pipelines.evaluation.elsewhere import read_elsewhere
from pipelines.evaluation.seen_hands import hand_tracker, seen_hands
from pipelines.frames import decode_jpeg, encode_jpeg
from pipelines.hands import MOST_HANDS
from tests.datasets import rendered_dataset

FRAMES, SIDE = 5, 128
IDS = ["lift_box_1", "slide_cup_1"]
"""On the first of them the labels of single frames are not those of the vote."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), IDS, frames=FRAMES, side=SIDE)


@pytest.fixture(scope="module")
def release(data, tmp_path_factory, hand_model) -> Path:
    """With pictures, and joints that MediaPipe found on them."""
    folder = tmp_path_factory.mktemp("release")
    export(["--data", data, "--output", str(folder), "--frames", "--hand-model", str(hand_model)])
    return folder


@pytest.fixture(scope="module")
def frames(data) -> np.ndarray:
    """(L, H, W, 3) of the first clip."""
    return np.stack([decode_jpeg(frame) for frame in read_rows(data, IDS)[0]["frames"]])


def run(release: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Call detect.py from the release, away from our packages."""
    return subprocess.run(
        [sys.executable, str(release / "detect.py"), *map(str, arguments)],
        cwd=release.parent,
        capture_output=True,
        text=True,
    )


def hands(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return {**arrays}


# The same hands


def test_on_the_real_frames_it_finds_the_released_joints(release, tmp_path, hand_model):
    done = run(release, release / "frames", tmp_path, "--model", hand_model)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 clips: {tmp_path}\n"
    assert "note:" not in done.stderr
    for clip_id in IDS:
        real, found = (
            hands(folder / f"{clip_id}.npz") for folder in (release / "joints", tmp_path)
        )
        assert real["detected"].any()
        assert [*found] == [*real]
        for name in real:
            assert found[name].dtype == real[name].dtype
        np.testing.assert_array_equal(found["detected"], real["detected"])
        np.testing.assert_allclose(found["joints"], real["joints"], atol=1e-4)
    score = [sys.executable, str(release / "score.py"), str(tmp_path)]
    printed = subprocess.run(score, capture_output=True, text=True, check=True).stdout
    assert "HS-Err              0.00000  (2 clips)" in printed


def test_it_links_detections_by_the_evaluation_s_own_code(release):
    own = Path(handedness.__file__).read_bytes()
    assert (release / "handedness.py").read_bytes() == own


def test_it_asks_for_as_many_hands_as_the_evaluation():
    assert f"num_hands={MOST_HANDS}," in scripts()["detect.py"].decode()


def test_a_video_and_its_area_are_taken_as_the_evaluation_takes_them(
    release, frames, tmp_path, hand_model
):
    made = tmp_path / "made"
    made.mkdir()
    (made / f"{IDS[0]}.mp4").write_bytes(encode_mp4(frames, 8))
    area = np.zeros((SIDE, SIDE), bool)
    area[20:70, 30:90] = True
    cv2.imwrite(str(made / f"{IDS[0]}-mask.png"), area * np.uint8(255))
    read = read_elsewhere(str(made / f"{IDS[0]}.mp4"), FRAMES, SIDE, "crop")
    with closing(hand_tracker(hand_model.read_bytes(), 60.0)) as tracker:
        expected = seen_hands(read.frames, tracker)
    assert expected.detected.any()
    done = run(release, made, tmp_path / "joints", "--model", hand_model)
    assert done.returncode == 0, done.stderr
    found = hands(tmp_path / "joints" / f"{IDS[0]}.npz")
    np.testing.assert_array_equal(found["detected"], expected.detected)
    np.testing.assert_allclose(found["joints"], expected.joints, atol=1e-4)
    np.testing.assert_array_equal(found["area"], area)


def write_npz(folder: Path, frames: np.ndarray) -> Path:
    np.savez(folder / "clip.npz", frames=frames, area=frames[0, :, :, 0] > 99)
    return folder / "clip.npz"


def write_pictures(folder: Path, frames: np.ndarray) -> Path:
    # Frame 10 comes after frame 9, and by name before it.
    (folder / "clip").mkdir()
    for i, frame in enumerate(frames):
        (folder / "clip" / f"{i + 8}.jpg").write_bytes(encode_jpeg(frame, 90))
    return folder / "clip"


def write_video(folder: Path, frames: np.ndarray) -> Path:
    (folder / "clip.mp4").write_bytes(encode_mp4(frames, 8))
    return folder / "clip.mp4"


@pytest.mark.parametrize("write", [write_npz, write_pictures, write_video])
def test_clips_are_read_as_the_evaluation_reads_them(write, frames, tmp_path):
    path = write(tmp_path, frames)
    expected = read_elsewhere(str(path), FRAMES, SIDE, "crop")
    assert standalone_detect.find_clip(tmp_path, "clip") == path
    found = standalone_detect.read_clip(path, FRAMES, (SIDE, SIDE))
    np.testing.assert_array_equal(found["frames"], expected.frames)
    assert ("area" in found) == (expected.area is not None)


def test_its_files_import_the_standard_library_and_known_packages_alone():
    imported = set()
    for name in ("detect.py", "handedness.py"):
        for node in ast.walk(ast.parse(scripts()[name])):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    others = imported - sys.stdlib_module_names - {"handedness"}
    assert others == {"av", "cv2", "mediapipe", "numpy"}


# What differs is told


def test_another_mediapipe_and_another_model_are_told(hand_model, tmp_path):
    detector = {
        "mediapipe": "0.0.1",
        "networks_sha256": {"hand_detector.tflite": "0" * 64},
    }
    mediapipe, networks = standalone_detect.differences(hand_model, detector)
    assert "0.0.1" in mediapipe
    assert str(hand_model) in networks
    (tmp_path / "model").write_text("no model")
    for wrong in (tmp_path / "model", tmp_path / "none"):
        with pytest.raises(ValueError, match="is no hand_landmarker"):
            standalone_detect.differences(wrong, detector)


# Mistakes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frames: frames[1:], r"is uint8 of shape \(4, 128, 128, 3\)"),
        (lambda frames: frames[:, :64], r"frames must be uint8 of shape \(5, 128, 128, 3\)"),
    ],
)
@pytest.mark.parametrize("write", [write_npz, write_pictures, write_video])
def test_clips_of_another_length_or_size_are_refused_in_one_line(
    write, change, said, frames, tmp_path
):
    with pytest.raises(ValueError, match=said) as refusal:
        standalone_detect.read_clip(
            write(tmp_path, np.ascontiguousarray(change(frames))), FRAMES, (SIDE, SIDE)
        )
    assert "\n" not in str(refusal.value)


def test_a_video_that_goes_on_is_refused(frames, tmp_path):
    path = write_video(tmp_path, np.concatenate([frames, frames]))
    with pytest.raises(ValueError, match=r"is uint8 of shape \(6, "):
        standalone_detect.read_clip(path, FRAMES, (SIDE, SIDE))


def test_what_is_no_clip_is_refused_in_one_line(tmp_path):
    for name in ("a.npz", "b.mp4"):
        (tmp_path / name).write_bytes(b"no clip")
        with pytest.raises(ValueError, match=f"{name} cannot be read: ") as refusal:
            standalone_detect.read_clip(tmp_path / name, FRAMES, (SIDE, SIDE))
        assert "\n" not in str(refusal.value)


def test_a_folder_with_none_of_the_clips_is_one_line(release, hand_model, tmp_path):
    done = run(release, tmp_path, tmp_path / "joints", "--model", hand_model)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert f"such as {IDS[0]}.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "joints").exists()


def test_the_benchmark_tells_what_its_own_joints_were_found_with(release, hand_model, tmp_path):
    said = json.loads((release / "benchmark.json").read_text())["detector"]
    assert standalone_detect.differences(hand_model, said) == []
    copy = shutil.copy(hand_model, tmp_path / "named otherwise")
    assert standalone_detect.differences(Path(copy), said) == []
