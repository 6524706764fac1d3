"""What the jobs that fit a model to a few clips have in common: their keys, and the fitting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from handi_model.batch import encode_clips
from handi_model.config import ModelConfig, Stage
from handi_model.create import new_pipeline
from handi_model.device import usable_device
from handi_model.fitting import FitSettings, fit
from handi_model.hands import HandDetector
from handi_model.hands.model_files import ModelFileError
from handi_model.pipeline import HandiPipeline
from handi_model.training import LossSettings, StepResult
from jobs.cli import stop
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.places import LocalPath, Url
from pipelines.storage import writable
from pipelines.training_clips import TrainingClips, read_training_clips


class LearningSettings(BaseModel):
    """Keys of a job that fits the `tiny` preset to clips."""

    model_config = ConfigDict(extra="forbid")

    data: Url = Field(description="URL of the output of jobs/preprocess.py.")
    output: Url = Field(description="URL of the folder to write.")
    clips: list[str] = Field([], description="Clip ids to learn; all of the data set by default.")
    resolution: int = Field(64, ge=16, description="Side of the frames, pixels.")
    num_inference_steps: int = Field(
        25, ge=1, le=1000, description="Denoising steps of each stage when generating."
    )
    fit: FitSettings = FitSettings()
    losses: LossSettings = LossSettings()
    hand_model: LocalPath | None = Field(None, description="Path of hand_landmarker.task.")
    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads; one a core by default.")


@dataclass(frozen=True)
class Bench:
    """What a fitting job works with.

    Attributes:
        index: of the data set.
        chosen: places of `clips` in it.
    """

    config: ModelConfig
    index: ClipIndex
    chosen: list[int]
    clips: TrainingClips
    detector: HandDetector
    device: torch.device


def prepare(settings: LearningSettings) -> Bench:
    """Read clips and detector, or end the process over a mistake in the keys, in one line.

    `settings.output` becomes the absolute URL of a folder that can be written.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        config = ModelConfig.of(
            "tiny",
            resolution=settings.resolution,
            num_inference_steps=settings.num_inference_steps,
        )
        clips = read_training_clips(settings.data, settings.clips, config.resolution)
        index = read_clip_index(settings.data)
        chosen = [index.clip_ids.index(clip_id) for clip_id in clips.clip_ids]
        config = config.model_copy(update={"fps": index.fps(chosen)})
        device = usable_device(settings.device)
        detector = HandDetector.load(settings.hand_model).to(device)
        settings.output = writable(settings.output)
    except (ModelFileError, ValueError) as error:
        stop(str(error))
    return Bench(config, index, chosen, clips, detector, device)


def learn(
    bench: Bench, fit_settings: FitSettings, losses: LossSettings, uses_mask: bool = True
) -> tuple[HandiPipeline, list[dict[str, float | str]]]:
    """Train a new model on clips: the pipeline, and the losses of every step.

    Args:
        uses_mask: see `HandiPipeline`.
    """
    torch.manual_seed(fit_settings.seed)
    pipe = new_pipeline(bench.config).to(bench.device)
    pipe.register_to_config(uses_mask=uses_mask)
    pipe.set_progress_bar_config(disable=True)
    clips = bench.clips
    encoded = encode_clips(
        pipe, clips.frames, clips.frame_masks, clips.joints, clips.detected, clips.narrations
    )
    log: list[dict[str, float | str]] = []
    with tqdm(total=fit_settings.steps, desc="fit", unit="step", mininterval=5) as bar:

        def on_step(step: int, stage: Stage, result: StepResult) -> None:
            values = {name: round(float(value), 5) for name, value in result.parts.items()}
            log.append({"stage": stage, **values})
            bar.update()
            bar.set_postfix({f"{stage} {name}": value for name, value in values.items()})

        fit(pipe, encoded, bench.detector, losses, fit_settings, on_step)
    return pipe, log
