"""What frames a model takes, known before its weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handi_model.config import PRESETS, ModelConfig
from handi_model.create import check_encoders
from handi_model.text_to_video import check_topology, unet_folder, weight_files
from handi_model.unet import HandiUNet
from pipelines.saved_model import read_saved_model


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
            folder = unet_folder(checkpoint)
            check_topology(folder, unet.backbone, model)
            weight_files(folder)
            check_encoders(checkpoint)
        return ModelShape(model, config.resolution, config.num_frames)
    try:
        saved = read_saved_model(model)
    except ValueError as error:
        raise ValueError(f"{error}; the presets are {', '.join(PRESETS)}") from None
    own = saved.resolution
    if resolution not in (None, own):
        raise ValueError(
            f"resolution: {model} was made for {own}x{own} pixels, not {resolution}x{resolution}; "
            "leave the key out, or start from a preset"
        )
    return ModelShape(saved.url, own, saved.num_frames)
