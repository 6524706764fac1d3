"""L_HR of a half-denoised clip: decode around the hands, find the joints, compare (eq. 5).

The detector looks inside the regions of the true joints, so that no non-maximum suppression stands
in the graph: the gradient goes from the joints through the detector and the decoder to the latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from handi_model.economy import hand_windows, random_frames_with_hands
from handi_model.hands import HandDetector, regions_from_joints
from handi_model.latents import decode_pictures
from handi_model.losses import hand_refinement_loss

HALF_PIXEL = 0.5
"""The detector counts places from the centre of the first pixel, as MediaPipe does. On the large
frames that true joints were found on that is next to nothing; on small ones it shows."""


def true_regions(joints: Tensor, visible: Tensor, height: int, width: int) -> Tensor:
    """Where the detector is to look for true hands on frames smaller than they were found on.

    Args:
        joints: (N, 42, 2) normalised to the frame.
        visible: (N, 42) bool.
        height, width: of the frames to look at, pixels.

    Returns:
        (N, 2, 4), see `hands.regions`. What is found there lies `HALF_PIXEL` before its place.
    """
    regions = regions_from_joints(joints, visible, height, width)
    centre = torch.where(regions[..., 2:3] > 0, regions[..., :2] - HALF_PIXEL, 0.0)
    return torch.cat([centre, regions[..., 2:]], -1)


@dataclass(frozen=True)
class HandLoss:
    """L_HR with its graph, and the share of the hands looked at that the presence gate passed.

    Where no hand is looked at, the loss is a plain zero and the share NaN.
    """

    loss: Tensor
    presence_gate: Tensor


def decoded_hand_loss(
    clean: Tensor,
    joints: Tensor,
    visible: Tensor,
    vae: AutoencoderKL,
    detector: HandDetector,
    presence_threshold: float = 0.5,
    frames: int | None = None,
    window_margin: int | None = None,
    generator: torch.Generator | None = None,
) -> HandLoss:
    """Estimate eq. 5 on the clips that a latent stands for.

    Args:
        clean: (B, C, L, h, w) recovered clean latent.
        joints: (B, L, 42, 2) true joints, normalised to the frame; CPU.
        visible: (B, L, 42) bool; CPU.
        presence_threshold: a generated hand counts from this score on, [0, 1].
        frames: of each clip, chosen at random among those with a hand; None takes all.
        window_margin: latent cells decoded around a hand's region; None decodes whole frames.
    """
    latent_size = (clean.shape[3], clean.shape[4])
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    height, width = latent_size[0] * factor, latent_size[1] * factor
    chosen, weight = random_frames_with_hands(visible, frames, generator)
    joints = joints[torch.arange(len(joints))[:, None], chosen]
    visible = visible[torch.arange(len(visible))[:, None], chosen]
    regions = true_regions(joints.flatten(0, 1), visible.flatten(0, 1), height, width)
    regions = regions.unflatten(0, chosen.shape)
    windows = hand_windows(regions, chosen, latent_size, factor, window_margin)
    if windows is None:
        return HandLoss(clean.new_zeros((), dtype=torch.float32), torch.tensor(torch.nan))

    device = clean.device
    pixels = decode_pictures(vae, windows.cut(clean)).float()
    pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    corner = windows.corners(factor)
    where = tuple(windows.hands.T)
    in_window = regions[where] - torch.cat([corner, torch.zeros_like(corner)], 1)
    # Joints are places in pixels, which bfloat16 has eight bits for.
    with torch.autocast(device.type, enabled=False):
        found, presence = detector.crop_landmarks(
            pixels, windows.window_of.to(device), in_window.to(device)
        )
    extent = torch.tensor([width, height], device=device)
    found = (found + corner.to(device)[:, None] + HALF_PIXEL) / extent
    counted = presence.detach() >= presence_threshold

    # Back to the layout of eq. 5, where a hand that is not counted is not visible.
    where = tuple(index.to(device) for index in where)
    layout = (*chosen.shape, 2, 21)
    pred = found.new_zeros(*layout, 2).index_put(where, found).flatten(2, 3)
    seen = torch.zeros(layout, dtype=torch.bool, device=device)
    seen = seen.index_put(where, counted[:, None].expand(-1, 21)).flatten(2)
    seen = seen & visible.to(device)
    target = joints.to(device, pred.dtype)
    of_clip = [
        hand_refinement_loss(pred[i : i + 1], target[i : i + 1], seen[i : i + 1])
        for i in range(len(pred))
    ]
    loss = (torch.stack(of_clip) * weight.to(device)).mean()
    return HandLoss(loss, counted.float().mean())
