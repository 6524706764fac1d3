import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handi_model.baselines.method import Made
from pipelines.evaluation.elsewhere import find_elsewhere, read_elsewhere
from pipelines.evaluation.made_files import Cost, write_made
from pipelines.frames import encode_mask
from tests.videos import frame_number, numbered_frame, numbered_video, write_video

COST = Cost(1.0, 1.0, 1, "cpu", 16, 64, 64)


def numbers(made: Made) -> list[int]:
    return [frame_number(frame) for frame in made.frames]


def pictures(folder: Path, count: int, ending: str = "png", digits: int = 4) -> Path:
    """A folder of numbered frames, 96 x 64."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(numbered_frame(number)).save(folder / f"{number:0{digits}}.{ending}")
    return folder


def colourful(frames: int, height: int, width: int) -> np.ndarray:
    """(L, H, W, 3) frames of smooth colours that drift."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    frame = np.stack([x, y, (x + y) / 2], -1)
    return np.stack(
        [np.round((0.7 * frame + 0.02 * at) * 255).astype(np.uint8) for at in range(frames)]
    )


# What is there


def test_each_clip_is_found_by_its_id(tmp_path):
    numbered_video(tmp_path / "a.mp4", 2)
    pictures(tmp_path / "b", 2)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "another.mp4").write_bytes(b"")
    assert find_elsewhere(str(tmp_path), ["a", "b", "c"]) == {
        "a": f"file://{tmp_path}/a.mp4",
        "b": f"file://{tmp_path}/b",
    }


def test_ids_with_slashes_and_points_are_found_in_their_folders(tmp_path):
    numbered_video(tmp_path / "clip.mp4", 2)
    (tmp_path / "P01" / "P01.1").mkdir(parents=True)
    (tmp_path / "clip.mp4").rename(tmp_path / "P01" / "P01.1" / "7.5.mp4")
    pictures(tmp_path / "P01" / "P02" / "8", 2)
    found = find_elsewhere(str(tmp_path), ["P01/P01.1/7.5", "P01/P02/8", "7.5", "8"])
    assert found == {
        "P01/P01.1/7.5": f"file://{tmp_path}/P01/P01.1/7.5.mp4",
        "P01/P02/8": f"file://{tmp_path}/P01/P02/8",
    }


@pytest.mark.parametrize("folder", ["memory://found", "memory://found/"])
def test_clips_lie_in_any_storage(folder):
    write_made("memory://found", "P01/7", Made(colourful(3, 32, 32), None, None), COST, 8)
    found = find_elsewhere(folder, ["P01/7"])
    assert found["P01/7"].endswith("found/P01/7.npz")
    np.testing.assert_array_equal(
        read_elsewhere(found["P01/7"], 3, 32, "crop").frames, colourful(3, 32, 32)
    )


def test_the_exact_frames_win_over_their_video(tmp_path):
    write_made(str(tmp_path), "a", Made(colourful(3, 32, 32), None, None), COST, 8)
    assert find_elsewhere(str(tmp_path), ["a"]) == {"a": f"file://{tmp_path}/a.npz"}


def test_endings_in_capitals_are_endings(tmp_path):
    numbered_video(tmp_path / "a.mp4", 2).rename(tmp_path / "a.MP4")
    pictures(tmp_path / "b", 2, "PNG")
    found = find_elsewhere(str(tmp_path), ["a", "b"])
    assert numbers(read_elsewhere(found["a"], 2, 64, "crop")) == [0, 1]
    assert numbers(read_elsewhere(found["b"], 2, 64, "crop")) == [0, 1]


def test_a_mask_picture_is_no_clip(tmp_path):
    (tmp_path / "P01").mkdir()
    (tmp_path / "P01" / "7-mask.png").write_bytes(encode_mask(np.ones((8, 8), bool)))
    numbered_video(tmp_path / "P01" / "7.mp4", 2)
    assert set(find_elsewhere(str(tmp_path), ["P01/7", "P01/7-mask"])) == {"P01/7"}


