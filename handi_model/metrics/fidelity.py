"""How near a clip is to the real one: PSNR inside a mask, and the overlap of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def psnr_inside(
    frames: NDArray[np.floating], real: NDArray[np.floating], mask: NDArray[np.bool_]
) -> float:
    """Peak signal-to-noise ratio of the pixels inside a mask, dB; infinite for equal ones.

    Args:
        frames, real: (L, H, W, 3) in [0, 1].
        mask: (H, W), the same for all frames, not empty.
    """
    error = (np.asarray(frames, np.float64) - real)[:, mask]
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(np.square(error).mean()))


def mask_iou(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Intersection over union of two (H, W) masks, [0, 1]; two empty ones agree."""
    either = (pred | target).sum()
    return float((pred & target).sum() / either) if either else 1.0
