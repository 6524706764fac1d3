import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.frames import Fit, decode_jpeg, decode_mask, encode_jpeg, encode_mask

sizes = st.tuples(st.integers(40, 400), st.integers(40, 400))


@given(sizes, st.sampled_from(["crop", "pad"]), st.integers(32, 200))
def test_every_frame_becomes_a_square_of_the_resolution(size, mode, resolution):
    fit = Fit.of(*size, resolution, mode)
    frame = np.full((*size, 3), 200, np.uint8)
    stored = fit.image(frame)
    assert stored.shape == (resolution, resolution, 3)
    # Cropping leaves no padding; padding cuts nothing.
    if mode == "crop":
        assert (stored > 0).all()
    else:
        assert fit.width <= resolution and fit.height <= resolution


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [(360, 640), (640, 360), (256, 256), (100, 180)])
@given(st.floats(0.35, 0.65), st.floats(0.35, 0.65))
def test_a_joint_moves_with_the_pixel_it_marks(mode, size, x, y):
    height, width = size
    frame = np.zeros((*size, 3), np.uint8)
    column, row = int(x * width), int(y * height)
    frame[row - 4 : row + 5, column - 4 : column + 5] = 255
    fit = Fit.of(height, width, 256, mode)
    joint = np.array([(column + 0.5) / width, (row + 0.5) / height], np.float32)
    moved = fit.joints(joint) * 256 - 0.5
    ys, xs = np.nonzero(fit.image(frame)[..., 0] > 127)
    assert np.allclose(moved, [xs.mean(), ys.mean()], atol=1.5)


def test_masks_survive_storage_exactly_and_frames_nearly():
    rng = np.random.default_rng(0)
    mask = rng.random((64, 64)) > 0.5
    assert (decode_mask(encode_mask(mask)) == mask).all()
    frame = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    error = decode_jpeg(encode_jpeg(frame, 95)).astype(int) - frame
    assert np.abs(error).max() <= 4
