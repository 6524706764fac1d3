import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.losses import (
    hand_refinement_loss,
    mask_iou_loss,
    noise_loss,
    stage1_loss,
    stage2_loss,
)

SHAPE = (2, 3, 5, 4)
binary_masks = arrays(bool, SHAPE).map(lambda mask: torch.from_numpy(mask).float())
soft_masks = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
joints = arrays(np.float32, (2, 3, 42, 2), elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
visibilities = arrays(bool, (2, 3, 42)).map(torch.from_numpy)


@given(binary_masks)
def test_equal_binary_masks_have_no_mask_loss(mask):
    assert mask_iou_loss(mask, mask) == 0


def test_two_empty_masks_agree_and_an_empty_one_differs_wholly_from_any_other():
    empty, full = torch.zeros(SHAPE), torch.ones(SHAPE)
    assert mask_iou_loss(empty, empty) == 0
    assert mask_iou_loss(empty, full) == 1


@given(binary_masks)
def test_disjoint_masks_have_a_mask_loss_of_one(mask):
    mask[..., 0, 0] = 1
    mask[..., 1, 1] = 0
    assert mask_iou_loss(mask, 1 - mask) == 1


@given(soft_masks, soft_masks)
def test_the_mask_loss_is_symmetric_and_between_0_and_1(pred, target):
    loss = mask_iou_loss(pred, target)
    assert 0 <= loss <= 1
    torch.testing.assert_close(mask_iou_loss(target, pred), loss)


@given(soft_masks, soft_masks)
def test_the_mask_loss_is_the_mean_over_batch_and_frames(pred, target):
    items = [
        mask_iou_loss(pred[b : b + 1, f : f + 1], target[b : b + 1, f : f + 1])
        for b in range(2)
        for f in range(3)
    ]
    torch.testing.assert_close(mask_iou_loss(pred, target), torch.stack(items).mean())


@given(soft_masks, binary_masks)
def test_the_mask_loss_has_a_finite_gradient_also_for_empty_frames(pred, target):
    pred[0, 0], target[0, 0] = 0, 0
    pred[0, 1] = 0
    pred[0, 2], target[0, 2] = 1e-44, 0
    target[1, 0] = 0
    pred.requires_grad_()
    mask_iou_loss(pred, target).backward()
    assert pred.grad.isfinite().all()


def test_the_mask_loss_draws_the_prediction_towards_the_target():
    pred = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    mask_iou_loss(pred, target).backward()
    assert (pred.grad[..., :2] < 0).all()
    assert (pred.grad[..., 2:] > 0).all()


def test_the_gradient_of_the_mask_loss_is_that_of_its_values():
    draw = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, *SHAPE, dtype=torch.float64, generator=draw)
    assert torch.autograd.gradcheck(mask_iou_loss, (pred.requires_grad_(), target))


def test_the_mask_loss_of_large_frames_is_right_in_bfloat16():
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., :100, :] = 1
    half = mask.clone()
    half[..., :50, :] = 0
    assert mask_iou_loss(half.bfloat16(), mask.bfloat16()) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 3, 5, 4), (2, 3, 4, 5)])
def test_masks_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="masks must be"):
        mask_iou_loss(torch.zeros(shape), torch.zeros(SHAPE))


@given(joints, joints, visibilities, st.sampled_from([0.0, 7.0, float("nan"), float("inf")]))
def test_the_hand_loss_ignores_what_undetected_joints_hold(pred, target, visible, anything):
    expected = hand_refinement_loss(pred, target, visible)
    hidden = ~visible[..., None]
    assert torch.equal(
        hand_refinement_loss(pred, target.masked_fill(hidden, anything), visible), expected
    )
    assert torch.equal(
        hand_refinement_loss(pred.masked_fill(hidden, anything), target, visible), expected
    )


@given(joints, joints, visibilities)
def test_the_gradient_of_the_hand_loss_is_on_visible_joints_alone(pred, target, visible):
    target = target.masked_fill(~visible[..., None], float("nan"))
    pred = pred.masked_fill(~visible[..., None], float("nan")).requires_grad_()
    hand_refinement_loss(pred, target, visible).backward()
    assert not pred.grad[~visible].any()
    # d/dp of |p - t|^2 / (L J), averaged over the batch of two.
    expected = 2 * (pred - target)[visible] / (3 * 42) / 2
    torch.testing.assert_close(pred.grad[visible], expected)


def test_the_divisor_of_the_hand_loss_does_not_depend_on_how_many_joints_are_visible():
    pred, target = torch.zeros(1, 4, 42, 2), torch.ones(1, 4, 42, 2)
    visible = torch.zeros(1, 4, 42, dtype=torch.bool)
    assert hand_refinement_loss(pred, target, visible) == 0
    visible[0, 2, 5] = True
    assert hand_refinement_loss(pred, target, visible) == pytest.approx(2 / (4 * 42))
    assert hand_refinement_loss(pred, target, ~visible) == pytest.approx(2 * 167 / (4 * 42))


@given(joints, visibilities)
def test_joints_in_their_place_have_no_hand_loss(pred, visible):
    assert hand_refinement_loss(pred, pred, visible) == 0


@pytest.mark.parametrize(
    ("pred", "target", "visible", "message"),
    [
        ((2, 3, 21, 2), (2, 3, 21, 2), (2, 3, 21), r"\(B, L, 42, 2\)"),
        ((2, 3, 42, 3), (2, 3, 42, 3), (2, 3, 42), r"\(B, L, 42, 2\)"),
        ((2, 3, 42, 2), (1, 3, 42, 2), (2, 3, 42), r"\(B, L, 42, 2\)"),
        ((2, 3, 42, 2), (2, 3, 42, 2), (2, 3, 2), "visible must be"),
    ],
)
def test_joints_of_other_shapes_are_refused(pred, target, visible, message):
    with pytest.raises(ValueError, match=message):
        hand_refinement_loss(torch.zeros(pred), torch.zeros(target), torch.zeros(visible))


@given(soft_masks, soft_masks)
def test_the_noise_loss_is_the_mean_squared_error_weighted_on_request(pred, target):
    loss = noise_loss(pred, target)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(pred, target))
    torch.testing.assert_close(noise_loss(pred, target, torch.ones(5, 4)), loss)
    left = torch.tensor([2.0, 2.0, 0.0, 0.0])
    half = noise_loss(pred[..., :2], target[..., :2])
    torch.testing.assert_close(noise_loss(pred, target, left), half)


@pytest.mark.parametrize("combine", [stage1_loss, stage2_loss])
def test_a_stages_loss_is_the_noise_loss_and_the_weighted_other_one(combine):
    parts = torch.tensor([0.5, 0.25], requires_grad=True)
    loss = combine(parts[0], parts[1], 0.1)
    assert loss.item() == pytest.approx(0.525)
    loss.backward()
    assert parts.grad.tolist() == pytest.approx([1, 0.1])
