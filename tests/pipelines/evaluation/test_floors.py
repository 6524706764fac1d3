import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.floors import shuffled, still


def clip(frames: int) -> np.ndarray:
    """Frames that tell their own number."""
    return np.broadcast_to(np.arange(frames)[:, None, None, None], (frames, 4, 6, 3)).astype(
        np.uint8
    )


def numbers(frames: np.ndarray) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


@given(st.integers(2, 64), st.integers(0, 2**63 - 1))
def test_shuffled_frames_are_the_same_and_none_is_in_its_place(frames, seed):
    order = numbers(shuffled(clip(frames), seed))
    assert sorted(order) == list(range(frames))
    assert all(number != place for place, number in enumerate(order))


def test_a_seed_gives_an_order_and_another_seed_another():
    orders = [numbers(shuffled(clip(16), seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_every_order_without_a_frame_in_its_place_comes_up():
    """Of four frames there are nine."""
    assert len({tuple(numbers(shuffled(clip(4), seed))) for seed in range(200)}) == 9


def test_the_frames_are_left_as_they_are():
    frames = clip(8)
    mixed = shuffled(frames, 0)
    assert numbers(frames) == list(range(8))
    assert mixed.dtype == np.uint8 and mixed.shape == frames.shape


@pytest.mark.parametrize("frames", [1, 2, 16])
def test_a_still_clip_is_its_first_frame_over_and_over(frames):
    real = np.random.default_rng(0).integers(0, 256, (frames, 4, 6, 3)).astype(np.uint8)
    made = still(real)
    assert made.shape == real.shape and made.dtype == np.uint8
    assert all((frame == real[0]).all() for frame in made)
