"""What a worker trains with: read and built once, before its first step."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler
from ray import train
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device, prepare_model

from handi_model.device import DTYPES
from handi_model.fingerprint import encoders_fingerprint
from handi_model.hands import HandDetector
from handi_model.optimiser import Optimiser
from handi_model.pipeline import HandiPipeline
from handi_model.trainable import choose_trainable, trainable_parameters
from handi_model.trainer import DDP_OPTIONS, Trainer
from handi_model.training import Networks
from handi_model.training_state import TrainingState
from jobs.training.course import Course, validation_due
from jobs.training.meter import Meter
from jobs.training.records import Note, Reporter
from jobs.training.resuming import checkpoints_folder
from jobs.training.settings import TrainSettings
from jobs.validation import held_out
from pipelines.checkpoints import CheckpointWriter, latest_checkpoint
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.latents import LatentIndex, open_latents
from pipelines.models import open_pipeline
from pipelines.notices import take_notices
from pipelines.patience import patient
from pipelines.prior import read_prior
from pipelines.running.refusal import refusals
from pipelines.storage import fetch_folder
from pipelines.trained_on import TrainedOn, begun_from


@dataclass(frozen=True)
class Work:
    """Attributes:
    index: of the whole data set.
    training_clips, held_out: indices into it.
    latents: what is encoded already, or None; of rank 0, which deals the clips out.
    trained_before: the clips that the model had seen before this training.
    restored: the course as the newest checkpoint has it.
    meter: memory and arithmetic of the device.
    """

    settings: TrainSettings
    index: ClipIndex
    training_clips: list[int]
    held_out: list[int]
    latents: LatentIndex | None
    pipe: HandiPipeline
    trainer: Trainer
    checkpoints: CheckpointWriter
    trained_before: TrainedOn
    restored: Course
    meter: Meter
    rank: int
    workers: int

    @property
    def device(self) -> torch.device:
        return self.pipe.device

    def validates(self, done: int) -> bool:
        """Whether a validation follows after so many steps."""
        epoch_steps = self.settings.plan(len(self.training_clips)).steps
        every = self.settings.validation.every_epochs
        return bool(self.held_out) and validation_due(
            done, epoch_steps, self.settings.epochs, every
        )

    def save(self, course: Course, at_once: bool = False) -> None:
        """Begin to write a checkpoint; the training goes on meanwhile.

        Args:
            at_once: return when it is written.

        Raises:
            OutputRefused: if the storage refused this one or the one before.
        """
        if self.rank == 0:
            numbers: dict[str, Any] = {
                "course": asdict(course),
                "begun_with": self.settings.begun_with(),
            }
            numbers["data"] = self.index.fingerprint
            state = TrainingState.of(self.trainer.optimiser, numbers)
            with refusals():
                self.checkpoints.save(course.done, state.write, course.score)
                if at_once:
                    self.checkpoints.wait()


def set_up(settings: TrainSettings, reporter: Reporter) -> Work:
    """Open data and model, and go back to where the newest checkpoint is."""
    context = train.get_context()
    take_notices(lambda line: reporter.tell(Note(line)))  # nobody sees a worker's standard error
    device = get_device()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    index = patient(read_clip_index)(settings.data)
    training_clips, held = held_out(index.clip_ids, index.splits, settings.validation.held_out)
    pipe = patient(open_pipeline)(settings.model, settings.checkpoint, settings.resolution)
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(fps=index.fps(training_clips), uses_mask=settings.uses_mask)
    pipe.unet.set_prior(torch.from_numpy(patient(read_prior)(settings.data)))
    choose_trainable(pipe.unet, settings.trains, settings.lora_rank)
    latents = _cached(pipe, index, reporter) if context.get_world_rank() == 0 else None
    pipe.to(device)
    pipe.unet.train()
    if settings.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
    if settings.compile:
        pipe.unet.compile()
    detector = HandDetector.load(settings.hand_model).to(device)
    plan = settings.plan(len(training_clips))
    optimiser = Optimiser(
        trainable_parameters(pipe.unet), settings.optimiser, settings.epochs * plan.steps
    )
    restored = _restore(settings, optimiser, reporter)
    wrapped = prepare_model(
        pipe.unet,
        parallel_strategy_kwargs=DDP_OPTIONS,
    )
    networks = Networks.of(pipe, detector)
    trainer = Trainer(
        networks=replace(networks, unet=wrapped),
        unet=pipe.unet,
        optimiser=optimiser,
        losses=settings.losses,
        scheduler=DPMSolverMultistepScheduler.from_config(pipe.scheduler.config),
        mask_steps=settings.mask_steps,
        dtype=DTYPES[settings.dtype],
        workers=context.get_world_size(),
    )
    return Work(
        settings=settings,
        index=index,
        training_clips=training_clips,
        held_out=held,
        latents=latents,
        pipe=pipe,
        trainer=trainer,
        checkpoints=CheckpointWriter(checkpoints_folder(settings), settings.keep_last),
        trained_before=patient(begun_from)(settings.model, settings.checkpoint),
        restored=restored,
        meter=Meter(device, DTYPES[settings.dtype]),
        rank=context.get_world_rank(),
        workers=context.get_world_size(),
    )


def _cached(pipe: HandiPipeline, index: ClipIndex, reporter: Reporter) -> LatentIndex | None:
    """The latents of the pipeline's encoders, if they are all there."""
    latents = patient(open_latents)(index.data, encoders_fingerprint(pipe))
    missing = latents.missing(index)
    if not missing:
        reporter.tell(Note("latents and text embeddings are read from the cache"))
        return latents
    reporter.tell(
        Note(
            f"{missing} of {len(index.clip_ids)} clips are not encoded for this model: all are "
            "encoded on the fly, in each epoch anew; jobs/encode.py encodes them once"
        )
    )
    return None


def _restore(settings: TrainSettings, optimiser: Optimiser, reporter: Reporter) -> Course:
    # Rank 0 looks, so that all take the same one.
    looks = train.get_context().get_world_rank() == 0
    url = broadcast_from_rank_zero(latest_checkpoint(checkpoints_folder(settings)) if looks else "")
    if not url:
        return Course()
    with tempfile.TemporaryDirectory() as scratch:
        state = TrainingState.read(patient(fetch_folder)(url, Path(scratch)))
    state.restore(optimiser)
    reporter.tell(Note(f"goes on from {url}"))
    return Course(**state.numbers["course"])
