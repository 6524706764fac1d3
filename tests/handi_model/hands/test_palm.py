import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from handi_model.hands.palm import anchors, decode, hand_regions, merge


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None).prod()
    either = (a[1] - a[0]).prod() + (b[1] - b[0]).prod() - shared
    return float(shared / either) if either > 0 else 0.0


def merged_one_by_one(points: np.ndarray, scores: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Weighted suppression written as a loop over sorted candidates."""
    left = [at for at in np.argsort(-scores, kind="stable") if scores[at] >= threshold]
    palms = []
    while left and len(palms) < 2:
        best = left[0]
        same = [at for at in left if at == best or overlap(points[best], points[at]) > 0.3]
        palms.append(np.average(points[same], axis=0, weights=scores[same]))
        left = [at for at in left if at not in same]
    return palms


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.3, 0.9))
def test_suppression_of_a_batch_is_that_of_each_frame_by_a_plain_loop(seed, count, threshold):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.3, 0.7, (3, count, 1, 2))
    half = rng.uniform(0.05, 0.2, (3, count, 1, 2))
    keypoints = rng.uniform(0, 1, (3, count, 7, 2))
    points = np.concatenate([centre - half, centre + half, keypoints], 2).astype(np.float32)
    scores = rng.uniform(0, 1, (3, count)).astype(np.float32)
    palms, found = merge(torch.from_numpy(points), torch.from_numpy(scores), threshold)
    for frame in range(3):
        expected = merged_one_by_one(points[frame], scores[frame], threshold)
        assert found[frame].tolist() == [len(expected) > 0, len(expected) > 1]
        for palm, reference in zip(palms[frame], expected, strict=False):
            assert np.allclose(palm.numpy(), reference, atol=1e-5)


def test_a_box_of_no_size_is_found_once_and_not_again():
    points = torch.full((1, 1, 9, 2), 0.5)
    palms, found = merge(points, torch.tensor([[0.9]]), 0.5)
    assert found.tolist() == [[True, False]]
    assert torch.allclose(palms[0, 0], points[0, 0])


def test_the_anchors_are_the_centres_of_a_fine_and_a_coarse_grid():
    centres = anchors(torch.device("cpu"))
    assert centres.shape == (2016, 2)
    assert torch.allclose(
        centres[:4], torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [1.5, 0.5]]) / 24
    )
    assert torch.allclose(centres[1152:1158], torch.full((6, 2), 0.5) / 12)
    assert torch.allclose(centres[-1], torch.full((2,), 11.5) / 12)


def test_a_raw_box_is_measured_from_its_anchor_in_pixels():
    raw = torch.zeros(1, 2016, 18)
    raw[0, 0, :6] = torch.tensor([4.0, 6.0, 20.0, 10.0, -4.0, 8.0])
    low, high, first_keypoint = decode(raw)[0, 0, :3] * 192
    assert torch.allclose(low, torch.tensor([4 + 4 - 10.0, 4 + 6 - 5.0]))
    assert torch.allclose(high, torch.tensor([4 + 4 + 10.0, 4 + 6 + 5.0]))
    assert torch.allclose(first_keypoint, torch.tensor([0.0, 12.0]))


def test_a_hand_s_region_reaches_from_the_palm_towards_the_fingers():
    """An upright palm of 50 by 40 pixels in the middle of a frame of 400 by 200."""
    low, high = torch.tensor([175.0, 80.0]), torch.tensor([225.0, 120.0])
    keypoints = torch.full((7, 2), 100.0)
    keypoints[0], keypoints[2] = torch.tensor([200.0, 120.0]), torch.tensor([200.0, 80.0])
    pixels = torch.cat([low[None], high[None], keypoints])
    letterboxed = (pixels + torch.tensor([0.0, 100.0])) / 400
    x, y, side, rotation = hand_regions(letterboxed.expand(1, 2, 9, 2), 200, 400)[0, 0]
    assert np.isclose(side, 2.6 * 50, atol=1e-3)
    # MediaPipe's 90 radians in place of 90 degrees.
    assert np.isclose(rotation, 90 - 28 * np.pi - np.pi / 2, atol=1e-4)
    assert np.isclose(x, 200 + 20 * np.sin(rotation), atol=1e-3)
    assert np.isclose(y, 100 - 20 * np.cos(rotation), atol=1e-3)
