"""What the benchmark of a training step runs: the clips that ship, and a trainer on them."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Literal

import av
import diffusers
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from handi_model.batch import Batch, encode_clips
from handi_model.config import ModelConfig, Stage
from handi_model.create import new_pipeline
from handi_model.device import DTYPES, peak_memory_gb, reset_peak_memory
from handi_model.hands import HandDetector
from handi_model.masks import frequency_prior, hand_hull_mask, union_mask
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.pipeline import HandiPipeline
from handi_model.trainer import DDP_OPTIONS, Trainer, pass_seed
from handi_model.training import LossSettings, Networks
from jobs.benchmarks.measuring import timed
from pipelines.frames import Fit
from pipelines.rendered import CLIPS, true_joints


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


def model_config(settings: Settings) -> ModelConfig:
    """The preset, with the frames asked for.

    Raises:
        ValueError: if they do not fit the model.
    """
    asked = {name: getattr(settings, name) for name in ("resolution", "num_frames")}
    changes = {name: value for name, value in asked.items() if value is not None}
    return ModelConfig.of(settings.preset, **changes)


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
            wrapped = DistributedDataParallel(pipe.unet, **DDP_OPTIONS)
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
