"""Clips' arrays as a batch on the device that trains."""

from __future__ import annotations

import torch
from numpy.typing import NDArray

from handi_model.batch import Batch, batch_of_latents, encode_clips
from handi_model.pipeline import HandiPipeline


def batch_of(pipe: HandiPipeline, columns: dict[str, NDArray]) -> Batch:
    """Clips' arrays, stacked, as a batch on the pipeline's device.

    Cached latents and clips that are encoded here give the same batch.
    """
    if "frames" in columns:
        return encode_clips(
            pipe,
            columns["frames"],
            columns["frame_masks"],
            columns["joints"],
            columns["detected"],
            list(columns["narration"]),
        )
    return batch_of_latents(
        torch.from_numpy(columns["video_latent"]),
        torch.from_numpy(columns["mask_latent"]),
        torch.from_numpy(columns["text"]),
        columns["frame_masks"],
        columns["joints"],
        columns["detected"],
    ).to(pipe.device)
