"""A batch of clips as the training steps take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from handi_model.latents import encode_frames, grey_frames
from handi_model.pipeline import HandiPipeline


@dataclass(frozen=True)
class Batch:
    """B clips of L frames, encoded.

    Attributes:
        video_latent: (B, C, L, h, w); its first frame is the image latent.
        mask_latent: (B, C, L, h, w) of the grey frames of `frame_masks`.
        text: (B, T, D) embedded instructions.
        frame_masks: (B, L, H, W) in [0, 1].
        joints: (B, L, 42, 2) normalised to the frame. Stays on the CPU.
        visible: (B, L, 42) bool. Stays on the CPU.
    """

    video_latent: Tensor
    mask_latent: Tensor
    text: Tensor
    frame_masks: Tensor
    joints: Tensor
    visible: Tensor

    def __len__(self) -> int:
        return len(self.video_latent)

    @property
    def image_latent(self) -> Tensor:
        """(B, C, h, w)."""
        return self.video_latent[:, :, 0]

    @property
    def mask(self) -> Tensor:
        """(B, H, W): union over the frames."""
        return self.frame_masks.amax(1)

    def take(self, items: Sequence[int]) -> Batch:
        """The clips of these indices, which may repeat."""
        index = torch.tensor(items)
        return Batch(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        moved = ("video_latent", "mask_latent", "text", "frame_masks")
        return replace(
            self, **{name: getattr(self, name).to(device, non_blocking=True) for name in moved}
        )


@torch.no_grad()
def encode_clips(
    pipe: HandiPipeline,
    frames: NDArray,
    frame_masks: NDArray,
    joints: NDArray,
    detected: NDArray,
    narrations: Sequence[str],
) -> Batch:
    """Encode clips with a pipeline's autoencoder and text encoder, on its device.

    Args:
        frames: (B, L, H, W, 3) uint8 RGB.
        frame_masks: (B, L, H, W) bool.
        joints: (B, L, 42, 2) normalised to the frame.
        detected: (B, L, 2) bool, left and right hand.
        narrations: B instructions.
    """
    device = pipe.device
    pixels = torch.from_numpy(frames).to(device).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    masks = torch.from_numpy(frame_masks).to(device).float()
    return Batch(
        video_latent=encode_frames(pipe.vae, pixels),
        mask_latent=encode_frames(pipe.vae, grey_frames(masks)),
        text=pipe.encode_prompt(list(narrations)),
        frame_masks=masks,
        joints=torch.from_numpy(joints).float(),
        visible=torch.from_numpy(detected).repeat_interleave(21, dim=2),
    )
