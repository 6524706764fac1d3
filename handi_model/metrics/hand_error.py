"""HS-Err: how far the hands of a generated clip are from those of the real one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HandError:
    """Attributes:
    hs_err: eq. 5 over one clip: squared distances of the joints that both clips show, in
        squared shares of the frame, divided by L * 42; NaN without such joints: nothing to be
        wrong about is no merit.
    joint_error: mean distance of the joints that both show, shares of the frame; NaN without.
    recall: share of the real clip's hands that the generated clip shows too; NaN without.
    precision: share of the generated clip's hands that the real clip shows too; NaN without.
    """

    hs_err: float
    joint_error: float
    recall: float
    precision: float


def hand_error(
    joints: NDArray[np.floating],
    visible: NDArray[np.bool_],
    real_joints: NDArray[np.floating],
    real_visible: NDArray[np.bool_],
) -> HandError:
    """Compare the joints of two clips, matched by handedness.

    HS-Err forgives hands that are shown in a few frames only, so recall and precision stand beside
    it.

    Args:
        joints, real_joints: (L, 42, 2) normalised to the frame.
        visible, real_visible: (L, 42) bool.
    """
    both = visible & real_visible
    squared = np.square(np.asarray(joints, np.float64) - real_joints).sum(-1)[both]
    return HandError(
        hs_err=float(squared.sum() / both.size) if len(squared) else float("nan"),
        joint_error=float(np.sqrt(squared).mean()) if len(squared) else float("nan"),
        recall=float(both.sum() / real_visible.sum()) if real_visible.any() else float("nan"),
        precision=float(both.sum() / visible.sum()) if visible.any() else float("nan"),
    )
