"""The operators of a tflite graph as torch modules, frozen.

Pictures are (N, C, H, W) between the operators, in the channels-last memory order that a tflite
file has them in, so that changing between the two layouts copies nothing. The operators' meaning is
that of TensorFlow Lite's built-in operators (tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = ("NONE", "RELU", "RELU6")
"""Fused activations that are known."""


def activate(values: Tensor, activation: str) -> Tensor:
    if activation == "RELU":
        return F.relu(values)
    if activation == "RELU6":
        return F.relu6(values)
    return values


def same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """SAME padding of an (H, W) input as (left, right, top, bottom); the odd pixel comes last."""
    around = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        around.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = around
    return left, right, top, bottom


class Convolution(nn.Module):
    """CONV_2D and DEPTHWISE_CONV_2D.

    Args:
        weight: (out, in / groups, kh, kw).
        bias: (out,) or None.
        padding: (left, right, top, bottom).
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        padding: tuple[int, int, int, int],
        groups: int,
        activation: str,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.activation = activation
        left, right, top, bottom = padding
        even = left == right and top == bottom
        self.around = (top, left) if even else (0, 0)
        self.before = None if even else padding

    def forward(self, values: Tensor) -> Tensor:
        if self.before:
            values = F.pad(values, self.before)
        values = F.conv2d(
            values, self.weight, self.bias, self.stride, self.around, self.dilation, self.groups
        )
        return activate(values, self.activation)


class MaxPool(nn.Module):
    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        activation: str,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.activation = activation

    def forward(self, values: Tensor) -> Tensor:
        if any(self.padding):
            values = F.pad(values, self.padding, value=float("-inf"))
        return activate(F.max_pool2d(values, self.kernel, self.stride), self.activation)


class Add(nn.Module):
    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return activate(a + b, self.activation)


class PRelu(nn.Module):
    """PRELU with one slope, (C,), for each channel."""

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, values: Tensor) -> Tensor:
        return F.prelu(values, self.slope)


class Linear(nn.Module):
    """FULLY_CONNECTED: weight (out, in), bias (out,) or None."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.activation = activation

    def forward(self, values: Tensor) -> Tensor:
        return activate(F.linear(values, self.weight, self.bias), self.activation)


class Logistic(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.sigmoid()


class SpatialMean(nn.Module):
    """MEAN over height and width."""

    def __init__(self, keep_axes: bool) -> None:
        super().__init__()
        self.keep_axes = keep_axes

    def forward(self, values: Tensor) -> Tensor:
        return values.mean((2, 3), keepdim=self.keep_axes)


class ZeroPad(nn.Module):
    """PAD: zeros around every axis, in the order and form of `torch.nn.functional.pad`."""

    def __init__(self, padding: tuple[int, ...]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, values: Tensor) -> Tensor:
        return F.pad(values, self.padding)


class ResizeBilinear(nn.Module):
    def __init__(self, size: tuple[int, int], align_corners: bool) -> None:
        super().__init__()
        self.size, self.align_corners = size, align_corners

    def forward(self, values: Tensor) -> Tensor:
        return F.interpolate(
            values, size=self.size, mode="bilinear", align_corners=self.align_corners
        )


class Reshape(nn.Module):
    """RESHAPE of all axes but the batch, in tflite's order of elements.

    Args:
        shape: of the result without the batch axis, channels last.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: Tensor) -> Tensor:
        return channels_first(channels_last(values).reshape(values.shape[0], *self.shape))


class Concatenation(nn.Module):
    def __init__(self, axis: int, activation: str) -> None:
        super().__init__()
        self.axis, self.activation = axis, activation

    def forward(self, *values: Tensor) -> Tensor:
        return activate(torch.cat(values, self.axis), self.activation)


def channels_first(values: Tensor) -> Tensor:
    """Turn tflite's layout of pictures into torch's; other tensors stay as they are."""
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def channels_last(values: Tensor) -> Tensor:
    """Turn torch's layout of pictures into tflite's; other tensors stay as they are."""
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values