@pytest.mark.parametrize("there", [[], ["other.mp4", "notes.txt"], ["deeper/clip_1.mp4"]])
def test_a_folder_of_other_names_is_one_line_that_shows_the_right_ones(tmp_path, there):
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"clip_1\.mp4") as refused:
        find_elsewhere(str(tmp_path), ["clip_1", "clip_2"])
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="none of the test clips"):
        find_elsewhere(str(tmp_path / "nowhere"), ["a"])


# Its frames


@pytest.mark.parametrize(
    ("name", "codec", "fps"),
    [
        ("clip.mp4", "libx264", 8),
        ("clip.mp4", "libx264", 30),
        ("clip.mov", "libx264", 25),
        ("clip.mkv", "libx264", 7),
        ("clip.webm", "libvpx-vp9", 10),
        ("clip.avi", "mpeg4", 8),
    ],
)
@pytest.mark.parametrize("frames", [2, 8])
def test_a_video_of_as_many_frames_gives_those_in_order(tmp_path, name, codec, fps, frames):
    video = numbered_video(tmp_path / name, frames, codec=codec, fps=fps)
    assert numbers(read_elsewhere(f"file://{video}", frames, 64, "crop")) == list(range(frames))


def test_so_does_a_gif(tmp_path):
    drawn = [Image.fromarray(numbered_frame(number)) for number in range(8)]
    drawn[0].save(tmp_path / "clip.gif", save_all=True, append_images=drawn[1:], duration=125)
    assert numbers(read_elsewhere(str(tmp_path / "clip.gif"), 8, 64, "crop")) == list(range(8))


def test_an_mp4_of_ours_gives_nearly_the_frames_of_its_npz(tmp_path):
    frames = colourful(16, 64, 64)
    write_made(str(tmp_path), "clip", Made(frames, None, None), COST, fps=8)
    exact = read_elsewhere(str(tmp_path / "clip.npz"), 16, 64, "crop")
    near = read_elsewhere(str(tmp_path / "clip.mp4"), 16, 64, "crop")
    np.testing.assert_array_equal(exact.frames, frames)
    differences = np.abs(near.frames.astype(int) - frames)
    assert differences.mean() < 2
    own = differences.mean((1, 2, 3))
    beside = np.abs(near.frames[1:].astype(int) - frames[:-1]).mean((1, 2, 3))
    assert (own[1:] < beside / 2).all()


@pytest.mark.parametrize("count", [9, 17, 49])
def test_a_longer_video_is_thinned_out_evenly(tmp_path, count):
    video = numbered_video(tmp_path / "clip.mp4", min(count, 36))
    found = np.array(numbers(read_elsewhere(str(video), 8, 64, "crop")))
    steps = np.diff(found)
    assert (found[0], found[-1]) == (0, min(count, 36) - 1)
    assert steps.min() > 0 and steps.max() - steps.min() <= 2


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_frames_of_a_shorter_video_are_repeated(tmp_path, count):
    video = numbered_video(tmp_path / "clip.mp4", count)
    found = numbers(read_elsewhere(str(video), 8, 64, "crop"))
    assert found == sorted(found)
    assert set(found) == set(range(count))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (4, [0, 1, 2, 3]),
        (1, [0, 0, 0, 0]),
        (2, [0, 0, 1, 1]),
        (10, [0, 3, 6, 9]),
        (13, [0, 4, 8, 12]),
    ],
)
def test_pictures_are_thinned_or_repeated_evenly(tmp_path, count, expected):
    assert (
        numbers(read_elsewhere(str(pictures(tmp_path / "clip", count)), 4, 64, "crop")) == expected
    )


def test_exact_frames_are_thinned_likewise(tmp_path):
    frames = np.stack([numbered_frame(number, 64, 64) for number in range(10)])
    write_made(str(tmp_path), "clip", Made(frames, None, None), COST, fps=8)
    found = read_elsewhere(str(tmp_path / "clip.npz"), 4, 64, "crop")
    np.testing.assert_array_equal(found.frames, frames[[0, 3, 6, 9]])


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg"])
def test_pictures_are_taken_in_the_order_of_their_names(tmp_path, ending):
    folder = pictures(tmp_path / "clip", 12, ending)
    (folder / "notes.txt").write_text("")
    assert numbers(read_elsewhere(f"file://{folder}", 12, 64, "crop")) == list(range(12))


