"""Run a tflite file's graph in torch: the same arithmetic, but batched and differentiable.

The graph is resolved once, when it is loaded, into a plain list of torch modules with frozen
weights. It knows the operators that MediaPipe's hand networks are made of, in float32 with
float16 weights; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
import torch
from torch import Tensor, nn

from handi_model.hands import tflite_ops as ops


def _names(enumeration: type) -> dict[int, str]:
    """Value -> name of one of the schema's enumerations."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


OPERATORS = _names(tflite.BuiltinOperator)
ACTIVATIONS = _names(tflite.ActivationFunctionType)
TYPES = _names(tflite.TensorType)
DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32}


class TfliteGraph(nn.Module):
    """The first subgraph of a tflite file, frozen.

    Weights are buffers: `.to(device, dtype)` moves them and no optimiser sees them. The file's
    batch size of one is replaced by whatever batch is given.

    Args:
        model: contents of the file.

    Raises:
        ValueError: if it is no tflite file, or has an operator, an option or a tensor type that is
            not known; the message names it.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        if model[4:8] != b"TFL3":
            raise ValueError(
                "not a tflite file (it lacks the mark TFL3); give a .tflite's contents"
            )
        reader = _Reader(model)
        self.input_shape = reader.shape(reader.inputs[0])[1:]
        steps = [step for step in map(reader.step, reader.operators) if step]
        self.modules_in_order = nn.ModuleList(step.module for step in steps)
        last_use = {tensor: at for at, step in enumerate(steps) for tensor in step.inputs}
        self.plan = [
            # Each result is let go after its last use, so that memory stays small without gradient.
            (
                step.inputs,
                step.output,
                [t for t in set(step.inputs) if last_use[t] == at and t not in reader.outputs],
            )
            for at, step in enumerate(steps)
        ]
        self.input, self.outputs = reader.inputs[0], reader.outputs
        self.requires_grad_(False).eval()

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            values: (N, *input_shape) in the weights' precision; pictures are channels last.

        Returns:
            The graph's outputs in its order, each with the batch axis first.

        Raises:
            ValueError: if the shape is not this.
        """
        if tuple(values.shape[1:]) != self.input_shape:
            raise ValueError(
                f"the network takes (N, {', '.join(map(str, self.input_shape))}), "
                f"got {tuple(values.shape)}"
            )
        known = {self.input: ops.channels_first(values)}
        for module, (inputs, output, done) in zip(self.modules_in_order, self.plan, strict=True):
            known[output] = module(*[known[tensor] for tensor in inputs])
            for tensor in done:
                del known[tensor]
        return tuple(ops.channels_last(known[tensor]) for tensor in self.outputs)


@dataclass(frozen=True)
class _Step:
    module: nn.Module
    inputs: list[int]
    output: int


@dataclass(frozen=True)
class _Operator:
    """One operator of the file; `options` reads a field of its options table."""

    name: str
    inputs: list[int]
    output: int
    options: Callable[[str], Any]

    @property
    def activation(self) -> str:
        name = ACTIVATIONS[self.options("FusedActivationFunction")]
        if name not in ops.ACTIVATIONS:
            raise ValueError(f"{self.name} has the fused activation {name}, which is not known")
        return name


class _Reader:
    """Reads a file's tensors and turns its operators into steps."""

    def __init__(self, model: bytes) -> None:
        self.model = tflite.Model.GetRootAs(model, 0)
        self.graph = self.model.Subgraphs(0)
        self.inputs = [int(tensor) for tensor in self.graph.InputsAsNumpy()]
        self.outputs = [int(tensor) for tensor in self.graph.OutputsAsNumpy()]
        self.operators = [self._operator(at) for at in range(self.graph.OperatorsLength())]
        self.constants: dict[int, Tensor] = {}
        for tensor in range(self.graph.TensorsLength()):
            self._read_constant(tensor)

    def _operator(self, at: int) -> _Operator:
        operator = self.graph.Operators(at)
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        # Older files hold the code in the deprecated field only.
        name = OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        table = operator.BuiltinOptions()

        def options(field: str) -> Any:
            reader = getattr(tflite, OPTIONS[name])()
            reader.Init(table.Bytes, table.Pos)
            return getattr(reader, field)()

        inputs = [int(tensor) for tensor in operator.InputsAsNumpy()]
        return _Operator(name, inputs, int(operator.Outputs(0)), options)

    def _read_constant(self, tensor: int) -> None:
        described = self.graph.Tensors(tensor)
        data = self.model.Buffers(described.Buffer()).DataAsNumpy()
        if isinstance(data, int) or not len(data):
            return
        kind = TYPES[described.Type()]
        if kind not in DTYPES:
            raise ValueError(
                f"tensor {described.Name().decode()} has type {kind}; known are {', '.join(DTYPES)}"
            )
        values = np.frombuffer(data.tobytes(), DTYPES[kind]).reshape(self.shape(tensor))
        self.constants[tensor] = torch.from_numpy(values.copy())

    def shape(self, tensor: int) -> tuple[int, ...]:
        described = self.graph.Tensors(tensor)
        return tuple(int(described.Shape(axis)) for axis in range(described.ShapeLength()))

    def constant(self, operator: _Operator, at: int) -> Tensor:
        tensor = operator.inputs[at]
        if tensor not in self.constants:
            raise ValueError(f"{operator.name} with an input {at} that is computed is not known")
        return self.constants[tensor]

    def bias(self, operator: _Operator) -> Tensor | None:
        given = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        return self.constant(operator, 2) if given else None

    def step(self, operator: _Operator) -> _Step | None:
        """Build the module of an operator; None for what only unpacks a constant."""
        if operator.name == "DEQUANTIZE":
            self.constants[operator.output] = self.constant(operator, 0).float()
            return None
        if operator.name not in BUILDERS:
            raise ValueError(
                f"operator {operator.name} is not known; known are {', '.join(sorted(BUILDERS))}"
            )
        module = BUILDERS[operator.name](self, operator)
        inputs = operator.inputs if operator.name in MANY_INPUTS else operator.inputs[:1]
        if any(tensor in self.constants for tensor in inputs):
            raise ValueError(f"{operator.name} of a constant is not known")
        return _Step(module, inputs, operator.output)


