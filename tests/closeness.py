"""Results that are the same but for the order in which sums were added up.

Processors, numbers of threads, batches and places in memory each have an order of their own.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from handi_model.batch import Batch

ROUNDING = 1e-5
"""Of float32 through a network of some dozens of layers, as a share of its largest output."""
COARSE_ROUNDING = 0.02
"""Of bfloat16 likewise: a few of its steps."""


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the second's largest value."""
    assert one.shape == other.shape
    scale = other.detach().abs().max()
    return float((one - other).detach().abs().max() / scale) if scale else float(one.abs().max())


def assert_same_batch(one: Batch, other: Batch) -> None:
    """What is encoded may differ by a step of the float16 in which it is kept."""
    for name in (field.name for field in fields(Batch)):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        if name in ("video_latent", "mask_latent", "text"):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3, msg=name)
        else:
            assert torch.equal(a, b), name
