"""Make the tiny preset's autoencoder, tokenizer and text encoder.

python jobs/pretrain_tiny.py --output handi_model/tiny --minutes 15
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from handi_model.masks import hand_hull_mask
from handi_model.tiny import FOLDER, load_autoencoder, load_text_encoder, load_tokenizer
from handi_model.tiny.corpus import instructions
from handi_model.tiny.fidelity import drawn_masks, frame_fidelity, latent_deviation, mask_iou
from handi_model.tiny.train_autoencoder import SIDE, train_autoencoder
from handi_model.tiny.train_text import (
    nearest_pair_accuracy,
    train_text_encoder,
    train_tokenizer,
)
from jobs.cli import load
from pipelines.frames import Fit
from pipelines.records import Clip
from pipelines.rendered import CLIPS, true_joints
from pipelines.video import DecodedClip, decode_clips

Part = Literal["autoencoder", "text"]


class PretrainSettings(BaseModel):
    """The tiny preset's parts, trained on the rendered clips and the grammar of instructions."""

    model_config = ConfigDict(extra="forbid")

    output: Path = Field(FOLDER, description="Folder to write the parts to.")
    parts: list[Part] = Field(["autoencoder", "text"], description="What to train.")
    steps: int = Field(4000, ge=1, description="Optimiser steps of the autoencoder.")
    minutes: float | None = Field(
        None, gt=0, description="End the autoencoder's training after so long, if that is sooner."
    )
    resume: bool = Field(
        False, description="Go on from the autoencoder in the output, at half the learning rate."
    )
    batch_size: int = Field(16, ge=1, description="Pictures a step.")
    workers: int = Field(2, ge=1, description="Cores to train the autoencoder on.")
    text_steps: int = Field(300, ge=1, description="Optimiser steps of the text encoder.")
    seed: int = Field(0, ge=0, description="Of weights, pictures and sentences.")


def main() -> None:
    settings = load(PretrainSettings, "pretrain_tiny")
    torch.set_num_threads(1)  # see train_autoencoder's workers
    cv2.setNumThreads(1)
    if "autoencoder" in settings.parts:
        autoencoder(settings)
    if "text" in settings.parts:
        text(settings)


def autoencoder(settings: PretrainSettings) -> None:
    """Train, save, load what was saved and tell its figures."""
    clips = {path.stem: frames_of(path) for path in sorted(CLIPS.glob("*.mp4"))}
    model = train_autoencoder(
        list(clips.values()),
        settings.steps,
        settings.batch_size,
        settings.workers,
        settings.seed,
        None if settings.minutes is None else settings.minutes * 60,
        load_autoencoder(settings.output) if settings.resume else None,
        1e-3 if settings.resume else 2e-3,
    )
    model.half().save_pretrained(settings.output / "autoencoder")
    model = load_autoencoder(settings.output)
    joints = true_joints()
    squares = []
    for name, frames in clips.items():
        height, width = frames.shape[1:3]
        fit = Fit.of(height, width, SIDE, "crop")
        square = np.stack([fit.image(frame) for frame in frames])
        masks = np.stack(
            [hand_hull_mask(at, ~np.isnan(at[:, 0]), SIDE, SIDE) for at in fit.joints(joints[name])]
        )
        found = frame_fidelity(model, square, masks)
        print(
            f"{name}: PSNR {found.psnr:.2f} dB, inside the hands {found.psnr_hands:.2f} dB, "
            f"flicker of still pixels {found.flicker:.5f}, "
            f"mask IoU {mask_iou(model, masks).mean():.4f}"
        )
        squares.append(square)
    deviation = latent_deviation(model, np.concatenate(squares))
    print(f"latent deviation by channel: {np.round(deviation, 2).tolist()}")
    overlap = mask_iou(model, drawn_masks(500, SIDE, settings.seed + 1))
    worst = np.quantile(overlap, 0.05)
    print(f"drawn masks: mean IoU {overlap.mean():.4f}, 5th percentile {worst:.4f}")


def text(settings: PretrainSettings) -> None:
    """Train tokenizer and text encoder, save, load what was saved and tell its figures."""
    train_tokenizer(settings.seed).save_pretrained(settings.output / "tokenizer")
    tokenizer = load_tokenizer(settings.output)
    model = train_text_encoder(tokenizer, settings.text_steps, seed=settings.seed)
    model.half().save_pretrained(settings.output / "text_encoder")
    model = load_text_encoder(settings.output)
    lines = instructions(1000, np.random.default_rng(settings.seed + 2), held_out=True)
    found = nearest_pair_accuracy(model, tokenizer, lines)
    print(f"{len(tokenizer)} tokens; held-out pairs found by meaning: {found:.3f}")


def frames_of(path: Path) -> NDArray[np.uint8]:
    """All frames of a rendered clip, (L, h, w, 3) uint8 RGB."""
    clip = Clip(path.stem, "folder", "train", str(path), 0.0, None, path.stem)
    (decoded,) = decode_clips(str(path), [clip], num_frames=30, short_side=270)
    assert isinstance(decoded, DecodedClip), decoded
    return decoded.frames


if __name__ == "__main__":
    run_job(main, resumes=False)
