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
from dataclasses import replace
from typing import Any, Literal, get_args

import diffusers
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from handi_model.config import DType, ModelConfig
from handi_model.create import new_pipeline
from handi_model.device import DTYPES, peak_memory_gb, reset_peak_memory, usable_device
from handi_model.pipeline import HandiPipeline
from jobs.benchmarks.measuring import ceiling_tflops, machine, short, timed
from jobs.benchmarks.operations import count_operations
from jobs.benchmarks.plain import PlainClip, differences, plain_clip, scene, wake
from jobs.benchmarks.variants import Optimisation, Variant, speed_up

PROMPT = "open the drawer"


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


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every row.

    Raises:
        ValueError: if the device is not there, or the resolution does not fit the model.
    """
    device = usable_device(settings.device)
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
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.eval()
    plain_dtype: DType = settings.dtype or ("float16" if device.type == "cuda" else "float32")
    bench = _Bench(settings, pipe, device, plain_dtype)
    bench.run()
    return {
        **machine(device),
        "settings": settings.model_dump(exclude={"result"}),
        "resolution": config.resolution,
        "num_frames": config.num_frames,
        "guidance_scale": config.guidance_scale,
        "ceiling_tflop_per_s": {name: short(value) for name, value in bench.ceilings.items()},
        "ceiling_is": "the best of large matrix products in the row's type, in this run",
        "unet_call_tflop": {name: short(v) for name, v in bench.operations.unet.items()},
        "decode_tflop": short(bench.operations.decode),
        "encode_tflop": short(bench.operations.encode),
        "memory_is": "tensors on the GPU"
        if device.type == "cuda"
        else "resident set, with a second copy of the weights",
        "differences_are": "of the frames, 0 to 1, from the plain row's",
        "area": short(float(bench.plain[0].area.mean())),
        "rows": bench.rows,
    }


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
        self.begin()
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

    def begin(self) -> None:
        """Measure the plain code and our pipeline as it is."""
        pipe = self.prepare(self.variant)
        # Half of the picture moves whatever the weights: an empty area would hide any difference.
        middle = np.median(self.plain_clips(pipe, 1)[0].soft_area)
        self.threshold = float(middle) if np.isfinite(middle) else 0.5
        self.row("plain code", self.variant, lambda: self.plain_clips(pipe, self.variant.clips))
        self.row("pipeline", self.variant, lambda: self.clips(pipe, self.variant))

    def add(self, name: str, variant: Variant) -> None:
        """Measure a row, and go on from it if it is faster than the best so far."""
        if variant == self.variant:
            return
        try:
            pipe = self.prepare(variant)
            self.row(name, variant, lambda: self.clips(pipe, variant))
        except RuntimeError as error:
            # Too little memory, or no compiler: the other rows are worth having all the same.
            message = (str(error) or type(error).__name__).splitlines()[0]
            self.rows.append({"what": name, "kept": False, "failed": message})
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
                "seconds_a_clip": short(a_clip),
                "spread_s": short((max(seconds) - min(seconds)) / len(clips)),
                "gain": short(before / a_clip) if before else None,
                "kept": before is None or len(times) == 1 or a_clip < before,
                "times_plain": short(times[0] / a_clip) if times else 1.0,
                "first_call_s": short(first[0]),
                "peak_memory_gb": short(memory),
                "tflop_a_clip": short(tflop),
                "share_of_ceiling": short(tflop / a_clip / ceiling),
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
