"""What FVD compares: the 400 logits that Inception-3D, trained on Kinetics, gives a clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from handi_model.hands.model_files import first_line
from handi_model.metrics.i3d_network import I3D
from handi_model.metrics.weights import (
    Origin,
    Weights,
    find_weights,
    open_torchscript,
    unusable,
)

WEIGHTS = Weights(
    name="FVD I3D",
    file="i3d_torchscript.pt",
    url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    key="i3d",
)
"""StyleGAN-V's translation of DeepMind's module, which Unterthiner et al. (2018) define FVD by."""
SIDE = 224
FEATURES = 400
MIN_FRAMES = 10
"""common_metrics_on_video_quality refuses shorter clips; the network itself fails below 9."""


class I3DFeatures:
    """The logits before the softmax, averaged over time.

    Two kinds of file serve: the reference, StyleGAN-V's TorchScript, or the same weights for our
    own module (`i3d_network`), as `.safetensors`.

    Attributes:
        origin: the file in use.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], origin: Origin, device: torch.device | str
    ) -> None:
        self.origin = origin
        self._network = network
        self._device = device

    @classmethod
    def load(cls, path: str | None = None, device: torch.device | str = "cpu") -> I3DFeatures:
        """Open the network.

        Args:
            path: a file of either kind; default: the reference, from the cache or the download.

        Raises:
            WeightsError: if there is no usable file.
        """
        file, origin = find_weights(WEIGHTS, path)
        opened = _own if file.suffix == ".safetensors" else _reference
        return cls(opened(file, device), origin, device)

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe a clip.

        Args:
            frames: (L, H, W, 3) RGB, of any size.

        Returns:
            (400,).

        Raises:
            ValueError: if the clip has fewer than 10 frames.
        """
        if len(frames) < MIN_FRAMES:
            raise ValueError(
                f"FVD: a clip of {len(frames)} frames is too short, it takes {MIN_FRAMES}; "
                "measure longer clips, or leave FVD out"
            )
        clip = preprocess(torch.from_numpy(frames).to(self._device))
        return self._network(clip[None])[0].float().cpu().numpy()


def preprocess(frames: Tensor) -> Tensor:
    """Short side to 224, the middle square, [-1, 1]: common_metrics_on_video_quality's steps.

    Bilinear without antialiasing, as there.

    Args:
        frames: (L, H, W, 3) uint8.

    Returns:
        (3, L, 224, 224).
    """
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    height, width = pictures.shape[-2:]
    scale = SIDE / min(height, width)
    size = [
        SIDE if side <= min(height, width) else math.ceil(side * scale) for side in (height, width)
    ]
    pictures = functional.interpolate(pictures, size, mode="bilinear", align_corners=False)
    top, left = ((side - SIDE) // 2 for side in size)
    square = pictures[..., top : top + SIDE, left : left + SIDE]
    return (2 * square - 1).transpose(0, 1).contiguous()


def _reference(file: Path, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    network = open_torchscript(WEIGHTS, file, device)

    def call(clips: Tensor) -> Tensor:
        return network(x=clips, rescale=False, resize=False, return_features=True)

    try:
        with torch.inference_mode():
            given = call(torch.zeros(1, 3, MIN_FRAMES, SIDE, SIDE, device=device)).shape
    except Exception as problem:  # a foreign network fails in any way
        raise unusable(WEIGHTS, file, first_line(problem)) from None
    if given != (1, FEATURES):
        raise unusable(WEIGHTS, file, f"it gives features of shape {tuple(given)}")
    return call


def _own(file: Path, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    network = I3D()
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as problem:
        raise unusable(WEIGHTS, file, first_line(problem)) from None
    return network.to(device)
