import cv2
import numpy as np
import pyarrow as pa
import pytest

from pipelines.dataset import write_table
from pipelines.frames import encode_jpeg, encode_mask
from pipelines.records import WRITTEN
from pipelines.training_clips import DatasetError, read_training_clips


def row(clip_id: str, frames: int = 2, side: int = 32) -> dict:
    picture = cv2.resize(np.eye(4, dtype=np.uint8)[..., None].repeat(3, 2) * 200, (side, side))
    mask = np.zeros((side, side), bool)
    mask[: side // 2] = True
    values = dict.fromkeys(WRITTEN.names)
    return values | {
        "clip_id": clip_id,
        "narration": f"lift {clip_id}",
        "frames": [encode_jpeg(picture, 95)] * frames,
        "frame_masks": [encode_mask(mask), encode_mask(~mask)][:frames]
        + [encode_mask(mask)] * (frames - 2),
        "keypoints": np.full((frames, 42, 2), 0.25).tolist(),
        "hand_detected": [[True, False]] * frames,
        "height": side,
        "width": side,
    }


@pytest.fixture
def data(tmp_path) -> str:
    table = pa.Table.from_pylist([row("a"), row("b")], WRITTEN)
    write_table(table, f"{tmp_path}/clips")
    return str(tmp_path)


def test_clips_are_read_in_the_order_asked_for(data):
    clips = read_training_clips(data, ["b", "a"], 32)
    assert clips.clip_ids == ["b", "a"]
    assert clips.narrations == ["lift b", "lift a"]
    assert clips.frames.shape == (2, 2, 32, 32, 3)
    assert clips.frame_masks.shape == (2, 2, 32, 32)
    assert clips.masks.all()
    assert clips.joints.shape == (2, 2, 42, 2)
    assert clips.detected.tolist() == [[[True, False]] * 2] * 2


def test_no_ids_take_all(data):
    assert read_training_clips(data, [], 32).clip_ids == ["a", "b"]


def test_what_cannot_serve_is_one_line(data, tmp_path):
    with pytest.raises(DatasetError, match="holds no clips; give the output"):
        read_training_clips(str(tmp_path / "elsewhere"), [], 32)
    with pytest.raises(DatasetError, match=r"'c' is not in .*, which has a, b"):
        read_training_clips(data, ["a", "c"], 32)
    with pytest.raises(DatasetError, match="preprocess with --resolution 64"):
        read_training_clips(data, [], 64)
    write_table(pa.Table.from_pylist([row("long", frames=3)], WRITTEN), f"{tmp_path}/clips")
    with pytest.raises(DatasetError, match=r"differ in length: \[2, 3\]"):
        read_training_clips(data, [], 32)
