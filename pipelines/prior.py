"""The data set's prior, as preprocessing leaves it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from pipelines.storage import join, read_bytes


def read_prior(data: str) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: the mean of the training masks.

    Raises:
        FileNotFoundError: if preprocessing has not come to its end.
    """
    return np.asarray(
        np.load(io.BytesIO(read_bytes(join(data, "prior.npy"))), allow_pickle=False), np.float32
    )
