import ast
import csv
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import jobs.evaluation.export
import jobs.evaluation.release
from handi_model.metrics.fidelity import mask_iou
from handi_model.metrics.hand_error import hand_error
from handi_model.metrics.smoothness import joint_jerk
from jobs.evaluation import standalone_score
from jobs.evaluation.export import export
from jobs.evaluation.release import clip_names, video_names
from pipelines.dataset import read_rows, write_table
from pipelines.evaluation.columns import COLUMNS
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.seen_hands import CONFIDENCE, SeenHands
from pipelines.hands import DetectorError
from pipelines.records import WRITTEN
from pipelines.rendered import CLIPS
from pipelines.settings import PreprocessSettings
from pipelines.training_clips import TrainingClips, read_training_clips
from tests.datasets import rendered_dataset

FRAMES = 5
IDS = ["kitchen/lift box", "kitchen/stir_pan_2", "slide_cup_1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Three test clips, two of them in a folder, and one for training."""
    rendered = ["lift_box_1", "stir_pan_2", "slide_cup_1", "open_lid_1"]
    raw = rendered_dataset(tmp_path_factory.mktemp("rendered"), rendered, frames=FRAMES)
    rows = read_rows(raw, rendered)
    for row, clip_id in zip(rows, [*IDS, "open_lid_1"], strict=True):
        row |= {"clip_id": clip_id, "split": "test" if clip_id in IDS else "train"}
    folder = tmp_path_factory.mktemp("data")
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{folder}/clips")
    (folder / "settings.json").write_text(json.dumps({"resolution": 64, "fit": "crop"}))
    return str(folder)


@pytest.fixture(scope="module")
def clips(data) -> TrainingClips:
    return read_training_clips(data, IDS, 64)


@pytest.fixture(scope="module", autouse=True)
def eyes(clips):
    """What is seen on a clip is what the data set says: MediaPipe takes seconds to start."""
    known = {
        frames.tobytes(): SeenHands(clips.joints[i], clips.detected[i])
        for i, frames in enumerate(clips.frames)
    }
    nothing = SeenHands(np.zeros((FRAMES, 42, 2), np.float32), np.zeros((FRAMES, 2), bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.evaluation.export, "hand_tracker", lambda *_: io.BytesIO())
        patch.setattr(
            jobs.evaluation.export,
            "seen_hands",
            lambda frames, tracker: known.get(frames.tobytes(), nothing),
        )
        yield


@pytest.fixture(scope="module")
def release(eyes, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    export(["--data", data, "--output", str(folder)])
    return folder


@pytest.fixture
def copy(release, tmp_path) -> Path:
    """A release to damage."""
    return shutil.copytree(release, tmp_path / "copy")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def refusal(capsys, *arguments: str) -> str:
    """The line that a mistake gets, with exit code 2."""
    with pytest.raises(SystemExit) as end:
        export([*arguments])
    assert end.value.code == 2
    (line,) = (
        line for line in re.split("[\r\n]+", capsys.readouterr().err) if line.startswith("error")
    )
    return line


# What is written


def test_sha256sum_agrees_and_lists_every_file(release):
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=release, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert said == {*contents(release)} - {"SHA256SUMS"}


def test_the_same_data_gives_the_same_bytes_anywhere(data, release, tmp_path):
    export(["--data", data, "--output", str(tmp_path / "again")])
    export(["--data", data, "--output", "memory://release"])
    export(["--data", data, "--output", str(tmp_path / "again")])  # over itself
    assert contents(tmp_path / "again") == contents(release)
    memory = fsspec.filesystem("memory")
    there = {name.removeprefix("/release/"): memory.cat(name) for name in memory.find("/release")}
    memory.rm("/release", recursive=True)
    assert there == contents(release)


def test_masks_are_the_data_set_s_and_joints_what_is_seen(release, clips):
    for i, clip_id in enumerate(IDS):
        with Image.open(release / "masks" / f"{clip_id}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture) > 127, clips.masks[i])
        with np.load(release / "frame_masks" / f"{clip_id}.npz") as arrays:
            np.testing.assert_array_equal(arrays["masks"], clips.frame_masks[i])
        with np.load(release / "joints" / f"{clip_id}.npz") as arrays:
            np.testing.assert_array_equal(arrays["joints"], clips.joints[i])
            np.testing.assert_array_equal(arrays["detected"], clips.detected[i])


def test_pictures_are_the_data_set_s_frames_and_come_only_when_asked_for(
    data, release, clips, tmp_path
):
    assert not (release / "frames").exists()
    export(["--data", data, "--output", str(tmp_path), "--frames"])
    for i, clip_id in enumerate(IDS):
        files = sorted((tmp_path / "frames" / clip_id).glob("*.png"))
        assert [file.name for file in files] == [f"{n:02}.png" for n in range(FRAMES)]
        shown = np.stack([np.asarray(Image.open(file)) for file in files])
        np.testing.assert_array_equal(shown, clips.frames[i])


def test_clips_csv_tells_how_each_clip_is_cut_from_which_video(release, clips):
    rows = list(csv.DictReader((release / "clips.csv").read_text().splitlines()))
    assert [row["clip_id"] for row in rows] == IDS
    for i, row in enumerate(rows):
        assert row["video"] == ["lift_box_1.mp4", "stir_pan_2.mp4", "slide_cup_1.mp4"][i]
        times = [float(time) for time in row["frame_times_s"].split()]
        assert len(times) == FRAMES
        assert float(row["start_s"]) == 0 and times == sorted(times)
        assert float(row["stop_s"]) >= times[-1] > 0
        assert row["narration"] == clips.narrations[i]
        assert (row["dataset"], row["split"]) == ("folder", "test")
        assert float(row["mask_area"]) == pytest.approx(clips.masks[i].mean(), abs=1e-6)
        seen = clips.detected[i].any(axis=1).mean()
        assert float(row["hand_rate"]) == pytest.approx(seen, abs=1e-6)
        assert (row["height"], row["width"]) == ("64", "64")
        pixels = clips.frames[i, 0].tobytes()
        assert row["first_frame_sha256"] == hashlib.sha256(pixels).hexdigest()


def test_benchmark_json_counts_clips_and_names_subsets(release):
    said = json.loads((release / "benchmark.json").read_text())
    assert (said["protocol"], said["clips"], said["frames_per_clip"]) == (PROTOCOL, 3, FRAMES)
    assert (said["height"], said["width"], said["pictures"]) == (64, 64, False)
    assert (said["split"], said["splits"]) == ("test", {"test": 3})
    assert said["sources"]["folder"]["clips"] == 3
    assert said["preprocessing"] == {"resolution": 64, "fit": "crop"}
    assert said["subsets"]["folder"] == said["clip_ids"] == IDS
    assert len(said["subsets"]["motion-intensive"]) == 1


def test_benchmark_json_tells_what_the_released_joints_are_found_with(release, hand_model):
    detector = json.loads((release / "benchmark.json").read_text())["detector"]
    assert detector["mediapipe"] == version("mediapipe")
    assert detector["model_sha256"] == hashlib.sha256(hand_model.read_bytes()).hexdigest()
    assert detector["confidence"] == CONFIDENCE
    assert "the renderer" not in str(detector)  # that found the data set's own joints


def test_a_release_does_not_tell_where_videos_and_data_lie(release, data):
    for name, file in contents(release).items():
        for private in (data, str(CLIPS)):
            assert private.encode() not in file, name


def test_the_readme_names_all_that_is_there(release):
    text = (release / "README.md").read_text()
    for entry in release.iterdir():
        assert entry.name == "README.md" or entry.name in text
    assert "jobs/evaluate.py --clips" in text
    assert all(line.count("|") in (0, 3, 5) for line in text.splitlines())


def test_without_settings_of_the_preprocessing_there_is_a_release_too(tmp_path):
    raw = rendered_dataset(tmp_path, ["slide_cup_1"])
    export(["--data", raw, "--output", str(tmp_path / "out")])
    said = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert said["preprocessing"] is None
    assert said["clip_ids"] == ["slide_cup_1"]


def test_keys_come_from_the_environment_too(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HANDI_EXPORT_SPLIT", "train")
    export(["--data", data, "--output", str(tmp_path)])
    assert json.loads((tmp_path / "benchmark.json").read_text())["clip_ids"] == ["open_lid_1"]


# Cut short


@pytest.fixture
def cut_short(monkeypatch):
    """Call an export that ends as its second clip is sought, as if killed."""

    def call(*arguments: str) -> None:
        seen = jobs.evaluation.export.seen_hands
        sought: list[bytes] = []

        def see(frames: np.ndarray, tracker: object) -> SeenHands:
            sought.append(frames.tobytes())
            if len(sought) == 2:
                raise KeyboardInterrupt
            return seen(frames, tracker)

        with monkeypatch.context() as patch:
            patch.setattr(jobs.evaluation.export, "seen_hands", see)
            with pytest.raises(KeyboardInterrupt):
                export([*arguments])

    return call


@pytest.fixture
def sought(monkeypatch) -> list[bytes]:
    """Frames of the clips that hands are sought on."""
    seen = jobs.evaluation.export.seen_hands
    found: list[bytes] = []

    def see(frames: np.ndarray, tracker: object) -> SeenHands:
        found.append(frames.tobytes())
        return seen(frames, tracker)

    monkeypatch.setattr(jobs.evaluation.export, "seen_hands", see)
    return found


def test_an_export_that_was_cut_short_goes_on(cut_short, sought, data, release, clips, tmp_path):
    cut_short("--data", data, "--output", str(tmp_path))
    assert not (tmp_path / "SHA256SUMS").exists()
    sought.clear()
    # Another deadline changes no joints.
    export(["--data", data, "--output", str(tmp_path), "--clip-deadline-s", "90"])
    assert sought == [frames.tobytes() for frames in clips.frames[1:]]
    assert contents(tmp_path) == contents(release)


def test_a_clip_whose_files_are_not_all_there_is_sought_anew(
    cut_short, sought, data, release, clips, tmp_path
):
    cut_short("--data", data, "--output", str(tmp_path))
    (tmp_path / "joints" / f"{IDS[0]}.npz").unlink()
    sought.clear()
    export(["--data", data, "--output", str(tmp_path)])
    assert sought == [frames.tobytes() for frames in clips.frames]
    assert contents(tmp_path) == contents(release)


def test_joints_of_another_detector_are_not_taken(
    cut_short, sought, data, release, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(jobs.evaluation.release, "CONFIDENCE", 0.9)
        cut_short("--data", data, "--output", str(tmp_path))
    sought.clear()
    export(["--data", data, "--output", str(tmp_path)])
    assert len(sought) == len(IDS)
    assert contents(tmp_path) == contents(release)


def test_joints_of_a_data_set_that_has_changed_are_not_taken(cut_short, sought, data, tmp_path):
    own = shutil.copytree(data, tmp_path / "data")
    out = str(tmp_path / "out")
    cut_short("--data", str(own), "--output", out)
    rows = read_rows(str(own), IDS)
    for row in rows:
        row["frames"] = row["frames"][::-1]
    shutil.rmtree(own / "clips")
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{own}/clips")
    sought.clear()
    export(["--data", str(own), "--output", out])
    assert len(sought) == len(IDS)


def test_the_detector_gets_the_deadline(data, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        jobs.evaluation.export,
        "hand_tracker",
        lambda model, clip_deadline_s: given.append(clip_deadline_s) or io.BytesIO(),
    )
    export(["--data", data, "--output", str(tmp_path), "--clip-deadline-s", "7.5"])
    export(["--data", data, "--output", str(tmp_path)])
    assert given == [7.5, PreprocessSettings.model_fields["clip_deadline_s"].default]


# Names


def test_videos_are_named_by_what_tells_them_apart():
    uris = [
        "file:///home/someone/day1/a.mp4",
        "file:///home/someone/day2/a.mp4",
        "s3://bucket/P01/P01_01.MP4",
        "https://host/videos/b.mp4?token=secret",
        "c.mp4",
    ]
    assert list(video_names(uris).values()) == [
        "day1/a.mp4",
        "day2/a.mp4",
        "P01_01.MP4",
        "b.mp4",
        "c.mp4",
    ]


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)))
def test_two_videos_never_share_a_name(paths):
    names = video_names(f"file:///{path}" for path in paths)
    assert len({*names.values()}) == len(paths)
    for uri, name in names.items():
        assert uri.endswith(f"/{name}")


@pytest.mark.parametrize("clip_id", ["../a", "a//b", "/a", "a/.", "", "a\nb", "a\\b"])
def test_a_clip_id_that_names_no_file_of_the_release_is_refused(clip_id):
    with pytest.raises(ValueError, match="cannot name a file"):
        clip_names(clip_id, FRAMES, False)


def test_pictures_of_long_clips_stay_in_order_by_name():
    names = clip_names("a", 101, True)[3:]
    assert names == sorted(names)


# Mistakes


def test_a_clip_that_the_detector_does_not_finish_is_one_line(capsys, data, tmp_path, monkeypatch):
    def hang(frames: np.ndarray, tracker: object) -> SeenHands:
        raise DetectorError("DetectorHung", "too slow; raise --clip-deadline-s")

    monkeypatch.setattr(jobs.evaluation.export, "seen_hands", hang)
    line = refusal(capsys, "--data", data, "--output", str(tmp_path))
    assert f"{IDS[0]} cannot be released" in line and "--clip-deadline-s" in line


def test_a_deadline_of_no_time_is_refused(capsys, data, tmp_path):
    line = refusal(capsys, "--data", data, "--output", str(tmp_path), "--clip-deadline-s", "0")
    assert "clip" in line and "deadline" in line


def test_no_such_data_is_one_line(capsys, tmp_path):
    line = refusal(capsys, "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out"))
    assert "none holds no clips" in line
    assert not (tmp_path / "out").exists()


def test_a_split_without_clips_is_one_line(capsys, data, tmp_path):
    line = refusal(capsys, "--data", data, "--output", str(tmp_path), "--split", "validation")
    assert "'validation'" in line and "test, train" in line


def test_an_output_that_cannot_be_written_is_one_line(capsys, data, tmp_path):
    (tmp_path / "file").write_text("")
    line = refusal(capsys, "--data", data, "--output", str(tmp_path / "file" / "below"))
    assert "output" in line and "cannot be written" in line


def test_pictures_of_an_earlier_export_are_not_published_unseen(capsys, data, tmp_path):
    export(["--data", data, "--output", str(tmp_path), "--frames"])
    line = refusal(capsys, "--data", data, "--output", str(tmp_path))
    assert "frames/kitchen/lift box/00.png" in line


def test_a_clip_that_cannot_be_read_is_one_line_and_leaves_no_checksums(capsys, data, tmp_path):
    (row,) = read_rows(data, ["slide_cup_1"])
    row["frames"] = [b"no picture"] * FRAMES
    write_table(pa.Table.from_pylist([row], WRITTEN), f"{tmp_path}/data/clips")
    out = tmp_path / "out"
    assert "slide_cup_1 cannot be released" in refusal(
        capsys, "--data", f"{tmp_path}/data", "--output", str(out)
    )
    assert not (out / "SHA256SUMS").exists()


# The standalone scorer


@st.composite
def hands(draw) -> tuple[np.ndarray, np.ndarray]:
    """Joints in and around the frame, and which hands are detected, of a clip of six frames."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rate = draw(st.sampled_from([0, 0.3, 0.8, 1]))
    return random.uniform(-0.2, 1.2, (6, 42, 2)).astype(np.float32), random.random((6, 2)) < rate


@given(hands(), hands())
def test_its_hand_figures_are_those_of_the_model_package(made, real):
    visible, real_visible = (np.repeat(each[1], 21, axis=1) for each in (made, real))
    expected = hand_error(made[0], visible, real[0], real_visible)
    found = standalone_score.hand_figures(*made, *real)
    want = {
        "HS-Err": expected.hs_err,
        "hand recall": expected.recall,
        "hand precision": expected.precision,
        "joint distance": expected.joint_error,
        "jerk": joint_jerk(made[0], visible),
        "jerk, real clips": joint_jerk(real[0], real_visible),
    }
    assert [*found] == [*want]
    np.testing.assert_allclose([*found.values()], [*want.values()], rtol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.1, 0.9]))
def test_its_mask_iou_is_that_of_the_model_package(seed, rate):
    area, mask = np.random.default_rng(seed).random((2, 5, 7)) < rate
    assert standalone_score.mask_iou(area, mask) == mask_iou(area, mask)


def test_a_clip_of_three_frames_has_no_jerk():
    assert math.isnan(standalone_score.jerk(np.zeros((3, 42, 2)), np.ones((3, 42), bool)))


def test_its_figures_have_the_names_and_digits_of_the_tables():
    titles = {column.title: column.digits for column in COLUMNS}
    own = {name: n for name, n in standalone_score.DIGITS.items() if name != "jerk, real clips"}
    assert own == {name: titles[name] for name in own}


def test_it_imports_the_standard_library_numpy_and_pillow_alone(release):
    code = (release / "score.py").read_bytes()
    assert code == Path(standalone_score.__file__).read_bytes()
    assert len(code.splitlines()) < 200
    imported = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported - sys.stdlib_module_names == {"numpy", "PIL"}


def test_run_alone_it_finds_no_fault_in_the_real_clips(release, tmp_path):
    before = contents(release)
    done = subprocess.run(
        [sys.executable, "-I", str(release / "score.py"), str(release / "joints")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    blocks = done.stdout.split("\n\n")
    assert blocks[0] == f"HANDI evaluation set, protocol {PROTOCOL}"
    assert blocks[1].startswith("folder: 3 of 3 clips\n")
    assert blocks[2].startswith("motion-intensive: 1 of 1 clips\n")
    for line in (
        r"HS-Err +0\.00000  \(3 clips\)",
        r"hand recall +1\.000  \(3 clips\)",
        r"hand precision +1\.000  \(3 clips\)",
        r"joint distance +0\.0000  \(3 clips\)",
        r"mask IoU +-  \(0 clips\)",
    ):
        assert re.search(line, blocks[1]), blocks[1]
    assert contents(release) == before


@pytest.fixture
def score(monkeypatch, capsys):
    """Call the scorer as a command; gives what it prints, or the one line of its refusal."""

    def call(folder: Path, benchmark: Path) -> str:
        line = ["score.py", str(folder), "--benchmark", str(benchmark)]
        monkeypatch.setattr(sys, "argv", line)
        try:
            standalone_score.main()
        except SystemExit as end:
            assert str(end.code).startswith("error: ") and "\n" not in str(end.code)
            return str(end.code)
        return capsys.readouterr().out

    return call


def submit(folder: Path, clip_id: str, **arrays: np.ndarray) -> Path:
    file = folder / f"{clip_id}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return folder


def test_means_are_over_the_clips_that_are_there(score, release, clips, tmp_path):
    expected = {"HS-Err": [], "joint distance": []}
    for i in (0, 2):
        joints = clips.joints[i] + np.float32(0.01 * (i + 1))
        visible = np.repeat(clips.detected[i], 21, axis=1)
        error = hand_error(joints, visible, clips.joints[i], visible)
        expected["HS-Err"].append(error.hs_err)
        expected["joint distance"].append(error.joint_error)
        area = {"area": clips.masks[i] & (np.arange(64) < 30)} if i else {}
        submit(tmp_path, IDS[i], joints=joints, detected=clips.detected[i], **area)
    printed = score(tmp_path, release)
    assert "folder: 2 of 3 clips" in printed
    for name, values in expected.items():
        digits = standalone_score.DIGITS[name]
        assert re.search(rf"{name} +{np.mean(values):.{digits}f}  \(2 clips\)", printed), printed
    iou = mask_iou(clips.masks[2] & (np.arange(64) < 30), clips.masks[2])
    assert re.search(rf"mask IoU +{iou:.3f}  \(1 clip\)", printed), printed


def test_a_damaged_benchmark_is_refused(score, copy):
    mask = copy / "masks" / f"{IDS[0]}.png"
    mask.write_bytes(mask.read_bytes()[:-1] + b"x")
    assert f"masks/{IDS[0]}.png is not as released" in score(copy / "joints", copy)
    mask.unlink()
    assert f"masks/{IDS[0]}.png is missing" in score(copy / "joints", copy)
    (copy / "SHA256SUMS").unlink()
    assert "no SHA256SUMS" in score(copy / "joints", copy)


JOINTS, DETECTED = np.zeros((FRAMES, 42, 2)), np.ones((FRAMES, 2), bool)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"joints": JOINTS}, "no detected"),
        ({"joints": JOINTS[1:], "detected": DETECTED}, r"joints must be \(5, 42, 2\)"),
        ({"joints": JOINTS, "detected": DETECTED[:, :1]}, r"detected must be \(5, 2\)"),
        ({"joints": JOINTS, "detected": DETECTED * 0.5}, "detected must be true or false"),
        ({"joints": JOINTS * np.nan, "detected": DETECTED}, "not finite"),
        ({"joints": JOINTS.astype(str), "detected": DETECTED}, "joints must be numbers"),
        (
            {"joints": JOINTS, "detected": DETECTED, "area": np.ones((8, 8), bool)},
            r"area must be \(64, 64\)",
        ),
        ({"joints": JOINTS.astype(object), "detected": DETECTED}, "cannot be read"),
    ],
)
def test_a_clip_that_cannot_be_scored_is_one_line_that_names_it(
    score, release, tmp_path, arrays, said
):
    line = score(submit(tmp_path, IDS[2], **arrays), release)
    assert f"{IDS[2]}.npz" in line
    assert re.search(said, line), line


def test_a_file_that_is_no_npz_is_one_line(score, release, tmp_path):
    (tmp_path / f"{IDS[2]}.npz").write_bytes(b"PK no archive")
    assert f"{IDS[2]}.npz cannot be read" in score(tmp_path, release)


def test_a_folder_with_none_of_the_clips_is_one_line(score, release, tmp_path):
    assert f"name each by its id: {IDS[0]}.npz" in score(tmp_path, release)
