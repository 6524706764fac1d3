from dataclasses import replace

import av
import numpy as np
import pytest

from pipelines.records import Clip
from pipelines.video import DecodedClip, decode_clips
from pipelines.video.frames import FrameReader
from tests.videos import frame_number, numbered_frame, numbered_video, write_video


def clip(start_s: float, stop_s: float | None, clip_id: str = "a", uri: str = "") -> Clip:
    return Clip(clip_id, "folder", "", uri, start_s, stop_s, "stir pan")


def decode(path, *clips: Clip, frames: int = 4, short_side: int = 64) -> dict:
    """Clip id -> what came of it."""
    wanted = [replace(clip, video_uri=str(path)) for clip in clips]
    results = list(decode_clips(str(path), wanted, frames, short_side))
    found = {}
    for result in results:
        done = result.clip if isinstance(result, DecodedClip) else result[0]
        found[done.clip_id] = result if isinstance(result, DecodedClip) else result[1]
    assert len(found) == len(results) == len(clips), "every clip comes out exactly once"
    return found


def numbers(decoded: DecodedClip) -> list[int]:
    return [frame_number(frame) for frame in decoded.frames]


def test_frames_are_sampled_evenly_over_the_action(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", count=30, fps=10)
    result = decode(video, clip(0.5, 2.0))["a"]
    assert numbers(result) == [5, 10, 15, 20]
    assert np.allclose(result.frame_times_s, [0.5, 1.0, 1.5, 2.0])
    assert result.fps_source == pytest.approx(10)


def test_one_pass_serves_overlapping_nested_and_distant_clips(tmp_path, monkeypatch):
    opened = []
    really_open = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or really_open(*a, **k))
    video = numbered_video(tmp_path / "v.mp4", count=36, fps=10)
    opened.clear()
    found = decode(
        video,
        clip(3.0, 3.3, "late"),
        clip(0.0, 0.9, "first"),
        clip(0.3, 0.6, "nested"),
        clip(0.5, 1.4, "overlapping"),
    )
    assert len(opened) == 1
    assert numbers(found["first"]) == [0, 3, 6, 9]
    assert numbers(found["nested"]) == [3, 4, 5, 6]
    assert numbers(found["overlapping"]) == [5, 8, 11, 14]
    assert numbers(found["late"]) == [30, 31, 32, 33]


def test_only_the_needed_stretch_is_decoded(tmp_path, monkeypatch):
    video = numbered_video(tmp_path / "v.mp4", count=36, fps=2, gop=4)
    decoded = decoded_times(monkeypatch)
    result = decode(video, clip(14.0, 15.5))["a"]
    assert numbers(result) == [28, 29, 30, 31]
    assert min(decoded) > 11.0


def decoded_times(monkeypatch) -> list[float]:
    """Display times of the frames that are decoded from now on."""
    decoded: list[float] = []
    frames = FrameReader.frames

    def noting(reader, start_s):
        for frame, shown_s in frames(reader, start_s):
            decoded.append(shown_s)
            yield frame, shown_s

    monkeypatch.setattr(FrameReader, "frames", noting)
    return decoded


def test_variable_frame_rate_a_sample_is_the_frame_on_display_at_its_time(tmp_path):
    times = [0.0, 0.1, 0.2, 1.0, 1.9, 2.0]
    video = write_video(
        tmp_path / "v.mkv", [numbered_frame(i) for i in range(6)], times_s=times, fps=10
    )
    result = decode(video, clip(0.0, 1.5))["a"]
    assert numbers(result) == [0, 2, 3, 3]
    assert np.allclose(result.frame_times_s, [0.0, 0.2, 1.0, 1.0])


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1"])
def test_the_four_codecs_of_the_field_decode(tmp_path, codec):
    suffix = "webm" if "vp9" in codec else "mp4"
    video = numbered_video(tmp_path / f"v.{suffix}", count=20, codec=codec)
    assert numbers(decode(video, clip(0.3, 1.2))["a"]) == [3, 6, 9, 12]


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_display_rotation_is_applied(tmp_path, rotation, corner):
    video = numbered_video(tmp_path / "v.mp4", count=10, rotation=rotation)
    frame = decode(video, clip(0.0, 0.5))["a"].frames[0]
    assert frame.shape[:2] == ((64, 96) if rotation == 180 else (96, 64))
    # The dark corner is the upper left one of the frame as it was encoded.
    assert frame[corner].mean() < 40
    assert frame.mean() > 20


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, 64, 64), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert decode(tmp_path / "v.mp4", clip(0, 0.5))["a"].frames.shape[1:3] == (64, 128)