def test_numbers_without_leading_zeros_are_numbers(tmp_path):
    folder = pictures(tmp_path / "clip", 12, digits=1)
    assert numbers(read_elsewhere(str(folder), 12, 64, "crop")) == list(range(12))


@pytest.mark.parametrize("kind", ["RGBA", "L", "P"])
def test_pictures_of_other_kinds_come_as_rgb(tmp_path, kind):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(numbered_frame(number)).convert(kind).save(folder / f"{number}.png")
    found = read_elsewhere(str(folder), 2, 64, "crop")
    assert found.frames.shape == (2, 64, 64, 3)
    assert numbers(found) == [0, 1]


# Its size


@pytest.mark.parametrize(("height", "width"), [(32, 80), (80, 32), (32, 33)])
def test_of_frames_that_are_not_square_the_middle_is_kept(tmp_path, height, width):
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{number}.png")
    top, left = (height - 32) // 2, (width - 32) // 2
    found = read_elsewhere(str(tmp_path / "clip"), 2, 32, "crop").frames
    candidates = [
        frames[:, top + y : top + y + 32, left + x : left + x + 32] for y in (0, 1) for x in (0, 1)
    ]
    assert any(np.array_equal(found, one) for one in candidates)


def test_beside_padded_clips_the_whole_frame_is_padded(tmp_path):
    np.savez(tmp_path / "clip.npz", frames=np.full((2, 16, 32, 3), 200, np.uint8))
    found = read_elsewhere(str(tmp_path / "clip.npz"), 2, 32, "pad").frames
    assert (found[:, 8:24] == 200).all() and not found[:, :8].any() and not found[:, 24:].any()


def test_frames_of_another_size_are_resized(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3)).astype(np.uint8)
    np.savez(tmp_path / "clip.npz", frames=frames)
    found = read_elsewhere(str(tmp_path / "clip.npz"), 2, 16, "crop").frames
    middle = frames[:, :, 16:48].reshape(2, 16, 2, 16, 2, 3).mean((2, 4))
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, middle, atol=0.51)


def test_a_video_that_is_not_square_is_cut_in_the_middle(tmp_path):
    video = numbered_video(tmp_path / "clip.mp4", 2)
    found = read_elsewhere(str(video), 2, 64, "crop").frames
    assert found.shape == (2, 64, 64, 3)
    # The dark corner is 24 pixels wide, 16 of which are cut off.
    assert found[1, 4, :4].max() < 20 < found[1, 4, 12:].min()


# Its motion area


def area() -> np.ndarray:
    """(64, 96): what a clip of such frames moves in."""
    inside = np.zeros((64, 96), bool)
    inside[10:30, 20:60] = True
    return inside


@pytest.mark.parametrize("kind", ["video", "pictures", "nested"])
def test_a_mask_beside_the_clip_is_its_motion_area(tmp_path, kind):
    stem = tmp_path / ("P01/clip" if kind == "nested" else "clip")
    stem.parent.mkdir(exist_ok=True)
    if kind == "pictures":
        pictures(stem, 2)
        clip = stem
    else:
        clip = numbered_video(stem.with_suffix(".mp4"), 2)
    without = read_elsewhere(str(clip), 2, 64, "crop")
    assert without.area is None
    Path(f"{stem}-mask.png").write_bytes(encode_mask(area()))
    made = read_elsewhere(str(clip), 2, 64, "crop")
    assert made.area is not None and made.area.dtype == bool
    np.testing.assert_array_equal(made.area, area()[:, 16:80])
    np.testing.assert_array_equal(made.frames, without.frames)
    assert made.change_outside is None


