"""What the report shows of the camera is what the rows hold."""

import base64

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pipelines.annotate import assemble
from pipelines.camera import measure_path
from pipelines.dataset import write_table
from pipelines.frames import decode_jpeg
from pipelines.prior import Prior
from pipelines.records import WRITTEN, Clip
from pipelines.report import camera_sample, write_report
from pipelines.settings import PreprocessSettings
from pipelines.storage import read_bytes
from pipelines.video import decode_clips
from tests.pipelines.test_annotate import one_hand
from tests.pipelines.test_camera import LENGTH, filmed, pan, texture
from tests.videos import write_video

SUMMARY = {
    **{"clips_in": 1, "written": 1, "filtered": 0, "failed": 0, "filtered_by": {}},
    **{"last_run": {"clips_per_second": 1.0}, "settings": {}, "detector": "test", "versions": {}},
}


def test_the_report_says_of_which_split_the_prior_is(tmp_path):
    mean = np.full((8, 8), 0.5, np.float32)
    for prior, said in (
        (Prior(mean, {"train": 4}, {"test": 2}), "masks of 4 clips of split train; left out: 2"),
        (Prior(None, {}, {"test": 2}), "No prior: no clip may be trained on, 2 clips of split te"),
    ):
        write_report(settings(tmp_path), SUMMARY, prior)
        shown = (tmp_path / "report.html").read_text()
        assert said in shown
        assert ("Heat map of the prior" in shown) is (prior.mean is not None)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    """A camera that pans over a still scene."""
    frames = [cv2.resize(frame, (320, 180)) for frame in filmed(texture(), pan(6.0))]
    return str(write_video(tmp_path_factory.mktemp("videos") / "pan.mp4", frames, fps=8))


def stored_row(video: str, settings: PreprocessSettings) -> dict:
    clip = Clip("pan", "folder", "", video, 0.0, None, "look around")
    (decoded,) = decode_clips(video, [clip], LENGTH, settings.working_side)
    hands = one_hand(0.5, 0.5, size=0.3)
    path = measure_path(decoded.frames, hands.joints, hands.detected)
    outcome = assemble(decoded, hands, path, settings, "test")
    assert outcome.folder == "clips"
    return outcome.row


def page(row: dict, settings: PreprocessSettings) -> str:
    write_table(pa.Table.from_pylist([row], WRITTEN), f"{settings.output}/clips")
    write_report(settings, SUMMARY, None)
    return read_bytes(f"{settings.output}/report.html").decode()


def settings(output, **changes) -> PreprocessSettings:
    keys = {"videos": "in", "output": str(output), "resolution": 64, "detection_side": 180}
    return PreprocessSettings(**keys, **changes)


def strip_of(picture: str) -> np.ndarray:
    return decode_jpeg(base64.b64decode(picture.split(",")[1])).astype(int)


def test_a_clip_that_is_stored_stabilized_is_shown_so_with_the_motion_in_its_row(video, tmp_path):
    wanted = settings(tmp_path, stabilize=True)
    row = stored_row(video, wanted)
    assert row["stabilized"]
    shown = page(row, wanted)
    assert f"stored stabilized: {row['residual_motion']:.2f} pixels per frame" in shown
    assert f"not stored: as filmed, {row['camera_motion']:.2f} pixels per frame" in shown
    sample = camera_sample(row, wanted)
    stored, other = strip_of(sample["stored"]), strip_of(sample["other"])
    # The last of the frames, before their mean; four pixels lie between pictures.
    last = slice(5 * 68, 5 * 68 + 64)
    assert np.abs(stored[:, last] - decode_jpeg(row["frames"][-1])).mean() < 8
    assert np.abs(other[:, last] - stored[:, last]).mean() > 10


def test_a_clip_that_is_stored_as_filmed_is_shown_so_whatever_could_be_done(video, tmp_path):
    wanted = settings(tmp_path)
    row = stored_row(video, wanted)
    shown = page(row, wanted)
    assert f"stored as filmed: {row['camera_motion']:.2f} pixels per frame" in shown
    assert "stored stabilized" not in shown and "cannot be stabilized" not in shown
    assert "not stored: as stabilizing would leave it" in shown
    sample = camera_sample(row, wanted)
    assert sample["left"] < row["camera_motion"]


def test_a_clip_whose_video_has_gone_is_shown_as_stored(video, tmp_path):
    wanted = settings(tmp_path)
    row = {**stored_row(video, wanted), "video_uri": str(tmp_path / "gone.mp4")}
    shown = page(row, wanted)
    assert f"stored as filmed: {row['camera_motion']:.2f} pixels per frame" in shown
    assert "cannot be read any more" in shown
