"""A training's mistakes that can be known before any worker starts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import ray

from handi_model.hands.model_files import hand_landmarker_task
from jobs.training.resuming import Resumed, resume
from jobs.training.settings import TrainSettings
from jobs.training.shape import model_shape
from jobs.validation import held_out
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.notices import notice
from pipelines.prior import is_of_all_splits, read_prior
from pipelines.storage import writable


@dataclass(frozen=True)
class Checked:
    """What the driver knows before it starts workers.

    Attributes:
        steps: of the whole training.
        resumed: what the output holds already, once it was looked at.
    """

    index: ClipIndex
    training_clips: int
    held_out: int
    steps: int
    resumed: Resumed = field(default_factory=Resumed)


def check(settings: TrainSettings) -> Checked:
    """Read what is small; URLs and paths become absolute, and sizes the model's.

    Raises:
        ValueError: over a mistake in the keys, or in what they name, in one line.
    """
    shape = model_shape(settings.model, settings.checkpoint, settings.resolution)
    settings.model, settings.resolution = shape.model, shape.resolution
    settings.num_frames = settings.num_frames or shape.num_frames
    index = read_clip_index(settings.data)
    if (index.height, index.width) != (settings.resolution, settings.resolution):
        raise ValueError(
            f"data: {settings.data} has frames of {index.width}x{index.height} pixels, and the "
            f"model's are {settings.resolution}x{settings.resolution}; preprocess with "
            f"--resolution {settings.resolution}, or give --resolution"
        )
    if index.num_frames != settings.num_frames:
        raise ValueError(
            f"data: clips of {settings.data} have {index.num_frames} frames, and num_frames is "
            f"{settings.num_frames}; preprocess with --frames {settings.num_frames}, or give "
            f"--num-frames {index.num_frames}"
        )
    training, held = held_out(index.clip_ids, index.splits, settings.validation.held_out)
    try:
        read_prior(settings.data)
    except FileNotFoundError:
        raise ValueError(
            f"data: {settings.data} has no prior.npy: its preprocessing has not come to its end; "
            "run jobs/preprocess.py again"
        ) from None
    if is_of_all_splits(settings.data, index.splits):
        notice(
            f"warning: data: the prior of {settings.data} may be the mean over all splits, as an "
            "earlier version made it; delete its summary.json and run jobs/preprocess.py again: it "
            "makes the prior of the training split"
        )
    hand_landmarker_task(settings.hand_model)
    settings.output = writable(settings.output)
    steps = settings.epochs * settings.plan(len(training)).steps
    return Checked(index, len(training), len(held), steps)


def look_at_output(settings: TrainSettings, checked: Checked) -> Checked:
    """The same, with what the output holds; see `resume`."""
    return replace(checked, resumed=resume(settings, checked.index, checked.steps))


def check_cluster(settings: TrainSettings) -> None:
    """Choose the device, and see that the workers can be placed. Ray must be running.

    Raises:
        ValueError: if the cluster has too little, in one line.
    """
    has = ray.cluster_resources()
    gpus, cpus = int(has.get("GPU", 0)), has.get("CPU", 0.0)
    if settings.device is None:
        settings.device = "cuda" if gpus else "cpu"
    if settings.device == "cuda" and gpus < settings.num_workers:
        raise ValueError(
            f"device: cuda needs a GPU for each of the {settings.num_workers} workers, and the "
            f"cluster has {gpus or 'none'}; give --device cpu, or fewer --num-workers"
        )
    wanted = settings.num_workers * settings.cpus_per_worker
    if wanted >= cpus:
        raise ValueError(
            f"cpus_per_worker: {settings.num_workers} workers of {settings.cpus_per_worker:g} CPUs "
            f"leave none of the cluster's {cpus:g} to read clips; give "
            f"--cpus-per-worker {cpus / (settings.num_workers + 1):.1g} or less"
        )
