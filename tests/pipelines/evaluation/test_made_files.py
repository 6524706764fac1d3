from unittest.mock import Mock

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from handi_model.baselines.method import Made
from handi_model.damage import DamagedFile
from pipelines.evaluation import generate
from pipelines.evaluation.clips import RealClip
from pipelines.evaluation.made_files import (
    Cost,
    made_url,
    read_cost,
    read_made,
    write_made,
    write_result,
)
from pipelines.evaluation.plan import Planned
from pipelines.evaluation.settings import EvaluateSettings, MethodSettings
from pipelines.running.refusal import OutputRefused
from pipelines.storage import exists, read_bytes, write_bytes

COST = Cost(
    seconds=1.5,
    peak_memory_gb=0.25,
    parameters=123456789,
    device="cpu",
    num_frames=49,
    height=480,
    width=720,
)


def made(frames: np.ndarray, area: bool = True) -> Made:
    inside = np.zeros(frames.shape[1:3], bool)
    inside[1:3, 2:] = True
    return Made(frames, inside, 0.125) if area else Made(frames, None, None)


def assert_same(found: Made, expected: Made) -> None:
    assert found.frames.dtype == np.uint8
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert (found.area is None) == (expected.area is None)
    if expected.area is not None:
        assert found.area.dtype == bool
        np.testing.assert_array_equal(found.area, expected.area)
    assert found.change_outside == expected.change_outside


clips = arrays(np.uint8, array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=4)).map(
    lambda levels: np.broadcast_to(levels[:, None, None, None], (len(levels), 16, 16, 3)).copy()
)


@settings(max_examples=10)
@given(clips, st.booleans())
def test_a_clip_comes_back_exactly_frames_that_are_alike_too(frames, area):
    frames[0, 3, 5] = (1, 2, 255)
    write_made("memory://made", "a clip", made(frames, area), COST, fps=8)
    assert_same(read_made(made_url("memory://made", "a clip")), made(frames, area))


def test_noise_comes_back_exactly(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3)).astype(np.uint8)
    write_made(str(tmp_path), "noise", made(frames), COST, fps=8)
    assert_same(read_made(str(tmp_path / "noise.npz")), made(frames))


def test_a_method_without_an_area_says_nothing_of_one(tmp_path):
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    write_made(str(tmp_path), "clip", Made(frames, np.ones((16, 16), bool), None), COST, fps=8)
    found = read_made(str(tmp_path / "clip.npz"))
    assert found.area is not None and found.area.all()
    assert found.change_outside is None


def test_the_cost_comes_back(tmp_path):
    write_made(str(tmp_path), "clip", made(np.zeros((2, 16, 16, 3), np.uint8)), COST, fps=8)
    assert read_cost(str(tmp_path / "clip.npz")) == COST


@pytest.mark.parametrize("generated", [None, (49, 480, 720)])
def test_the_cost_tells_what_the_networks_made(tmp_path, monkeypatch, generated):
    frames = np.zeros((2, 16, 32, 3), np.uint8)
    method = Mock(parameters=7, return_value=Made(frames, None, None, generated))
    monkeypatch.setattr(generate, "open_method", lambda *_, **__: method)
    real = RealClip("clip", "open lid", frames, np.ones((16, 32), bool))
    monkeypatch.setattr(generate, "real_clip", lambda _: real)
    monkeypatch.setattr(generate, "one_thread", lambda: None)  # of this process
    theirs = MethodSettings(name="theirs", kind="cogvideox", model="someone/model")
    asked = EvaluateSettings(data="data", output=str(tmp_path), device="cpu")
    worker = generate.Generator(Planned(theirs, "theirs", str(tmp_path), {}), asked, 6.25)
    assert worker({"clip_id": "clip"})["problem"] == ""
    found = read_cost(str(tmp_path / "clip.npz"))
    assert (found.num_frames, found.height, found.width) == (generated or (2, 16, 32))
    with av.open(str(tmp_path / "clip.mp4")) as video:
        assert video.streams.video[0].average_rate == 6.25


def test_a_clip_id_with_slashes_lies_in_folders_beside_its_video(tmp_path):
    write_made(str(tmp_path), "P01/P01_01/7", made(np.zeros((2, 16, 16, 3), np.uint8)), COST, 8)
    folder = tmp_path / "P01" / "P01_01"
    assert sorted(one.name for one in folder.iterdir()) == ["7.json", "7.mp4", "7.npz"]
    assert made_url(str(tmp_path), "P01/P01_01/7") == str(folder / "7.npz")


def test_the_video_is_an_mp4(tmp_path):
    write_made("memory://videos", "clip", made(np.zeros((2, 16, 16, 3), np.uint8)), COST, 8)
    assert read_bytes("memory://videos/clip.mp4")[4:8] == b"ftyp"


def test_a_clip_whose_video_fails_is_not_taken_as_finished(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pipelines.evaluation.made_files.encode_mp4", fails)
    with pytest.raises(OSError, match="no space"):
        write_made(str(tmp_path), "clip", made(np.zeros((2, 16, 16, 3), np.uint8)), COST, 8)
    assert not exists(made_url(str(tmp_path), "clip"))


def test_a_storage_that_refuses_is_told_from_a_clip_that_cannot_be_made(tmp_path):
    (tmp_path / "full").write_text("a file where the folder goes")
    with pytest.raises(OutputRefused):
        write_result(str(tmp_path / "full" / "a.npz"), b"")


@pytest.mark.parametrize("left", [0, 10, -20])
def test_a_file_that_was_cut_short_is_named(tmp_path, left):
    url = str(tmp_path / "a.npz")
    made = Made(np.zeros((2, 16, 16, 3), np.uint8), None, None)
    write_made(str(tmp_path), "a", made, COST, 8)
    write_bytes(url, read_bytes(url)[:left])
    with pytest.raises(DamagedFile, match=r"a\.npz is damaged"):
        read_made(url)
