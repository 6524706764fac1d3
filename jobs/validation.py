"""How well a model does on clips that it was not trained on: losses, figures and pictures.

What comes out for a clip depends on the model, the seed and the clip's id, not on the clips beside
it: the clips may be shared out among workers, and two models see the same noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from handi_model.batch import Batch, encode_clips
from handi_model.config import Stage
from handi_model.hands import HandDetector
from handi_model.latents import area_channel
from handi_model.modes import evaluating
from handi_model.pipeline import HandiPipeline
from handi_model.seeds import clip_seed, hashed
from handi_model.training import Networks, stage_noise_loss
from jobs.fit_report import Pictures, generate, measure, pictures
from pipelines.records import HELD_BACK
from pipelines.training_clips import TrainingClips

FIGURES = (
    *("mask_iou", "psnr", "gain"),
    *("hs_err", "joint_error", "presence", "hand_recall", "hand_distance"),
)
"""What is kept of `Measured`."""


class ValidationSettings(BaseModel):
    """Which clips are kept from training, and how and when they are looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: int = Field(
        8,
        ge=0,
        description="Clips kept from training: of the split `validation`, or else of all, "
        "a third of them at most; 0 none.",
    )
    every_epochs: int = Field(2, ge=1, description="Epochs from one validation to the next.")
    noise_timesteps: int = Field(
        8, ge=1, description="Timesteps, evenly spread, that the noise losses are means over."
    )
    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of stage 2; default the model's."
    )
    mask_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of stage 1; default as many as stage 2."
    )
    guidance_scale: float | None = Field(
        None, ge=1, description="Guidance of both stages; default the model's."
    )
    shown: int = Field(4, ge=0, description="Clips whose pictures are kept.")
    fps: float | None = Field(
        None, gt=0, le=120, description="Frames a second of the videos; the model's by default."
    )


@dataclass(frozen=True)
class Tally:
    """Sums and counts of figures by name: the sum of the workers' tallies is the tally of all."""

    sums: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, float]]) -> Tally:
        """A figure that there is not (not finite) is not counted."""
        total = cls()
        for row in rows:
            known = {name: value for name, value in row.items() if math.isfinite(value)}
            total += cls(dict.fromkeys(row, 0.0) | known, {name: name in known for name in row})
        return total

    def __add__(self, other: Tally) -> Tally:
        names = [*self.sums, *(name for name in other.sums if name not in self.sums)]
        return Tally(
            {name: self.sums.get(name, 0.0) + other.sums.get(name, 0.0) for name in names},
            {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in names},
        )

    def means(self) -> dict[str, float]:
        """NaN where nothing was counted."""
        return {
            name: total / self.counts[name] if self.counts[name] else math.nan
            for name, total in self.sums.items()
        }

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, to be sent from worker to worker: `Tally(**tally.as_dict())`."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}


@dataclass(frozen=True)
class ValidatedClip:
    """One held-out clip.

    Attributes:
        figures: by name, each `validation/...`; NaN for one that the clip does not have.
        pictures: None where they were not asked for.
        seconds: that the clip took.
    """

    clip_id: str
    figures: dict[str, float]
    pictures: Pictures | None
    seconds: float = field(compare=False)


def validate(
    pipe: HandiPipeline,
    networks: Networks,
    clips: TrainingClips,
    settings: ValidationSettings,
    seed: int,
    presence_threshold: float,
    shown: Collection[str] | None = None,
    on_clip: Callable[[ValidatedClip], None] | None = None,
) -> list[ValidatedClip]:
    """Validate a model on clips, one after another, with the weights that are in `pipe.unet`.

    The UNet is called bare, not as `networks.unet`: a wrapper would wait for workers that have
    fewer clips.

    Args:
        presence_threshold: see `measure`.
        shown: ids of the clips to draw; default the first `settings.shown`.
        on_clip: called after each clip.

    Raises:
        ValueError: without a detector.
    """
    if networks.detector is None:
        raise ValueError("validation measures hands, and there is no hand detector: give one")
    drawn = clips.clip_ids[: settings.shown] if shown is None else shown
    bare = replace(networks, unet=pipe.unet)
    result = []
    with torch.no_grad(), evaluating(pipe.unet):
        for i, clip_id in enumerate(clips.clip_ids):
            one = _clip(clips, i)
            looks = (settings, seed, presence_threshold, clip_id in drawn)
            done = _validated(pipe, bare, networks.detector, one, *looks)
            result.append(done)
            if on_clip:
                on_clip(done)
    return result