def test_frames_shrink_to_the_short_side_and_are_never_enlarged(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", count=10)
    assert decode(video, clip(0, 0.5), short_side=32)["a"].frames.shape == (4, 32, 48, 3)
    assert decode(video, clip(0, 0.5), short_side=500)["a"].frames.shape == (4, 64, 96, 3)


def test_an_open_end_is_the_last_frame(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", count=10, fps=10)
    result = decode(video, clip(0.0, None))["a"]
    assert numbers(result) == [0, 3, 6, 9]
    assert result.clip.stop_s == pytest.approx(0.9)


def test_an_annotation_may_round_a_little_past_the_end(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", count=10, fps=10)
    assert numbers(decode(video, clip(0.4, 1.1))["a"])[-1] == 9


def test_a_stretch_that_is_a_rule_around_a_timestamp_ends_with_the_video(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", count=30, fps=10)
    inside = replace(clip(2.0, 9.0, "inside"), timestamp_s=2.9)
    outside = replace(clip(2.0, 9.0, "outside"), timestamp_s=5.5)
    found = decode(video, inside, outside)
    assert numbers(found["inside"]) == [20, 23, 26, 29]
    assert found["inside"].clip.stop_s == pytest.approx(2.9)
    assert found["outside"].error_type == "BeyondEnd"
    assert "timestamp is 5.50 s but the video ends at 3.00 s" in found["outside"].message


class TestWhatAPersonReads:
    """Each bad clip has its own error type and a message; the good ones beside it decode."""

    @pytest.fixture
    def video(self, tmp_path):
        return numbered_video(tmp_path / "v.mp4", count=30, fps=10)

    @pytest.mark.parametrize(
        ("bad", "error_type", "said"),
        [
            (clip(20.0, 22.0, "bad"), "BeyondEnd", "the video ends at 3.0"),
            (clip(2.5, 9.0, "bad"), "BeyondEnd", "from 2.50 to 9.00 s"),
            (clip(2.0, 1.0, "bad"), "StopBeforeStart", "not after its start"),
        ],
    )
    def test_a_stretch_that_cannot_be(self, video, bad, error_type, said):
        found = decode(video, bad, clip(0.5, 2.0, "good"))
        assert found["bad"].error_type == error_type
        assert found["bad"].message.startswith(f"{video}: ")
        assert said in found["bad"].message
        assert numbers(found["good"]) == [5, 10, 15, 20]

    def test_a_stretch_in_which_no_frame_begins(self, tmp_path):
        times = [0.0, 0.1, 5.0, 5.1, 5.2, 5.3]
        video = write_video(tmp_path / "v.mkv", map(numbered_frame, range(6)), times_s=times)
        found = decode(video, clip(2.0, 3.0, "bad"), clip(5.0, 5.3, "good"))
        assert found["bad"].error_type == "NoFrames"
        assert f"{video}: no frame lies between 2.00 and 3.00 s" in found["bad"].message
        assert numbers(found["good"]) == [2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("count", "fps", "still"),
        [(1, 10, clip(0.0, None, "still")), (8, 1, clip(3.0, 3.5, "still"))],
        ids=["the video has one frame", "the stretch has one frame"],
    )
    def test_a_still_picture_is_no_clip(self, tmp_path, count, fps, still):
        video = numbered_video(tmp_path / "v.mp4", count=count, fps=fps)
        problem = decode(video, still)["still"]
        assert problem.error_type == "OneFrame"
        assert problem.message.startswith(f"{video}: a single frame is on display between")
        assert "widen the stretch" in problem.message

    def test_two_frames_are_a_clip_however_far_apart(self, tmp_path):
        video = numbered_video(tmp_path / "v.mp4", count=8, fps=1)
        assert numbers(decode(video, clip(2.6, 3.2))["a"]) == [2, 2, 3, 3]

    @pytest.mark.parametrize(
        ("contents", "error_type"),
        [
            (None, "MissingVideo"),
            (b"", "EmptyFile"),
            (b"these are words and no video\n" * 400, "NotAVideo"),
            (bytes(np.random.default_rng(0).integers(0, 256, 50_000, np.uint8)), "NotAVideo"),
        ],
    )
    def test_a_file_that_is_no_video(self, tmp_path, contents, error_type):
        path = tmp_path / "v.mp4"
        if contents is not None:
            path.write_bytes(contents)
        found = decode(path, clip(0, 1, "one"), clip(1, 2, "two"))
        assert {problem.error_type for problem in found.values()} == {error_type}
        assert str(path) in found["one"].message

    def test_a_file_cut_off_before_its_index(self, video):
        video.write_bytes(video.read_bytes()[:-1500])
        problem = decode(video, clip(0.5, 2.0))["a"]
        assert problem.error_type == "TruncatedFile"
        assert str(video) in problem.message
        assert "download it again" in problem.message

    def test_a_file_cut_off_in_its_frames_still_gives_the_clips_before_the_cut(self, tmp_path):
        rng = np.random.default_rng(0)
        noise = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(60)]
        video = write_video(tmp_path / "v.mp4", noise, fps=10, faststart=True)
        video.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.5)])
        found = decode(
            video, clip(0.5, 1.5, "before"), clip(4.5, 5.5, "behind"), clip(0.0, None, "whole")
        )
        assert isinstance(found["before"], DecodedClip)
        for lost in (found["behind"], found["whole"]):
            assert lost.error_type == "TruncatedFile"
            assert "promises 6.00 s" in lost.message
            assert "download it again" in lost.message

    def test_a_codec_that_nobody_knows(self, video):
        video.write_bytes(video.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
        problem = decode(video, clip(0.5, 2.0))["a"]
        assert problem.error_type == "UnknownCodec"
        assert "codec" in problem.message

    def test_a_file_with_sound_alone(self, tmp_path):
        with av.open(str(tmp_path / "v.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
        assert decode(tmp_path / "v.mp4", clip(0, 1))["a"].error_type == "NoVideoStream"

    def test_damage_in_one_stretch_spares_the_next(self, tmp_path):
        rng = np.random.default_rng(0)
        noise = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(60)]
        video = write_video(tmp_path / "v.mp4", noise, fps=10, gop=6)
        data = bytearray(video.read_bytes())
        data[len(data) // 5 : len(data) // 5 + 8000] = bytes(8000)
        video.write_bytes(data)
        found = decode(video, clip(0.5, 2.5, "damaged"), clip(4.0, 5.5, "sound"))
        assert isinstance(found["sound"], DecodedClip)

    def test_a_file_that_is_all_there_is_not_to_be_downloaded_again(self, video):
        data = video.read_bytes()
        index = data.index(b"stsd")
        video.write_bytes(data[:index] + bytes(60) + data[index + 60 :])
        problem = decode(video, clip(0.5, 2.0))["a"]
        assert str(video) in problem.message
        assert "download" not in problem.message

    @pytest.mark.parametrize("ending", ["ts", "flv", "mpg"])
    def test_a_clip_past_the_end_where_no_header_tells_the_length(self, tmp_path, ending):
        codec = "mpeg2video" if ending == "mpg" else "libx264"
        video = numbered_video(tmp_path / f"v.{ending}", count=75, fps=25, codec=codec)
        found = decode(video, clip(20.0, 22.0, "bad"), clip(1.0, 1.6, "good"))
        assert found["bad"].error_type == "BeyondEnd"
        assert f"{video}: the clip runs from 20.00 to 22.00 s" in found["bad"].message
        assert "the video ends at 3.00 s" in found["bad"].message
        assert numbers(found["good"]) == [25, 30, 35, 40]


def test_a_video_is_read_through_any_fsspec_url(tmp_path):
    import fsspec

    video = numbered_video(tmp_path / "v.mp4", count=30, fps=10)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/videos/v.mp4", video.read_bytes())
    wanted = replace(clip(0.5, 2.0), video_uri="memory:///videos/v.mp4")
    assert numbers(decode("memory:///videos/v.mp4", wanted)["a"]) == [5, 10, 15, 20]


def test_a_damaged_start_is_a_problem_and_no_later_start(tmp_path):
    video = numbered_video(tmp_path / "v.avi", count=60, fps=10, gop=20, codec="mpeg4")
    data = video.read_bytes()
    first = data.index(b"00dc", data.index(b"movi")) + 8
    video.write_bytes(data[:first] + bytes(100) + data[first + 100 :])
    assert decode(video, clip(0.0, None))["a"].error_type == "DamagedFile"
