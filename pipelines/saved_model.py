"""What a saved pipeline says of itself in its small files, read without weights and torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from pipelines.records import one_line
from pipelines.storage import absolute, exists, join, read_bytes


@dataclass(frozen=True)
class SavedModel:
    """Attributes:
    url: absolute, of the folder; a hub id as it is.
    resolution: side of its frames, pixels.
    pixel_multiple: height and width must be multiples of it.
    num_frames, num_inference_steps, guidance_scale: defaults of a call.
    most_steps: denoising steps that the schedule has.
    tokenizer: the text of its `tokenizer.json`; empty where it has none.
    longest_prompt: tokens that the text encoder reads.
    """

    url: str
    resolution: int
    pixel_multiple: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    most_steps: int
    tokenizer: str
    longest_prompt: int


def read_saved_model(model: str) -> SavedModel:
    """Read it.

    Args:
        model: a local path, a folder's URL, or a name on the hub.

    Raises:
        ValueError: if there is no saved `HandiPipeline`, in one line.
    """
    try:
        url, folder = _places(model)

        def config(name: str) -> dict[str, Any]:
            values: dict[str, Any] = json.loads(read_bytes(join(folder, name)))
            return values

        index, unet, vae = (
            config(name) for name in ("model_index.json", "unet/config.json", "vae/config.json")
        )
        tokenizer = join(folder, "tokenizer/tokenizer.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return SavedModel(
            url=url,
            resolution=unet["sample_size"] * factor,
            pixel_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            num_frames=index["num_frames"],
            num_inference_steps=index["num_inference_steps"],
            guidance_scale=float(index["guidance_scale"]),
            most_steps=config("scheduler/scheduler_config.json")["num_train_timesteps"],
            tokenizer=read_bytes(tokenizer).decode() if exists(tokenizer) else "",
            longest_prompt=config("tokenizer/tokenizer_config.json")["model_max_length"],
        )
    except Exception as error:  # each storage has its own
        raise ValueError(
            f"model: {model} is no saved pipeline that can be read: {one_line(error)}"
        ) from None


def _places(model: str) -> tuple[str, str]:
    """URL of the model, and of a folder with its small files."""
    if "://" in model or Path(model).exists() or model.count("/") != 1:
        return absolute(model), absolute(model)
    return model, snapshot_download(model, allow_patterns=["*.json"])
