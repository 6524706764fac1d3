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

    A clip's latents do not depend on the clips beside it.

    Args:
        frames: (B, L, H, W, 3) uint8 RGB.
        frame_masks: (B, L, H, W) bool.
        joints: (B, L, 42, 2) normalised to the frame.
        detected: (B, L, 2) bool, left and right hand.
        narrations: B instructions.
    """
    pairs = [encode_clip(pipe, *clip) for clip in zip(frames, frame_masks, strict=True)]
    video, mask = (torch.stack(latents) for latents in zip(*pairs, strict=True))
    text = torch.stack([encode_text(pipe, narration) for narration in narrations])
    return batch_of_latents(video, mask, text, frame_masks, joints, detected).to(pipe.device)


@torch.no_grad()
def encode_clip(
    pipe: HandiPipeline, frames: NDArray, frame_masks: NDArray
) -> tuple[Tensor, Tensor]:
    """The latents of a clip's frames and of its masks, as they are kept: (C, L, h, w) float16.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
        frame_masks: (L, H, W) bool.
    """
    pixels = torch.from_numpy(frames).to(pipe.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    masks = grey_frames(torch.from_numpy(frame_masks).to(pipe.device).float())
    video, mask = (encode_frames(pipe.vae, part[None])[0].half() for part in (pixels, masks))
    return video, mask


@torch.no_grad()
def encode_text(pipe: HandiPipeline, narration: str) -> Tensor:
    """An instruction's embedding, as it is kept: (T, D) float16."""
    return pipe.encode_prompt([narration])[0].half()


def batch_of_latents(
    video: Tensor,
    mask: Tensor,
    text: Tensor,
    frame_masks: NDArray,
    joints: NDArray,
    detected: NDArray,
) -> Batch:
    """A batch of what `encode_clip` and `encode_text` gave, stacked; see `encode_clips`."""
    return Batch(
        video_latent=video.float(),
        mask_latent=mask.float(),
        text=text.float(),
        frame_masks=torch.from_numpy(frame_masks).float(),
        joints=torch.from_numpy(joints).float(),
        visible=torch.from_numpy(detected).repeat_interleave(21, dim=2),
    )
