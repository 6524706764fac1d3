"""Optimisation steps of both stages: clips a second, each economy beside doing without it.

Rows of a stage take the same clips, timesteps and noise. Then the same step on more workers.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import av
import diffusers
import numpy as np
import torch
import torch.distributed as dist
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch.multiprocessing.spawn import ProcessException, spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from handi_model.batch import Batch, encode_clips
from handi_model.config import STAGES, ModelConfig, Stage
from handi_model.create import new_pipeline
from handi_model.hands import HandDetector
from handi_model.hands.model_files import ModelFileError, hand_landmarker_task
from handi_model.masks import frequency_prior, hand_hull_mask, union_mask
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.pipeline import HandiPipeline
from handi_model.trainer import Trainer, pass_seed
from handi_model.training import LossSettings, Networks
from jobs.benchmarks.measuring import (
    ceiling_tflops,
    machine,
    peak_memory_gb,
    reset_peak_memory,
    short,
    timed,
)
from jobs.device import DTYPES, usable_device
from pipelines.frames import Fit
from pipelines.rendered import CLIPS, true_joints

ECONOMICAL = "cached latents, economical decode"
"""The row that the others are compared with, and that is taken on more workers."""


class Settings(BaseModel):
    """The training step's speed and memory, with random weights, on the clips that ship."""

    model_config = ConfigDict(extra="forbid")

    preset: Literal["tiny", "base"] = Field("tiny", description="Topology of the model.")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Torch device; a GPU where there is one."
    )
    dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="What the network computes in (autocast); bfloat16 on a GPU, else float32.",
    )
    resolution: int | None = Field(
        None, ge=16, description="Side of a frame, pixels; the preset's own by default."
    )
    num_frames: int | None = Field(
        None, ge=2, description="Frames of a clip; the preset's own by default."
    )
    clips_per_pass: int = Field(4, ge=1, description="Clips of a step, on each worker.")
    decoded_frames: int = Field(
        4, ge=1, description="Frames of a clip that the economical decode decodes."
    )
    window_margin: int = Field(
        4, ge=0, description="Latent cells that the economical decode decodes around a hand."
    )
    presence_threshold: float = Field(
        0.0, ge=0, le=1, description="As in train; 0 counts all that random weights paint."
    )
    hand_timesteps: float = Field(
        1.0, ge=0, le=1, description="As in train; 1 decodes every clip, the dearest case."
    )
    mask_steps: int = Field(4, ge=1, description="Denoising steps of a generated mask.")
    gradient_checkpointing: bool = Field(
        False, description="Compute layers anew in the backward pass, to save memory."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    workers: list[PositiveInt] = Field(
        [1, 2], description="Processes that share a step; on a processor each has one thread."
    )
    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    repeats: int = Field(3, ge=1, description="Timed steps of a row; their median counts.")
    warm_up: int = Field(
        1, ge=1, description="Steps before the clock starts; they compile, and show the memory."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, timesteps and noise.")
    threads: int | None = Field(
        None, ge=1, description="Threads of the processor, of the rows without other workers."
    )
    result: str | None = Field(None, description="JSON file to write the figures to.")


@dataclass(frozen=True)
class Variant:
    """How one row takes its steps.

    Attributes:
        cached: whether the clips come as latents, or are encoded in the step.
        share: of the clips whose motion area stage 1 generates in the step.
    """

    what: str
    stage: Stage
    losses: LossSettings
    cached: bool = True
    share: float = 0.0


@dataclass
class Measured:
    """What came of a variant's steps.

    Attributes:
        seconds: of each timed step.
        cpu_seconds: likewise, what the process computed on the processor, all threads together.
        memory: the most that a step took, GB.
        tflop: operations of a step, forward and back, with what checkpointing computes anew.
        failed: why there are no more steps.
    """

    variant: Variant
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    tflop: float | None = None
    failed: str = ""

    def forget(self) -> None:
        """Leave out the steps so far."""
        self.seconds.clear()
        self.cpu_seconds.clear()

    @property
    def median(self) -> float:
        """Seconds of a step; 0 where none was timed."""
        return statistics.median(self.seconds) if self.seconds and not self.failed else 0.0


def variants(settings: Settings, stage: Stage) -> list[Variant]:
    """A stage's rows, `ECONOMICAL` first."""
    losses = LossSettings(
        decoded_frames=settings.decoded_frames,
        window_margin=settings.window_margin,
        presence_threshold=settings.presence_threshold,
        hand_timesteps=settings.hand_timesteps,
    )
    whole = losses.model_copy(update={"decoded_frames": None, "window_margin": None})
    rows = [
        Variant(ECONOMICAL, stage, losses),
        Variant("cached latents, full decode", stage, whole),
        Variant("encoded in the step, economical decode", stage, losses, cached=False),
        Variant("encoded in the step, full decode", stage, whole, cached=False),
    ]
    if stage == "mask":
        without = losses.model_copy(update={"alpha": 0.0})
        return [*rows, Variant("cached latents, no L_mIoU", stage, without)]
    without = losses.model_copy(update={"eta": 0.0})
    return [
        *rows,
        Variant("cached latents, no L_HR", stage, without),
        Variant(f"{ECONOMICAL}, generated masks", stage, losses, share=1.0),
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every row.

    Raises:
        ValueError: if device or hand model are not there, or the resolution does not fit the model.
    """
    device = usable_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    on_gpu = device.type == "cuda"
    try:
        task = str(hand_landmarker_task(settings.hand_model))
    except ModelFileError as error:
        raise ValueError(f"hand_model: {error}") from None
    settings = settings.model_copy(
        update={
            "hand_model": task,
            "dtype": settings.dtype or ("bfloat16" if on_gpu else "float32"),
        }
    )
    config = model_config(settings)
    rows, ceiling = stage_rows(settings, device)
    rows += scaling_rows(settings, device)
    return {
        **machine(device),
        "settings": settings.model_dump(exclude={"result"}),
        "resolution": config.resolution,
        "num_frames": config.num_frames,
        "ceiling_tflop_per_s": short(ceiling),
        "memory_is": "tensors on the GPU" if on_gpu else "resident set of one worker's process",
        "cpu_s_is": "of one worker's process: what others do on the machine hardly shows in it",
        "steps_are": "passes forward and back of clips_per_pass clips a worker, and the "
        "optimiser's step; without reading the clips",
        "rows": rows,
    }


def model_config(settings: Settings) -> ModelConfig:
    """The preset, with the frames asked for.

    Raises:
        ValueError: if they do not fit the model.
    """
    asked = {name: getattr(settings, name) for name in ("resolution", "num_frames")}
    changes = {name: value for name, value in asked.items() if value is not None}
    return ModelConfig.of(settings.preset, **changes)


def stage_rows(
    settings: Settings, device: torch.device
) -> tuple[list[dict[str, Any]], float | None]:
    """All variants of both stages on one worker, and a GPU's ceiling, TFLOP/s."""
    bench = Bench.of(settings, device)
    ceiling = ceiling_tflops(device, bench.trainer.dtype) if device.type == "cuda" else None
    clips = settings.clips_per_pass
    rows: list[dict[str, Any]] = []
    for stage in STAGES:
        measured = [Measured(variant) for variant in variants(settings, stage)]
        for one in measured:
            bench.warm_up(one, ceiling is not None)
        # In turns, so that what else the machine does is in every row.
        for number in range(settings.repeats):
            for one in measured:
                bench.take(one, number)
        economical = measured[0].median
        for one in measured:
            row = {"what": one.variant.what, "stage": stage, "workers": 1}
            if one.median:
                row |= speed(clips, one) | {
                    "times_economical": short(economical / one.median) if economical else None
                }
            if one.median and one.tflop and ceiling:
                row["tflop_a_clip"] = short(one.tflop / clips)
                row["share_of_ceiling"] = short(one.tflop / one.median / ceiling)
            if one.failed:
                row["failed"] = one.failed
            rows.append(row)
    return rows, ceiling


def scaling_rows(settings: Settings, device: torch.device) -> list[dict[str, Any]]:
    """The economical step of both stages on several workers, all processes of this machine.

    On a processor each worker has one thread: a single one with more would take the cores of the
    others, and the comparison would show threads, not workers.
    """
    gc.collect()
    reset_peak_memory(device)  # gives the GPU's memory back to the workers
    rows: list[dict[str, Any]] = []
    alone: dict[Stage, float] = {}
    for workers in settings.workers:
        for stage, found in on_workers(settings, device.type, workers).items():
            row = {"what": f"scaling: {ECONOMICAL}", "stage": stage, "workers": workers}
            if found.median:
                if workers == 1:
                    alone[stage] = found.median
                times = workers * alone[stage] / found.median if stage in alone else None
                row |= speed(settings.clips_per_pass * workers, found)
                row["times_one_worker"] = short(times)
            if found.failed:
                row["failed"] = found.failed
            rows.append(row)
    return rows


def on_workers(settings: Settings, device: str, workers: int) -> dict[Stage, Measured]:
    """The economical step of both stages, as the first worker sees it, or why it cannot be."""
    economical = {stage: variants(settings, stage)[0] for stage in STAGES}
    if device == "cuda" and torch.cuda.device_count() < workers:
        why = f"{workers} workers need a GPU each, found {torch.cuda.device_count()}"
        return {stage: Measured(one, failed=why) for stage, one in economical.items()}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            spawn(work, (settings, device, workers, Path(scratch)), nprocs=workers)
        except ProcessException as error:
            why = str(error).strip().splitlines()[-1]
            return {stage: Measured(one, failed=why) for stage, one in economical.items()}
        found = json.loads((Path(scratch) / "found.json").read_text())
    return {stage: Measured(one, **found[stage]) for stage, one in economical.items()}


def work(rank: int, settings: Settings, device: str, workers: int, scratch: Path) -> None:
    """One worker's process: the first one writes `found.json`.

    Raises:
        RuntimeError: if a step fails, which ends the other workers too.
    """
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{scratch}/rendezvous",
        rank=rank,
        world_size=workers,
    )
    bench = Bench.of(settings, place, rank, workers)
    found = {}
    for stage in STAGES:
        measured = Measured(variants(settings, stage)[0])
        bench.warm_up(measured)
        for number in range(settings.repeats):
            bench.take(measured, number)
        if measured.failed:
            raise RuntimeError(measured.failed)
        found[stage] = {
            "seconds": measured.seconds,
            "cpu_seconds": measured.cpu_seconds,
            "memory": measured.memory,
        }
    if rank == 0:
        (scratch / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def speed(clips: int, measured: Measured) -> dict[str, Any]:
    """The figures of steps that take so many clips, over all workers."""
    return {
        "clips_a_second": short(clips / measured.median),
        "seconds_a_step": short(measured.median),
        "spread_s": short(max(measured.seconds) - min(measured.seconds)),
        "cpu_s_a_step": short(statistics.median(measured.cpu_seconds)),
        "peak_memory_gb": short(measured.memory),
    }


Clips = tuple[
    NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], list[str]
]
"""What `encode_clips` takes: frames, frame masks, joints, detected hands, narrations."""


def rendered_clips(number: int, first: int, length: int, resolution: int) -> Clips:
    """Clips that ship, from the first-th on and over again, with the true joints and their hulls.

    Args:
        length: frames of a clip, evenly spread over the video.
        resolution: side of the square cut from the middle, pixels.
    """
    everywhere = true_joints()
    stems = list(islice(cycle(sorted(everywhere)), first, first + number))
    clips = [_rendered_clip(stem, everywhere[stem], length, resolution) for stem in stems]
    frames, masks, joints, detected = (np.stack(parts) for parts in zip(*clips, strict=True))
    narrations = [stem.rsplit("_", 1)[0].replace("_", " ") for stem in stems]
    return frames, masks, joints, detected, narrations


def _rendered_clip(
    stem: str, joints: NDArray[np.float32], length: int, resolution: int
) -> tuple[NDArray[Any], ...]:
    chosen = np.linspace(0, len(joints) - 1, length).round().astype(int)
    with av.open(str(CLIPS / f"{stem}.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    height, width = pictures[0].shape[:2]
    fit = Fit.of(height, width, resolution, "crop")
    frames = np.stack([fit.image(pictures[at]) for at in chosen])
    placed = fit.joints(joints[chosen])
    # A hand counts where most of it is in the picture; one that is not in the scene is NaN.
    inside = ((placed >= 0) & (placed <= 1)).all(-1).reshape(length, 2, 21)
    detected = inside.mean(-1) > 0.5
    visible = detected.repeat(21, axis=1)
    size = (resolution, resolution)
    masks = [hand_hull_mask(*hands, *size) for hands in zip(placed, visible, strict=True)]
    return frames, np.stack(masks), np.nan_to_num(placed), detected


@dataclass(frozen=True)
class Bench:
    """What a worker takes steps with.

    Attributes:
        cached: the clips encoded, on the CPU as a cache gives them.
        rank: of the worker, from 0.
    """

    pipe: HandiPipeline
    trainer: Trainer
    clips: Clips
    cached: Batch
    settings: Settings
    rank: int

    @classmethod
    def of(cls, settings: Settings, device: torch.device, rank: int = 0, workers: int = 1) -> Bench:
        """Build as a training does; several workers must have joined a process group."""
        diffusers.utils.logging.set_verbosity_error()
        torch.manual_seed(settings.seed)
        config = model_config(settings)
        pipe = new_pipeline(config)
        pipe.set_progress_bar_config(disable=True)
        size = settings.clips_per_pass
        clips = rendered_clips(size, rank * size, config.num_frames, config.resolution)
        prior = frequency_prior(union_mask(masks) for masks in clips[1])
        pipe.unet.set_prior(torch.from_numpy(prior))
        pipe.to(device)
        pipe.unet.train()
        if settings.gradient_checkpointing:
            pipe.unet.enable_gradient_checkpointing()
        if settings.compile:
            pipe.unet.compile()
        networks = Networks.of(pipe, HandDetector.load(settings.hand_model).to(device))
        if workers > 1:
            wrapped = DistributedDataParallel(
                pipe.unet,
                find_unused_parameters=True,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
            networks = replace(networks, unet=wrapped)
        learning = OptimiserSettings()
        trainer = Trainer(
            networks=networks,
            unet=pipe.unet,
            # No row gets past the warm-up: the weights hardly move.
            optimiser=Optimiser(
                dict(pipe.unet.named_parameters()), learning, 2 * learning.warmup_steps
            ),
            losses=LossSettings(),
            scheduler=DPMSolverMultistepScheduler.from_config(pipe.scheduler.config),
            mask_steps=settings.mask_steps,
            dtype=DTYPES[settings.dtype or "float32"],
            workers=workers,
        )
        return cls(pipe, trainer, clips, encode_clips(pipe, *clips).to("cpu"), settings, rank)

    def warm_up(self, measured: Measured, operations: bool = False) -> None:
        """Take a row's steps before the clock starts, and see what memory they need.

        Args:
            operations: whether to count those of one step.
        """
        device = self.pipe.device
        reset_peak_memory(device)
        for number in range(self.settings.warm_up):
            self.take(measured, number)
        measured.forget()
        measured.memory = peak_memory_gb(device)
        if operations:
            with FlopCounterMode(display=False) as counter:
                self.take(measured, 0)
            measured.forget()
            measured.tflop = float(counter.get_total_flops()) / 1e12

    def take(self, measured: Measured, number: int) -> None:
        """Take and time a row's step of this number, or note why it fails."""
        if measured.failed:
            return
        before = time.process_time()
        try:
            seconds, skipped = timed(
                lambda: self.step(measured.variant, number), self.pipe.device, 1, 0
            )
        except RuntimeError as error:
            # Too little memory: the other rows are worth having all the same.
            measured.failed = (str(error) or type(error).__name__).splitlines()[0]
            self.trainer.optimiser.adamw.zero_grad()
            return
        measured.seconds += seconds
        measured.cpu_seconds.append(time.process_time() - before)
        if skipped:
            measured.failed = "the gradient is not finite"
        print(
            f"{measured.variant.stage}, {measured.variant.what}: {seconds[0]:.4g} s",
            file=sys.stderr,
            flush=True,
        )

    def step(self, variant: Variant, number: int) -> bool:
        """Take a step; True where its gradient was not finite, so that no weight moved."""
        batch = self.cached if variant.cached else encode_clips(self.pipe, *self.clips)
        trainer = replace(self.trainer, losses=variant.losses)
        seed = pass_seed(self.settings.seed, number, self.rank)
        trainer.backward(batch.to(self.pipe.device), variant.stage, seed, variant.share)
        return trainer.step().skipped
