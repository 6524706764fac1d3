"""One optimisation step of either stage: a batch in, a loss and its parts out. Knows no Ray.

Timesteps, noise and choices are drawn on the CPU: a seed gives the same ones on every device, and
what the timestep gate decides is known there. (Dropout, where there is any, is the device's own.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from handi_model.batch import Batch
from handi_model.config import STAGES, Predicts, Stage
from handi_model.diffusion import (
    PREDICTS,
    add_noise,
    alpha_bars,
    predict_clean_latent,
    predicted_noise,
    training_target,
)
from handi_model.economy import random_frames
from handi_model.hands import HandDetector
from handi_model.latents import area_channel, decode_latents, empty_mask_latent, masks_of_grey
from handi_model.losses import mask_iou_loss, noise_loss, stage1_loss, stage2_loss
from handi_model.pipeline import HandiPipeline
from handi_model.refinement import decoded_hand_loss


class LossSettings(BaseModel):
    """What the losses weigh, what they decode, and when the hand loss switches on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.1, ge=0, description="Weight of L_mIoU in stage 1 (eq. 3).")
    eta: float = Field(1.0, ge=0, description="Weight of L_HR in stage 2.")
    text_dropout: float = Field(
        0.15, ge=0, le=1, description="Share of samples that lose their instruction, for guidance."
    )
    decoded_frames: int | None = Field(
        4, ge=1, description="Frames of a clip decoded for L_mIoU and L_HR; none decodes all."
    )
    window_margin: int | None = Field(
        4,
        ge=0,
        description="Latent cells decoded around a hand for L_HR; none decodes whole frames.",
    )
    presence_threshold: float = Field(
        0.5, ge=0, le=1, description="L_HR counts a generated hand from this presence score on."
    )
    hand_timesteps: float = Field(
        0.5, ge=0, le=1, description="L_HR counts timesteps below this share of all."
    )


@dataclass(frozen=True)
class Networks:
    """What a training step runs, all on one device.

    Attributes:
        unet: the `HandiUNet`, or a wrapper that is called the same way.
        vae: frozen; decodes for the pixel losses.
        detector: frozen; stage 2 needs it where `eta` is above 0.
        predicts, residual: see `ModelConfig`.
        uses_mask: see `HandiPipeline`.
        alpha_bars: (T,), see `diffusion.alpha_bars`.
        prior: (h, w) in [0, 1] at the latent's size.
        empty_text: (1, T, D), the embedding of the empty instruction.
        empty_mask_latent: (C, h, w), see `latents.empty_mask_latent`.
    """

    unet: nn.Module
    vae: AutoencoderKL
    detector: HandDetector | None
    predicts: Predicts
    residual: bool
    uses_mask: bool
    alpha_bars: Tensor
    prior: Tensor
    empty_text: Tensor
    empty_mask_latent: Tensor

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that the model has."""
        return STAGES if self.uses_mask else ("video",)

    @classmethod
    def of(cls, pipe: HandiPipeline, detector: HandDetector | None) -> Networks:
        """The networks of a pipeline, whose UNet is to train on frames of its resolution."""
        for frozen in (pipe.vae, pipe.text_encoder):
            frozen.requires_grad_(False).eval()
        with torch.no_grad():
            return cls(
                unet=pipe.unet,
                vae=pipe.vae,
                detector=detector,
                predicts=PREDICTS[pipe.scheduler.config.prediction_type],
                residual=pipe.config.residual,
                uses_mask=pipe.config.uses_mask,
                alpha_bars=alpha_bars(pipe.scheduler.config).to(pipe.device),
                prior=pipe.unet.prior,
                empty_text=pipe.encode_prompt([""]),
                empty_mask_latent=empty_mask_latent(pipe.vae, pipe.resolution, pipe.resolution),
            )


@dataclass(frozen=True)
class StepResult:
    """A stage's loss with its graph, and detached scalars for the log."""

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class _Denoised:
    """One call of the network: its noise loss, the clean latent by eq. 2, and the timesteps."""

    noise_loss: Tensor
    clean: Tensor
    timesteps: Tensor


def mask_step(
    networks: Networks, batch: Batch, settings: LossSettings, generator: torch.Generator | None
) -> StepResult:
    """Stage 1: `L_noise + alpha * L_mIoU` (eqs. 1, 3, 4), under the prior.

    L_mIoU is estimated from `decoded_frames` random frames of each clip.
    """
    area = networks.prior.expand(len(batch), -1, -1)
    done = _denoise(networks, batch, area, "mask", settings, generator)
    if not settings.alpha:
        return _result(done.noise_loss, noise=done.noise_loss)
    length = batch.video_latent.shape[2]
    frames = random_frames(len(batch), length, settings.decoded_frames, generator)
    device = done.clean.device
    rows, frames = torch.arange(len(batch), device=device)[:, None], frames.to(device)
    clean = done.clean.transpose(1, 2)[rows, frames].transpose(1, 2)
    pred = masks_of_grey(decode_latents(networks.vae, clean))
    mask_iou = mask_iou_loss(pred, batch.frame_masks[rows, frames])
    loss = stage1_loss(done.noise_loss, mask_iou, settings.alpha)
    return _result(loss, noise=done.noise_loss, mask_iou=mask_iou)


