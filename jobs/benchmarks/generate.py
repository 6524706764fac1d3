"""The generator: seconds a clip and memory, plain code first, then each optimisation's own gain.

All rows share one machine, one run, the weights, the seed and the scene. What makes the clip faster
is kept for the rows after it, so the last row kept is all that helped together.
"""

from __future__ import annotations

import copy
import gc
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.pipeline import HandiPipeline
from jobs.benchmarks.measuring import (
    DTYPES,
    DType,
    ceiling_tflops,
    checked_device,
    machine,
    peak_memory_gb,
    reset_peak_memory,
    timed,
)
from jobs.benchmarks.operations import count_operations
from jobs.benchmarks.plain import PlainClip, plain_clip

PROMPT = "open the drawer"
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


class Settings(BaseModel):
    """The generator's speed and memory, with random weights, beside plain code."""

    model_config = ConfigDict(extra="forbid")

    preset: Literal["tiny", "base"] = Field("tiny", description="Topology of the model.")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Torch device; a GPU where there is one."
    )
    dtype: DType | None = Field(
        None, description="Type of the plain row's weights; float16 on a GPU, else float32."
    )
    resolution: int | None = Field(
        None, ge=8, description="Side of a frame, pixels; the preset's own by default."
    )
    num_frames: int | None = Field(
        None, ge=2, description="Frames of a clip; the preset's own by default."
    )
    steps: int = Field(25, ge=1, description="Denoising steps of the clip.")
    mask_steps: int = Field(25, ge=1, description="Denoising steps of the motion area.")
    fewer_mask_steps: int = Field(8, ge=1, description="The same, of the row with fewer of them.")
    guidance_scale: float | None = Field(
        None, ge=1, description="Classifier-free guidance, 1 is none; the preset's own by default."
    )
    batch_sizes: list[PositiveInt] = Field(
        [1, 4], min_length=1, description="Clips a call: of all rows, then of a row each."
    )
    optimisations: list[Optimisation] = Field(
        list(get_args(Optimisation)),
        description="What to add one after another, in this order.",
    )
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = Field(
        "default", description="Mode of torch.compile."
    )
    repeats: int = Field(3, ge=1, description="Timed calls of a row; their median counts.")
    warm_up: int = Field(1, ge=0, description="Calls before the clock starts; they compile.")
    seed: int = Field(0, ge=0, description="Seed of weights, scene and noise.")
    threads: int | None = Field(None, ge=1, description="Threads of the processor.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


@dataclass(frozen=True)
class Variant:
    """How one row runs the pipeline."""

    dtype: DType
    mask_steps: int
    clips: int
    speedups: frozenset[str] = field(default_factory=frozenset)
    """Of the pipeline in memory: what `speed_up` knows."""


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every row.

    Raises:
        ValueError: if the device is not there, or the resolution does not fit the model.
    """
    device = checked_device(settings.device)
    diffusers.utils.logging.set_verbosity_error()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    config = ModelConfig.of(
        settings.preset,
        **{
            name: value
            for name in ("resolution", "num_frames", "guidance_scale")
            if (value := getattr(settings, name)) is not None
        },
        num_inference_steps=settings.steps,
    )
    torch.manual_seed(settings.seed)
    pipe = new_pipeline(config)
    wake(pipe)
    plain_dtype: DType = settings.dtype or ("float16" if device.type == "cuda" else "float32")
    bench = _Bench(settings, pipe, device, plain_dtype)
    bench.run()
    return {
        **machine(device),
        "settings": settings.model_dump(exclude={"result"}),
        "resolution": config.resolution,
        "num_frames": config.num_frames,
        "guidance_scale": config.guidance_scale,
        "ceiling_tflop_per_s": {name: _short(value) for name, value in bench.ceilings.items()},
        "ceiling_is": "the best of large matrix products in the row's type, in this run",
        "unet_call_tflop": {name: _short(v) for name, v in bench.operations.unet.items()},
        "decode_tflop": _short(bench.operations.decode),
        "encode_tflop": _short(bench.operations.encode),
        "memory_is": "tensors on the GPU" if device.type == "cuda" else "resident set",
        "differences_are": "of the frames, 0 to 1, from the plain row's",
        "area": _short(float(bench.plain[0].area.mean())),
        "rows": bench.rows,
    }


def wake(pipe: HandiPipeline) -> None:
    """Give random values to the network's weights that start at zero, and a prior.

    Image, area and frame index enter through such weights: with zeros two programs would agree
    whatever they do with them.
    """
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            if not weight.any():
                weight.normal_(std=0.02)
        pipe.unet.prior.uniform_()


def scene(side: int, seed: int) -> NDArray[np.uint8]:
    """(side, side, 3): a ramp of colours with speckles."""
    y, x = np.mgrid[:side, :side] / side
    ramp = np.stack([x, y, 1 - x], -1) * 200
    return (ramp + np.random.default_rng(seed).integers(0, 55, ramp.shape)).astype(np.uint8)


class _Bench:
    """The pipeline in its present state, and the rows measured so far."""

    def __init__(
        self, settings: Settings, pipe: HandiPipeline, device: torch.device, dtype: DType
    ) -> None:
        self.settings = settings
        self.original = pipe
        self.device = device
        self.frames = pipe.config.num_frames
        self.guidance = pipe.config.guidance_scale
        self.scene = scene(pipe.resolution, settings.seed)
        self.operations = count_operations(pipe, self.frames, pipe.resolution, pipe.resolution)
        self.ceilings: dict[str, float] = {}
        self.rows: list[dict[str, Any]] = []
        self.plain: list[PlainClip] = []
        self.variant = Variant(dtype, settings.mask_steps, settings.batch_sizes[0])
        self.threshold = 0.5
        self.pipe: HandiPipeline | None = None
        self.prepared = self.variant

    def run(self) -> None:
        """Measure the plain code, our pipeline, and what is added to it."""
        pipe = self.prepare(self.variant)
        # Half of the picture moves whatever the weights: an empty area would hide any difference.
        middle = np.median(self.plain_clips(pipe, 1)[0].soft_area)
        self.threshold = float(middle) if np.isfinite(middle) else 0.5
        self.row("plain code", self.variant, lambda: self.plain_clips(pipe, self.variant.clips))
        self.row("pipeline", self.variant, lambda: self.clips(pipe, self.variant))
        for name in self.settings.optimisations:
            if name == "bfloat16":
                added = replace(self.variant, dtype="bfloat16")
            elif name == "fewer_mask_steps":
                added = replace(self.variant, mask_steps=self.settings.fewer_mask_steps)
            else:
                added = replace(self.variant, speedups=self.variant.speedups | {name})
            self.add(f"+ {name.replace('_', ' ')}", added)
        for clips in self.settings.batch_sizes[1:]:
            self.add(f"+ {clips} clips a call", replace(self.variant, clips=clips))

    def add(self, name: str, variant: Variant) -> None:
        """Measure a row, and go on from it if it is faster than the best so far."""
        if variant == self.variant:
            return
        try:
            pipe = self.prepare(variant)
            self.row(name, variant, lambda: self.clips(pipe, variant))
        except RuntimeError as error:
            # Too little memory, or no compiler: the other rows are worth having all the same.
            self.rows.append({"what": name, "kept": False, "failed": str(error).splitlines()[0]})
            print(json.dumps(self.rows[-1]), file=sys.stderr, flush=True)
            self.pipe = None
            return
        if self.rows[-1]["kept"]:
            self.variant = variant

    def prepare(self, variant: Variant) -> HandiPipeline:
        """The pipeline on its device, in this variant's type and with its speedups."""
        present = self.prepared.speedups if self.pipe else frozenset()
        if (
            self.pipe is None
            or self.prepared.dtype != variant.dtype
            or not present <= variant.speedups
        ):
            self.pipe, present = None, frozenset()
            torch._dynamo.reset()
            gc.collect()
            self.pipe = copy.deepcopy(self.original).to(self.device, DTYPES[variant.dtype])
            self.pipe.set_progress_bar_config(disable=True)
        for name in sorted(variant.speedups - present):
            speed_up(self.pipe, name, self.settings.compile_mode)
        self.prepared = variant
        return self.pipe

    def row(self, name: str, variant: Variant, call: Callable[[], list[PlainClip]]) -> None:
        reset_peak_memory(self.device)
        settings = self.settings
        first, _ = timed(call, self.device, 1, 0) if settings.warm_up else ([None], None)
        seconds, clips = timed(call, self.device, settings.repeats, max(settings.warm_up - 1, 0))
        memory = peak_memory_gb(self.device)
        self.plain = self.plain or clips
        a_clip = statistics.median(seconds) / len(clips)
        tflop = self.operations.of_clip(
            variant.mask_steps, settings.steps, self.guidance > 1, self.original.config.residual
        )
        ceiling = self.ceiling(variant.dtype)
        # What a row builds on: the plain code, then the fastest pipeline so far.
        times = [row["seconds_a_clip"] for row in self.rows if row["kept"]]
        before = min(times[1:] or times, default=None)
        self.rows.append(
            {
                "what": name,
                "dtype": variant.dtype,
                "clips_a_call": variant.clips if name != "plain code" else 1,
                "steps": f"{variant.mask_steps} + {settings.steps}",
                "seconds_a_clip": _short(a_clip),
                "spread_s": _short((max(seconds) - min(seconds)) / len(clips)),
                "gain": _short(before / a_clip) if before else None,
                "kept": before is None or len(times) == 1 or a_clip < before,
                "times_plain": _short(times[0] / a_clip) if times else 1.0,
                "first_call_s": _short(first[0]),
                "peak_memory_gb": _short(memory),
                "tflop_a_clip": _short(tflop),
                "share_of_ceiling": _short(tflop / a_clip / ceiling),
                "same_arithmetic": variant.dtype == self.rows[0]["dtype"]
                and variant.mask_steps == settings.mask_steps
                if self.rows
                else True,
                **differences(self.plain, clips),
            }
        )
        # At once, so that a run that is cut off has not been for nothing.
        print(json.dumps(self.rows[-1]), file=sys.stderr, flush=True)

    def ceiling(self, dtype: DType) -> float:
        if dtype not in self.ceilings:
            self.ceilings[dtype] = ceiling_tflops(self.device, DTYPES[dtype])
        return self.ceilings[dtype]

    def generators(self, clips: int) -> list[torch.Generator]:
        """One for each clip, so that a clip does not depend on how many there are."""
        return [torch.Generator().manual_seed(self.settings.seed + at) for at in range(clips)]

    def plain_clips(self, pipe: HandiPipeline, clips: int) -> list[PlainClip]:
        return [
            plain_clip(
                pipe,
                self.scene,
                PROMPT,
                self.frames,
                self.settings.steps,
                self.settings.mask_steps,
                self.guidance,
                self.threshold,
                generator,
            )
            for generator in self.generators(clips)
        ]

    def clips(self, pipe: HandiPipeline, variant: Variant) -> list[PlainClip]:
        out = pipe(
            self.scene,
            [PROMPT] * variant.clips,
            num_frames=self.frames,
            generator=self.generators(variant.clips),
            num_inference_steps=self.settings.steps,
            mask_steps=variant.mask_steps,
            guidance_scale=self.guidance,
            mask_threshold=self.threshold,
        )
        return [PlainClip(*one, one[1]) for one in zip(out.frames, out.masks, strict=True)]


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


def differences(expected: list[PlainClip], given: list[PlainClip]) -> dict[str, float]:
    """How far clips are from the plain ones of the same seed, as far as there are both."""
    pairs = list(zip(given, expected, strict=False))
    apart = np.stack([np.abs(one.frames - other.frames) for one, other in pairs])
    changed = np.stack([one.area != other.area for one, other in pairs])
    return {
        "max_difference": _short(float(apart.max())),
        "mean_difference": _short(float(apart.mean())),
        "area_changed": _short(float(changed.mean())),
    }


def _short(value: Any) -> Any:
    """Four significant digits; None for what is no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")
