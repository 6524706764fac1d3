"""See whether the method learns: train both stages on a few clips, generate them, and measure.

python jobs/overfit.py --data out/sample64 --output out/overfit --clips '["lift_box_1"]'
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from handi_model.batch import encode_clips
from handi_model.config import ModelConfig, Stage
from handi_model.create import new_pipeline
from handi_model.fitting import FitSettings, fit
from handi_model.hands import HandDetector
from handi_model.hands.model_files import ModelFileError
from handi_model.pipeline import HandiPipeline
from handi_model.training import LossSettings, StepResult
from jobs.cli import load, stop
from jobs.device import usable_device
from jobs.fit_report import as_json, generate, mean_of, measure, picture
from jobs.tracking import track_run
from pipelines.clip_files import encode_png
from pipelines.storage import join, put_folder, writable, write_bytes
from pipelines.training_clips import DatasetError, TrainingClips, read_training_clips


class OverfitSettings(BaseModel):
    """Keys of the job."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(description="URL of the output of jobs/preprocess.py.")
    output: str = Field(description="URL of the folder to write.")
    clips: list[str] = Field([], description="Clip ids to learn; all of the data set by default.")
    resolution: int = Field(64, ge=16, description="Side of the frames, pixels.")
    num_inference_steps: int = Field(
        25, ge=1, le=1000, description="Denoising steps of each stage when generating."
    )
    fit: FitSettings = FitSettings()
    losses: LossSettings = LossSettings()
    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads; one a core by default.")


def main() -> None:
    settings = load(OverfitSettings, "overfit")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        config = ModelConfig.of(
            "tiny",
            resolution=settings.resolution,
            num_inference_steps=settings.num_inference_steps,
        )
        clips = read_training_clips(settings.data, settings.clips, config.resolution)
        device = usable_device(settings.device)
        detector = HandDetector.load(settings.hand_model).to(device)
        settings.output = writable(settings.output)
    except (DatasetError, ModelFileError, ValueError) as error:
        stop(str(error))
    pipe, log = learn(config, clips, detector, settings.fit, settings.losses, device)
    generated = generate(pipe, clips, settings.fit.seed)
    rows = measure(generated, clips, detector)
    with tempfile.TemporaryDirectory() as scratch:
        pipe.save_pretrained(scratch)
        put_folder(Path(scratch), join(settings.output, "model"))
    write_bytes(join(settings.output, "strip.png"), encode_png(picture(generated, clips)))
    mean = mean_of(rows)
    result = {
        "clips": {row.clip_id: row.numbers() for row in rows},
        "mean": mean,
        "settings": settings.model_dump(),
        "losses": log,
    }
    write_bytes(join(settings.output, "result.json"), as_json(result))
    for row in rows:
        print(
            f"{row.clip_id}: mask IoU {row.mask_iou:.2f}; inside the mask {row.psnr:.2f} dB, "
            f"first frame repeated {row.still_psnr:.2f} dB ({row.gain:+.2f}); outside of it "
            f"{'the input' if row.outside_equal else 'NOT the input'}; presence of the "
            f"hands {row.presence:.2f}"
        )
    print(f"picture: {join(settings.output, 'strip.png')}")
    track_run("overfit", settings, mean, [join(settings.output, "strip.png")])


def learn(
    config: ModelConfig,
    clips: TrainingClips,
    detector: HandDetector,
    fit_settings: FitSettings,
    losses: LossSettings,
    device: torch.device,
    whole_frame: bool = False,
) -> tuple[HandiPipeline, list[dict[str, float | str]]]:
    """Train a new model on clips: the pipeline, and the losses of every step.

    Args:
        whole_frame: condition stage 2 on a motion area that covers everything.
    """
    torch.manual_seed(fit_settings.seed)
    pipe = new_pipeline(config).to(device)
    pipe.set_progress_bar_config(disable=True)
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

        fit(pipe, encoded, detector, losses, fit_settings, on_step, whole_frame)
    return pipe, log


if __name__ == "__main__":
    main()
