"""A running service with the tiny model: its weights are random, all else is as users have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.latents import empty_mask_latent, encode_frames
from jobs.benchmarks.service import Service
from pipelines.rendered.scenes import first_frame

QUICK = {"num_inference_steps": "2", "mask_steps": "2", "guidance_scale": "1"}
"""Form fields of a clip that two cores make in a second."""


def save_tiny(folder: Path) -> Path:
    """An untrained pipeline whose stage 1 leans towards white, so that its area is not empty.

    At two steps the area is some 80 % of the picture, with more steps all of it.
    """
    pipe = new_pipeline(ModelConfig.of("tiny"))
    white = encode_frames(pipe.vae, torch.ones(1, 1, 3, 64, 64))[0, :, 0]
    with torch.no_grad():
        pipe.unet.conv_out["mask"].bias.sub_(
            0.4 * (white - empty_mask_latent(pipe.vae, 64, 64)).mean((1, 2))
        )
    pipe.save_pretrained(folder)
    return folder


@contextmanager
def running(folder: Path, **arguments: Any) -> Iterator[Service]:
    """A service with a tiny model; `arguments` are keys of `ServeSettings`."""
    model = arguments.pop("model", None) or save_tiny(folder / "model")
    environment = arguments.pop("environment", {})
    keys = {"model": str(model), "num_cpus": 0.5, "num_gpus": 0, **arguments}
    service = Service(folder / "service", keys, environment)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def scene_png(name: str = "lift_box_1") -> bytes:
    """A picture to start from."""
    return first_frame(name)
