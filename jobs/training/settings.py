"""The keys of a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handi_model.config import Stage
from handi_model.epochs import EpochPlan
from handi_model.optimiser import OptimiserSettings
from handi_model.trainable import Trains
from handi_model.training import LossSettings
from jobs.validation import ValidationSettings
from pipelines.places import LocalPath, ModelPlace, Url


class TrainSettings(BaseModel):
    """Keys of jobs/train.py."""

    model_config = ConfigDict(extra="forbid")

    data: Url = Field(description="URL of the output of jobs/preprocess.py.")
    output: Url = Field(description="URL of the folder of this training; it resumes what is there.")
    model: ModelPlace = Field(
        "tiny", description="What to start from: a preset (tiny, base), or a saved pipeline's URL."
    )
    checkpoint: ModelPlace | None = Field(
        None, description="Text-to-video checkpoint that `base` starts from: a folder or a hub id."
    )
    resolution: int | None = Field(
        None, ge=16, description="Side of the frames, pixels; the model's own by default."
    )
    num_frames: int | None = Field(
        None, ge=2, description="Frames of a clip; the model's own by default."
    )
    trains: Trains = Field(
        "all",
        description="Which weights: all, attention (and temporal layers, as published) or lora.",
    )
    lora_rank: int = Field(16, ge=1, description="Rank of the adapters where lora trains.")

    epochs: int = Field(10, ge=1, description="Times through the data set, both stages together.")
    cycle: list[Stage] = Field(
        ["mask", "video"], min_length=1, description="Stages of successive epochs."
    )
    uses_mask: bool = Field(
        True,
        description="Train stage 2 under the motion mask; without it there is no stage 1 (cycle "
        "video alone), and the model's clips may change anywhere.",
    )
    repeats: int = Field(
        1, ge=1, description="Times that an epoch goes through the clips, for small data sets."
    )
    batch_size: int = Field(8, ge=1, description="Clips of an optimisation step, over all workers.")
    clips_per_pass: int = Field(
        4, ge=1, description="Clips a worker takes at a time; the rest of its share accumulates."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of order, noise, timesteps and choices.")
    optimiser: OptimiserSettings = OptimiserSettings()
    losses: LossSettings = LossSettings()
    ramp_start: float = Field(
        0.1, ge=0, le=1, description="Share of the training after which generated masks come in."
    )
    ramp_end: float = Field(
        0.5, ge=0, le=1, description="Share of the training after which all masks are generated."
    )
    mask_steps: int = Field(4, ge=1, description="Denoising steps of a generated mask.")
    max_skipped: int = Field(
        10, ge=1, description="Steps in a row without a finite gradient that end the training."
    )

    num_workers: int = Field(1, ge=1, description="Processes, one a GPU where there are any.")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="What the workers compute on; GPUs where the cluster has any."
    )
    placement: Literal["PACK", "SPREAD"] = Field(
        "PACK", description="Workers on as few nodes as will do, or spread over them."
    )
    cpus_per_worker: float = Field(1, gt=0, description="CPUs reserved for a worker.")
    threads: int | None = Field(None, ge=1, description="CPU threads of a worker; torch's default.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="What the network computes in (autocast); weights stay float32."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute layers anew in the backward pass, to save memory."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    prefetch: int = Field(2, ge=0, description="Passes that a worker holds ready.")

    validation: ValidationSettings = ValidationSettings()
    checkpoint_every: int = Field(500, ge=1, description="Steps between two checkpoints.")
    keep_last: int = Field(2, ge=1, description="Newest checkpoints kept, beside the best one.")
    max_failures: int = Field(
        10, ge=-1, description="Times that lost workers are replaced; -1 does not count."
    )
    grace_s: float = Field(
        20,
        ge=0,
        description="Seconds that an interrupted training takes at most for the step under way and "
        "a last checkpoint.",
    )
    log_every: int = Field(10, ge=1, description="Steps between two records of losses.")
    hand_model: LocalPath | None = Field(None, description="Path of hand_landmarker.task.")
    experiment: str = Field("handi-train", description="Experiment in MLflow.")
    registered_model: str | None = Field(
        "handi", description="Name in MLflow's registry; none registers nothing."
    )
    parent_run: str | None = Field(None, description="MLflow run that this one is nested in.")

    @model_validator(mode="after")
    def _divides(self) -> TrainSettings:
        if self.ramp_start > self.ramp_end:
            raise ValueError("ramp_start: generated masks cannot come in after ramp_end")
        if not self.uses_mask and "mask" in self.cycle:
            raise ValueError(
                "cycle: without the mask (uses_mask) there is no stage 'mask' to train; give "
                "cycle [video]"
            )
        self.plan(1).check_workers(self.num_workers)
        return self

    def plan(self, clips: int) -> EpochPlan:
        """How the training goes through so many clips."""
        return EpochPlan(clips, self.batch_size, self.clips_per_pass, self.repeats, self.seed)

    def begun_with(self) -> dict[str, Any]:
        """Every key, nested ones joined by dots, as a checkpoint keeps them: JSON's values."""
        return dict(_joined(self.model_dump(mode="json")))


def _joined(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _joined(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
