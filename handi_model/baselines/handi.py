"""This project's own method, with the predicted motion area, the true one, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from handi_model.baselines.method import Made, Task, count_parameters
from handi_model.compose import as_type, overwrite
from handi_model.pipeline import HandiPipeline

Area = Literal["predicted", "true", "frame"]


@dataclass(frozen=True)
class HandiMethod:
    """Both stages of a pipeline, or stage 2 alone.

    Attributes:
        pipe: moved to its device by the caller.
        area: where the clip may change: `predicted` by stage 1, the `true` motion mask, or the
            whole `frame`, which skips stage 1 and leaves nothing to overwrite, and which a model
            without the motion mask predicts.
        num_inference_steps, mask_steps, guidance_scale: of a call; default the model's.

    Raises:
        ValueError: for an area that is none of these; a call raises what the pipeline's does.
    """

    pipe: HandiPipeline
    area: Area = "predicted"
    num_inference_steps: int | None = None
    mask_steps: int | None = None
    guidance_scale: float | None = None

    def __post_init__(self) -> None:
        if self.area not in get_args(Area):
            raise ValueError(f"area: {self.area!r} is none of {', '.join(get_args(Area))}")

    @property
    def parameters(self) -> int:
        return count_parameters(self.pipe)

    def __call__(self, task: Task) -> Made:
        height, width = task.scene.shape[:2]
        mask = None
        if self.area != "predicted":
            mask = task.area if self.area == "true" else np.ones((height, width), np.float32)
        out = self.pipe(
            task.scene,
            task.prompt,
            num_frames=task.num_frames,
            height=height,
            width=width,
            generator=torch.Generator().manual_seed(task.seed),
            num_inference_steps=self.num_inference_steps,
            mask_steps=self.mask_steps,
            guidance_scale=self.guidance_scale,
            mask=mask,
            output_type="latent",
        )
        made = self.pipe.decode(out.frames[0][None])
        scene = torch.from_numpy(task.scene / np.float32(255)).permute(2, 0, 1).to(made)
        areas = torch.from_numpy(out.masks).to(made)
        (pictures,) = as_type(overwrite(made, scene[None], areas), "pil")
        frames = np.stack([np.asarray(picture) for picture in pictures])
        predicted = self.area == "predicted" and self.pipe.config.uses_mask
        if self.area != "true" and not predicted:
            return Made(frames, None, None)
        outside = areas[0] == 0
        change = (made[0] - scene).abs()[..., outside]
        return Made(
            frames,
            ~outside.cpu().numpy(),
            float(change.mean()) if change.numel() else None,
        )