def _validated(
    pipe: HandiPipeline,
    networks: Networks,
    detector: HandDetector,
    clip: TrainingClips,
    settings: ValidationSettings,
    seed: int,
    presence_threshold: float,
    shown: bool,
) -> ValidatedClip:
    """Validate the only clip of `clip`."""
    began = time.perf_counter()
    (clip_id,) = clip.clip_ids
    own_seed = clip_seed(seed, clip_id)
    encoded = encode_clips(
        pipe, clip.frames, clip.frame_masks, clip.joints, clip.detected, clip.narrations
    )
    figures = noise_losses(networks, encoded, settings.noise_timesteps, own_seed)
    generated = generate(
        pipe,
        clip,
        own_seed,
        num_inference_steps=settings.num_inference_steps,
        mask_steps=settings.mask_steps,
        guidance_scale=settings.guidance_scale,
    )
    (measured,) = measure(generated, clip, detector, presence_threshold)
    numbers = measured.numbers()
    if not networks.uses_mask:
        numbers["mask_iou"] = math.nan
    figures |= {name: numbers[name] for name in FIGURES}
    named = {f"validation/{name}": value for name, value in figures.items()}
    fps = settings.fps or pipe.config.fps
    files = pictures(generated, clip, 0, detector, fps) if shown else None
    return ValidatedClip(clip_id, named, files, time.perf_counter() - began)


@torch.no_grad()
def noise_losses(networks: Networks, clip: Batch, count: int, seed: int) -> dict[str, float]:
    """L_noise of the model's stages (eq. 1), with the instruction and, in stage 2, under the true
    mask if the model uses masks.

    Args:
        clip: one encoded clip.
        count: timesteps that the losses are means over: the middles of equal parts of the schedule.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (clip.video_latent.shape[3], clip.video_latent.shape[4])
    seen = clip.mask if networks.uses_mask else torch.ones_like(clip.mask)
    areas = {"mask": networks.prior[None], "video": area_channel(seen, size)}
    sums: dict[Stage, float] = dict.fromkeys(networks.stages, 0.0)
    # One timestep at a time, in no more memory than a training step of one clip takes.
    for part in range(count):
        timestep = torch.tensor([(2 * part + 1) * len(networks.alpha_bars) // (2 * count)])
        noise = torch.randn(clip.video_latent.shape, generator=generator)
        for stage in sums:
            loss = stage_noise_loss(networks, clip, stage, areas[stage], timestep, noise)
            sums[stage] += float(loss)
    return {f"{stage}_noise": total / count for stage, total in sums.items()}


def held_out(
    clip_ids: Sequence[str], splits: Sequence[str | None], count: int
) -> tuple[list[int], list[int]]:
    """Choose the clips to train on and those to validate on; the same ones whatever their order.

    Validation takes clips of the split `validation`, or where there are none any that may be
    trained on, a third of them at most. Clips of the split `test` are in neither, those of
    `validation` never trained on.

    Args:
        count: clips to validate on, at most.

    Returns:
        Indices of both, the second ones in an order that looks random and stays.

    Raises:
        ValueError: if nothing is left to train on, in one line.
    """
    indices = sorted(range(len(clip_ids)), key=lambda i: (hashed(clip_ids[i]), clip_ids[i]))
    free = [i for i in indices if splits[i] not in HELD_BACK]
    kept = [i for i in indices if splits[i] == "validation"]
    if not kept:
        count = min(count, len(free) // 3)
        kept, free = free[:count], free[count:]
    if not free:
        raise ValueError(
            f"held_out: {len(kept)} of {len(clip_ids)} clips are for validation and none is left "
            "to train on; give more clips, of the split 'train' or of none, or hold out fewer"
        )
    return sorted(free), kept[:count]


def _clip(clips: TrainingClips, index: int) -> TrainingClips:
    """One of the clips alone."""
    return TrainingClips(
        **{f.name: getattr(clips, f.name)[index : index + 1] for f in fields(TrainingClips)}
    )
