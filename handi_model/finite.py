"""Numbers that are none (NaN, infinite) are an error with a remedy, not a black picture."""

from __future__ import annotations

import torch
from torch import Tensor


def check_finite(values: Tensor, what: str, dtype: torch.dtype) -> Tensor:
    """The values as they came, where they are all numbers.

    Args:
        values: (B, ...), one clip an item.
        what: they are, to be named.
        dtype: that they were computed in.

    Raises:
        FloatingPointError: if some are NaN or infinite, in one line with what to do.
    """
    bad = (~torch.isfinite(values).flatten(1).all(1)).nonzero()[:, 0].tolist()
    if not bad:
        return values
    if dtype == torch.float16:
        remedy = "float16 is too narrow for this model: take bfloat16 or float32"
    else:
        remedy = (
            "lower guidance_scale or take more steps; if that does not help, the weights are "
            "spoilt: take an earlier checkpoint"
        )
    which = f" of clips {', '.join(map(str, bad))}" if len(values) > 1 else ""
    name = str(dtype).removeprefix("torch.")
    raise FloatingPointError(f"{what}{which} are not finite numbers in {name}; {remedy}")
