"""What frames a model takes, known before its weights are loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from handi_model.config import PRESETS, ModelConfig
from handi_model.text_to_video import check_topology, unet_folder
from handi_model.unet import HandiUNet
from pipelines.records import one_line
from pipelines.storage import absolute, join, read_bytes


@dataclass(frozen=True)
class ModelShape:
    """Attributes:
    model: the preset, or the absolute URL of the saved pipeline.
    resolution: side of its frames, pixels.
    num_frames: that a clip has unless asked otherwise.
    """

    model: str
    resolution: int
    num_frames: int


def model_shape(model: str, checkpoint: str | None, resolution: int | None) -> ModelShape:
    """What the training would start from.

    Args:
        model: a preset, or the URL of a saved pipeline.
        checkpoint: for `base`, the text-to-video checkpoint.
        resolution: asked for; None is the model's own.

    Raises:
        ValueError: if there is no such model, or it does not go with the others, in one line.
    """
    if model in PRESETS:
        config = ModelConfig.of(model, **({"resolution": resolution} if resolution else {}))
        if checkpoint and model == "tiny":
            raise ValueError("checkpoint: the preset 'tiny' starts from what ships with it")
        if checkpoint:
            with torch.device("meta"):
                unet = HandiUNet.of(config)
            check_topology(unet_folder(checkpoint), unet.backbone, model)
        return ModelShape(model, config.resolution, config.num_frames)
    url = absolute(model)
    try:
        index, unet, vae = (
            json.loads(read_bytes(join(url, name)))
            for name in ("model_index.json", "unet/config.json", "vae/config.json")
        )
        own = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
        num_frames = index["num_frames"]
    except Exception as error:  # each storage has its own
        raise ValueError(
            f"model: {model} is neither a preset ({', '.join(PRESETS)}) nor a saved pipeline that "
            f"can be read: {one_line(error)}"
        ) from None
    if resolution not in (None, own):
        raise ValueError(
            f"resolution: {model} was made for {own}x{own} pixels, not {resolution}x{resolution}; "
            "leave the key out, or start from a preset"
        )
    return ModelShape(url, own, num_frames)
