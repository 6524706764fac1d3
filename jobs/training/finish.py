"""What a finished training leaves: the model, and a result that says how it went."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handi_model.damage import parse_json
from handi_model.trainable import merge_adapters
from jobs.fit_report import as_json
from jobs.training.course import Course
from jobs.training.settings import TrainSettings
from jobs.training.work import Work
from pipelines.patience import patient
from pipelines.storage import exists, join, put_folder, read_bytes, remove, write_bytes
from pipelines.trained_on import TrainedOn

RESULT_FILE = "result.json"
"""Written last: it says that the model is whole."""


def model_url(settings: TrainSettings) -> str:
    return join(settings.output, "model")


def save_model(work: Work) -> None:
    """Write the pipeline with averaged weights and merged adapters: the training ends with it."""
    optimiser = work.trainer.optimiser
    optimiser.average.copy_to(list(optimiser.parameters.values()))
    unet = merge_adapters(work.pipe.unet)
    unet.eval()
    work.pipe.register_modules(unet=unet)
    with tempfile.TemporaryDirectory() as scratch:
        work.pipe.save_pretrained(scratch)
        trained_on(work).write(Path(scratch))
        patient(_replace)(Path(scratch), work.settings)


def trained_on(work: Work) -> TrainedOn:
    """The clips of this training, and of those that its model had before."""
    return work.trained_before.and_clips(work.index, work.training_clips)


def _replace(local: Path, settings: TrainSettings) -> None:
    remove(join(settings.output, RESULT_FILE))
    remove(model_url(settings))
    put_folder(local, model_url(settings))


def write_result(work: Work, course: Course) -> None:
    settings = work.settings
    result = {
        "epochs": settings.epochs,
        "clips": len(work.training_clips),
        "held_out": [work.index.clip_ids[i] for i in work.held_out],
        "data": work.index.fingerprint,
        "fps": work.pipe.config.fps,
        **asdict(course),
        "settings": settings.model_dump(),
    }
    patient(write_bytes)(join(settings.output, RESULT_FILE), as_json(result))


def finished(settings: TrainSettings) -> dict[str, Any] | None:
    """The result of a training that has come to the end of these settings' epochs."""
    url = join(settings.output, RESULT_FILE)
    if not exists(url):
        return None
    result: dict[str, Any] = parse_json(url, read_bytes(url), "delete it: the training goes on")
    return result if result["epochs"] == settings.epochs else None
