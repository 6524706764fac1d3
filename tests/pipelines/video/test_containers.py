"""Which frame is on display at a time, in every container and group of pictures."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.video import DecodedClip
from tests.pipelines.video.test_clips import clip, decode, decoded_times, numbers
from tests.videos import numbered_frame, numbered_video, remuxed, write_video

FPS, COUNT = 25, 300
MPEG = {"bf": "2", "sc_threshold": "1000000000", "qmin": "1", "qmax": "2"}
X264 = {"preset": "ultrafast", "x264-params": "scenecut=0:bframes=3:b-adapt=0:crf=18"}
OPEN = {"preset": "ultrafast", "x264-params": "scenecut=0:bframes=3:b-adapt=0:crf=18:open-gop=1"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0:bframes=3:crf=18"}
VP9 = {"deadline": "realtime", "cpu-used": "8"}

CONTAINERS = {
    "mp4": ("libx264", X264),
    "mov": ("libx264", OPEN),
    "mkv": ("libx264", X264),
    "webm": ("libvpx-vp9", VP9),
    "avi": ("mpeg4", MPEG),
    "h264.avi": ("libx264", X264),
    "flv": ("libx264", X264),
    "wmv": ("wmv2", {"qmin": "1", "qmax": "2"}),
    "ts": ("libx264", X264),
    "open.ts": ("libx264", OPEN),
    "hevc.ts": ("libx265", X265),
    "mpeg2.ts": ("mpeg2video", MPEG),
    "m2ts": ("libx264", OPEN),
    "mpg": ("mpeg2video", MPEG),
    "h264.mpg": ("libx264", X264),
    "vob": ("mpeg2video", MPEG),
    "h264": ("libx264", X264),
    "m2v": ("mpeg2video", MPEG),
}
"""Ending of the file -> codec and its options: B-frames in all but VP9 and WMV."""

CLIPS = {
    "start": (clip(0.0, 0.48, "start"), [0, 4, 8, 12]),
    "early": (clip(2.0, 2.6, "early"), [50, 55, 60, 65]),
    "overlapping": (clip(2.2, 4.0, "overlapping"), [55, 70, 85, 100]),
    "middle": (clip(7.0, 7.36, "middle"), [175, 178, 181, 184]),
    "late": (clip(11.2, 11.8, "late"), [280, 285, 290, 295]),
    "open end": (clip(11.0, None, "open end"), [275, 283, 291, 299]),
}


@pytest.mark.parametrize("gop", [12, 60, 250])
@pytest.mark.parametrize("ending", CONTAINERS)
def test_a_clip_has_the_frames_on_display_at_its_times(tmp_path, ending, gop):
    codec, options = CONTAINERS[ending]
    video = tmp_path / f"v.{ending}"
    numbered_video(video, count=COUNT, fps=FPS, codec=codec, gop=gop, options=options)
    together = decode(video, *(wanted for wanted, _ in CLIPS.values()))
    for name, (wanted, expected) in CLIPS.items():
        for found in (together, decode(video, wanted)):
            assert isinstance(found[name], DecodedClip), found[name]
            assert numbers(found[name]) == expected, name
            assert np.allclose(found[name].frame_times_s, np.array(expected) / FPS, atol=2e-3)


def test_a_jump_over_a_long_stretch_of_a_container_without_index_is_no_decoding(
    tmp_path, monkeypatch
):
    video = numbered_video(tmp_path / "v.ts", count=360, fps=10, gop=60, options=X264)
    decoded = decoded_times(monkeypatch)
    found = decode(video, clip(0.0, 0.3, "first"), clip(30.4, 31.0, "second"))
    assert numbers(found["first"]) == [0, 1, 2, 3]
    assert numbers(found["second"]) == [304, 306, 308, 310]
    assert not [shown_s for shown_s in decoded if 1.0 < shown_s < 24.0]


def test_a_late_keyframe_is_the_first_frame_that_a_clip_of_the_start_has(tmp_path):
    """A transport stream that was cut in the middle of a group of pictures."""
    whole = numbered_video(tmp_path / "whole.ts", count=120, fps=10, gop=40, options=X264)
    data, packet = whole.read_bytes(), 188
    video = tmp_path / "v.ts"
    video.write_bytes(data[len(data) // 6 // packet * packet :])
    found = decode(video, clip(0.0, None, "all"), clip(0.4, 0.8, "lost"), frames=2)
    assert numbers(found["all"]) == [40, 119]
    assert found["lost"].error_type == "BeforePicture"
    assert "the picture begins at" in found["lost"].message


class TestSoundBesideThePicture:
    """Seconds count from the earliest stream, as in players and `ffmpeg -ss`."""

    @pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
    def test_a_picture_that_begins_after_the_sound(self, tmp_path, ending):
        video = write_video(
            tmp_path / f"v.{ending}",
            map(numbered_frame, range(40)),
            times_s=[0.5 + i / 10 for i in range(40)],
            sound_s=(0.0, 6.0),
        )
        found = decode(
            video,
            clip(1.55, 2.15, "middle"),
            clip(0.0, None, "all"),
            clip(0.35, 0.95, "rounded"),
            clip(0.0, 0.4, "before"),
            clip(0.1, 1.0, "early"),
        )
        assert numbers(found["middle"]) == [10, 12, 14, 16]
        assert numbers(found["all"]) == [0, 13, 26, 39]
        assert found["all"].clip.start_s == pytest.approx(0.5, abs=0.03)
        assert numbers(found["rounded"]) == [0, 0, 2, 4]
        assert {found[bad].error_type for bad in ("before", "early")} == {"BeforePicture"}
        assert "but the picture begins at 0.5" in found["early"].message

    @pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
    def test_sound_that_begins_after_the_picture_and_ends_after_it(self, tmp_path, ending):
        video = numbered_video(tmp_path / f"v.{ending}", count=40, sound_s=(0.5, 9.0))
        found = decode(video, clip(1.0, 1.6, "middle"), clip(1.0, None, "open"))
        assert numbers(found["middle"]) == [10, 12, 14, 16]
        assert numbers(found["open"])[-1] == 39
        assert found["open"].clip.stop_s == pytest.approx(3.9, abs=0.01)


def test_a_picture_that_an_edit_list_begins_in_the_middle_of_a_group(tmp_path):
    """MP4 written without the first half second: frames before the edit are decoded, not shown."""
    video = write_video(
        tmp_path / "v.mp4",
        map(numbered_frame, range(60)),
        times_s=[i / 10 - 0.5 for i in range(60)],
        options=X264,
        gop=40,
    )
    found = decode(video, clip(0.0, 0.6, "first"), clip(1.0, 1.6, "second"))
    assert numbers(found["first"]) == [5, 7, 9, 11]
    assert numbers(found["second"]) == [15, 17, 19, 21]


@pytest.mark.skipif("HANDI_TEST_CLIPS" not in os.environ, reason="HANDI_TEST_CLIPS is not set")
@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_real_clips_have_the_same_frames_in_another_container(tmp_path, ending):
    for source in sorted(Path(os.environ["HANDI_TEST_CLIPS"]).glob("*.mp4")):
        video = remuxed(source, tmp_path / f"{source.stem}.{ending}")
        for wanted in (clip(0.4, 0.8), clip(0.0, None)):
            expected, found = (decode(path, wanted)["a"] for path in (source, video))
            assert isinstance(found, DecodedClip), found
            assert np.array_equal(found.frames, expected.frames), (source.stem, wanted)
            assert np.allclose(found.frame_times_s, expected.frame_times_s, atol=2e-3)
