"""Colours come out as they were encoded, whatever the matrix, the range and the bit depth."""

import av
import numpy as np
import pytest

from pipelines.video import DecodedClip
from tests.pipelines.video.test_clips import clip, decode

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Of red and blue in luma: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance)."""
TAGS = {"bt601": 6, "bt709": 1, "bt2020": 9, "untagged": 2, "YCgCo": 8}
"""Matrix coefficients of ITU-T H.273."""
LIMITED, FULL, UNSPECIFIED = 1, 2, 0
PQ, HLG = 16, 18

PATCHES = np.array(
    [[r, g, b] for r in (0, 96, 192, 255) for g in (0, 96, 192, 255) for b in (0, 96, 192, 255)]
)


def yuv(rgb: np.ndarray, matrix: str, full: bool, bits: int) -> list[np.ndarray]:
    """Y, Cb and Cr of RGB in 0..255, by the formulas and quantisation of the recommendations."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    if full:
        top = 2**bits - 1
        planes = [top * luma, top * cb + 2 ** (bits - 1), top * cr + 2 ** (bits - 1)]
    else:
        step = 2 ** (bits - 8)
        planes = [(219 * luma + 16) * step, (224 * cb + 128) * step, (224 * cr + 128) * step]
    return [np.clip(np.round(plane), 0, 2**bits - 1).astype(int) for plane in planes]


def patches(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """(8, 8) patches, row by row, over a frame."""
    grid = rgb.reshape(8, 8, *rgb.shape[1:])
    return grid.repeat(height // 8, axis=0).repeat(width // 8, axis=1)


def write_patches(path, matrix, tag, colour_range, bits, height=64, width=64, transfer=None):
    """Two frames of the patches in FFV1, which loses nothing, with the tags of the frames."""
    planes = yuv(PATCHES, matrix, colour_range == FULL, bits)
    pixel_format = "yuv420p" if bits == 8 else "yuv420p10le"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_range = TAGS[tag], colour_range
        if transfer:
            context.color_trc, context.color_primaries = transfer, 9
        for _ in range(2):
            frame = av.VideoFrame(width, height, pixel_format)
            for plane, values in zip(frame.planes, planes, strict=True):
                kind = np.uint8 if bits == 8 else np.uint16
                padded = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
                padded[:, : plane.width] = patches(values, plane.height, plane.width)
                plane.update(padded.tobytes())
            frame.colorspace, frame.color_range = TAGS[tag], colour_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def error(decoded: DecodedClip) -> int:
    """The largest difference from the encoded RGB in the middle of a patch."""
    assert isinstance(decoded, DecodedClip), decoded
    frame = decoded.frames[0].astype(int)
    rows, columns = (np.arange(8) * size // 8 + size // 16 for size in frame.shape[:2])
    return int(np.abs(frame[np.ix_(rows, columns)] - PATCHES.reshape(8, 8, 3)).max())


@pytest.mark.parametrize("short_side", [64, 40])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("colour_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_tagged_colours_come_out_as_they_were_encoded(
    tmp_path, matrix, colour_range, bits, short_side
):
    video = write_patches(tmp_path / "v.mkv", matrix, matrix, colour_range, bits)
    assert error(decode(video, clip(0, 0.1), short_side=short_side)["a"]) <= 2


@pytest.mark.parametrize(
    ("height", "width", "matrix"),
    [(480, 640, "bt601"), (576, 1024, "bt601"), (720, 960, "bt709"), (640, 1280, "bt709")],
)
def test_colours_without_a_tag_are_bt709_in_hd_and_bt601_below(tmp_path, height, width, matrix):
    video = write_patches(
        tmp_path / "v.mkv", matrix, "untagged", UNSPECIFIED, 8, height=height, width=width
    )
    assert error(decode(video, clip(0, 0.1), short_side=256)["a"]) <= 2


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_comes_out_as_the_numbers_that_were_encoded(tmp_path, transfer):
    video = write_patches(tmp_path / "v.mkv", "bt2020", "bt2020", LIMITED, 10, transfer=transfer)
    assert error(decode(video, clip(0, 0.1))["a"]) <= 2


def test_a_matrix_that_cannot_be_undone_is_named(tmp_path):
    video = write_patches(tmp_path / "v.mkv", "bt601", "YCgCo", LIMITED, 8)
    problem = decode(video, clip(0, 0.1))["a"]
    assert problem.error_type == "UnknownColour"
    assert "H.273 number 8" in problem.message


def test_pictures_of_rgb_keep_their_colours(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        for _ in range(2):
            picture = av.VideoFrame.from_ndarray(patches(PATCHES, 64, 64).astype(np.uint8))
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode())
    assert error(decode(tmp_path / "v.mkv", clip(0, 0.1))["a"]) == 0
