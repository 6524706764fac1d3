from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handi_model.economy import hand_windows, random_frames, random_frames_with_hands
from handi_model.losses import hand_refinement_loss


@given(st.integers(1, 5), st.integers(1, 16), st.integers(1, 16), st.integers(0, 99))
def test_random_frames_are_different_and_in_order(batch, length, count, seed):
    frames = random_frames(batch, length, count, torch.Generator().manual_seed(seed))
    assert frames.shape == (batch, min(count, length))
    assert (frames.diff(dim=1) > 0).all()
    assert frames.min() >= 0 and frames.max() < length


def test_every_frame_is_equally_likely():
    frames = random_frames(4000, 5, 2, torch.Generator().manual_seed(0))
    share = torch.bincount(frames.flatten(), minlength=5) / 4000
    assert torch.allclose(share, torch.full((5,), 0.4), atol=0.03)


def test_no_count_takes_all_frames():
    assert random_frames(2, 4, None, None).tolist() == [[0, 1, 2, 3]] * 2


def eq5_of(pred, target, visible, frames, weight):
    """Eq. 5 of one clip over chosen frames, times the weight that goes with them."""
    loss = hand_refinement_loss(pred[None, frames], target[None, frames], visible[None, frames])
    return float(loss * weight)


@pytest.mark.parametrize("shown", [[0, 2, 3, 5], [1], [], list(range(6))])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_eq_5_over_frames_with_hands_is_unbiased(shown, count):
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 6, 42, 2, generator=generator)
    visible = torch.zeros(6, 42, dtype=torch.bool)
    visible[shown, :21] = True
    whole = eq5_of(pred, target, visible, list(range(6)), 1.0)
    chosen, weight = random_frames_with_hands(visible[None], count, generator)
    # The mean over every choice of frames that can come up, each as likely as any other.
    kept = min(count, len(shown))
    estimates = [
        eq5_of(pred, target, visible, list(some), float(weight) * kept / count)
        for some in combinations(shown, kept)
        if kept
    ] or [0.0]
    assert sum(estimates) / len(estimates) == pytest.approx(whole, rel=1e-4, abs=1e-9)
    assert set(chosen[0, :kept].tolist()) <= set(shown)


def test_a_subset_drawn_many_times_has_the_mean_of_all_frames():
    generator = torch.Generator().manual_seed(1)
    pred, target = torch.rand(2, 8, 42, 2, generator=generator)
    visible = torch.zeros(8, 42, dtype=torch.bool)
    visible[[1, 2, 4, 7]] = True
    whole = eq5_of(pred, target, visible, list(range(8)), 1.0)
    chosen, weight = random_frames_with_hands(visible.expand(4000, -1, -1), 2, generator)
    drawn = [
        eq5_of(pred, target, visible, frames, w)
        for frames, w in zip(chosen.tolist(), weight.tolist(), strict=True)
    ]
    assert sum(drawn) / len(drawn) == pytest.approx(whole, rel=0.02)


def region(x: float, y: float, side: float, rotation: float = 0.0) -> list[float]:
    return [x, y, side, rotation]


NONE = region(0, 0, 0)


def test_a_window_holds_the_whole_region_and_its_margin():
    regions = torch.tensor([[[region(100, 120, 40, 0.6), NONE]]])
    windows = hand_windows(regions, torch.tensor([[5]]), (32, 32), 8, margin=2)
    ((item, frame, top, left),) = windows.place
    assert (item, frame) == (0, 5)
    reach = 20 * (torch.cos(torch.tensor(0.6)) + torch.sin(torch.tensor(0.6)))
    height, width = windows.size
    assert left * 8 <= 100 - reach - 16 and (left + width) * 8 >= 100 + reach + 16
    assert top * 8 <= 120 - reach - 16 and (top + height) * 8 >= 120 + reach + 16


def test_windows_stay_inside_the_frame():
    regions = torch.tensor([[[region(2, 250, 40), region(250, 3, 40)]]])
    windows = hand_windows(regions, torch.tensor([[0]]), (32, 32), 8, margin=1)
    for _, _, top, left in windows.place:
        assert 0 <= top <= 32 - windows.size[0]
        assert 0 <= left <= 32 - windows.size[1]


def test_no_margin_takes_whole_frames_and_both_hands_share_one():
    regions = torch.tensor([[[region(50, 50, 40), region(200, 200, 40)], [NONE, NONE]]])
    windows = hand_windows(regions, torch.tensor([[3, 1]]), (32, 24), 8, margin=None)
    assert windows.place == [(0, 3, 0, 0)]
    assert windows.size == (32, 24)
    assert windows.window_of.tolist() == [0, 0]
    assert windows.hands.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert windows.corners(8).tolist() == [[0, 0], [0, 0]]


def test_windows_cut_the_latent_where_they_say():
    latents = torch.arange(2 * 3 * 4 * 32 * 32).reshape(2, 3, 4, 32, 32).float()
    regions = torch.tensor([[[NONE, NONE]], [[region(100, 60, 30), NONE]]])
    windows = hand_windows(regions, torch.tensor([[0], [2]]), (32, 32), 8, margin=1)
    ((item, frame, top, left),) = windows.place
    height, width = windows.size
    expected = latents[item, :, frame, top : top + height, left : left + width]
    assert (item, frame) == (1, 2)
    assert torch.equal(windows.cut(latents)[0], expected)
    assert windows.corners(8).tolist() == [[left * 8, top * 8]]


def test_frames_without_hands_need_no_window():
    regions = torch.zeros(2, 3, 2, 4)
    assert hand_windows(regions, torch.zeros(2, 3, dtype=torch.int64), (8, 8), 8, 1) is None