def test_the_area_of_exact_frames_is_cut_as_they_are(tmp_path):
    frames = np.zeros((2, 64, 96, 3), np.uint8)
    write_made(str(tmp_path), "clip", Made(frames, area(), None), COST, fps=8)
    made = read_elsewhere(str(tmp_path / "clip.npz"), 2, 64, "crop")
    np.testing.assert_array_equal(made.area, area()[:, 16:80])


def test_an_area_of_another_size_is_resized(tmp_path):
    (tmp_path / "clip-mask.png").write_bytes(encode_mask(area()))
    made = read_elsewhere(str(numbered_video(tmp_path / "clip.mp4", 2)), 2, 32, "crop")
    np.testing.assert_array_equal(made.area, area()[::2, 16:80:2])


# What cannot be read


def broken(folder: Path, what: str) -> Path:
    """A clip that is damaged."""
    if what == "a video":
        (folder / "clip.mp4").write_bytes(b"no video")
        return folder / "clip.mp4"
    if what == "no video but sound":
        with wave.open(str(folder / "clip.mp4"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(16000))
        return folder / "clip.mp4"
    if what == "a mask":
        (folder / "clip-mask.png").write_bytes(b"no picture")
        return numbered_video(folder / "clip.mp4", 2)
    if what == "a picture":
        (pictures(folder / "clip", 3) / "0001.png").write_bytes(b"no picture")
        return folder / "clip"
    npz = folder / "clip.npz"
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    if what == "an npz":
        npz.write_bytes(b"no archive")
    if what == "an npz that is cut off":
        np.savez(npz, frames=frames)
        npz.write_bytes(npz.read_bytes()[:-100])
    if what == "an npz without frames":
        np.savez(npz, video=frames)
    if what == "an npz of no frames":
        np.savez(npz, frames=frames[:0])
    if what == "an npz of objects":
        np.savez(npz, frames=np.array([None]))
    if what == "an npz of floats":
        np.savez(npz, frames=np.full((4, 32, 32, 3), 0.5, np.float32))
    if what == "an npz of one frame":
        np.savez(npz, frames=frames[0])
    return npz


@pytest.mark.parametrize(
    "what",
    [
        "a video",
        "no video but sound",
        "a mask",
        "a picture",
        "an npz",
        "an npz that is cut off",
        "an npz without frames",
        "an npz of no frames",
        "an npz of objects",
        "an npz of floats",
        "an npz of one frame",
    ],
)
def test_a_clip_that_cannot_be_read_is_one_line_that_names_it(tmp_path, what):
    clip = broken(tmp_path, what)
    with pytest.raises(ValueError) as refused:
        read_elsewhere(str(clip), 4, 64, "crop")
    assert str(tmp_path / "clip") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mp4", "libx264"),
        ("clip.webm", "libvpx-vp9"),
        ("clip.mkv", "libx264"),
        ("clip.avi", "mpeg4"),
    ],
)
def test_a_video_that_is_cut_off_is_not_taken_for_a_shorter_one(tmp_path, name, codec):
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 96, 3)).astype(np.uint8)
    video = write_video(tmp_path / name, noise, codec=codec, faststart=True)
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=name) as refused:
        read_elsewhere(str(video), 4, 64, "crop")
    assert "\n" not in str(refused.value)


def test_a_folder_without_pictures_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no picture") as refused:
        read_elsewhere(str(tmp_path), 4, 64, "crop")
    assert str(tmp_path) in str(refused.value)


def test_a_video_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no such video$") as refused:
        read_elsewhere(str(tmp_path / "clip.mp4"), 4, 64, "crop")
    assert str(tmp_path / "clip.mp4") in str(refused.value)


@pytest.mark.parametrize("area", [np.full((16, 16), 255, np.uint8), np.ones((1, 16, 16), bool)])
def test_an_area_that_is_no_mask_is_refused(tmp_path, area):
    file = tmp_path / "clip.npz"
    np.savez(file, frames=np.zeros((2, 16, 16, 3), np.uint8), area=area)
    with pytest.raises(ValueError, match=r"clip.npz: its area is .*give bool of shape"):
        read_elsewhere(str(file), 2, 16, "crop")