def _convolution(reader: _Reader, operator: _Operator) -> nn.Module:
    weight = reader.constant(operator, 1)
    channels = reader.shape(operator.inputs[0])[3]
    if operator.name == "DEPTHWISE_CONV_2D":  # (1, kh, kw, out)
        weight, groups = weight.permute(3, 0, 1, 2), channels
    else:  # (out, kh, kw, in / groups)
        weight = weight.permute(0, 3, 1, 2)
        groups = channels // weight.shape[1]
    kernel = (weight.shape[2], weight.shape[3])
    stride = (operator.options("StrideH"), operator.options("StrideW"))
    dilation = (operator.options("DilationHFactor"), operator.options("DilationWFactor"))
    padding = _padding(reader, operator, kernel, stride, dilation)
    bias = reader.bias(operator)
    return ops.Convolution(weight, bias, stride, dilation, padding, groups, operator.activation)


def _max_pool(reader: _Reader, operator: _Operator) -> nn.Module:
    kernel = (operator.options("FilterHeight"), operator.options("FilterWidth"))
    stride = (operator.options("StrideH"), operator.options("StrideW"))
    padding = _padding(reader, operator, kernel, stride, (1, 1))
    return ops.MaxPool(kernel, stride, padding, operator.activation)


def _padding(
    reader: _Reader,
    operator: _Operator,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    if operator.options("Padding") == tflite.Padding.VALID:
        return 0, 0, 0, 0
    _, height, width, _ = reader.shape(operator.inputs[0])
    return ops.same_padding((height, width), kernel, stride, dilation)


def _linear(reader: _Reader, operator: _Operator) -> nn.Module:
    if len(reader.shape(operator.inputs[0])) != 2:
        raise ValueError("FULLY_CONNECTED of anything but (N, C) is not known")
    return ops.Linear(reader.constant(operator, 1), reader.bias(operator), operator.activation)


def _prelu(reader: _Reader, operator: _Operator) -> nn.Module:
    slope = reader.constant(operator, 1)
    if slope.numel() != slope.shape[-1]:
        raise ValueError(f"PRELU with slopes {tuple(slope.shape)} is not known, only (1, 1, C)")
    return ops.PRelu(slope.flatten())


def _mean(reader: _Reader, operator: _Operator) -> nn.Module:
    axes = reader.constant(operator, 1).tolist()
    if sorted(axes) != [1, 2] or len(reader.shape(operator.inputs[0])) != 4:
        raise ValueError(f"MEAN over the axes {axes} is not known, only over height and width")
    return ops.SpatialMean(operator.options("KeepDims"))


def _pad(reader: _Reader, operator: _Operator) -> nn.Module:
    around = reader.constant(operator, 1).tolist()
    if len(around) == 4:
        n, h, w, c = around
        around = [n, c, h, w]
    return ops.ZeroPad(tuple(size for pair in reversed(around) for size in pair))


def _resize(reader: _Reader, operator: _Operator) -> nn.Module:
    corners = operator.options("AlignCorners")
    if not corners and not operator.options("HalfPixelCenters"):
        raise ValueError(
            "RESIZE_BILINEAR without half-pixel centres or aligned corners is not known"
        )
    height, width = reader.constant(operator, 1).tolist()
    return ops.ResizeBilinear((height, width), corners)


def _concatenation(reader: _Reader, operator: _Operator) -> nn.Module:
    rank = len(reader.shape(operator.output))
    axis = operator.options("Axis") % rank
    if rank == 4:
        axis = (0, 2, 3, 1)[axis]
    return ops.Concatenation(axis, operator.activation)


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "CONCATENATION": "ConcatenationOptions",
}
"""Operator -> its options table in the schema, for those with options that matter."""

BUILDERS: dict[str, Callable[[_Reader, _Operator], nn.Module]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "MAX_POOL_2D": _max_pool,
    "ADD": lambda reader, operator: ops.Add(operator.activation),
    "PRELU": _prelu,
    "FULLY_CONNECTED": _linear,
    "LOGISTIC": lambda reader, operator: ops.Logistic(),
    "MEAN": _mean,
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    "RESHAPE": lambda reader, operator: ops.Reshape(reader.shape(operator.output)[1:]),
    "CONCATENATION": _concatenation,
}
MANY_INPUTS = ("ADD", "CONCATENATION")
"""Operators whose inputs are all computed; of the others only the first is."""
