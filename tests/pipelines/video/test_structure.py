import numpy as np
import pytest

from pipelines.video.structure import is_container, is_cut_off
from tests.videos import numbered_video, write_video

CODECS = {"webm": "libvpx-vp9", "avi": "mpeg4", "mpg": "mpeg2video", "wmv": "wmv2"}
ENDINGS = ["mp4", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mpg", "flv", "wmv"]
TELLING = ["mp4", "mov", "mkv", "webm", "avi"]


def video(path):
    codec = CODECS.get(path.suffix[1:], "libx264")
    return numbered_video(path, count=50, fps=25, codec=codec)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_whole_file_is_a_container_and_not_cut_off(tmp_path, ending):
    whole = video(tmp_path / f"v.{ending}")
    assert is_container(whole.read_bytes()[:512])
    assert not is_cut_off(str(whole))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("ending", TELLING)
def test_a_file_of_which_the_end_is_missing_is_cut_off(tmp_path, ending, share):
    part = video(tmp_path / f"v.{ending}")
    data = part.read_bytes()
    part.write_bytes(data[: int(share * len(data))])
    assert is_cut_off(str(part))


def test_the_frames_of_a_file_that_begins_with_its_index_may_be_cut_off(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8)
    part = write_video(tmp_path / "v.mp4", noise, faststart=True)
    assert not is_cut_off(str(part))
    part.write_bytes(part.read_bytes()[:-100])
    assert is_cut_off(str(part))


def test_words_and_noise_are_no_container():
    noise = np.random.default_rng(0).integers(0, 256, 512, np.uint8).tobytes()
    assert not is_container(b"these are words and no video\n" * 20)
    assert not is_container(noise)
    assert not is_container(b"")
