"""Cuts and blank stretches, in splices of the rendered clips, and of filmed ones if there are."""

import os
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.records import Clip
from pipelines.rendered import CLIPS
from pipelines.settings import PreprocessSettings
from pipelines.shots import blank_frames, greatest_cut, shot_filter
from pipelines.video import DecodedClip, decode_clips

LENGTH = 16
LIMIT = PreprocessSettings(videos="in", output="out").max_cut
NAMES = sorted(path.stem for path in CLIPS.glob("*.mp4"))


def stretch(video: Path, start_s: float, stop_s: float | None) -> np.ndarray:
    clip = Clip(video.stem, "folder", "", str(video), start_s, stop_s, "")
    (decoded,) = decode_clips(str(video), [clip], LENGTH, 180)
    assert isinstance(decoded, DecodedClip)
    return decoded.frames


@pytest.fixture(scope="module")
def shots() -> dict[str, np.ndarray]:
    """The rendered clips, (L, h, w, 3) each."""
    return {name: stretch(CLIPS / f"{name}.mp4", 0.0, None) for name in NAMES}


def splice(before: np.ndarray, after: np.ndarray, at: int) -> np.ndarray:
    size = before.shape[2:0:-1]
    return np.concatenate([before[:at], [cv2.resize(frame, size) for frame in after[at:]]])


def reason(frames: np.ndarray, **changes) -> tuple[str, float] | None:
    clip = Clip("c", "folder", "", "v.mp4", 0.0, 2.0, "")
    settings = PreprocessSettings(videos="in", output="out", **changes)
    outcome = shot_filter(DecodedClip(clip, frames, np.linspace(0, 2, LENGTH), 30.0), settings)
    if outcome is None:
        return None
    assert outcome.folder == "filtered"
    return outcome.row["reason"], outcome.row["value"]


def test_a_hard_cut_is_filtered_by_name_wherever_it_lies(shots):
    for (before, after), at in zip(pairwise(NAMES), [1, 8, 15, 1, 8, 15, 4], strict=True):
        name, value = reason(splice(shots[before], shots[after], at))
        assert (name, LIMIT < value <= 1) == ("max_cut", True), (before, after)


def test_one_take_is_not_cut_nor_blank(shots):
    assert {name: reason(frames) for name, frames in shots.items()} == dict.fromkeys(NAMES)


def test_a_lamp_that_goes_on_or_flickers_is_no_cut(shots):
    for frames in list(shots.values())[::3]:
        lit = np.clip(frames * np.array([1.7, 1.6, 1.3]) + 10, 0, 255).astype(np.uint8)
        assert greatest_cut(np.concatenate([frames[:8], lit[8:]]), LIMIT) is None
        flickering = np.where((np.arange(LENGTH) % 3 == 0)[:, None, None, None], lit, frames)
        assert greatest_cut(flickering, LIMIT) is None


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_a_fast_blurred_turn_of_the_head_is_no_cut(shots, share):
    """The view moves by this share of its width in each of three steps, and blurs on the way."""
    name = "slide_cup_1"
    height, width = (side // 2 for side in shots[name].shape[1:3])
    speed = share * width
    offsets = np.clip(np.arange(LENGTH) - 6, 0, 3) * speed
    turned = []
    for k, (frame, x) in enumerate(zip(shots[name], offsets, strict=True)):
        blur = speed / 4 if 6 < k < 9 else 0.0
        exposed = [
            cv2.getRectSubPix(frame, (width, height), (x + dx + width / 2, height))
            for dx in np.linspace(-blur / 2, blur / 2, 9)
        ]
        turned.append(np.mean(exposed, axis=0).astype(np.uint8))
    assert greatest_cut(np.stack(turned), LIMIT) is None


def test_a_hand_that_hides_the_scene_for_a_moment_is_no_cut(shots):
    frames = shots["stir_pan_1"].copy()
    skin = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, (180, 320)), (0, 0), 12) * 20
    frames[7:9] = np.clip([[[190, 140, 115]]] + skin[..., None], 0, 255)
    assert not blank_frames(frames).any()
    assert greatest_cut(frames, LIMIT) is None


@pytest.mark.parametrize("nothing", ["black", "plain", "noise"])
def test_a_stretch_that_shows_nothing_is_filtered_by_name_with_its_share(shots, nothing):
    frames = shots["open_lid_1"].copy()
    frames[4:8] = {"black": 0, "plain": (0, 135, 0), "noise": 0}[nothing]
    if nothing == "noise":
        noise = np.random.default_rng(0).normal(12, 6, frames[4:8].shape)
        frames[4:8] = np.clip(noise, 0, 255)
    assert reason(frames) == ("max_blank", 0.25)
    assert reason(frames, max_blank=0.25) is None


def test_a_fade_to_black_is_filtered_as_blank(shots):
    gain = np.linspace(1, 0, LENGTH)[:, None, None, None]
    assert reason((shots["lift_box_2"] * gain).astype(np.uint8))[0] == "max_blank"


def test_a_dark_kitchen_is_not_blank(shots):
    for frames in shots.values():
        assert reason((frames * 0.1).astype(np.uint8)) is None


def test_a_cut_behind_a_black_stretch_is_seen(shots):
    frames = splice(shots["lift_box_1"], shots["stir_pan_2"], 8)
    frames[7:9] = 0
    assert reason(frames)[0] == "max_blank"
    assert reason(frames, max_blank=None)[0] == "max_cut"


def test_null_switches_either_filter_off(shots):
    frames = splice(shots["lift_box_1"], shots["stir_pan_2"], 8)
    frames[0] = 0
    assert reason(frames, max_blank=None, max_cut=None) is None


@pytest.mark.skipif("HANDI_TEST_CLIPS" not in os.environ, reason="HANDI_TEST_CLIPS is not set")
def test_filmed_clips_pass_and_splices_of_two_of_them_are_cut():
    videos = sorted(Path(os.environ["HANDI_TEST_CLIPS"]).glob("*.mp4"))
    takes = {video: stretch(video, 0.0, 1.0) for video in videos}
    assert {video: reason(frames) for video, frames in takes.items()} == dict.fromkeys(videos)
    for before, after in pairwise([*videos, videos[0]]):
        assert reason(splice(takes[before], takes[after], 6))[0] == "max_cut", (before, after)