def video_step(
    networks: Networks,
    batch: Batch,
    area: Tensor,
    settings: LossSettings,
    generator: torch.Generator | None,
) -> StepResult:
    """Stage 2: `L_noise + eta * L_HR` (eqs. 1, 5), under a motion area.

    L_HR is estimated from `decoded_frames` random frames with a hand. It counts the clips whose
    timestep lies below `hand_timesteps`, and of these the hands whose presence score, on the frame
    as recovered by eq. 2, reaches `presence_threshold`. The parts `timestep_gate` and
    `presence_gate` are the shares that pass, the second one of the hands that the first let
    through (NaN where there were none).

    Args:
        area: (B, H, W) in [0, 1], generated or true: see `mixed_area`.

    Raises:
        ValueError: if `eta` is above 0 and there is no detector.
    """
    cells = area_channel(area, (batch.video_latent.shape[3], batch.video_latent.shape[4]))
    done = _denoise(networks, batch, cells, "video", settings, generator)
    if not settings.eta:
        return _result(done.noise_loss, noise=done.noise_loss)
    if networks.detector is None:
        raise ValueError("eta is above 0, and L_HR needs a hand detector: give one, or set eta 0")
    limit = settings.hand_timesteps * len(networks.alpha_bars)
    items = (done.timesteps < limit).nonzero()[:, 0]
    timestep_gate = torch.tensor(len(items) / len(batch))
    # No zero of `clean`: where that is not finite, zero times it is not either.
    hand, presence_gate = done.noise_loss.new_zeros(()), torch.tensor(torch.nan)
    if len(items):
        found = decoded_hand_loss(
            done.clean[items.to(done.clean.device)],
            batch.joints[items],
            batch.visible[items],
            networks.vae,
            networks.detector,
            settings.presence_threshold,
            settings.decoded_frames,
            settings.window_margin,
            generator,
        )
        # A clip that the timestep gate holds back counts as zero in the mean over the batch.
        hand, presence_gate = found.loss * timestep_gate.item(), found.presence_gate
    loss = stage2_loss(done.noise_loss, hand, settings.eta)
    return _result(
        loss,
        noise=done.noise_loss,
        hand=hand,
        timestep_gate=timestep_gate,
        presence_gate=presence_gate,
    )


def stage_noise_loss(
    networks: Networks, batch: Batch, stage: Stage, area: Tensor, timesteps: Tensor, noise: Tensor
) -> Tensor:
    """L_noise (eq. 1) where nothing is left to chance: to compare models, not to train one.

    Args:
        area: (B, h, w) in [0, 1]: stage 1 the prior, stage 2 the mask.
        timesteps: (B,) int, on the CPU.
        noise: (B, C, L, h, w) standard normal.
    """
    return _denoise_at(networks, batch, batch.text, area, stage, timesteps, noise).noise_loss


def mixed_area(
    truth: Tensor, generated: Tensor, share: float, generator: torch.Generator | None
) -> Tensor:
    """Stage 2's condition while generated masks are ramped in: (B, H, W).

    Args:
        truth, generated: (B, H, W) in [0, 1].
        share: probability with which a clip gets its generated mask.
    """
    chosen = torch.rand(len(truth), generator=generator) < share
    return generated.where(chosen.to(truth.device)[:, None, None], truth)


def generated_share(progress: float, start: float, end: float) -> float:
    """Share of generated masks: 0 up to `start`, then rising to 1 at `end`.

    Args:
        progress, start, end: shares of the whole training, [0, 1].
    """
    if progress >= end:
        return 1.0
    if progress <= start:
        return 0.0
    return (progress - start) / (end - start)


def stage_of_epoch(epoch: int, cycle: Sequence[Stage] = ("mask", "video")) -> Stage:
    """The stage that an epoch (from 0) trains: the cycle, over and over."""
    return cycle[epoch % len(cycle)]


def _denoise(
    networks: Networks,
    batch: Batch,
    area: Tensor,
    stage: Stage,
    settings: LossSettings,
    generator: torch.Generator | None,
) -> _Denoised:
    """`_denoise_at` random timesteps, with some of the instructions dropped."""
    shape = batch.video_latent.shape
    timesteps = torch.randint(len(networks.alpha_bars), (len(batch),), generator=generator)
    noise = torch.randn(shape, generator=generator)
    dropped = torch.rand(len(batch), generator=generator) < settings.text_dropout
    text = networks.empty_text.where(dropped.to(batch.text.device)[:, None, None], batch.text)
    return _denoise_at(networks, batch, text, area, stage, timesteps, noise)


def _denoise_at(
    networks: Networks,
    batch: Batch,
    text: Tensor,
    area: Tensor,
    stage: Stage,
    timesteps: Tensor,
    noise: Tensor,
) -> _Denoised:
    """Noise the stage's clean latent, let the network predict, and recover the clean latent.

    Args:
        text: (B, T, D).
        area: (B, h, w).
    """
    if stage == "mask":
        clean, still = batch.mask_latent, networks.empty_mask_latent[None, :, None]
    else:
        clean, still = batch.video_latent, batch.image_latent[:, :, None]
    device = clean.device
    # `still` broadcasts over `clean`: it is the latent of a clip in which nothing moves.
    offset = still if networks.residual else torch.zeros_like(still)
    goal = clean - offset
    noise = noise.to(device)
    alpha_bar = networks.alpha_bars[timesteps.to(device)]
    noisy = add_noise(goal, noise, alpha_bar)
    output = networks.unet(noisy, timesteps.to(device), text, batch.image_latent, area, stage)
    target = training_target(networks.predicts, goal, noise, alpha_bar)
    guess = predicted_noise(networks.predicts, output.float(), noisy, alpha_bar)
    recovered = predict_clean_latent(noisy, guess, alpha_bar) + offset
    return _Denoised(noise_loss(output, target), recovered, timesteps)


def _result(loss: Tensor, **parts: Tensor) -> StepResult:
    return StepResult(loss, {name: part.detach() for name, part in parts.items()})
