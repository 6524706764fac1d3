import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handi_model.hands.crops import cut, letterbox, to_frame

GREY_LEVEL = 1 / 255


def warped(frame: np.ndarray, region: tuple, size: int, border: int) -> np.ndarray:
    """OpenCV's warp of a rotated square, corners on corners: what MediaPipe's converter calls."""
    x, y, side, rotation = region
    corners = cv2.boxPoints(((x, y), (side, side), float(np.degrees(rotation))))
    square = np.float32([[0, size], [0, 0], [size, 0], [size, size]])
    transform = cv2.getPerspectiveTransform(corners.astype(np.float32), square)
    return cv2.warpPerspective(frame, transform, (size, size), borderMode=border)


@pytest.mark.parametrize(
    "region",
    [(240.0, 135.0, 150.0, 0.0), (100.5, 101.25, 153.7, 0.58), (470.0, 5.0, 200.0, -2.4)],
    ids=["upright", "rotated", "over the border"],
)
def test_a_crop_is_what_mediapipe_s_converter_cuts(region, frames):
    crop = cut(frames, torch.tensor([2]), torch.tensor([region]), 224)[0].numpy()
    reference = warped(frames[2].numpy(), region, 224, cv2.BORDER_REPLICATE) / 255
    assert np.abs(crop - reference).max() < 1.01 * GREY_LEVEL
    # Most pixels are equal; the warp's own arithmetic decides the others' last bit.
    assert np.abs(crop - reference).mean() < 0.1 * GREY_LEVEL


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_a_letterbox_is_what_mediapipe_s_converter_makes(turned, frames):
    frames = frames.transpose(1, 2) if turned else frames
    height, width = frames.shape[1:3]
    picture = letterbox(frames, 192)[1].numpy()
    whole = (width / 2, height / 2, max(height, width), 0.0)
    frame = np.ascontiguousarray(frames[1].numpy())
    reference = warped(frame, whole, 192, cv2.BORDER_CONSTANT) / 255
    assert np.abs(picture - reference).max() < 1.01 * GREY_LEVEL


def test_bytes_and_fractions_give_one_crop_up_to_rounding(frames):
    regions = torch.tensor([[200.0, 120.0, 140.0, 0.3]])
    of_bytes = cut(frames, torch.tensor([0]), regions, 224)
    of_fractions = cut(frames.float() / 255, torch.tensor([0]), regions, 224)
    assert (of_bytes - of_fractions).abs().max() <= 0.51 * GREY_LEVEL


@given(
    st.floats(-50, 550), st.floats(-50, 350), st.floats(1, 800), st.floats(-3.14, 3.14), st.data()
)
def test_a_place_in_a_crop_lies_where_the_crop_shows_it(x, y, side, rotation, data):
    """On a frame whose colours tell the position, the crop and the projection say the same."""
    height, width = 36, 48
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame = torch.stack([columns / width, rows / height, 0 * rows], -1)[None].float()
    regions = torch.tensor([[x, y, side, rotation]])
    row, column = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 15))
    colour = cut(frame, torch.tensor([0]), regions, 16)[0, row, column, :2]
    place = to_frame(torch.tensor([[[column / 16, row / 16]]]), regions)[0, 0]
    border = torch.tensor([width - 1.0, height - 1.0])
    shown = place.clamp(torch.zeros(2), border)
    assert torch.allclose(colour * torch.tensor([width, height]), shown, atol=1e-2)
