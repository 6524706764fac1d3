"""The losses of both stages (Li, Cao and Corso, "Hand-Centric ... Video Generation", eqs. 1-5)."""

from __future__ import annotations

import torch
from torch import Tensor

JOINTS = 42
"""Joints of two hands: left 0-20, right 21-41."""

SMALLEST_AREA = 1e-6
"""Pixels; a union of masks that covers less is divided by this."""


def noise_loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Eq. 1: the mean squared error of the prediction, over any axes.

    With a network that predicts velocity, the same error in terms of the noise is `alpha_bar` times
    as large: eq. 1 weighted by `1 / alpha_bar`.

    Args:
        weight: broadcasts over the prediction; its mean over the prediction should be 1.
    """
    error = (_precise(predicted) - _precise(target)).square()
    return (error if weight is None else error * weight).mean()


def mask_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Eq. 4: one minus the soft intersection over union, averaged over frames and batch.

    Args:
        pred, target: (B, L, H, W) in [0, 1]. Symmetric in both; two empty frames agree.

    Returns:
        Scalar in [0, 1]: 0 for equal binary masks, 1 for disjoint ones.

    Raises:
        ValueError: if the shapes are not equal or not (B, L, H, W).
    """
    if pred.ndim != 4 or pred.shape != target.shape:
        raise ValueError(
            f"masks must be (B, L, H, W) of one shape, got {tuple(pred.shape)} "
            f"and {tuple(target.shape)}"
        )
    pred, target = _precise(pred), _precise(target)
    both = (pred * target).sum((-2, -1))
    either = (pred + target - pred * target).sum((-2, -1))
    # The divisor's bound keeps the gradient of a frame that is empty, or nearly so, finite.
    iou = (both / either.clamp(min=SMALLEST_AREA)).where(either > 0, 1)
    return (1 - iou).mean()


def hand_refinement_loss(pred: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Eq. 5: squared distance of the joints, divided by L * J, averaged over the batch.

    Args:
        pred, target: (B, L, 42, 2) joints in [0, 1]; rows that are not visible may hold anything.
        visible: (B, L, 42) bool. Joints that are not visible count as zero distance, and the
            divisor stays L * 42.

    Raises:
        ValueError: if the shapes are not these.
    """
    if pred.ndim != 4 or pred.shape[2:] != (JOINTS, 2) or pred.shape != target.shape:
        raise ValueError(
            f"joints must be (B, L, 42, 2), got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    if visible.shape != pred.shape[:3]:
        raise ValueError(f"visible must be {tuple(pred.shape[:3])}, got {tuple(visible.shape)}")
    shown = visible.bool()[..., None]
    # Chosen before the difference: an undetected joint may be NaN, and 0 * NaN is NaN.
    difference = _precise(pred).where(shown, 0) - _precise(target).where(shown, 0)
    return difference.square().sum((-1, -2, -3)).div(pred.shape[1] * JOINTS).mean()


def stage1_loss(noise: Tensor, mask_iou: Tensor, alpha: float) -> Tensor:
    """Eq. 3: `L_noise + alpha * L_mIoU`."""
    return noise + alpha * mask_iou


def stage2_loss(noise: Tensor, hand_refinement: Tensor, eta: float) -> Tensor:
    """Stage 2's loss: `L_noise + eta * L_HR`."""
    return noise + eta * hand_refinement


def _precise(values: Tensor) -> Tensor:
    """Float32 at least: sums over a frame's pixels are lost in bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
