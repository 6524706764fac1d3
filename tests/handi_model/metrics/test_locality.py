import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.metrics.locality import (
    FLOW_SIDE,
    area_square,
    change_outside,
    flow_inside,
    optical_flow,
)

SIDE = 40
"""Of the textured square that moves, pixels."""
FROM = (50, 40)
"""Its first place: top, left."""


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth random RGB, as real surfaces are: flow can be seen everywhere in it."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def moving_square(
    dx: int, dy: int, frames: int = 4, height: int = 128, width: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """A square that moves by (dx, dy) pixels a frame before a still scene, and its way."""
    scene, square = texture(height, width, 0), texture(SIDE, SIDE, 1)
    clip = np.repeat(scene[None], frames, axis=0)
    area = np.zeros((height, width), bool)
    for number, frame in enumerate(clip):
        top, left = FROM[0] + dy * number, FROM[1] + dx * number
        frame[top : top + SIDE, left : left + SIDE] = square
        area[top : top + SIDE, left : left + SIDE] = True
    return clip, area


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-3, 0), (0, 3), (0, -4), (2, 3), (-2, -2)])
def test_flow_points_where_the_square_moves_as_far_as_it_moves(dx, dy):
    clip, _ = moving_square(dx, dy)
    flow = optical_flow(clip)
    scale = FLOW_SIDE / 128
    assert flow.shape == (3, FLOW_SIDE, FLOW_SIDE, 2)
    for step, field in enumerate(flow):
        top, left = FROM[0] + dy * step, FROM[1] + dx * step
        rows, columns = (
            slice(int((at + 10) * scale), int((at + 30) * scale)) for at in (top, left)
        )
        middle = np.median(field[rows, columns], axis=(0, 1))
        np.testing.assert_allclose(middle, np.array([dx, dy]) * scale, atol=0.3)


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -3), (2, 2)])
def test_what_moves_inside_its_area_has_its_flow_there(dx, dy):
    clip, area = moving_square(dx, dy)
    flow = optical_flow(clip)
    assert flow_inside(flow, area) > 0.9
    assert flow_inside(flow, ~area) == pytest.approx(1 - flow_inside(flow, area))


def test_the_share_inside_falls_when_something_else_moves():
    clip, area = moving_square(2, 0, width=256)
    both = clip.copy()
    both[:, :, 128:] = clip[:, :, :128]
    assert flow_inside(optical_flow(both), area) == pytest.approx(0.5, abs=0.1)


def test_flow_keeps_the_shape_of_frames_that_are_not_square():
    clip, area = moving_square(3, 0, frames=2, height=128, width=192)
    flow = optical_flow(clip)
    assert flow.shape == (1, 256, 384, 2)
    assert flow_inside(flow, area) > 0.9


def test_flow_is_in_pixels_of_the_same_side_whatever_the_frames_are():
    clip, _ = moving_square(2, 0)
    large = np.stack([cv2.resize(one, (512, 512), interpolation=cv2.INTER_CUBIC) for one in clip])
    small_flow, large_flow = optical_flow(clip), optical_flow(large)
    assert large_flow.shape == small_flow.shape
    place = slice(120, 160), slice(100, 140)
    for field in (small_flow, large_flow):
        assert np.median(field[0][place][..., 0]) == pytest.approx(4, abs=0.3)


def test_a_still_clip_has_no_share():
    clip = np.repeat(texture(64, 64, 0)[None], 3, axis=0)
    assert math.isnan(flow_inside(optical_flow(clip), np.ones((64, 64), bool)))


def test_what_moves_less_than_a_twentieth_of_a_pixel_is_still():
    everywhere = np.ones((8, 8), bool)
    for length, moves in ((0.049, False), (0.051, True)):
        flow = np.zeros((2, 16, 16, 2))
        flow[..., 0] = length
        assert math.isnan(flow_inside(flow, everywhere)) is not moves


def test_the_share_is_one_of_squared_lengths():
    flow = np.zeros((1, 4, 4, 2))
    flow[0, 0, 0], flow[0, 3, 3] = (3, 4), (0, 5 * math.sqrt(3))
    mask = np.zeros((2, 2), bool)
    mask[0, 0] = True
    assert flow_inside(flow, mask) == pytest.approx(0.25)
    assert flow_inside(flow, np.zeros((2, 2), bool)) == 0
    assert flow_inside(flow, np.ones((2, 2), bool)) == 1


def test_change_outside_is_the_mean_difference_of_the_pixels_outside():
    generator = np.random.default_rng(0)
    frames, scene = generator.random((3, 5, 6, 3)), generator.random((5, 6, 3))
    mask = generator.random((5, 6)) < 0.4
    differences = [
        abs(frame[y, x, channel] - scene[y, x, channel])
        for frame in frames
        for y in range(5)
        for x in range(6)
        for channel in range(3)
        if not mask[y, x]
    ]
    assert change_outside(frames, scene, mask) == pytest.approx(np.mean(differences), rel=1e-12)


def test_a_change_inside_is_no_change_outside():
    scene = np.full((4, 4, 3), 0.25)
    frames = np.repeat(scene[None], 3, axis=0)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    frames[:, mask] = 1
    assert change_outside(frames, scene, mask) == 0
    frames[:, 0, 0] = 0.75
    assert change_outside(frames, scene, mask) == pytest.approx(0.5 / 12)


def test_nothing_changes_outside_of_the_whole_frame():
    frames = np.zeros((2, 4, 4, 3))
    assert math.isnan(change_outside(frames, frames[0], np.ones((4, 4), bool)))


masks = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(lambda size: arrays(bool, size))


@st.composite
def rectangles(draw):
    """Frames with a rectangle of motion: hypothesis seldom draws an area of some extent."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), bool)
    mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
    return mask


@settings(max_examples=200)
@given(masks | rectangles(), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_square_lies_in_the_frame_and_holds_the_area_where_it_can(mask, margin):
    top, left, side = area_square(mask, margin)
    height, width = mask.shape
    assert 0 <= top <= top + side <= height
    assert 0 <= left <= left + side <= width
    assert side > 0
    if not mask.any():
        return
    rows, columns = np.nonzero(mask)
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    inside = mask[top : top + side, left : left + side]
    if longer <= min(height, width):
        assert inside.sum() == mask.sum()
        assert side >= longer
    assert side <= math.ceil(longer * (1 + 2 * margin) + 1e-9)


def test_the_square_has_a_tenth_of_the_longer_side_around_it():
    mask = np.zeros((100, 120), bool)
    mask[40:50, 30:50] = True
    assert area_square(mask) == (33, 28, 24)


def test_the_square_of_an_area_at_the_edge_is_moved_into_the_frame():
    mask = np.zeros((100, 100), bool)
    mask[90:, 80:] = True
    assert area_square(mask) == (76, 76, 24)


def test_without_an_area_it_is_the_middle_of_the_frame():
    assert area_square(np.zeros((60, 100), bool)) == (0, 20, 60)
    assert area_square(np.zeros((100, 60), bool)) == (20, 0, 60)
