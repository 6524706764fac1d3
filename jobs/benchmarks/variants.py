"""The ways to run the pipeline that are measured against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from handi_model.config import DType
from handi_model.pipeline import HandiPipeline

Optimisation = Literal[
    "bfloat16",
    "channels_last",
    "channels_last_3d",
    "compile_unet",
    "compile_decoder",
    "fewer_mask_steps",
]
LAYOUTS = {
    "channels_last": (4, torch.channels_last),
    "channels_last_3d": (5, torch.channels_last_3d),
}
"""Axes of the convolutions' weights, and how they lie in memory: of frames, and over time."""


@dataclass(frozen=True)
class Variant:
    """How one row runs the pipeline."""

    dtype: DType
    mask_steps: int
    clips: int
    speedups: frozenset[str] = field(default_factory=frozenset)
    """Of the pipeline in memory: what `speed_up` knows."""


def speed_up(pipe: HandiPipeline, name: str, compile_mode: str = "default") -> None:
    """Apply one of `Variant.speedups` to the pipeline in memory.

    The step must compile without a graph break, and for its very shapes: a batch of another size is
    compiled anew.
    """
    if name in LAYOUTS:
        axes, layout = LAYOUTS[name]
        for weight in [*pipe.unet.parameters(), *pipe.vae.parameters()]:
            if weight.ndim == axes:
                weight.data = weight.data.contiguous(memory_format=layout)
        return
    # A graph for each stage, batch size and memory layout of the latent.
    torch._dynamo.config.recompile_limit = 64
    module = pipe.unet if name == "compile_unet" else pipe.vae.decoder
    module.compile(fullgraph=True, dynamic=False, mode=compile_mode)
